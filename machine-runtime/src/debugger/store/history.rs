//! What is held of one machine: its entries in the order in which they were told.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::debug::frame::{Body, Declared, Failure, Key, Link, LinkChange, Role, Trace, Waiting};
use crate::handlers::Cause;
use crate::position::{Epoch, Position};
use crate::schema::Schema;

use super::check::{self, Malformed};
use super::chunk::Chunk;
use super::flags::Flags;
use super::record::Bases;
use super::visible::Visible;
use super::{MachineId, ProcessId};

/// How many errors, and how many events of links, are kept of each machine: the newest.
pub const KEPT: usize = 1024;

/// One entry, decoded.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Its index.
    pub index: usize,
    /// The number of its frame.
    pub number: u64,
    /// When, by the sender's wall clock: microseconds since 1970.
    pub wall: u64,
    /// When, by its monotonic clock: microseconds since the process began to tell.
    pub mono: u64,
    /// What is known without looking into it.
    pub flags: Flags,
    /// Where the machine was after it.
    pub position: Position,
    /// What was told: a transition, a key, a replica's step, or how many frames were dropped.
    pub body: Body,
}

/// All ticks of a machine at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Where it was. Before anything told it the epoch is 0.
    pub position: Position,
    /// All ticks in index order; odd is active.
    pub ticks: Vec<u64>,
    /// When, by the sender's wall clock: microseconds since 1970; 0 before the first entry.
    pub wall: u64,
    /// Whether nothing was lost before it since the last key.
    pub is_sure: bool,
}

impl Moment {
    /// Whether a state is active.
    pub fn is_active(&self, state: u32) -> bool {
        let tick = self.ticks.get(state as usize);
        tick.is_some_and(|tick| tick % 2 == 1)
    }
}

/// An error that a machine told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToldError {
    /// The index of the last entry before it, if there was one.
    pub index: Option<usize>,
    /// The number of its frame.
    pub number: u64,
    /// When, by the sender's wall clock: microseconds since 1970.
    pub wall: u64,
    /// When, by its monotonic clock.
    pub mono: u64,
    /// What it told.
    pub failure: Failure,
}

/// A link that a node told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToldLink {
    /// The number of its frame.
    pub number: u64,
    /// When, by the sender's wall clock: microseconds since 1970.
    pub wall: u64,
    /// When, by its monotonic clock.
    pub mono: u64,
    /// What it told.
    pub link: Link,
}

/// Who waited on a machine when it was asked last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ToldWaiters {
    /// When, by the sender's wall clock: microseconds since 1970; 0 where nothing was answered yet.
    pub wall: u64,
    /// Who.
    pub waiting: Vec<Waiting>,
}

/// From where on the entries are of one epoch, with revisions that do not decrease.
#[derive(Clone, Copy, Debug)]
struct Segment {
    start: usize,
    epoch: Epoch,
}

/// One machine as it was told: its declaration, and entries that are indexed in the order in which
/// they were told. An entry keeps its index for good; [`History::start`] grows as the oldest are
/// forgotten.
#[derive(Debug)]
pub struct History {
    pub(super) id: MachineId,
    pub(super) process: ProcessId,
    pub(super) declared: Declared,
    pub(super) schema: Arc<Schema>,
    pub(super) errors: VecDeque<ToldError>,
    pub(super) links: VecDeque<ToldLink>,
    pub(super) waiters: ToldWaiters,
    chunks: VecDeque<Chunk>,
    chunk_bytes: usize,
    pub(super) side_bytes: usize,
    /// The number of its last frame.
    last_number: u64,
    end: usize,
    forgotten: usize,
    dropped: u64,
    segments: Vec<Segment>,
    /// All ticks at the end.
    pub(super) ticks: Vec<u64>,
    pub(super) position: Option<Position>,
    pub(super) sequence: u64,
    queue_tick: u64,
    pub(super) is_sure: bool,
    latest: u64,
}

impl History {
    pub(super) fn new(
        id: MachineId,
        process: ProcessId,
        declared: Declared,
        schema: Arc<Schema>,
    ) -> Self {
        let ticks = vec![0; schema.len()];
        Self {
            id,
            process,
            declared,
            schema,
            errors: VecDeque::new(),
            links: VecDeque::new(),
            waiters: ToldWaiters::default(),
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            side_bytes: 0,
            last_number: 0,
            end: 0,
            forgotten: 0,
            dropped: 0,
            segments: Vec::new(),
            ticks,
            position: None,
            sequence: 0,
            queue_tick: 0,
            is_sure: false,
            latest: 0,
        }
    }

    /// Its place among all machines.
    pub fn id(&self) -> MachineId {
        self.id
    }

    /// The process that told of it.
    pub fn process(&self) -> ProcessId {
        self.process
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.declared.name
    }

    /// What the node is.
    pub fn role(&self) -> Role {
        self.declared.role
    }

    /// The address that its followers dial, if any.
    pub fn addr(&self) -> Option<&str> {
        self.declared.addr.as_deref()
    }

    /// The address of its parent, for a replica.
    pub fn parent_addr(&self) -> Option<&str> {
        self.declared.parent.as_deref()
    }

    /// Names, relations and groups; shared by all machines of the same fingerprint.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The errors that it told, the newest [`KEPT`], oldest first.
    pub fn errors(&self) -> impl DoubleEndedIterator<Item = &ToldError> + ExactSizeIterator {
        self.errors.iter()
    }

    /// What its links went through, the newest [`KEPT`], oldest first.
    pub fn links(&self) -> impl DoubleEndedIterator<Item = &ToldLink> + ExactSizeIterator {
        self.links.iter()
    }

    /// Who waited on it, by the last answer.
    pub fn waiters(&self) -> &ToldWaiters {
        &self.waiters
    }

    /// The index of the oldest entry that is held: so many were forgotten.
    pub fn start(&self) -> usize {
        self.forgotten
    }

    /// The index that the next entry gets.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The indices that are held.
    pub fn range(&self) -> Range<usize> {
        self.forgotten..self.end
    }

    /// How many entries are held.
    pub fn len(&self) -> usize {
        self.end - self.forgotten
    }

    /// Whether no entry is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last entry's index, if one is held.
    pub fn last(&self) -> Option<usize> {
        self.end.checked_sub(1).filter(|_| !self.is_empty())
    }

    /// How many frames of it found no room at its node so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let segments = self.segments.len() * size_of::<Segment>();
        let ticks = self.ticks.len() * size_of::<u64>();
        size_of::<Self>() + self.chunk_bytes + self.side_bytes + segments + ticks
    }

    /// The newest moment.
    pub fn now(&self) -> Moment {
        Moment {
            position: self.position.unwrap_or(NOWHERE),
            ticks: self.ticks.clone(),
            wall: self.last().map_or(0, |last| self.wall(last)),
            is_sure: self.is_sure,
        }
    }

    /// The chunk that holds entry `i`, and its place in there.
    ///
    /// # Panics
    ///
    /// If it is not held.
    pub(super) fn find(&self, i: usize) -> (&Chunk, usize) {
        let (chunk, place) = self.find_chunk(i);
        (&self.chunks[chunk], place)
    }

    fn find_chunk(&self, i: usize) -> (usize, usize) {
        assert!(self.range().contains(&i), "entry {i} is not held");
        let chunk = self.chunks.partition_point(|chunk| chunk.start <= i) - 1;
        (chunk, i - self.chunks[chunk].start)
    }

    /// The chunks from the one that holds entry `i`, in order.
    pub(super) fn chunks_from(&self, i: usize) -> impl DoubleEndedIterator<Item = &Chunk> {
        let first = self.chunks.partition_point(|chunk| chunk.end() <= i);
        self.chunks.range(first..)
    }

    /// Entry `i`, decoded.
    ///
    /// # Panics
    ///
    /// As all that take an index: if it is not in [`History::range`].
    pub fn entry(&self, i: usize) -> Entry {
        let (chunk, place) = self.find(i);
        let position = self.position(i);
        let (number, mono, body) = chunk.entry(place, position.epoch);
        Entry {
            index: i,
            number,
            wall: chunk.wall(place),
            mono,
            flags: chunk.flags(place),
            position,
            body,
        }
    }

    /// When entry `i` was, by the sender's wall clock.
    pub fn wall(&self, i: usize) -> u64 {
        let (chunk, place) = self.find(i);
        chunk.wall(place)
    }

    /// What is known of entry `i` without decoding it.
    pub fn flags(&self, i: usize) -> Flags {
        let (chunk, place) = self.find(i);
        chunk.flags(place)
    }

    /// The trace that entry `i` belongs to.
    pub fn trace(&self, i: usize) -> Option<Trace> {
        let (chunk, place) = self.find(i);
        chunk.trace(place)
    }

    /// Who asked for entry `i`, if it is a transition.
    pub fn cause(&self, i: usize) -> Option<Cause> {
        let (chunk, place) = self.find(i);
        chunk.cause(place)
    }

    /// Calls `f` with each state that ticked in entry `i`, and how often, without decoding the rest.
    pub fn changes(&self, i: usize, f: impl FnMut(u32, u64)) {
        let (chunk, place) = self.find(i);
        chunk.scan(place, |_| {}, f);
    }

    /// Calls `f` with each state that entry `i` called, without decoding the rest.
    pub fn called(&self, i: usize, f: impl FnMut(u32)) {
        let (chunk, place) = self.find(i);
        chunk.scan(place, f, |_, _| {});
    }

    /// Where the machine was after entry `i`.
    pub fn position(&self, i: usize) -> Position {
        let (chunk, place) = self.find(i);
        let mut revision = chunk.bases.revision;
        // Of a mark of lost frames the revision is that of what was before it.
        let told = (0..=place).rev();
        for place in told {
            if !chunk.flags(place).contains(Flags::DROPPED) {
                revision = chunk.revision(place, revision);
                break;
            }
        }
        let segment = self.segments.partition_point(|segment| segment.start <= i);
        let epoch = segment.checked_sub(1).map(|i| self.segments[i].epoch);
        Position {
            epoch: epoch.unwrap_or(NOWHERE.epoch),
            revision,
        }
    }

    /// All ticks after entry `i`.
    pub fn ticks_after(&self, i: usize) -> Moment {
        let (chunk, place) = self.find(i);
        let mut ticks = chunk.key(self.schema.len());
        let from = (0..=place)
            .rev()
            .find(|place| chunk.flags(*place).contains(Flags::KEY));
        for place in from.unwrap_or(0)..=place {
            chunk.apply(place, &mut ticks);
        }
        Moment {
            position: self.position(i),
            ticks,
            wall: chunk.wall(place),
            is_sure: !chunk.flags(place).contains(Flags::UNSURE),
        }
    }

    /// All ticks before entry `i`: after the one before it, or what its chunk began with.
    pub fn ticks_before(&self, i: usize) -> Moment {
        if i > self.forgotten {
            return self.ticks_after(i - 1);
        }
        let (chunk, place) = self.find(i);
        let revision = chunk.bases.revision;
        Moment {
            position: Position {
                revision,
                ..self.position(i)
            },
            ticks: chunk.key(self.schema.len()),
            wall: 0,
            is_sure: i > 0 && !chunk.flags(place).contains(Flags::UNSURE),
        }
    }

    /// The last entry at or before `wall`, by the order in which entries were told: one whose wall
    /// clock had stepped back counts as of the latest time told before it, so that times never
    /// decrease with the index. `None` if all are later.
    pub fn last_at(&self, wall: u64) -> Option<usize> {
        let after = self
            .chunks
            .partition_point(|chunk| first_wall(chunk) <= wall);
        let chunk = &self.chunks[after.checked_sub(1)?];
        let mut found = chunk.start;
        for place in 0..chunk.len() {
            if chunk.wall(place) > wall {
                break;
            }
            found = chunk.start + place;
        }
        Some(found)
    }

    /// The first entry at or behind `position`: of the same epoch, and with at least its revision.
    /// `None` if none is held.
    pub fn first_at(&self, position: Position) -> Option<usize> {
        self.segments.iter().enumerate().find_map(|(n, segment)| {
            if segment.epoch != position.epoch {
                return None;
            }
            let end = self.segments.get(n + 1).map_or(self.end, |next| next.start);
            let range = segment.start.max(self.forgotten)..end;
            let first = self.first_in(range.clone(), position.revision);
            (first < range.end).then_some(first)
        })
    }

    /// The first of `range`, which is of one segment, with at least `revision`; else its end.
    fn first_in(&self, range: Range<usize>, revision: u64) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.position(middle).revision < revision {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The first entry that left the machine at exactly `position`. `None` if none is held.
    pub fn index_of(&self, position: Position) -> Option<usize> {
        let first = self.first_at(position)?;
        (self.position(first) == position).then_some(first)
    }

    /// The next entry behind `from` (before it, unless `forward`) in which `state` ticked, of those
    /// that `visible` shows if it is given.
    pub fn next_change(
        &self,
        state: u32,
        from: usize,
        forward: bool,
        visible: Option<&Visible>,
    ) -> Option<usize> {
        let changes = |chunk: &Chunk, place: usize| {
            let mut found = false;
            if chunk.flags(place).contains(Flags::CHANGED) {
                chunk.scan(place, |_| {}, |other, _| found |= other == state);
            }
            let i = chunk.start + place;
            found && visible.is_none_or(|visible| visible.contains(i))
        };
        if forward {
            let from = (from + 1).max(self.forgotten);
            let mut chunks = self.chunks_from(from);
            chunks.find_map(|chunk| {
                if !chunk.has_changed(state) {
                    return None;
                }
                let first = from.saturating_sub(chunk.start);
                let place = (first..chunk.len()).find(|place| changes(chunk, *place))?;
                Some(chunk.start + place)
            })
        } else {
            let mut chunks = self.chunks.iter().rev();
            chunks.find_map(|chunk| {
                if chunk.start >= from || !chunk.has_changed(state) {
                    return None;
                }
                let places = (0..chunk.len().min(from - chunk.start)).rev();
                let place = places.into_iter().find(|place| changes(chunk, *place))?;
                Some(chunk.start + place)
            })
        }
    }

    /// The nearest key at or before entry `i` that knows the order of the active list.
    pub fn key_before(&self, i: usize) -> Option<(usize, Box<Key>)> {
        let mut chunks = self.chunks.iter().rev();
        chunks.find_map(|chunk| {
            if chunk.start > i || !chunk.any.contains(Flags::KEY) {
                return None;
            }
            let places = 0..chunk.len().min(i + 1 - chunk.start);
            places.rev().find_map(|place| {
                if !chunk.flags(place).contains(Flags::KEY) {
                    return None;
                }
                let Body::Key(key) = chunk.entry(place, NOWHERE.epoch).2 else {
                    return None;
                };
                let active = key.ticks.iter().any(|tick| tick % 2 == 1);
                let is_known = !key.order.is_empty() || !active;
                is_known.then_some((chunk.start + place, key))
            })
        })
    }

    /// Appends what was checked to fit.
    pub(super) fn push(&mut self, number: u64, wall: u64, mono: u64, body: &Body) {
        let mut flags = match body {
            Body::Transition(told) => Flags::of_transition(&self.schema, told),
            Body::Followed(told) => Flags::of_followed(&self.schema, told),
            Body::Key(_) => Flags::KEY,
            _ => Flags::DROPPED,
        };
        let before = self.position;
        let bases = Bases {
            number,
            wall,
            mono,
            sequence: self.sequence,
            revision: before.map_or(0, |position| position.revision),
            queue_tick: self.queue_tick,
        };
        if !self.chunks.back().is_some_and(|chunk| chunk.takes(wall)) {
            if let Some(full) = self.chunks.back_mut() {
                full.close();
            }
            let chunk = Chunk::new(self.end, bases, &self.ticks, self.latest);
            self.chunk_bytes += chunk.bytes();
            self.chunks.push_back(chunk);
        }
        self.advance(body);
        if !self.is_sure {
            flags |= Flags::UNSURE;
        }
        let revision = self.position.map_or(0, |position| position.revision);
        let epoch = self
            .position
            .map_or(NOWHERE.epoch, |position| position.epoch);
        let goes_on = self.segments.last().is_some_and(|segment| {
            segment.epoch == epoch && before.is_none_or(|before| before.revision <= revision)
        });
        if !goes_on {
            self.segments.push(Segment {
                start: self.end,
                epoch,
            });
        }
        self.latest = self.latest.max(wall);
        self.end += 1;
        if let Some(chunk) = self.chunks.back_mut() {
            self.chunk_bytes -= chunk.bytes();
            chunk.push(number, wall, mono, flags, body);
            self.chunk_bytes += chunk.bytes();
        }
    }

    fn advance(&mut self, body: &Body) {
        let epoch = self
            .position
            .map_or(NOWHERE.epoch, |position| position.epoch);
        let changes = match body {
            Body::Transition(told) => {
                // A gap is a loss.
                self.is_sure &= self.sequence.checked_add(1) == Some(told.sequence);
                self.sequence = told.sequence;
                if told.queue_tick != 0 {
                    self.queue_tick = told.queue_tick;
                }
                let revision = told.revision;
                self.position = Some(Position { epoch, revision });
                &told.changes
            }
            Body::Followed(told) => {
                self.is_sure &= self.position.is_some_and(|position| {
                    position.epoch == told.position.epoch && position.revision == told.from
                });
                self.position = Some(told.position);
                &told.changes
            }
            Body::Key(key) => {
                self.ticks.clone_from(&key.ticks);
                self.position = Some(key.position);
                self.sequence = key.sequence;
                self.queue_tick = key.queue_tick;
                self.is_sure = true;
                return;
            }
            Body::Dropped(count) => {
                self.dropped = self.dropped.saturating_add(*count);
                self.is_sure = false;
                return;
            }
            _ => return,
        };
        for change in changes {
            self.ticks[change.state as usize] += change.ticks;
        }
    }

    /// Takes what is about this machine, if it is as it has to be.
    pub(super) fn take(
        &mut self,
        (number, wall, mono): (u64, u64, u64),
        body: Body,
    ) -> Result<(), Malformed> {
        // It came before, on another stream.
        if number != 0 && number <= self.last_number {
            return Ok(());
        }
        check::body(self, &body)?;
        self.last_number = self.last_number.max(number);
        match body {
            Body::Link(link) => {
                let told = ToldLink {
                    number,
                    wall,
                    mono,
                    link,
                };
                self.side_bytes += told.bytes();
                self.links.push_back(told);
                if self.links.len() > KEPT {
                    let gone = self.links.pop_front();
                    self.side_bytes -= gone.map_or(0, |gone| gone.bytes());
                }
            }
            Body::Error(failure) => {
                let told = ToldError {
                    index: self.last(),
                    number,
                    wall,
                    mono,
                    failure,
                };
                self.side_bytes += told.bytes();
                self.errors.push_back(told);
                if self.errors.len() > KEPT {
                    let gone = self.errors.pop_front();
                    self.side_bytes -= gone.map_or(0, |gone| gone.bytes());
                }
            }
            Body::Waiters(waiting) => {
                self.side_bytes -= self.waiters.bytes();
                self.waiters = ToldWaiters { wall, waiting };
                self.side_bytes += self.waiters.bytes();
            }
            body => self.push(number, wall, mono, &body),
        }
        Ok(())
    }

    /// Forgets the oldest chunk, and says whether there was one.
    pub(super) fn forget(&mut self) -> bool {
        let Some(chunk) = self.chunks.pop_front() else {
            return false;
        };
        self.chunk_bytes -= chunk.bytes();
        self.forgotten = chunk.end();
        let passed = self
            .segments
            .partition_point(|segment| segment.start <= self.forgotten);
        self.segments.drain(..passed.saturating_sub(1));
        true
    }

    /// Whether something of an epoch is held.
    pub(super) fn has_epoch(&self, epoch: Epoch) -> bool {
        self.segments.iter().any(|segment| segment.epoch == epoch)
    }

    /// The last entry of an epoch.
    pub(super) fn last_of(&self, epoch: Epoch) -> Option<usize> {
        let place = self
            .segments
            .iter()
            .rposition(|segment| segment.epoch == epoch)?;
        let next = self.segments.get(place + 1);
        let end = next.map_or(self.end, |next| next.start);
        end.checked_sub(1).filter(|i| self.range().contains(i))
    }

    /// The memory that can be had back.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// The chunks that name `trace`.
    pub(super) fn with_trace(&self, trace: u128) -> impl Iterator<Item = usize> {
        let chunks = self
            .chunks
            .iter()
            .filter(move |chunk| chunk.has_trace(trace));
        chunks.flat_map(move |chunk| {
            let places = 0..chunk.len();
            let of = move |place: &usize| chunk.trace(*place).is_some_and(|t| t.trace == trace);
            places.filter(of).map(|place| chunk.start + place)
        })
    }
}

/// Where a machine is that has not told it.
pub(super) const NOWHERE: Position = Position {
    epoch: Epoch(0),
    revision: 0,
};

/// From when on a chunk counts: see [`History::last_at`].
fn first_wall(chunk: &Chunk) -> u64 {
    chunk.latest_before.max(chunk.bases.wall)
}

impl ToldLink {
    pub(super) fn stamp(&self) -> (u64, u64, u64) {
        (self.number, self.wall, self.mono)
    }

    fn bytes(&self) -> usize {
        let why = match &self.link.change {
            LinkChange::Connected => 0,
            LinkChange::Lost(why) | LinkChange::Refused(why) | LinkChange::Resynced(why) => {
                why.len()
            }
        };
        size_of::<Self>() + self.link.peer.len() + why
    }
}

impl ToldError {
    pub(super) fn stamp(&self) -> (u64, u64, u64) {
        (self.number, self.wall, self.mono)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.failure.kind.len() + self.failure.message.len()
    }
}

impl ToldWaiters {
    fn bytes(&self) -> usize {
        let waiting = self.waiting.iter();
        let bytes = |one: &Waiting| one.what.len() + one.states.len() * 4 + size_of::<Waiting>();
        waiting.map(bytes).sum()
    }
}
