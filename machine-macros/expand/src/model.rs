//! A checked machine: indices instead of names, ready to be written down.
//!
//! Invariants: there are as many names, flags and lists as states; every entry of a list is the
//! index of a state; no list names a state twice; the lists are sanitised (rule R2): no state is in
//! its own Remove or After, or in both its Add and its Remove.

/// The most states that a machine can have: indices fit into `u16`, with one value to spare for "none".
pub(crate) const MAX_STATES: usize = 65_534;

/// The most entries that all relations and groups of a machine can have.
pub(crate) const MAX_RELATIONS: usize = 1 << 22;

/// A list of states for each state, or for each group of a family.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Lists {
    pub(crate) ends: Vec<u32>,
    pub(crate) items: Vec<u32>,
}

impl Lists {
    /// Ends the list that the last items belong to.
    pub(crate) fn close(&mut self) {
        self.ends.push(small(self.items.len()));
    }

    pub(crate) fn get(&self, index: usize) -> &[u32] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.items[start as usize..self.ends[index] as usize]
    }
}

/// What the tables of an enum are made of.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Model {
    pub(crate) names: String,
    pub(crate) name_ends: Vec<u32>,
    /// The template line of each state.
    pub(crate) lines: Vec<u32>,
    pub(crate) flags: Vec<u8>,
    pub(crate) relations: [Lists; 4],
    /// The members of each group, in the order of the template's groups.
    pub(crate) groups: Vec<Lists>,
    /// By axis, the value of the loop variable for each state.
    pub(crate) axes: Vec<Vec<u32>>,
}

impl Model {
    pub(crate) fn len(&self) -> usize {
        self.name_ends.len()
    }

    pub(crate) fn name(&self, state: usize) -> &str {
        let start = if state == 0 {
            0
        } else {
            self.name_ends[state - 1]
        };
        &self.names[start as usize..self.name_ends[state] as usize]
    }
}

/// An index or a length of a table: sizes are bounded by [`MAX_STATES`] and [`MAX_RELATIONS`].
pub(crate) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
