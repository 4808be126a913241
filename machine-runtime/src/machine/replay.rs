//! Doing once more what a machine was recorded to have done.

use std::collections::BTreeMap;

use crate::handlers::Cause;
use crate::machine::Machine;
use crate::mutation::{Op, Reason};
use crate::queue::decided;
use crate::relations::Compiled;
use crate::state::DynState;
use crate::transition::{Change, End, Request, Status};

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
    /// It was carried out, and relations refuse it.
    #[error("relations refuse what was carried out: {}", .0.code())]
    Refused(Reason<u32>),
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
    /// without any.
    ///
    /// # Errors
    ///
    /// If the core comes to other ticks. The machine is what it came to then, and good for no more.
    pub fn replay(&mut self, recorded: Recorded<'_>) -> Result<(), Diverged> {
        let changed = recorded.changes.iter().map(|(state, _)| *state);
        let known = self.schema.len();
        if let Some(unknown) = changed
            .chain(recorded.called.iter().copied())
            .find(|state| *state as usize >= known)
        {
            return Err(Diverged::Unknown(unknown));
        }
        // What was refused left everything as it was, but a final handler comes too late for that.
        if recorded.canceled.is_none_or(Reason::is_final) {
            self.status.log.clear();
            let c = self.schema.compiled();
            apply(c, &mut self.status, recorded)?;
        }
        if let Some(queue_tick) = recorded.queue_tick {
            self.queue.pass_to(queue_tick);
        }
        Ok(())
    }
}

/// Has `status` carry it out.
fn apply(c: &Compiled, status: &mut Status, recorded: Recorded<'_>) -> Result<(), Diverged> {
    let request = Request {
        op: decided(recorded.op, recorded.called, status.active().bits()),
        called: recorded.called,
        auto: recorded.cause == Cause::Auto,
        payloads: &[],
    };
    if recorded.left_out.is_empty() {
        let ran = status.run(c, request, None);
        ran.map_err(Diverged::Refused)?;
    } else {
        status.run_without(c, request, recorded.left_out);
    }
    let mut left: BTreeMap<u32, u64> = BTreeMap::new();
    for Change { state, ticks } in status.changes() {
        *left.entry(*state).or_default() += u64::from(*ticks);
    }
    let mut taken_out = Vec::new();
    for (state, recorded_ticks) in recorded.changes {
        let replayed = left.remove(state).unwrap_or(0);
        // A final handler failed, and what it was to tell of was taken out again.
        let is_out = recorded.canceled.is_some() && replayed > 0 && *recorded_ticks == replayed + 1;
        if is_out {
            taken_out.push(*state);
        } else if *recorded_ticks != replayed {
            return Err(Diverged::Ticks {
                state: *state,
                recorded: *recorded_ticks,
                replayed,
            });
        }
    }
    if let Some((state, replayed)) = left.pop_first() {
        return Err(Diverged::Ticks {
            state,
            recorded: 0,
            replayed,
        });
    }
    if !taken_out.is_empty() {
        status.take_out(c, &taken_out);
    }
    let end = End {
        canceled: None,
        cause: recorded.cause,
        queue_tick: recorded.queue_tick.unwrap_or_default(),
    };
    status.close(request, end);
    Ok(())
}
