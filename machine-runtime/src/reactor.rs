//! Final handlers on any view: a replica reacts to what its root decided.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::errors::{Errors, MachineError};
use crate::handle::Handle;
use crate::handlers::{
    Caller, Cause, Dispatch, Leave, Limits, Reactions, Stopped, Stopwatch, Work,
};
use crate::mutation::Op;
use crate::position::Position;
use crate::queue::{QUEUE_LIMIT, Queue, Waiting};
use crate::ring::{Delta, Since};
use crate::state::State;
use crate::transition::{Change, Plan, Request, Stage};
use crate::view::Snapshot;
use crate::when::Moment;
use crate::workers::Workers;
use crate::write::WriteOptions;

/// How many deltas are looked at in a row, before others get their turn.
const DELTAS_AT_ONCE: usize = 256;

/// How many mutations of its handlers wait at most to be sent: what one delta can bring, twice.
const OUTBOX: usize = 2 * QUEUE_LIMIT;

/// Runs final handlers as a view advances, be it a replica's or that of the machine itself.
///
/// ```
/// # use machine_runtime::{Final, Handle, Reactor, handlers};
/// # machine_runtime::states! { pub enum Door { #[multi] Bell, Open } }
/// struct Porter;
///
/// #[handlers(Door)]
/// impl Porter {
///     #[state(Bell)]
///     fn rung(&mut self, cx: &mut Final<'_, Door>) {
///         cx.add(Door::Open); // sent up to the root
///     }
/// }
///
/// # async fn example(replica: Handle<Door>) {
/// Reactor::new(&replica, Porter).run(std::future::pending()).await;
/// # }
/// ```
///
/// # What handlers see
///
/// A reactor looks at one delta after the other: ends first, then begins, each in index order, then
/// `any_state`. What a delta sums up is a matter of the replica's granularity and of how fast its
/// handlers are:
///
/// * With `Granularity::Every` a delta is one transition of the root, and nothing is missed, as long
///   as the reactor is not further behind than the view's ring is long.
/// * With `Granularity::Latest` (the default) it may be several. Then a state that is active after the
///   delta and has ticked in it *began*, once, however often it was off and on or called again in
///   between; one that was active and is not *ended*; and one that was on in between only did neither.
///   Ticks say how often: [`Final::tick`](crate::Ongoing::tick).
/// * At the start, and where the view went on from another moment (a snapshot after a gap, a new epoch),
///   handlers see the difference to what they saw last, as one delta with [`Cause::Snapshot`]. At the
///   start they saw nothing: what is active then begins.
///
/// Payloads are those that states retain. Who asked for what, and with which states, does not travel.
///
/// # What handlers do
///
/// They have no say in what the root decided: only [`Reactions`] can be bound. Mutations and errors
/// that they append are sent up in order, one after the other, without waiting for them here; while
/// 1,000 wait, no further delta is looked at. One that is canceled or does not reach the root is counted. Spawned work runs as on a machine and gets a
/// handle of the replica. A panic is remembered in [`ReactorStats::errors`] and skips the rest of the delta's
/// handlers; it is not sent up, as each replica would.
///
/// A reactor holds a handle: the machine does not end for lack of handles as long as it runs.
#[must_use = "nothing runs until `run` is awaited"]
pub struct Reactor<S: State> {
    handle: Handle<S>,
    dispatch: Dispatch<S>,
    queue: Queue,
    limits: Limits,
    stats: ReactorStats,
    position: Option<Position>,
    ticks: Vec<u64>,
    plan: Plan,
    work: Vec<Work<S>>,
    workers: Workers,
}

/// What there was to look at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    /// There may be more.
    More,
    /// What handlers would append has no room to wait in.
    NoRoom,
}

/// What a reactor has done. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ReactorStats {
    inner: Arc<Stats>,
}

#[derive(Debug, Default)]
struct Stats {
    // Nothing awaits under it, and no handler runs.
    errors: Mutex<Errors>,
    executed: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
}

impl ReactorStats {
    /// The recent errors, the oldest first, at most [`ERROR_HISTORY`](crate::ERROR_HISTORY).
    pub fn errors(&self) -> Vec<MachineError> {
        self.history().iter().cloned().collect()
    }

    /// How many mutations of its handlers the root executed.
    pub fn executed(&self) -> u64 {
        self.inner.executed.load(Ordering::Relaxed)
    }

    /// How many mutations of its handlers the root canceled.
    pub fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// How many mutations of its handlers did not reach the root, or may not have.
    pub fn lost(&self) -> u64 {
        self.inner.lost.load(Ordering::Relaxed)
    }

    fn history(&self) -> MutexGuard<'_, Errors> {
        let errors = self.inner.errors.lock();
        // Only an exhausted memory could panic under it.
        errors.unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, error: MachineError) {
        #[cfg(feature = "replica")]
        tracing::warn!(%error, "a handler of a replica failed");
        self.history().push(error);
    }

    fn count_lost(&self) {
        self.inner.lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl<S: State> Reactor<S> {
    /// A reactor to what `handle` shows; mutations of its handlers go to `handle`.
    ///
    /// # Panics
    ///
    /// If a handler is bound to a state that the schema does not have; only a
    /// [`DynState`](crate::DynState) can be one.
    pub fn new(handle: &Handle<S>, handlers: impl Reactions<S>) -> Self {
        let states = handle.view().schema().len();
        let reactor = Self {
            handle: handle.clone(),
            dispatch: Dispatch::new(states),
            queue: Queue::new(),
            limits: Limits::default(),
            stats: ReactorStats::default(),
            position: None,
            ticks: vec![0; states],
            plan: Plan::default(),
            work: Vec::new(),
            workers: Workers::default(),
        };
        reactor.with(handlers)
    }

    /// Binds another set of handlers, behind those that are bound already (rule R31).
    ///
    /// # Panics
    ///
    /// As [`Reactor::new`].
    pub fn with(mut self, handlers: impl Reactions<S>) -> Self {
        self.dispatch.bind(self.handle.view().schema(), handlers);
        self
    }

    /// How long handlers may take. An overrun is remembered, nothing else.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What it does.
    pub fn stats(&self) -> &ReactorStats {
        &self.stats
    }

    /// Runs until `stop` resolves or the machine or replica ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops spawned work, and what waits to be sent up.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut positions = self.handle.view().positions();
        let (outbox, waiting) = mpsc::channel(OUTBOX);
        let mut sending = pin!(send(self.handle.clone(), waiting, self.stats.clone()));
        loop {
            positions.borrow_and_update();
            let news = self.react(&outbox);
            let revision = self.position.map_or(0, |position| position.revision);
            // What is dropped with the other branches loses nothing.
            tokio::select! {
                biased;
                () = &mut stop => return,
                // It goes on for as long as there is an outbox.
                () = &mut sending => return,
                error = self.workers.failed(self.handle.view().schema(), revision),
                    if !self.workers.is_empty() =>
                {
                    if let Some(error) = error {
                        self.stats.note(error);
                    }
                }
                () = yield_now(), if news == News::More => {}
                // It has none of the room yet that it only waits for.
                room = outbox.reserve_many(QUEUE_LIMIT), if news == News::NoRoom => drop(room),
                changed = positions.changed(), if news == News::None => if changed.is_err() {
                    return;
                }
            }
        }
    }

    /// Looks at what is new.
    fn react(&mut self, outbox: &mpsc::Sender<Waiting>) -> News {
        let shared = Arc::clone(self.handle.view().shared());
        let Some(now) = shared.current() else {
            return News::None;
        };
        if outbox.capacity() < QUEUE_LIMIT {
            return News::NoRoom;
        }
        let Some(mut position) = self.position else {
            self.jump(&now, outbox);
            return News::More;
        };
        if position == now.position() {
            return News::None;
        }
        let since = shared.ring().since(position, true, DELTAS_AT_ONCE);
        match since {
            Since::Current => return News::None,
            Since::Deltas(deltas) => {
                // The ring may be ahead of what is shown.
                let shown = |delta: &Delta| delta.revision <= now.position().revision;
                for delta in deltas.into_iter().take_while(shown) {
                    if outbox.capacity() < QUEUE_LIMIT {
                        return News::NoRoom;
                    }
                    let delta = delta.tidy();
                    position.revision = delta.revision;
                    self.position = Some(position);
                    self.follow(&delta.changes, &delta.payloads, outbox);
                }
            }
            Since::Compacted { .. } | Since::Ahead | Since::OtherEpoch => {
                // What is shown may have gone on since; it is never behind where we are.
                let now = shared.current().unwrap_or(now);
                self.jump(&now, outbox);
            }
        }
        News::More
    }

    /// Goes on from a delta.
    fn follow(
        &mut self,
        changes: &[Change],
        payloads: &[(u32, Option<Bytes>)],
        outbox: &mpsc::Sender<Waiting>,
    ) {
        let mut plan = self.plan();
        for Change { state, ticks } in changes {
            let tick = &mut self.ticks[*state as usize];
            let was_active = *tick % 2 == 1;
            *tick = tick.wrapping_add(u64::from(*ticks));
            match (was_active, *tick % 2 == 1) {
                (_, true) => plan.enters.push(*state),
                (true, false) => plan.exits.push(*state),
                (false, false) => {}
            }
        }
        let brought: Vec<_> = payloads
            .iter()
            .filter_map(|(state, payload)| Some((*state, payload.clone()?)))
            .collect();
        self.tell(plan, &brought, Cause::Delta, outbox);
    }

    /// Goes on from another moment.
    fn jump(&mut self, now: &Snapshot, outbox: &mpsc::Sender<Waiting>) {
        let before = self.position.replace(now.position());
        let anew = before.is_none_or(|before| before.epoch != now.position().epoch);
        let mut plan = self.plan();
        for (state, (before, tick)) in (0..).zip(self.ticks.iter().zip(now.ticks())) {
            let moved = if anew {
                before % 2 != tick % 2
            } else {
                before != tick
            };
            match (before % 2 == 1, tick % 2 == 1) {
                (_, true) if moved => plan.enters.push(state),
                (true, false) => plan.exits.push(state),
                _ => {}
            }
        }
        self.ticks.copy_from_slice(now.ticks());
        let retained = now.retained().iter();
        let brought = retained.map(|(state, payload)| (*state, payload.clone()));
        let brought: Vec<_> = brought
            .filter(|(state, _)| plan.enters.binary_search(state).is_ok())
            .collect();
        self.tell(plan, &brought, Cause::Snapshot, outbox);
    }

    /// A plan with the states that are active up to now.
    fn plan(&mut self) -> Plan {
        let mut plan = std::mem::take(&mut self.plan);
        plan.exits.clear();
        plan.enters.clear();
        active(&self.ticks, &mut plan.before);
        plan
    }

    /// Runs the handlers of what moved, and takes what they leave.
    fn tell(
        &mut self,
        mut plan: Plan,
        brought: &[(u32, Bytes)],
        cause: Cause,
        outbox: &mpsc::Sender<Waiting>,
    ) {
        active(&self.ticks, &mut plan.after);
        let view = self.handle.view();
        let stage = Stage {
            request: Request {
                op: Op::Set,
                called: &[],
                auto: false,
                payloads: brought,
            },
            ticks: &self.ticks,
            before: &plan.before,
            after: &plan.after,
            now: &plan.after,
            revision: self.position.map_or(0, |position| position.revision),
        };
        let start = Instant::now();
        let stopwatch: Stopwatch = Box::new(move || start.elapsed());
        let mut errors = Errors::default();
        let mut caller = Caller {
            schema: view.schema(),
            queue: &mut self.queue,
            errors: &mut errors,
            stopwatch: Some(&stopwatch),
            limits: &self.limits,
            cause,
            overdue: None,
            runs: None,
        };
        let published = |state: u32| view.shared().current().map_or(0, |now| now.tick(state));
        let mut leave = Leave {
            contexts: &view.shared().contexts,
            published: Some(&published),
            work: &mut self.work,
        };
        let told = self
            .dispatch
            .tell(&stage, &plan.exits, &plan.enters, &mut caller, &mut leave);
        if let Err(Stopped {
            panic: Some(error), ..
        }) = told
        {
            errors.push(*error);
        }
        self.plan = plan;
        errors
            .take()
            .into_iter()
            .for_each(|error| self.stats.note(error));
        while let Some(waiting) = self.queue.pop() {
            if outbox.try_send(waiting).is_err() {
                self.stats.count_lost();
            }
        }
        for work in self.work.drain(..) {
            self.workers.start(work, self.handle.clone());
        }
    }
}

/// The active states of `ticks`, into `bits`.
fn active(ticks: &[u64], bits: &mut Vec<u64>) {
    bits.clear();
    bits.resize(ticks.len().div_ceil(64), 0);
    for (i, _) in ticks.iter().enumerate().filter(|(_, tick)| *tick % 2 == 1) {
        bits[i / 64] |= 1 << (i % 64);
    }
}

/// Sends mutations up, one after the other.
async fn send<S: State>(
    handle: Handle<S>,
    mut waiting: mpsc::Receiver<Waiting>,
    stats: ReactorStats,
) {
    while let Some(call) = waiting.recv().await {
        let count = match handle.one(call, WriteOptions::new()).await {
            Ok(receipt) if receipt.outcome.is_executed() => &stats.inner.executed,
            Ok(_canceled) => &stats.inner.refused,
            Err(_not_known) => &stats.inner.lost,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl<S: State> fmt::Debug for Reactor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("position", &self.position)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
