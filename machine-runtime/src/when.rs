//! Waiting for states: futures that cost no task and wake only for the states they name.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

#[cfg(feature = "serde")]
use crate::errors::MachineError;
use crate::mutation::{IntoStates, StateList};
#[cfg(feature = "serde")]
use crate::payload::PayloadOf;
use crate::position::Epoch;
use crate::schema::{EXCEPTION, as_index};
use crate::state::State;
use crate::view::View;

#[cfg(feature = "debug")]
mod awaited;
mod condition;
mod waiters;
mod waking;

pub(crate) use condition::{Condition, Moment, Now};
pub(crate) use waiters::Waiters;
pub(crate) use waking::{Replaced, Waking};

use condition::Found;
use waiters::Wait;

/// The machine or replica behind a view has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the machine has been shut down")]
pub struct Closed;

/// Resolves once states are as awaited, even if they no longer are when it is polled. Fails with
/// [`Closed`] once the machine has ended.
///
/// It costs no task, and is woken once: what it waits for is looked at by whoever writes the view.
///
/// # Cancel safety
///
/// Dropping it ends the waiting and nothing else.
#[must_use = "futures do nothing unless awaited"]
pub struct When<T = ()> {
    wait: Wait,
    then: fn(Found) -> T,
}

impl<T> Future for When<T> {
    type Output = Result<T, Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.wait.poll(cx).map_ok(self.then)
    }
}

impl<T> fmt::Debug for When<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When")
            .field("id", &self.wait.id)
            .finish_non_exhaustive()
    }
}

/// The ticks of a machine after one transition, to be asked by [`View::when_query`].
pub struct Ticks<'a, S> {
    moment: &'a dyn Moment,
    states: PhantomData<fn(S)>,
}

impl<S: State> Ticks<'_, S> {
    /// The tick of `state`; 0 of one that the schema does not have.
    pub fn tick(&self, state: S) -> u64 {
        self.moment.tick(as_index(state.index()))
    }

    /// Whether `state` is active.
    pub fn is_active(&self, state: S) -> bool {
        self.tick(state) % 2 == 1
    }
}

impl<S> fmt::Debug for Ticks<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticks").finish_non_exhaustive()
    }
}

/// # Waiting
///
/// Each of these has begun to wait when it returns. On a machine, conditions are looked at once at
/// the start and then at the end of each accepted transition that ticked one of their states (rule
/// R30); what a canceled transition changed is looked at with the next accepted one. A replica
/// looks at each delta: what several transitions did to a state may be one to it.
///
/// Where the root begins a new epoch, ticks begin anew.
impl<S: State> View<S> {
    /// Waits until all of `states` are active.
    pub fn when(&self, states: impl IntoStates<S>) -> When {
        self.wait(Condition::Active(indices(states)))
    }

    /// Waits until none of `states` is active.
    pub fn when_not(&self, states: impl IntoStates<S>) -> When {
        self.wait(Condition::Inactive(indices(states)))
    }

    /// Waits until `state` has ticked `ticks` times more.
    pub fn when_ticks(&self, state: S, ticks: u64) -> When {
        let least = self.tick(state).saturating_add(ticks);
        self.wait(Condition::Ticks(vec![(as_index(state.index()), least)]))
    }

    /// Waits until each state's tick is at least the given one.
    pub fn when_time(&self, times: impl IntoIterator<Item = (S, u64)>) -> When {
        let times = times
            .into_iter()
            .map(|(state, tick)| (as_index(state.index()), tick));
        self.wait(Condition::Ticks(times.collect()))
    }

    /// Waits for the next activation of `state`. If it is active, that is after it ended, or its
    /// next call if it is a multi state. An activation that a panic took back counts: it ticked.
    pub fn when_next(&self, state: S) -> When {
        self.next(state, |_payload| ())
    }

    /// Waits until `question` is answered with yes. It is asked whenever one of `states` ticked,
    /// and once at the start.
    ///
    /// The task of the machine asks it, so it should be quick. If it panics, so does the future;
    /// the machine does not.
    pub fn when_query(
        &self,
        states: impl IntoStates<S>,
        question: impl Fn(&Ticks<'_, S>) -> bool + Send + Sync + 'static,
    ) -> When {
        let question = move |moment: &dyn Moment| {
            question(&Ticks {
                moment,
                states: PhantomData,
            })
        };
        self.wait(Condition::Query(indices(states), Arc::new(question)))
    }

    /// Waits until `state` is active with a payload that `matches`, and resolves to it. If that
    /// payload is retained it may be active already; others are only known on the machine itself,
    /// at the moment of the activation.
    ///
    /// Of `matches` holds what [`View::when_query`] says of its question.
    pub fn when_bytes(
        &self,
        state: S,
        matches: impl Fn(&Bytes) -> bool + Send + Sync + 'static,
    ) -> When<Bytes> {
        self.brings(payload_condition(state, matches), matched)
    }

    /// As [`View::when_bytes`], of typed payloads. Bytes that are none of the type do not match.
    #[cfg(feature = "serde")]
    pub fn when_payload<T: serde::de::DeserializeOwned + 'static>(
        &self,
        of: PayloadOf<S, T>,
        matches: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> When<T> {
        let state = of.state();
        let matches = move |bytes: &Bytes| of.decode(bytes).is_ok_and(|value| matches(&value));
        self.brings(payload_condition(state, matches), decoded::<T>)
    }

    /// Waits until `Exception` begins, or is called again, and resolves to the payload it came
    /// with. None if it was called by hand, without an error, or a replica saw it end at once.
    #[cfg(feature = "serde")]
    pub fn when_error(&self) -> When<Option<MachineError>> {
        self.next(self.exception(), error)
    }

    /// Waits until the tick of one of the states is not the given one; of no state, for the end.
    pub(crate) fn when_moved(&self, ticks: Vec<(u32, u64)>) -> When {
        self.wait(Condition::Moved(ticks))
    }

    fn next<T>(&self, state: S, then: fn(Found) -> T) -> When<T> {
        loop {
            let epoch = self.epoch();
            let condition = Condition::next(as_index(state.index()), self.tick(state));
            let when = self.brings(condition, then);
            // What replaces a moment corrects those who wait by then, and nobody who comes with a
            // tick of before.
            if self.epoch() == epoch {
                return when;
            }
        }
    }

    fn wait(&self, condition: Condition) -> When {
        self.brings(condition, |_found| ())
    }

    fn brings<T>(&self, condition: Condition, then: fn(Found) -> T) -> When<T> {
        let shared = self.shared();
        let wait = shared.waiters.wait(condition, || shared.current());
        When { wait, then }
    }

    pub(crate) fn exception(&self) -> S {
        let exception = self.schema().find(EXCEPTION).and_then(S::from_index);
        exception.expect("every schema has Exception (rule R3)")
    }

    fn epoch(&self) -> Option<Epoch> {
        self.position().map(|position| position.epoch)
    }
}

/// What the payload of `Exception` says.
#[cfg(feature = "serde")]
fn error(found: Found) -> Option<MachineError> {
    Some(MachineError::from_payload(&found.payload?))
}

fn matched(found: Found) -> Bytes {
    let payload = found.payload;
    payload.expect("the condition holds of a payload only")
}

#[cfg(feature = "serde")]
fn decoded<T: serde::de::DeserializeOwned>(found: Found) -> T {
    // The state plays no part in decoding.
    let value = PayloadOf::<(), T>::new(()).decode(&matched(found));
    value.expect("these bytes were decoded when they matched")
}

fn payload_condition<S: State>(
    state: S,
    matches: impl Fn(&Bytes) -> bool + Send + Sync + 'static,
) -> Condition {
    Condition::Payload(as_index(state.index()), Arc::new(matches))
}

pub(crate) fn indices<S: State>(states: impl IntoStates<S>) -> Vec<u32> {
    let mut list = StateList::new();
    states.append_to(&mut list);
    list.into_iter()
        .map(|state: S| as_index(state.index()))
        .collect()
}
