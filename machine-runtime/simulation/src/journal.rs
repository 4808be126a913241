//! Where a root of the simulation keeps its history: on a simulated disk or nowhere. Whatever the machine
//! does is told to the checks first.

use std::time::Duration;

use machine_runtime::durable::Store;
use machine_runtime::{Batch, Journal, JournalError};
use tokio::time::sleep;

use crate::checks::Checks;
use crate::disk::Disk;
use crate::planted::StoreFault;

/// How long a store waits for room on a full disk before it tries again.
const ROOM: Duration = Duration::from_millis(50);

/// A journal that tells the checks.
#[derive(Debug)]
pub struct Recorder {
    checks: Checks,
    store: Option<(Store, Disk)>,
    fault: Option<StoreFault>,
}

impl Recorder {
    /// A journal on a disk, or one that keeps nothing.
    pub fn new(checks: Checks, store: Option<(Store, Disk)>, fault: Option<StoreFault>) -> Self {
        Self {
            checks,
            store,
            fault,
        }
    }

    /// Commits a batch as it is to be.
    async fn keep(&mut self, batch: &Batch) -> Result<(), JournalError> {
        let Some((store, disk)) = &mut self.store else {
            return Ok(());
        };
        let takes = disk.next_sync();
        if takes > 0 {
            sleep(Duration::from_millis(takes)).await;
        }
        loop {
            match store.commit_now(batch) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_full() => sleep(ROOM).await,
                Err(error) => return Err(JournalError::new(error)),
            }
        }
    }
}

impl Journal for Recorder {
    const KEEPS: bool = true;

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        self.checks.moved(&batch);
        let Some(fault) = &mut self.fault else {
            return self.keep(&batch).await;
        };
        for batch in fault.kept(batch) {
            self.keep(&batch).await?;
        }
        Ok(())
    }

    fn wants_checkpoint(&self) -> bool {
        let store = self.store.as_ref();
        store.is_some_and(|(store, _)| store.wants_checkpoint())
    }

    async fn end(&mut self) -> Result<(), JournalError> {
        match self.store.take() {
            Some((store, _)) => store.close().map_err(JournalError::new),
            None => Ok(()),
        }
    }
}
