//! What a store was opened with.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::Checkpoint;
use crate::journal::{Done, Keyed};
use crate::machine::Machine;
use crate::position::{Epoch, Position};
use crate::schema::Schema;
use crate::state::{DynState, States};
use crate::transition::Change;

/// What a [`Store`](super::Store) had when it was opened: where its history stands, and all that an owner needs to go on
/// with it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// The life of the root: a new one where there was no history, or where some of it was lost.
    pub epoch: Epoch,
    /// Where the history stands; none if there was none yet.
    pub position: Option<Position>,
    /// What whoever runs the node has to know of it, in words: what was cut, why there is a new epoch.
    pub notes: Vec<String>,
    /// The machine.
    pub(crate) restored: Checkpoint,
    /// What the first of the deltas applies to.
    pub(crate) base: Base,
    /// What followers resume from, in order.
    pub(crate) deltas: Vec<Moved>,
    /// What came of the last writes with keys, the oldest first.
    pub(crate) keys: Vec<Keyed>,
}

/// A moment that followers resume from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    pub(crate) revision: u64,
    pub(crate) retained: BTreeMap<u32, Bytes>,
}

impl Base {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            revision: checkpoint.revision,
            retained: checkpoint.retained.clone(),
        }
    }
}

/// What moved in one transition.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) revision: u64,
    pub(crate) digest: u64,
    pub(crate) changes: Vec<Change>,
    pub(crate) payloads: Vec<(u32, Option<Bytes>)>,
}

impl From<Done> for Moved {
    fn from(done: Done) -> Self {
        Self {
            revision: done.revision,
            digest: done.digest,
            changes: done.changes.into_vec(),
            payloads: done.payloads,
        }
    }
}

impl Recovered {
    /// A history that begins: for a [`Journal`](crate::Journal) that has nothing yet and is no
    /// [`Store`](super::Store).
    pub fn nothing(schema: &Arc<Schema>, epoch: Epoch) -> Self {
        Self {
            epoch,
            position: None,
            notes: Vec::new(),
            restored: Machine::with_schema(Arc::clone(schema)).checkpoint(),
            base: Base::default(),
            deltas: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// The machine as it was: ticks, the order of the active list, payloads, revision, queue tick. Its
    /// handlers have to be bound anew, and none is told of what is active already. Errors, and whether it
    /// backed off, are not kept.
    ///
    /// # Panics
    ///
    /// If the schema of `S` is another than the store was opened with.
    pub fn machine<S: States>(&self) -> Machine<S> {
        Machine::restore(&self.restored).expect("the store was opened with this schema")
    }

    /// As [`Recovered::machine`], for a schema that is known at run time only.
    ///
    /// # Panics
    ///
    /// As [`Recovered::machine`].
    pub fn machine_with(&self, schema: Arc<Schema>) -> Machine<DynState> {
        let machine = Machine::restore_with(schema, &self.restored);
        machine.expect("the store was opened with this schema")
    }
}
