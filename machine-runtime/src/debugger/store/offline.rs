//! What the core says of a moment that is long gone.

use crate::explain::Explanation;
use crate::machine::Machine;
use crate::set::StateSet;
use crate::state::DynState;

use super::{MachineId, Store};

/// Why there is no core of a moment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhyNot {
    /// No key with the order of the active list is held at or before it.
    #[error("nothing that a core could start from is held before it")]
    NoKey,
    /// Frames are missing between the key and it.
    #[error("frames were lost before it")]
    Lost,
}

impl Store {
    /// A core as the machine was after entry `i`.
    ///
    /// # Errors
    ///
    /// Why there can be none.
    pub fn core_at(&self, machine: MachineId, i: usize) -> Result<Machine<DynState>, WhyNot> {
        let history = self.machine(machine);
        let (_, _key) = history.key_before(i).ok_or(WhyNot::NoKey)?;
        Err(WhyNot::Lost)
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

    /// The active list before entry `i` in its order; empty where that is not known.
    pub(super) fn order_before(&self, machine: MachineId, i: usize) -> Vec<u32> {
        let before = i.checked_sub(1);
        let before = before.filter(|before| self.machine(machine).range().contains(before));
        let core = before.and_then(|before| self.core_at(machine, before).ok());
        core.map_or_else(Vec::new, |core| {
            core.active_list().map(|state| state.0).collect()
        })
    }
}
