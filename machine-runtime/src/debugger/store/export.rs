//! What is held, as the frames of a recording.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use crate::debug::frame::{Body, Frame, Key, PROCESS};
use crate::debug::portable::PortableSchema;

use super::offline::Order;
use super::visible::{Filter, Visible};
use super::{Entry, History, MachineId, ProcessId, Store};

/// What of a process is exported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    /// What is left out.
    pub filter: Filter,
    /// From when to when, by the sender's wall clock.
    pub walls: RangeInclusive<u64>,
}

impl Default for Selection {
    /// All of it.
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            walls: 0..=u64::MAX,
        }
    }
}

impl Store {
    /// The selected frames of a process, see [`Export`].
    pub fn export<'a>(
        &'a self,
        process: ProcessId,
        selection: &Selection,
    ) -> impl Iterator<Item = Frame> + use<'a> {
        let visible = |id| Visible::new(self, id, selection.filter.clone());
        let mut export = Export::new(self, process, selection, visible);
        std::iter::from_fn(move || export.next_frame(self))
    }
}

/// The selected frames of a process, in the order of their numbers: who tells, the machines, then what
/// they told. Where entries are missing, at the start or because they were filtered out, a key brings
/// the ticks of that moment, as long as they are known for sure. Such keys have the number 0, as those
/// of what was left out can be other frames'.
///
/// Applying them to another store gives the same entries, and the keys between.
///
/// It borrows no store, so that one who writes to the store can do so between two frames: what came
/// later is left out, and what was forgotten since.
#[derive(Debug)]
pub struct Export {
    process: ProcessId,
    walls: RangeInclusive<u64>,
    first: VecDeque<Frame>,
    sources: Vec<Source>,
}

/// Frames in the order of their numbers, with the next one at hand.
#[derive(Debug)]
struct Source {
    /// It, and the number by which it is ordered.
    next: Option<(u64, Frame)>,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Entries(Box<Entries>),
    /// Errors and links.
    Beside(std::vec::IntoIter<Frame>),
    /// Lines of the log: how many there were before the next one, and before the end.
    Lines(u64, u64),
}

/// Entries of one machine.
#[derive(Debug)]
struct Entries {
    number: u32,
    id: MachineId,
    indices: std::vec::IntoIter<usize>,
    /// The entry that needs no key before it.
    expected: Option<usize>,
    /// What goes behind the key that was made for it.
    behind: Option<Frame>,
    order: Order,
}

impl Export {
    /// What of a process is selected, given which entries of each machine pass the filter.
    pub fn new(
        store: &Store,
        process: ProcessId,
        selection: &Selection,
        mut visible: impl FnMut(MachineId) -> Visible,
    ) -> Self {
        let told = store.process(process);
        let frame = |machine, body| Frame {
            number: 0,
            wall: 0,
            mono: 0,
            machine,
            body,
        };
        let mut first = VecDeque::from([frame(PROCESS, Body::Hello(told.hello().clone()))]);
        let mut sources = Vec::new();
        let mut schemas = BTreeSet::new();
        for (number, id) in &told.numbers {
            let shown = selection.filter.machines.as_ref();
            if shown.is_some_and(|machines| !machines.contains(id)) {
                continue;
            }
            let history = store.machine(*id);
            let mut declared = history.declared.clone();
            if schemas.insert(declared.fingerprint) {
                declared.schema = Some(PortableSchema::of(history.schema()));
            }
            first.push_back(frame(*number, Body::Machine(Box::new(declared))));
            let indices: Vec<usize> = visible(*id).iter().collect();
            sources.push(Rest::Entries(Box::new(Entries {
                number: *number,
                id: *id,
                indices: indices.into_iter(),
                expected: None,
                behind: None,
                order: Order::default(),
            })));
            sources.push(beside(history, *number, selection));
        }
        let forgotten = told.forgotten_lines();
        let end = forgotten + told.lines().len() as u64;
        sources.push(Rest::Lines(forgotten, end));
        let mut export = Self {
            process,
            walls: selection.walls.clone(),
            first,
            sources: Vec::new(),
        };
        for mut rest in sources {
            let next = export.take(store, &mut rest);
            export.sources.push(Source { next, rest });
        }
        export
    }

    /// The next frame.
    pub fn next_frame(&mut self, store: &Store) -> Option<Frame> {
        if let Some(frame) = self.first.pop_front() {
            return Some(frame);
        }
        let places = self.sources.iter().enumerate();
        let numbers = places.filter_map(|(place, source)| Some((source.next.as_ref()?.0, place)));
        let (_, place) = numbers.min()?;
        let mut rest = std::mem::replace(&mut self.sources[place].rest, Rest::Lines(0, 0));
        let next = self.take(store, &mut rest);
        let source = &mut self.sources[place];
        source.rest = rest;
        std::mem::replace(&mut source.next, next).map(|(_, frame)| frame)
    }

    fn take(&self, store: &Store, rest: &mut Rest) -> Option<(u64, Frame)> {
        match rest {
            Rest::Entries(entries) => entries.take(store, &self.walls),
            Rest::Beside(frames) => frames.next().map(|frame| (frame.number, frame)),
            Rest::Lines(at, end) => {
                let process = store.process(self.process);
                while *at < *end {
                    let forgotten = process.forgotten_lines();
                    *at = forgotten.max(*at) + 1;
                    let place = usize::try_from(*at - 1 - forgotten).ok()?;
                    let told = process.lines().get(place)?;
                    if *at > *end || !self.walls.contains(&told.wall) {
                        continue;
                    }
                    let of = told.machine.and_then(|id| store.number(id));
                    let frame = Frame {
                        number: told.number,
                        wall: told.wall,
                        mono: told.mono,
                        machine: of.unwrap_or(PROCESS),
                        body: Body::Log(told.line.clone()),
                    };
                    return Some((told.number, frame));
                }
                None
            }
        }
    }
}

impl Entries {
    fn take(&mut self, store: &Store, walls: &RangeInclusive<u64>) -> Option<(u64, Frame)> {
        if let Some(frame) = self.behind.take() {
            return Some((frame.number, frame));
        }
        let history = store.machine(self.id);
        let held = |i: &usize| history.range().contains(i) && walls.contains(&history.wall(*i));
        let i = self.indices.find(held)?;
        let entry = history.entry(i);
        let key = if self.expected == Some(i) {
            None
        } else {
            key_for(history, &entry, &mut self.order)
        };
        self.expected = Some(i + 1);
        let frame = Frame {
            number: entry.number,
            wall: entry.wall,
            mono: entry.mono,
            machine: self.number,
            body: entry.body,
        };
        let Some(key) = key else {
            return Some((frame.number, frame));
        };
        let number = entry.number;
        let key = Frame {
            number: 0,
            wall: entry.wall,
            mono: entry.mono,
            machine: self.number,
            body: Body::Key(Box::new(key)),
        };
        self.behind = Some(frame);
        Some((number, key))
    }
}

/// Errors and links.
fn beside(history: &History, number: u32, selection: &Selection) -> Rest {
    let errors = history.errors();
    let errors = errors.map(|told| (told.stamp(), Body::Error(told.failure.clone())));
    let links = history.links();
    let links = links.map(|told| (told.stamp(), Body::Link(told.link.clone())));
    let mut all: Vec<_> = errors.chain(links).collect();
    all.retain(|((_, wall, _), _)| selection.walls.contains(wall));
    all.sort_by_key(|((number, ..), _)| *number);
    let frames = all.into_iter().map(|((of, wall, mono), body)| Frame {
        number: of,
        wall,
        mono,
        machine: number,
        body,
    });
    let frames: Vec<Frame> = frames.collect();
    Rest::Beside(frames.into_iter())
}

/// All there was before an entry, unless it is a key or not known for sure.
fn key_for(history: &History, entry: &Entry, order: &mut Order) -> Option<Key> {
    let (sequence, queue_tick) = match &entry.body {
        Body::Transition(told) => (
            told.sequence.saturating_sub(1),
            told.queue_tick.saturating_sub(1),
        ),
        Body::Followed(_) => (0, 0),
        _ => return None,
    };
    let before = history.ticks_before(entry.index);
    before.is_sure.then(|| Key {
        position: before.position,
        sequence,
        order: order.before(history, entry.index),
        ticks: before.ticks,
        queue_tick,
        queue: Vec::new(),
    })
}
