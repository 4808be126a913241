//! All there is of a machine at one moment, and a machine made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::handlers::Cause;
use crate::machine::Machine;
use crate::mutation::Op;
use crate::queue::{Queue, Waiting};
use crate::schema::Schema;
use crate::state::{DynState, State, States};
use crate::transition::Status;

/// All that decides what a machine does next, but for its handlers: ticks, the order of its active list
/// (rule R1), what waits. States are indices into its schema.
///
/// To be taken between two runs: what the machine itself wants next is not part of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Checkpoint {
    /// How many transitions changed a tick.
    pub revision: u64,
    /// All ticks.
    pub ticks: Vec<u64>,
    /// The active states in the order of the active list.
    pub order: Vec<u32>,
    /// The queue tick (rule R25).
    pub queue_tick: u64,
    /// What waits, in order.
    pub queue: Vec<WaitingMutation>,
    /// The retained payloads.
    pub retained: BTreeMap<u32, Bytes>,
}

/// A mutation that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WaitingMutation {
    /// What it does.
    pub op: Op,
    /// With which states.
    pub called: Vec<u32>,
    /// What comes with it.
    pub payloads: Vec<(u32, Bytes)>,
    /// Who asked for it.
    pub cause: Cause,
    /// Whether it brings an error (rule R28).
    pub is_error: bool,
}

/// A checkpoint is none of a schema.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCheckpoint {
    /// It is of another number of states.
    #[error("the checkpoint has {found} ticks, the schema {expected} states")]
    Ticks {
        /// How many ticks it has.
        found: usize,
        /// How many states the schema has.
        expected: usize,
    },
    /// A list names a state that the schema does not have.
    #[error("the checkpoint names state {0}, which the schema does not have")]
    Unknown(u32),
    /// The active list is not what the ticks say.
    #[error(
        "by its ticks state {0} of the checkpoint is not as often in the active list as it has to be"
    )]
    Order(u32),
}

impl Checkpoint {
    /// A checkpoint of nothing but ticks, such as those of a replica, whose active list is not known:
    /// here it is in index order, sorted by rule R10.
    pub fn of_ticks(schema: &Schema, revision: u64, ticks: Vec<u64>) -> Self {
        let order = Status::likely_order(schema.compiled(), &ticks);
        Self {
            revision,
            ticks,
            order,
            queue_tick: 1,
            ..Self::default()
        }
    }

    fn check(&self, schema: &Schema) -> Result<(), InvalidCheckpoint> {
        let (found, expected) = (self.ticks.len(), schema.len());
        if found != expected {
            return Err(InvalidCheckpoint::Ticks { found, expected });
        }
        let named = self.order.iter().chain(self.retained.keys());
        let queued = self.queue.iter().flat_map(|waiting| {
            let payloads = waiting.payloads.iter().map(|(state, _)| state);
            waiting.called.iter().chain(payloads)
        });
        let mut named = named.chain(queued);
        if let Some(state) = named.find(|state| **state as usize >= expected) {
            return Err(InvalidCheckpoint::Unknown(*state));
        }
        let mut times = vec![0_u64; expected];
        for state in &self.order {
            times[*state as usize] += 1;
        }
        let wrong = times.iter().zip(&self.ticks);
        match (0..)
            .zip(wrong)
            .find(|(_, (times, ticks))| **times != **ticks % 2)
        {
            Some((state, _)) => Err(InvalidCheckpoint::Order(state)),
            None => Ok(()),
        }
    }
}

impl<S: State> Machine<S> {
    /// All there is of the machine, but for handlers, errors and limits.
    pub fn checkpoint(&self) -> Checkpoint {
        let (schema, status, queue) = self.parts();
        let waiting = queue.iter().map(|waiting| WaitingMutation {
            op: waiting.op,
            called: waiting.called.to_vec(),
            payloads: waiting.payloads.to_vec(),
            cause: waiting.cause,
            is_error: waiting.is_error,
        });
        Checkpoint {
            revision: status.revision(),
            ticks: status.ticks().to_vec(),
            order: status.active().order(schema.compiled()).collect(),
            queue_tick: queue.tick(),
            queue: waiting.collect(),
            retained: status.retained().clone(),
        }
    }

    /// The same machine without handlers, limits, errors and whatever waits: to try things on. It costs
    /// a copy of what there is of its states.
    pub fn fork(&self) -> Machine<DynState> {
        let (schema, status, _) = self.parts();
        Machine::from_parts(Arc::clone(schema), status.clone(), Queue::new())
    }

    fn restored(schema: Arc<Schema>, checkpoint: &Checkpoint) -> Result<Self, InvalidCheckpoint> {
        checkpoint.check(&schema)?;
        let status = Status::restored(schema.compiled(), checkpoint);
        let waiting = checkpoint.queue.iter().map(|waiting| Waiting {
            op: waiting.op,
            called: waiting.called.iter().copied().collect(),
            payloads: waiting.payloads.iter().cloned().collect(),
            cause: waiting.cause,
            is_error: waiting.is_error,
        });
        let queue = Queue::restored(checkpoint.queue_tick, waiting);
        Ok(Self::from_parts(schema, status, queue))
    }
}

impl<S: States> Machine<S> {
    /// The machine that a checkpoint was taken of; handlers have to be bound anew. Its relations are
    /// taken as they are now, and not held against what is active.
    ///
    /// # Errors
    ///
    /// If the checkpoint is none of the schema.
    pub fn restore(checkpoint: &Checkpoint) -> Result<Self, InvalidCheckpoint> {
        Self::restored(Arc::clone(S::schema()), checkpoint)
    }
}

impl Machine<DynState> {
    /// As [`Machine::restore`], for a schema that is known at run time only.
    ///
    /// # Errors
    ///
    /// If the checkpoint is none of the schema.
    pub fn restore_with(
        schema: Arc<Schema>,
        checkpoint: &Checkpoint,
    ) -> Result<Self, InvalidCheckpoint> {
        Self::restored(schema, checkpoint)
    }
}
