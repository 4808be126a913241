//! What the transitions of one run did, in buffers that are used again.

use std::ops::Range;

use bytes::Bytes;

use crate::handlers::Cause;
use crate::mutation::{Op, Reason};

use super::Request;

/// The transitions since the log was last cleared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) changes: Vec<Change>,
    /// The retained payloads that were set or dropped.
    pub(crate) payloads: Vec<(u32, Option<Bytes>)>,
    pub(crate) called: Vec<u32>,
    /// The payloads that came with the mutations.
    pub(crate) brought: Vec<(u32, Bytes)>,
    /// Why transitions were canceled.
    pub(crate) reasons: Vec<Reason<u32>>,
    /// What left the queue without being run, and why.
    pub(crate) dropped: Vec<(u64, Reason<u32>)>,
    pub(crate) records: Vec<Record>,
}

/// A state that ticked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) state: u32,
    pub(crate) ticks: u32,
}

/// One transition; ranges point into the log's buffers.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) op: Op,
    pub(crate) auto: bool,
    /// Which of the log's reasons it was canceled for.
    pub(crate) canceled: Option<u32>,
    pub(crate) cause: Cause,
    /// The queue tick that it took; 0 for what was put in front.
    pub(crate) queue_tick: u64,
    pub(crate) revision: u64,
    pub(crate) digest: u64,
    pub(crate) called: Range<usize>,
    pub(crate) changes: Range<usize>,
    pub(crate) payloads: Range<usize>,
    pub(crate) brought: Range<usize>,
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
        self.payloads.clear();
        self.called.clear();
        self.brought.clear();
        self.reasons.clear();
        self.dropped.clear();
        self.records.clear();
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            changes: self.changes.len(),
            payloads: self.payloads.len(),
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
        let brought = self.brought.len();
        if !request.payloads.is_empty() {
            self.brought.extend_from_slice(request.payloads);
        }
        let canceled = end.canceled.map(|reason| {
            self.reasons.push(reason.clone());
            crate::schema::as_index(self.reasons.len() - 1)
        });
        self.records.push(Record {
            op: request.op,
            auto: request.auto,
            canceled,
            cause: end.cause,
            queue_tick: end.queue_tick,
            revision,
            digest,
            called: called..self.called.len(),
            changes: start.changes..self.changes.len(),
            payloads: start.payloads..self.payloads.len(),
            brought: brought..self.brought.len(),
        });
    }
}
