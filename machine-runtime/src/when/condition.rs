//! What is awaited, and what it is held against.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::view::{Snapshot, tick_of};

/// States as they are after one transition.
pub(crate) trait Moment {
    /// The tick of a state; 0 of one that the schema does not have.
    fn tick(&self, state: u32) -> u64;

    /// The payload that a state was activated with, as far as it is still known.
    fn payload(&self, state: u32) -> Option<Bytes>;
}

/// A moment whose payloads are those that are retained.
#[derive(Clone, Copy)]
pub(crate) struct Now<'a> {
    pub(crate) ticks: &'a [u64],
    pub(crate) retained: &'a BTreeMap<u32, Bytes>,
}

impl Moment for Now<'_> {
    fn tick(&self, state: u32) -> u64 {
        tick_of(self.ticks, state)
    }

    fn payload(&self, state: u32) -> Option<Bytes> {
        self.retained.get(&state).cloned()
    }
}

impl Moment for Snapshot {
    fn tick(&self, state: u32) -> u64 {
        tick_of(self.ticks(), state)
    }

    fn payload(&self, state: u32) -> Option<Bytes> {
        self.retained().get(&state).cloned()
    }
}

impl<M: Moment> Moment for Arc<M> {
    fn tick(&self, state: u32) -> u64 {
        M::tick(self, state)
    }

    fn payload(&self, state: u32) -> Option<Bytes> {
        M::payload(self, state)
    }
}

/// What a condition brings when it holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Of those that concern one state's activation: what that was called with.
    pub(crate) payload: Option<Bytes>,
}

type OfMoment = Arc<dyn Fn(&dyn Moment) -> bool + Send + Sync>;
type OfPayload = Arc<dyn Fn(&Bytes) -> bool + Send + Sync>;

/// What is awaited.
#[derive(Clone)]
pub(crate) enum Condition {
    /// All of the states are active.
    Active(Vec<u32>),
    /// None of the states is active.
    Inactive(Vec<u32>),
    /// Each state's tick is at least this.
    Ticks(Vec<(u32, u64)>),
    /// Some state's tick is not this any more.
    Moved(Vec<(u32, u64)>),
    /// The state's tick is at least this; brings the state's payload.
    Next(u32, u64),
    /// A question about the states.
    Query(Vec<u32>, OfMoment),
    /// The state is active with such a payload; brings it.
    Payload(u32, OfPayload),
}

impl Condition {
    /// The next activation of a state that has this tick: ticks tell it even where a follower
    /// sees several transitions as one.
    pub(crate) fn next(state: u32, tick: u64) -> Self {
        Self::Next(state, (tick + 1) | 1)
    }

    /// What it brings, if it holds. This runs code of whoever waits.
    pub(crate) fn holds(&self, moment: &dyn Moment) -> Option<Found> {
        let tick = |state: &u32| moment.tick(*state);
        let holds = match self {
            Self::Active(states) => states.iter().all(|state| tick(state) % 2 == 1),
            Self::Inactive(states) => states.iter().all(|state| tick(state).is_multiple_of(2)),
            Self::Ticks(ticks) => ticks.iter().all(|(state, least)| tick(state) >= *least),
            Self::Moved(ticks) => ticks.iter().any(|(state, old)| tick(state) != *old),
            Self::Query(_, question) => question(moment),
            Self::Next(state, least) => {
                return (tick(state) >= *least).then(|| Found {
                    payload: moment.payload(*state),
                });
            }
            Self::Payload(state, matches) => {
                let active = tick(state) % 2 == 1;
                let payload = active.then(|| moment.payload(*state)).flatten();
                let payload = Some(payload.filter(|payload| matches(payload))?);
                return Some(Found { payload });
            }
        };
        holds.then(Found::default)
    }

    /// The states that it concerns, perhaps with repeats.
    pub(crate) fn states(&self) -> impl Iterator<Item = u32> + '_ {
        let (states, ticks) = match self {
            Self::Active(states) | Self::Inactive(states) | Self::Query(states, _) => {
                (states.as_slice(), &[][..])
            }
            Self::Ticks(ticks) | Self::Moved(ticks) => (&[][..], ticks.as_slice()),
            Self::Next(state, _) | Self::Payload(state, _) => {
                (std::slice::from_ref(state), &[][..])
            }
        };
        states
            .iter()
            .copied()
            .chain(ticks.iter().map(|(state, _)| *state))
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Active(_) => "Active",
            Self::Inactive(_) => "Inactive",
            Self::Ticks(_) => "Ticks",
            Self::Next(..) => "Next",
            Self::Moved(_) => "Moved",
            Self::Query(..) => "Query",
            Self::Payload(..) => "Payload",
        };
        let states = self.states().collect::<Vec<_>>();
        f.debug_tuple(name).field(&states).finish()
    }
}
