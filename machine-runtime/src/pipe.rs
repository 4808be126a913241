//! Pipes: states of one machine or replica lead to mutations of another machine.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::handle::Handle;
use crate::mutation::{IntoStates, Mutation, Outcome, StateList};
use crate::schema::as_index;
use crate::state::State;
use crate::view::{Snapshot, View};
use crate::when::{Moment, indices};

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
    end: OnceLock<PipeEnd>,
}

/// Why a pipe has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PipeEnd {
    /// What it looks at has ended. Its last moment was still taken over.
    Source,
    /// The machine that it mutates has ended, or cannot be reached any more.
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

    /// How many mutations the target has canceled.
    pub fn refused(&self) -> u64 {
        self.progress.refused.load(Ordering::Relaxed)
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
        let mut over = false;
        let mut seen: Option<Arc<Snapshot>> = None;
        while let Some(now) = self.source.snapshot() {
            let mut batch = Vec::new();
            for rule in &mut self.rules {
                rule.apply(seen.as_deref(), &now, &self.target, &mut batch);
            }
            if !batch.is_empty() && !send(&self.target, batch, progress).await {
                return PipeEnd::Target;
            }
            if over {
                break;
            }
            let moved = self.source.when_moved(self.ticks(&now));
            seen = Some(now);
            tokio::select! {
                biased;
                // Nothing is lost: both only wait.
                moved = moved => over = moved.is_err(),
                _closed = self.target.view().when_moved(Vec::new()) => return PipeEnd::Target,
            }
        }
        PipeEnd::Source
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

/// Runs a batch, and says whether there is still somebody to do so.
async fn send<B: State>(target: &Handle<B>, batch: Vec<Mutation<B>>, progress: &Progress) -> bool {
    let Ok(receipts) = target.mutate_all(batch).await else {
        return false;
    };
    for receipt in receipts {
        let count = match receipt.outcome {
            Outcome::Canceled(_) => &progress.refused,
            Outcome::Executed => &progress.executed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
    true
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
