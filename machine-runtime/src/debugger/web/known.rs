//! What was found out about the store and holds for the next request as well.

use std::collections::BTreeMap;

use crate::debugger::store::{Filter, Flags, History, MachineId, Store, Visible};

/// How many filters' entries are kept.
const FILTERS: usize = 8;

/// How many machines' marks are kept.
const MARKED: usize = 64;

/// Entries that pass filters, and those that stand out.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The one that was used last comes last.
    visible: Vec<Visible>,
    marks: BTreeMap<MachineId, Marks>,
}

/// The entries of a machine that stand out, in order.
#[derive(Debug, Default)]
pub(super) struct Marks {
    end: usize,
    canceled: Vec<usize>,
    errors: Vec<usize>,
}

impl Known {
    /// The entries of a machine that pass a filter.
    pub(super) fn visible(
        &mut self,
        store: &Store,
        machine: MachineId,
        filter: &Filter,
    ) -> &Visible {
        let mut all = self.visible.iter();
        let place = all.position(|one| one.machine() == machine && one.filter() == filter);
        let visible = if let Some(place) = place {
            let mut visible = self.visible.remove(place);
            visible.update(store);
            visible
        } else {
            if self.visible.len() >= FILTERS {
                self.visible.remove(0);
            }
            Visible::new(store, machine, filter.clone())
        };
        self.visible.push(visible);
        &self.visible[self.visible.len() - 1]
    }

    /// What stands out of a machine's entries.
    pub(super) fn marks(&mut self, history: &History) -> &Marks {
        if !self.marks.contains_key(&history.id()) && self.marks.len() >= MARKED {
            self.marks.pop_first();
        }
        let marks = self.marks.entry(history.id()).or_default();
        marks.update(history);
        marks
    }
}

impl Marks {
    fn update(&mut self, history: &History) {
        let start = history.start();
        for marked in [&mut self.canceled, &mut self.errors] {
            let gone = marked.partition_point(|i| *i < start);
            marked.drain(..gone);
        }
        for i in self.end.max(start)..history.end() {
            let flags = history.flags(i);
            if flags.contains(Flags::CANCELED) {
                self.canceled.push(i);
            }
            if flags.intersects(Flags::ERROR | Flags::DROPPED) {
                self.errors.push(i);
            }
        }
        self.end = history.end();
    }

    /// How many of these entries are canceled, and how many have errors.
    pub(super) fn between(&self, from: usize, to: usize) -> (usize, usize) {
        let count = |marked: &[usize]| {
            marked.partition_point(|i| *i < to) - marked.partition_point(|i| *i < from)
        };
        (count(&self.canceled), count(&self.errors))
    }

    /// The nearest entries with errors or refusals before and behind one.
    pub(super) fn around(&self, at: usize) -> (Option<usize>, Option<usize>) {
        let before = |marked: &[usize]| {
            let place = marked.partition_point(|i| *i < at);
            place.checked_sub(1).map(|place| marked[place])
        };
        let behind = |marked: &[usize]| marked.get(marked.partition_point(|i| *i <= at)).copied();
        let both = [&self.canceled, &self.errors];
        (
            both.iter().filter_map(|marked| before(marked)).max(),
            both.iter().filter_map(|marked| behind(marked)).min(),
        )
    }
}
