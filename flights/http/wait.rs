//! Requests that wait for a position.

use std::time::Duration;

use machine_runtime::{DynState, Position, View};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Site;
use super::problem::Problem;

/// What a request waits for, and how long at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wait {
    pub(super) until: Until,
    pub(super) most: Duration,
}

/// The position that a request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// One past this.
    Past(Position),
    /// This or one past it.
    Reached(Position),
}

/// What came of waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waited {
    /// The position is there.
    Reached,
    /// Nothing came after the client's position.
    Unchanged,
}

impl Until {
    fn is_over(self, view: &View<DynState>) -> Result<bool, Problem> {
        // A view that showed something always does.
        let Some(now) = view.position() else {
            return Ok(false);
        };
        let (Self::Past(asked) | Self::Reached(asked)) = self;
        if now.epoch != asked.epoch {
            return Err(Problem::epoch_changed(now));
        }
        Ok(match self {
            Self::Past(asked) => now.revision > asked.revision,
            Self::Reached(asked) => now.revision >= asked.revision,
        })
    }
}

impl Site {
    /// Waits as a query asks for.
    ///
    /// # Cancel safety
    ///
    /// Nothing remains of a wait that is dropped.
    pub(super) async fn wait(
        &self,
        wait: Wait,
        stopping: &CancellationToken,
    ) -> Result<Waited, Problem> {
        let end = Instant::now() + wait.most;
        let mut positions = self.view.positions();
        loop {
            // Marked as seen first: what comes while we look makes us look again.
            positions.borrow_and_update();
            if wait.until.is_over(&self.view)? {
                return Ok(Waited::Reached);
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Err(Problem::stopping()),
                changed = positions.changed() => if changed.is_err() {
                    return Err(Problem::stopping());
                },
                () = sleep_until(end) => break,
            }
        }
        match wait.until {
            Until::Past(_) => Ok(Waited::Unchanged),
            Until::Reached(asked) => {
                let now = self.view.position().unwrap_or(asked);
                Err(Problem::not_reached(asked, now))
            }
        }
    }
}
