//! How a store is doing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::position::Position;

/// How a [`Store`](super::Store) is doing, now and later. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StoreStats(Arc<Mutex<Now>>);

#[derive(Debug, Default)]
pub(super) struct Now {
    pub(super) commits: u64,
    pub(super) bytes: u64,
    pub(super) last_sync: Duration,
    pub(super) waiting_for_room: Option<String>,
    pub(super) position: Option<Position>,
}

impl StoreStats {
    pub(super) fn now(&self) -> MutexGuard<'_, Now> {
        // Its fields are set one by one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many batches were kept since it was opened.
    pub fn commits(&self) -> u64 {
        self.now().commits
    }

    /// How many bytes of batches and checkpoints that were, before the database under it added its own.
    pub fn bytes(&self) -> u64 {
        self.now().bytes
    }

    /// How long the last sync took.
    pub fn last_sync(&self) -> Duration {
        self.now().last_sync
    }

    /// Why the last batch has to wait, if the disk is full: reads go on at the last position that is
    /// kept, and writers wait.
    pub fn waiting_for_room(&self) -> Option<String> {
        self.now().waiting_for_room.clone()
    }

    /// Where the kept history ends.
    pub fn position(&self) -> Option<Position> {
        self.now().position
    }
}
