//! Queries, made of metrics: no other part of the dashboard spells a name of one.

use std::fmt::Write as _;
use std::time::Duration;

use crate::metrics::{Kind, Metric};

/// What the dashboard's variables narrow series to.
const SHOWN: [&str; 3] = [
    r#"service=~"$service""#,
    r#"machine=~"$machine""#,
    r#"role=~"$role""#,
];

/// The time that rates of a panel are over.
const PANEL_WINDOW: &str = "$__rate_interval";

/// A query, and which labels of which metrics it names.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) text: String,
    pub(super) uses: Vec<(Metric, Vec<&'static str>)>,
}

impl Expr {
    /// A query that is about no metric of a node's.
    pub(super) fn bare(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            uses: Vec::new(),
        }
    }

    /// `name(query)`, with whatever arguments stand before and after the query.
    pub(super) fn within(mut self, before: &str, after: &str) -> Self {
        self.text = format!("{before}{}{after}", self.text);
        self
    }

    /// `query and rest`, such as a comparison.
    pub(super) fn then(self, rest: &str) -> Self {
        self.within("", &format!(" {rest}"))
    }

    /// Two queries with an operator between them.
    pub(super) fn with(mut self, operator: &str, other: Self) -> Self {
        self.text = format!("{} {operator} {}", self.text, other.text);
        self.uses.extend(other.uses);
        self
    }

    /// No less than zero: what is behind a root that began anew is not ahead of it.
    pub(super) fn not_negative(self) -> Self {
        self.within("clamp_min(", ", 0)")
    }

    /// The largest by labels.
    pub(super) fn max(self, by: &[&'static str]) -> Self {
        self.aggregate("max", by)
    }

    fn aggregate(mut self, how: &str, by: &[&'static str]) -> Self {
        self.text = format!("{how}{} ({})", clause(by), self.text);
        if let Some((_, labels)) = self.uses.last_mut() {
            labels.extend(by);
        }
        self
    }
}

fn clause(by: &[&str]) -> String {
    if by.is_empty() {
        String::new()
    } else {
        format!(" by ({})", by.join(", "))
    }
}

/// A duration as a query has it.
pub(super) fn time(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        whole if whole % 60_000 == 0 && whole > 0 => format!("{}m", whole / 60_000),
        whole if whole % 1000 == 0 => format!("{}s", whole / 1000),
        _ => format!("{millis}ms"),
    }
}

/// The series of a metric that a query is about.
#[derive(Clone, Debug)]
pub(super) struct Series {
    metric: Metric,
    matchers: Vec<String>,
    labels: Vec<&'static str>,
    window: String,
}

impl Series {
    /// Only those whose label is that.
    pub(super) fn is(self, label: &'static str, value: &str) -> Self {
        self.matching(label, "=", value)
    }

    /// Only those whose label matches.
    pub(super) fn like(self, label: &'static str, regex: &str) -> Self {
        self.matching(label, "=~", regex)
    }

    /// Only those whose label is not that.
    pub(super) fn but(self, label: &'static str, value: &str) -> Self {
        self.matching(label, "!=", value)
    }

    fn matching(mut self, label: &'static str, operator: &str, value: &str) -> Self {
        self.labels.push(label);
        self.matchers.push(format!(r#"{label}{operator}"{value}""#));
        self
    }

    fn expr(&self, suffix: &str, range: bool) -> Expr {
        let mut text = self.metric.full_name() + suffix;
        if !self.matchers.is_empty() {
            let _ = write!(text, "{{{}}}", self.matchers.join(","));
        }
        if range {
            let _ = write!(text, "[{}]", self.window);
        }
        Expr {
            text,
            uses: vec![(self.metric, self.labels.clone())],
        }
    }

    /// As they are.
    pub(super) fn now(&self) -> Expr {
        self.expr("", false)
    }

    /// The largest, by labels.
    pub(super) fn max(&self, by: &[&'static str]) -> Expr {
        self.now().aggregate("max", by)
    }

    /// Which values of labels they have.
    pub(super) fn group(&self, by: &[&'static str]) -> Expr {
        self.now().aggregate("group", by)
    }

    /// Their sum, by labels.
    pub(super) fn sum(&self, by: &[&'static str]) -> Expr {
        self.now().aggregate("sum", by)
    }

    /// How many there are.
    pub(super) fn count(&self) -> Expr {
        self.now().aggregate("count", &[])
    }

    /// How often a second, by labels.
    pub(super) fn rate(&self, by: &[&'static str]) -> Expr {
        self.over_time("rate", by)
    }

    /// How often within the window, by labels.
    pub(super) fn increase(&self, by: &[&'static str]) -> Expr {
        self.over_time("increase", by)
    }

    /// How often they became something else within the window, by labels.
    pub(super) fn changes(&self, by: &[&'static str]) -> Expr {
        self.over_time("changes", by)
    }

    fn over_time(&self, how: &str, by: &[&'static str]) -> Expr {
        let range = self.expr("", true);
        range.within(&format!("{how}("), ")").aggregate("sum", by)
    }

    /// How often a second each bucket of a histogram, as a heatmap takes them.
    pub(super) fn buckets(&self, by: &[&'static str]) -> Expr {
        debug_assert_eq!(self.metric.kind, Kind::Histogram);
        let mut all = by.to_vec();
        all.push("le");
        let range = self.expr("_bucket", true);
        range.within("rate(", ")").aggregate("sum", &all)
    }

    /// A quantile of a histogram, by labels.
    pub(super) fn quantile(&self, quantile: f64, by: &[&'static str]) -> Expr {
        let before = format!("histogram_quantile({quantile}, ");
        self.buckets(by).within(&before, ")")
    }
}

/// How a metric is asked for.
impl Metric {
    /// What the dashboard's variables choose.
    pub(super) fn shown(self) -> Series {
        self.series(&SHOWN, PANEL_WINDOW.to_owned())
    }

    /// What the service variable chooses, whichever nodes are shown.
    pub(super) fn of_service(self) -> Series {
        self.series(&SHOWN[..1], PANEL_WINDOW.to_owned())
    }

    /// All there are, over a time.
    pub(super) fn during(self, window: Duration) -> Series {
        self.series(&[], time(window))
    }

    /// All there are, as they are.
    pub(super) fn everywhere(self) -> Series {
        self.series(&[], String::new())
    }

    fn series(self, matchers: &[&str], window: String) -> Series {
        Series {
            metric: self,
            matchers: matchers.iter().map(|&it| it.to_owned()).collect(),
            labels: Vec::new(),
            window,
        }
    }

    /// What is shown, the largest by labels.
    pub(super) fn max(self, by: &[&'static str]) -> Expr {
        self.shown().max(by)
    }

    /// What is shown, how often a second by labels.
    pub(super) fn rate(self, by: &[&'static str]) -> Expr {
        self.shown().rate(by)
    }
}

/// By how many revisions nodes are behind the root of their service. `root` and `nodes` are series of
/// one metric, the revision.
pub(super) fn behind(root: &Series, nodes: &Series) -> Expr {
    let root = root.clone().is("role", "root").max(&["service"]);
    root.with("- on (service) group_right ()", nodes.now())
        .not_negative()
}

/// The query with the dashboard's variables filled in, so that it can be run as it is.
pub(super) fn concrete(text: &str) -> String {
    let mut text = text.to_owned();
    for (variable, value) in [
        ("$service", ".+"),
        ("$machine", ".+"),
        ("$role", ".+"),
        ("$level", ".+"),
        ("$state", ".+"),
        ("$__rate_interval", "1m"),
        ("$__auto", "1m"),
    ] {
        text = text.replace(variable, value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{QUEUE_DEPTH, TRANSITION_SECONDS, TRANSITIONS};

    #[test]
    fn queries_are_made_of_metrics() {
        let name = TRANSITIONS.full_name();
        assert_eq!(
            concrete(&TRANSITIONS.rate(&["machine", "result"]).text),
            format!(
                "sum by (machine, result) (rate({name}{{service=~\".+\",machine=~\".+\",\
                 role=~\".+\"}}[1m]))"
            )
        );
        let p99 = TRANSITION_SECONDS.during(Duration::from_mins(5));
        assert_eq!(
            p99.quantile(0.99, &["machine"]).text,
            format!(
                "histogram_quantile(0.99, sum by (machine, le) (rate({}_bucket[5m])))",
                TRANSITION_SECONDS.full_name()
            )
        );
        let depth = QUEUE_DEPTH.everywhere().is("role", "root").now();
        assert_eq!(
            depth.text,
            format!("{}{{role=\"root\"}}", QUEUE_DEPTH.full_name())
        );
    }

    #[test]
    fn times_are_written_as_short_as_they_are() {
        for (millis, text) in [(300_000, "5m"), (90_000, "90s"), (250, "250ms"), (0, "0s")] {
            assert_eq!(time(Duration::from_millis(millis)), text);
        }
    }
}
