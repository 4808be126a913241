use std::collections::BTreeSet;

use serde_json::Value;

use crate::metrics::{ALL, COMMON, Kind, Metric};

use super::query::Expr;
use super::{Options, grafana, panels, queries, rules};

fn options() -> Options {
    Options::new("flights")
}

/// All expressions, with what they belong to.
fn expressions() -> Vec<(String, Expr)> {
    let mut all = Vec::new();
    for panel in panels::rows().into_iter().flat_map(|row| row.panels) {
        for target in panel.targets {
            all.push((panel.title.to_owned(), target.expr));
        }
    }
    for recording in rules::recordings(&options()) {
        all.push((recording.name, recording.expr));
    }
    for alert in rules::alerts(&options()) {
        all.push((alert.name.to_owned(), alert.expr));
    }
    all
}

#[test]
fn queries_name_only_labels_that_their_metrics_have() {
    for (title, expr) in expressions() {
        for (metric, labels) in &expr.uses {
            for label in labels {
                let known = metric.labels.contains(label)
                    || COMMON.contains(label)
                    || (metric.kind == Kind::Histogram && *label == "le");
                assert!(known, "{title}: {} has no label {label}", metric.name);
            }
        }
    }
}

#[test]
fn every_metric_is_in_a_panel() {
    let shown: Vec<Metric> = panels::rows()
        .into_iter()
        .flat_map(|row| row.panels)
        .flat_map(|panel| panel.targets)
        .flat_map(|target| target.expr.uses)
        .map(|(metric, _)| metric)
        .collect();
    for metric in ALL {
        assert!(shown.contains(metric), "{} is not shown", metric.name);
    }
}

#[test]
fn panels_do_not_overlap_and_stay_within_the_columns() {
    let dashboard = grafana::dashboard();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
        assert!(w > 0 && h > 0, "{panel:#}");
        assert!(x + w <= u64::from(grafana::COLUMNS), "{panel:#}");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{} overlaps", panel["title"]);
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
    }
}

#[test]
fn panels_say_what_they_show() {
    let mut titles = BTreeSet::new();
    for panel in grafana::dashboard()["panels"].as_array().unwrap() {
        assert!(
            titles.insert(panel["title"].to_string()),
            "{} twice",
            panel["title"]
        );
        if panel["type"] != "row" {
            let said = panel["description"].as_str().unwrap();
            assert!(said.ends_with('.'), "{}: {said}", panel["title"]);
        }
    }
}

#[test]
fn what_is_uploaded_has_no_inputs_left() {
    let text = grafana::uploaded().to_string();
    assert!(!text.contains("DS_"), "{text}");
    assert!(text.contains("${prometheus}"));
}

#[test]
fn queries_can_be_run_as_they_are() {
    let queries = queries(&options());
    for query in queries.as_array().unwrap() {
        let expr = query["expr"].as_str().unwrap();
        assert!(!expr.contains('$'), "{expr}");
    }
    let counted = |source: &str| {
        let list = queries.as_array().unwrap().iter();
        list.filter(|query| query["source"] == source).count()
    };
    assert_eq!(counted("alert"), rules::alerts(&options()).len());
    assert!(counted("panel") > 50);
    assert!(!queries.as_array().unwrap().contains(&Value::Null));
}

#[test]
fn hurried_rules_are_the_same_in_less_time() {
    let usual = rules(&options());
    let hurried = rules(&options().hurried(60));
    assert!(usual.contains("for: 1m") && usual.contains("[5m]"));
    assert!(hurried.contains("for: 1s") && hurried.contains("[5s]"));
    assert_eq!(usual.lines().count(), hurried.lines().count());
}
