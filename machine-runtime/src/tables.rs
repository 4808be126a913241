//! What `states!` emits: constants that compile in time proportional to the number of states.
//!
//! Names are one string, numbers are little-endian `u32` in byte strings. Nothing here is meant
//! to be read by hand; [`Schema::from_tables`](crate::Schema::from_tables) decodes it once.

/// The tables of one generated enum.
#[derive(Debug)]
pub struct Tables {
    /// The enum's name.
    pub name: &'static str,
    /// All state names in index order, one behind the other.
    pub names: &'static str,
    /// Per state: where its name ends in `names`.
    pub name_ends: &'static [u8],
    /// Per state one byte, see `flag`.
    pub flags: &'static [u8],
    /// Require, Add, Remove and After, sanitised (rule R2), each list in its written order.
    pub relations: [Lists; 4],
    /// The named groups, in order of declaration.
    pub groups: &'static [Group],
    /// The loop variables, in order of first appearance.
    pub axes: &'static [Axis],
    /// The counts that the template named, in order of first use.
    pub counts: &'static [(&'static str, u32)],
}

/// A list of states per state.
#[derive(Debug)]
pub struct Lists {
    /// Per state: how many entries all lists up to and with its own have.
    pub ends: &'static [u8],
    /// The entries of all lists: state indices.
    pub items: &'static [u8],
}

/// A named group, or a family of groups when it stands in loops.
#[derive(Debug)]
pub struct Group {
    /// The group's name.
    pub name: &'static str,
    /// Whether its members remove each other.
    pub exclusive: bool,
    /// The loop variables around it, outermost first: indices into [`Tables::axes`].
    pub axes: &'static [u8],
    /// The members of each group of the family, the last loop variable counting fastest.
    pub members: Lists,
}

/// A loop variable.
#[derive(Debug)]
pub struct Axis {
    /// The variable's name.
    pub name: &'static str,
    /// Its first value.
    pub first: u32,
    /// Its last value.
    pub last: u32,
    /// Per state: the variable's value where the state was unrolled, `u32::MAX` outside its loops.
    pub values: &'static [u8],
}

/// The bits of [`Tables::flags`].
pub(crate) mod flag {
    /// The state is tried after every change (rule R19).
    pub(crate) const AUTO: u8 = 1;
    /// Calling the state while it is active ticks it again (rule R12).
    pub(crate) const MULTI: u8 = 2;
    /// A mutation that activates the state may carry a payload.
    pub(crate) const PAYLOAD: u8 = 4;
    /// The payload is kept while the state is active.
    pub(crate) const RETAIN: u8 = 8;
    /// The payload is kept out of logs.
    pub(crate) const REDACT: u8 = 16;
}
