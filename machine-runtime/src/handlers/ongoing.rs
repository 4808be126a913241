//! What a handler sees of the transition it runs in, and what it may do.

use std::fmt;
#[cfg(feature = "tokio")]
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::context::{Contexts, StateContext};
use crate::errors::{ErrorKind, MachineError};
#[cfg(feature = "tokio")]
use crate::handle::Handle;
use crate::mutation::{IntoStates, Mutation, Op, Reason};
#[cfg(feature = "serde")]
use crate::payload::PayloadOf;
use crate::queue::{Append, Enqueued};
use crate::schema::{Schema, as_index};
use crate::set::{StateSet, ones};
use crate::state::{State, Words};
use crate::transition::Request;

#[cfg(feature = "tokio")]
use super::Work;
use super::{BoxError, Finished, Phase};

/// Who asked for a mutation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Cause {
    /// Somebody outside of the machine.
    Call,
    /// A handler.
    Handler,
    /// The machine: auto states may begin (rule R19).
    Auto,
    /// The machine: a handler panicked (rule R26).
    Panic,
    /// A replica followed its parent: one transition or several.
    Delta,
    /// A view was at another moment before: at the start of a reactor, and where what led to the new
    /// moment is not known.
    Snapshot,
}

impl Cause {
    /// The cause's name in logs and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Handler => "handler",
            Self::Auto => "auto",
            Self::Panic => "panic",
            Self::Delta => "delta",
            Self::Snapshot => "snapshot",
        }
    }

    /// Whether a view led to it and not a mutation.
    pub(super) fn is_followed(self) -> bool {
        matches!(self, Self::Delta | Self::Snapshot)
    }
}

/// The transition that a handler runs in.
///
/// A handler gets it through [`Negotiation`] or [`Final`], which can be used as one.
#[derive(Clone, Copy)]
pub struct Ongoing<'a, S: State> {
    pub(super) schema: &'a Schema,
    pub(super) request: Request<'a>,
    pub(super) cause: Cause,
    pub(super) ticks: &'a [u64],
    /// The active states before, after, and now: one of the two.
    pub(super) before: &'a [u64],
    pub(super) after: &'a [u64],
    pub(super) now: &'a [u64],
    pub(super) revision: u64,
    pub(super) phase: Phase,
    pub(super) state: u32,
    pub(super) other: u32,
    pub(super) states: PhantomData<S>,
}

impl<'a, S: State> Ongoing<'a, S> {
    /// Names, relations and groups.
    pub fn schema(&self) -> &'a Schema {
        self.schema
    }

    /// The phase in which the handler runs.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The state that the handler runs for: of several that it is bound to, this one. For
    /// [`Phase::Between`] the one after; `None` in the `any` phases.
    pub fn state(&self) -> Option<S> {
        match self.phase {
            Phase::AnyEnter | Phase::AnyState => None,
            Phase::Between => state(self.other),
            _ => state(self.state),
        }
    }

    /// Of a pair ([`Phase::Between`]), the state before.
    pub fn state_before(&self) -> Option<S> {
        (self.phase == Phase::Between).then(|| state_at(self.state))
    }

    /// What is done with the called states; a toggle is an add or a remove by now. Not known on a
    /// replica.
    pub fn op(&self) -> Option<Op> {
        (!self.cause.is_followed()).then_some(self.request.op)
    }

    /// The called states, in order; none on a replica.
    pub fn called(&self) -> impl ExactSizeIterator<Item = S> + 'a {
        let called = self.request.called.iter();
        called.map(|index| state_at(*index))
    }

    /// Whether the mutation calls `state`.
    pub fn is_called(&self, state: S) -> bool {
        self.request.called.contains(&as_index(state.index()))
    }

    /// Who asked for the mutation.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether `state` is active now: before the change for a negotiation handler, after it for a
    /// final one.
    pub fn is_active(&self, state: S) -> bool {
        has(self.now, state)
    }

    /// Whether `state` was active before.
    pub fn was_active(&self, state: S) -> bool {
        has(self.before, state)
    }

    /// Whether `state` is active after the transition, as far as is known: the rest of the
    /// negotiation of an auto mutation may still change that (rule R15).
    pub fn will_be_active(&self, state: S) -> bool {
        has(self.after, state)
    }

    /// The states that are active now.
    pub fn active(&self) -> StateSet<S> {
        set(self.now)
    }

    /// The states that were active before.
    pub fn before(&self) -> StateSet<S> {
        set(self.before)
    }

    /// The states that are active after.
    pub fn after(&self) -> StateSet<S> {
        set(self.after)
    }

    /// How often `state` has changed by now.
    pub fn tick(&self, state: S) -> u64 {
        self.ticks.get(state.index()).copied().unwrap_or(0)
    }

    /// The machine's revision by now.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The bytes that the mutation brought for `state`.
    pub fn payload_bytes(&self, state: S) -> Option<&'a Bytes> {
        let index = as_index(state.index());
        let mut payloads = self.request.payloads.iter();
        payloads.find_map(|(of, bytes)| (*of == index).then_some(bytes))
    }

    /// The value that the mutation brought for a state.
    ///
    /// # Errors
    ///
    /// If what it brought is no such value.
    #[cfg(feature = "serde")]
    pub fn payload<T: serde::de::DeserializeOwned>(
        &self,
        of: PayloadOf<S, T>,
    ) -> Result<Option<T>, crate::payload::InvalidPayload> {
        let bytes = self.payload_bytes(of.state());
        bytes.map(|bytes| of.decode(bytes)).transpose()
    }

    pub(super) fn describe(&self) -> String {
        if self.cause.is_followed() {
            return "what was followed".to_owned();
        }
        let mut text = self.request.op.to_string();
        for state in self.request.called.iter().take(8) {
            text.push(' ');
            text.push_str(self.schema.name_of(*state as usize));
        }
        if self.request.called.len() > 8 {
            text.push_str(" …");
        }
        text
    }

    /// An error that a handler for this is to blame for.
    pub(super) fn blame(&self, mut error: MachineError) -> MachineError {
        error.phase = Some(self.phase);
        error.state = self
            .state()
            .map(|state| self.schema.name_of(state.index()).to_owned());
        error.mutation = self.describe();
        error
    }
}

impl<S: State> fmt::Debug for Ongoing<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ongoing")
            .field("phase", &self.phase)
            .field("mutation", &self.describe())
            .finish_non_exhaustive()
    }
}

fn state<S: State>(index: u32) -> Option<S> {
    S::from_index(index as usize)
}

fn state_at<S: State>(index: u32) -> S {
    state(index).expect("the machine's states are those of its schema")
}

fn has<S: State>(bits: &[u64], state: S) -> bool {
    let index = state.index();
    let word = bits.get(index / 64);
    word.is_some_and(|word| word >> (index % 64) & 1 == 1)
}

fn set<S: State>(bits: &[u64]) -> StateSet<S> {
    let mut words = S::Words::EMPTY;
    words.words_mut(bits.len())[..bits.len()].copy_from_slice(bits);
    StateSet::from_words(words)
}

/// What a negotiation handler gets: a look at the machine, and its queue to append to.
///
/// What is appended runs after this transition, whether that is accepted or not; in a dry run
/// ([`Machine::can`](crate::Machine::can)) it is discarded.
pub struct Negotiation<'a, S: State> {
    pub(super) ongoing: Ongoing<'a, S>,
    pub(super) append: Append<'a>,
}

/// What a final handler gets: a look at the machine, its queue to append to, and where to leave
/// errors and work.
///
/// On a replica, what it appends is sent up to the root.
pub struct Final<'a, S: State> {
    pub(super) ongoing: Ongoing<'a, S>,
    pub(super) append: Append<'a>,
    pub(super) contexts: &'a Arc<Contexts>,
    #[cfg(feature = "tokio")]
    pub(super) published: Option<&'a dyn Fn(u32) -> u64>,
    #[cfg(feature = "tokio")]
    pub(super) work: &'a mut Vec<Work<S>>,
}

macro_rules! appends {
    ($context:ident) => {
        impl<'a, S: State> Deref for $context<'a, S> {
            type Target = Ongoing<'a, S>;

            fn deref(&self) -> &Ongoing<'a, S> {
                &self.ongoing
            }
        }

        impl<S: State> fmt::Debug for $context<'_, S> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.ongoing, f)
            }
        }

        impl<S: State> $context<'_, S> {
            /// Appends a mutation to the queue (rule R21).
            ///
            /// # Errors
            ///
            /// A payload that is too large, or that no called state takes, is refused at once.
            ///
            /// # Panics
            ///
            /// If it calls a state that the schema does not have (rule R4); only a
            /// [`DynState`](crate::DynState) can be one.
            pub fn mutate(&mut self, mutation: &Mutation<S>) -> Result<Enqueued, Reason<S>> {
                self.append
                    .mutation(self.ongoing.schema, self.ongoing.now, mutation)
            }

            /// Appends an activation of `states`. A full queue takes nothing; what this returns says so.
            ///
            /// # Panics
            ///
            /// As [`Self::mutate`].
            pub fn add(&mut self, states: impl IntoStates<S>) -> Enqueued {
                self.append_op(Op::Add, states)
            }

            /// Appends a deactivation of `states`; with nothing waiting and none of them active
            /// now it is [`Enqueued::Needless`] (rule R23).
            ///
            /// # Panics
            ///
            /// As [`Self::mutate`].
            pub fn remove(&mut self, states: impl IntoStates<S>) -> Enqueued {
                self.append_op(Op::Remove, states)
            }

            /// Appends a set of `states`.
            ///
            /// # Panics
            ///
            /// As [`Self::mutate`].
            pub fn set(&mut self, states: impl IntoStates<S>) -> Enqueued {
                self.append_op(Op::Set, states)
            }

            /// Appends a removal of `states` if all of them are active now, else an activation
            /// (rule R24).
            ///
            /// # Panics
            ///
            /// As [`Self::mutate`].
            pub fn toggle(&mut self, states: impl IntoStates<S>) -> Enqueued {
                self.append_op(Op::Toggle, states)
            }

            /// Adds an error: appends an activation of `Exception` with it (rule R28).
            pub fn fail(&mut self, error: impl Into<BoxError>) -> Enqueued {
                self.fail_as(&[], error.into())
            }

            /// Adds an error as `states`, such as `ErrNetwork`, together with `Exception`.
            ///
            /// # Panics
            ///
            /// As [`Self::mutate`].
            pub fn fail_with(
                &mut self,
                states: impl IntoStates<S>,
                error: impl Into<BoxError>,
            ) -> Enqueued {
                let mut list = crate::mutation::StateList::new();
                states.append_to(&mut list);
                self.fail_as(&list, error.into())
            }

            fn fail_as(&mut self, states: &[S], error: BoxError) -> Enqueued {
                let error = MachineError::of(ErrorKind::Added, error, self.ongoing.revision);
                let error = self.ongoing.blame(error);
                let ongoing = &self.ongoing;
                self.append
                    .error(ongoing.schema, ongoing.now, states, error)
            }

            fn append_op(&mut self, op: Op, states: impl IntoStates<S>) -> Enqueued {
                let mutation = Mutation::new(op, states);
                self.mutate(&mutation)
                    .expect("only a payload is refused at once, and there is none")
            }
        }
    };
}

appends!(Negotiation);
appends!(Final);

impl<S: State> Final<'_, S> {
    /// A context that ends once `state` ticks, from its tick as it is now. On a replica that may have
    /// gone on by now; then it is ended.
    pub fn context(&self, state: S) -> StateContext {
        let (index, tick) = (as_index(state.index()), self.tick(state));
        #[cfg(feature = "tokio")]
        if let Some(published) = self.published {
            let published = || published(index);
            return self.contexts.get_behind(index, tick, published);
        }
        self.contexts.get(index, tick)
    }

    /// Starts work once the machine is through with what it is at: a task that is dropped when the
    /// state that the handler runs for ticks. In [`Phase::AnyState`] it runs as long as the machine.
    ///
    /// An error that the work returns, and a panic in it, is added to the machine (rule R28). Only a
    /// machine with a task (`Owner`) runs work; one without drops it.
    #[cfg(feature = "tokio")]
    pub fn spawn<F, W>(&mut self, work: W)
    where
        W: FnOnce(Handle<S>) -> F + Send + 'static,
        F: Future<Output: Into<Finished>> + Send + 'static,
    {
        let state = self.ongoing.state();
        let state = state.map(|state| (as_index(state.index()), self.context(state)));
        self.work.push(Work::new(state, work));
    }

    /// As [`Final::spawn`], bound to any state at its tick as it is now.
    #[cfg(feature = "tokio")]
    pub fn spawn_for<F, W>(&mut self, state: S, work: W)
    where
        W: FnOnce(Handle<S>) -> F + Send + 'static,
        F: Future<Output: Into<Finished>> + Send + 'static,
    {
        let state = Some((as_index(state.index()), self.context(state)));
        self.work.push(Work::new(state, work));
    }

    /// Takes what a handler left.
    pub(super) fn take(&mut self, finished: Finished) {
        if let Err(error) = finished.0 {
            let error = MachineError::of(ErrorKind::Returned, error, self.ongoing.revision);
            let error = self.ongoing.blame(error);
            let ongoing = &self.ongoing;
            self.append
                .error::<S>(ongoing.schema, ongoing.now, &[], error);
        }
    }
}

impl<S: State> Ongoing<'_, S> {
    /// The states that end in this transition, in index order.
    pub fn ending(&self) -> impl Iterator<Item = S> + '_ {
        differing(self.before, self.after)
    }

    /// The states that begin in this transition, in index order. Multi states that are called
    /// again are not among them.
    pub fn beginning(&self) -> impl Iterator<Item = S> + '_ {
        differing(self.after, self.before)
    }
}

/// The members of `some` that are not in `others`.
fn differing<'b, S: State>(some: &'b [u64], others: &'b [u64]) -> impl Iterator<Item = S> + 'b {
    ones(some)
        .filter(|i| others[i / 64] >> (i % 64) & 1 == 0)
        .filter_map(S::from_index)
}
