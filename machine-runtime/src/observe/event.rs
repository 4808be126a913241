//! What observers are told.

use std::ops::BitOr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::errors::MachineError;
use crate::handlers::Cause;
use crate::mutation::{Op, Reason};
use crate::position::Position;
use crate::state::DynState;
use crate::trace::TraceContext;
use crate::transition::Times;
use crate::view::Snapshot;

/// What an observer wants to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest(u64);

impl Interest {
    /// Every transition of a machine, and every moment that a replica comes to.
    pub const CHANGES: Self = Self(1);
    /// Followers and parents that come and go.
    pub const LINKS: Self = Self(2);
    /// Errors of handlers, and those that were added.
    pub const ERRORS: Self = Self(4);
    /// Spans, and the transitions of mutations that belong to a sampled trace.
    pub const TRACES: Self = Self(8);

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Something that happened. States are indices into the schema of the view that is observed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A machine carried out or canceled a transition.
    Transition(Transitioned),
    /// A replica came to another moment.
    Followed(Followed),
    /// A link came or went.
    Link(LinkEvent),
    /// An error, now or before among those of the machine.
    Error(ErrorEvent),
    /// Work on behalf of a trace came to its end.
    Span(Span),
}

/// One transition of a machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transitioned {
    /// When it had ended.
    pub at: SystemTime,
    /// The same on the monotonic clock.
    pub since: Instant,
    /// Counts what the machine did, canceled or not, from 1. A gap is what this observer lost.
    pub sequence: u64,
    /// Where the machine was after it.
    pub position: Position,
    /// The queue tick that it took (rule R25).
    pub queue_tick: Option<u64>,
    /// What was done with the called states; a toggle is an add or a remove by now.
    pub op: Op,
    /// Who asked for it.
    pub cause: Cause,
    /// The states that it called.
    pub called: Vec<DynState>,
    /// The auto states that handlers refused, and without which it went on (rule R15).
    pub left_out: Vec<DynState>,
    /// The payloads that came with it.
    pub payloads: Vec<(DynState, Bytes)>,
    /// The states that ticked.
    pub changes: TickChanges,
    /// Why it was canceled, if it was.
    pub canceled: Option<Reason<DynState>>,
    /// How many mutations waited in the machine's own queue when it began, and when it ended.
    pub waiting: (usize, usize),
    /// How many waiting futures it let go.
    pub released: usize,
    /// How long it took.
    pub timing: Timing,
    /// The handlers that ran, in order.
    pub handlers: Vec<HandlerRun>,
    /// The trace that it belongs to.
    pub trace: Option<Traced>,
}

/// How long the phases of a transition took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Timing {
    /// When it began, on the machine's stopwatch.
    pub began: Duration,
    /// Relations and negotiation handlers, up to the change of ticks.
    pub negotiation: Duration,
    /// Final handlers.
    pub finals: Duration,
}

impl Timing {
    /// What a transition took by its moments.
    pub(crate) fn of(times: Times) -> Self {
        Self {
            began: times.began,
            negotiation: times.changed.saturating_sub(times.began),
            finals: times.ended.saturating_sub(times.changed),
        }
    }

    /// Both phases together.
    pub fn total(&self) -> Duration {
        self.negotiation + self.finals
    }
}

/// One run of a handler.
pub type HandlerRun = crate::machine::HandlerRun<DynState>;

/// The span of something within a trace, and the span that caused it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traced {
    /// Its own.
    pub context: TraceContext,
    /// The span that it is part of.
    pub parent: Option<u64>,
}

impl Traced {
    /// A span of its own within `context`.
    pub fn within(context: TraceContext) -> Self {
        Self {
            context: context.child(),
            parent: Some(context.span),
        }
    }
}

/// A replica came to another moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Followed {
    /// When.
    pub at: SystemTime,
    /// The same on the monotonic clock.
    pub since: Instant,
    /// Where it was before, if it showed anything.
    pub from: Option<Position>,
    /// Where it is now.
    pub position: Position,
    /// [`Cause::Delta`], or [`Cause::Snapshot`] where what led there is not known.
    pub cause: Cause,
    /// The states that ticked.
    pub changes: TickChanges,
    /// After [`Cause::Snapshot`]: all of it. Where the epoch is another, ticks began anew, and the
    /// changes say only what is as active as before and what is not.
    pub whole: Option<Arc<Snapshot>>,
    /// The trace that the newest of it belongs to, as far as that is known: the span that led there, within
    /// that of the transition.
    pub trace: Option<Traced>,
    /// How many waiting futures that let go; those that a snapshot did are not counted.
    pub released: usize,
}

/// A state that ticked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TickChange {
    /// Which.
    pub state: DynState,
    /// How often.
    pub ticks: u64,
    /// Whether it is active now.
    pub is_active: bool,
}

/// The states that ticked, each once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TickChanges(pub Vec<TickChange>);

impl TickChanges {
    /// The states that are active now and were not.
    pub fn on(&self) -> impl Iterator<Item = DynState> {
        self.pick(|change| change.ticks % 2 == 1 && change.is_active)
    }

    /// The states that were active and are not.
    pub fn off(&self) -> impl Iterator<Item = DynState> {
        self.pick(|change| change.ticks % 2 == 1 && !change.is_active)
    }

    /// The states that are as active as before, such as multi states that were called again.
    pub fn again(&self) -> impl Iterator<Item = DynState> {
        self.pick(|change| change.ticks.is_multiple_of(2))
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, TickChange> {
        self.0.iter()
    }

    /// Whether nothing ticked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn pick(&self, wanted: fn(&TickChange) -> bool) -> impl Iterator<Item = DynState> {
        let picked = self.0.iter().filter(move |change| wanted(change));
        picked.map(|change| change.state)
    }
}

impl<'a> IntoIterator for &'a TickChanges {
    type Item = &'a TickChange;
    type IntoIter = std::slice::Iter<'a, TickChange>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Which side of a node a link is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// To its parent.
    Up,
    /// To a follower.
    Down,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Up, Self::Down];

    /// The side's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A machine has an error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ErrorEvent {
    /// When it was told.
    pub at: SystemTime,
    /// The same on the monotonic clock.
    pub since: Instant,
    /// The error.
    pub error: MachineError,
}

impl ErrorEvent {
    /// An error that is told now.
    pub fn now(error: MachineError) -> Self {
        Self {
            at: SystemTime::now(),
            since: Instant::now(),
            error,
        }
    }
}

/// A link came or went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkEvent {
    /// When.
    pub at: SystemTime,
    /// The same on the monotonic clock.
    pub since: Instant,
    /// To whom.
    pub side: Side,
    /// The other node's name, where it said so.
    pub peer: String,
    /// What happened.
    pub change: LinkChange,
}

/// What happened to a link.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinkChange {
    /// It is there.
    Connected,
    /// It is there no more.
    Lost {
        /// Why.
        why: String,
    },
    /// It was refused.
    Refused {
        /// Why.
        why: String,
    },
    /// A follower took a snapshot instead of a delta.
    Resynced {
        /// Why, in one word.
        reason: &'static str,
    },
}

/// Work on behalf of a trace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Span {
    /// Which, and within which.
    pub traced: Traced,
    /// What kind of work.
    pub kind: SpanKind,
    /// What was done.
    pub name: &'static str,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// More about it.
    pub attributes: Vec<(&'static str, String)>,
    /// What went wrong.
    pub error: Option<String>,
    /// Spans that it is related to besides.
    pub links: Vec<TraceContext>,
}

impl Span {
    /// Work that began at `began` and has just ended.
    pub fn ended(traced: Traced, kind: SpanKind, name: &'static str, began: SystemTime) -> Self {
        Self {
            traced,
            kind,
            name,
            began,
            took: began.elapsed().unwrap_or_default(),
            attributes: Vec::new(),
            error: None,
            links: Vec::new(),
        }
    }
}

/// Which part in a conversation a span has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanKind {
    /// It answers a request of another node or client.
    Server,
    /// It asks another node.
    Client,
    /// It takes what another node told.
    Consumer,
    /// It is within one node.
    Internal,
}
