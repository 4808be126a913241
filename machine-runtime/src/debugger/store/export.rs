//! What is held, as the frames of a recording.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::debug::frame::{Body, Frame, Key, PROCESS};
use crate::debug::portable::PortableSchema;

use super::visible::{Filter, Visible};
use super::{Entry, MachineId, ProcessId, Store};

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
    /// The selected frames of a process, in the order of their numbers: who tells, the machines, then
    /// what they told. Where entries are missing, at the start or because they were filtered out, a key
    /// brings the ticks of that moment, as long as they are known for sure.
    ///
    /// Applying them to another store gives the same entries, and the keys between.
    pub fn export<'a>(
        &'a self,
        process: ProcessId,
        selection: &Selection,
    ) -> impl Iterator<Item = Frame> + use<'a> {
        let told = self.process(process);
        let frame = |machine, body| Frame {
            number: 0,
            wall: 0,
            mono: 0,
            machine,
            body,
        };
        let mut first = VecDeque::from([frame(PROCESS, Body::Hello(told.hello().clone()))]);
        let mut sources: Vec<Source<'_>> = Vec::new();
        let mut schemas = Vec::new();
        for (number, id) in &told.numbers {
            let shown = selection.filter.machines.as_ref();
            if shown.is_some_and(|machines| !machines.contains(id)) {
                continue;
            }
            let history = self.machine(*id);
            let mut declared = history.declared.clone();
            if !schemas.contains(&declared.fingerprint) {
                schemas.push(declared.fingerprint);
                declared.schema = Some(PortableSchema::of(history.schema()));
            }
            first.push_back(frame(*number, Body::Machine(Box::new(declared))));
            sources.push(self.entries(*number, *id, selection));
            sources.push(self.beside(*number, *id, selection));
        }
        let lines = told.lines().iter();
        let walls = selection.walls.clone();
        let lines = lines.filter(move |told| walls.contains(&told.wall));
        let lines = lines.map(|told| {
            let of = told.machine.and_then(|id| self.number(id));
            Frame {
                number: told.number,
                wall: told.wall,
                mono: told.mono,
                machine: of.unwrap_or(PROCESS),
                body: Body::Log(told.line.clone()),
            }
        });
        sources.push(Source::new(lines));
        let mut merged = sources;
        std::iter::from_fn(move || {
            if let Some(frame) = first.pop_front() {
                return Some(frame);
            }
            let next = merged.iter_mut().filter(|source| source.next.is_some());
            let next = next.min_by_key(|source| source.next.as_ref().map(|frame| frame.number))?;
            next.take()
        })
    }

    fn entries(&self, number: u32, id: MachineId, selection: &Selection) -> Source<'_> {
        let history = self.machine(id);
        let visible = Visible::new(self, id, selection.filter.clone());
        let walls = selection.walls.clone();
        let indices: Vec<usize> = visible.iter().collect();
        let mut expected = None;
        let frames = indices
            .into_iter()
            .filter(move |i| walls.contains(&history.wall(*i)))
            .flat_map(move |i| {
                let entry = history.entry(i);
                let key = (expected != Some(i))
                    .then(|| self.key_for(id, &entry))
                    .flatten();
                expected = Some(i + 1);
                let key = key.map(|key| Frame {
                    // Of this machine the one before was left out, so its number is free.
                    number: entry.number.saturating_sub(1),
                    wall: entry.wall,
                    mono: entry.mono,
                    machine: number,
                    body: Body::Key(Box::new(key)),
                });
                let frame = Frame {
                    number: entry.number,
                    wall: entry.wall,
                    mono: entry.mono,
                    machine: number,
                    body: entry.body,
                };
                key.into_iter().chain([frame])
            });
        Source::new(frames)
    }

    /// Errors and links.
    fn beside(&self, number: u32, id: MachineId, selection: &Selection) -> Source<'_> {
        let history = self.machine(id);
        let frame = move |(of, wall, mono): (u64, u64, u64), body| Frame {
            number: of,
            wall,
            mono,
            machine: number,
            body,
        };
        let errors = history.errors();
        let errors = errors.map(|told| (told.stamp(), Body::Error(told.failure.clone())));
        let links = history.links();
        let links = links.map(|told| (told.stamp(), Body::Link(told.link.clone())));
        let mut all: Vec<_> = errors.chain(links).collect();
        all.retain(|((_, wall, _), _)| selection.walls.contains(wall));
        all.sort_by_key(|((number, ..), _)| *number);
        Source::new(all.into_iter().map(move |(stamp, body)| frame(stamp, body)))
    }

    /// All there was before an entry, unless it is a key or not known for sure.
    fn key_for(&self, id: MachineId, entry: &Entry) -> Option<Key> {
        let (sequence, queue_tick) = match &entry.body {
            Body::Transition(told) => (
                told.sequence.saturating_sub(1),
                told.queue_tick.saturating_sub(1),
            ),
            Body::Followed(_) => (0, 0),
            _ => return None,
        };
        let history = self.machine(id);
        let before = history.ticks_before(entry.index);
        before.is_sure.then(|| Key {
            position: before.position,
            sequence,
            order: self.order_before(id, entry.index),
            ticks: before.ticks,
            queue_tick,
            queue: Vec::new(),
        })
    }
}

/// Frames in the order of their numbers, with the next one at hand.
struct Source<'a> {
    next: Option<Frame>,
    rest: Box<dyn Iterator<Item = Frame> + 'a>,
}

impl<'a> Source<'a> {
    fn new(mut rest: impl Iterator<Item = Frame> + 'a) -> Self {
        Self {
            next: rest.next(),
            rest: Box::new(rest),
        }
    }

    fn take(&mut self) -> Option<Frame> {
        std::mem::replace(&mut self.next, self.rest.next())
    }
}
