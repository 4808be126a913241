//! Lines that a peer can cause, at a bounded rate.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a line is told at most.
const EVERY: Duration = Duration::from_secs(1);

/// When the process first told one; times are counted from it.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Tells a line at most once a second, and how often it was not told in between. For what a stranger can cause
/// as often as it likes.
#[derive(Debug, Default)]
pub struct Seldom {
    /// The millisecond from which on the next is told.
    next: AtomicU64,
    kept: AtomicU64,
}

impl Seldom {
    /// One that has told nothing.
    pub const fn new() -> Self {
        Self {
            next: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }

    /// Calls `tell` with how many were kept back since it last was, unless that was just now.
    pub fn say(&self, tell: impl FnOnce(u64)) {
        let now = millis(BEGAN.elapsed());
        let next = self.next.load(Ordering::Relaxed);
        let then = now + millis(EVERY);
        let (ours, any) = (Ordering::Relaxed, Ordering::Relaxed);
        if now < next || self.next.compare_exchange(next, then, ours, any).is_err() {
            self.kept.fetch_add(1, Ordering::Relaxed);
            return;
        }
        tell(self.kept.swap(0, Ordering::Relaxed));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_often_is_told_once_and_the_rest_counted() {
        let seldom = Seldom::new();
        let mut told = Vec::new();
        for _ in 0..100 {
            seldom.say(|kept| told.push(kept));
        }
        // However slow this computer is, the first is told, and nothing is lost.
        assert_eq!(told[0], 0);
        let kept = seldom.kept.load(Ordering::Relaxed);
        assert_eq!(told.len() as u64 + told.iter().sum::<u64>() + kept, 100);
    }
}
