//! What Prometheus records and alerts on. What to do about an alert is in `docs/runbook.md`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::metrics::{
    BUILD_INFO, ERRORS, EXCEPTION, EXPORTED, HTTP_REQUESTS, LINK_UP, Metric, OBSERVER_DROPPED,
    PARENT_MOVES, PREFIX, QUEUE_DEPTH, QUEUE_LIMIT, RELOADS, RESYNCS, REVISION, STALE, START_TIME,
    STORE_COMMIT_SECONDS, STORE_COMMITTING, STORE_WAITING, TLS_LEFT, TRANSITION_SECONDS,
    TRANSITIONS,
};

use super::Options;
use super::query::{Expr, Series, behind, time};

/// Where it says what an alert means.
const RUNBOOK: &str = "docs/runbook.md";

/// The time that recorded rates are over.
const RECORDED: Duration = Duration::from_mins(1);

/// The time that alerts look back.
const WINDOW: Duration = Duration::from_mins(5);

/// How long a start of the root is told.
const RESTART_WINDOW: Duration = Duration::from_mins(15);

/// How long a node may be gone before that is told: a restart is shorter.
const DOWN_FOR: Duration = Duration::from_mins(1);

/// How long a link may be down, and what is shown stale: to connect again takes a few seconds.
const LINK_FOR: Duration = Duration::from_secs(30);

/// How long what ought to pass by itself may last.
const HOLD: Duration = Duration::from_mins(2);

/// How many snapshots, besides the first, are a storm.
const RESYNC_STORM: u32 = 5;

/// How often a node may go over to another parent.
const MOVES: u32 = 5;

/// How long a root may be at one batch.
const COMMITTING_SECONDS: u32 = 3;

/// How long 99 of 100 batches may take.
const COMMIT_SECONDS: f64 = 0.25;

/// How long a certificate has to hold yet: a week.
const CERTIFICATE_SECONDS: u32 = 7 * 24 * 60 * 60;

/// Which part of the queue may be full.
const QUEUE_SHARE: f64 = 0.8;

/// Which part of the transitions may be canceled.
const CANCELED_SHARE: f64 = 0.5;

/// How many transitions a second there are before their share means something.
const TRANSITIONS_LEAST: f64 = 0.1;

/// Which part of HTTP answers may be errors of ours.
const HTTP_SHARE: f64 = 0.05;

/// The route that answers 503 by design.
const READY_ROUTE: &str = "/readyz";

/// How grave it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Severity {
    /// Somebody has to look now.
    Critical,
    /// Somebody has to look today.
    Warning,
    /// It is good to know.
    Info,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// A query whose result is kept under a name.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) name: String,
    pub(super) expr: Expr,
}

/// A query that should have no result.
#[derive(Debug)]
pub(super) struct Alert {
    pub(super) name: &'static str,
    pub(super) expr: Expr,
    hold: Duration,
    severity: Severity,
    summary: &'static str,
    description: &'static str,
}

/// The labels by which a node is told.
const NODE: [&str; 2] = ["service", "machine"];

/// Which part of all a few are.
fn share(few: &Series, all: &Series) -> Expr {
    few.rate(&NODE).with("/", all.rate(&NODE))
}

fn canceled(window: Duration) -> Expr {
    let all = TRANSITIONS.during(window);
    share(&all.clone().is("result", "canceled"), &all)
}

fn failed_requests(window: Duration) -> Expr {
    let asked = HTTP_REQUESTS.during(window).but("route", READY_ROUTE);
    share(&asked.clone().like("status", "5.."), &asked)
}

fn queued() -> Expr {
    let depth = QUEUE_DEPTH.everywhere().max(&NODE);
    depth.with("/", QUEUE_LIMIT.everywhere().max(&NODE))
}

/// The services that have a node of this role.
fn of_role(role: &str) -> Expr {
    BUILD_INFO.everywhere().is("role", role).group(&["service"])
}

/// What is recorded.
pub(super) fn recordings(options: &Options) -> Vec<Recording> {
    let recorded = options.scaled(RECORDED);
    let window = options.scaled(WINDOW);
    let record = |metric: Metric, what: &str, expr| Recording {
        name: format!("{PREFIX}:{}:{what}", metric.name),
        expr,
    };
    let revision = REVISION.everywhere();
    vec![
        record(
            TRANSITIONS,
            "rate1m",
            TRANSITIONS
                .during(recorded)
                .rate(&["service", "machine", "kind", "result"]),
        ),
        record(TRANSITIONS, "canceled_share5m", canceled(window)),
        record(
            TRANSITION_SECONDS,
            "p99_5m",
            TRANSITION_SECONDS.during(window).quantile(0.99, &NODE),
        ),
        Recording {
            name: format!("{PREFIX}:lag_revisions"),
            expr: behind(&revision, &revision),
        },
        record(QUEUE_DEPTH, "share", queued()),
        record(
            HTTP_REQUESTS,
            "rate1m",
            HTTP_REQUESTS
                .during(recorded)
                .rate(&["service", "machine", "route", "status"]),
        ),
        record(HTTP_REQUESTS, "errors_share5m", failed_requests(window)),
    ]
}

/// What is alerted on.
pub(super) fn alerts(options: &Options) -> Vec<Alert> {
    let mut alerts = tree(options);
    alerts.extend(durability(options));
    alerts.extend(security(options));
    alerts.extend(machine(options));
    alerts.extend(reports(options));
    for alert in &mut alerts {
        alert.hold = options.scaled(alert.hold);
    }
    alerts
}

/// About nodes and the links between them.
fn tree(options: &Options) -> Vec<Alert> {
    let window = options.scaled(WINDOW);
    let again = options.scaled(RESTART_WINDOW);
    vec![
        Alert {
            name: "NodeDown",
            expr: Expr::bare(format!(r#"up{{job="{}"}} == 0"#, options.job)),
            hold: DOWN_FOR,
            severity: Severity::Critical,
            summary: "{{ $labels.machine }} ({{ $labels.instance }}) cannot be reached",
            description: "Prometheus has not been able to read the node's metrics.",
        },
        Alert {
            name: "RootAbsent",
            expr: of_role("replicant").with("unless on (service)", of_role("root")),
            hold: DOWN_FOR,
            severity: Severity::Critical,
            summary: "{{ $labels.service }} has no root",
            description: "There are replicants, and no node says that it is their root: nothing can \
                          change, and what they show grows old.",
        },
        Alert {
            name: "StaleReplica",
            expr: STALE
                .everywhere()
                .is("role", "replicant")
                .max(&NODE)
                .then("== 1"),
            hold: LINK_FOR,
            severity: Severity::Critical,
            summary: "{{ $labels.machine }} shows what may be old",
            description: "The node has not known for too long that what it shows is the root's newest, \
                          and is not ready.",
        },
        Alert {
            name: "LinkDown",
            expr: LINK_UP.everywhere().max(&NODE).then("== 0"),
            hold: LINK_FOR,
            severity: Severity::Warning,
            summary: "{{ $labels.machine }} is cut off from its parent",
            description: "The node's parent does not serve it.",
        },
        Alert {
            name: "ResyncStorm",
            expr: RESYNCS
                .during(window)
                .but("reason", "first")
                .increase(&NODE)
                .then(&format!("> {RESYNC_STORM}")),
            hold: Duration::ZERO,
            severity: Severity::Warning,
            summary: "{{ $labels.machine }} takes snapshot after snapshot",
            description: "{{ $value | humanize }} snapshots within the window, where there should be \
                          deltas.",
        },
        Alert {
            name: "ParentMoves",
            expr: PARENT_MOVES
                .during(window)
                .increase(&NODE)
                .then(&format!("> {MOVES}")),
            hold: Duration::ZERO,
            severity: Severity::Warning,
            summary: "{{ $labels.machine }} goes from parent to parent",
            description: "{{ $value | humanize }} times within the window: its parents come and go, or are \
                          cut off in turn.",
        },
        Alert {
            name: "RootRestarted",
            expr: START_TIME
                .during(again)
                .is("role", "root")
                .changes(&NODE)
                .then("> 0"),
            hold: Duration::ZERO,
            severity: Severity::Info,
            summary: "{{ $labels.machine }} was started again",
            description: "Without a state directory its history is a new epoch, and all replicants take \
                          snapshots; with one it goes on where it was.",
        },
    ]
}

/// About the disk of a root that keeps its history.
fn durability(options: &Options) -> Vec<Alert> {
    let window = options.scaled(WINDOW);
    let waits = STORE_WAITING.everywhere().max(&NODE).then("== 1");
    let hangs = STORE_COMMITTING.everywhere().max(&NODE);
    vec![
        Alert {
            name: "RootCannotWrite",
            expr: waits.with("or", hangs.then(&format!("> {COMMITTING_SECONDS}"))),
            hold: LINK_FOR,
            severity: Severity::Critical,
            summary: "{{ $labels.machine }} cannot write to its disk",
            description: "The disk is full or does not answer: nothing changes, writers wait, and the root is \
                          not ready. Reads go on everywhere.",
        },
        Alert {
            name: "RootDiskSlow",
            expr: STORE_COMMIT_SECONDS
                .during(window)
                .quantile(0.99, &NODE)
                .then(&format!("> {COMMIT_SECONDS}")),
            hold: HOLD,
            severity: Severity::Warning,
            summary: "the disk of {{ $labels.machine }} is slow",
            description: "One of 100 batches takes {{ $value | humanizeDuration }} to be kept, and whoever \
                          wrote waits for it.",
        },
    ]
}

/// About certificates, and files that are read again.
fn security(options: &Options) -> Vec<Alert> {
    let window = options.scaled(WINDOW);
    vec![
        Alert {
            name: "CertificateExpires",
            expr: TLS_LEFT
                .everywhere()
                .max(&NODE)
                .then(&format!("< {CERTIFICATE_SECONDS}")),
            hold: HOLD,
            severity: Severity::Warning,
            summary: "the certificate of {{ $labels.machine }} expires in {{ $value | humanizeDuration }}",
            description: "Once it has, nobody connects to the node any more; connections that are there go on.",
        },
        Alert {
            name: "ReloadFailed",
            // It is tried each minute as long as it fails.
            expr: RELOADS
                .during(window)
                .is("result", "failed")
                .increase(&["service", "machine", "file"])
                .then("> 0"),
            hold: Duration::ZERO,
            severity: Severity::Warning,
            summary: "{{ $labels.machine }} cannot use what is in its file {{ $labels.file }}",
            description: "The file has changed and cannot be used; what was in it before holds.",
        },
    ]
}

/// About the machine that the root owns.
fn machine(options: &Options) -> Vec<Alert> {
    let window = options.scaled(WINDOW);
    vec![
        Alert {
            name: "QueueSaturated",
            expr: queued().then(&format!("> {QUEUE_SHARE}")),
            hold: HOLD,
            severity: Severity::Warning,
            summary: "the queue of {{ $labels.machine }} is {{ $value | humanizePercentage }} full",
            description: "Mutations come in faster than they are decided; soon some are refused.",
        },
        Alert {
            name: "MutationsCanceled",
            expr: canceled(window)
                .within("(", ")")
                .then(&format!("> {CANCELED_SHARE} and"))
                .with(
                    "on (service, machine)",
                    TRANSITIONS.during(window).rate(&NODE),
                )
                .then(&format!("> {TRANSITIONS_LEAST}")),
            hold: WINDOW,
            severity: Severity::Warning,
            summary: "{{ $labels.machine }} cancels {{ $value | humanizePercentage }} of its transitions",
            description: "Most of what is asked of the machine is refused by relations or handlers.",
        },
        Alert {
            name: "HandlerErrors",
            expr: ERRORS
                .during(window)
                .increase(&["service", "machine", "kind"])
                .then("> 0"),
            hold: Duration::ZERO,
            severity: Severity::Warning,
            summary: "errors of the kind {{ $labels.kind }} on {{ $labels.machine }}",
            description: "A handler panicked, took too long or returned an error; the log says which.",
        },
        Alert {
            name: "ExceptionActive",
            expr: EXCEPTION
                .everywhere()
                .is("role", "root")
                .max(&NODE)
                .then("== 1"),
            hold: HOLD,
            severity: Severity::Critical,
            summary: "Exception is active on {{ $labels.machine }}",
            description: "Nobody has dealt with the last error.",
        },
    ]
}

/// About those who ask, and those who are told.
fn reports(options: &Options) -> Vec<Alert> {
    let window = options.scaled(WINDOW);
    vec![
        Alert {
            name: "HttpErrors",
            expr: failed_requests(window).then(&format!("> {HTTP_SHARE}")),
            hold: HOLD,
            severity: Severity::Warning,
            summary: "{{ $value | humanizePercentage }} of the answers of {{ $labels.machine }} are errors",
            description: "Statuses from 500 on, but those of the readiness check.",
        },
        Alert {
            name: "ObserverDrops",
            expr: OBSERVER_DROPPED
                .during(window)
                .increase(&["service", "machine", "observer"])
                .then("> 0"),
            hold: Duration::ZERO,
            severity: Severity::Warning,
            summary: "the observer {{ $labels.observer }} of {{ $labels.machine }} misses events",
            description: "What happens is more than the observer takes; logs or traces have gaps.",
        },
        Alert {
            name: "ExportsFailing",
            expr: EXPORTED
                .during(window)
                .like("result", "failed|dropped")
                .increase(&["service", "machine", "exporter"])
                .then("> 0"),
            hold: RECORDED,
            severity: Severity::Warning,
            summary: "{{ $labels.machine }} cannot tell {{ $labels.exporter }} all that it should",
            description: "The server that is told does not answer, refuses, or is too slow.",
        },
    ]
}

/// The rule file.
pub(super) fn file(options: &Options) -> String {
    let mut out = String::from("groups:\n");
    let _ = writeln!(out, "  - name: {PREFIX}-records\n    rules:");
    for recording in recordings(options) {
        let _ = writeln!(out, "      - record: {}", recording.name);
        field(&mut out, 8, "expr", &recording.expr.text);
    }
    let _ = writeln!(out, "  - name: {PREFIX}-alerts\n    rules:");
    for alert in alerts(options) {
        let _ = writeln!(out, "      - alert: {}", alert.name);
        field(&mut out, 8, "expr", &alert.expr.text);
        if !alert.hold.is_zero() {
            let _ = writeln!(out, "        for: {}", time(alert.hold));
        }
        let severity = alert.severity.name();
        let _ = writeln!(out, "        labels:\n          severity: {severity}");
        let _ = writeln!(out, "        annotations:");
        field(&mut out, 10, "summary", alert.summary);
        field(&mut out, 10, "description", alert.description);
        let anchor = alert.name.to_lowercase();
        field(&mut out, 10, "runbook", &format!("{RUNBOOK}#{anchor}"));
    }
    out
}

/// A line of YAML; within single quotes nothing but these means anything.
fn field(out: &mut String, indent: usize, name: &str, value: &str) {
    let value = value.replace('\'', "''");
    let _ = writeln!(out, "{:indent$}{name}: '{value}'", "");
}
