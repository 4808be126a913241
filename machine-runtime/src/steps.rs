//! Why a transition does what it does: its resolution once more, told step by step.

use crate::machine::Machine;
use crate::mutation::{Mutation, Op, Reason};
use crate::queue::{check_known, decided};
use crate::schema::as_index;
use crate::state::State;
use crate::transition::Request;

/// One step of a resolution. Steps come in the order in which the rules have them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Step<S> {
    /// The mutation calls the state (rule R5).
    Called(S),
    /// A state of the list adds another (rules R6, R9).
    Added {
        /// What is added.
        state: S,
        /// By which state.
        by: S,
    },
    /// A state of the list would add another, and does not.
    NotAdded {
        /// What is not added.
        state: S,
        /// By which state it would have been.
        by: S,
        /// Which state of the list removes it (rule R9). None in a remove that calls it: what is removed
        /// is not added back (rule R6).
        removed_by: Option<S>,
    },
    /// A state leaves the list, as what it requires is not in it (rule R7).
    Missing {
        /// What leaves.
        state: S,
        /// What it requires.
        requires: S,
    },
    /// A state leaves the list, as one that is in it removes it (rule R8).
    Blocked {
        /// What leaves.
        state: S,
        /// What removes it.
        by: S,
    },
    /// Of the auto states these can be reached; it is resolved once more with them only (rule R17).
    Again(Vec<S>),
    /// The state begins (rule R12).
    Begins(S),
    /// The state ends (rule R12).
    Ends(S),
    /// The multi state was called while active, and ticks twice (rule R12).
    Ticks(S),
    /// It is refused (rule R11).
    Refused(Reason<S>),
}

impl<S> Step<S> {
    /// The same step in terms of another state type.
    pub fn map<T>(self, state_of: impl Fn(S) -> T) -> Step<T> {
        match self {
            Self::Called(state) => Step::Called(state_of(state)),
            Self::Added { state, by } => Step::Added {
                state: state_of(state),
                by: state_of(by),
            },
            Self::NotAdded {
                state,
                by,
                removed_by,
            } => Step::NotAdded {
                state: state_of(state),
                by: state_of(by),
                removed_by: removed_by.map(state_of),
            },
            Self::Missing { state, requires } => Step::Missing {
                state: state_of(state),
                requires: state_of(requires),
            },
            Self::Blocked { state, by } => Step::Blocked {
                state: state_of(state),
                by: state_of(by),
            },
            Self::Again(states) => Step::Again(states.into_iter().map(state_of).collect()),
            Self::Begins(state) => Step::Begins(state_of(state)),
            Self::Ends(state) => Step::Ends(state_of(state)),
            Self::Ticks(state) => Step::Ticks(state_of(state)),
            Self::Refused(reason) => Step::Refused(reason.map(state_of)),
        }
    }
}

impl<S: State> Machine<S> {
    /// What relations make of `mutation` now, step by step; nothing changes, and no handler is asked.
    ///
    /// # Panics
    ///
    /// As [`Machine::mutate`].
    pub fn steps(&self, mutation: &Mutation<S>) -> Vec<Step<S>> {
        check_known(self.schema(), mutation.states());
        let mut called: Vec<u32> = Vec::new();
        for state in mutation.states() {
            let state = as_index(state.index());
            if !called.contains(&state) {
                called.push(state);
            }
        }
        let (_, status, _) = self.parts();
        let op = decided(mutation.op(), &called, status.active().bits());
        self.raw_steps(op, &called, false)
    }

    /// What relations make of an auto mutation of these candidates (rule R19).
    ///
    /// # Panics
    ///
    /// As [`Machine::mutate`].
    pub fn auto_steps(&self, candidates: &[S]) -> Vec<Step<S>> {
        check_known(self.schema(), candidates);
        let called: Vec<u32> = candidates
            .iter()
            .map(|state| as_index(state.index()))
            .collect();
        self.raw_steps(Op::Add, &called, true)
    }

    fn raw_steps(&self, op: Op, called: &[u32], auto: bool) -> Vec<Step<S>> {
        let (schema, status, _) = self.parts();
        let request = Request {
            op,
            called,
            auto,
            payloads: &[],
        };
        let steps = status.steps(schema.compiled(), request).into_iter();
        let state_of = |index: u32| S::from_index(index as usize);
        let state_of = |index| state_of(index).expect("steps are about states of the schema");
        steps.map(|step| step.map(state_of)).collect()
    }
}
