//! Doing once more what a machine was recorded to have done.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::handlers::Cause;
use crate::machine::Machine;
use crate::mutation::{Op, Reason, StateList};
use crate::queue::decided;
use crate::relations::Compiled;
use crate::state::DynState;
use crate::transition::{End, Request, Status};

/// What was recorded of a transition: all that relations and handlers came to.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// What was done with the called states.
    pub op: Op,
    /// The states that it called.
    pub called: &'a [u32],
    /// Who asked for it.
    pub cause: Cause,
    /// The queue tick that it took, if it did.
    pub queue_tick: Option<u64>,
    /// The auto states that its handlers refused, and without which it went on (rule R15).
    pub left_out: &'a [u32],
    /// Why it was canceled, if it was.
    pub canceled: Option<&'a Reason<u32>>,
    /// The states that ticked, and how often; also those of one that a final handler canceled.
    pub changes: &'a [(u32, u64)],
}

/// The core does not come to what was recorded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Diverged {
    /// A recorded state is none of the schema.
    #[error("state {0} is none of the schema")]
    Unknown(u32),
    /// A recorded state is there twice, which it never is in what a machine did (rule R4).
    #[error("state {0} is recorded more than once")]
    Repeated(u32),
    /// It was carried out, and relations refuse it.
    #[error("relations refuse what was carried out: {}", .0.code())]
    Refused(Reason<u32>),
    /// Relations were recorded to refuse it, and do not.
    #[error("relations were recorded to refuse it and do not: {}", .0.code())]
    Accepted(Reason<u32>),
    /// An auto mutation adds all the inactive auto states that no active one removes (rule R19); this one
    /// was recorded to do something else.
    #[error("an auto mutation was recorded of other states than those that could be tried")]
    Auto,
    /// Only an auto mutation goes on without states that its handlers refused (rule R15).
    #[error("it is no auto mutation, and was recorded to go on without states that were refused")]
    LeftOut,
    /// A state ticked otherwise.
    #[error("state {state} was recorded to tick {recorded} times, and ticks {replayed} times")]
    Ticks {
        /// Which.
        state: u32,
        /// How often it was recorded to.
        recorded: u64,
        /// How often it does.
        replayed: u64,
    },
}

impl Machine<DynState> {
    /// Carries out a recorded transition by relations. What handlers decided is taken from the record:
    /// whom they refused, and whom they left out as they failed (rules R15, R26). Nothing follows by
    /// itself: what followed was recorded too. Payloads are not kept, so the digest is that of a machine
    /// without any. A record may be of anybody: what no machine does is refused.
    ///
    /// # Errors
    ///
    /// If the core comes to something else. The machine is what it came to then, and good for no more.
    pub fn replay(&mut self, recorded: Recorded<'_>) -> Result<(), Diverged> {
        self.replay_with(recorded, &[])
    }

    /// As [`Machine::replay`], with the payloads that came with it, of which states may retain some.
    pub(crate) fn replay_with(
        &mut self,
        recorded: Recorded<'_>,
        payloads: &[(u32, Bytes)],
    ) -> Result<(), Diverged> {
        let changed = recorded.changes.iter().map(|(state, _)| *state);
        self.check_recorded(recorded.called.iter().copied())?;
        self.check_recorded(changed)?;
        let c = self.schema.compiled();
        let request = Request {
            op: decided(recorded.op, recorded.called, self.status.active().bits()),
            called: recorded.called,
            auto: recorded.cause == Cause::Auto,
            payloads,
        };
        if request.auto {
            self.status.candidates(&mut self.candidates);
            if request.op != Op::Add || request.called != self.candidates {
                return Err(Diverged::Auto);
            }
        } else if !recorded.left_out.is_empty() {
            return Err(Diverged::LeftOut);
        }
        self.status.log.clear();
        match recorded.canceled {
            // A final handler comes too late to leave everything as it was.
            canceled if canceled.is_none_or(Reason::is_final) => {
                apply(c, &mut self.status, request, recorded)?;
            }
            canceled => {
                if let Some((state, ticks)) = recorded.changes.first() {
                    return Err(Diverged::Ticks {
                        state: *state,
                        recorded: *ticks,
                        replayed: 0,
                    });
                }
                // That there was no candidate may be what handlers came to.
                if let Some(reason @ (Reason::Blocked { .. } | Reason::Missing { .. })) = canceled
                    && self.status.run(c, request, None).is_ok()
                {
                    return Err(Diverged::Accepted(reason.clone()));
                }
            }
        }
        if let Some(queue_tick) = recorded.queue_tick {
            self.queue.pass_to(queue_tick);
        }
        Ok(())
    }

    /// Whether states of a record can be those of one list.
    fn check_recorded(&self, states: impl Iterator<Item = u32>) -> Result<(), Diverged> {
        let mut states: StateList<u32> = states.collect();
        states.sort_unstable();
        if let Some(last) = states
            .last()
            .filter(|last| **last as usize >= self.schema.len())
        {
            return Err(Diverged::Unknown(*last));
        }
        let twice = states.windows(2).find(|pair| pair[0] == pair[1]);
        twice.map_or(Ok(()), |pair| Err(Diverged::Repeated(pair[0])))
    }
}

/// Has `status` carry it out.
fn apply(
    c: &Compiled,
    status: &mut Status,
    request: Request<'_>,
    recorded: Recorded<'_>,
) -> Result<(), Diverged> {
    if recorded.left_out.is_empty() {
        let ran = status.run(c, request, None);
        ran.map_err(Diverged::Refused)?;
    } else {
        status.run_without(c, request, recorded.left_out);
    }
    let mut replayed = changes(status);
    if recorded.canceled.is_some() {
        // A final handler failed, and what it was to tell of was taken out again: one tick more.
        let is_out = |(state, ticks): &&(u32, u64)| {
            let come_to = replayed.get(state);
            come_to.is_some_and(|come_to| come_to.checked_add(1) == Some(*ticks))
        };
        let taken_out = recorded.changes.iter().filter(is_out);
        let taken_out: Vec<u32> = taken_out.map(|(state, _)| *state).collect();
        status.take_out(c, &taken_out);
        replayed = changes(status);
    }
    for (state, ticks) in recorded.changes {
        let come_to = replayed.remove(state).unwrap_or(0);
        if come_to != *ticks {
            return Err(Diverged::Ticks {
                state: *state,
                recorded: *ticks,
                replayed: come_to,
            });
        }
    }
    if let Some((state, replayed)) = replayed.pop_first() {
        return Err(Diverged::Ticks {
            state,
            recorded: 0,
            replayed,
        });
    }
    let end = End {
        canceled: None,
        cause: recorded.cause,
        queue_tick: recorded.queue_tick.unwrap_or_default(),
    };
    status.close(request, end);
    Ok(())
}

/// What the transition under way has changed; each state is there once.
fn changes(status: &Status) -> BTreeMap<u32, u64> {
    let changes = status.changes().iter();
    changes
        .map(|change| (change.state, u64::from(change.ticks)))
        .collect()
}
