//! Random traffic: load, and something to look at without a table.

use machine_runtime::{EXCEPTION, Mutation, States};

/// How many states a mutation calls.
const CALLED: usize = 3;

/// Mutations at random, the same for the same seed.
///
/// ```
/// use machine_node::random::RandomTraffic;
/// use machine_runtime::{Basic, Op};
///
/// let mut traffic = RandomTraffic::<Basic>::new(7);
/// assert_eq!(traffic.next(false).states().len(), 3);
/// assert_eq!(traffic.next(true).op(), Op::Remove);
/// ```
#[derive(Clone, Debug)]
pub struct RandomTraffic<S> {
    drawn: Vec<S>,
    exception: Option<S>,
    choice: fastrand::Rng,
}

impl<S: States> RandomTraffic<S> {
    /// Traffic on all states of `S` but `Exception`.
    pub fn new(seed: u64) -> Self {
        let exception = S::schema().find(EXCEPTION).and_then(S::from_index);
        let drawn = S::ALL
            .iter()
            .copied()
            .filter(|state| Some(*state) != exception)
            .collect();
        Self {
            drawn,
            exception,
            choice: fastrand::Rng::with_seed(seed),
        }
    }

    /// The next mutation: an add of three states drawn with replacement, or, where one of them
    /// brought up `Exception`, its removal.
    pub fn next(&mut self, exception_active: bool) -> Mutation<S> {
        match self.exception {
            Some(exception) if exception_active => Mutation::remove(exception),
            _ => {
                let called: Vec<S> = (0..CALLED)
                    .filter_map(|_| self.choice.choice(&self.drawn).copied())
                    .collect();
                Mutation::add(called)
            }
        }
    }
}
