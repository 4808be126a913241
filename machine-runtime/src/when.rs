//! Waiting for states: futures that cost no task and wake only for the states they name.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What is awaited.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// All of the states are active.
    Active(Vec<u32>),
    /// None of the states is active.
    Inactive(Vec<u32>),
    /// Each state's tick is at least this.
    Ticks(Vec<(u32, u64)>),
}

impl Condition {
    fn holds(&self, tick: impl Fn(u32) -> u64) -> bool {
        match self {
            Self::Active(states) => states.iter().all(|state| tick(*state) % 2 == 1),
            Self::Inactive(states) => states.iter().all(|state| tick(*state).is_multiple_of(2)),
            Self::Ticks(ticks) => ticks.iter().all(|(state, least)| tick(*state) >= *least),
        }
    }

    fn states(&self) -> impl Iterator<Item = u32> + '_ {
        let (states, ticks) = match self {
            Self::Active(states) | Self::Inactive(states) => (states.as_slice(), &[][..]),
            Self::Ticks(ticks) => (&[][..], ticks.as_slice()),
        };
        states
            .iter()
            .copied()
            .chain(ticks.iter().map(|(state, _)| *state))
    }
}

/// The machine or replica behind a view has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the machine has been shut down")]
pub struct Closed;

#[derive(Debug)]
enum Progress {
    Waiting(Option<Waker>),
    Over(Result<(), Closed>),
}

#[derive(Debug)]
struct Waiter {
    condition: Condition,
    progress: Progress,
}

/// Everybody who waits on one view.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// The number of entries in `table`, readable without its lock.
    count: AtomicUsize,
    // Nothing awaits under it; it is held for as long as a table entry is looked at.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    closed: bool,
    waiters: HashMap<u64, Waiter>,
    by_state: HashMap<u32, BTreeSet<u64>>,
    /// Registered since the last publication: what they were checked against may be behind the
    /// machine, so the next publication checks them once more.
    fresh: BTreeSet<u64>,
}

impl Waiters {
    /// Whether nobody waits. To be asked after the publication that a newcomer may have missed.
    pub(crate) fn is_empty(&self) -> bool {
        // Pairs with the fence in `wait`: either we see the newcomer or it sees what we published.
        fence(Ordering::SeqCst);
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Wakes those of the changed states' waiters whose condition holds now.
    pub(crate) fn changed(
        &self,
        states: impl Iterator<Item = u32>,
        tick: impl Fn(u32) -> u64 + Copy,
    ) {
        let mut table = self.table();
        for state in states {
            let Some(ids) = table.by_state.get(&state) else {
                continue;
            };
            for id in ids.clone() {
                table.check(id, tick);
            }
        }
    }

    /// Checks those who registered since the last publication.
    pub(crate) fn published(&self, tick: impl Fn(u32) -> u64 + Copy) {
        let mut table = self.table();
        for id in std::mem::take(&mut table.fresh) {
            table.check(id, tick);
        }
    }

    /// Checks everybody: after a snapshot, anything may have changed.
    pub(crate) fn replaced(&self, tick: impl Fn(u32) -> u64 + Copy) {
        let mut table = self.table();
        table.fresh.clear();
        let ids: Vec<u64> = table.waiters.keys().copied().collect();
        for id in ids {
            table.check(id, tick);
        }
    }

    /// Ends everybody's waiting.
    pub(crate) fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        for waiter in table.waiters.values_mut() {
            waiter.finish(Err(Closed));
        }
    }

    /// Begins to wait. `published` reads a state's tick as it is published at that moment, if
    /// anything is.
    pub(crate) fn wait<T: Fn(u32) -> u64>(
        self: &Arc<Self>,
        condition: Condition,
        published: impl FnOnce() -> Option<T>,
    ) -> When {
        let mut table = self.table();
        self.count.store(table.waiters.len() + 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let progress = match published() {
            Some(tick) if condition.holds(&tick) => Progress::Over(Ok(())),
            _ if table.closed => Progress::Over(Err(Closed)),
            _ => Progress::Waiting(None),
        };
        let id = table.next;
        table.next += 1;
        for state in condition.states() {
            table.by_state.entry(state).or_default().insert(id);
        }
        table.fresh.insert(id);
        table.waiters.insert(
            id,
            Waiter {
                condition,
                progress,
            },
        );
        drop(table);
        When {
            waiters: Arc::clone(self),
            id,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic under the lock can only come from a waker; the table is whole all the same.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn check(&mut self, id: u64, tick: impl Fn(u32) -> u64) {
        if let Some(waiter) = self.waiters.get_mut(&id)
            && matches!(waiter.progress, Progress::Waiting(_))
            && waiter.condition.holds(tick)
        {
            waiter.finish(Ok(()));
        }
    }
}

impl Waiter {
    fn finish(&mut self, result: Result<(), Closed>) {
        if let Progress::Waiting(waker) = &mut self.progress {
            let waker = waker.take();
            self.progress = Progress::Over(result);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Resolves once states are as awaited, even if they no longer are when it is polled. Fails once
/// the machine has ended.
///
/// # Cancel safety
///
/// Dropping it ends the waiting and nothing else.
#[must_use = "futures do nothing unless awaited"]
pub struct When {
    waiters: Arc<Waiters>,
    id: u64,
}

impl Future for When {
    type Output = Result<(), Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut table = self.waiters.table();
        let waiter = table
            .waiters
            .get_mut(&self.id)
            .expect("a waiter is there until it drops");
        match &mut waiter.progress {
            Progress::Over(result) => Poll::Ready(*result),
            Progress::Waiting(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for When {
    fn drop(&mut self) {
        let mut table = self.waiters.table();
        let Some(waiter) = table.waiters.remove(&self.id) else {
            return;
        };
        for state in waiter.condition.states() {
            if let Some(ids) = table.by_state.get_mut(&state) {
                ids.remove(&self.id);
                if ids.is_empty() {
                    table.by_state.remove(&state);
                }
            }
        }
        table.fresh.remove(&self.id);
        self.waiters
            .count
            .store(table.waiters.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
