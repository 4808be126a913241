//! A bit for each state that others look at without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which states somebody cares for. Written under the lock of whatever they are registered in;
/// read by the writer of states at each transition.
#[derive(Debug)]
pub(crate) struct Marks {
    words: Box<[AtomicU64]>,
}

impl Marks {
    /// No mark among so many states.
    pub(crate) fn new(states: usize) -> Self {
        let words = (0..states.div_ceil(64)).map(|_| AtomicU64::new(0));
        Self {
            words: words.collect(),
        }
    }

    /// Marks a state. One that the schema does not have never ticks and needs no mark.
    pub(crate) fn mark(&self, state: u32) {
        if let Some(word) = self.words.get(state as usize / 64) {
            word.fetch_or(1 << (state % 64), Ordering::Relaxed);
        }
    }

    pub(crate) fn unmark(&self, state: u32) {
        if let Some(word) = self.words.get(state as usize / 64) {
            word.fetch_and(!(1 << (state % 64)), Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn contains(&self, state: u32) -> bool {
        let word = self.words.get(state as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (state % 64) & 1 == 1)
    }
}
