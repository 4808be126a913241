//! What happens on a node, as log lines: changed states, mutations, decisions, handlers, links and
//! errors, each under a target of its own. Payloads are never among them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use machine_runtime::observe::{
    Event, Followed, HandlerRun, Interest, LinkChange, LinkEvent, Observer, Observers, TickChanges,
    Transitioned,
};
use machine_runtime::{Cause, DynState, ErrorKind, MachineError, Reason, Schema};
use tokio::time::{Instant, sleep_until};
use tracing::Level;

use crate::shutdown::Tasks;
use crate::telemetry::Role;
use crate::telemetry::levels::{DECISION, ERROR, HANDLER, LINK, MUTATION, STATE};

/// How many events wait to be logged. What finds no room is counted and not logged.
const ROOM: usize = 4096;

/// How many names of states a list has at most, which ends with `…+3` if there are three more: a schema
/// may have thousands.
const NAMES: usize = 256;

/// How many events are logged at most in each `WINDOW`, 2,000 a second: a machine can do millions, and
/// whoever writes that down, or sends it, would take the processor from it.
const PACE: u32 = 200;

/// See `PACE`.
const WINDOW: Duration = Duration::from_millis(100);

/// The least time between two lines that say that events were lost.
const COMPLAINT: Duration = Duration::from_secs(1);

/// Logs what `observers` are told of the node of this name, whose states `schema` names. Nothing is
/// asked for that the filter lets nothing through of; so it costs nothing where nothing is logged.
pub fn attach(observers: &Observers, schema: &Arc<Schema>, node: &str, role: Role, tasks: &Tasks) {
    let Some(interest) = interest() else { return };
    let told = observers.attach("log", interest, ROOM);
    let log = Log {
        schema: Arc::clone(schema),
        node: node.to_owned(),
        role: role.name(),
    };
    let stopped = tasks.stopped();
    tasks.spawn(async move { log.run(told, stopped).await });
}

/// What the filter lets through anything of.
fn interest() -> Option<Interest> {
    let changes = tracing::enabled!(target: STATE, Level::INFO)
        || tracing::enabled!(target: MUTATION, Level::INFO)
        || tracing::enabled!(target: DECISION, Level::DEBUG)
        || tracing::enabled!(target: HANDLER, Level::DEBUG);
    let links = tracing::enabled!(target: LINK, Level::INFO);
    let errors = tracing::enabled!(target: ERROR, Level::WARN);
    let wanted = [
        (changes, Interest::CHANGES),
        (links, Interest::LINKS),
        (errors, Interest::ERRORS),
    ];
    let wanted = wanted.into_iter().filter(|(wanted, _)| *wanted);
    wanted
        .map(|(_, interest)| interest)
        .reduce(|all, one| all | one)
}

/// How much may still be logged in a window.
struct Pace {
    left: u32,
    end: Instant,
}

impl Pace {
    /// A window that begins now.
    fn new() -> Self {
        Self {
            left: PACE,
            end: Instant::now() + WINDOW,
        }
    }

    /// Counts an event. A window that is over begins anew.
    fn count(&mut self) {
        if Instant::now() >= self.end {
            *self = Self::new();
        }
        self.left -= 1;
    }
}

/// The log of one node.
struct Log {
    schema: Arc<Schema>,
    node: String,
    role: &'static str,
}

impl Log {
    async fn run(self, mut told: Observer, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        let mut missed = Missed::default();
        let mut pace = Pace::new();
        loop {
            tokio::select! {
                event = told.next(), if pace.left > 0 => {
                    pace.count();
                    self.event(&event);
                }
                () = sleep_until(pace.end), if pace.left == 0 => pace = Pace::new(),
                () = missed.due() => {}
                () = &mut stopped => break,
            }
            missed.look(told.lost());
            if let Some(n) = missed.take_due() {
                self.missed(n);
            }
        }
        while let Some(event) = told.try_next() {
            self.event(&event);
        }
        missed.look(told.lost());
        if missed.untold > 0 {
            self.missed(missed.untold);
        }
    }

    fn missed(&self, n: u64) {
        let (node, role) = (self.node.as_str(), self.role);
        tracing::warn!(node, role, "{n} events were not logged");
    }

    fn event(&self, event: &Event) {
        match event {
            Event::Transition(transition) => self.transition(transition),
            Event::Followed(followed) => self.followed(followed),
            Event::Link(link) => self.link(link),
            Event::Error(told) => self.error(&told.error),
            // Spans are not for logs.
            _ => {}
        }
    }

    fn transition(&self, t: &Transitioned) {
        let (node, role, revision) = (self.node.as_str(), self.role, t.position.revision);
        let position = t.position.to_string();
        let transition = t.queue_tick;
        let op = t.op.name();
        let called = self.names(&t.called);
        let cause = t.cause.name();
        let took_us = micros(t.timing.total());
        let handlers = t.handlers.len();
        if !t.changes.is_empty() {
            let (added, removed, again) = self.changed(&t.changes);
            tracing::info!(
                target: STATE, node, role, revision, position, transition, op, called, added,
                removed, again, cause, took_us, handlers,
                "{}", Change(added.as_deref(), removed.as_deref(), again.as_deref())
            );
        }
        let reason = t.canceled.as_ref().map(Reason::code);
        let why = t.canceled.as_ref().map(|reason| self.why(reason));
        let called_or_none = called.as_deref().unwrap_or_default();
        match reason {
            None => tracing::info!(
                target: MUTATION, node, role, revision, position, transition, op, called, cause,
                took_us, handlers, outcome = "executed",
                "{op} {called_or_none}"
            ),
            Some(code) => tracing::info!(
                target: MUTATION, node, role, revision, position, transition, op, called, cause,
                took_us, handlers, outcome = "canceled", reason = code,
                "{op} {called_or_none}: canceled, {code}"
            ),
        }
        self.decision(t, why.as_deref());
        if tracing::enabled!(target: HANDLER, Level::DEBUG) {
            for run in &t.handlers {
                self.handler(t, run);
            }
        }
    }

    /// Why it was canceled, what the machine did by itself, and what waits.
    fn decision(&self, t: &Transitioned, why: Option<&str>) {
        let decides = why.is_some() || t.cause != Cause::Call || t.waiting.1 > 0;
        if !decides || !tracing::enabled!(target: DECISION, Level::DEBUG) {
            return;
        }
        let (node, role, revision) = (self.node.as_str(), self.role, t.position.revision);
        let (op, called, cause) = (t.op.name(), self.names(&t.called), t.cause.name());
        let reason = t.canceled.as_ref().map(Reason::code);
        let of = called.as_deref().unwrap_or_default();
        let what = why.unwrap_or("executed");
        tracing::debug!(
            target: DECISION, node, role, revision, transition = t.queue_tick, op, called, cause,
            reason, waiting = t.waiting.1,
            negotiation_us = micros(t.timing.negotiation), finals_us = micros(t.timing.finals),
            "{cause}: {op} {of}: {what}"
        );
    }

    fn handler(&self, t: &Transitioned, run: &HandlerRun) {
        let (node, role, revision) = (self.node.as_str(), self.role, t.position.revision);
        let (phase, took_us) = (run.phase.name(), micros(run.took));
        let state = run.state.map(|state| self.name(state));
        tracing::debug!(
            target: HANDLER, node, role, revision, transition = t.queue_tick, phase, state,
            took_us,
            "{phase} of {} took {took_us} µs", state.unwrap_or("all")
        );
    }

    fn followed(&self, f: &Followed) {
        let (node, role, revision) = (self.node.as_str(), self.role, f.position.revision);
        let position = f.position.to_string();
        let from = f.from.map(|from| from.to_string());
        let cause = f.cause.name();
        let (added, removed, again) = self.changed(&f.changes);
        tracing::info!(
            target: STATE, node, role, revision, position, from, added, removed, again, cause,
            "{}", Change(added.as_deref(), removed.as_deref(), again.as_deref())
        );
    }

    fn link(&self, link: &LinkEvent) {
        let (node, role) = (self.node.as_str(), self.role);
        let (side, peer) = (link.side.name(), link.peer.as_str());
        let (change, reason) = match &link.change {
            LinkChange::Connected => ("connected", None),
            LinkChange::Lost { why } => ("lost", Some(why.as_str())),
            LinkChange::Refused { why } => ("refused", Some(why.as_str())),
            LinkChange::Resynced { reason } => ("resynced", Some(*reason)),
            _ => ("changed", None),
        };
        tracing::info!(
            target: LINK, node, role, side, peer, change, reason,
            "link {side}{}{peer}: {change}", if peer.is_empty() { "" } else { " to " }
        );
    }

    /// What somebody added says how things are; the others are faults.
    fn error(&self, error: &MachineError) {
        let (node, role) = (self.node.as_str(), self.role);
        let (kind, state) = (error.kind.name(), error.state.as_deref());
        let phase = error.phase.map(machine_runtime::Phase::name);
        if error.kind == ErrorKind::Added {
            // Whoever adds one does not say at which revision.
            tracing::info!(target: ERROR, node, role, kind, phase, state, "{error}");
        } else {
            let revision = error.revision;
            tracing::warn!(target: ERROR, node, role, revision, kind, phase, state, "{error}");
        }
    }

    fn changed(&self, changes: &TickChanges) -> (Option<String>, Option<String>, Option<String>) {
        let names = |states: Vec<_>| self.names(&states);
        (
            names(changes.on().collect()),
            names(changes.off().collect()),
            names(changes.again().collect()),
        )
    }

    /// The names, as many as a line takes; nothing if there are none.
    fn names(&self, states: &[DynState]) -> Option<String> {
        let shown = states.iter().take(NAMES).map(|state| self.name(*state));
        let mut names: Vec<_> = shown.map(str::to_owned).collect();
        if states.len() > NAMES {
            names.push(format!("…+{}", states.len() - NAMES));
        }
        (!names.is_empty()).then(|| names.join(" "))
    }

    fn name(&self, state: DynState) -> &str {
        let index = state.0 as usize;
        if index < self.schema.len() {
            self.schema.name_of(index)
        } else {
            "?"
        }
    }

    fn why(&self, reason: &Reason<DynState>) -> String {
        let named = reason.clone().map(|state| Name(self.name(state)));
        named.to_string()
    }
}

/// A state's name, which is not quoted.
struct Name<'a>(&'a str);

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What began, ended, and was called again: `+Foo -Bar *Baz`.
struct Change<'a>(Option<&'a str>, Option<&'a str>, Option<&'a str>);

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (sign, names) in [('+', self.0), ('-', self.1), ('*', self.2)] {
            for name in names.unwrap_or_default().split(' ') {
                if name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                    write!(f, "{space}{sign}{name}")?;
                    space = " ";
                }
            }
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Events that were lost, and when that was told last.
#[derive(Default)]
struct Missed {
    seen: u64,
    untold: u64,
    told_at: Option<Instant>,
}

impl Missed {
    fn look(&mut self, lost: u64) {
        self.untold += lost - self.seen;
        self.seen = lost;
    }

    /// Resolves once there is something to tell, and it may be told.
    async fn due(&self) {
        if self.untold == 0 {
            return std::future::pending().await;
        }
        if let Some(at) = self.told_at {
            sleep_until(at + COMPLAINT).await;
        }
    }

    /// How many are to be told of now.
    fn take_due(&mut self) -> Option<u64> {
        let now = Instant::now();
        let may = self.told_at.is_none_or(|at| at + COMPLAINT <= now);
        if self.untold == 0 || !may {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lost_events_are_told_once_a_second() {
        let mut missed = Missed::default();
        assert_eq!(missed.take_due(), None);
        missed.look(3);
        assert_eq!(missed.take_due(), Some(3));
        missed.look(5);
        missed.look(6);
        assert_eq!(missed.take_due(), None);
        let began = Instant::now();
        missed.due().await;
        assert!(began.elapsed() >= COMPLAINT);
        assert_eq!(missed.take_due(), Some(3));
        assert_eq!(missed.take_due(), None);
    }

    #[test]
    fn a_change_is_a_line_of_signs_and_names() {
        let text = |on, off, again| Change(on, off, again).to_string();
        assert_eq!(text(Some("Foo Bar"), Some("Baz"), None), "+Foo +Bar -Baz");
        assert_eq!(text(Some("Foo …+3"), None, Some("Baz")), "+Foo *Baz");
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of errors and what was told meanwhile, with this filter.
    async fn logged(filter: &'static str) -> (bool, String) {
        use machine_runtime::observe::ErrorEvent;
        use tracing_subscriber::layer::SubscriberExt;

        let written = Written::default();
        let writer = written.clone();
        let lines = crate::telemetry::text(move || writer.clone());
        let filter = crate::telemetry::Filter::parse(filter).unwrap();
        let subscriber = tracing_subscriber::registry()
            .with(lines)
            .with(filter.targets());
        // For all tasks: there is one thread.
        let _guard = tracing::subscriber::set_default(subscriber);
        let observers = Observers::new();
        let schema = Schema::builder("Mine").build().unwrap();
        let tasks = Tasks::default();
        attach(&observers, &Arc::new(schema), "here", Role::Root, &tasks);
        let attached = observers.wants(Interest::ERRORS);
        let error = MachineError::from_payload(b"\"mine\"");
        let panic = br#"{"kind":"panic","message":"theirs\nWARN forged","revision":7}"#;
        let panic = MachineError::from_payload(panic);
        for error in [error, panic] {
            observers.tell(Interest::ERRORS, || Event::Error(ErrorEvent::now(error)));
        }
        assert_eq!(tasks.finish(crate::shutdown::PATIENCE).await, 0);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        (attached, text)
    }

    #[tokio::test]
    async fn errors_are_logged_as_the_filter_says() {
        let (attached, text) = logged("off").await;
        assert!(!attached && text.is_empty(), "{text}");
        let (attached, text) = logged("warn").await;
        assert!(attached, "{text}");
        assert!(text.contains("theirs") && !text.contains("mine"), "{text}");
        assert!(
            text.contains("node=\"here\"") && text.contains("revision=7"),
            "{text}"
        );
        let (_, text) = logged("off,machine::error=info").await;
        assert!(text.contains("theirs") && text.contains("mine"), "{text}");
    }

    #[tokio::test]
    async fn an_error_is_one_line_of_its_target_and_an_added_one_has_no_revision() {
        let (_, text) = logged("info").await;
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains(" INFO error: mine node="), "{text}");
        assert!(!lines[0].contains("revision"), "{text}");
        assert!(lines[1].contains(" WARN error: "), "{text}");
        assert!(lines[1].contains("theirs WARN forged"), "{text}");
    }
}
