//! A Grafana dashboard and Prometheus rules for a tree of nodes, made of the [metrics](crate::metrics)
//! that nodes have.
//!
//! `query` makes queries of metrics, `panels` says what is shown, `grafana` writes that down, `rules`
//! is what is recorded and alerted on, `provisioning` what Grafana has to find before anybody looks.
//! [`push`] takes the dashboard to a Grafana that runs.

use std::time::Duration;

use serde_json::json;

mod grafana;
mod panels;
mod provisioning;
pub mod push;
mod query;
mod rules;

use panels::Source;
use query::concrete;

/// The dashboard's title, and what its file is called.
pub const TITLE: &str = "tree-state-source";

/// What the dashboard is known by in Grafana.
pub const UID: &str = "tree-state-source";

/// What the rules depend on.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The job under which Prometheus scrapes the nodes.
    pub job: String,
    /// By how much all times of the rules are shorter than they should be, for tests.
    pub hurry: u32,
}

impl Options {
    /// Rules for the nodes of a job.
    pub fn new(job: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            hurry: 1,
        }
    }

    /// The same with all times of the rules divided.
    ///
    /// # Panics
    ///
    /// If they are divided by 0.
    #[must_use]
    pub fn hurried(mut self, by: u32) -> Self {
        assert!(by > 0, "times are divided by something");
        self.hurry = by;
        self
    }

    fn scaled(&self, time: Duration) -> Duration {
        time / self.hurry
    }
}

/// A file and what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// All of it.
    pub text: String,
}

/// The dashboard as JSON, for an import by hand or for provisioning.
pub fn grafana() -> String {
    pretty(&grafana::dashboard())
}

/// All that can be made: the dashboard, the rules, all queries, and what Grafana is provisioned with.
pub fn files(options: &Options) -> Vec<File> {
    let file = |name, text| File { name, text };
    vec![
        file("tree-state-source.json", grafana()),
        file("rules.yml", rules(options)),
        file("queries.json", pretty(&queries(options))),
        file("datasources.yaml", provisioning::SOURCES.to_owned()),
        file("dashboards.yaml", provisioning::DASHBOARDS.to_owned()),
    ]
}

/// The rule file for Prometheus.
pub fn rules(options: &Options) -> String {
    rules::file(options)
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// All queries of panels and rules, such that each can be run as it is.
fn queries(options: &Options) -> serde_json::Value {
    let mut list = Vec::new();
    for row in panels::rows() {
        for panel in &row.panels {
            for target in &panel.targets {
                list.push(json!({
                    "source": "panel",
                    "row": row.title,
                    "title": panel.title,
                    "unit": panel.unit,
                    "legend": target.legend,
                    "datasource": match target.source {
                        Source::Prometheus => "prometheus",
                        Source::Loki => "loki",
                    },
                    "expr": concrete(&target.expr.text),
                    "query": if target.instant { "instant" } else { "range" },
                }));
            }
        }
    }
    let rule = |source: &str, title: &str, expr: &str| {
        json!({
            "source": source,
            "title": title,
            "datasource": "prometheus",
            "expr": expr,
            "query": "instant",
        })
    };
    for recording in rules::recordings(options) {
        list.push(rule("recording", &recording.name, &recording.expr.text));
    }
    for alert in rules::alerts(options) {
        list.push(rule("alert", alert.name, &alert.expr.text));
    }
    list.into()
}

#[cfg(test)]
mod tests;
