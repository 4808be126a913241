//! The mutations that wait for a machine (rules R21, R22, R23, R25, R33).

use std::collections::VecDeque;

use crate::checkpoint::MOST;
use crate::errors::{Errors, MachineError};
use crate::handlers::Cause;
use crate::mutation::{MAX_PAYLOAD, Mutation, Op, Payloads, Reason, StateList};
use crate::schema::{EXCEPTION, Schema, as_index};
use crate::state::State;

/// How many mutations wait at most (rule R33).
pub const QUEUE_LIMIT: usize = 1000;

/// What a full queue does with one more mutation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum FullQueue {
    /// It is refused.
    #[default]
    Refuse,
    /// The one that waits for longest is canceled with [`Reason::Displaced`] in its favour, unless it
    /// is an error.
    DropOldest,
}

/// A mutation that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) op: Op,
    pub(crate) called: StateList<u32>,
    pub(crate) payloads: Payloads<u32>,
    pub(crate) cause: Cause,
    /// Whether it brings an error (rule R28).
    pub(crate) is_error: bool,
}

impl Waiting {
    /// A mutation from outside in terms of indices, without repeats (rule R4). Whether they are the schema's
    /// is not looked at.
    pub(crate) fn of<S: State>(mutation: &Mutation<S>) -> Self {
        let mut waiting = Self::default();
        waiting.become_of(mutation);
        waiting
    }

    /// As [`Waiting::of`], filled in place: a list that moves right after it was written stalls the
    /// processor.
    pub(crate) fn become_of<S: State>(&mut self, mutation: &Mutation<S>) {
        self.op = mutation.op();
        self.called.clear();
        collect(mutation.states(), &mut self.called);
        self.payloads.clear();
        for (state, payload) in mutation.payloads() {
            let payload = (as_index(state.index()), payload.clone());
            self.payloads.push(payload);
        }
        self.cause = Cause::Call;
    }

    /// The mutation in terms of indices, unless a payload cannot be taken.
    ///
    /// # Panics
    ///
    /// If it calls a state that the schema does not have.
    pub(crate) fn checked<S: State>(
        schema: &Schema,
        mutation: &Mutation<S>,
        cause: Cause,
    ) -> Result<Self, Reason<S>> {
        check_known(schema, mutation.states());
        let mut waiting = Self::of(mutation);
        waiting.cause = cause;
        match waiting.unwanted_payload(schema) {
            None => Ok(waiting),
            Some(reason) => Err(reason.map(|index| {
                S::from_index(index as usize).expect("the index was that of a state")
            })),
        }
    }

    /// Why a payload cannot be taken.
    pub(crate) fn unwanted_payload(&self, schema: &Schema) -> Option<Reason<u32>> {
        self.payloads.iter().find_map(|(state, payload)| {
            let len = payload.len();
            let taken = schema.takes_payload(*state as usize) && self.called.contains(state);
            match (len > MAX_PAYLOAD, taken) {
                (true, _) => Some(Reason::PayloadTooLarge { len }),
                (false, false) => Some(Reason::PayloadUnwanted { state: *state }),
                (false, true) => None,
            }
        })
    }
}

impl Default for Waiting {
    /// An add of nothing.
    fn default() -> Self {
        Self {
            op: Op::Add,
            called: StateList::new(),
            payloads: Payloads::new(),
            cause: Cause::Call,
            is_error: false,
        }
    }
}

/// Rule R4: only states of the schema can be called.
#[inline]
pub(crate) fn check_known<S: State>(schema: &Schema, states: &[S]) {
    let known = schema.len();
    for state in states {
        let name = schema.name();
        assert!(state.index() < known, "{state:?} is no state of {name}");
    }
}

/// Rule R4: the called states without repeats, into `called`. Whether they are the schema's is not
/// looked at.
fn collect<S: State>(states: &[S], called: &mut StateList<u32>) {
    for state in states {
        add_new(as_index(state.index()), called);
    }
}

/// Rule R4: the called states without repeats, into `called`.
///
/// # Panics
///
/// If one is not the schema's.
#[inline]
pub(crate) fn collect_known<S: State>(schema: &Schema, states: &[S], called: &mut StateList<u32>) {
    let known = schema.len();
    for state in states {
        let index = state.index();
        assert!(index < known, "{state:?} is no state of {}", schema.name());
        add_new(as_index(index), called);
    }
}

#[inline]
fn add_new(index: u32, called: &mut StateList<u32>) {
    // A plain loop: there are few, and `contains` is made for many.
    let mut new = true;
    for other in called.iter() {
        new &= *other != index;
    }
    if new {
        called.push(index);
    }
}

/// Rule R24: what a toggle is while `active` are the active states.
#[inline]
pub(crate) fn decided(op: Op, called: &[u32], active: &[u64]) -> Op {
    match op {
        Op::Toggle if called.iter().all(|state| has(active, *state)) => Op::Remove,
        Op::Toggle => Op::Add,
        op => op,
    }
}

fn has(set: &[u64], state: u32) -> bool {
    set[state as usize / 64] >> (state % 64) & 1 == 1
}

/// What became of a mutation that was to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Enqueued {
    /// It waits; it runs when the queue tick reaches this number (rule R25).
    Queued(u64),
    /// The same mutation already waits and runs at this queue tick; nothing was added (rule R22).
    Merged(u64),
    /// A handler of a replica appended it: it is sent up to the root, whose queue is another.
    Sent,
    /// It would remove what is not active, and nothing waits that could change that (rule R23).
    Needless,
    /// As many mutations wait as the queue holds; nothing was added (rule R33).
    Full,
}

impl Enqueued {
    /// The queue tick at which the mutation, or the one that it merged with, runs.
    pub fn queue_tick(self) -> Option<u64> {
        match self {
            Self::Queued(tick) | Self::Merged(tick) => Some(tick),
            Self::Sent | Self::Needless | Self::Full => None,
        }
    }
}

/// First in, first out.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    waiting: VecDeque<Waiting>,
    tick: u64,
    pub(crate) when_full: FullQueue,
    /// The queue ticks of those that were displaced since this was last taken.
    pub(crate) displaced: Vec<u64>,
    /// How many a full queue has refused so far.
    pub(crate) refused: u64,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            tick: 1,
            when_full: FullQueue::default(),
            displaced: Vec::new(),
            refused: 0,
        }
    }

    /// A queue in which these wait.
    pub(crate) fn restored(tick: u64, waiting: impl Iterator<Item = Waiting>) -> Self {
        Self {
            waiting: waiting.collect(),
            tick,
            ..Self::new()
        }
    }

    /// Counts up to `tick`, as a recorded mutation did; no further than a checkpoint may say.
    pub(crate) fn pass_to(&mut self, tick: u64) {
        self.tick = tick.min(MOST);
    }

    /// What waits, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
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

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Appends a mutation while `active` are the active states. It merges with a waiting one of
    /// the same kind on the same states, in any order, if neither has a payload and no called
    /// state is multi (rule R22).
    ///
    /// A full queue still takes what is urgent: an add of `Exception` while it is inactive, or
    /// its removal while it is active (rule R33).
    pub(crate) fn append(&mut self, schema: &Schema, active: &[u64], mut new: Waiting) -> Enqueued {
        new.op = decided(new.op, &new.called, active);
        let compiled = schema.compiled();
        let mergeable = !new.called.iter().any(|state| compiled.is_multi(*state));
        let exception = schema.find(EXCEPTION).map(as_index);
        let urgent = exception.is_some_and(|exception| {
            let opposite = if has(active, exception) {
                Op::Remove
            } else {
                Op::Add
            };
            new.called[..] == [exception] && new.op == opposite
        });
        self.push(new, mergeable, urgent)
    }

    fn push(&mut self, new: Waiting, mergeable: bool, urgent: bool) -> Enqueued {
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
            // An error is not given up for what comes.
            let error = self.waiting.front().is_some_and(|oldest| oldest.is_error);
            if self.when_full == FullQueue::Refuse || error {
                self.refused += 1;
                return Enqueued::Full;
            }
            self.pop();
            self.displaced.push(self.tick);
        }
        self.waiting.push_back(new);
        Enqueued::Queued(self.tick + self.waiting.len() as u64)
    }

    /// What runs next.
    pub(crate) fn next(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front()?;
        self.tick += 1;
        Some(next)
    }
}

/// What a handler appends to.
pub(crate) struct Append<'a> {
    pub(crate) queue: &'a mut Queue,
    pub(crate) errors: &'a mut Errors,
    /// Whether it is for another machine, which decides itself what a toggle is and what is needless.
    pub(crate) remote: bool,
}

impl Append<'_> {
    /// Appends a mutation in the middle of a transition, while `active` are the active states.
    pub(crate) fn mutation<S: State>(
        &mut self,
        schema: &Schema,
        active: &[u64],
        mutation: &Mutation<S>,
    ) -> Result<Enqueued, Reason<S>> {
        let waiting = Waiting::checked(schema, mutation, Cause::Handler)?;
        if self.remote {
            return Ok(sent(self.queue.push(waiting, false, false)));
        }
        let op = decided(waiting.op, &waiting.called, active);
        // Rule R23.
        let idle = op == Op::Remove
            && self.queue.is_empty()
            && !waiting.called.iter().any(|state| has(active, *state));
        Ok(if idle {
            Enqueued::Needless
        } else {
            self.queue.append(schema, active, waiting)
        })
    }

    /// Notes an error and appends an add of `states` and `Exception` with it (rule R28).
    pub(crate) fn error<S: State>(
        &mut self,
        schema: &Schema,
        active: &[u64],
        states: &[S],
        error: MachineError,
    ) -> Enqueued {
        let waiting = error_mutation(schema, states, &error, Cause::Handler);
        self.errors.push(error);
        if self.remote {
            return sent(self.queue.push(waiting, false, true));
        }
        self.queue.append(schema, active, waiting)
    }
}

/// What is told of a mutation for another machine.
fn sent(enqueued: Enqueued) -> Enqueued {
    match enqueued {
        Enqueued::Queued(_) => Enqueued::Sent,
        other => other,
    }
}

/// The add of `states` and `Exception` that carries `error`.
pub(crate) fn error_mutation<S: State>(
    schema: &Schema,
    states: &[S],
    error: &MachineError,
    cause: Cause,
) -> Waiting {
    let exception = schema.find(EXCEPTION).map(as_index);
    let exception = exception.expect("every schema has Exception");
    let mut called = StateList::new();
    collect_known(schema, states, &mut called);
    if !called.contains(&exception) {
        called.push(exception);
    }
    let mut payloads = Payloads::new();
    payloads.push((exception, error.to_payload()));
    Waiting {
        op: Op::Add,
        called,
        payloads,
        cause,
        is_error: true,
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
            cause: Cause::Call,
            is_error: false,
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
