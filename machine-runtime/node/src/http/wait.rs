//! Requests that wait for a position.

use std::time::Duration;

use machine_runtime::Position;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Site;
use super::permit::{Hold, lost};
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

impl Until {
    /// Whether a node at `now` is where the request waits for.
    ///
    /// # Errors
    ///
    /// If it never will be: its root began a new life.
    pub(super) fn is_over(self, now: Position) -> Result<bool, Problem> {
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
    /// Waits as a query asks for. Whether something came past the client's position shows in what
    /// is shown then: it may come after the wait, and must not be passed over.
    ///
    /// # Cancel safety
    ///
    /// Nothing remains of a wait that is dropped.
    pub(super) async fn wait(
        &self,
        wait: Wait,
        mut hold: Option<Hold>,
        stopping: &CancellationToken,
    ) -> Result<(), Problem> {
        let end = Instant::now() + wait.most;
        let mut positions = self.view.positions();
        loop {
            // Marked as seen first: what comes while we look makes us look again.
            positions.borrow_and_update();
            // A view that showed something always does.
            if let Some(now) = self.view.position()
                && wait.until.is_over(now)?
            {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Err(Problem::stopping()),
                changed = positions.changed() => if changed.is_err() {
                    return Err(Problem::stopping());
                },
                () = lost(&mut hold) => return Err(Problem::revoked()),
                () = sleep_until(end) => break,
            }
        }
        match wait.until {
            Until::Past(_) => Ok(()),
            Until::Reached(asked) => {
                let now = self.view.position().unwrap_or(asked);
                Err(Problem::not_reached(asked, now))
            }
        }
    }
}
