//! Random traffic: load, and something to look at without a table.

use std::time::Duration;

use machine_runtime::{EXCEPTION, Handle, MutateError, Mutation, States};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How many states a mutation calls.
const CALLED: usize = 3;

/// The finest period that a timer keeps; faster traffic comes in bursts of this period.
const TIMER: Duration = Duration::from_millis(1);

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

    /// Lets a mutation flow into `root` every `period`, for ever.
    ///
    /// # Errors
    ///
    /// [`MutateError`] if the root ended.
    pub async fn run(mut self, root: &Handle<S>, period: Duration) -> Result<(), MutateError> {
        let start = Instant::now();
        let mut timer = interval(period.max(TIMER));
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut done: u128 = 0;
        loop {
            timer.tick().await;
            let due = start.elapsed().as_nanos() / period.as_nanos() + 1;
            while done < due {
                let exception = self
                    .exception
                    .is_some_and(|state| root.view().is_active(state));
                // A refusal is part of the game.
                let _ = root.mutate(self.next(exception)).await?;
                done += 1;
            }
        }
    }
}
