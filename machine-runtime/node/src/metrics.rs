//! Which metrics a node has: their names, what they mean, and how they are asked for.
//!
//! This is the only place that spells a name. `/metrics` writes what is defined here, and the
//! dashboard and the alert rules are made of it, so none of them can ask for what is not there.
//!
//! All names begin with `machine_`. Every series has the labels `service`, `machine` (the node's name)
//! and `role` (`root` or `replicant`) besides its own. Times are seconds, sizes bytes.

/// What all names begin with.
pub const PREFIX: &str = "machine";

/// The labels that every series has.
pub const COMMON: [&str; 3] = ["service", "machine", "role"];

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only grows, but for a new start of the process.
    Counter,
    /// It is what it is now.
    Gauge,
    /// Durations by upper bound, in seconds.
    Histogram,
}

/// On which nodes a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    /// On all.
    All,
    /// On a root, whose machine it is about.
    Root,
    /// On replicants, whose link to the parent it is about.
    Replicant,
}

/// A metric: one name and what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Its name without the prefix, and without the `_total` of a counter.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it means, in a sentence without its full stop.
    pub help: &'static str,
    /// The labels that it has besides those that all have.
    pub labels: &'static [&'static str],
    /// Where it is.
    pub on: On,
}

impl Metric {
    const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            name,
            kind,
            help,
            labels: &[],
            on: On::All,
        }
    }

    const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Counter, help)
    }

    const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Gauge, help)
    }

    const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Histogram, help)
    }

    const fn by(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    const fn on(mut self, on: On) -> Self {
        self.on = on;
        self
    }

    /// The name of its samples as a query has it; of a histogram, without `_bucket` and its like.
    #[must_use]
    pub fn full_name(&self) -> String {
        let total = if self.kind == Kind::Counter {
            "_total"
        } else {
            ""
        };
        format!("{PREFIX}_{}{total}", self.name)
    }
}

macro_rules! catalogue {
    ($($(#[doc = $doc:literal])* $id:ident = $metric:expr;)*) => {
        $($(#[doc = $doc])* pub const $id: Metric = $metric;)*

        /// All metrics, in the order in which they are written.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

catalogue! {
    /// Who runs.
    BUILD_INFO = Metric::gauge("build_info", "1; the version of the program that runs is a label")
        .by(&["version"]);
    /// Which place the node has in the tree.
    NODE_INFO = Metric::gauge("node_info", "1; the node's parent is a label, empty on a root and until it is known")
        .by(&["parent"]);
    /// When the process began.
    START_TIME = Metric::gauge("start_time_seconds", "When the node was started, in seconds since 1970");

    /// The schema's size.
    STATES = Metric::gauge("states", "The states of the schema");
    /// How many are active.
    STATES_ACTIVE = Metric::gauge("states_active", "The states that are active");
    /// Whether the last error is not yet dealt with.
    EXCEPTION = Metric::gauge("exception", "1 while the state Exception is active");
    /// How often states changed.
    TICKS = Metric::counter("ticks", "How often states began (kind on) or ended (kind off), as the node saw it")
        .by(&["kind"]);
    /// Per state, by choice only.
    STATE_ACTIVE = Metric::gauge("state_active", "1 while the state is active; only of those that were asked for")
        .by(&["state"]);

    /// What the machine did.
    TRANSITIONS = Metric::counter("transitions", "Transitions by kind (add, remove, set, auto, exception) and result (executed, canceled)")
        .by(&["kind", "result"]).on(On::Root);
    /// Why not.
    CANCELLATIONS = Metric::counter("cancellations", "Canceled transitions by reason")
        .by(&["reason"]).on(On::Root);
    /// How long.
    TRANSITION_SECONDS = Metric::histogram("transition_seconds", "How long transitions took, handlers included; of many at once a sample")
        .on(On::Root);
    /// How long handlers took.
    HANDLER_SECONDS = Metric::histogram("handler_seconds", "How long handlers took, by kind (negotiation, final)")
        .by(&["kind"]).on(On::Root);
    /// What went wrong.
    ERRORS = Metric::counter("errors", "Errors of handlers and of those who added one, by kind")
        .by(&["kind"]).on(On::Root);
    /// What waits.
    QUEUE_DEPTH = Metric::gauge("queue_depth", "Requests that wait for the machine")
        .on(On::Root);
    /// How much can wait.
    QUEUE_LIMIT = Metric::gauge("queue_limit", "How many requests can wait for the machine")
        .on(On::Root);
    /// What could not wait.
    QUEUE_REFUSALS = Metric::counter("queue_refusals", "Mutations that found no place to wait, by reason (busy, full, displaced, backing_off)")
        .by(&["reason"]);

    /// What is on disk.
    STORE_COMMITS = Metric::counter("store_commits", "Batches of transitions that the root has kept in its state directory; 0 without one")
        .on(On::Root);
    /// How long that takes.
    STORE_COMMIT_SECONDS = Metric::histogram("store_commit_seconds", "How long it took to keep a batch; nothing of it is shown or answered before")
        .on(On::Root);
    /// How long it takes now.
    STORE_COMMITTING = Metric::gauge("store_committing_seconds", "How long the root has been at keeping the batch that it keeps now, 0 while there is none")
        .on(On::Root);
    /// No room?
    STORE_WAITING = Metric::gauge("store_waiting_for_room", "1 while the root waits for room on its disk; meanwhile nothing changes")
        .on(On::Root);
    /// How much it is.
    STORE_WRITTEN_BYTES = Metric::counter("store_written_bytes", "Bytes of batches and checkpoints that the root has written to its state directory")
        .on(On::Root);

    /// Where the node is in the root's history.
    REVISION = Metric::gauge("revision", "The transitions of the root that what is shown includes");
    /// How far from the root.
    TIER = Metric::gauge("tier", "The links to the root, 0 on it");
    /// How old what is shown may be.
    LAG_SECONDS = Metric::gauge("lag_seconds", "How long ago what is shown was known to be the root's newest");
    /// Too old?
    STALE = Metric::gauge("stale", "1 if that is too long ago or nothing is shown yet; such a node is not ready");
    /// About to stop?
    DRAINING = Metric::gauge("draining", "1 while the node, told to stop, sends its followers away and lets writes end");
    /// Served by the parent?
    LINK_UP = Metric::gauge("link_up", "1 while the parent serves this node")
        .on(On::Replicant);
    /// How often it had to begin again.
    CONNECTS = Metric::counter("connects", "How often the parent let this node in")
        .on(On::Replicant);
    /// How often it had to go elsewhere.
    PARENT_MOVES = Metric::counter("parent_moves", "How often this node went over to another of its parents")
        .on(On::Replicant);
    /// Snapshots instead of deltas.
    RESYNCS = Metric::counter("resyncs", "Snapshots taken instead of deltas, by reason (first, epoch, compacted, digest, malformed, selection)")
        .by(&["reason"]).on(On::Replicant);
    /// What travels.
    DELTAS = Metric::counter("deltas", "Deltas applied from the parent (link up) and sent to followers (link down)")
        .by(&["link"]);
    /// What travels instead.
    SNAPSHOTS = Metric::counter("snapshots", "Snapshots applied from the parent (link up) and sent to followers (link down)")
        .by(&["link"]);
    /// How much of it.
    LINK_RECEIVED_BYTES = Metric::counter("link_received_bytes", "Bytes that came in from the parent (link up) and from followers (link down)")
        .by(&["link"]);
    /// How much of it.
    LINK_SENT_BYTES = Metric::counter("link_sent_bytes", "Bytes that went out to the parent (link up) and to followers (link down)")
        .by(&["link"]);
    /// Who follows.
    FOLLOWERS = Metric::gauge("followers", "The followers that are served");
    /// How far they are.
    FOLLOWER_LAG = Metric::gauge("follower_lag_revisions", "How many revisions a follower, by name, has not asked beyond yet; at most 64 followers are told apart")
        .by(&["follower"]);
    /// Who may not.
    FOLLOWERS_REFUSED = Metric::counter("followers_refused", "Handshakes of followers that were refused");
    /// Who said nothing any more.
    FOLLOWERS_DROPPED = Metric::counter("followers_dropped", "Followers whose connection was closed because nothing was heard of them any more");
    /// What can be resumed from.
    RING_DELTAS = Metric::gauge("ring_deltas", "The deltas that can be resumed from");
    /// How large that is.
    RING_BYTES = Metric::gauge("ring_bytes", "The bytes that these take");

    /// What clients asked.
    HTTP_REQUESTS = Metric::counter("http_requests", "HTTP requests answered, by route and status")
        .by(&["route", "status"]);
    /// How long that took.
    HTTP_SECONDS = Metric::histogram("http_request_seconds", "How long HTTP requests took to be answered, by route; not of those that wait for a position, nor of event streams; of plain GETs of all active states one of eight")
        .by(&["route"]);
    /// Who is there.
    HTTP_CONNECTIONS = Metric::gauge("http_connections", "Open HTTP connections");
    /// Who listens.
    HTTP_EVENT_STREAMS = Metric::gauge("http_event_streams", "Event streams among them");
    /// Who waits.
    HTTP_WAITING = Metric::gauge("http_waiting", "HTTP requests that wait for a position");
    /// Who writes.
    HTTP_WRITING = Metric::gauge("http_writing", "Mutations under way for HTTP clients");
    /// Who found no room.
    HTTP_CONNECTIONS_REFUSED = Metric::counter("http_connections_refused", "HTTP connections that were not let in: as many as there may be were there (full), or of that address (address), the TLS handshake went wrong (handshake), took too long (late), or was one of too many (flood)")
        .by(&["why"]);
    /// Who else did not come in.
    FOLLOWER_CONNECTIONS_REFUSED = Metric::counter("follower_connections_refused", "Connections of followers that were not let in, for the same reasons")
        .by(&["why"]);
    /// Who may not.
    DENIED = Metric::counter("denied", "What was denied to readers, writers and followers, by the role that it takes (observe, follow, mutate, admin) and why: nobody is known (unknown), who is known has not the role (not_allowed), or may not change that state (state)")
        .by(&["what", "why"]);
    /// Who was held back.
    LIMITED = Metric::counter("limited", "Requests and connections that a limit held back, by limit as docs/security.md lists them")
        .by(&["limit"]);

    /// Until when the node is trusted.
    TLS_LEFT = Metric::gauge("tls_certificate_left_seconds", "For how long the certificate of the node holds yet, with all that stand behind it in its file; only with TLS");
    /// What was read again.
    RELOADS = Metric::counter("reloads", "How often files that had changed were read again (file tls and others) and held from then on (result done) or could not be used, so that what was before holds (result failed)")
        .by(&["file", "result"]);

    /// What observers missed.
    OBSERVER_DROPPED = Metric::counter("observer_dropped", "Events that an observer (log, otlp, debug) had no room for")
        .by(&["observer"]);
    /// What was told to other servers.
    EXPORTED = Metric::counter("exported", "What exporters (loki: lines, otlp: spans, pushgateway: pushes) have sent, dropped for lack of room, or given up on (result sent, dropped, failed); lines are those of the program, told by its first node")
        .by(&["exporter", "result"]);
}

/// What `--compat-metrics` adds: the base of each name, which begins with `am_` and ends with the node's
/// name, and what it means. All are gauges without labels; averages are those of the last window of
/// 15 s or more.
pub const COMPAT: [(&str, &str); 15] = [
    ("states", "The states of the schema"),
    (
        "relations",
        "The lists of relations in the schema that are not empty",
    ),
    ("ref_states", "The states that these lists have together"),
    (
        "queue_size",
        "Requests that wait for the machine, at the end of the window",
    ),
    (
        "tx_ticks",
        "By how much the sum of all ticks grew with a transition, on average",
    ),
    ("exceptions", "Errors in the window"),
    (
        "transitions",
        "Transitions that were carried out in the window; on a replicant, deltas",
    ),
    (
        "states_added",
        "States that began with a transition, on average",
    ),
    (
        "states_removed",
        "States that ended with a transition, on average",
    ),
    (
        "states_touched",
        "States that a transition changed or called, whichever are more, on average",
    ),
    ("steps", "0: steps of transitions are not recorded"),
    ("handlers", "Handlers that ran in a transition, on average"),
    (
        "tx_time",
        "How long a transition took in microseconds, on average",
    ),
    (
        "states_active",
        "States that are active, the average of both ends of the window",
    ),
    ("states_inactive", "States that are not, likewise"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tables are.
    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

    /// What sets the tables apart from what is written by hand.
    const MARKS: [&str; 2] = ["<!-- tables -->\n", "<!-- end of tables -->\n"];

    fn row(cells: &[&str]) -> String {
        format!("| {} |\n", cells.join(" | "))
    }

    fn tables() -> String {
        let mut out =
            String::from("| name | kind | labels | on | meaning |\n|---|---|---|---|---|\n");
        for metric in ALL {
            let name = metric.full_name();
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            let on = format!("{:?}", metric.on).to_lowercase();
            let (labels, help) = (labels.join(", "), metric.help);
            out += &row(&[&format!("`{name}`"), &kind, &labels, &on, help]);
        }
        out += "\nWith `--compat-metrics`, of a node called `rep-1`:\n\n| name | meaning |\n|---|---|\n";
        for (base, help) in COMPAT {
            out += &row(&[&format!("`am_{base}_rep_1`"), help]);
        }
        out
    }

    #[test]
    fn the_page_has_the_tables() {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (before, rest) = page.split_once(MARKS[0]).unwrap();
        let (shown, after) = rest.split_once(MARKS[1]).unwrap();
        let tables = tables();
        if std::env::var_os("WRITE_DOCS").is_some() {
            let page = [before, MARKS[0], &tables, MARKS[1], after].concat();
            std::fs::write(PAGE, page).unwrap();
        } else {
            let how = "WRITE_DOCS=1 cargo test -p machine-node the_page_has_the_tables";
            assert!(
                shown == tables,
                "docs/metrics.md is of other metrics: {how}"
            );
        }
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for (i, metric) in ALL.iter().enumerate() {
            let name = metric.full_name();
            let known = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(name.bytes().all(known), "{name}");
            assert!(!metric.help.ends_with('.'), "{name}");
            // It is written as it is, here and in a table.
            assert!(!metric.help.contains(['\\', '"', '\n', '|']), "{name}");
            assert!(!metric.name.ends_with("_total"), "{name}");
            assert_eq!(
                metric.kind == Kind::Counter,
                name.ends_with("_total"),
                "{name}"
            );
            assert!(
                ALL[..i].iter().all(|other| other.name != metric.name),
                "{name}"
            );
            assert!(metric.labels.iter().all(|label| !COMMON.contains(label)));
        }
    }
}
