//! Everybody who waits on one view.
//!
//! What a newcomer is checked against may be behind the machine. So it is *fresh* until the next
//! publication, which checks it once more: it first marks what it awaits and then reads what is
//! published, the writer first publishes and then looks whether anybody is fresh, and a fence on
//! both sides sees to it that one of them sees the other.
//!
//! Conditions and wakers may run code of whoever waits, so neither runs under the lock.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::errors::{discard, wake};
use crate::marks::Marks;
use crate::transition::Change;

use super::Closed;
use super::condition::{Condition, Found, Moment};

/// Everybody who waits on one view.
#[derive(Debug)]
pub(crate) struct Waiters {
    /// The states that somebody awaits.
    awaited: Marks,
    /// Whether `fresh` has an entry, readable without the lock.
    any_fresh: AtomicBool,
    // Nothing awaits under it, and no code of others runs; it is held while entries are found.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    closed: bool,
    waiters: HashMap<u64, Waiter>,
    /// Who still waits for a state.
    by_state: HashMap<u32, BTreeSet<u64>>,
    fresh: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiter {
    condition: Arc<Condition>,
    progress: Progress,
}

/// How far a waiter is.
#[derive(Debug)]
pub(super) enum Progress {
    Waiting(Option<Waker>),
    Over(Result<Found, Closed>),
    /// The condition panicked. That is the waiter's matter; empty once it knows.
    Panicked(Option<Box<dyn Any + Send>>),
}

/// Those who are to be asked.
type Asked = [(u64, Arc<Condition>)];

impl Waiters {
    /// Nobody waits yet for any of so many states.
    pub(crate) fn new(states: usize) -> Self {
        Self {
            awaited: Marks::new(states),
            any_fresh: AtomicBool::new(false),
            table: Mutex::default(),
        }
    }

    /// Whether somebody awaits one of the changed states. Takes no lock.
    #[inline]
    pub(super) fn concern(&self, changes: &[Change]) -> bool {
        let mut changes = changes.iter();
        changes.any(|change| self.awaited.contains(change.state))
    }

    /// Whether somebody has come since the last publication. To be asked after one.
    pub(super) fn is_any_fresh(&self) -> bool {
        fence(Ordering::SeqCst);
        self.any_fresh.load(Ordering::Relaxed)
    }

    /// Asks those of the states' waiters; returns those for whom it is over, for [`Waiters::finish`].
    pub(super) fn changed(
        &self,
        states: impl Iterator<Item = u32>,
        moment: &dyn Moment,
    ) -> Vec<(u64, Progress)> {
        let table = self.table();
        let mut asked = BTreeSet::new();
        for ids in states.filter_map(|state| table.by_state.get(&state)) {
            asked.extend(ids);
        }
        let asked = table.asked(&asked);
        drop(table);
        let over = ask(&asked, moment);
        // It may be the last that holds what somebody asks.
        discard(asked);
        over
    }

    /// Checks those who have come since the last publication, or only forgets that they are new.
    pub(super) fn published(&self, moment: Option<&dyn Moment>) {
        let mut table = self.table();
        self.any_fresh.store(false, Ordering::Relaxed);
        let fresh = std::mem::take(&mut table.fresh);
        if let Some(moment) = moment {
            let asked = table.asked(&fresh);
            drop(table);
            self.finish(ask(&asked, moment));
            discard(asked);
        }
    }

    /// Checks everybody: after a snapshot, anything may have changed. `next_after` gives the tick
    /// that next activations count from if that is new too.
    pub(super) fn replaced(&self, moment: &dyn Moment, next_after: Option<&dyn Fn(u32) -> u64>) {
        let mut table = self.table();
        table.fresh.clear();
        self.any_fresh.store(false, Ordering::Relaxed);
        if let Some(after) = next_after {
            for waiter in table.waiters.values_mut() {
                if let Condition::Next(state, _) = *waiter.condition {
                    waiter.condition = Arc::new(Condition::next(state, after(state)));
                }
            }
        }
        let ids = table.waiters.keys().copied().collect();
        let asked = table.asked(&ids);
        drop(table);
        self.finish(ask(&asked, moment));
        discard(asked);
    }

    /// Ends everybody's waiting.
    pub(super) fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        let ids: Vec<u64> = table.waiters.keys().copied().collect();
        drop(table);
        let over = ids.into_iter().map(|id| (id, Progress::Over(Err(Closed))));
        self.finish(over.collect());
    }

    /// Begins to wait. `published` is asked for what is published at that moment, if anything is.
    pub(super) fn wait<M: Moment>(
        self: &Arc<Self>,
        condition: Condition,
        published: impl FnOnce() -> Option<M>,
    ) -> Wait {
        let condition = Arc::new(condition);
        let mut table = self.table();
        let closed = table.closed;
        let id = table.next;
        table.next += 1;
        for state in condition.states() {
            table.by_state.entry(state).or_default().insert(id);
            self.awaited.mark(state);
        }
        table.fresh.insert(id);
        table.waiters.insert(
            id,
            Waiter {
                condition: Arc::clone(&condition),
                progress: Progress::Waiting(None),
            },
        );
        self.any_fresh.store(true, Ordering::Relaxed);
        drop(table);
        // If the condition panics, dropping this ends the waiting.
        let wait = Wait {
            waiters: Arc::clone(self),
            id,
        };
        fence(Ordering::SeqCst);
        let found = published().and_then(|moment| condition.holds(&moment));
        let over = match found {
            Some(found) => Ok(found),
            None if closed => Err(Closed),
            None => return wait,
        };
        // Nobody has polled it yet, so there is nobody to wake.
        self.finish(vec![(id, Progress::Over(over))]);
        wait
    }

    /// Ends the waiting of those who still wait.
    pub(super) fn finish(&self, over: Vec<(u64, Progress)>) {
        if over.is_empty() {
            return;
        }
        let (wakers, gone) = self.table().finish(over, &self.awaited);
        wake(wakers);
        // A condition may have panicked with what panics again as it drops.
        discard(gone);
    }

    /// What is waited for, of so many waiters at most.
    #[cfg(feature = "debug")]
    pub(crate) fn conditions(&self, most: usize) -> Vec<Arc<Condition>> {
        let table = self.table();
        let waiting = table.waiters.values();
        let waiting = waiting.filter(|waiter| matches!(waiter.progress, Progress::Waiting(_)));
        let conditions = waiting.map(|waiter| Arc::clone(&waiter.condition));
        conditions.take(most).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Only an exhausted memory could panic under it; entries are whole all the same.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait, and how many entries are kept for their states.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let table = self.table();
        let entries = table.by_state.values().map(BTreeSet::len).sum::<usize>();
        (table.waiters.len(), entries + table.fresh.len())
    }
}

/// Those of `asked` for whom it is over.
fn ask(asked: &Asked, moment: &dyn Moment) -> Vec<(u64, Progress)> {
    let mut over = Vec::new();
    for (id, condition) in asked {
        let holds = catch_unwind(AssertUnwindSafe(|| condition.holds(moment)));
        match holds {
            Ok(None) => {}
            Ok(Some(found)) => over.push((*id, Progress::Over(Ok(found)))),
            Err(panic) => over.push((*id, Progress::Panicked(Some(panic)))),
        }
    }
    over
}

impl Table {
    /// Those of `ids` who still wait, in the order in which they came.
    fn asked(&self, ids: &BTreeSet<u64>) -> Box<Asked> {
        let waiting = ids.iter().filter_map(|id| {
            let waiter = self.waiters.get(id)?;
            matches!(waiter.progress, Progress::Waiting(_))
                .then(|| (*id, Arc::clone(&waiter.condition)))
        });
        waiting.collect()
    }

    /// Ends the waiting of those who still wait; returns whom to wake, and what nobody waits for any
    /// more.
    fn finish(
        &mut self,
        over: Vec<(u64, Progress)>,
        awaited: &Marks,
    ) -> (Vec<Waker>, Vec<Progress>) {
        let (mut wakers, mut gone) = (Vec::new(), Vec::new());
        for (id, result) in over {
            let Some(waiter) = self.waiters.get_mut(&id) else {
                gone.push(result);
                continue;
            };
            if let Progress::Waiting(waker) = &mut waiter.progress {
                wakers.extend(waker.take());
                waiter.progress = result;
                let condition = Arc::clone(&waiter.condition);
                self.forget(id, &condition, awaited);
            } else {
                gone.push(result);
            }
        }
        (wakers, gone)
    }

    /// Takes a waiter out of whatever would ask it.
    fn forget(&mut self, id: u64, condition: &Condition, awaited: &Marks) {
        for state in condition.states() {
            if let Some(ids) = self.by_state.get_mut(&state) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_state.remove(&state);
                    awaited.unmark(state);
                }
            }
        }
        self.fresh.remove(&id);
    }
}

/// One who waits, until it drops.
pub(super) struct Wait {
    waiters: Arc<Waiters>,
    pub(super) id: u64,
}

impl Wait {
    /// # Panics
    ///
    /// As the condition did.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Result<Found, Closed>> {
        let mut table = self.waiters.table();
        let waiter = table.waiters.get_mut(&self.id);
        let waiter = waiter.expect("a waiter is there until it drops");
        match &mut waiter.progress {
            Progress::Over(result) => Poll::Ready(result.clone()),
            Progress::Waiting(waker) => {
                let known = waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(cx.waker()));
                let before = (!known).then(|| waker.replace(cx.waker().clone()));
                // Not under the lock: it may be the last that holds a task.
                drop(table);
                drop(before);
                Poll::Pending
            }
            Progress::Panicked(panic) => {
                let panic = panic.take();
                drop(table);
                resume_unwind(
                    panic.unwrap_or_else(|| Box::new("polled after its condition panicked")),
                )
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut table = self.waiters.table();
        let waiter = table.waiters.remove(&self.id);
        if let Some(waiter) = &waiter {
            table.forget(self.id, &waiter.condition, &self.waiters.awaited);
        }
        // What it captured may have a drop of its own.
        drop(table);
        drop(waiter);
    }
}
