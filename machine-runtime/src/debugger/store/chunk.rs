//! Up to 1,024 entries, encoded, and what lets one skip them.

use crate::debug::frame::{Body, Trace};
use crate::handlers::Cause;
use crate::mutation::Reason;
use crate::position::Epoch;

use super::flags::Flags;
use super::record::{Bases, Place, Reader, Tail, Writer, decode_tail, pack, unpack};

/// The most entries of a chunk.
pub(super) const ENTRIES: usize = 1024;

/// How many bytes of entries close a chunk early.
const BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Chunk {
    /// The index of its first entry.
    pub(super) start: usize,
    pub(super) bases: Bases,
    data: Vec<u8>,
    /// Where each record ends in `data`.
    ends: Vec<u32>,
    /// Microseconds from that of the first entry.
    walls: Vec<i32>,
    flags: Vec<Flags>,
    /// All ticks before the first entry, packed.
    key: Box<[u8]>,
    /// The states that ticked in it.
    changed: Box<[u64]>,
    /// The states that its transitions have called, changed or named otherwise.
    mentioned: Box<[u64]>,
    traces: Vec<u128>,
    /// The phases of handlers that ran, and the codes of reasons: a bit for each.
    pub(super) phases: u16,
    pub(super) codes: u16,
    /// The union of all flags.
    pub(super) any: Flags,
    /// The latest wall clock up to before it, and up to its end.
    pub(super) latest_before: u64,
    pub(super) latest: u64,
}

impl Chunk {
    pub(super) fn new(start: usize, bases: Bases, ticks: &[u64], latest: u64) -> Self {
        let words = ticks.len().div_ceil(64);
        Self {
            start,
            bases,
            data: Vec::new(),
            ends: Vec::new(),
            walls: Vec::new(),
            flags: Vec::new(),
            key: pack(ticks),
            changed: vec![0; words].into(),
            mentioned: vec![0; words].into(),
            traces: Vec::new(),
            phases: 0,
            codes: 0,
            any: Flags::NONE,
            latest_before: latest,
            latest,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flags.len()
    }

    pub(super) fn end(&self) -> usize {
        self.start + self.len()
    }

    /// The memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let columns = size_of::<u32>() + size_of::<i32>() + size_of::<Flags>();
        size_of::<Self>()
            + self.data.len()
            + self.len() * columns
            + self.key.len()
            + (self.changed.len() + self.mentioned.len()) * size_of::<u64>()
            + self.traces.len() * size_of::<u128>()
    }

    /// Whether an entry of that wall clock still goes in.
    pub(super) fn takes(&self, wall: u64) -> bool {
        self.len() < ENTRIES && self.data.len() < BYTES && self.offset(wall).is_some()
    }

    /// No more entries come.
    pub(super) fn close(&mut self) {
        self.data.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.walls.shrink_to_fit();
        self.flags.shrink_to_fit();
        self.traces.shrink_to_fit();
    }

    fn offset(&self, wall: u64) -> Option<i32> {
        i32::try_from(wall.wrapping_sub(self.bases.wall).cast_signed()).ok()
    }

    /// Appends an entry that it takes.
    pub(super) fn push(&mut self, number: u64, wall: u64, mono: u64, flags: Flags, body: &Body) {
        let at = Place {
            nth: self.len() as u64,
            wall,
            flags,
        };
        let mut writer = Writer::new(&mut self.data, &self.bases);
        writer.entry(number, mono, at, body, &mut self.traces);
        self.ends.push(crate::schema::as_index(self.data.len()));
        self.walls.push(self.offset(wall).unwrap_or(0));
        self.flags.push(flags);
        self.any |= flags;
        self.latest = self.latest.max(wall);
        self.mark(body);
    }

    fn mark(&mut self, body: &Body) {
        let changes = match body {
            Body::Transition(told) => &told.changes,
            Body::Followed(told) => &told.changes,
            _ => return,
        };
        for change in changes {
            set(&mut self.changed, change.state);
            set(&mut self.mentioned, change.state);
        }
        let Body::Transition(told) = body else { return };
        for state in told.called.iter().chain(&told.left_out) {
            set(&mut self.mentioned, *state);
        }
        for run in &told.handlers {
            self.phases |= 1 << run.phase as u16;
            run.state
                .iter()
                .for_each(|state| set(&mut self.mentioned, *state));
        }
        for payload in &told.payloads {
            set(&mut self.mentioned, payload.state);
        }
        if let Some(reason) = &told.canceled {
            self.codes |= 1 << reason.place();
            states_of(reason, |state| set(&mut self.mentioned, state));
        }
    }

    fn at(&self, place: usize) -> Place {
        Place {
            nth: place as u64,
            wall: self.wall(place),
            flags: self.flags[place],
        }
    }

    fn reader(&self, place: usize) -> Reader<'_> {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        Reader::new(&self.data[start as usize..self.ends[place] as usize])
    }

    pub(super) fn wall(&self, place: usize) -> u64 {
        let offset = i64::from(self.walls[place]);
        self.bases.wall.wrapping_add_signed(offset)
    }

    pub(super) fn flags(&self, place: usize) -> Flags {
        self.flags[place]
    }

    pub(super) fn all_flags(&self) -> &[Flags] {
        &self.flags
    }

    pub(super) fn entry(&self, place: usize, epoch: Epoch) -> (u64, u64, Body) {
        let reader = self.reader(place);
        reader.entry(&self.bases, self.at(place), epoch, &self.traces)
    }

    /// The called states of an entry, then its changes.
    #[inline]
    pub(super) fn scan(
        &self,
        place: usize,
        called: impl FnMut(u32),
        changes: impl FnMut(u32, u64),
    ) {
        if self.flags[place].intersects(Flags::KEY | Flags::DROPPED) {
            return;
        }
        let mut reader = self.reader(place);
        reader.called(called);
        reader.changes(changes);
    }

    /// The bytes of what only some transitions have; to be decoded by [`Chunk::tail`].
    pub(super) fn raw_tail(&self, place: usize) -> &[u8] {
        if !self.flags[place].is_transition() {
            return &[];
        }
        let mut reader = self.reader(place);
        let bits = reader.called(|_| {});
        reader.changes(|_, _| {});
        reader.tail(bits, &self.bases, self.at(place))
    }

    pub(super) fn tail(&self, place: usize) -> Tail {
        decode_tail(self.raw_tail(place))
    }

    pub(super) fn trace(&self, place: usize) -> Option<Trace> {
        if !self.flags[place].contains(Flags::TRACED) {
            return None;
        }
        let reader = self.reader(place);
        reader.only_trace(&self.bases, self.at(place), &self.traces)
    }

    pub(super) fn cause(&self, place: usize) -> Option<Cause> {
        let is_transition = self.flags[place].is_transition();
        is_transition.then(|| self.reader(place).cause())
    }

    pub(super) fn has_trace(&self, trace: u128) -> bool {
        self.traces.contains(&trace)
    }

    /// The revision after an entry, given that of the one before it.
    pub(super) fn revision(&self, place: usize, before: u64) -> u64 {
        let flags = self.flags[place];
        if flags.contains(Flags::DROPPED) {
            return before;
        }
        if flags.contains(Flags::KEY) {
            return match self.entry(place, Epoch(0)).2 {
                Body::Key(key) => key.position.revision,
                _ => before,
            };
        }
        let mut reader = self.reader(place);
        reader.called(|_| {});
        reader.changes(|_, _| {});
        reader.revision(&self.bases)
    }

    /// All ticks before its first entry.
    pub(super) fn key(&self, states: usize) -> Vec<u64> {
        unpack(&self.key, states)
    }

    /// Takes `ticks` from before the entry at `place` to after it.
    pub(super) fn apply(&self, place: usize, ticks: &mut Vec<u64>) {
        if self.flags[place].contains(Flags::KEY) {
            if let Body::Key(key) = self.entry(place, Epoch(0)).2 {
                *ticks = key.ticks;
            }
            return;
        }
        self.scan(place, |_| {}, |state, n| ticks[state as usize] += n);
    }

    pub(super) fn has_changed(&self, state: u32) -> bool {
        // A key can bring any state to another tick.
        has(&self.changed, state) || self.any.contains(Flags::KEY)
    }

    /// Whether a transition called or changed one of `states`, or named it otherwise.
    pub(super) fn mentions(&self, states: &[u64]) -> bool {
        let mut words = self.mentioned.iter().zip(states);
        words.any(|(ours, theirs)| ours & theirs != 0)
    }
}

/// Calls `f` with the states that a reason names.
pub(super) fn states_of(reason: &Reason<u32>, mut f: impl FnMut(u32)) {
    match reason {
        Reason::Blocked { state, by } => {
            f(*state);
            f(*by);
        }
        Reason::Missing { state, requires } => {
            f(*state);
            f(*requires);
        }
        Reason::Refused(refusal) => refusal.state.into_iter().for_each(f),
        Reason::Panicked { state, .. } | Reason::TimedOut { state, .. } => {
            if let Some(state) = state {
                f(*state);
            }
        }
        Reason::PayloadUnwanted { state } => f(*state),
        Reason::NoCandidate
        | Reason::QueueFull
        | Reason::Displaced
        | Reason::BackingOff
        | Reason::Runaway
        | Reason::PayloadTooLarge { .. } => {}
    }
}

#[inline]
pub(super) fn set(words: &mut [u64], state: u32) {
    if let Some(word) = words.get_mut(state as usize / 64) {
        *word |= 1 << (state % 64);
    }
}

#[inline]
pub(super) fn has(words: &[u64], state: u32) -> bool {
    words
        .get(state as usize / 64)
        .is_some_and(|word| word >> (state % 64) & 1 == 1)
}
