//! What the code that the attribute macro `handlers` writes refers to.

use std::ops::RangeInclusive;

use crate::handlers::{BoxError, Finished, Verdict};
use crate::mutation::StateList;
use crate::set::StateSet;
use crate::state::State;

/// What a negotiation method returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer of a negotiation handler",
    label = "expected `bool`, `Result<(), String>` or `Verdict`",
    note = "a negotiation handler says whether the transition may happen, and if not perhaps why"
)]
pub trait Answer {
    /// The answer.
    fn verdict(self) -> Verdict;
}

impl Answer for bool {
    fn verdict(self) -> Verdict {
        self.into()
    }
}

impl Answer for Verdict {
    fn verdict(self) -> Verdict {
        self
    }
}

impl<E: Into<String>> Answer for Result<(), E> {
    fn verdict(self) -> Verdict {
        self.into()
    }
}

/// What a final method returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a final handler leaves",
    label = "expected nothing, or `Result<(), E>` with an error",
    note = "a final handler cannot refuse: the transition has happened; to refuse, ask in `enter` or `exit`"
)]
pub trait Ending {
    /// What is left.
    fn finished(self) -> Finished;
}

impl Ending for () {
    fn finished(self) -> Finished {
        self.into()
    }
}

impl Ending for Finished {
    fn finished(self) -> Finished {
        self
    }
}

impl<E: Into<BoxError>> Ending for Result<(), E> {
    fn finished(self) -> Finished {
        self.into()
    }
}

/// The values of a loop variable.
#[derive(Clone, Copy, Debug)]
pub struct Each {
    /// The first value.
    pub first: usize,
    /// The last value.
    pub last: usize,
    /// The variable's place in the order in which loops nest, outermost first; 0 for all
    /// variables of a template without such an order.
    pub place: usize,
}

impl Each {
    /// The values.
    pub fn values(self) -> RangeInclusive<usize> {
        self.first..=self.last
    }
}

/// Checks, while it compiles, that accessors get the variables in the order of their parameters.
///
/// # Panics
///
/// If they are in another order.
#[must_use]
#[track_caller]
pub const fn nested<const N: usize>(each: [Each; N]) -> [Each; N] {
    let mut i = 1;
    while i < N {
        assert!(
            each[i - 1].place <= each[i].place,
            "loop variables out of order: take them as the loops of the template nest, the outermost first"
        );
        i += 1;
    }
    each
}

/// The states, each once: a handler runs once for a state that is named twice, as by its group.
pub fn once<S: State>(mut states: StateList<S>) -> StateList<S> {
    let mut seen = StateSet::EMPTY;
    states.retain(|state| seen.insert(*state));
    states
}
