//! The moments of a run of several transitions, one after the other, for whoever waits.

use bytes::Bytes;

use crate::machine::{Machine, Transition};
use crate::state::State;
use crate::view::tick_of;
use crate::when::Moment;

/// The ticks of a machine as they were after each transition of its last run, one after the other.
pub(super) struct Replay<'a, S: State> {
    machine: &'a Machine<S>,
    /// As of `next`; empty until somebody looks.
    ticks: Vec<u64>,
    /// The transition whose changes come next.
    next: usize,
}

impl<'a, S: State> Replay<'a, S> {
    pub(super) fn new(machine: &'a Machine<S>) -> Self {
        Self {
            machine,
            ticks: Vec::new(),
            next: 0,
        }
    }

    /// What the transition at `place` led to. Places only grow.
    pub(super) fn after(&mut self, place: usize) -> After<'_, S> {
        // Most runs are one transition, and then the machine itself is what it led to.
        if place + 1 < self.machine.last_run().len() {
            if self.ticks.is_empty() {
                self.ticks.extend_from_slice(self.machine.ticks());
                let run = self.machine.last_run();
                for change in run.flat_map(|transition| transition.raw_changes()) {
                    self.ticks[change.state as usize] -= u64::from(change.ticks);
                }
            }
            let run = self.machine.last_run().take(place + 1).skip(self.next);
            for change in run.flat_map(|transition| transition.raw_changes()) {
                self.ticks[change.state as usize] += u64::from(change.ticks);
            }
            self.next = place + 1;
        } else {
            self.ticks.clear();
        }
        let ticks = if self.ticks.is_empty() {
            self.machine.ticks()
        } else {
            &self.ticks
        };
        After {
            machine: self.machine,
            ticks,
            place,
        }
    }
}

/// What one transition of the last run led to, that is before the later ones.
pub(super) struct After<'a, S: State> {
    machine: &'a Machine<S>,
    ticks: &'a [u64],
    /// Which transition.
    place: usize,
}

impl<S: State> After<'_, S> {
    fn later(&self) -> impl Iterator<Item = Transition<'_, S>> {
        self.machine.last_run().skip(self.place + 1)
    }
}

impl<S: State> Moment for After<'_, S> {
    fn tick(&self, state: u32) -> u64 {
        tick_of(self.ticks, state)
    }

    fn payload(&self, state: u32) -> Option<Bytes> {
        let transition = self.machine.last_run().nth(self.place)?;
        let mut changes = transition.raw_changes().iter();
        if changes.any(|change| change.state == state)
            && let Some((_, payload)) = transition
                .brought()
                .find(|(of, _)| of.index() == state as usize)
        {
            return Some(payload.clone());
        }
        let of = |payload: &&(u32, _)| payload.0 == state;
        if let Some((_, payload)) = transition.raw_payloads().iter().find(of) {
            return payload.clone();
        }
        // What a later transition dropped is not known any more.
        let kept = !self
            .later()
            .any(|t| t.raw_payloads().iter().any(|p| of(&p)));
        let retained = self.machine.retained_payloads();
        kept.then(|| retained.get(&state).cloned()).flatten()
    }
}
