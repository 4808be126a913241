//! Who follows whom, for all machines at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::debug::frame::Role;

use super::{Connection, History, MachineId, Store};

/// Those below each machine.
type Below = BTreeMap<MachineId, Vec<MachineId>>;

impl Store {
    /// All machines, each behind its parent, and how deep below one without: roots first, then by
    /// process and name, with numbers in names as numbers.
    pub fn forest(&self) -> Vec<(MachineId, usize)> {
        let (mut tops, mut below) = self.families();
        let by_name = |id: &MachineId| natural(self.machine(*id).name());
        tops.sort_by_cached_key(|id| {
            let history = self.machine(*id);
            (history.role() != Role::Root, history.process(), by_name(id))
        });
        for children in below.values_mut() {
            children.sort_by_cached_key(by_name);
        }
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        // Parents that name each other have no top.
        let rest = self.machines().iter().map(History::id);
        for top in tops.into_iter().chain(rest) {
            walk(&below, top, &mut seen, &mut order);
        }
        order
    }

    /// The nodes below `root`, each behind its parent, and how many links away they are.
    pub fn tree(&self, root: MachineId) -> Vec<(MachineId, usize)> {
        let (_, below) = self.families();
        let mut nodes = Vec::new();
        walk(&below, root, &mut BTreeSet::new(), &mut nodes);
        nodes.remove(0);
        nodes
    }

    /// The machines without a parent, and those below each, as [`Store::parent`] has it.
    fn families(&self) -> (Vec<MachineId>, Below) {
        // The newest that is connected, else the newest.
        let mut at: BTreeMap<&str, (bool, MachineId)> = BTreeMap::new();
        for history in self.machines() {
            let is_there = *self.connection(history.id()) == Connection::Connected;
            if let Some(addr) = history.addr() {
                let best = at.entry(addr).or_insert((is_there, history.id()));
                if is_there >= best.0 {
                    *best = (is_there, history.id());
                }
            }
        }
        let (mut tops, mut below) = (Vec::new(), Below::new());
        for history in self.machines() {
            let id = history.id();
            // One that names itself asks for its parent the slow way.
            let parent = match history.parent_addr() {
                Some(addr) if history.addr() == Some(addr) => self.parent(id),
                Some(addr) => at.get(addr).map(|(_, parent)| *parent),
                None => None,
            };
            match parent {
                Some(parent) => below.entry(parent).or_default().push(id),
                None => tops.push(id),
            }
        }
        (tops, below)
    }
}

/// A machine and those below it that were not seen yet: what nodes say of their parents can be a circle.
fn walk(
    below: &Below,
    top: MachineId,
    seen: &mut BTreeSet<MachineId>,
    order: &mut Vec<(MachineId, usize)>,
) {
    let mut open = vec![(top, 0)];
    while let Some((id, depth)) = open.pop() {
        if seen.insert(id) {
            order.push((id, depth));
            let children = below.get(&id).into_iter().flatten().rev();
            open.extend(children.map(|child| (*child, depth + 1)));
        }
    }
}

/// A name with its numbers as numbers, so that `rep-2` comes before `rep-10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0_u64)];
    let mut in_number = false;
    for char in name.chars() {
        let digit = char.to_digit(10);
        if in_number && digit.is_none() {
            parts.push((String::new(), 0));
        }
        in_number = digit.is_some();
        if let Some((text, number)) = parts.last_mut() {
            match digit {
                Some(digit) => *number = number.saturating_mul(10).saturating_add(digit.into()),
                None => text.push(char),
            }
        }
    }
    parts
}
