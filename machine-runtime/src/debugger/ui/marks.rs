//! What is marked: errors and refusals of each machine, bookmarks, breakpoints.

use super::super::store::{Flags, History, MachineId};
use crate::schema::EXCEPTION;

/// How many entries a machine counts as having had an error for.
const RECENT: usize = 100;

/// Where a machine had errors and refusals: looked at as they come, so that nothing has to look at all
/// entries again.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    end: usize,
    errors: Vec<usize>,
    canceled: Vec<usize>,
    /// From which entry on `Exception` was active, or was not.
    exception: Vec<(usize, bool)>,
}

/// How long ago a machine's last error was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    None,
    Recent,
    Now,
}

impl Marks {
    /// Looks at the entries that are new.
    pub(super) fn update(&mut self, history: &History) {
        let start = history.start();
        for list in [&mut self.errors, &mut self.canceled] {
            let gone = list.partition_point(|i| *i < start);
            list.drain(..gone);
        }
        // Of those that are forgotten the last one still holds.
        let gone = self.exception.partition_point(|(i, _)| *i < start);
        self.exception.drain(..gone.saturating_sub(1));
        let exception = history.schema().find(EXCEPTION);
        for i in self.end.max(start)..history.end() {
            let flags = history.flags(i);
            if flags.intersects(Flags::ERROR | Flags::KEY)
                && let Some(exception) = exception.and_then(|state| u32::try_from(state).ok())
            {
                let is_active = history.ticks_after(i).is_active(exception);
                if self.exception.last().is_some_and(|(_, was)| *was) != is_active {
                    self.exception.push((i, is_active));
                }
            }
            if flags.contains(Flags::ERROR) {
                self.errors.push(i);
            }
            if flags.contains(Flags::CANCELED) {
                self.canceled.push(i);
            }
        }
        self.end = history.end();
    }

    /// Whether there is an error at entry `i`, or shortly before.
    pub(super) fn trouble(&self, i: usize) -> Trouble {
        let before = self.errors.partition_point(|error| *error <= i);
        let last = before.checked_sub(1).map(|place| self.errors[place]);
        match last {
            _ if self.has_exception(i) => Trouble::Now,
            Some(last) if last == i => Trouble::Now,
            Some(last) if i - last < RECENT => Trouble::Recent,
            _ => Trouble::None,
        }
    }

    /// Whether `Exception` is active after entry `i`.
    fn has_exception(&self, i: usize) -> bool {
        let before = self.exception.partition_point(|(from, _)| *from <= i);
        before > 0 && self.exception[before - 1].1
    }

    /// How many errors and how many refusals there are from one entry up to another.
    pub(super) fn between(&self, from: usize, to: usize) -> (usize, usize) {
        let count = |list: &[usize]| {
            let end = list.partition_point(|i| *i < to);
            end - list.partition_point(|i| *i < from).min(end)
        };
        (count(&self.errors), count(&self.canceled))
    }

    /// The errors and refusals before `i`, the last one first, or behind it, the first one first.
    pub(super) fn near(&self, i: usize, forward: bool) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        for list in [&self.errors, &self.canceled] {
            if forward {
                let from = list.partition_point(|other| *other <= i);
                found.extend(&list[from..]);
            } else {
                let to = list.partition_point(|other| *other < i);
                found.extend(&list[..to]);
            }
        }
        found.sort_unstable();
        found.dedup();
        if !forward {
            found.reverse();
        }
        found
    }

    /// All errors and refusals, the first one first.
    pub(super) fn all(&self) -> Vec<usize> {
        let mut found = [&self.errors[..], &self.canceled[..]].concat();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A moment with a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bookmark {
    pub(super) name: String,
    pub(super) machine: MachineId,
    pub(super) index: usize,
}

/// A state of a machine at whose changes following stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Breakpoint {
    pub(super) machine: MachineId,
    pub(super) state: u32,
    /// Up to where entries were looked at.
    pub(super) end: usize,
}
