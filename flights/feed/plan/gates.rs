//! The gates that are free.

/// The free gates, from which a seeded choice takes one.
#[derive(Clone, Debug)]
pub(super) struct Gates {
    free: Vec<usize>,
    choice: fastrand::Rng,
}

impl Gates {
    pub(super) fn new(gates: usize, seed: u64) -> Self {
        Self {
            free: (1..=gates).collect(),
            choice: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) fn take(&mut self) -> Option<usize> {
        if self.free.is_empty() {
            return None;
        }
        let place = self.choice.usize(..self.free.len());
        Some(self.free.swap_remove(place))
    }

    pub(super) fn give_back(&mut self, gate: usize) {
        self.free.push(gate);
    }
}
