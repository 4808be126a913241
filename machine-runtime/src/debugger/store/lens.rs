//! The replica lens: what every node of a tree shows of one moment of its root.

use crate::position::Position;

use super::{History, MachineId, Store};

/// A moment of a root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// By its position.
    Position(Position),
    /// By its wall clock: see [`History::last_at`].
    Wall(u64),
    /// By its entry.
    Index(usize),
}

/// One moment of a root, at every node of its tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lens {
    /// The root.
    pub root: MachineId,
    /// The root's entry of that moment.
    pub index: usize,
    /// Where the root was.
    pub position: Position,
    /// When, by its wall clock.
    pub wall: u64,
    /// The other nodes of its tree, each behind its parent.
    pub nodes: Vec<LensNode>,
}

/// What one node shows of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LensNode {
    /// The node.
    pub machine: MachineId,
    /// How many links away from the root it is.
    pub depth: usize,
    /// Its first entry at or behind the root's position; where it has not come that far, or that was
    /// forgotten, its last one of the same epoch. `None` if it showed nothing of the epoch.
    pub index: Option<usize>,
    /// Where it was at that entry.
    pub position: Option<Position>,
    /// Whether it has reached the root's position.
    pub has_reached: bool,
    /// From the root's first entry at that position to the node's, in microseconds by the two senders' wall clocks, which are
    /// not corrected: between computers it can be wrong by how much their clocks differ, and negative.
    pub lag: Option<i64>,
    /// How many revisions the node was behind at the root's moment, by the same clocks.
    pub behind: Option<u64>,
    /// The states whose ticks differ from what the root's were at the node's own revision: the
    /// replica is wrong, not late. `None` where one of the two is not known for sure.
    pub differences: Option<Vec<TickDifference>>,
}

/// A state that a replica shows wrongly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TickDifference {
    /// The state.
    pub state: u32,
    /// Its tick at the root, or in the first of two moments.
    pub root: u64,
    /// Its tick at the node, or in the second.
    pub node: u64,
}

impl TickDifference {
    /// Whether it is active on one side only.
    pub fn is_of_activity(&self) -> bool {
        self.root % 2 != self.node % 2
    }
}

impl Store {
    /// What every node of the tree of `root` shows of one moment of it. `None` if the root has no
    /// entry of that moment.
    pub fn lens(&self, root: MachineId, at: At) -> Option<Lens> {
        let history = self.machine(root);
        let index = match at {
            At::Position(position) => history.index_of(position)?,
            At::Wall(wall) => history.last_at(wall)?,
            At::Index(index) => Some(index).filter(|i| history.range().contains(i))?,
        };
        let (position, wall) = (history.position(index), history.wall(index));
        let mut nodes = Vec::new();
        // Of several entries at one revision it is the first that brought it to replicas.
        let came = history.first_at(position).map(|i| history.wall(i));
        for (machine, depth) in self.tree(root) {
            let walls = (wall, came.unwrap_or(wall));
            nodes.push(self.lens_node(history, machine, depth, position, walls));
        }
        Some(Lens {
            root,
            index,
            position,
            wall,
            nodes,
        })
    }

    fn lens_node(
        &self,
        root: &History,
        machine: MachineId,
        depth: usize,
        position: Position,
        (wall, came): (u64, u64),
    ) -> LensNode {
        let history = self.machine(machine);
        let reached = history.first_at(position);
        let last = history.last_of(position.epoch);
        let index = reached.or(last);
        let shown = index.map(|i| history.position(i));
        let lag = reached.map(|i| history.wall(i).wrapping_sub(came).cast_signed());
        let then = history.last_at(wall).map(|i| history.position(i));
        let behind = then
            .filter(|then| then.epoch == position.epoch)
            .map(|then| position.revision.saturating_sub(then.revision));
        LensNode {
            machine,
            depth,
            index,
            position: shown,
            has_reached: last.is_some_and(|i| history.position(i).has_reached(position)),
            lag,
            behind,
            differences: index.and_then(|i| differences(root, history, i)),
        }
    }

    /// The states whose ticks differ between two moments; `None` if the schemas do.
    pub fn diff(
        &self,
        a: (MachineId, usize),
        b: (MachineId, usize),
    ) -> Option<Vec<TickDifference>> {
        let (one, other) = (self.machine(a.0), self.machine(b.0));
        if one.schema().fingerprint() != other.schema().fingerprint() {
            return None;
        }
        let (one, other) = (one.ticks_after(a.1), other.ticks_after(b.1));
        Some(compare(&one.ticks, &other.ticks))
    }
}

/// What `node` shows wrongly at its entry `i`.
fn differences(root: &History, node: &History, i: usize) -> Option<Vec<TickDifference>> {
    if root.schema().fingerprint() != node.schema().fingerprint() {
        return None;
    }
    let theirs = node.ticks_after(i);
    let ours = root.ticks_after(root.index_of(theirs.position)?);
    (ours.is_sure && theirs.is_sure).then(|| compare(&ours.ticks, &theirs.ticks))
}

pub(super) fn compare(root: &[u64], node: &[u64]) -> Vec<TickDifference> {
    let pairs = (0..).zip(root.iter().zip(node));
    pairs
        .filter(|(_, (root, node))| root != node)
        .map(|(state, (root, node))| TickDifference {
            state,
            root: *root,
            node: *node,
        })
        .collect()
}
