//! What is held of one machine: its entries in the order in which they were told.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::debug::frame::{Body, Declared, Role, Trace};
use crate::handlers::Cause;
use crate::position::{Epoch, Position};
use crate::schema::Schema;

use super::chunk::Chunk;
use super::flags::Flags;
use super::{MachineId, ProcessId};

mod finding;
mod taking;
mod told;

pub use told::{ToldError, ToldLink, ToldWaiters};

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
    /// Whether the node has told that it has ended, and nothing since.
    pub(super) is_gone: bool,
    chunks: VecDeque<Chunk>,
    chunk_bytes: usize,
    /// Of its names.
    pub(super) side_bytes: usize,
    /// Of errors, links and waiters.
    told_bytes: usize,
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
            is_gone: false,
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            side_bytes: 0,
            told_bytes: 0,
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
        let told = self.side_bytes + self.told_bytes;
        size_of::<Self>() + self.chunk_bytes + told + segments + ticks
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

    /// What was told, of a range of entries.
    pub(super) fn bodies(&self, range: Range<usize>) -> impl Iterator<Item = (usize, Body)> {
        let first = range.start;
        let chunks = self.chunks_from(first);
        let all = chunks.flat_map(move |chunk| {
            let places = first.saturating_sub(chunk.start)..chunk.len();
            places.map(move |place| (chunk.start + place, chunk, place))
        });
        let within = all.take_while(move |(i, ..)| *i < range.end);
        within.map(|(i, chunk, place)| (i, chunk.entry(place, NOWHERE.epoch).2))
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

    /// The memory of what was told beside entries.
    pub(super) fn told_bytes(&self) -> usize {
        self.told_bytes
    }

    /// The memory of entries, which can be had back.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }
}

/// Where a machine is that has not told it.
pub(super) const NOWHERE: Position = Position {
    epoch: Epoch(0),
    revision: 0,
};
