//! How much is told: to tell takes longer than a transition, and a machine that makes as many as it can
//! shares its processor with whoever tells of it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::EVENTS;

/// So often there is more to spend.
const TURN: Duration = Duration::from_millis(10);

/// How many frames of one node are told in that time: 5,000 a second.
const PER_TURN: usize = 50;

/// The frames of one node that may be told. What was not told for a while can be made up for at once, up to
/// as many as wait.
#[derive(Debug)]
pub(super) struct Pace {
    left: usize,
    next: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            left: EVENTS,
            next: Instant::now() + TURN,
        }
    }

    /// Waits until a frame may be told.
    pub(super) async fn turn(&mut self) {
        if self.left == 0 {
            sleep_until(self.next).await;
            let now = Instant::now();
            let turns = now.saturating_duration_since(self.next).as_millis() / TURN.as_millis();
            let turns = usize::try_from(turns).unwrap_or(EVENTS).min(EVENTS);
            self.left = ((turns + 1) * PER_TURN).min(EVENTS);
            self.next = now + TURN;
        }
        self.left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_told_at_once_and_what_goes_on_at_the_pace() {
        let mut pace = Pace::new();
        let start = Instant::now();
        for _ in 0..EVENTS {
            pace.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..10 * PER_TURN {
            pace.turn().await;
        }
        let took = start.elapsed();
        assert!((TURN * 9..TURN * 12).contains(&took), "{took:?}");
        // What was not used for a while is there at once.
        tokio::time::advance(Duration::from_mins(1)).await;
        let start = Instant::now();
        for _ in 0..EVENTS {
            pace.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
