//! From checkpoints and batches to the machine that did them.

use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::Checkpoint;
use crate::journal::Done;
use crate::machine::{Machine, Recorded};
use crate::schema::Schema;
use crate::state::DynState;

use super::format::BatchRow;
use super::recovered::{Base, Moved};

/// A machine that does once more what stands in a journal.
pub(super) struct Replay {
    schema: Arc<Schema>,
    machine: Machine<DynState>,
    /// What the first of `deltas` applies to.
    pub(super) base: Base,
    /// What moved, where followers can still resume.
    pub(super) deltas: Vec<Moved>,
}

/// Where it came to something else, and what.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) revision: u64,
    pub(super) why: String,
}

impl Replay {
    pub(super) fn new(schema: &Arc<Schema>, start: &Checkpoint) -> Result<Self, Difference> {
        Ok(Self {
            schema: Arc::clone(schema),
            machine: restore(schema, start)?,
            base: Base::of(start),
            deltas: Vec::new(),
        })
    }

    /// What the machine is now.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.machine.checkpoint()
    }

    pub(super) fn digest(&self) -> u64 {
        self.machine.digest()
    }

    /// Goes on at another machine: what led to it is not known.
    pub(super) fn anew(&mut self, at: &Checkpoint) -> Result<(), Difference> {
        self.machine = restore(&self.schema, at)?;
        self.base = Base::of(at);
        self.deltas.clear();
        Ok(())
    }

    /// Does a batch, at whose end there may be a checkpoint to be the same as.
    pub(super) fn batch(
        &mut self,
        row: BatchRow,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), Difference> {
        let (queue_tick, revision, digest) = (row.queue_tick, row.revision, row.digest);
        if row.anew {
            let at = checkpoint.ok_or_else(|| Difference {
                revision,
                why: "the history goes on at a checkpoint that is not there".to_owned(),
            })?;
            self.anew(at)?;
        } else {
            for done in row.into_done() {
                self.transition(done)?;
            }
            self.machine.pass_to(queue_tick);
        }
        let differs = if self.machine.revision() != revision {
            Some("revision")
        } else if self.machine.digest() != digest {
            Some("digest")
        } else if checkpoint.is_some_and(|checkpoint| *checkpoint != self.checkpoint()) {
            Some("checkpoint")
        } else {
            None
        };
        match differs {
            None => Ok(()),
            Some(what) => Err(Difference {
                revision,
                why: format!("the {what} after the batch is another"),
            }),
        }
    }

    fn transition(&mut self, done: Done) -> Result<(), Difference> {
        let revision = done.revision;
        let differs = |why: &str| Difference {
            revision,
            why: why.to_owned(),
        };
        let changes: Vec<_> = done
            .changes
            .iter()
            .map(|change| (change.state, u64::from(change.ticks)))
            .collect();
        let recorded = Recorded {
            op: done.op,
            called: &done.called,
            cause: done.cause,
            queue_tick: done.queue_tick,
            left_out: &done.left_out,
            canceled: done.canceled.as_ref(),
            changes: &changes,
        };
        // What a state retains is what came for it, if only until a handler failed.
        let set = done.payloads.iter();
        let set: Vec<(u32, Bytes)> = set
            .filter_map(|(state, payload)| Some((*state, payload.clone()?)))
            .collect();
        let replayed = self.machine.replay_with(recorded, &set);
        replayed.map_err(|diverged| differs(&diverged.to_string()))?;
        let last = self.machine.last_run().last();
        let payloads = last.map(|transition| transition.raw_payloads());
        if payloads != Some(&done.payloads[..]) {
            return Err(differs("other payloads are retained"));
        }
        if self.machine.revision() != revision {
            return Err(differs("the revision is another"));
        }
        if self.machine.digest() != done.digest {
            return Err(differs("the digest is another"));
        }
        if !changes.is_empty() {
            self.deltas.push(done.into());
        }
        Ok(())
    }
}

fn restore(schema: &Arc<Schema>, at: &Checkpoint) -> Result<Machine<DynState>, Difference> {
    Machine::restore_with(Arc::clone(schema), at).map_err(|invalid| Difference {
        revision: at.revision,
        why: invalid.to_string(),
    })
}
