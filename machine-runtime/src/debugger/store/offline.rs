//! What the core says of a moment that is long gone.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, InvalidCheckpoint};
use crate::debug::frame::{Body, Key};
use crate::explain::Explanation;
use crate::handlers::Cause;
use crate::machine::{Diverged, Machine, Recorded};
use crate::mutation::{Mutation, Op, Outcome};
use crate::set::StateSet;
use crate::state::DynState;
use crate::steps::Step;

use super::history::History;
use super::lens::{TickDifference, compare};
use super::{Flags, MachineId, Store};

/// Why a core of a moment is not all that the machine was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhyNot {
    /// No entry is held of that moment.
    #[error("no entry of that moment is held")]
    NotHeld,
    /// The entry is something else: a replica resolves nothing.
    #[error("it is no transition of a machine")]
    NoTransition,
    /// Frames are missing, and no key has come since.
    #[error("frames before it were lost, so its ticks are not known")]
    Lost,
    /// No key with the order of the active list is held at or before it: never of a replica.
    #[error("the order of the active list is not known, only what is active")]
    NoOrder,
    /// What it could start from is none. Keys are checked when they come, so this is never told.
    #[error(transparent)]
    Invalid(#[from] InvalidCheckpoint),
    /// Replayed, the transition came to other changes.
    #[error("replayed, entry {index} ends otherwise, so the order is a guess: {why}")]
    Diverged {
        /// The entry.
        index: usize,
        /// How.
        why: Diverged,
    },
}

/// A core as a machine was at one moment, without its handlers and whatever waited.
pub struct PastCore {
    /// The core. Its ticks are those of the moment in any case.
    pub machine: Machine<DynState>,
    /// Why the order of its active list is a guess (rule R1), if it is: what it does next can differ
    /// where two states remove each other.
    pub guessed: Option<WhyNot>,
}

impl fmt::Debug for PastCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastCore")
            .field("machine", &self.machine.to_string())
            .field("guessed", &self.guessed)
            .finish()
    }
}

/// What a mutation would have done at one moment, as far as relations decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DryRun {
    /// How it would have ended.
    pub outcome: Outcome<DynState>,
    /// What would have ticked, the auto states that follow included: before and after.
    pub changes: Vec<TickDifference>,
    /// Why the answer is a guess, if it is.
    pub guessed: Option<WhyNot>,
}

/// Steps, and why they are a guess, if they are.
pub type ToldSteps = (Vec<Step<DynState>>, Option<WhyNot>);

impl Store {
    /// A core as the machine was after entry `i`, replayed from the nearest key: relations and auto
    /// states follow from it as they did then, and whatever [`Machine`] can be asked it can be.
    ///
    /// # Errors
    ///
    /// If not even the ticks of that moment are known.
    pub fn core_at(&self, machine: MachineId, i: usize) -> Result<PastCore, WhyNot> {
        let history = self.machine(machine);
        if !history.range().contains(&i) {
            return Err(WhyNot::NotHeld);
        }
        if history.flags(i).contains(Flags::UNSURE) {
            return Err(WhyNot::Lost);
        }
        let schema = history.schema();
        let why = match replay(history, i) {
            Ok(machine) => {
                return Ok(PastCore {
                    machine,
                    guessed: None,
                });
            }
            Err(why) => why,
        };
        let moment = history.ticks_after(i);
        let checkpoint = Checkpoint::of_ticks(schema, moment.position.revision, moment.ticks);
        Ok(PastCore {
            machine: Machine::restore_with(Arc::clone(schema), &checkpoint)?,
            guessed: Some(why),
        })
    }

    /// A core as the machine was before entry `i`, see [`Store::core_at`].
    ///
    /// # Errors
    ///
    /// As [`Store::core_at`].
    pub fn core_before(&self, machine: MachineId, i: usize) -> Result<PastCore, WhyNot> {
        self.core_at(machine, i.checked_sub(1).ok_or(WhyNot::NotHeld)?)
    }

    /// What relations made of the transition that entry `i` is, step by step, and why that is a guess, if
    /// it is. What handlers refused is not among it.
    ///
    /// # Errors
    ///
    /// If it is no transition, or nothing is known of the moment before it.
    pub fn steps(&self, machine: MachineId, i: usize) -> Result<ToldSteps, WhyNot> {
        let history = self.machine(machine);
        let Body::Transition(told) = history.entry(i).body else {
            return Err(WhyNot::NoTransition);
        };
        let past = self.core_before(machine, i)?;
        let called: Vec<DynState> = told.called.iter().copied().map(DynState).collect();
        let steps = if told.cause == Cause::Auto {
            past.machine.auto_steps(&called)
        } else {
            past.machine.steps(&Mutation::new(told.op, called))
        };
        Ok((steps, past.guessed))
    }

    /// What `op` on `states` would have done after entry `i`, asked of a core without handlers.
    ///
    /// # Errors
    ///
    /// As [`Store::core_at`].
    ///
    /// # Panics
    ///
    /// If the machine has no such state.
    pub fn dry_run(
        &self,
        machine: MachineId,
        i: usize,
        op: Op,
        states: &[u32],
    ) -> Result<DryRun, WhyNot> {
        let PastCore {
            machine: mut core,
            guessed,
        } = self.core_at(machine, i)?;
        let before = core.ticks().to_vec();
        let called: Vec<DynState> = states.iter().copied().map(DynState).collect();
        let outcome = core.mutate(&Mutation::new(op, called));
        Ok(DryRun {
            outcome,
            changes: compare(&before, core.ticks()),
            guessed,
        })
    }

    /// Why a state is or is not active after entry `i`: by relations and ticks alone, so it is known of
    /// replicas as well.
    ///
    /// # Panics
    ///
    /// If the machine has no such state.
    pub fn explain(&self, machine: MachineId, i: usize, state: u32) -> Explanation<DynState> {
        let history = self.machine(machine);
        let moment = history.ticks_after(i);
        let states = (0..).zip(&moment.ticks);
        let active = states.filter(|(_, tick)| **tick % 2 == 1);
        let active: StateSet<DynState> = active.map(|(state, _)| DynState(state)).collect();
        let tick = moment.ticks[state as usize];
        Explanation::new(history.schema(), &active, DynState(state), tick)
    }
}

/// The order of the active list at entries of one machine that come one behind the other: between two
/// keys it is replayed once.
#[derive(Default)]
pub(super) struct Order {
    /// The key that it began with.
    key: Option<usize>,
    /// As it was after the entry at which it is; `None` if it cannot be replayed.
    core: Option<Machine<DynState>>,
    at: usize,
}

impl Order {
    /// The active list before entry `i` in its order; empty where that is not known.
    pub(super) fn before(&mut self, history: &History, i: usize) -> Vec<u32> {
        let last = i.checked_sub(1);
        let last = last.filter(|last| history.range().contains(last));
        let known = last.filter(|last| !history.flags(*last).contains(Flags::UNSURE));
        let Some(last) = known else {
            return Vec::new();
        };
        let Some((key_at, key)) = history.key_before(last) else {
            return Vec::new();
        };
        if self.key != Some(key_at) || last < self.at {
            let schema = Arc::clone(history.schema());
            self.core = Machine::restore_with(schema, &checkpoint_of(*key)).ok();
            (self.key, self.at) = (Some(key_at), key_at);
        }
        if let Some(core) = &mut self.core
            && replay_on(core, history, self.at + 1..last + 1).is_err()
        {
            self.core = None;
        }
        self.at = last;
        let active = self.core.iter().flat_map(Machine::active_list);
        active.map(|state| state.0).collect()
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut order = f.debug_struct("Order");
        order.field("at", &self.at).finish_non_exhaustive()
    }
}

/// The machine as it was after entry `i`, from the nearest key on: nodes tell one now and then.
fn replay(history: &History, i: usize) -> Result<Machine<DynState>, WhyNot> {
    let (key_at, key) = history.key_before(i).ok_or(WhyNot::NoOrder)?;
    let checkpoint = checkpoint_of(*key);
    let mut core = Machine::restore_with(Arc::clone(history.schema()), &checkpoint)?;
    replay_on(&mut core, history, key_at + 1..i + 1)?;
    Ok(core)
}

/// Takes the entries of `range` into a core that is as the machine was before them.
fn replay_on(
    core: &mut Machine<DynState>,
    history: &History,
    range: Range<usize>,
) -> Result<(), WhyNot> {
    for (index, body) in history.bodies(range) {
        match body {
            Body::Transition(told) => {
                let changes = told.changes.iter();
                let changes: Vec<(u32, u64)> =
                    changes.map(|change| (change.state, change.ticks)).collect();
                let recorded = Recorded {
                    op: told.op,
                    called: &told.called,
                    cause: told.cause,
                    queue_tick: (told.queue_tick > 0).then_some(told.queue_tick),
                    left_out: &told.left_out,
                    canceled: told.canceled.as_ref(),
                    changes: &changes,
                };
                let replayed = core.replay(recorded);
                replayed.map_err(|why| WhyNot::Diverged { index, why })?;
            }
            // Without an order, else the replay would have begun there.
            _ => return Err(WhyNot::NoOrder),
        }
    }
    Ok(())
}

fn checkpoint_of(key: Key) -> Checkpoint {
    Checkpoint {
        revision: key.position.revision,
        ticks: key.ticks,
        order: key.order,
        queue_tick: key.queue_tick,
        ..Checkpoint::default()
    }
}
