//! Where a root keeps what its machine did, before anybody is told of it.

use std::error::Error;
use std::fmt;
use std::future::{Future, ready};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::checkpoint::Checkpoint;
use crate::handlers::{BoxError, Cause};
use crate::machine::Transition;
use crate::mutation::{Op, Reason, StateList};
use crate::position::{Epoch, Position};
use crate::schema::as_index;
use crate::state::State;
use crate::transition::Change;
use crate::write::{Key, Receipt};

/// Where an owner keeps what its machine did, before anybody is told of it.
///
/// The owner runs whatever has been sent to it, hands all that came of it over as one [`Batch`], and
/// publishes and answers once that is kept. What is sent meanwhile makes the next batch.
pub trait Journal: Send + 'static {
    /// Whether anything is kept. If not, there are no batches, and they cost nothing.
    const KEEPS: bool;

    /// Keeps a batch, once it has kept all those before. Nothing of it is published or answered before
    /// that.
    ///
    /// # Errors
    ///
    /// What does not heal by waiting ends the owner; nobody learns how the mutations of the batch
    /// ended. What heals, such as a full disk, is waited for in here.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the batch is either kept or not, and the journal is good for no more.
    fn commit(&mut self, batch: Batch) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Whether the next batch is to bring a [`Checkpoint`].
    fn wants_checkpoint(&self) -> bool;

    /// The owner has ended in order, and there are no more batches.
    ///
    /// # Errors
    ///
    /// If that could not be noted.
    fn end(&mut self) -> impl Future<Output = Result<(), JournalError>> + Send {
        ready(Ok(()))
    }
}

/// Keeps nothing: the history is in memory and ends with the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory;

impl Journal for Memory {
    const KEEPS: bool = false;

    async fn commit(&mut self, _batch: Batch) -> Result<(), JournalError> {
        Ok(())
    }

    fn wants_checkpoint(&self) -> bool {
        false
    }
}

/// Why a batch is not kept.
#[derive(Debug)]
pub struct JournalError(BoxError);

impl JournalError {
    /// An error of a journal.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    /// What it was made of, if that is a `T`.
    pub fn downcast_ref<T: Error + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for JournalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// What a machine did from one moment between two mutations to another such moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub(crate) epoch: Epoch,
    /// What was carried out, in order.
    pub(crate) done: Vec<Done>,
    /// What came of writes with keys, in order.
    pub(crate) keyed: Vec<Keyed>,
    /// The queue tick at its end.
    pub(crate) queue_tick: u64,
    /// The revision at its end, and the digest there.
    pub(crate) end: (u64, u64),
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Whether it does not follow from the batch before: its checkpoint is where the history goes on.
    pub(crate) anew: bool,
}

/// A transition that changed something, if only the order of the active list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    pub(crate) op: Op,
    pub(crate) cause: Cause,
    pub(crate) called: StateList<u32>,
    pub(crate) queue_tick: Option<u64>,
    pub(crate) left_out: Vec<u32>,
    /// Why a final handler canceled it.
    pub(crate) canceled: Option<Reason<u32>>,
    pub(crate) changes: SmallVec<[Change; 4]>,
    pub(crate) payloads: Vec<(u32, Option<Bytes>)>,
    pub(crate) revision: u64,
    pub(crate) digest: u64,
}

/// What a transition of a [`Batch`] moved.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Moves<'a> {
    /// Where it led.
    pub position: Position,
    /// The digest there.
    pub digest: u64,
    done: &'a Done,
}

impl Moves<'_> {
    /// The states that ticked, and how often.
    pub fn ticks(&self) -> impl Iterator<Item = (usize, u64)> {
        let changes = self.done.changes.iter();
        changes.map(|change| (change.state as usize, u64::from(change.ticks)))
    }

    /// The states that retain something else from then on, and what; nothing if they retain nothing.
    pub fn payloads(&self) -> &[(u32, Option<Bytes>)] {
        &self.done.payloads
    }
}

/// What came of a write with a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Keyed {
    pub(crate) key: Key,
    pub(crate) content: u128,
    pub(crate) receipts: Vec<Receipt<u32>>,
}

impl Batch {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            done: Vec::new(),
            keyed: Vec::new(),
            queue_tick: 0,
            end: (0, 0),
            checkpoint: None,
            anew: false,
        }
    }

    /// Notes a transition if it left anything behind.
    pub(crate) fn note<S: State>(&mut self, transition: &Transition<'_, S>) {
        let changes = transition.raw_changes();
        // One that a final handler canceled has changed ticks all the same. One that changed none may
        // have changed the order of the active list.
        if !transition.is_accepted() && changes.is_empty() {
            return;
        }
        let index = |state: S| as_index(state.index());
        self.done.push(Done {
            op: transition.op(),
            cause: transition.cause(),
            called: transition.called().map(index).collect(),
            queue_tick: transition.queue_tick(),
            left_out: transition.left_out().map(index).collect(),
            canceled: transition.reason().map(|reason| reason.map(index)),
            changes: changes.into(),
            payloads: transition.raw_payloads().to_vec(),
            revision: transition.revision(),
            digest: transition.digest(),
        });
    }

    /// Whether there is anything to keep.
    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.keyed.is_empty() && self.checkpoint.is_none()
    }

    /// The life of the root.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The positions that it leads to, in order, each with the digest there.
    pub fn positions(&self) -> impl Iterator<Item = (Position, u64)> + '_ {
        let moved = self.done.iter().filter(|done| !done.changes.is_empty());
        moved.map(|done| (self.at(done.revision), done.digest))
    }

    /// What its transitions moved, in order, without those that moved nothing.
    pub fn moves(&self) -> impl Iterator<Item = Moves<'_>> {
        let moved = self.done.iter().filter(|done| !done.changes.is_empty());
        moved.map(|done| Moves {
            position: self.at(done.revision),
            digest: done.digest,
            done,
        })
    }

    /// The first of [`Batch::positions`].
    pub fn first(&self) -> Option<Position> {
        self.positions().next().map(|(position, _)| position)
    }

    /// Where the machine stood at its end.
    pub fn last(&self) -> Position {
        self.at(self.end.0)
    }

    /// How many transitions there are in it, those too that changed the order of the active list at most.
    pub fn transitions(&self) -> usize {
        self.done.len()
    }

    /// How many writes with keys ended in it.
    pub fn keys(&self) -> usize {
        self.keyed.len()
    }

    /// All there is of the machine at its end, if the journal wanted to have it.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    fn at(&self, revision: u64) -> Position {
        Position {
            epoch: self.epoch,
            revision,
        }
    }
}

/// For simulations that tamper with what is kept. No stable API.
#[cfg(feature = "wire")]
#[doc(hidden)]
impl Batch {
    /// Leaves out what came of writes with keys.
    pub fn forget_keys(&mut self) {
        self.keyed.clear();
    }

    /// Leaves out the last transition.
    pub fn forget_last(&mut self) {
        self.done.pop();
    }

    /// Takes the order of the active list for that of the indices.
    pub fn forget_order(&mut self) {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.order.sort_unstable();
        }
    }
}
