//! What the dashboard shows: rows of panels, and their queries. How Grafana writes that down is not
//! known here.

use crate::metrics::{
    BUILD_INFO, CANCELLATIONS, CONNECTS, DELTAS, DENIED, DRAINING, ERRORS, EXCEPTION, EXPORTED,
    FOLLOWER_CONNECTIONS_REFUSED, FOLLOWER_LAG, FOLLOWERS, FOLLOWERS_DROPPED, FOLLOWERS_REFUSED,
    HANDLER_SECONDS, HTTP_CONNECTIONS, HTTP_CONNECTIONS_REFUSED, HTTP_EVENT_STREAMS, HTTP_REQUESTS,
    HTTP_SECONDS, HTTP_WAITING, HTTP_WRITING, LAG_SECONDS, LIMITED, LINK_RECEIVED_BYTES,
    LINK_SENT_BYTES, LINK_UP, NODE_INFO, OBSERVER_DROPPED, PARENT_MOVES, QUEUE_DEPTH, QUEUE_LIMIT,
    QUEUE_REFUSALS, RELOADS, RESYNCS, REVISION, RING_BYTES, RING_DELTAS, SNAPSHOTS, STALE,
    START_TIME, STATE_ACTIVE, STATES, STATES_ACTIVE, STORE_COMMIT_SECONDS, STORE_COMMITS,
    STORE_COMMITTING, STORE_WAITING, STORE_WRITTEN_BYTES, TICKS, TIER, TLS_LEFT,
    TRANSITION_SECONDS, TRANSITIONS,
};

use machine_runtime::STALE_AFTER;

use super::query::{Expr, behind};

/// A heading and what is under it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

/// A picture.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) look: Look,
    pub(super) unit: &'static str,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) targets: Vec<Target>,
    /// What is said of it besides what its metrics mean.
    pub(super) note: &'static str,
}

/// How a panel looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// One number; from the given value on it is a bad one.
    Stat(Option<u32>),
    /// The table of all nodes.
    Nodes,
    /// What was so when: what 0 and 1 are called, and which of them is well.
    Timeline([(&'static str, Tone); 2]),
    /// Lines over time.
    Lines,
    /// Areas that add up.
    Stack,
    /// How many of which size.
    Heatmap,
    /// Lines of a log.
    Logs,
}

/// What a value is a sign of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    Well,
    Ill,
    Idle,
}

/// Who answers a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Prometheus,
    Loki,
}

/// A query of a panel.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) expr: Expr,
    pub(super) source: Source,
    pub(super) legend: &'static str,
    pub(super) instant: bool,
}

impl Panel {
    fn new(title: &'static str, look: Look, unit: &'static str) -> Self {
        Self {
            title,
            look,
            unit,
            width: 12,
            height: 8,
            targets: Vec::new(),
            note: "",
        }
    }

    fn lines(title: &'static str, unit: &'static str) -> Self {
        Self::new(title, Look::Lines, unit)
    }

    fn size(mut self, width: u32, height: u32) -> Self {
        self.width = width;
        self.height = height;
        self
    }

    fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    fn ask(self, legend: &'static str, expr: Expr) -> Self {
        self.push(legend, expr, Source::Prometheus)
    }

    fn ask_loki(self, legend: &'static str, query: &str) -> Self {
        self.push(legend, Expr::bare(query), Source::Loki)
    }

    fn push(mut self, legend: &'static str, expr: Expr, source: Source) -> Self {
        self.targets.push(Target {
            expr,
            source,
            legend,
            instant: matches!(self.look, Look::Stat(_) | Look::Nodes),
        });
        self
    }

    /// What the metrics that it asks for mean.
    pub(super) fn description(&self) -> String {
        let mut sentences: Vec<String> = Vec::new();
        if !self.note.is_empty() {
            sentences.push(self.note.to_owned());
        }
        for (metric, _) in self.targets.iter().flat_map(|target| &target.expr.uses) {
            let sentence = format!("{}.", metric.help);
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
        sentences.join(" ")
    }
}

/// All rows, from the top.
pub(super) fn rows() -> Vec<Row> {
    let row = |title, panels| Row { title, panels };
    vec![
        row("Tree overview", overview()),
        row("Transitions", transitions()),
        row("Errors", errors()),
        row("Latency", latency()),
        row("Queue", queue()),
        row("Durability", durability()),
        row("Replication", replication()),
        row("HTTP", http()),
        row("Observation", observation()),
        row("Logs", logs()),
    ]
}

/// How far behind the root the nodes are that are shown.
fn lag_revisions() -> Expr {
    behind(&REVISION.of_service(), &REVISION.shown())
}

fn overview() -> Vec<Panel> {
    let stat = |title, bad, unit, expr| {
        Panel::new(title, Look::Stat(bad), unit)
            .size(4, 4)
            .ask("", expr)
    };
    let root_revision = REVISION.of_service().is("role", "root").max(&[]);
    let since = START_TIME.of_service().is("role", "root").max(&[]);
    let node = ["machine", "role"];
    let stale = u32::try_from(STALE_AFTER.as_secs()).unwrap_or(u32::MAX);
    vec![
        stat("Nodes up", None, "none", BUILD_INFO.shown().count())
            .note("How many nodes were reached last time."),
        stat("Stale nodes", Some(1), "none", STALE.shown().sum(&[])),
        stat("Root revision", None, "none", root_revision),
        stat("Largest lag", Some(stale), "s", LAG_SECONDS.max(&[])),
        stat("Revisions behind", None, "none", lag_revisions().max(&[]))
            .note("How far the last node is behind the root."),
        stat("Root up for", None, "s", since.within("time() - ", "")),
        Panel::new("Nodes", Look::Nodes, "none")
            .size(24, 10)
            .ask("Tier", TIER.max(&node))
            .ask("Parent", NODE_INFO.max(&["machine", "role", "parent"]))
            .ask("Revision", REVISION.max(&node))
            .ask("Lag", LAG_SECONDS.max(&node))
            .ask("Revisions behind", lag_revisions().max(&node))
            .ask("Stale", STALE.max(&node))
            .ask("Followers", FOLLOWERS.max(&node))
            .ask("Version", BUILD_INFO.max(&["machine", "role", "version"])),
        Panel::new(
            "Link to the parent",
            Look::Timeline([("down", Tone::Ill), ("up", Tone::Well)]),
            "none",
        )
        .size(24, 8)
        .ask("{{machine}}", LINK_UP.max(&["machine"])),
        Panel::new(
            "About to stop",
            Look::Timeline([("no", Tone::Well), ("draining", Tone::Ill)]),
            "none",
        )
        .size(24, 8)
        .ask("{{machine}}", DRAINING.max(&["machine"])),
    ]
}

fn transitions() -> Vec<Panel> {
    vec![
        Panel::lines("Transitions by result", "ops")
            .ask(
                "{{machine}} {{result}}",
                TRANSITIONS.rate(&["machine", "result"]),
            )
            .size(8, 8),
        Panel::new("Transitions by kind", Look::Stack, "ops")
            .ask("{{kind}}", TRANSITIONS.rate(&["kind"]))
            .size(8, 8),
        Panel::new("Cancellations by reason", Look::Stack, "ops")
            .ask("{{reason}}", CANCELLATIONS.rate(&["reason"]))
            .size(8, 8),
        Panel::lines("Changes of states", "ops")
            .ask("{{machine}} {{kind}}", TICKS.rate(&["machine", "kind"])),
        Panel::lines("States active", "none")
            .ask("{{machine}}", STATES_ACTIVE.max(&["machine"]))
            .ask("all there are", STATES.max(&[])),
        Panel::new(
            "States that were asked for",
            Look::Timeline([("inactive", Tone::Idle), ("active", Tone::Well)]),
            "none",
        )
        .size(24, 8)
        .note("Empty unless nodes run with --state-metrics.")
        .ask(
            "{{state}}",
            STATE_ACTIVE.shown().is("role", "root").max(&["state"]),
        ),
    ]
}

fn errors() -> Vec<Panel> {
    vec![
        Panel::new("Errors by kind", Look::Stack, "ops")
            .ask("{{machine}} {{kind}}", ERRORS.rate(&["machine", "kind"])),
        Panel::new(
            "Exception",
            Look::Timeline([("no", Tone::Well), ("active", Tone::Ill)]),
            "none",
        )
        .ask("{{machine}}", EXCEPTION.max(&["machine"])),
    ]
}

fn latency() -> Vec<Panel> {
    let quantiles = |panel: Panel, legends: [&'static str; 2], series: super::query::Series, by| {
        panel
            .ask(legends[0], series.quantile(0.5, by))
            .ask(legends[1], series.quantile(0.99, by))
            .size(8, 9)
    };
    vec![
        Panel::new("Transitions by duration", Look::Heatmap, "s")
            .ask("{{le}}", TRANSITION_SECONDS.shown().buckets(&[]))
            .size(8, 9),
        quantiles(
            Panel::lines("Duration of transitions", "s"),
            ["{{machine}} p50", "{{machine}} p99"],
            TRANSITION_SECONDS.shown(),
            &["machine"],
        ),
        quantiles(
            Panel::lines("Duration of handlers", "s"),
            ["{{kind}} p50", "{{kind}} p99"],
            HANDLER_SECONDS.shown(),
            &["kind"],
        ),
    ]
}

fn queue() -> Vec<Panel> {
    vec![
        Panel::lines("Requests that wait", "none")
            .ask("{{machine}}", QUEUE_DEPTH.max(&["machine"]))
            .ask("{{machine}} limit", QUEUE_LIMIT.max(&["machine"])),
        Panel::new("Refusals by reason", Look::Stack, "ops")
            .ask("{{reason}}", QUEUE_REFUSALS.rate(&["reason"])),
    ]
}

fn durability() -> Vec<Panel> {
    let third = |panel: Panel| panel.size(8, 8);
    vec![
        third(
            Panel::lines("Batches kept", "ops")
                .note("Nothing on a root without --state-dir.")
                .ask("{{machine}}", STORE_COMMITS.rate(&["machine"])),
        ),
        third(
            Panel::lines("Duration of keeping a batch", "s")
                .ask(
                    "{{machine}} p50",
                    STORE_COMMIT_SECONDS.shown().quantile(0.5, &["machine"]),
                )
                .ask(
                    "{{machine}} p99",
                    STORE_COMMIT_SECONDS.shown().quantile(0.99, &["machine"]),
                )
                .ask("{{machine}} now", STORE_COMMITTING.max(&["machine"])),
        ),
        third(
            Panel::lines("Bytes written", "Bps")
                .ask("{{machine}}", STORE_WRITTEN_BYTES.rate(&["machine"])),
        ),
        Panel::new(
            "Waiting for room on the disk",
            Look::Timeline([("no", Tone::Well), ("waiting", Tone::Ill)]),
            "none",
        )
        .size(24, 6)
        .ask("{{machine}}", STORE_WAITING.max(&["machine"])),
    ]
}

fn replication() -> Vec<Panel> {
    let link = ["machine", "link"];
    let third = |panel: Panel| panel.size(8, 8);
    vec![
        Panel::lines("Lag", "s").ask("{{machine}}", LAG_SECONDS.max(&["machine"])),
        Panel::lines("Revisions behind the root", "none")
            .ask("{{machine}}", lag_revisions().max(&["machine"])),
        third(Panel::lines("Deltas", "ops").ask("{{machine}} {{link}}", DELTAS.rate(&link))),
        third(
            Panel::lines("Snapshots", "none")
                .ask("{{machine}} {{link}}", SNAPSHOTS.shown().increase(&link)),
        ),
        third(
            Panel::lines("Bytes received", "Bps")
                .ask("{{machine}} {{link}}", LINK_RECEIVED_BYTES.rate(&link)),
        ),
        third(
            Panel::lines("Bytes sent", "Bps")
                .ask("{{machine}} {{link}}", LINK_SENT_BYTES.rate(&link)),
        ),
        third(
            Panel::new("Resyncs by reason", Look::Stack, "none")
                .ask("{{reason}}", RESYNCS.shown().increase(&["reason"])),
        ),
        third(
            Panel::lines("Connects to the parent", "none")
                .ask("{{machine}}", CONNECTS.shown().increase(&["machine"]))
                .ask(
                    "{{machine}} to another",
                    PARENT_MOVES.shown().increase(&["machine"]),
                ),
        ),
        third(
            Panel::lines("Followers", "none")
                .ask("{{machine}}", FOLLOWERS.max(&["machine"]))
                .ask("refused", FOLLOWERS_REFUSED.shown().increase(&[]))
                .ask("dropped", FOLLOWERS_DROPPED.shown().increase(&[]))
                .ask(
                    "not let in: {{why}}",
                    FOLLOWER_CONNECTIONS_REFUSED.shown().increase(&["why"]),
                ),
        ),
        third(
            Panel::lines("Revisions that followers have not asked beyond", "none").ask(
                "{{machine}}: {{follower}}",
                FOLLOWER_LAG.max(&["machine", "follower"]),
            ),
        ),
        third(
            Panel::lines("Deltas that can be resumed from", "none")
                .ask("{{machine}}", RING_DELTAS.max(&["machine"])),
        ),
        third(
            Panel::lines("Bytes that these take", "bytes")
                .ask("{{machine}}", RING_BYTES.max(&["machine"])),
        ),
    ]
}

fn http() -> Vec<Panel> {
    let third = |panel: Panel| panel.size(8, 8);
    vec![
        third(
            Panel::new("Requests by route", Look::Stack, "reqps")
                .ask("{{route}}", HTTP_REQUESTS.rate(&["route"])),
        ),
        third(
            Panel::new("Requests by status", Look::Stack, "reqps")
                .ask("{{status}}", HTTP_REQUESTS.rate(&["status"])),
        ),
        third(
            Panel::lines("Duration by route", "s")
                .ask(
                    "{{route}} p50",
                    HTTP_SECONDS.shown().quantile(0.5, &["route"]),
                )
                .ask(
                    "{{route}} p99",
                    HTTP_SECONDS.shown().quantile(0.99, &["route"]),
                ),
        ),
        third(
            Panel::lines("Connections", "none")
                .ask("{{machine}}", HTTP_CONNECTIONS.max(&["machine"]))
                .ask(
                    "denied: {{what}}, {{why}}",
                    DENIED.shown().increase(&["what", "why"]),
                )
                .ask(
                    "not let in: {{why}}",
                    HTTP_CONNECTIONS_REFUSED.shown().increase(&["why"]),
                )
                .ask(
                    "over limit: {{limit}}",
                    LIMITED.shown().increase(&["limit"]),
                ),
        ),
        third(
            Panel::lines("Event streams", "none")
                .ask("{{machine}}", HTTP_EVENT_STREAMS.max(&["machine"])),
        ),
        third(
            Panel::lines("Requests under way", "none")
                .ask("{{machine}} waiting", HTTP_WAITING.max(&["machine"]))
                .ask("{{machine}} writing", HTTP_WRITING.max(&["machine"])),
        ),
    ]
}

fn observation() -> Vec<Panel> {
    vec![
        Panel::lines("Events that observers missed", "ops").ask(
            "{{machine}} {{observer}}",
            OBSERVER_DROPPED.rate(&["machine", "observer"]),
        ),
        Panel::lines("What exporters told", "ops").ask(
            "{{exporter}} {{result}}",
            EXPORTED.rate(&["exporter", "result"]),
        ),
        Panel::lines("How long certificates hold yet", "s")
            .ask("{{machine}}", TLS_LEFT.max(&["machine"])),
        Panel::lines("Files that were read again", "none").ask(
            "{{file}} {{result}}",
            RELOADS.shown().increase(&["file", "result"]),
        ),
    ]
}

fn logs() -> Vec<Panel> {
    let selector =
        r#"{service=~"$service", machine=~"$machine", role=~"$role", level=~"$level"} | json"#;
    vec![
        Panel::new("Lines by level", Look::Stack, "ops")
            .size(24, 6)
            .note("How many lines are logged a second.")
            .ask_loki(
                "{{level}}",
                &format!("sum by (level) (rate({selector} [$__auto]))"),
            ),
        Panel::new("Log", Look::Logs, "none")
            .size(24, 14)
            .note("What nodes log, the newest first; a line has all its fields when it is opened.")
            .ask_loki(
                "",
                &format!("{selector} | line_format `{{{{.machine}}}}: {{{{.message}}}}`"),
            ),
    ]
}
