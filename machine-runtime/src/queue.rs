//! The mutations that wait for a machine (rules R21, R22, R25, R33).

use std::collections::VecDeque;

use crate::mutation::{Op, Payloads, StateList};

/// How many mutations wait at most (rule R33).
pub const QUEUE_LIMIT: usize = 1000;

/// A mutation that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) op: Op,
    pub(crate) called: StateList<u32>,
    pub(crate) payloads: Payloads<u32>,
}

/// What became of a mutation that was to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[must_use = "a full queue takes nothing"]
pub enum Enqueued {
    /// It waits; it runs when the queue tick reaches this number (rule R25).
    Queued(u64),
    /// The same mutation already waits and runs at this queue tick; nothing was added (rule R22).
    Merged(u64),
    /// As many mutations wait as the queue holds; nothing was added (rule R33).
    Full,
}

/// First in, first out.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    waiting: VecDeque<Waiting>,
    tick: u64,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            tick: 1,
        }
    }

    /// Counts the mutations taken off the queue, and starts at 1 (rule R25).
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    /// Counts a mutation that ran without having to wait.
    pub(crate) fn pass(&mut self) {
        self.tick += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Appends a mutation. It merges with a waiting one of the same kind on the same states, in
    /// any order, if neither has a payload and `mergeable` (no called state is multi).
    ///
    /// A full queue still takes what is `urgent`: an add of `Exception` while it is inactive, or
    /// its removal while it is active (rule R33).
    pub(crate) fn push(&mut self, new: Waiting, mergeable: bool, urgent: bool) -> Enqueued {
        if mergeable && new.payloads.is_empty() {
            let twin = self.waiting.iter().position(|waiting| {
                waiting.op == new.op
                    && waiting.payloads.is_empty()
                    && waiting.called.len() == new.called.len()
                    && waiting
                        .called
                        .iter()
                        .all(|state| new.called.contains(state))
            });
            if let Some(place) = twin {
                return Enqueued::Merged(self.tick + place as u64 + 1);
            }
        }
        if self.waiting.len() >= QUEUE_LIMIT && !urgent {
            return Enqueued::Full;
        }
        self.waiting.push_back(new);
        Enqueued::Queued(self.tick + self.waiting.len() as u64)
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front()?;
        self.tick += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(states: &[u32]) -> Waiting {
        Waiting {
            op: Op::Add,
            called: states.iter().copied().collect(),
            payloads: Payloads::new(),
        }
    }

    #[test]
    fn the_same_states_in_any_order_merge() {
        let mut queue = Queue::new();
        assert_eq!(queue.push(add(&[1, 2]), true, false), Enqueued::Queued(2));
        assert_eq!(queue.push(add(&[3]), true, false), Enqueued::Queued(3));
        assert_eq!(queue.push(add(&[2, 1]), true, false), Enqueued::Merged(2));
        assert_eq!(queue.push(add(&[2]), true, false), Enqueued::Queued(4));
    }

    #[test]
    fn opposites_in_between_do_not_hinder_a_merge() {
        let mut queue = Queue::new();
        assert_eq!(queue.push(add(&[1]), true, false), Enqueued::Queued(2));
        let remove = Waiting {
            op: Op::Remove,
            ..add(&[1])
        };
        assert_eq!(queue.push(remove, true, false), Enqueued::Queued(3));
        assert_eq!(queue.push(add(&[1]), true, false), Enqueued::Merged(2));
    }

    #[test]
    fn payloads_and_multi_states_never_merge() {
        let mut queue = Queue::new();
        let with_payload = || Waiting {
            payloads: [(1, "x".into())].into_iter().collect(),
            ..add(&[1])
        };
        assert_eq!(queue.push(with_payload(), true, false), Enqueued::Queued(2));
        assert_eq!(queue.push(with_payload(), true, false), Enqueued::Queued(3));
        assert_eq!(queue.push(add(&[1]), false, false), Enqueued::Queued(4));
        assert_eq!(queue.push(add(&[1]), false, false), Enqueued::Queued(5));
    }

    #[test]
    fn a_full_queue_refuses_and_keeps_what_waits() {
        let mut queue = Queue::new();
        for i in 0..u32::try_from(QUEUE_LIMIT).unwrap() {
            assert_eq!(
                queue.push(add(&[i]), true, false),
                Enqueued::Queued(u64::from(i) + 2)
            );
        }
        assert_eq!(queue.push(add(&[5000]), true, false), Enqueued::Full);
        assert_eq!(queue.push(add(&[0]), true, false), Enqueued::Merged(2));
        assert_eq!(queue.push(add(&[9000]), true, true), Enqueued::Queued(1002));
        assert_eq!(queue.pop().unwrap().called[..], [0]);
        assert_eq!(queue.tick(), 2);
    }
}
