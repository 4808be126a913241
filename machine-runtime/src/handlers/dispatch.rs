//! Which handlers are bound where, and calling them: panics caught, overruns noticed.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::context::Contexts;
use crate::errors::{ErrorKind, Errors, MachineError, discard, shorten};
use crate::mutation::{Reason, Refusal};
use crate::queue::{Append, Queue};
use crate::schema::{Schema, as_index};
use crate::state::State;
use crate::transition::{Answer, Ask, Bound, Negotiator, Pair, Run, Stage};

#[cfg(feature = "tokio")]
use super::Work;
use super::{
    Binder, BoundSet, Cause, Final, HandlerSet, Handlers, Negotiation, Ongoing, Phase, Verdict,
};

/// A clock that only goes forwards, lent to a machine: the time since any moment.
pub(crate) type Stopwatch = Box<dyn Fn() -> Duration + Send>;

/// All handlers of a machine.
pub(crate) struct Dispatch<S: State> {
    sets: Vec<Box<dyn HandlerSet<S>>>,
    at: [At; 5],
    any_enter: Vec<Target>,
    any_state: Vec<Target>,
    bound: Bound,
    /// The handlers of each of `bound.pairs`.
    pairs: Vec<SmallVec<[Target; 1]>>,
    states: PhantomData<S>,
}

/// A handler: of which set, and which of its own.
#[derive(Clone, Copy, Debug)]
struct Target {
    set: u32,
    slot: u32,
}

/// The handlers of one phase, by state.
#[derive(Default)]
struct At {
    /// Per state: where its handlers start in `targets`; empty while nothing is bound.
    starts: Vec<u32>,
    targets: Vec<Target>,
}

impl At {
    fn of(&self, state: u32) -> &[Target] {
        match self.starts.get(state as usize..state as usize + 2) {
            Some(ends) => &self.targets[ends[0] as usize..ends[1] as usize],
            None => &[],
        }
    }

    /// Merges in more, behind what is there.
    fn extend(&mut self, states: usize, new: &[(u32, Target)]) {
        if new.is_empty() {
            return;
        }
        let mut all: Vec<(u32, Target)> = (0..as_index(states))
            .flat_map(|state| self.of(state).iter().map(move |target| (state, *target)))
            .chain(new.iter().copied())
            .collect();
        // Stable: sets stay in binding order (rule R31).
        all.sort_by_key(|(state, _)| *state);
        self.starts = vec![0; states + 1];
        for (state, _) in &all {
            self.starts[*state as usize + 1] += 1;
        }
        for i in 0..states {
            self.starts[i + 1] += self.starts[i];
        }
        self.targets = all.into_iter().map(|(_, target)| target).collect();
    }
}

impl<S: State> Dispatch<S> {
    pub(crate) fn new(states: usize) -> Self {
        Self {
            sets: Vec::new(),
            at: Default::default(),
            any_enter: Vec::new(),
            any_state: Vec::new(),
            bound: Bound::new(states),
            pairs: Vec::new(),
            states: PhantomData,
        }
    }

    pub(crate) fn bind<H: Handlers<S>>(&mut self, schema: &Schema, handlers: H) {
        let binder = Binder::collect(&handlers);
        // All of them first: who catches the panic has the machine as it was.
        for state in binder.bound.iter().flat_map(|at| [at.state, at.other]) {
            assert!(
                (state as usize) < schema.len(),
                "a handler is bound to state {state}, which {} does not have",
                schema.name()
            );
        }
        let set = as_index(self.sets.len());
        let mut new: [Vec<(u32, Target)>; 5] = Default::default();
        for binding in &binder.bound {
            let target = Target {
                set,
                slot: binding.slot,
            };
            if binding.phase != Phase::Between {
                self.bound.add(binding.phase, binding.state);
            }
            match binding.phase {
                Phase::AnyEnter => self.any_enter.push(target),
                Phase::AnyState => self.any_state.push(target),
                Phase::Between => {
                    let pair = Pair {
                        before: binding.state,
                        after: binding.other,
                    };
                    let place = self.bound.add_pair(pair);
                    if place == self.pairs.len() {
                        self.pairs.push(SmallVec::new());
                    }
                    self.pairs[place].push(target);
                }
                phase => {
                    let place = phase.place().expect("phases of one state have a place");
                    new[place].push((binding.state, target));
                }
            }
        }
        for (at, new) in self.at.iter_mut().zip(&new) {
            at.extend(schema.len(), new);
        }
        self.sets.push(Box::new(BoundSet::new(handlers, binder)));
    }

    /// The user's value of type `H` that was bound first.
    pub(crate) fn value<H: Any>(&self) -> Option<&H> {
        self.sets.iter().find_map(|set| set.value().downcast_ref())
    }

    fn targets(&self, phase: Phase, state: u32, pair: usize) -> &[Target] {
        match phase.place() {
            Some(place) => self.at[place].of(state),
            None if phase == Phase::Between => &self.pairs[pair],
            None if phase == Phase::AnyEnter => &self.any_enter,
            None => &self.any_state,
        }
    }
}

impl<S: State> fmt::Debug for Dispatch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("sets", &self.sets.len())
            .finish_non_exhaustive()
    }
}

/// How long handlers may take (rule R27).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// A negotiation handler that takes longer refuses; a final one cancels the transition, and
    /// the states whose handlers did not run are taken out. 100 ms.
    pub timeout: Duration,
    /// A handler that takes longer also has the queue emptied and an error added. 10 s.
    pub deadline: Duration,
    /// For so long after that, mutations from outside are canceled. 3 s.
    pub backoff: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(100),
            deadline: Duration::from_secs(10),
            backoff: Duration::from_secs(3),
        }
    }
}

/// Everything that handlers of one transition are called with.
pub(crate) struct Caller<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) queue: &'a mut Queue,
    pub(crate) errors: &'a mut Errors,
    pub(crate) stopwatch: Option<&'a Stopwatch>,
    pub(crate) limits: &'a Limits,
    pub(crate) cause: Cause,
    /// The first handler that took longer than the deadline (rule R27).
    pub(crate) overdue: Option<Box<MachineError>>,
    /// Where runs are noted, if they are.
    pub(crate) runs: Option<&'a mut Vec<Run>>,
}

/// How a handler ended.
enum Ended<T> {
    With(T),
    Late,
    Panicked(MachineError),
}

impl<'c> Caller<'c> {
    /// Runs a handler.
    fn call<T>(
        &mut self,
        (phase, state): (Phase, Option<u32>),
        ongoing: &dyn Fn(MachineError) -> MachineError,
        revision: u64,
        handler: impl FnOnce(&mut Queue, &mut Errors) -> T,
    ) -> Ended<T> {
        let start = self.stopwatch.map(|now| now());
        let (queue, errors) = (&mut *self.queue, &mut *self.errors);
        // What a handler leaves half done is in its own value; the machine's parts are whole.
        let result = catch_unwind(AssertUnwindSafe(|| handler(queue, errors)));
        let took = self
            .stopwatch
            .zip(start)
            .map(|(now, start)| now().saturating_sub(start));
        if let Some(runs) = &mut self.runs {
            let (began, took) = (start.unwrap_or_default(), took.unwrap_or_default());
            runs.push(Run {
                phase,
                state,
                began,
                took,
            });
        }
        match result {
            Err(panic) => {
                let error = MachineError::new(ErrorKind::Panic, panic_message(panic), revision);
                Ended::Panicked(ongoing(error))
            }
            Ok(_) if took.is_some_and(|took| took > self.limits.timeout) => {
                let took = took.unwrap_or_default();
                let overdue = took > self.limits.deadline;
                let (kind, limit) = if overdue {
                    (ErrorKind::Deadline, self.limits.deadline)
                } else {
                    (ErrorKind::Timeout, self.limits.timeout)
                };
                let message = format!("took {took:?}, may take {limit:?}");
                let error = ongoing(MachineError::new(kind, message, revision));
                if overdue && self.overdue.is_none() {
                    self.overdue = Some(Box::new(error.clone()));
                }
                self.errors.push(error);
                Ended::Late
            }
            Ok(value) => Ended::With(value),
        }
    }

    fn ongoing<'s, S: State>(
        &self,
        scene: &Stage<'s>,
        phase: Phase,
        state: u32,
        other: u32,
    ) -> Ongoing<'s, S>
    where
        'c: 's,
    {
        let schema = self.schema;
        Ongoing {
            schema,
            request: scene.request,
            cause: self.cause,
            ticks: scene.ticks,
            before: scene.before,
            after: scene.after,
            now: scene.now,
            revision: scene.revision,
            phase,
            state,
            other,
            states: PhantomData,
        }
    }
}

impl<'a, 'c, S: State> Asking<'a, 'c, S> {
    pub(crate) fn new(dispatch: &'a Dispatch<S>, caller: &'a mut Caller<'c>) -> Self {
        Self {
            dispatch,
            caller,
            panic: None,
        }
    }

    /// Whom a transition asks.
    pub(crate) fn negotiator(&mut self) -> Negotiator<'_> {
        Negotiator {
            bound: &self.dispatch.bound,
            asker: self,
        }
    }

    /// The error of a handler that panicked.
    pub(crate) fn into_panic(self) -> Option<Box<MachineError>> {
        self.panic
    }
}

/// Asks the handlers of a machine on behalf of a transition.
pub(crate) struct Asking<'a, 'c, S: State> {
    dispatch: &'a Dispatch<S>,
    caller: &'a mut Caller<'c>,
    panic: Option<Box<MachineError>>,
}

impl<S: State> Ask for Asking<'_, '_, S> {
    fn ask(&mut self, scene: &Stage<'_>, phase: Phase, state: u32, pair: usize) -> Answer {
        let (state, other) = match phase {
            Phase::Between => {
                let pair = self.dispatch.bound.pair(pair);
                (pair.before, pair.after)
            }
            _ => (state, 0),
        };
        let ongoing = self.caller.ongoing::<S>(scene, phase, state, other);
        for target in self.dispatch.targets(phase, state, pair) {
            let set = &self.dispatch.sets[target.set as usize];
            let blame = |error| ongoing.blame(error);
            let remote = self.caller.cause.is_followed();
            let named = ongoing.state().map(|state: S| as_index(state.index()));
            let at = (phase, named);
            let ended = self
                .caller
                .call(at, &blame, scene.revision, |queue, errors| {
                    let mut cx = Negotiation {
                        ongoing,
                        append: Append {
                            queue,
                            errors,
                            remote,
                        },
                    };
                    set.ask(target.slot, &mut cx)
                });
            match ended {
                Ended::With(Verdict::Accept) => {}
                Ended::With(Verdict::Refuse(why)) => {
                    let why = why.map(|why| match why {
                        Cow::Owned(mut text) => {
                            shorten(&mut text);
                            Cow::Owned(text)
                        }
                        // Of the program's own making.
                        text @ Cow::Borrowed(_) => text,
                    });
                    return Answer::Refuse(Reason::Refused(Box::new(Refusal {
                        phase,
                        state: named,
                        why,
                    })));
                }
                Ended::Late => {
                    return Answer::Refuse(Reason::TimedOut {
                        phase,
                        state: named,
                    });
                }
                Ended::Panicked(error) => {
                    let reason = Reason::Panicked {
                        phase,
                        state: named,
                    };
                    self.panic = Some(Box::new(error));
                    return Answer::Cancel(reason);
                }
            }
        }
        Answer::Accept
    }
}

/// Where final handlers leave what outlives them.
pub(crate) struct Leave<'a, S: State> {
    pub(crate) contexts: &'a Arc<Contexts>,
    /// The published tick of a state, where the transition is one that was published before.
    #[cfg(feature = "tokio")]
    pub(crate) published: Option<&'a dyn Fn(u32) -> u64>,
    #[cfg(feature = "tokio")]
    pub(crate) work: &'a mut Vec<Work<S>>,
    #[cfg(not(feature = "tokio"))]
    pub(crate) states: PhantomData<S>,
}

/// Where the final phase stopped, if it did.
pub(crate) struct Stopped {
    pub(crate) reason: Reason<u32>,
    /// The states to take out (rules R26, R27): those that begin whose handlers did not run.
    pub(crate) from_enter: usize,
    pub(crate) panic: Option<Box<MachineError>>,
}

impl<S: State> Dispatch<S> {
    /// Runs the final handlers (rule R18).
    pub(crate) fn tell(
        &mut self,
        scene: &Stage<'_>,
        exits: &[u32],
        enters: &[u32],
        caller: &mut Caller<'_>,
        leave: &mut Leave<'_, S>,
    ) -> Result<(), Stopped> {
        let ends = exits.iter().map(|state| (Phase::End, *state, 0));
        let begins = enters
            .iter()
            .enumerate()
            .map(|(i, state)| (Phase::State, *state, i));
        let any = self
            .bound
            .any_state()
            .then_some((Phase::AnyState, 0, enters.len()));
        for (phase, state, from_enter) in ends.chain(begins).chain(any) {
            let targets = match phase {
                Phase::AnyState => &self.any_state,
                phase => phase
                    .place()
                    .map_or(&[][..], |place| self.at[place].of(state)),
            };
            let ongoing = caller.ongoing::<S>(scene, phase, state, 0);
            for target in targets {
                let set = &mut self.sets[target.set as usize];
                let blame = |error| ongoing.blame(error);
                let remote = caller.cause.is_followed();
                let named = ongoing.state().map(|state: S| as_index(state.index()));
                let at = (phase, named);
                let ended = caller.call(at, &blame, scene.revision, |queue, errors| {
                    let mut cx = Final {
                        ongoing,
                        append: Append {
                            queue,
                            errors,
                            remote,
                        },
                        contexts: leave.contexts,
                        #[cfg(feature = "tokio")]
                        published: leave.published,
                        #[cfg(feature = "tokio")]
                        work: leave.work,
                    };
                    let finished = set.tell(target.slot, &mut cx);
                    cx.take(finished);
                });
                let (reason, panic) = match ended {
                    Ended::With(()) => continue,
                    // There is nothing to take back on a replica; the error is noted.
                    Ended::Late if remote => continue,
                    Ended::Late => (
                        Reason::TimedOut {
                            phase,
                            state: named,
                        },
                        None,
                    ),
                    Ended::Panicked(error) => (
                        Reason::Panicked {
                            phase,
                            state: named,
                        },
                        Some(error),
                    ),
                };
                return Err(Stopped {
                    reason,
                    from_enter,
                    panic: panic.map(Box::new),
                });
            }
        }
        Ok(())
    }
}

/// What a panic says. That what it carries may panic as it drops is no reason to.
pub(crate) fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let message = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    };
    discard(panic);
    message
}
