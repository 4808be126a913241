//! The writer's side of waiting: who is to be asked after which transition (rule R30).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::transition::Change;

use super::condition::Moment;
use super::waiters::{Progress, Waiters};

/// How a moment that does not follow from the one before relates to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Replaced {
    /// There was none before.
    Nothing,
    /// It is of the same epoch.
    Older,
    /// It is of another epoch: ticks began anew.
    OtherEpoch,
}

/// Tells those who wait of what happens.
#[derive(Debug)]
pub(crate) struct Waking {
    waiters: Arc<Waiters>,
    /// What canceled transitions changed since the last accepted one, by how many ticks. Nobody
    /// is woken by it before the next accepted one.
    carried: BTreeMap<u32, u64>,
    /// Whether an accepted transition changed something since the last publication.
    moved: bool,
    /// Those for whom it is over, once that is published.
    // Never locked: a panic that is passed on can be sent, not shared.
    over: Mutex<Vec<(u64, Progress)>>,
}

impl Waking {
    pub(crate) fn new(waiters: Arc<Waiters>) -> Self {
        Self {
            waiters,
            carried: BTreeMap::new(),
            moved: false,
            over: Mutex::default(),
        }
    }

    /// A transition is over; `moment` is what it led to. Where it concerns nobody, this costs a
    /// look at one word for each change. Returns for how many it is over.
    #[inline]
    pub(crate) fn transition<M: Moment>(
        &mut self,
        accepted: bool,
        changes: &[Change],
        moment: impl FnOnce() -> M,
    ) -> usize {
        if !accepted {
            for change in changes {
                *self.carried.entry(change.state).or_default() += u64::from(change.ticks);
            }
            return 0;
        }
        let carried = !self.carried.is_empty();
        self.moved |= carried || !changes.is_empty();
        if carried || self.waiters.concern(changes) {
            return self.look(changes, &moment());
        }
        0
    }

    #[cold]
    fn look(&mut self, changes: &[Change], moment: &dyn Moment) -> usize {
        let carried = std::mem::take(&mut self.carried);
        let states = changes.iter().map(|change| change.state);
        let states = states.chain(carried.into_keys());
        let over = self.waiters.changed(states, moment);
        let count = over.len();
        self.over().extend(over);
        count
    }

    /// Wakes those for whom it is over: what it was over with is published.
    #[inline]
    pub(crate) fn release(&mut self) {
        if !self.over().is_empty() {
            let over = std::mem::take(self.over());
            self.waiters.finish(over);
        }
    }

    fn over(&mut self) -> &mut Vec<(u64, Progress)> {
        self.over.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the transitions led to is published; `moment` is that.
    pub(crate) fn published<M: Moment>(&mut self, moment: &M) {
        let moved = std::mem::take(&mut self.moved);
        if !self.waiters.is_any_fresh() {
            return;
        }
        // Who has come since can only have missed what an accepted transition did.
        let before = Before {
            moment,
            carried: &self.carried,
        };
        self.waiters.published(moved.then_some(&before as _));
    }

    /// A moment is published that does not follow from the one before.
    pub(crate) fn replaced<M: Moment>(&mut self, how: Replaced, moment: &M) {
        self.carried.clear();
        self.moved = false;
        let tick = |state| moment.tick(state);
        let start = |_| 0;
        self.waiters.replaced(
            moment,
            match how {
                // What was before it is not known, so nothing of it is news.
                Replaced::Nothing => Some(&tick),
                Replaced::Older => None,
                Replaced::OtherEpoch => Some(&start),
            },
        );
    }
}

impl Drop for Waking {
    fn drop(&mut self) {
        self.waiters.close();
    }
}

/// A moment without what canceled transitions changed since the last accepted one.
struct Before<'a, M> {
    moment: &'a M,
    carried: &'a BTreeMap<u32, u64>,
}

impl<M: Moment> Moment for Before<'_, M> {
    fn tick(&self, state: u32) -> u64 {
        let carried = self.carried.get(&state).copied().unwrap_or(0);
        self.moment.tick(state).saturating_sub(carried)
    }

    fn payload(&self, state: u32) -> Option<Bytes> {
        if self.carried.contains_key(&state) {
            return None;
        }
        self.moment.payload(state)
    }
}

#[cfg(test)]
mod tests;
