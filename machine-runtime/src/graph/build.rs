//! From a schema to what is drawn of it: folding, counting, frames.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::family::{self, Member};
use super::select::Shown;
use super::{Cluster, Edge, Graph, Node, Options, SelectError};
use crate::schema::{Relation, Schema, as_index};

/// How far states are folded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fold {
    /// Each is a node.
    Nothing,
    /// Those of a family are one.
    Families,
    /// Those of a group are one, of the others those of a family.
    Groups,
    /// Likewise, and what is still too much is one.
    Rest,
}

impl Fold {
    const ALL: [Self; 4] = [Self::Nothing, Self::Families, Self::Groups, Self::Rest];
}

/// How many relations there are per node at most, unless nothing is to be folded.
const EDGES_PER_NODE: usize = 5;

/// What a state becomes part of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Key {
    State(u32),
    Family(usize),
    Group(usize),
    Rest,
}

/// Where a state belongs.
#[derive(Clone, Copy, Default, Debug)]
struct Home {
    /// Its first group, and which set of that.
    group: Option<(usize, usize)>,
    /// The outermost loop around its group or itself, and the value there.
    axis: Option<(usize, usize)>,
}

/// A frame that a node can be in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Frame {
    Axis(usize, Option<usize>),
    Group(usize, Option<usize>),
}

struct Builder<'a> {
    schema: &'a Schema,
    options: &'a Options,
    shown: Vec<Shown>,
    homes: Vec<Home>,
    /// Whether at most one state of each set is active, per group.
    one_of: Vec<bool>,
    /// Per shown state: its family, and its numbers there.
    families: Vec<(usize, Vec<usize>)>,
    /// What the families' names are made of.
    keys: Vec<String>,
}

pub(super) fn graph(schema: &Schema, options: &Options) -> Result<Graph, SelectError> {
    let shown = options.selection.states(schema);
    if shown.is_empty() {
        return Err(SelectError::Nothing);
    }
    let homes = homes(schema);
    let groups = schema.groups().iter();
    let one_of = groups
        .map(|group| {
            let mut sets = (0..group.family_len()).map(|set| group.members(set));
            group.all_members().len() > group.family_len()
                && (group.is_exclusive() || sets.all(|set| all_remove_all(schema, set)))
        })
        .collect();
    let mut builder = Builder {
        schema,
        options,
        shown,
        homes,
        one_of,
        families: Vec::new(),
        keys: Vec::new(),
    };
    let most = options.max_nodes.max(1);
    for fold in Fold::ALL {
        if fold == Fold::Families {
            builder.find_families();
        }
        let nodes = builder.fold(fold, most);
        if nodes.members.len() > most {
            continue;
        }
        let edges = builder.edges(&nodes);
        let most_edges = most.saturating_mul(EDGES_PER_NODE);
        if edges.len() <= most_edges || fold == Fold::Rest {
            return Ok(builder.graph(&nodes, edges, fold, most_edges));
        }
    }
    unreachable!("the last fold has few enough nodes")
}

/// Where all states belong.
fn homes(schema: &Schema) -> Vec<Home> {
    let mut homes = vec![Home::default(); schema.len()];
    for (place, group) in schema.groups().iter().enumerate() {
        for set in 0..group.family_len() {
            for state in group.members(set) {
                let home = &mut homes[*state as usize];
                home.group.get_or_insert((place, set));
            }
        }
    }
    for (state, home) in homes.iter_mut().enumerate() {
        let value = |place: usize| Some((place, schema.axes()[place].value(state)?));
        home.axis = match home.group {
            Some((group, _)) => {
                let outermost = schema.groups()[group].axes().first();
                outermost.and_then(|place| value(*place))
            }
            None => (0..schema.axes().len()).find_map(value),
        };
    }
    homes
}

fn all_remove_all(schema: &Schema, set: &[u32]) -> bool {
    set.iter().all(|state| {
        let removed = schema.related(Relation::Remove, *state as usize);
        removed.len() + 1 >= set.len()
            && set
                .iter()
                .all(|other| other == state || removed.contains(other))
    })
}

/// States as nodes: those of each, and the node of each shown state.
struct Folded {
    keys: Vec<Key>,
    members: Vec<Vec<usize>>,
    /// Per state of the schema: its node.
    node_of: Vec<Option<usize>>,
}

impl Builder<'_> {
    fn find_families(&mut self) {
        let mut known: HashMap<(String, Option<usize>, Option<usize>), usize> = HashMap::new();
        for shown in &self.shown {
            let Member { key, numbers } = family::member(self.schema, shown.state as usize);
            let home = self.homes[shown.state as usize];
            let next = known.len();
            let kin = (
                key,
                home.group.map(|(group, _)| group),
                home.axis.map(|(axis, _)| axis),
            );
            let family = match known.entry(kin) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    self.keys.push(new.key().0.clone());
                    *new.insert(next)
                }
            };
            self.families.push((family, numbers));
        }
    }

    fn key(&self, place: usize, fold: Fold) -> Key {
        let state = self.shown[place].state;
        match (fold, self.homes[state as usize].group) {
            (Fold::Nothing, _) => Key::State(state),
            (Fold::Groups | Fold::Rest, Some((group, _))) => Key::Group(group),
            _ => Key::Family(self.families[place].0),
        }
    }

    fn fold(&self, fold: Fold, most: usize) -> Folded {
        let mut places: HashMap<Key, usize> = HashMap::new();
        let mut folded = Folded {
            keys: Vec::new(),
            members: Vec::new(),
            node_of: vec![None; self.schema.len()],
        };
        for (place, _) in self.shown.iter().enumerate() {
            let key = self.key(place, fold);
            let node = *places.entry(key).or_insert(folded.members.len());
            if node == folded.members.len() {
                folded.keys.push(key);
                folded.members.push(Vec::new());
            }
            folded.members[node].push(place);
        }
        if fold == Fold::Rest && folded.members.len() > most {
            folded.keep(most);
        }
        for (node, members) in folded.members.iter().enumerate() {
            for place in members {
                folded.node_of[self.shown[*place].state as usize] = Some(node);
            }
        }
        folded
    }

    /// The relations between nodes, counted. What a set says by being one of is left out.
    fn edges(&self, nodes: &Folded) -> Vec<Edge> {
        let mut counts: HashMap<(usize, usize, usize), usize> = HashMap::new();
        for shown in &self.shown {
            let state = shown.state as usize;
            let Some(from) = nodes.node_of[state] else {
                continue;
            };
            let set = self.homes[state].group;
            let set = set.filter(|(group, _)| self.one_of[*group]);
            for relation in Relation::ALL {
                for other in self.schema.related(relation, state) {
                    let other = *other as usize;
                    let Some(to) = nodes.node_of[other] else {
                        continue;
                    };
                    let is_said = relation == Relation::Remove
                        && set.is_some()
                        && self.homes[other].group == set;
                    if !is_said {
                        *counts.entry((from, to, relation as usize)).or_default() += 1;
                    }
                }
            }
        }
        let mut edges = Vec::new();
        for ((from, to, kind), count) in &counts {
            let relation = Relation::ALL[*kind];
            let back = counts.get(&(*to, *from, *kind));
            let mutual = relation == Relation::Remove && from != to && back == Some(count);
            if mutual && from > to {
                continue;
            }
            edges.push(Edge {
                from: *from,
                to: *to,
                relation,
                count: *count,
                mutual,
            });
        }
        edges.sort_by_key(|edge| (edge.from, edge.to, edge.relation as usize));
        edges
    }

    fn graph(&self, nodes: &Folded, mut edges: Vec<Edge>, fold: Fold, most: usize) -> Graph {
        let relations: usize = edges.iter().map(|edge| edge.count).sum();
        if fold == Fold::Rest && edges.len() > most {
            edges.sort_by_key(|edge| std::cmp::Reverse(edge.count));
            edges.truncate(most);
            edges.sort_by_key(|edge| (edge.from, edge.to, edge.relation as usize));
        }
        let left: usize = relations - edges.iter().map(|edge| edge.count).sum::<usize>();
        let mut frames = Frames::default();
        let is_whole = self.is_one_value();
        let mut drawn: Vec<Node> = Vec::with_capacity(nodes.members.len());
        for (key, members) in nodes.keys.iter().zip(&nodes.members) {
            let mut node = self.node(*key, members);
            let mut cluster = None;
            for frame in self.frames(*key, members, is_whole) {
                cluster = Some(frames.within(cluster, frame, || self.frame_label(frame)));
            }
            node.cluster = cluster;
            drawn.push(node);
        }
        let mut graph = Graph {
            title: String::new(),
            nodes: drawn,
            clusters: frames.clusters,
            edges,
        };
        graph.title = self.title(&graph, left);
        graph
    }

    fn title(&self, graph: &Graph, left: usize) -> String {
        let (shown, all) = (self.shown.len(), self.schema.len());
        let mut parts = vec![self.schema.name().to_owned()];
        let words = self.options.selection.words(self.schema);
        if !words.is_empty() {
            parts.push(words);
        }
        let name = parts.join(", ");
        let of = if shown < all {
            format!("{shown} of ")
        } else {
            String::new()
        };
        let mut facts = vec![format!("{of}{all} states")];
        if graph.nodes.len() < shown {
            facts[0].push_str(" in ");
            facts[0].push_str(&graph.nodes.len().to_string());
            facts[0].push_str(" nodes");
        }
        if self.options.ticks.is_some() {
            facts.push(format!("{} active", graph.active()));
        }
        if left > 0 {
            facts.push(format!("{left} relations left out"));
        }
        format!("{name}: {}", facts.join(", "))
    }

    fn state_of(&self, place: usize) -> usize {
        self.shown[place].state as usize
    }

    fn tick(&self, state: usize) -> Option<u64> {
        self.options.ticks.as_ref()?.get(state).copied()
    }

    fn node(&self, key: Key, members: &[usize]) -> Node {
        let active = members
            .iter()
            .filter(|place| self.tick(self.state_of(**place)).unwrap_or(0) % 2 == 1)
            .count();
        let states = members.len();
        let mut notes = Vec::new();
        let label = match (key, members) {
            (_, [only]) => {
                let state = self.state_of(*only);
                let flags = [
                    (self.schema.is_auto(state), "auto"),
                    (self.schema.is_multi(state), "multi"),
                ];
                let flags: Vec<&str> = flags
                    .into_iter()
                    .filter_map(|(is_so, flag)| is_so.then_some(flag))
                    .collect();
                if !flags.is_empty() {
                    notes.push(flags.join(", "));
                }
                if let Some(tick) = self.tick(state) {
                    notes.push(format!("tick {tick}"));
                }
                self.schema.name_of(state).to_owned()
            }
            (Key::Group(group), _) => {
                notes.push(self.sizes(group, members));
                self.schema.groups()[group].name().to_owned()
            }
            (Key::Family(family), _) => {
                notes.push(format!("{states} states"));
                let numbers = members
                    .iter()
                    .map(|place| self.families[*place].1.as_slice());
                family::name(&self.keys[family], &numbers)
            }
            _ => format!("{states} other states"),
        };
        if states > 1 && self.options.ticks.is_some() {
            notes.push(format!("{active} active"));
        }
        let stands_out = |place: &usize| {
            let state = as_index(self.state_of(*place));
            self.options.highlighted.contains(&state)
                || self.options.selection.centres().contains(&state)
        };
        Node {
            label,
            notes,
            states,
            active,
            highlighted: members.iter().any(stands_out),
            neighbour: members.iter().all(|place| self.shown[*place].neighbour),
            cluster: None,
        }
    }

    /// `10 × one of 5`.
    fn sizes(&self, group: usize, members: &[usize]) -> String {
        let mut sets: Vec<Option<(usize, usize)>> = members
            .iter()
            .map(|place| self.homes[self.state_of(*place)].group)
            .collect();
        sets.sort_unstable();
        sets.dedup();
        let (sets, states) = (sets.len(), members.len());
        let each = if self.one_of[group] { "one of " } else { "" };
        match (sets, states % sets) {
            (1, _) => format!("{each}{states} states"),
            (_, 0) => format!("{sets} × {each}{} states", states / sets),
            _ => format!("{states} states in {sets} sets"),
        }
    }

    /// Whether all states are of one value of one loop: a frame around all would say nothing.
    fn is_one_value(&self) -> bool {
        let mut values = self
            .shown
            .iter()
            .map(|shown| self.homes[shown.state as usize].axis);
        let first = values.next().flatten();
        first.is_some() && values.all(|value| value == first)
    }

    /// The frames of a node, the outermost first.
    fn frames(&self, key: Key, members: &[usize], is_whole: bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        let Some(home) = members
            .first()
            .map(|place| self.homes[self.state_of(*place)])
        else {
            return frames;
        };
        let is_state = matches!(key, Key::State(_));
        if key == Key::Rest {
            return frames;
        }
        if let Some((axis, value)) = home.axis
            && !(is_whole && is_state)
        {
            frames.push(Frame::Axis(axis, is_state.then_some(value)));
        }
        if let Some((group, set)) = home.group
            && !matches!(key, Key::Group(_))
        {
            frames.push(Frame::Group(group, is_state.then_some(set)));
        }
        frames
    }

    fn frame_label(&self, frame: Frame) -> String {
        match frame {
            Frame::Axis(axis, Some(value)) => family::value(&self.schema.axes()[axis], value),
            Frame::Axis(axis, None) => {
                let values = self.shown.iter().filter_map(|shown| {
                    let (place, value) = self.homes[shown.state as usize].axis?;
                    (place == axis).then_some(value)
                });
                let name = self.schema.axes()[axis].name().replace('_', " ");
                format!("{name} {}", family::range(values))
            }
            Frame::Group(place, set) => {
                let group = &self.schema.groups()[place];
                let mut label = match set {
                    Some(set) if group.axes().len() > 1 => self.schema.set_name(group, set),
                    _ => group.name().to_owned(),
                };
                if self.one_of[place] {
                    label.push_str(" (one of)");
                }
                label
            }
        }
    }
}

impl Folded {
    /// Keeps the largest, and makes one of all others.
    fn keep(&mut self, most: usize) {
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(|node| std::cmp::Reverse(self.members[*node].len()));
        let mut kept: Vec<usize> = order.drain(..most - 1).collect();
        kept.sort_unstable();
        let rest = order
            .iter()
            .flat_map(|node| std::mem::take(&mut self.members[*node]))
            .collect();
        self.keys = kept.iter().map(|node| self.keys[*node]).collect();
        self.members = kept
            .iter()
            .map(|node| std::mem::take(&mut self.members[*node]))
            .collect();
        self.keys.push(Key::Rest);
        self.members.push(rest);
    }
}

/// The frames so far.
#[derive(Default)]
struct Frames {
    clusters: Vec<Cluster>,
    known: HashMap<(Option<usize>, Frame), usize>,
}

impl Frames {
    fn within(
        &mut self,
        parent: Option<usize>,
        frame: Frame,
        label: impl FnOnce() -> String,
    ) -> usize {
        *self.known.entry((parent, frame)).or_insert_with(|| {
            let label = label();
            self.clusters.push(Cluster { label, parent });
            self.clusters.len() - 1
        })
    }
}
