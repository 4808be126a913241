//! All there is of a machine at one moment, and a machine made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::handlers::Cause;
use crate::machine::Machine;
use crate::mutation::{Op, StateList};
use crate::queue::{Queue, Waiting};
use crate::schema::Schema;
use crate::state::{DynState, State, States};
use crate::transition::Status;

/// The greatest tick, revision and queue tick of a checkpoint, far beyond any that a machine comes to:
/// none that is made of one counts further than numbers go.
pub(crate) const MOST: u64 = u64::MAX / 2;

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
    /// A tick, the revision or the queue tick is one that no machine comes to.
    #[error("the checkpoint has the number {0}, which no machine comes to")]
    TooGreat(u64),
    /// What waits calls a state twice (rule R4).
    #[error("a mutation that waits in the checkpoint calls state {0} twice")]
    Repeated(u32),
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
        let mut numbers = self.ticks.iter().chain([&self.revision, &self.queue_tick]);
        if let Some(number) = numbers.find(|number| **number > MOST) {
            return Err(InvalidCheckpoint::TooGreat(*number));
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
        for waiting in &self.queue {
            let mut called: StateList<u32> = waiting.called.iter().copied().collect();
            called.sort_unstable();
            if let Some(pair) = called.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(InvalidCheckpoint::Repeated(pair[0]));
            }
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
        Machine::from_parts(Arc::clone(schema), status.fork(), Queue::new())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::StateDef;

    type Change = fn(&mut Checkpoint);

    fn schema() -> Arc<Schema> {
        let schema = Schema::builder("Two").state(StateDef::new("A"));
        schema.state(StateDef::new("B")).build().unwrap().into()
    }

    fn waiting(called: &[u32]) -> WaitingMutation {
        WaitingMutation {
            op: Op::Add,
            called: called.to_vec(),
            payloads: Vec::new(),
            cause: Cause::Call,
            is_error: false,
        }
    }

    #[test]
    fn what_is_no_checkpoint_of_the_schema_is_refused_and_says_why() {
        let mut machine = Machine::with_schema(schema());
        assert!(machine.add(DynState(1)).is_executed());
        let good = machine.checkpoint();
        let refused = |change: Change| {
            let mut bad = good.clone();
            change(&mut bad);
            Machine::restore_with(schema(), &bad).unwrap_err()
        };
        let ticks = refused(|bad| bad.ticks.push(0));
        let (found, expected) = (4, 3);
        assert_eq!(ticks, InvalidCheckpoint::Ticks { found, expected });
        let cases: [(InvalidCheckpoint, Change); 9] = [
            (InvalidCheckpoint::Unknown(3), |bad| bad.order = vec![3]),
            (InvalidCheckpoint::Unknown(7), |bad| {
                bad.retained.insert(7, Bytes::new());
            }),
            (InvalidCheckpoint::Unknown(9), |bad| {
                bad.queue.push(waiting(&[9]));
            }),
            (InvalidCheckpoint::Repeated(2), |bad| {
                bad.queue.push(waiting(&[2, 0, 2]));
            }),
            (InvalidCheckpoint::Order(1), |bad| bad.order.clear()),
            (InvalidCheckpoint::Order(1), |bad| bad.order.push(1)),
            (InvalidCheckpoint::Order(2), |bad| bad.order.push(2)),
            (InvalidCheckpoint::TooGreat(u64::MAX), |bad| {
                bad.ticks[1] = u64::MAX;
            }),
            (InvalidCheckpoint::TooGreat(u64::MAX), |bad| {
                bad.queue_tick = u64::MAX;
            }),
        ];
        for (expected, change) in cases {
            assert_eq!(refused(change), expected);
        }
        assert!(Machine::restore_with(schema(), &good).is_ok());
    }

    #[test]
    fn a_fork_goes_its_own_way_and_has_no_queue() {
        let mut machine = Machine::with_schema(schema());
        assert!(machine.add(DynState(1)).is_executed());
        machine.enqueue(&crate::Mutation::add(DynState(2))).unwrap();
        let mut fork = machine.fork();
        assert_eq!((fork.queue_len(), fork.last_run().len()), (0, 0));
        assert_eq!(fork.digest(), machine.digest());
        assert!(fork.remove(DynState(1)).is_executed());
        assert!(machine.is_active(DynState(1)) && !fork.is_active(DynState(1)));
    }
}
