//! What the transitions of one run did, in buffers that are used again.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::handlers::{Cause, Phase};
use crate::mutation::{Op, Reason};

use super::{Request, as_index};

/// The transitions since the log was last cleared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) changes: Vec<Change>,
    pub(crate) called: Vec<u32>,
    pub(crate) records: Vec<Record>,
    /// How long each took, where that is measured; else empty.
    measures: Vec<Measure>,
    /// The runs of handlers, where they are measured.
    pub(crate) runs: Vec<Run>,
    /// What most transitions have none of.
    rare: Rare,
    /// Whether `rare` has anything.
    any_rare: bool,
}

#[derive(Clone, Debug, Default)]
struct Rare {
    /// The retained payloads that were set or dropped.
    payloads: Vec<(u32, Option<Bytes>)>,
    /// The payloads that came with the mutations.
    brought: Vec<(u32, Bytes)>,
    /// The auto states that handlers refused and that were left out: places of transitions, and states.
    left_out: Vec<(usize, u32)>,
    /// Why handlers canceled transitions.
    reasons: Vec<Reason<u32>>,
    /// What left the queue without being run, and why.
    dropped: Vec<(u64, Reason<u32>)>,
}

/// How long one transition took, if anybody looked at the stopwatch, and its handlers among `runs`.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    pub(crate) times: Option<Times>,
    /// How many mutations waited when it began, and when it ended.
    pub(crate) waiting: (usize, usize),
    runs: Range<u32>,
}

/// Moments of a transition on the machine's stopwatch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Times {
    /// Its begin.
    pub began: Duration,
    /// When relations and negotiation handlers were through and ticks changed.
    pub changed: Duration,
    /// Its end, after final handlers.
    pub ended: Duration,
}

/// One run of a handler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) phase: Phase,
    pub(crate) state: Option<u32>,
    pub(crate) began: Duration,
    pub(crate) took: Duration,
}

/// A state that ticked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) state: u32,
    pub(crate) ticks: u32,
}

impl Change {
    /// How often the state began, if it is active (`on`) now or not; as often as the rest it ended.
    #[cfg(feature = "replica")]
    pub(crate) fn begins(self, on: bool) -> u64 {
        let ticks = u64::from(self.ticks);
        if on { ticks.div_ceil(2) } else { ticks / 2 }
    }
}

/// One transition; ranges point into the log's buffers.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) op: Op,
    pub(crate) cause: Cause,
    ended: Ended,
    /// The queue tick that it took; 0 for what was put in front.
    pub(crate) queue_tick: u64,
    pub(crate) revision: u64,
    pub(crate) digest: u64,
    called: Range<u32>,
    changes: Range<u32>,
    payloads: Range<u32>,
    brought: Range<u32>,
}

/// How a transition ended, without an allocation for what relations refuse.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Accepted,
    Blocked {
        state: u32,
        by: u32,
    },
    Missing {
        state: u32,
        requires: u32,
    },
    NoCandidate,
    /// One of the reasons kept apart.
    Kept(u32),
}

impl Record {
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self.ended, Ended::Accepted)
    }
}

/// How a transition ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) canceled: Option<&'a Reason<u32>>,
    pub(crate) cause: Cause,
    pub(crate) queue_tick: u64,
}

/// Where the log stood when a transition began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    pub(super) changes: usize,
    payloads: usize,
}

impl Log {
    pub(crate) fn clear(&mut self) {
        self.changes.clear();
        self.called.clear();
        self.records.clear();
        if !self.measures.is_empty() {
            self.measures.clear();
            self.runs.clear();
        }
        if self.any_rare {
            self.clear_rare();
        }
    }

    #[cold]
    fn clear_rare(&mut self) {
        let Rare {
            payloads,
            brought,
            left_out,
            reasons,
            dropped,
        } = &mut self.rare;
        payloads.clear();
        brought.clear();
        left_out.clear();
        reasons.clear();
        dropped.clear();
        self.any_rare = false;
    }

    pub(crate) fn called(&self, record: &Record) -> &[u32] {
        &self.called[range(&record.called)]
    }

    pub(crate) fn changes(&self, record: &Record) -> &[Change] {
        &self.changes[range(&record.changes)]
    }

    pub(crate) fn payloads(&self, record: &Record) -> &[(u32, Option<Bytes>)] {
        &self.rare.payloads[range(&record.payloads)]
    }

    pub(crate) fn brought(&self, record: &Record) -> &[(u32, Bytes)] {
        &self.rare.brought[range(&record.brought)]
    }

    /// Notes how long the transition took that was closed last; its handlers ran since `runs`.
    pub(crate) fn measure(&mut self, times: Option<Times>, waiting: (usize, usize), runs: usize) {
        let runs = span(runs, self.runs.len());
        self.measures.push(Measure {
            times,
            waiting,
            runs,
        });
    }

    /// What was measured of the transition at `place`, if anything was, and the runs of its handlers.
    pub(crate) fn measured(&self, place: usize) -> (Option<&Measure>, &[Run]) {
        match self.measures.get(place) {
            Some(measure) => (Some(measure), &self.runs[range(&measure.runs)]),
            None => (None, &[]),
        }
    }

    /// Why a transition was canceled.
    pub(crate) fn reason(&self, record: &Record) -> Option<Reason<u32>> {
        Some(match record.ended {
            Ended::Accepted => return None,
            Ended::Blocked { state, by } => Reason::Blocked { state, by },
            Ended::Missing { state, requires } => Reason::Missing { state, requires },
            Ended::NoCandidate => Reason::NoCandidate,
            Ended::Kept(place) => self.rare.reasons[place as usize].clone(),
        })
    }

    /// The place of that reason among all codes.
    #[cfg(feature = "tokio")]
    pub(crate) fn reason_place(&self, record: &Record) -> Option<usize> {
        Some(match record.ended {
            Ended::Accepted => return None,
            Ended::Blocked { state, by } => Reason::Blocked { state, by }.place(),
            Ended::Missing { state, requires } => Reason::Missing { state, requires }.place(),
            Ended::NoCandidate => Reason::<u32>::NoCandidate.place(),
            Ended::Kept(place) => self.rare.reasons[place as usize].place(),
        })
    }

    pub(crate) fn dropped(&self) -> &[(u64, Reason<u32>)] {
        &self.rare.dropped
    }

    /// A retained payload was set or dropped.
    pub(crate) fn payload(&mut self, state: u32, payload: Option<Bytes>) {
        self.any_rare = true;
        self.rare.payloads.push((state, payload));
    }

    /// Handlers refused an auto state of the transition under way, which goes on without it.
    pub(super) fn leave_out(&mut self, state: u32) {
        self.any_rare = true;
        self.rare.left_out.push((self.records.len(), state));
    }

    /// The auto states that were left out of the transition at `place`.
    pub(crate) fn left_out(&self, place: usize) -> impl Iterator<Item = u32> {
        let left_out = self.rare.left_out.iter();
        left_out.filter_map(move |(of, state)| (*of == place).then_some(*state))
    }

    /// A mutation left the queue without being run.
    pub(crate) fn drop(&mut self, queue_tick: u64, reason: Reason<u32>) {
        self.any_rare = true;
        self.rare.dropped.push((queue_tick, reason));
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            changes: self.changes.len(),
            payloads: self.rare.payloads.len(),
        }
    }

    /// Records the transition that began at `start`; `position` is the revision and digest
    /// after it.
    #[inline]
    pub(super) fn close(
        &mut self,
        request: Request<'_>,
        end: End<'_>,
        (revision, digest): (u64, u64),
        start: Mark,
    ) {
        let called = self.called.len();
        self.called.extend_from_slice(request.called);
        let brought = self.rare.brought.len();
        if !request.payloads.is_empty() {
            self.any_rare = true;
            self.rare.brought.extend_from_slice(request.payloads);
        }
        let ended = match end.canceled {
            None => Ended::Accepted,
            Some(Reason::Blocked { state, by }) => Ended::Blocked {
                state: *state,
                by: *by,
            },
            Some(Reason::Missing { state, requires }) => Ended::Missing {
                state: *state,
                requires: *requires,
            },
            Some(Reason::NoCandidate) => Ended::NoCandidate,
            Some(reason) => self.keep(reason),
        };
        self.records.push(Record {
            op: request.op,
            cause: end.cause,
            ended,
            queue_tick: end.queue_tick,
            revision,
            digest,
            called: span(called, self.called.len()),
            changes: span(start.changes, self.changes.len()),
            payloads: span(start.payloads, self.rare.payloads.len()),
            brought: span(brought, self.rare.brought.len()),
        });
    }

    #[cold]
    fn keep(&mut self, reason: &Reason<u32>) -> Ended {
        self.any_rare = true;
        self.rare.reasons.push(reason.clone());
        Ended::Kept(as_index(self.rare.reasons.len() - 1))
    }
}

/// A run has far fewer transitions, and these fewer changes, than a `u32` counts.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the memory would not hold so many"
)]
fn span(start: usize, end: usize) -> Range<u32> {
    start as u32..end as u32
}

fn range(span: &Range<u32>) -> Range<usize> {
    span.start as usize..span.end as usize
}
