//! What a run did, transition by transition.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;

use crate::handlers::{Cause, Phase};
#[cfg(doc)]
use crate::machine::Machine;
use crate::mutation::{Op, Reason};
use crate::state::State;
use crate::transition::{Change, Log, Record, Times};

use super::state_at;

/// One run of a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HandlerRun<S> {
    /// The phase.
    pub phase: Phase,
    /// The state that it was for; of a pair the one after.
    pub state: Option<S>,
    /// When it began, on the machine's stopwatch.
    pub began: Duration,
    /// How long it ran; none of both without a stopwatch.
    pub took: Duration,
}

impl<S> HandlerRun<S> {
    /// The same run in terms of another state type.
    pub fn map<T>(self, state_of: impl Fn(S) -> T) -> HandlerRun<T> {
        HandlerRun {
            phase: self.phase,
            state: self.state.map(state_of),
            began: self.began,
            took: self.took,
        }
    }
}

/// One transition of [`Machine::last_run`].
#[derive(Clone, Copy)]
pub struct Transition<'a, S> {
    record: &'a Record,
    log: &'a Log,
    place: usize,
    states: PhantomData<S>,
}

impl<'a, S: State> Transition<'a, S> {
    pub(super) fn new(record: &'a Record, log: &'a Log, place: usize) -> Self {
        Self {
            record,
            log,
            place,
            states: PhantomData,
        }
    }

    /// What was done with the called states; a toggle is an add or a remove by now.
    pub fn op(&self) -> Op {
        self.record.op
    }

    /// Whether the machine itself asked for it (rule R19).
    pub fn is_auto(&self) -> bool {
        self.record.cause == Cause::Auto
    }

    /// Whether it was carried out.
    pub fn is_accepted(&self) -> bool {
        self.record.is_accepted()
    }

    /// Why it was canceled, if it was. After a panic or an overrun in a final handler there are
    /// [`Transition::changes`] all the same.
    pub fn reason(&self) -> Option<Reason<S>> {
        let reason = self.log.reason(self.record)?;
        Some(reason.map(state_at))
    }

    /// Who asked for it.
    pub fn cause(&self) -> Cause {
        self.record.cause
    }

    /// The queue tick that it took (rule R25). None for what the machine put in front itself.
    pub fn queue_tick(&self) -> Option<u64> {
        (self.record.queue_tick != 0).then_some(self.record.queue_tick)
    }

    /// The machine's revision after it.
    pub fn revision(&self) -> u64 {
        self.record.revision
    }

    /// The machine's digest after it.
    pub fn digest(&self) -> u64 {
        self.record.digest
    }

    /// The states that it called.
    pub fn called(&self) -> impl ExactSizeIterator<Item = S> + 'a {
        let called = self.log.called(self.record);
        called.iter().map(|state| state_at(*state))
    }

    /// The states that ticked, and by how much.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = (S, u64)> + 'a {
        self.raw_changes()
            .iter()
            .map(|c| (state_at(c.state), u64::from(c.ticks)))
    }

    /// The retained payloads that were set, and those that were dropped.
    pub fn payloads(&self) -> impl ExactSizeIterator<Item = (S, Option<&'a Bytes>)> + 'a {
        let payloads = self.raw_payloads().iter();
        payloads.map(|(state, payload)| (state_at(*state), payload.as_ref()))
    }

    /// The place of [`Transition::reason`] among all codes.
    #[cfg(feature = "tokio")]
    pub(crate) fn reason_place(&self) -> Option<usize> {
        self.log.reason_place(self.record)
    }

    pub(crate) fn raw_changes(&self) -> &'a [Change] {
        self.log.changes(self.record)
    }

    /// The payloads that came with the mutation.
    pub fn brought(&self) -> impl ExactSizeIterator<Item = (S, &'a Bytes)> {
        let brought = self.log.brought(self.record).iter();
        brought.map(|(state, payload)| (state_at(*state), payload))
    }

    /// The auto states that handlers refused, and without which an auto mutation went on (rule R15).
    pub fn left_out(&self) -> impl Iterator<Item = S> + 'a {
        self.log.left_out(self.place).map(state_at)
    }

    /// Its moments on the stopwatch, if it was timed ([`Measured::All`](super::Measured)).
    pub fn times(&self) -> Option<Times> {
        self.log.measured(self.place).0?.times
    }

    /// How many mutations waited in the queue when it began, and when it ended, if anything was
    /// measured.
    pub fn waiting(&self) -> Option<(usize, usize)> {
        Some(self.log.measured(self.place).0?.waiting)
    }

    /// The runs of its handlers, in order, if they were noted.
    pub fn handler_runs(&self) -> impl ExactSizeIterator<Item = HandlerRun<S>> + 'a {
        let (_, runs) = self.log.measured(self.place);
        runs.iter().map(|run| HandlerRun {
            phase: run.phase,
            state: run.state.map(state_at),
            began: run.began,
            took: run.took,
        })
    }

    pub(crate) fn raw_payloads(&self) -> &'a [(u32, Option<Bytes>)] {
        self.log.payloads(self.record)
    }
}

impl<S: State> fmt::Debug for Transition<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transition")
            .field("op", &self.op())
            .field("auto", &self.is_auto())
            .field("accepted", &self.is_accepted())
            .field("revision", &self.revision())
            .field("called", &self.called().collect::<Vec<_>>())
            .field("changes", &self.changes().collect::<Vec<_>>())
            .finish()
    }
}
