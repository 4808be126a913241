//! What is counted whether anybody looks or not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::errors::ErrorKind;
use crate::handlers::{Cause, Phase};
use crate::mutation::{Op, Reason};

use crate::trace::TraceContext;

use super::event::Side;
use super::histogram::Histogram;

/// What transitions are counted by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransitionKind {
    /// An add.
    Add,
    /// A remove.
    Remove,
    /// A set.
    Set,
    /// The machine's own add of auto states (rule R19).
    Auto,
    /// The machine's own add of `Exception` after a panic (rule R26).
    Exception,
}

impl TransitionKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Add,
        Self::Remove,
        Self::Set,
        Self::Auto,
        Self::Exception,
    ];

    /// The kind's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Set => "set",
            Self::Auto => "auto",
            Self::Exception => "exception",
        }
    }

    /// The kind of a transition.
    pub fn of(op: Op, cause: Cause) -> Self {
        match (cause, op) {
            (Cause::Auto, _) => Self::Auto,
            (Cause::Panic, _) => Self::Exception,
            (_, Op::Remove) => Self::Remove,
            (_, Op::Set) => Self::Set,
            (_, Op::Add | Op::Toggle) => Self::Add,
        }
    }
}

/// What handlers are timed by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HandlerKind {
    /// It may refuse.
    Negotiation,
    /// It is told.
    Final,
}

impl HandlerKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Negotiation, Self::Final];

    /// The kind's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Negotiation => "negotiation",
            Self::Final => "final",
        }
    }

    fn of(phase: Phase) -> Self {
        match phase {
            Phase::State | Phase::End | Phase::AnyState => Self::Final,
            _ => Self::Negotiation,
        }
    }
}

/// Why a mutation found no place to wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// As many were under way as a handle or an uplink has room for.
    Busy,
    /// The machine's own queue was full (rule R33).
    Full,
    /// It gave way to another in a full queue (rule R33).
    Displaced,
    /// The machine backed off (rule R27).
    BackingOff,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Busy, Self::Full, Self::Displaced, Self::BackingOff];

    /// The reason's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Displaced => "displaced",
            Self::BackingOff => "backing_off",
        }
    }
}

/// Bounds for what takes nanoseconds without handlers and may take seconds with them.
static TRANSITION_BOUNDS: [Duration; 14] = [
    Duration::from_nanos(100),
    Duration::from_nanos(250),
    Duration::from_nanos(500),
    Duration::from_micros(1),
    Duration::from_micros(5),
    Duration::from_micros(25),
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_micros(2500),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

/// Counts of what a node's machine, replica and links do. Nothing here waits. What a
/// [`Reactor`](crate::Reactor) does is in its own [`ReactorStats`](crate::ReactorStats).
#[derive(Debug)]
pub struct Stats {
    transitions: [[AtomicU64; 2]; TransitionKind::ALL.len()],
    cancellations: [AtomicU64; Reason::<u32>::CODES.len()],
    errors: [AtomicU64; ErrorKind::ALL.len()],
    refused: [AtomicU64; Refused::ALL.len()],
    began: AtomicU64,
    ended: AtomicU64,
    called: AtomicU64,
    handlers: AtomicU64,
    bytes: [[AtomicU64; 2]; Side::ALL.len()],
    transition_time: Histogram,
    handler_time: [Histogram; HandlerKind::ALL.len()],
}

impl Default for Stats {
    fn default() -> Self {
        let (transitions, cancellations, errors, refused, bytes) = Default::default();
        let (began, ended, called, handlers) = Default::default();
        Self {
            transitions,
            cancellations,
            errors,
            refused,
            began,
            ended,
            called,
            handlers,
            bytes,
            transition_time: Histogram::new(&TRANSITION_BOUNDS),
            handler_time: HandlerKind::ALL.map(|_| Histogram::new(&TRANSITION_BOUNDS)),
        }
    }
}

impl Stats {
    /// How many transitions of a kind were carried out, or canceled.
    pub fn transitions(&self, kind: TransitionKind, executed: bool) -> u64 {
        read(&self.transitions[kind as usize][usize::from(executed)])
    }

    /// How many mutations were canceled, by [`Reason::code`]: those whose transition was, those that were
    /// refused before, and those that were taken off the queue.
    pub fn cancellations(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.cancellations.iter().map(read);
        Reason::<u32>::CODES.into_iter().zip(counts)
    }

    /// How many errors of a kind there were.
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        read(&self.errors[kind as usize])
    }

    /// How many mutations found no place to wait.
    pub fn refused(&self, why: Refused) -> u64 {
        read(&self.refused[why as usize])
    }

    /// How often states began. A replica knows of a delta's own changes only.
    pub fn began(&self) -> u64 {
        read(&self.began)
    }

    /// How often states ended.
    pub fn ended(&self) -> u64 {
        read(&self.ended)
    }

    /// How many states transitions called, the sum of all.
    pub fn called(&self) -> u64 {
        read(&self.called)
    }

    /// How often handlers ran.
    pub fn handlers(&self) -> u64 {
        read(&self.handlers)
    }

    /// How many bytes came in over the links of a side.
    pub fn bytes_in(&self, side: Side) -> u64 {
        read(&self.bytes[side as usize][0])
    }

    /// How many bytes went out over the links of a side.
    pub fn bytes_out(&self, side: Side) -> u64 {
        read(&self.bytes[side as usize][1])
    }

    /// How long transitions took. Of many at once it has a sample: those of the first 128
    /// mutations, and of one of 32 after them; all, while somebody is told of each transition anyway.
    pub fn transition_time(&self) -> &Histogram {
        &self.transition_time
    }

    /// How long handlers took.
    pub fn handler_time(&self, kind: HandlerKind) -> &Histogram {
        &self.handler_time[kind as usize]
    }

    pub(crate) fn count_transition(&self, kind: TransitionKind, executed: bool, called: usize) {
        bump(&self.transitions[kind as usize][usize::from(executed)], 1);
        bump(&self.called, called as u64);
    }

    pub(crate) fn count_changes(&self, began: u64, ended: u64) {
        bump(&self.began, began);
        bump(&self.ended, ended);
    }

    pub(crate) fn count_cancellation(&self, reason: &Reason<impl Sized>) {
        self.count_cancellation_at(reason.place());
    }

    pub(crate) fn count_cancellation_at(&self, place: usize) {
        bump(&self.cancellations[place], 1);
    }

    pub(crate) fn count_errors(&self, kind: ErrorKind, more: u64) {
        bump(&self.errors[kind as usize], more);
    }

    pub(crate) fn count_refused(&self, why: Refused, more: u64) {
        self.refused[why as usize].fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn count_handler(&self, phase: Phase, took: Duration) {
        bump(&self.handlers, 1);
        self.handler_time[HandlerKind::of(phase) as usize].observe_alone(took);
    }

    pub(crate) fn time_transition(&self, took: Duration, trace: Option<TraceContext>) {
        self.transition_time.observe_alone(took);
        self.transition_time.exemplify(took, trace);
    }

    #[cfg(feature = "replica")]
    pub(crate) fn count_bytes(&self, side: Side, out: bool, bytes: usize) {
        self.bytes[side as usize][usize::from(out)].fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Counts where one task only does: without the price of an atomic addition.
#[inline]
fn bump(count: &AtomicU64, more: u64) {
    let now = count.load(Ordering::Relaxed);
    count.store(now.wrapping_add(more), Ordering::Relaxed);
}
