//! Filters, and the entries that pass one.

use std::collections::{BTreeSet, VecDeque};

use super::chunk::Chunk;
use super::flags::Flags;
use super::search::Search;
use super::{MachineId, Store};

/// What is hidden. All parts apply together; the default hides nothing.
///
/// Marks of lost frames are always shown. Keys are shown unless there is a group or a text. What a
/// replica followed is hidden by neither of the `hide_…`. There is none for dry runs, of which nodes
/// tell nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a toggle of its own")]
pub struct Filter {
    /// Hides canceled transitions.
    pub hide_canceled: bool,
    /// Hides transitions that try auto states.
    pub hide_auto: bool,
    /// Hides [`Flags::QUEUED`] transitions.
    pub hide_queued: bool,
    /// Hides transitions that were carried out and changed nothing.
    pub hide_empty: bool,
    /// Hides transitions that called `Healthcheck` or `Heartbeat` and nothing else.
    pub hide_health: bool,
    /// Shows only what called or changed one of these states.
    pub group: Option<BTreeSet<u32>>,
    /// Shows only these machines.
    pub machines: Option<BTreeSet<MachineId>>,
    /// Shows only what has each word of this, in upper or lower case, in the name of a state that was
    /// called or changed, or that a handler or the reason of a cancellation names, or that handlers left out; in a payload, in a
    /// reason's words or code, or in a handler's phase.
    pub text: Option<String>,
}

impl Filter {
    /// Flags that hide an entry.
    fn hidden_flags(&self) -> Flags {
        let mut flags = Flags::NONE;
        let mut set = |on: bool, flag: Flags| {
            if on {
                flags |= flag;
            }
        };
        set(self.hide_canceled, Flags::CANCELED);
        set(self.hide_auto, Flags::AUTO);
        set(self.hide_queued, Flags::QUEUED);
        set(self.hide_empty, Flags::EMPTY);
        set(self.hide_health, Flags::HEALTH);
        flags
    }
}

/// How many entries each part of a filter hides by itself, no matter what the others hide. Of the
/// toggles it is what they would hide if they were on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hidden {
    /// Canceled transitions.
    pub canceled: usize,
    /// Transitions that try auto states.
    pub auto: usize,
    /// Transitions that waited, or while which others did.
    pub queued: usize,
    /// Transitions that changed nothing.
    pub empty: usize,
    /// Transitions for health only.
    pub health: usize,
    /// Entries outside of the group.
    pub group: usize,
    /// Entries without the text.
    pub text: usize,
}

impl Hidden {
    fn count(&mut self, flags: Flags) {
        let count = |flag: Flags| usize::from(flags.contains(flag));
        self.canceled += count(Flags::CANCELED);
        self.auto += count(Flags::AUTO);
        self.queued += count(Flags::QUEUED);
        self.empty += count(Flags::EMPTY);
        self.health += count(Flags::HEALTH);
    }

    fn add(&mut self, other: &Self) {
        self.canceled += other.canceled;
        self.auto += other.auto;
        self.queued += other.queued;
        self.empty += other.empty;
        self.health += other.health;
        self.group += other.group;
        self.text += other.text;
    }
}

/// The entries of one machine that pass a filter, in order.
#[derive(Debug)]
pub struct Visible {
    machine: MachineId,
    filter: Filter,
    flags: Flags,
    group: Option<Vec<u64>>,
    search: Option<Search>,
    /// Up to where entries were looked at.
    end: usize,
    indices: VecDeque<usize>,
    /// What is hidden, by chunk: to be forgotten with it.
    hidden: VecDeque<(usize, Hidden)>,
}

impl Visible {
    /// Looks at all entries of a machine.
    pub fn new(store: &Store, machine: MachineId, filter: Filter) -> Self {
        let mut visible = Self::begin(store, machine, filter);
        visible.update(store);
        visible
    }

    /// Has looked at no entry yet, see [`Visible::update_some`].
    pub fn begin(store: &Store, machine: MachineId, filter: Filter) -> Self {
        let history = store.machine(machine);
        let schema = history.schema();
        let group = filter.group.as_ref().map(|states| {
            let mut words = vec![0; schema.len().div_ceil(64)];
            for state in states {
                super::chunk::set(&mut words, *state);
            }
            words
        });
        let search = filter
            .text
            .as_deref()
            .and_then(|text| Search::new(schema, text));
        Self {
            machine,
            flags: filter.hidden_flags(),
            group,
            search,
            filter,
            end: history.start(),
            indices: VecDeque::new(),
            hidden: VecDeque::new(),
        }
    }

    /// Looks at the entries that are new, and lets those go that were forgotten.
    pub fn update(&mut self, store: &Store) {
        self.update_some(store, usize::MAX);
    }

    /// The same, but looks at no more than about `entries`; says whether it has looked at all.
    pub fn update_some(&mut self, store: &Store, entries: usize) -> bool {
        let history = store.machine(self.machine);
        let first = history.start();
        let forgotten = self.indices.partition_point(|i| *i < first);
        self.indices.drain(..forgotten);
        self.end = self.end.max(first);
        let most = self.end.saturating_add(entries);
        for chunk in history.chunks_from(self.end) {
            if self.end >= most {
                break;
            }
            self.look(chunk);
            self.end = chunk.end();
        }
        let gone = self.hidden.partition_point(|(start, _)| *start < first);
        self.hidden.drain(..gone);
        self.end >= history.end()
    }

    fn look(&mut self, chunk: &Chunk) {
        if self
            .hidden
            .back()
            .is_none_or(|(start, _)| *start != chunk.start)
        {
            self.hidden.push_back((chunk.start, Hidden::default()));
        }
        let Some((_, hidden)) = self.hidden.back_mut() else {
            return;
        };
        let shown = self.filter.machines.as_ref();
        let shown = shown.is_none_or(|machines| machines.contains(&self.machine));
        let in_group = self
            .group
            .as_ref()
            .is_none_or(|group| chunk.mentions(group));
        let has_text = self
            .search
            .as_ref()
            .is_none_or(|search| search.may_be_in(chunk));
        let first = self.end.saturating_sub(chunk.start);
        for (place, flags) in chunk.all_flags().iter().enumerate().skip(first) {
            hidden.count(*flags);
            let lost = flags.contains(Flags::DROPPED);
            let group = lost
                || self
                    .group
                    .as_ref()
                    .is_none_or(|group| in_group && is_in(chunk, place, group));
            hidden.group += usize::from(!group);
            let text = lost
                || self
                    .search
                    .as_ref()
                    .is_none_or(|search| has_text && search.is_in(chunk, place));
            hidden.text += usize::from(!text);
            if shown && group && text && !flags.intersects(self.flags) {
                self.indices.push_back(chunk.start + place);
            }
        }
    }

    /// The machine.
    pub fn machine(&self) -> MachineId {
        self.machine
    }

    /// The filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// How many entries pass.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether none passes.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The index of the `n`th that passes.
    pub fn get(&self, n: usize) -> Option<usize> {
        self.indices.get(n).copied()
    }

    /// The indices that pass, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        self.indices.iter().copied()
    }

    /// Whether entry `i` passes.
    pub fn contains(&self, i: usize) -> bool {
        self.place(i).is_ok()
    }

    /// Which of those that pass entry `i` is; else how many that pass come before it.
    ///
    /// # Errors
    ///
    /// How many pass before it, if it does not pass itself.
    pub fn place(&self, i: usize) -> Result<usize, usize> {
        self.indices.binary_search(&i)
    }

    /// How many entries each part of the filter hides, of those that are held.
    pub fn hidden(&self) -> Hidden {
        let mut sum = Hidden::default();
        self.hidden.iter().for_each(|(_, hidden)| sum.add(hidden));
        sum
    }
}

fn is_in(chunk: &Chunk, place: usize, group: &[u64]) -> bool {
    let found = std::cell::Cell::new(false);
    let look = |state: u32| {
        if super::chunk::has(group, state) {
            found.set(true);
        }
    };
    chunk.scan(place, look, |state, _| look(state));
    found.get()
}
