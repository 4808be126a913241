//! Tells observers what a machine did.

use std::time::{Instant, SystemTime};

use crate::errors::ErrorKind;
use crate::machine::{Machine, Measured};
use crate::mutation::Reason;
use crate::observe::{
    ErrorEvent, Event, Interest, Observers, Refused, Stats, TickChange, TickChanges, Timing,
    Traced, TransitionKind, Transitioned,
};
use crate::position::{Epoch, Position};
use crate::schema::as_index;
use crate::state::{DynState, State};
use crate::trace::{Led, TraceContext, Traces};

/// How many mutations are timed before those that are become a sample: to look at the clock costs as
/// much as a small part of a transition.
const TIMED: u32 = 128;

/// Of the others one of so many is timed.
const SAMPLE: u32 = 32;

/// What is told of a machine, and to whom.
#[derive(Debug)]
pub(super) struct Telling {
    observers: Observers,
    /// How many mutations there were so far.
    mutations: u32,
    /// How many transitions there were so far.
    sequence: u64,
    /// Whether anybody who wants to know of transitions had room when the batch began, and has not run
    /// out of it since. To look once a batch is what makes an observer that hangs cost nothing.
    heard: bool,
    /// How many transitions of the batch nobody had room for. Whoever comes or goes in the middle of one
    /// is charged for all of it or for none.
    unheard: u64,
    /// How many errors of the machine, in all and of each kind, and how many refusals, were seen.
    errors: u64,
    errors_of: [u64; ErrorKind::ALL.len()],
    refused: u64,
    /// How many states were active when the batch began, and how many ticks there were since: together
    /// with how many are active at its end they say how often states began and ended.
    active: u64,
    ticks: u64,
}

impl Telling {
    /// What the machine did before is not told.
    pub(super) fn new<S: State>(observers: Observers, machine: &Machine<S>) -> Self {
        Self {
            errors: machine.error_count(),
            errors_of: ErrorKind::ALL.map(|kind| machine.error_count_of(kind)),
            refused: machine.refused_count(),
            active: machine.active_count(),
            ticks: 0,
            observers,
            mutations: 0,
            sequence: 0,
            heard: false,
            unheard: 0,
        }
    }

    /// How many transitions there were so far.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Waits for observers that lose nothing.
    pub(super) async fn keep_up(&self) {
        self.observers.keep_up().await;
    }

    pub(super) fn stats(&self) -> &Stats {
        self.observers.stats()
    }

    /// Several mutations come.
    pub(super) fn begin_batch(&mut self) {
        self.heard = self.observers.has_room(Interest::CHANGES);
    }

    /// They have run.
    pub(super) fn end_batch<S: State>(&mut self, machine: &Machine<S>) {
        if self.ticks > 0 {
            let active = machine.active_count();
            let began = (self.ticks + active - self.active) / 2;
            self.stats().count_changes(began, self.ticks - began);
            (self.active, self.ticks) = (active, 0);
        }
        if self.unheard > 0 {
            self.observers.lose(Interest::CHANGES, self.unheard);
            self.unheard = 0;
        }
    }

    /// A mutation is next.
    #[inline]
    pub(super) fn before<S: State>(&mut self, machine: &mut Machine<S>, traced: bool) {
        let sampled = self.mutations < TIMED || self.mutations.is_multiple_of(SAMPLE);
        // Once it is beyond the first ones, only its last digits matter.
        self.mutations = self.mutations.checked_add(1).unwrap_or(TIMED);
        let timed = sampled || traced || self.heard;
        machine.set_measured(match (timed, machine.has_handlers()) {
            (true, _) => Measured::All,
            (false, true) => Measured::Runs,
            (false, false) => Measured::Nothing,
        });
    }

    /// Tells of the last run of `machine`, the first call of which may belong to a trace.
    #[inline]
    pub(super) fn run<S: State>(
        &mut self,
        machine: &Machine<S>,
        epoch: Epoch,
        trace: Option<TraceContext>,
        traces: &Traces,
        released: &[usize],
    ) {
        let stats = self.observers.stats();
        for transition in machine.last_run() {
            let kind = TransitionKind::of(transition.op(), transition.cause());
            let accepted = transition.is_accepted();
            stats.count_transition(kind, accepted, transition.called().len());
            if let Some(place) = transition.reason_place() {
                stats.count_cancellation_at(place);
            }
            let changes = transition.raw_changes().iter();
            self.ticks += changes.map(|change| u64::from(change.ticks)).sum::<u64>();
            for run in transition.handler_runs() {
                stats.count_handler(run.phase, run.took);
            }
            if let Some(times) = transition.times() {
                let took = times.ended.saturating_sub(times.began);
                stats.time_transition(took, trace);
            }
        }
        if machine.error_count() != self.errors {
            self.tell_errors(machine);
        }
        if machine.refused_count() != self.refused || machine.dropped().len() > 0 {
            self.count_refused(machine);
        }
        if trace.is_some() || self.heard {
            self.tell_changes(machine, epoch, trace, traces, released);
        } else {
            self.unheard += machine.last_run().len() as u64;
        }
        self.sequence += machine.last_run().len() as u64;
    }

    #[cold]
    fn tell_errors<S: State>(&mut self, machine: &Machine<S>) {
        let new = machine.error_count() - self.errors;
        self.errors = machine.error_count();
        for (kind, seen) in ErrorKind::ALL.into_iter().zip(&mut self.errors_of) {
            let count = machine.error_count_of(kind);
            self.observers.stats().count_errors(kind, count - *seen);
            *seen = count;
        }
        let errors = machine.errors();
        let new = usize::try_from(new).unwrap_or(usize::MAX);
        // What the machine has forgotten again cannot be told any more.
        let forgotten = new.saturating_sub(errors.len());
        self.observers.lose(Interest::ERRORS, forgotten as u64);
        let known = errors.len().saturating_sub(new);
        for error in errors.skip(known) {
            self.observers.tell(Interest::ERRORS, || {
                Event::Error(ErrorEvent::now(error.clone()))
            });
        }
    }

    /// Counts a mutation that was refused before it came to a transition.
    pub(super) fn refused(&self, reason: &Reason<u32>) {
        use Reason::{BackingOff, PayloadTooLarge, PayloadUnwanted};
        match reason {
            BackingOff => self.stats().count_refused(Refused::BackingOff, 1),
            PayloadTooLarge { .. } | PayloadUnwanted { .. } => {}
            _ => return,
        }
        self.stats().count_cancellation(reason);
    }

    #[cold]
    fn count_refused<S: State>(&mut self, machine: &Machine<S>) {
        let full = machine.refused_count() - self.refused;
        self.refused = machine.refused_count();
        self.stats().count_refused(Refused::Full, full);
        for (_, reason) in machine.dropped() {
            self.stats().count_cancellation(&reason);
            match reason {
                Reason::Displaced => self.stats().count_refused(Refused::Displaced, 1),
                Reason::BackingOff => self.stats().count_refused(Refused::BackingOff, 1),
                _ => {}
            }
        }
    }

    #[cold]
    fn tell_changes<S: State>(
        &mut self,
        machine: &Machine<S>,
        epoch: Epoch,
        trace: Option<TraceContext>,
        remembered: &Traces,
        released: &[usize],
    ) {
        let interest = match trace {
            Some(_) => Interest::CHANGES | Interest::TRACES,
            None => Interest::CHANGES,
        };
        let states = |indices: &mut dyn Iterator<Item = u32>| indices.map(DynState).collect();
        // How often each state ticks after the transition that is looked at.
        let mut later = std::collections::BTreeMap::<u32, u64>::new();
        for change in machine.last_run().flat_map(|t| t.raw_changes()) {
            *later.entry(change.state).or_default() += u64::from(change.ticks);
        }
        // Where nobody is told of the spans here, there are none.
        let spans = self.observers.wants(Interest::TRACES);
        let mut cause = trace;
        let mut first = true;
        for (place, transition) in machine.last_run().enumerate() {
            let changes = transition.raw_changes().iter().map(|change| {
                let ticks = u64::from(change.ticks);
                let later = later.entry(change.state).or_default();
                *later -= ticks;
                TickChange {
                    state: DynState(change.state),
                    ticks,
                    is_active: (machine.ticks()[change.state as usize] - *later) % 2 == 1,
                }
            });
            let changes = TickChanges(changes.collect());
            let traced = cause.map(Traced::within);
            // What follows from a mutation follows from its own transition, the first.
            let at = traced.map(|traced| traced.context).filter(|_| spans);
            let at = at.or(cause);
            if std::mem::take(&mut first) {
                cause = at;
            }
            let revision = transition.revision();
            if let Some(context) = at.filter(|_| !transition.raw_changes().is_empty()) {
                remembered.remember(Led {
                    position: Position { epoch, revision },
                    context,
                    transition: context.span,
                });
            }
            self.heard &= self.observers.tell(interest, || {
                let mut called = transition.called().map(|state| as_index(state.index()));
                Event::Transition(Transitioned {
                    at: SystemTime::now(),
                    since: Instant::now(),
                    sequence: self.sequence + 1 + place as u64,
                    position: Position { epoch, revision },
                    queue_tick: transition.queue_tick(),
                    op: transition.op(),
                    cause: transition.cause(),
                    called: states(&mut called),
                    left_out: transition
                        .left_out()
                        .map(|state| DynState(as_index(state.index())))
                        .collect(),
                    payloads: transition
                        .brought()
                        .map(|(state, payload)| {
                            (DynState(as_index(state.index())), payload.clone())
                        })
                        .collect(),
                    changes,
                    canceled: transition
                        .reason()
                        .map(|reason| reason.map(|state| DynState(as_index(state.index())))),
                    waiting: transition.waiting().unwrap_or_default(),
                    released: released.get(place).copied().unwrap_or_default(),
                    timing: transition.times().map(Timing::of).unwrap_or_default(),
                    handlers: transition
                        .handler_runs()
                        .map(|run| run.map(|state| DynState(as_index(state.index()))))
                        .collect(),
                    trace: traced,
                })
            });
        }
    }
}
