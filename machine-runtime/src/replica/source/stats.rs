//! What a source has done, and whom it serves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::super::follower::Granularity;
use super::peer::Agreed;
use crate::position::Position;
use crate::selection::Selection;

/// What a source has done, for status and metrics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SourceStats {
    inner: Arc<Stats>,
}

#[derive(Debug, Default)]
struct Stats {
    deltas: AtomicU64,
    snapshots: AtomicU64,
    refusals: AtomicU64,
    dropped: AtomicU64,
    full: AtomicU64,
    no_hello: AtomicU64,
    garbage: AtomicU64,
    denials: AtomicU64,
    revoked: AtomicU64,
    // Touched when a follower comes or goes, never while one is served.
    followers: Mutex<BTreeMap<u64, Seen>>,
    /// How many followers there are.
    count: watch::Sender<usize>,
    connections: AtomicU64,
}

/// A follower that is served.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) who: Option<Arc<str>>,
    pub(super) agreed: Agreed,
    /// The position that it has last asked beyond. Nothing awaits under it.
    pub(super) has: Arc<Mutex<Option<Position>>>,
}

/// There is no room for another follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// A follower that is served, and on which terms.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Served {
    /// Its name, as it says.
    pub name: String,
    /// Whom it was admitted as, where that is asked.
    pub who: Option<Arc<str>>,
    /// The position that it has last asked beyond.
    pub position: Option<Position>,
    /// How many revisions of what is shown now it has not asked beyond yet.
    pub lag: u64,
    /// The version of the protocol.
    pub protocol: u16,
    /// The least time between two deltas.
    pub push_interval: Duration,
    /// How long the link may be silent; None in version 1, where it is said with each question.
    pub heartbeat: Option<Duration>,
    /// What it wants to see.
    pub granularity: Granularity,
    /// Whether large answers are compressed.
    pub compress: bool,
    /// The states that travel, if not all.
    pub selection: Option<Selection>,
}

impl SourceStats {
    /// The followers that are served now, while `newest` is shown.
    pub fn served(&self, newest: Option<Position>) -> Vec<Served> {
        let table = self.table();
        let served = table.values().map(|seen| {
            let position = *seen.has.lock().unwrap_or_else(PoisonError::into_inner);
            let lag = newest.map_or(0, |newest| {
                // Of another life it has nothing.
                let has = position.filter(|has| has.epoch == newest.epoch);
                newest
                    .revision
                    .saturating_sub(has.map_or(0, |has| has.revision))
            });
            Served {
                name: seen.name.clone(),
                who: seen.who.clone(),
                position,
                lag,
                protocol: seen.agreed.protocol,
                push_interval: seen.agreed.interval,
                heartbeat: seen.agreed.heartbeat,
                granularity: seen.agreed.granularity,
                compress: seen.agreed.compress,
                selection: seen.agreed.selection.clone(),
            }
        });
        served.collect()
    }

    /// How many followers are served now.
    pub fn followers(&self) -> usize {
        *self.inner.count.borrow()
    }

    /// How many deltas were sent.
    pub fn deltas(&self) -> u64 {
        self.inner.deltas.load(Ordering::Relaxed)
    }

    /// How many snapshots were sent.
    pub fn snapshots(&self) -> u64 {
        self.inner.snapshots.load(Ordering::Relaxed)
    }

    /// How many handshakes were refused.
    pub fn refusals(&self) -> u64 {
        self.inner.refusals.load(Ordering::Relaxed)
    }

    /// How many followers were dropped because they said nothing any more.
    pub fn dropped(&self) -> u64 {
        self.inner.dropped.load(Ordering::Relaxed)
    }

    /// How many handshakes were refused because there was no room for another follower.
    pub fn full(&self) -> u64 {
        self.inner.full.load(Ordering::Relaxed)
    }

    /// How many connections were closed because nobody said hello on them in time.
    pub fn no_hello(&self) -> u64 {
        self.inner.no_hello.load(Ordering::Relaxed)
    }

    /// How many connections were closed because what came over them could not be read.
    pub fn garbage(&self) -> u64 {
        self.inner.garbage.load(Ordering::Relaxed)
    }

    /// How often somebody was not admitted, or not let call a state.
    pub fn denials(&self) -> u64 {
        self.inner.denials.load(Ordering::Relaxed)
    }

    /// How many followers were closed because what they may do had changed.
    pub fn revoked(&self) -> u64 {
        self.inner.revoked.load(Ordering::Relaxed)
    }

    /// Resolves when no follower is served.
    pub(super) async fn deserted(&self) {
        let mut count = self.inner.count.subscribe();
        // The sender is ours.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// A number for a connection.
    pub(super) fn next(&self) -> u64 {
        self.inner.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts a follower on the list, unless there are `most` others. Whether it was not on it before.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room.
    pub(super) fn add(&self, connection: u64, seen: Seen, most: usize) -> Result<bool, Full> {
        let mut table = self.table();
        if table.len() >= most && !table.contains_key(&connection) {
            self.inner.full.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        }
        let is_new = table.insert(connection, seen).is_none();
        self.inner.count.send_replace(table.len());
        Ok(is_new)
    }

    /// Whether a connection would find room on the list, on which there are at most so many.
    pub(super) fn has_room(&self, connection: u64, most: usize) -> Result<(), Full> {
        let table = self.table();
        if table.len() < most || table.contains_key(&connection) {
            return Ok(());
        }
        self.inner.full.fetch_add(1, Ordering::Relaxed);
        Err(Full)
    }

    /// Strikes one off the list; returns its name if it was on it.
    pub(super) fn remove(&self, connection: u64) -> Option<String> {
        let mut table = self.table();
        let seen = table.remove(&connection)?;
        self.inner.count.send_replace(table.len());
        Some(seen.name)
    }

    pub(super) fn count_deltas(&self, count: usize) {
        let count = count as u64;
        self.inner.deltas.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn count_snapshot(&self) {
        self.inner.snapshots.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refusal(&self) {
        self.inner.refusals.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_garbage(&self) {
        self.inner.garbage.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_no_hello(&self) {
        self.inner.no_hello.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self) {
        self.inner.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_denial(&self) {
        self.inner.denials.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_revoked(&self) {
        self.inner.revoked.fetch_add(1, Ordering::Relaxed);
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, Seen>> {
        let table = self.inner.followers.lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }
}
