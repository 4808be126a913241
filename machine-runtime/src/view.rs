//! What a machine or a replica shows to readers, and how it gets there.
//!
//! The writer publishes whole moments; readers hold on to one for as long as they like and never
//! wait for the writer, nor it for them. Both a [`Handle`](crate::Handle)'s task and a follower
//! write through a `Publisher`, so whatever can be done with a [`View`] works on a root and on
//! a leaf alike.

use std::cmp;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::context::{Contexts, StateContext};
use crate::explain::Explanation;
use crate::handlers::Cause;
use crate::mutation::{Mutation, Outcome};
use crate::observe::Observers;
#[cfg(feature = "serde")]
use crate::payload::{InvalidPayload, PayloadOf};
use crate::position::Position;
use crate::queue::{Waiting, decided};
use crate::ring::{RING_BYTES, RING_DELTAS, Ring, summed};
use crate::schema::{Schema, as_index};
#[cfg(feature = "replica")]
use crate::selection::Selection;
use crate::set::{StateSet, ones};
use crate::state::{DynState, State, Words};
use crate::trace::Traces;
use crate::transition::{Change, Request, Status};
use crate::when::Waiters;

/// How long a replica goes without news of its root until it is stale, unless told otherwise.
pub const STALE_AFTER: Duration = Duration::from_secs(3);

/// One moment of a machine: a position and everything that holds at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    position: Position,
    digest: u64,
    ticks: Vec<u64>,
    active: Vec<u64>,
    retained: BTreeMap<u32, Bytes>,
}

impl Snapshot {
    /// A moment made of its parts; `digest` has to be theirs.
    pub(crate) fn new(
        position: Position,
        digest: u64,
        ticks: Vec<u64>,
        retained: BTreeMap<u32, Bytes>,
    ) -> Self {
        let mut active = vec![0; ticks.len().div_ceil(64)];
        for (i, _) in ticks.iter().enumerate().filter(|(_, tick)| *tick % 2 == 1) {
            active[i / 64] |= 1 << (i % 64);
        }
        Self {
            position,
            digest,
            ticks,
            active,
            retained,
        }
    }

    /// Says where this moment is, once it has caught up.
    pub(crate) fn arrive(&mut self, position: Position, digest: u64) {
        self.position = position;
        self.digest = digest;
    }

    /// Where in the root's history this moment is.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The digest of all ticks and retained payloads, see [`Machine::digest`](crate::Machine).
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// All ticks in index order; odd means active.
    pub fn ticks(&self) -> &[u64] {
        &self.ticks
    }

    /// Whether state `index` is active.
    pub fn is_active(&self, index: usize) -> bool {
        self.ticks.get(index).is_some_and(|tick| tick % 2 == 1)
    }

    /// The indices of the active states, in order.
    pub fn active(&self) -> impl Iterator<Item = usize> + '_ {
        ones(&self.active)
    }

    /// The active states.
    pub fn active_set<S: State>(&self) -> StateSet<S> {
        let mut words = S::Words::EMPTY;
        words.words_mut(self.active.len())[..self.active.len()].copy_from_slice(&self.active);
        StateSet::from_words(words)
    }

    /// The retained payloads by state index.
    pub fn retained(&self) -> &BTreeMap<u32, Bytes> {
        &self.retained
    }

    /// Takes over what changed from the newest `ticks`.
    pub(crate) fn catch_up(
        &mut self,
        changes: &[Change],
        payloads: &[(u32, Option<Bytes>)],
        ticks: &[u64],
    ) {
        for change in changes {
            let i = change.state as usize;
            self.ticks[i] = ticks[i];
            let bit = 1 << (i % 64);
            if ticks[i] % 2 == 1 {
                self.active[i / 64] |= bit;
            } else {
                self.active[i / 64] &= !bit;
            }
        }
        for (state, payload) in payloads {
            match payload {
                Some(payload) => self.retained.insert(*state, payload.clone()),
                None => self.retained.remove(state),
            };
        }
    }
}

/// What changed between a position and a view's newest moment.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Changes {
    /// Nothing: the newest moment is at this position.
    Current,
    /// These states ticked, each once and in index order.
    Ticked {
        /// The newest moment.
        now: Arc<Snapshot>,
        /// The states and how often they ticked.
        states: Vec<(usize, u32)>,
    },
    /// The view has not reached the position yet.
    Ahead,
    /// The position is not, or no longer, one that the view can tell the changes from.
    Compacted,
    /// The position is of another epoch, or the view shows nothing yet.
    OtherEpoch,
}

/// A tick; 0 for a state that the schema does not have, which one may wait for in vain.
pub(crate) fn tick_of(ticks: &[u64], state: u32) -> u64 {
    ticks.get(state as usize).copied().unwrap_or(0)
}

/// How much of the past a view keeps, and when it is stale.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ViewOptions {
    /// The most deltas that a follower can resume from.
    pub ring_deltas: usize,
    /// The most bytes that these deltas take.
    pub ring_bytes: usize,
    /// How long without news of the root until the view is stale.
    pub stale_after: Duration,
    /// Who is told of what happens; nobody, unless told otherwise. No two views have the same.
    pub observers: Option<Observers>,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self {
            ring_deltas: RING_DELTAS,
            ring_bytes: RING_BYTES,
            stale_after: STALE_AFTER,
            observers: None,
        }
    }
}

/// A read-only look at a machine or a replica. Cheap to clone; reads never wait.
pub struct View<S: State> {
    shared: Arc<Shared>,
    states: PhantomData<S>,
}

/// What readers and the writer have in common.
pub(crate) struct Shared {
    schema: Arc<Schema>,
    options: ViewOptions,
    current: ArcSwapOption<Snapshot>,
    /// Announces each publication, and ends with the writer. What it carries is the position of
    /// `current`.
    news: watch::Receiver<Option<Position>>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) contexts: Arc<Contexts>,
    // Nothing awaits under it; it is held while deltas are appended or copied out.
    ring: Mutex<Ring>,
    start: Instant,
    /// When what we show was last known to be the root's newest, in ns after what is `BEFORE` ahead of
    /// `start`; `ALWAYS_FRESH` on the root.
    fresh: AtomicU64,
    /// Announces that `fresh` moved.
    #[cfg(feature = "replica")]
    pub(crate) freshened: tokio::sync::Notify,
    /// How many links there are to the root; `NO_TIER` until that is known.
    tier: AtomicU32,
    traces: Traces,
    /// The states that are shown, if not all.
    #[cfg(feature = "replica")]
    selection: ArcSwapOption<Selection>,
}

const NO_TIER: u32 = u32::MAX;

const ALWAYS_FRESH: u64 = u64::MAX;

/// How long before a view began what it shows can have been the root's newest: as long as an answer can
/// say.
#[cfg(feature = "replica")]
const BEFORE: Duration = Duration::from_millis(u32::MAX as u64);
#[cfg(not(feature = "replica"))]
const BEFORE: Duration = Duration::ZERO;

/// As nanoseconds, of which there are fewer than `ALWAYS_FRESH`.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(ALWAYS_FRESH - 1)
}

impl Shared {
    /// Nothing to show yet. `root`: what will be shown is always fresh.
    pub(crate) fn new(
        schema: Arc<Schema>,
        contexts: Arc<Contexts>,
        options: ViewOptions,
        news: watch::Receiver<Option<Position>>,
        root: bool,
    ) -> Self {
        let states = schema.len();
        let ring = Ring::new(options.ring_deltas, options.ring_bytes);
        Self {
            schema,
            options,
            current: ArcSwapOption::empty(),
            news,
            waiters: Arc::new(Waiters::new(states)),
            contexts,
            ring: Mutex::new(ring),
            start: Instant::now(),
            fresh: AtomicU64::new(if root { ALWAYS_FRESH } else { nanos(BEFORE) }),
            #[cfg(feature = "replica")]
            freshened: tokio::sync::Notify::new(),
            tier: AtomicU32::new(if root { 0 } else { NO_TIER }),
            traces: Traces::default(),
            #[cfg(feature = "replica")]
            selection: ArcSwapOption::empty(),
        }
    }

    /// Shows `snapshot` from now on; returns what was shown before.
    pub(crate) fn show(&self, snapshot: Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        self.current.swap(Some(snapshot))
    }

    /// Notes how many links there are to the root.
    #[cfg(feature = "replica")]
    pub(crate) fn set_tier(&self, tier: u32) {
        self.tier.store(tier, Ordering::Relaxed);
    }

    /// Notes which states are shown, if not all.
    #[cfg(feature = "replica")]
    pub(crate) fn select(&self, selection: Option<Selection>) {
        self.selection.store(selection.map(Arc::new));
    }

    #[cfg(feature = "replica")]
    pub(crate) fn selection(&self) -> Option<Selection> {
        let selection = self.selection.load();
        selection.as_ref().map(|selection| (**selection).clone())
    }

    /// Notes that what is shown was the root's newest `age` ago.
    #[cfg(feature = "replica")]
    pub(crate) fn freshen(&self, age: Duration) {
        let fresh = nanos(self.now().saturating_sub(age));
        let before = self.fresh.fetch_max(fresh, Ordering::Relaxed);
        // Less is no news: two nodes that follow each other would tell each other so for ever.
        if fresh.saturating_sub(before) >= nanos(Duration::from_millis(1)) {
            self.freshened.notify_waiters();
        }
    }

    /// Notes that what is about to be shown, and does not follow from what was, was the root's newest `age`
    /// ago.
    #[cfg(feature = "replica")]
    pub(crate) fn renew(&self, age: Duration) {
        let fresh = nanos(self.now().saturating_sub(age));
        self.fresh.store(fresh, Ordering::Relaxed);
    }

    /// The time since `BEFORE` the view began.
    fn now(&self) -> Duration {
        BEFORE + self.start.elapsed()
    }

    /// Lets what is shown age: nobody will renew it.
    pub(crate) fn abandon(&self) {
        let now = nanos(self.now());
        // It fails on a replica, whose age grows anyway.
        let (relaxed, fresh) = (Ordering::Relaxed, &self.fresh);
        let _ = fresh.compare_exchange(ALWAYS_FRESH, now, relaxed, relaxed);
    }

    pub(crate) fn observers(&self) -> Option<&Observers> {
        self.options.observers.as_ref()
    }

    pub(crate) fn traces(&self) -> &Traces {
        &self.traces
    }

    pub(crate) fn ring(&self) -> MutexGuard<'_, Ring> {
        // Only an exhausted memory could panic under it, and then appends were whole or not made.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "replica")]
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn positions(&self) -> watch::Receiver<Option<Position>> {
        let mut positions = self.news.clone();
        positions.mark_unchanged();
        positions
    }

    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    pub(crate) fn tier(&self) -> Option<u32> {
        let tier = self.tier.load(Ordering::Relaxed);
        (tier != NO_TIER).then_some(tier)
    }

    pub(crate) fn age(&self) -> Duration {
        match self.fresh.load(Ordering::Relaxed) {
            ALWAYS_FRESH => Duration::ZERO,
            fresh => self.now().saturating_sub(Duration::from_nanos(fresh)),
        }
    }
}

impl Shared {
    pub(crate) fn is_stale(&self) -> bool {
        self.age() > self.options.stale_after || self.current.load().is_none()
    }
}

impl<S: State> View<S> {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            states: PhantomData,
        }
    }

    /// Names, relations and groups.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.shared.schema
    }

    /// The newest moment, to be held as long as wanted. None until a replica has its first.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.shared.current()
    }

    /// Where the newest moment is in the root's history.
    pub fn position(&self) -> Option<Position> {
        self.shared
            .current
            .load()
            .as_ref()
            .map(|snapshot| snapshot.position)
    }

    /// Whether `state` is active in the newest moment.
    pub fn is_active(&self, state: S) -> bool {
        self.tick(state) % 2 == 1
    }

    /// The states that are active in the newest moment; none before there is one.
    pub fn active(&self) -> StateSet<S> {
        let current = self.shared.current.load();
        let snapshot = current.as_ref();
        snapshot.map_or_else(StateSet::default, |snapshot| snapshot.active_set())
    }

    /// The tick of `state` in the newest moment, 0 before there is one.
    pub fn tick(&self, state: S) -> u64 {
        let current = self.shared.current.load();
        current
            .as_ref()
            .and_then(|snapshot| snapshot.ticks.get(state.index()).copied())
            .unwrap_or(0)
    }

    /// The value that a state retains in the newest moment.
    ///
    /// # Errors
    ///
    /// If what it was given is no such value.
    #[cfg(feature = "serde")]
    pub fn payload<T: serde::de::DeserializeOwned>(
        &self,
        of: PayloadOf<S, T>,
    ) -> Result<Option<T>, InvalidPayload> {
        let current = self.shared.current.load();
        let snapshot = current.as_ref();
        let bytes =
            snapshot.and_then(|snapshot| snapshot.retained.get(&as_index(of.state().index())));
        bytes.map(|bytes| of.decode(bytes)).transpose()
    }

    /// How long ago the newest moment was last known to be the root's newest; zero on the root.
    /// Clocks of different machines play no part in it.
    pub fn age(&self) -> Duration {
        self.shared.age()
    }

    /// Whether the age is past the bound, or there is nothing to show yet.
    pub fn is_stale(&self) -> bool {
        self.shared.is_stale()
    }

    /// The age past which the view is stale.
    pub fn stale_after(&self) -> Duration {
        self.shared.options.stale_after
    }

    /// How many links there are to the root: 0 on it. None until a replica first met its parent.
    pub fn tier(&self) -> Option<u32> {
        self.shared.tier()
    }

    /// How many deltas a follower of this view can resume from, and the bytes they take.
    pub fn ring_size(&self) -> (usize, usize) {
        self.shared.ring().size()
    }

    /// The oldest revision that a follower of this view can resume from, how many deltas it keeps for
    /// that at most, and how many bytes of them.
    pub fn ring_bounds(&self) -> (u64, usize, usize) {
        self.shared.ring().bounds()
    }

    /// The states that a replica shows, where these are not all: of the others it knows nothing, and they
    /// are never active here.
    #[cfg(feature = "replica")]
    pub fn selection(&self) -> Option<Selection> {
        self.shared.selection()
    }

    /// Why `state` is or is not active, as far as relations tell.
    ///
    /// # Panics
    ///
    /// If the schema has no such state.
    pub fn explain(&self, state: S) -> Explanation<S> {
        let active = self.snapshot().map(|s| s.active_set()).unwrap_or_default();
        Explanation::new(&self.shared.schema, &active, state, self.tick(state))
    }

    /// Whether `mutation` would be executed on what is shown now, as far as relations tell: a dry
    /// run like [`Machine::can`](crate::Machine::can), on a replica too. Handlers are not asked; and
    /// the order of the active states, which decides between some that remove each other, is not
    /// known here and taken to be that of their indices.
    ///
    /// # Panics
    ///
    /// If it calls a state that the schema does not have (rule R4); only a [`DynState`] can be one.
    pub fn can(&self, mutation: &Mutation<S>) -> Outcome<S> {
        let schema = &self.shared.schema;
        let call = match Waiting::checked(schema, mutation, Cause::Call) {
            Ok(call) => call,
            Err(reason) => return Outcome::Canceled(reason),
        };
        let c = schema.compiled();
        let mut status = match self.snapshot() {
            Some(now) => Status::of_ticks(c, &now.ticks),
            None => Status::new(c),
        };
        let request = Request {
            op: decided(call.op, &call.called, status.active().bits()),
            called: &call.called,
            auto: false,
            payloads: &call.payloads,
        };
        match status.check(c, request, None) {
            Ok(()) => Outcome::Executed,
            Err(reason) => Outcome::Canceled(reason.map(|index| {
                S::from_index(index as usize).expect("the view's states are those of its schema")
            })),
        }
    }

    /// What changed since `after`. Costs as much as there is to tell.
    pub fn changes_since(&self, after: Position) -> Changes {
        let Some(now) = self
            .snapshot()
            .filter(|now| now.position.epoch == after.epoch)
        else {
            return Changes::OtherEpoch;
        };
        match after.revision.cmp(&now.position.revision) {
            cmp::Ordering::Equal => Changes::Current,
            cmp::Ordering::Greater => Changes::Ahead,
            // The ring may be further than `now` already, or have dropped what leads to it.
            cmp::Ordering::Less => {
                let changes = self.shared.ring().between(after, now.position.revision);
                let Some(changes) = changes else {
                    return Changes::Compacted;
                };
                let changes = summed(changes).into_iter();
                let states = changes.map(|c| (c.state as usize, c.ticks)).collect();
                Changes::Ticked { now, states }
            }
        }
    }

    /// The same view with states as indices, for what works with any schema.
    pub fn untyped(&self) -> View<DynState> {
        View {
            shared: Arc::clone(&self.shared),
            states: PhantomData,
        }
    }

    /// Follows the positions of this view's moments. A receiver that is late sees the newest
    /// only; it ends when the machine does.
    pub fn positions(&self) -> watch::Receiver<Option<Position>> {
        self.shared.positions()
    }

    /// A context that ends once `state` ticks.
    pub fn context(&self, state: S) -> StateContext {
        let shared = &self.shared;
        let state = as_index(state.index());
        shared.contexts.get_published(state, || {
            let current = shared.current.load();
            let current = current.as_ref();
            current.map_or(0, |snapshot| tick_of(&snapshot.ticks, state))
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl<S: State> Clone for View<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            states: PhantomData,
        }
    }
}

impl<S: State> fmt::Debug for View<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("schema", &self.shared.schema.name())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
