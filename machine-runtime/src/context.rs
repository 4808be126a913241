//! Contexts of states: work that ends when the state that it belongs to ticks.
//!
//! Knows neither machines nor tokio: whoever owns ticks says when one moves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
#[cfg(feature = "tokio")]
use std::sync::atomic::fence;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use crate::errors::wake;
use crate::marks::Marks;

/// A state at one of its ticks. It ends for good once the state ticks, be it because the state
/// begins, ends or is called again (rule R18), and when the machine ends or a replica's root
/// begins a new epoch.
///
/// Cheap to clone. It may be of an inactive state; then it ends when that begins.
///
/// ```
/// # async fn example(view: machine_runtime::View<machine_runtime::DynState>) {
/// # let boarding = machine_runtime::DynState(1);
/// # async fn call_passengers() {}
/// let context = view.context(boarding);
/// // Dropped wherever it is once boarding is over.
/// let _called = context.run(call_passengers()).await;
/// # }
/// ```
#[derive(Clone)]
pub struct StateContext {
    inner: Arc<Inner>,
}

struct Inner {
    state: u32,
    tick: u64,
    contexts: Arc<Contexts>,
    /// Changes under the lock of `wakers` only.
    ended: AtomicBool,
    // Nothing awaits under it, and no waker runs.
    wakers: Mutex<Wakers>,
}

#[derive(Default)]
struct Wakers {
    next: u64,
    by_place: BTreeMap<u64, Waker>,
}

/// The state of a context has ticked: the work was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the state of the context has ticked")]
pub struct Expired;

impl StateContext {
    /// The tick that it is bound to.
    pub fn tick(&self) -> u64 {
        self.inner.tick
    }

    /// Whether the state is active at that tick.
    pub fn is_active(&self) -> bool {
        self.inner.tick % 2 == 1
    }

    /// Whether the state has ticked.
    pub fn is_ended(&self) -> bool {
        self.inner.ended.load(Ordering::Acquire)
    }

    /// Resolves once the state ticks.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the waiting and nothing else.
    pub fn ended(&self) -> Ended {
        Ended {
            context: self.clone(),
            place: None,
        }
    }

    /// Runs `work` until it is done or the state ticks, whichever is first.
    ///
    /// # Errors
    ///
    /// [`Expired`] if the state ticked: `work` is dropped where it was. Of an ended context it is
    /// never polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `work`.
    pub fn run<F: Future>(
        &self,
        work: F,
    ) -> impl Future<Output = Result<F::Output, Expired>> + use<F> {
        let ended = self.ended();
        async move {
            let (mut ended, mut work) = (pin!(ended), pin!(work));
            poll_fn(|cx| match ended.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(Expired)),
                Poll::Pending => work.as_mut().poll(cx).map(Ok),
            })
            .await
        }
    }
}

impl Inner {
    fn end(&self) {
        let mut wakers = self.wakers();
        self.ended.store(true, Ordering::Release);
        let woken = std::mem::take(&mut wakers.by_place);
        drop(wakers);
        wake(woken.into_values());
    }

    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        // Only an exhausted memory could panic under it; the list is whole all the same.
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.contexts.forget((self.state, self.tick));
    }
}

impl fmt::Debug for StateContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateContext")
            .field("state", &self.inner.state)
            .field("tick", &self.inner.tick)
            .field("ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}

/// Resolves once the state of a [`StateContext`] ticks.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Ended {
    context: StateContext,
    place: Option<u64>,
}

impl Future for Ended {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut wakers = this.context.inner.wakers();
        if this.context.is_ended() {
            return Poll::Ready(());
        }
        let place = *this.place.get_or_insert(wakers.next);
        if place == wakers.next {
            wakers.next += 1;
        }
        let known = wakers.by_place.get(&place);
        let known = known.is_some_and(|waker| waker.will_wake(cx.waker()));
        let before = (!known).then(|| wakers.by_place.insert(place, cx.waker().clone()));
        // Not under the lock: it may be the last that holds a task.
        drop(wakers);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.context.inner.wakers().by_place.remove(&place);
            // Not under the lock: it may be the last that holds a task.
            drop(waker);
        }
    }
}

/// All contexts of one machine or replica.
pub(crate) struct Contexts {
    /// How many entries `table` has, readable without its lock.
    count: AtomicUsize,
    /// The states that have a context.
    marks: Marks,
    /// Whether `fresh` has an entry, readable without the lock.
    any_fresh: AtomicBool,
    // Nothing awaits under it, no waker runs, and no context drops.
    table: Mutex<Table>,
}

/// A state and its tick.
type Key = (u32, u64);

#[derive(Default)]
struct Table {
    closed: bool,
    live: BTreeMap<Key, Weak<Inner>>,
    /// Made since the last publication, perhaps from a tick that the machine had left by then.
    fresh: BTreeSet<Key>,
}

impl Contexts {
    /// None yet, of so many states.
    pub(crate) fn new(states: usize) -> Self {
        Self {
            count: AtomicUsize::new(0),
            marks: Marks::new(states),
            any_fresh: AtomicBool::new(false),
            table: Mutex::default(),
        }
    }

    /// Whether there are none, so that a tick concerns nobody. Takes no lock.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// The context of a state at the tick that it has now. Of a machine that has ended, it is
    /// ended.
    pub(crate) fn get(self: &Arc<Self>, state: u32, tick: u64) -> StateContext {
        let key = (state, tick);
        let mut table = self.table();
        if let Some(inner) = table.live.get(&key).and_then(Weak::upgrade) {
            return StateContext { inner };
        }
        let inner = Arc::new(Inner {
            state,
            tick,
            contexts: Arc::clone(self),
            ended: AtomicBool::new(table.closed),
            wakers: Mutex::default(),
        });
        if !table.closed {
            table.live.insert(key, Arc::downgrade(&inner));
            table.fresh.insert(key);
            self.any_fresh.store(true, Ordering::Relaxed);
            self.marks.mark(state);
            self.count.store(table.live.len(), Ordering::Relaxed);
        }
        StateContext { inner }
    }

    #[cfg(feature = "tokio")]
    /// The context of a state at its published tick. If the machine has left that tick already, it
    /// ends with the next publication.
    pub(crate) fn get_published(
        self: &Arc<Self>,
        state: u32,
        published: impl Fn() -> u64,
    ) -> StateContext {
        loop {
            let context = self.get(state, published());
            // Pairs with the fence in `published`: either the next publication sees the context or
            // we see that publication.
            fence(Ordering::SeqCst);
            if published() == context.tick() {
                return context;
            }
        }
    }

    /// The context of a state at a tick that a reader of `published` has come to. If what is published
    /// is elsewhere by now, it is ended.
    #[cfg(feature = "tokio")]
    pub(crate) fn get_behind(
        self: &Arc<Self>,
        state: u32,
        tick: u64,
        published: impl Fn() -> u64,
    ) -> StateContext {
        let context = self.get(state, tick);
        // Pairs with the fence in `published`, as in `get_published`.
        fence(Ordering::SeqCst);
        if published() != tick {
            self.end(|_| vec![(state, tick)]);
            context.inner.end();
        }
        context
    }

    /// A state has this tick now: what was bound to an earlier one ends.
    #[inline]
    pub(crate) fn ticked(&self, state: u32, tick: u64) {
        if self.marks.contains(state) {
            self.end(|table| {
                let live = table.live.range((state, 0)..(state, tick));
                live.map(|(key, _)| *key).collect()
            });
        }
    }

    #[cfg(feature = "tokio")]
    /// The ticks are published: ends what was made since the last time from older ones.
    pub(crate) fn published(&self, tick: impl Fn(u32) -> u64) {
        fence(Ordering::SeqCst);
        if self.any_fresh.load(Ordering::Relaxed) {
            self.end(|table| {
                self.any_fresh.store(false, Ordering::Relaxed);
                let fresh = std::mem::take(&mut table.fresh).into_iter();
                fresh.filter(|(state, of)| *of < tick(*state)).collect()
            });
        }
    }

    #[cfg(feature = "tokio")]
    /// The ticks were replaced; `all`: by those of another history.
    pub(crate) fn replaced(&self, all: bool, tick: impl Fn(u32) -> u64) {
        self.end(|table| {
            self.any_fresh.store(false, Ordering::Relaxed);
            table.fresh.clear();
            let live = table.live.keys().copied();
            live.filter(|(state, of)| all || *of != tick(*state))
                .collect()
        });
    }

    #[cfg(feature = "tokio")]
    /// No state will tick any more.
    pub(crate) fn close(&self) {
        self.end(|table| {
            table.closed = true;
            table.live.keys().copied().collect()
        });
    }

    fn end(&self, which: impl FnOnce(&mut Table) -> Vec<Key>) {
        let mut table = self.table();
        let keys = which(&mut table);
        let removed = keys.iter().filter_map(|key| self.remove(&mut table, *key));
        let ended: Vec<Weak<Inner>> = removed.collect();
        drop(table);
        for context in ended.iter().filter_map(Weak::upgrade) {
            context.end();
        }
    }

    fn forget(&self, key: Key) {
        let mut table = self.table();
        // It may have been replaced since by another of the same key.
        if table.live.get(&key).is_some_and(|c| c.strong_count() == 0) {
            self.remove(&mut table, key);
        }
    }

    fn remove(&self, table: &mut Table, key: Key) -> Option<Weak<Inner>> {
        let (state, _) = key;
        let removed = table.live.remove(&key);
        table.fresh.remove(&key);
        let mut others = table.live.range((state, 0)..=(state, u64::MAX));
        if others.next().is_none() {
            self.marks.unmark(state);
        }
        self.count.store(table.live.len(), Ordering::Relaxed);
        removed
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Only an exhausted memory could panic under it; entries are whole all the same.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contexts")
            .field("count", &self.count.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
