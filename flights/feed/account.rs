//! What became of every departure of a table.

use std::fmt;

/// Every departure of a table, each counted once.
///
/// ```
/// use flights::feed::{Plan, Timetable};
///
/// let mut plan = Plan::new(Timetable::shipped(), 10, 5, 0);
/// plan.by_ref().for_each(drop);
/// let account = plan.account();
/// assert_eq!(account.departures, 1004);
/// assert_eq!(account.settled(), 1004);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Account {
    /// All departures of the table.
    pub departures: usize,
    /// Shown until they had arrived.
    pub arrived: usize,
    /// Shown until they had arrived, after a diversion.
    pub diverted: usize,
    /// Shown until they had departed; the table has no arrival of theirs.
    pub lost: usize,
    /// Shown until they were cancelled.
    pub cancelled: usize,
    /// Shown until they were on their way, when another flight took the slot.
    pub taken_over: usize,
    /// Not shown, as no slot was to be had.
    pub not_shown: usize,
    /// How many of those not shown were cancelled. Part of `not_shown`.
    pub not_shown_cancelled: usize,
}

impl Account {
    /// How many departures ended in one of the ways listed; all of them after the replay.
    pub fn settled(&self) -> usize {
        self.arrived + self.diverted + self.lost + self.cancelled + self.taken_over + self.not_shown
    }

    /// How many departures are still to come or still shown.
    pub fn pending(&self) -> usize {
        self.departures - self.settled()
    }
}

/// One line, of which the numbers add up.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} departures = {} arrived + {} diverted + {} departed without a recorded arrival \
             + {} cancelled + {} taken over after departure + {} not shown ({} of them cancelled)",
            self.departures,
            self.arrived,
            self.diverted,
            self.lost,
            self.cancelled,
            self.taken_over,
            self.not_shown,
            self.not_shown_cancelled,
        )?;
        match self.pending() {
            0 => Ok(()),
            pending => write!(f, " + {pending} still to come"),
        }
    }
}
