//! What a machine knows of its states: names, flags, relations and groups, in index order.
//!
//! A schema comes from the tables of a `states!` enum or, for tools and tests, from a
//! [`SchemaBuilder`]. It never changes; machines, views and replicas share it in an [`Arc`].
//!
//! [`Arc`]: std::sync::Arc

use std::fmt;
use std::iter;

use crate::relations::Compiled;
use crate::state::UnknownState;
use crate::tables::{self, Tables, flag};

mod builder;
mod difference;
#[cfg(feature = "debug")]
pub(crate) mod portable;
mod sets;

pub use builder::{SchemaBuilder, SchemaError, StateDef};
pub use difference::{Difference, StateShape};

/// The state that every schema has (rule R3).
pub const EXCEPTION: &str = "Exception";

/// The most states a schema can have.
pub const MAX_STATES: usize = 65_534;

/// One of the four relations between states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Relation {
    /// The state cannot be active without the listed ones.
    Require,
    /// Activating the state tries to activate the listed ones.
    Add,
    /// Activating the state deactivates the listed ones, and while active it blocks them.
    Remove,
    /// The state comes after the listed ones in the order of a transition.
    After,
}

impl Relation {
    /// All relations, in the order of the tables and of the fingerprint.
    pub const ALL: [Self; 4] = [Self::Require, Self::Add, Self::Remove, Self::After];

    /// The relation's name in templates and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::After => "after",
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names, flags, relations and groups of a machine's states.
pub struct Schema {
    name: String,
    names: Box<str>,
    name_ends: Vec<u32>,
    by_name: Vec<u32>,
    flags: Vec<u8>,
    relations: [Lists; 4],
    groups: Vec<Group>,
    axes: Vec<Axis>,
    counts: Vec<(String, u32)>,
    fingerprint: Fingerprint,
    compiled: Compiled,
    /// The states that rule R29 names, as far as the schema has them.
    health: Vec<u32>,
}

/// A 128-bit hash (XXH3) over the ordered names, flags and relations of a schema.
///
/// Nodes compare fingerprints before they replicate: a bit means the same state on both sides
/// exactly if they are equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A named set of states, or a family of such sets when it was declared in loops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    name: String,
    exclusive: bool,
    axes: Vec<usize>,
    members: Lists,
}

impl Group {
    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the members of each set remove each other.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// The loops around the declaration, outermost first, as places in [`Schema::axes`].
    pub fn axes(&self) -> &[usize] {
        &self.axes
    }

    /// How many sets the family has; 1 outside loops.
    pub fn family_len(&self) -> usize {
        self.members.len()
    }

    /// The states of set `member` of the family, in order of declaration.
    ///
    /// # Panics
    ///
    /// If there is no such set.
    pub fn members(&self, member: usize) -> &[u32] {
        self.members.of(member)
    }

    /// The states of all sets of the family.
    pub fn all_members(&self) -> &[u32] {
        &self.members.items
    }
}

/// A loop variable of the template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Axis {
    name: String,
    first: u32,
    last: u32,
    values: Vec<u32>,
}

impl Axis {
    /// The variable's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The variable's first and last value.
    pub fn bounds(&self) -> (usize, usize) {
        (self.first as usize, self.last as usize)
    }

    /// The variable's value where state `index` was declared, if that was in such a loop.
    pub fn value(&self, index: usize) -> Option<usize> {
        let value = *self.values.get(index)?;
        (value != u32::MAX).then_some(value as usize)
    }
}

/// A list of states per state, stored as one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lists {
    ends: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    fn from_tables(lists: &tables::Lists) -> Self {
        Self {
            ends: numbers(lists.ends).collect(),
            items: numbers(lists.items).collect(),
        }
    }

    pub(crate) fn push(&mut self, items: impl IntoIterator<Item = u32>) {
        self.items.extend(items);
        self.ends.push(as_index(self.items.len()));
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn of(&self, index: usize) -> &[u32] {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        &self.items[start..self.ends[index] as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|i| self.of(i))
    }

    /// The lists read the other way: who names me?
    pub(crate) fn reversed(&self) -> Self {
        let mut ends = vec![0; self.len()];
        for item in &self.items {
            ends[*item as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut next: Vec<u32> = iter::once(0).chain(ends.iter().copied()).collect();
        let mut items = vec![0; self.items.len()];
        for (from, list) in self.iter().enumerate() {
            for to in list {
                let place = &mut next[*to as usize];
                items[*place as usize] = as_index(from);
                *place += 1;
            }
        }
        Self { ends, items }
    }
}

/// A count as an index; every schema has fewer than 2^32 relation entries.
pub(crate) fn as_index(count: usize) -> u32 {
    u32::try_from(count).expect("a schema has fewer than 2^32 states and relation entries")
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks().0.iter().copied().map(u32::from_le_bytes)
}

/// Everything of a schema that is not derived from the rest.
#[derive(Default)]
struct Parts {
    name: String,
    names: String,
    name_ends: Vec<u32>,
    flags: Vec<u8>,
    relations: [Lists; 4],
    groups: Vec<Group>,
    axes: Vec<Axis>,
    counts: Vec<(String, u32)>,
}

impl Schema {
    /// Starts a schema that is made at run time.
    pub fn builder(name: impl Into<String>) -> SchemaBuilder {
        SchemaBuilder::new(name.into())
    }

    /// Decodes what `states!` generated.
    #[doc(hidden)]
    pub fn from_tables(tables: &Tables) -> Self {
        let axes = tables.axes.iter().map(|axis| Axis {
            name: axis.name.to_owned(),
            first: axis.first,
            last: axis.last,
            values: numbers(axis.values).collect(),
        });
        let groups = tables.groups.iter().map(|group| Group {
            name: group.name.to_owned(),
            exclusive: group.exclusive,
            axes: group.axes.iter().map(|axis| usize::from(*axis)).collect(),
            members: Lists::from_tables(&group.members),
        });
        Self::from_parts(Parts {
            name: tables.name.to_owned(),
            names: tables.names.to_owned(),
            name_ends: numbers(tables.name_ends).collect(),
            flags: tables.flags.to_vec(),
            relations: [0, 1, 2, 3].map(|i| Lists::from_tables(&tables.relations[i])),
            groups: groups.collect(),
            axes: axes.collect(),
            counts: tables
                .counts
                .iter()
                .map(|(name, n)| ((*name).to_owned(), *n))
                .collect(),
        })
    }

    fn from_parts(mut parts: Parts) -> Self {
        let mut start = 0;
        for (end, flags) in parts.name_ends.iter().zip(&mut parts.flags) {
            if &parts.names[start..*end as usize] == EXCEPTION {
                // It keeps its error (rule R28).
                *flags |= flag::PAYLOAD | flag::RETAIN;
            }
            start = *end as usize;
        }
        let compiled = Compiled::new(&parts.flags, &parts.relations);
        let mut schema = Self {
            name: parts.name,
            names: parts.names.into(),
            name_ends: parts.name_ends,
            by_name: Vec::new(),
            flags: parts.flags,
            relations: parts.relations,
            groups: parts.groups,
            axes: parts.axes,
            counts: parts.counts,
            fingerprint: Fingerprint(0),
            compiled,
            health: Vec::new(),
        };
        let mut by_name: Vec<u32> = (0..as_index(schema.len())).collect();
        by_name.sort_by_key(|i| schema.name_of(*i as usize));
        schema.by_name = by_name;
        schema.fingerprint = schema.hash();
        let health = ["Healthcheck", "Heartbeat"].into_iter();
        schema.health = health
            .filter_map(|name| schema.find(name))
            .map(as_index)
            .collect();
        schema
    }

    fn hash(&self) -> Fingerprint {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let mut number = |n: u32, bytes: &[u8]| {
            hash.update(&n.to_le_bytes());
            hash.update(bytes);
        };
        for (i, flags) in self.flags.iter().enumerate() {
            let name = self.name_of(i).as_bytes();
            number(as_index(name.len()), name);
            number(u32::from(*flags), &[]);
            for lists in &self.relations {
                let list = lists.of(i);
                number(as_index(list.len()), &[]);
                for item in list {
                    number(*item, &[]);
                }
            }
        }
        Fingerprint(hash.digest128())
    }

    /// The schema's name: that of the generated enum.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of states, `Exception` included.
    #[expect(
        clippy::len_without_is_empty,
        reason = "every schema has the state Exception"
    )]
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// The hash that tells schemas apart.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The name of state `index`.
    ///
    /// # Panics
    ///
    /// If there is no such state.
    pub fn name_of(&self, index: usize) -> &str {
        let start = if index == 0 {
            0
        } else {
            self.name_ends[index - 1] as usize
        };
        &self.names[start..self.name_ends[index] as usize]
    }

    /// All names in index order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|i| self.name_of(i))
    }

    /// The index of the state called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name
            .binary_search_by_key(&name, |i| self.name_of(*i as usize))
            .ok()
            .map(|place| self.by_name[place] as usize)
    }

    /// The index of the state called `name`.
    ///
    /// # Errors
    ///
    /// [`UnknownState`] names the most similar state, if one resembles it.
    pub fn find_or_suggest(&self, name: &str) -> Result<usize, UnknownState> {
        self.find(name).ok_or_else(|| UnknownState {
            name: name.to_owned(),
            similar: similar(name, self.names()).map(str::to_owned),
        })
    }

    /// Whether the machine tries state `index` by itself after every change (rule R19).
    pub fn is_auto(&self, index: usize) -> bool {
        self.flags[index] & flag::AUTO != 0
    }

    /// Whether calling state `index` while it is active ticks it again (rule R12).
    pub fn is_multi(&self, index: usize) -> bool {
        self.flags[index] & flag::MULTI != 0
    }

    /// Whether a mutation that calls state `index` may carry a payload for it.
    pub fn takes_payload(&self, index: usize) -> bool {
        self.flags
            .get(index)
            .is_some_and(|flags| flags & flag::PAYLOAD != 0)
    }

    /// Whether the payload of state `index` is kept out of logs.
    pub fn is_redacted(&self, index: usize) -> bool {
        self.flags[index] & flag::REDACT != 0
    }

    /// Whether the payload that activated state `index` is kept while it is active.
    pub fn is_retained(&self, index: usize) -> bool {
        self.flags[index] & flag::RETAIN != 0
    }

    /// The payload `bytes` of state `index` for logs: as text, or nothing but their number if the
    /// state is redacted.
    ///
    /// # Panics
    ///
    /// If there is no such state.
    pub fn show_payload<'b>(&self, index: usize, bytes: &'b [u8]) -> impl fmt::Display + 'b {
        let redacted = self.is_redacted(index);
        fmt::from_fn(move |f| {
            if redacted {
                write!(f, "(redacted, {} bytes)", bytes.len())
            } else {
                f.write_str(&String::from_utf8_lossy(bytes))
            }
        })
    }

    /// The states that state `index` lists in `relation`, in the written order.
    pub fn related(&self, relation: Relation, index: usize) -> &[u32] {
        self.relations[relation as usize].of(index)
    }

    /// The groups in order of declaration.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The loop variables of the template.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The counts that the template was unrolled with.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u32)> {
        self.counts
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
    }

    /// Whether an add of `called` causes no auto mutation (rule R29).
    pub(crate) fn is_health(&self, called: &[u32]) -> bool {
        matches!(called, [state] if self.health.contains(state))
    }

    /// A state that requires itself, directly or through others. Such a cycle is legal (its
    /// states live and die together) but rarely meant, and takes the order of rule R10 away from
    /// the whole schema.
    pub fn require_cycle(&self) -> Option<&str> {
        self.compiled
            .require_cycle()
            .map(|state| self.name_of(state as usize))
    }

    pub(crate) fn compiled(&self) -> &Compiled {
        &self.compiled
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("name", &self.name)
            .field("states", &self.len())
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// The candidate that differs from `name` in the fewest edits, if those are few.
pub(crate) fn similar<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let most = name.chars().count() / 3 + 1;
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= most)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}
