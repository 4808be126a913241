//! An owner that takes over a history, and keeps it.

use std::future::Future;
use std::pin::pin;

use crate::durable::Recovered;
use crate::handle::Handle;
use crate::journal::{Journal, JournalError};
use crate::machine::Machine;
use crate::position::Position;
use crate::state::State;
use crate::view::ViewOptions;

use super::{LAST, NotKept, Owner};

impl<S: State, J: Journal> Owner<S, J> {
    /// Takes over a machine whose history `journal` keeps, and goes on with that. `recovered` is what
    /// it was opened with: the epoch, the keys of earlier writes, and what followers resume from; the
    /// machine is the one it restores, with handlers bound to it.
    ///
    /// A machine that is another, as it has done something since, is kept as it is before it is published:
    /// its history goes on from there, and followers begin with a snapshot.
    pub fn durable(
        machine: Machine<S>,
        recovered: Recovered,
        journal: J,
        options: ViewOptions,
    ) -> (Handle<S>, Self) {
        let checkpoint = machine.checkpoint();
        let (handle, mut owner) = Self::with_journal(machine, recovered.epoch, journal, options);
        let Recovered {
            epoch,
            restored,
            base,
            deltas,
            keys,
            ..
        } = recovered;
        for keyed in keys {
            let (key, content) = (keyed.key, keyed.content);
            owner.keys.remember(key, content, keyed.receipts);
        }
        if checkpoint == restored {
            owner.show();
            let position = Position {
                epoch,
                revision: base.revision,
            };
            let mut ring = owner.publisher.shared().ring();
            ring.reset(position, &base.retained);
            for delta in deltas {
                ring.push(
                    (delta.revision, delta.digest),
                    &delta.changes,
                    &delta.payloads,
                );
            }
        } else {
            owner.batch.checkpoint = Some(checkpoint);
            owner.batch.anew = true;
        }
        (handle, owner)
    }

    /// As [`Owner::run`], with a journal that keeps what is done.
    ///
    /// # Errors
    ///
    /// If the journal did not take a batch. Nothing of that was published; its writers are told that
    /// the node has been shut down and that their mutations may have been run.
    ///
    /// # Cancel safety
    ///
    /// As [`Owner::run`]. The journal has not been told that it was an end in order then.
    pub async fn run_durable(
        mut self,
        stop: impl Future<Output = ()>,
    ) -> Result<Machine<S>, JournalError> {
        let mut stop = pin!(stop);
        if self.batch.checkpoint.is_some() {
            self.keep(stop.as_mut(), &mut false).await?;
            self.show();
        }
        self.drive(stop).await?;
        if J::KEEPS {
            // What was refused since has moved the queue tick only.
            if self.machine.queue_tick() != self.kept_queue_tick {
                let batch = self.finish_batch();
                let kept = tokio::time::timeout(LAST, self.journal.commit(batch)).await;
                kept.unwrap_or_else(|_elapsed| Err(JournalError::new(NotKept)))?;
            }
            self.journal.end().await?;
        }
        Ok(self.machine)
    }
}
