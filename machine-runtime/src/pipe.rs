//! Pipes: states of one machine or replica lead to mutations of another machine.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::handle::Handle;
use crate::mutation::{IntoStates, Mutation, Outcome, StateList};
use crate::position::{Epoch, Position};
use crate::queue::{Waiting, check_known};
use crate::schema::as_index;
use crate::state::State;
use crate::view::{Snapshot, View};
use crate::when::{Closed, Moment, indices};
use crate::write::{Key, MutateError, Receipt, Until, WRITE_WITHIN, Write, WriteOptions};

/// The first pause before something is tried again; it doubles up to [`RETRY_MOST`], and a part of
/// it is random.
const RETRY_LEAST: Duration = Duration::from_millis(20);

/// The longest pause before something is tried again.
const RETRY_MOST: Duration = Duration::from_secs(2);

/// Keeps a machine in step with states of another, until it is dropped.
///
/// ```
/// # use machine_runtime::{DynState, Handle, Mutation, Pipe, View};
/// # const OPEN: DynState = DynState(1);
/// # const LIT: DynState = DynState(1);
/// # const BELL: DynState = DynState(2);
/// # async fn example(door: View<DynState>, lamp: Handle<DynState>) {
/// let pipe = Pipe::between(&door, &lamp)
///     .mirror(OPEN, LIT)
///     .on(OPEN, Mutation::add(BELL))
///     .errors()
///     .start();
/// # drop(pipe);
/// # }
/// ```
///
/// # Levels, not edges
///
/// A rule applies whenever one of its states has ticked and its condition holds, and once at the
/// start if it holds then. What is looked at is the newest moment: a state that was off and on again
/// since the last look is one application, and a condition that held in between only is none. So a
/// target never ends up with what is not so any more. The rules that apply to one moment are run
/// in the order in which they were given, and published at once.
///
/// # Refusals
///
/// A mutation that the target cancels is counted and not tried again before one of its states ticks:
/// the target said no. A full target makes the pipe wait, and what ticks meanwhile is one look.
///
/// Where the target is a replica and the root cannot be reached, or does not answer, or something on
/// the way takes no writes, the same mutations are sent again after a pause, which grows from 20 ms to
/// 2 s, with one [`Key`]: they run once, as far as the root remembers. That ends only with the target.
/// Once its root begins a new life, everything is looked at anew as at the start, and what was under
/// way may or may not have run in the life before. Mutations of one moment that are too much for one
/// write ([`WRITE_BYTES`](crate::WRITE_BYTES)) are sent one by one, and published so; one that is too
/// large by itself is refused.
///
/// The pipe is a task of the runtime it was started on. It holds a handle: the target does not end
/// for lack of handles as long as the pipe runs.
#[must_use = "it ends when it is dropped"]
pub struct Pipe {
    tasks: JoinSet<()>,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    executed: AtomicU64,
    refused: AtomicU64,
    retries: AtomicU64,
    end: OnceLock<PipeEnd>,
}

/// Why a pipe has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PipeEnd {
    /// What it looks at has ended. Its last moment was still taken over.
    Source,
    /// The machine that it mutates has ended, or the replica that passes its mutations on.
    Target,
    /// The runtime that it ran on has ended.
    Runtime,
}

impl Pipe {
    /// A pipe from what `source` shows, on a machine or a replica, to the machine of `target`. It
    /// has no rules yet and does nothing before [`PipeRules::start`].
    pub fn between<A: State, B: State>(source: &View<A>, target: &Handle<B>) -> PipeRules<A, B> {
        PipeRules {
            source: source.clone(),
            target: target.clone(),
            rules: Vec::new(),
        }
    }

    /// How many mutations the target has executed.
    pub fn executed(&self) -> u64 {
        self.progress.executed.load(Ordering::Relaxed)
    }

    /// How many mutations the target has canceled, or were too large to get there.
    pub fn refused(&self) -> u64 {
        self.progress.refused.load(Ordering::Relaxed)
    }

    /// How often it had no answer of the target's and tried again, with the same or anew.
    pub fn retries(&self) -> u64 {
        self.progress.retries.load(Ordering::Relaxed)
    }

    /// Why it has ended, once it has.
    pub fn end(&self) -> Option<PipeEnd> {
        self.progress.end.get().copied()
    }

    /// Waits until it has ended because one of its sides has.
    ///
    /// # Panics
    ///
    /// If a mutation that [`PipeRules::on_with`] made panicked, or calls a state that the target
    /// does not have.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the waiting and nothing else.
    pub async fn ended(&mut self) -> PipeEnd {
        if let Some(Err(error)) = self.tasks.join_next().await
            && let Ok(panic) = error.try_into_panic()
        {
            resume_unwind(panic);
        }
        self.end().unwrap_or(PipeEnd::Runtime)
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("executed", &self.executed())
            .field("refused", &self.refused())
            .field("retries", &self.retries())
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

/// What a [`Pipe`] does with which states. States of `A` lead to mutations of `B`.
#[must_use = "nothing is piped until `start`"]
pub struct PipeRules<A: State, B: State> {
    source: View<A>,
    target: Handle<B>,
    rules: Vec<Rule<B>>,
}

struct Rule<B> {
    states: Vec<u32>,
    condition: Condition,
    effect: Effect<B>,
}

/// When a rule applies.
#[derive(Clone, Copy, Debug)]
enum Condition {
    All,
    NotAll,
    Any,
    NotAny,
}

enum Effect<B> {
    Mutate(Mutation<B>),
    Make(Make<B>),
    /// Adds the state with the payload that the rule's state retains.
    Carry(B),
}

type Make<B> = Box<dyn Fn(&Snapshot) -> Option<Mutation<B>> + Send>;

impl<A: State, B: State> PipeRules<A, B> {
    /// Runs `mutation` once all of `states` are active.
    pub fn on(self, states: impl IntoStates<A>, mutation: Mutation<B>) -> Self {
        self.rule(states, Condition::All, Effect::Mutate(mutation))
    }

    /// Runs `mutation` once not all of `states` are active: the opposite of [`PipeRules::on`].
    pub fn off(self, states: impl IntoStates<A>, mutation: Mutation<B>) -> Self {
        self.rule(states, Condition::NotAll, Effect::Mutate(mutation))
    }

    /// Runs `mutation` once any of `states` is active.
    pub fn on_any(self, states: impl IntoStates<A>, mutation: Mutation<B>) -> Self {
        self.rule(states, Condition::Any, Effect::Mutate(mutation))
    }

    /// Runs `mutation` once none of `states` is active: the opposite of [`PipeRules::on_any`].
    pub fn off_any(self, states: impl IntoStates<A>, mutation: Mutation<B>) -> Self {
        self.rule(states, Condition::NotAny, Effect::Mutate(mutation))
    }

    /// Runs what `make` makes of the moment, if anything, once all of `states` are active.
    pub fn on_with(
        self,
        states: impl IntoStates<A>,
        make: impl Fn(&Snapshot) -> Option<Mutation<B>> + Send + 'static,
    ) -> Self {
        self.rule(states, Condition::All, Effect::Make(Box::new(make)))
    }

    /// Adds `to` once all of `states` are active, and removes it once they are not.
    pub fn mirror(self, states: impl IntoStates<A>, to: B) -> Self {
        let states: Vec<A> = list(states);
        self.on(states.as_slice(), Mutation::add(to))
            .off(states, Mutation::remove(to))
    }

    /// Removes `to` once all of `states` are active, and adds it once they are not.
    pub fn mirror_not(self, states: impl IntoStates<A>, to: B) -> Self {
        let states: Vec<A> = list(states);
        self.on(states.as_slice(), Mutation::remove(to))
            .off(states, Mutation::add(to))
    }

    /// Adds `to` once any of `states` is active, and removes it once none is.
    pub fn mirror_any(self, states: impl IntoStates<A>, to: B) -> Self {
        let states: Vec<A> = list(states);
        self.on_any(states.as_slice(), Mutation::add(to))
            .off_any(states, Mutation::remove(to))
    }

    /// As [`PipeRules::mirror`] of one state, with the payload that it retains, if `to` takes one.
    /// Where `state` came again with another payload, `to` ends and begins again, unless it is
    /// multi: it is called again.
    pub fn carry(self, state: A, to: B) -> Self {
        self.rule(state, Condition::All, Effect::Carry(to))
            .off(state, Mutation::remove(to))
    }

    /// Errors of the source are errors of the target: adds `Exception`, with what it says. It is up
    /// to the target when that ends.
    pub fn errors(self) -> Self {
        let (from, to) = (self.source.exception(), self.target.view().exception());
        self.rule(from, Condition::All, Effect::Carry(to))
    }

    /// Starts it on the current runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, or if a rule names a state that its machine does not have, as
    /// only a [`DynState`](crate::DynState) can be.
    pub fn start(self) -> Pipe {
        self.check();
        let mut tasks = JoinSet::new();
        let progress = Arc::new(Progress::default());
        let told = Arc::clone(&progress);
        tasks.spawn(async move {
            let end = self.run(&told).await;
            // It is set here only.
            let _ = told.end.set(end);
        });
        Pipe { tasks, progress }
    }

    fn rule(mut self, states: impl IntoStates<A>, condition: Condition, effect: Effect<B>) -> Self {
        self.rules.push(Rule {
            states: indices(states),
            condition,
            effect,
        });
        self
    }

    /// A programming error shows where it was made, not in the pipe's task.
    fn check(&self) {
        let (source, target) = (self.source.schema(), self.target.view().schema());
        for rule in &self.rules {
            let mut states = rule.states.iter();
            let unknown = states.find(|state| **state as usize >= source.len());
            assert!(
                unknown.is_none(),
                "{unknown:?} is no state of {}",
                source.name()
            );
            let called = match &rule.effect {
                Effect::Mutate(mutation) => mutation.states(),
                Effect::Carry(to) => std::slice::from_ref(to),
                Effect::Make(_) => &[],
            };
            let unknown = called.iter().find(|state| state.index() >= target.len());
            assert!(
                unknown.is_none(),
                "{unknown:?} is no state of {}",
                target.name()
            );
        }
    }

    async fn run(mut self, progress: &Progress) -> PipeEnd {
        let mut positions = self.source.positions();
        if positions.wait_for(Option::is_some).await.is_err() {
            return PipeEnd::Source;
        }
        let mut out = Out::new(&self.target, progress);
        let mut over = false;
        let mut seen: Option<Arc<Snapshot>> = None;
        loop {
            // Another life of the target knows nothing of what was sent to the one before.
            match out.find_life().await {
                Ok(false) => {}
                Ok(true) => seen = None,
                Err(Closed) => return PipeEnd::Target,
            }
            let Some(now) = self.source.snapshot() else {
                return PipeEnd::Source;
            };
            // Ticks of another life of the source tell nothing beside those of the one before.
            let life = now.position().epoch;
            seen = seen.filter(|seen| seen.position().epoch == life);
            let mut batch = Vec::new();
            for rule in &mut self.rules {
                rule.apply(seen.as_deref(), &now, &self.target, &mut batch);
            }
            match out.send(batch).await {
                Ok(()) => {}
                Err(Lost::Life) => continue,
                Err(Lost::Closed) => return PipeEnd::Target,
            }
            if over {
                return PipeEnd::Source;
            }
            let moved = self.source.when_moved(self.ticks(&now));
            seen = Some(now);
            tokio::select! {
                biased;
                // Nothing is lost: all only wait.
                moved = moved => over = moved.is_err(),
                () = other_life(&self.source, life) => {}
                lost = out.lost() => if lost == Lost::Closed {
                    return PipeEnd::Target;
                },
            }
        }
    }

    /// What the states of the rules were at that moment.
    fn ticks(&self, now: &Snapshot) -> Vec<(u32, u64)> {
        let states = self.rules.iter().flat_map(|rule| &rule.states);
        let mut ticks: Vec<_> = states.map(|state| (*state, now.tick(*state))).collect();
        ticks.sort_unstable();
        ticks.dedup();
        ticks
    }
}

impl<B: State> Rule<B> {
    /// Appends to `batch` what is to be done about `now`.
    fn apply(
        &mut self,
        seen: Option<&Snapshot>,
        now: &Snapshot,
        target: &Handle<B>,
        batch: &mut Vec<Mutation<B>>,
    ) {
        let mut states = self.states.iter();
        let moved = seen.is_none_or(|seen| states.any(|s| seen.tick(*s) != now.tick(*s)));
        let active = |state: &u32| now.is_active(*state as usize);
        let holds = match self.condition {
            Condition::All => self.states.iter().all(active),
            Condition::NotAll => !self.states.iter().all(active),
            Condition::Any => self.states.iter().any(active),
            Condition::NotAny => !self.states.iter().any(active),
        };
        if !moved || !holds {
            return;
        }
        match &mut self.effect {
            Effect::Mutate(mutation) => batch.push(mutation.clone()),
            Effect::Make(make) => batch.extend(make(now)),
            Effect::Carry(to) => {
                let payload = self.states.first().and_then(|state| now.payload(*state));
                carry(*to, payload, target.view(), batch);
            }
        }
    }
}

/// Waits until a replica shows another life of its root; a machine has one.
async fn other_life<A: State>(source: &View<A>, life: Epoch) {
    if source.tier() == Some(0) {
        return std::future::pending().await;
    }
    let mut positions = source.positions();
    let other = positions.wait_for(|at| at.is_some_and(|at| at.epoch != life));
    if other.await.is_err() {
        // The end is told by whoever waits for states.
        std::future::pending::<()>().await;
    }
}

/// Appends what activates a state with a payload. One that is active takes another only by
/// beginning again.
fn carry<B: State>(to: B, payload: Option<Bytes>, target: &View<B>, batch: &mut Vec<Mutation<B>>) {
    let schema = target.schema();
    let payload = payload.filter(|_| schema.takes_payload(to.index()));
    let has = target.snapshot().and_then(|now| {
        let active = now.is_active(to.index());
        active.then(|| now.payload(as_index(to.index())))
    });
    if has.is_some_and(|has| has != payload) && !schema.is_multi(to.index()) {
        batch.push(Mutation::remove(to));
    }
    let add = Mutation::add(to);
    batch.push(match payload {
        Some(payload) => add.with_payload(to, payload),
        None => add,
    });
}

/// What a pipe's mutations go through.
struct Out<'a, B: State> {
    target: Handle<B>,
    /// The life of the target's root that they are for; None before the first and after the last.
    life: Option<Epoch>,
    /// Where the root stood after the last of them.
    at: Option<Position>,
    pause: Duration,
    progress: &'a Progress,
}

/// Why mutations are not to be sent again as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lost {
    /// The target has ended.
    Closed,
    /// They were for a life of the root that is over.
    Life,
}

impl<'a, B: State> Out<'a, B> {
    fn new(target: &Handle<B>, progress: &'a Progress) -> Self {
        Self {
            target: target.clone(),
            life: None,
            at: None,
            pause: RETRY_LEAST,
            progress,
        }
    }

    fn is_root(&self) -> bool {
        self.target.view().tier() == Some(0)
    }

    /// Waits until the target shows a life of its root, and says whether that is another.
    async fn find_life(&mut self) -> Result<bool, Closed> {
        let mut positions = self.target.view().positions();
        // What was sent shows, so that what the target has can be told from its view.
        let sent = self.at;
        let shows = |at: &Option<Position>| {
            let other = |sent: Position, at: Position| sent.epoch != at.epoch;
            at.is_some_and(|at| sent.is_none_or(|sent| other(sent, at) || at.has_reached(sent)))
        };
        let at = positions.wait_for(shows).await;
        let life = at.map_err(|_ended| Closed)?.map(|at| at.epoch);
        Ok(std::mem::replace(&mut self.life, life) != life)
    }

    /// Waits until the target has ended or shows another life.
    async fn lost(&self) -> Lost {
        if self.is_root() {
            // It has one life, and there is no need to look at each of its moments.
            let _ = self.target.view().when_moved(Vec::new()).await;
            return Lost::Closed;
        }
        let mut positions = self.target.view().positions();
        let other = positions.wait_for(|at| at.is_some_and(|at| Some(at.epoch) != self.life));
        match other.await {
            Ok(_) => Lost::Life,
            Err(_ended) => Lost::Closed,
        }
    }

    /// Runs a batch: as one, unless it is too large for that.
    async fn send(&mut self, batch: Vec<Mutation<B>>) -> Result<(), Lost> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.is_root() {
            let receipts = self.target.mutate_all(batch).await;
            let receipts = receipts.map_err(|_closed| Lost::Closed)?;
            self.count(&receipts);
            return Ok(());
        }
        if self.send_write(&batch).await? {
            return Ok(());
        }
        let alone = batch.len() == 1;
        for mutation in batch {
            if alone || !self.send_write(&[mutation]).await? {
                self.progress.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Passes mutations on as one write, until there is an answer; whether they were not too large.
    async fn send_write(&mut self, batch: &[Mutation<B>]) -> Result<bool, Lost> {
        let schema = self.target.view().schema();
        for mutation in batch {
            check_known(schema, mutation.states());
        }
        let calls: Vec<_> = batch.iter().map(Waiting::of).collect();
        let mut options = WriteOptions::new().with_key(Key::random());
        options.epoch = self.life;
        loop {
            let write = Write::new(calls.clone(), options.clone());
            let written = self.target.write(write, Until::within(WRITE_WITHIN)).await;
            let lost = match written {
                Ok(receipts) => {
                    self.count(&receipts);
                    self.at = receipts.last().map(|receipt| receipt.position);
                    self.pause = RETRY_LEAST;
                    return Ok(true);
                }
                Err(MutateError::Closed { .. }) => return Err(Lost::Closed),
                Err(MutateError::TooLarge) => return Ok(false),
                // The root is in another life, or has taken the key for another's: it says no more.
                Err(MutateError::EpochChanged { .. } | MutateError::KeyReused) => true,
                Err(
                    MutateError::Busy { .. }
                    | MutateError::Unreachable { .. }
                    | MutateError::Expired { .. }
                    | MutateError::Refused
                    | MutateError::Forbidden { .. },
                ) => false,
            };
            self.progress.retries.fetch_add(1, Ordering::Relaxed);
            self.rest().await;
            if lost {
                self.life = None;
                return Err(Lost::Life);
            }
        }
    }

    /// Waits before something is tried again, for longer each time.
    async fn rest(&mut self) {
        let jitter = fastrand::f64() / 2.0 + 0.5;
        sleep(self.pause.mul_f64(jitter)).await;
        self.pause = (self.pause * 2).min(RETRY_MOST);
    }

    fn count<S>(&self, receipts: &[Receipt<S>]) {
        for receipt in receipts {
            let count = match receipt.outcome {
                Outcome::Canceled(_) => &self.progress.refused,
                Outcome::Executed => &self.progress.executed,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn list<S: State>(states: impl IntoStates<S>) -> Vec<S> {
    let mut list = StateList::new();
    states.append_to(&mut list);
    list.into_vec()
}

impl<A: State, B: State> fmt::Debug for PipeRules<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeRules")
            .field("source", &self.source)
            .field("target", &self.target)
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}
