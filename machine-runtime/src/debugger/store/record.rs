//! The bytes of one entry.
//!
//! Numbers are varints, most of them relative to the first entry of the chunk or to the number before
//! them. What scans look at comes first: the called states, then the changes. What few transitions
//! have (a reason, handlers, payloads) is postcard's at the end.

use serde::{Deserialize, Serialize};

use crate::debug::frame::{Body, Change, Followed, HandlerRun, Key, Payload, Trace, Transition};
use crate::handlers::Cause;
use crate::mutation::{Op, Reason};
use crate::position::{Epoch, Position};

use super::flags::Flags;

/// What the numbers of a chunk's records are relative to: those of its first entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bases {
    pub(super) number: u64,
    pub(super) wall: u64,
    pub(super) mono: u64,
    pub(super) sequence: u64,
    pub(super) revision: u64,
    pub(super) queue_tick: u64,
}

const OPS: [Op; 4] = [Op::Add, Op::Remove, Op::Set, Op::Toggle];
const CAUSES: [Cause; 6] = [
    Cause::Call,
    Cause::Handler,
    Cause::Auto,
    Cause::Panic,
    Cause::Delta,
    Cause::Snapshot,
];
const HAS_QUEUE_TICK: u8 = 1 << 5;
const HAS_TAIL: u8 = 1 << 6;
const HAS_COUNTS: u8 = 1 << 7;

/// What only some transitions have.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct Tail {
    pub(super) canceled: Option<Reason<u32>>,
    pub(super) handlers: Vec<HandlerRun>,
    pub(super) payloads: Vec<Payload>,
    pub(super) left_out: Vec<u32>,
}

/// Where an entry stands in its chunk and in time.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) nth: u64,
    pub(super) wall: u64,
    pub(super) flags: Flags,
}

pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    bases: &'a Bases,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, bases: &'a Bases) -> Self {
        Self { out, bases }
    }

    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.out.push(n.to_le_bytes()[0] | 0x80);
            n >>= 7;
        }
        self.out.push(n.to_le_bytes()[0]);
    }

    /// A number near `base`; any other is longer and right as well.
    fn near(&mut self, n: u64, base: u64) {
        self.varint(zigzag(n.wrapping_sub(base)));
    }

    fn states(&mut self, states: &[u32]) {
        self.varint(states.len() as u64);
        let mut last = 0;
        for state in states {
            self.near(u64::from(*state), last);
            last = u64::from(*state);
        }
    }

    fn changes(&mut self, changes: &[Change]) {
        self.varint(changes.len() as u64);
        let mut last = 0;
        for change in changes {
            let state = u64::from(change.state);
            let step = zigzag(state.wrapping_sub(last));
            last = state;
            self.varint(step << 1 | u64::from(change.ticks != 1));
            if change.ticks != 1 {
                self.varint(change.ticks);
            }
        }
    }

    fn trace(&mut self, trace: Option<Trace>, traces: &mut Vec<u128>) {
        let Some(Trace {
            trace,
            span,
            parent,
        }) = trace
        else {
            return self.varint(0);
        };
        // Transitions of one trace come together.
        let place = if let Some(place) = traces.iter().rposition(|known| *known == trace) {
            place
        } else {
            traces.push(trace);
            traces.len() - 1
        };
        self.varint((place as u64) << 1 | u64::from(parent.is_some()));
        self.out.extend_from_slice(&span.to_le_bytes());
        if let Some(parent) = parent {
            self.out.extend_from_slice(&parent.to_le_bytes());
        }
    }

    fn postcard(&mut self, value: &impl Serialize) {
        let bytes = postcard::to_extend(value, std::mem::take(self.out));
        *self.out = bytes.expect("a Vec takes any of these types");
    }

    pub(super) fn entry(
        &mut self,
        number: u64,
        mono: u64,
        at: Place,
        body: &Body,
        traces: &mut Vec<u128>,
    ) {
        self.near(number, self.bases.number.wrapping_add(at.nth));
        let elapsed = at.wall.wrapping_sub(self.bases.wall);
        self.near(mono.wrapping_sub(self.bases.mono), elapsed);
        match body {
            Body::Transition(told) => self.transition(told, at, traces),
            Body::Followed(told) => self.followed(told, at, traces),
            Body::Key(key) => self.postcard(key),
            Body::Dropped(count) => self.varint(*count),
            _ => unreachable!("only these are entries"),
        }
    }

    fn transition(&mut self, told: &Transition, at: Place, traces: &mut Vec<u128>) {
        let op = OPS.iter().position(|op| *op == told.op);
        let cause = CAUSES.iter().position(|cause| *cause == told.cause);
        let mut bits = op.unwrap_or(0) | cause.unwrap_or(0) << 2;
        let mut set = |on: bool, bit: u8| bits |= usize::from(bit) * usize::from(on);
        set(told.queue_tick != 0, HAS_QUEUE_TICK);
        let tail = told.canceled.is_some()
            || !(told.handlers.is_empty() && told.payloads.is_empty() && told.left_out.is_empty());
        set(tail, HAS_TAIL);
        let counts = (told.waiting, told.released) != ((0, 0), 0);
        set(counts, HAS_COUNTS);
        self.out.push(bits.to_le_bytes()[0]);
        self.states(&told.called);
        self.changes(&told.changes);
        self.near(told.revision, self.bases.revision);
        self.near(told.sequence, self.bases.sequence.wrapping_add(at.nth));
        if told.queue_tick != 0 {
            self.near(told.queue_tick, self.bases.queue_tick);
        }
        if counts {
            self.varint(u64::from(told.waiting.0));
            self.varint(u64::from(told.waiting.1));
            self.varint(u64::from(told.released));
        }
        self.varint(told.took.0);
        self.varint(told.took.1);
        if at.flags.contains(Flags::TRACED) {
            self.trace(told.trace, traces);
        }
        if tail {
            let Transition {
                canceled,
                handlers,
                payloads,
                left_out,
                ..
            } = told;
            self.postcard(&(canceled, handlers, payloads, left_out));
        }
    }

    fn followed(&mut self, told: &Followed, at: Place, traces: &mut Vec<u128>) {
        self.out.push(0);
        self.varint(0);
        self.changes(&told.changes);
        self.near(told.position.revision, self.bases.revision);
        self.near(told.from, told.position.revision);
        self.varint(u64::from(told.released));
        if at.flags.contains(Flags::TRACED) {
            self.trace(told.trace, traces);
        }
    }
}

/// Reads what [`Writer`] wrote.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    #[inline]
    fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }

    #[inline]
    pub(super) fn varint(&mut self) -> u64 {
        let first = self.byte();
        if first < 0x80 {
            return u64::from(first);
        }
        let mut n = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte();
            n |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 || shift > 63 {
                return n;
            }
        }
    }

    #[inline]
    fn near(&mut self, base: u64) -> u64 {
        base.wrapping_add(unzigzag(self.varint()))
    }

    #[inline]
    fn narrow(&mut self) -> u32 {
        low(self.varint())
    }

    /// Steps over what every record begins with.
    #[inline]
    fn skip_head(&mut self) {
        self.varint();
        self.varint();
    }

    /// Who asked for a transition.
    pub(super) fn cause(&mut self) -> Cause {
        self.skip_head();
        cause_of(self.byte())
    }

    /// Each called state of a transition; the changes come next.
    #[inline]
    pub(super) fn called(&mut self, mut f: impl FnMut(u32)) -> u8 {
        self.skip_head();
        let bits = self.byte();
        let mut last = 0;
        for _ in 0..self.varint() {
            last = self.near(last);
            f(low(last));
        }
        bits
    }

    /// Each change of a transition, or of a replica, behind the called states.
    #[inline]
    pub(super) fn changes(&mut self, mut f: impl FnMut(u32, u64)) {
        let mut state = 0_u64;
        for _ in 0..self.varint() {
            let code = self.varint();
            state = state.wrapping_add(unzigzag(code >> 1));
            let ticks = if code & 1 == 1 { self.varint() } else { 1 };
            f(low(state), ticks);
        }
    }

    /// The revision behind the changes.
    #[inline]
    pub(super) fn revision(&mut self, bases: &Bases) -> u64 {
        self.near(bases.revision)
    }

    fn eight(&mut self) -> u64 {
        match self.bytes.split_first_chunk::<8>() {
            Some((first, rest)) => {
                self.bytes = rest;
                u64::from_le_bytes(*first)
            }
            None => 0,
        }
    }

    fn trace(&mut self, flags: Flags, traces: &[u128]) -> Option<Trace> {
        if !flags.contains(Flags::TRACED) {
            return None;
        }
        let code = self.varint();
        let place = usize::try_from(code >> 1).ok()?;
        let span = self.eight();
        let parent = (code & 1 == 1).then(|| self.eight());
        Some(Trace {
            trace: *traces.get(place)?,
            span,
            parent,
        })
    }

    /// Steps from behind the changes of a transition to its tail and trace.
    fn rest(&mut self, bits: u8, bases: &Bases, at: Place, traces: &[u128]) -> (Transition, bool) {
        let revision = self.revision(bases);
        let sequence = self.near(bases.sequence.wrapping_add(at.nth));
        let queue_tick = if bits & HAS_QUEUE_TICK == 0 {
            0
        } else {
            self.near(bases.queue_tick)
        };
        let (waiting, released) = if bits & HAS_COUNTS == 0 {
            ((0, 0), 0)
        } else {
            ((self.narrow(), self.narrow()), self.narrow())
        };
        let took = (self.varint(), self.varint());
        let trace = self.trace(at.flags, traces);
        let told = Transition {
            sequence,
            revision,
            queue_tick,
            op: OPS[usize::from(bits & 3)],
            cause: cause_of(bits),
            called: Vec::new(),
            left_out: Vec::new(),
            changes: Vec::new(),
            canceled: None,
            waiting,
            released,
            took,
            handlers: Vec::new(),
            payloads: Vec::new(),
            trace,
        };
        (told, bits & HAS_TAIL != 0)
    }

    /// The bytes of the tail, behind the changes of a transition; empty where there is none.
    pub(super) fn tail(mut self, bits: u8, bases: &Bases, at: Place) -> &'a [u8] {
        let (_, has_tail) = self.rest(bits, bases, at, &[]);
        if has_tail { self.bytes } else { &[] }
    }

    /// The trace alone.
    pub(super) fn only_trace(mut self, bases: &Bases, at: Place, traces: &[u128]) -> Option<Trace> {
        let bits = self.called(|_| {});
        self.changes(|_, _| {});
        if at.flags.contains(Flags::FOLLOWED) {
            self.varint();
            self.varint();
            self.varint();
            return self.trace(at.flags, traces);
        }
        self.rest(bits, bases, at, traces).0.trace
    }

    /// The number of the frame, its monotonic time, and what it told.
    pub(super) fn entry(
        mut self,
        bases: &Bases,
        at: Place,
        epoch: Epoch,
        traces: &[u128],
    ) -> (u64, u64, Body) {
        let mut head = self;
        let number = head.near(bases.number.wrapping_add(at.nth));
        let elapsed = at.wall.wrapping_sub(bases.wall);
        let mono = bases.mono.wrapping_add(head.near(elapsed));
        let flags = at.flags;
        let body = if flags.contains(Flags::KEY) {
            let key: Key = postcard::from_bytes(head.bytes).expect("it was written as this type");
            Body::Key(Box::new(key))
        } else if flags.contains(Flags::DROPPED) {
            Body::Dropped(head.varint())
        } else {
            let (mut called, mut changes) = (Vec::new(), Vec::new());
            let bits = self.called(|state| called.push(state));
            self.changes(|state, ticks| changes.push(Change { state, ticks }));
            if flags.contains(Flags::FOLLOWED) {
                let revision = self.revision(bases);
                Body::Followed(Followed {
                    from: self.near(revision),
                    position: Position { epoch, revision },
                    changes,
                    released: self.narrow(),
                    trace: self.trace(flags, traces),
                })
            } else {
                let (mut told, has_tail) = self.rest(bits, bases, at, traces);
                (told.called, told.changes) = (called, changes);
                if has_tail {
                    let tail = decode_tail(self.bytes);
                    told.canceled = tail.canceled;
                    told.handlers = tail.handlers;
                    told.payloads = tail.payloads;
                    told.left_out = tail.left_out;
                }
                Body::Transition(Box::new(told))
            }
        };
        (number, mono, body)
    }
}

fn cause_of(bits: u8) -> Cause {
    CAUSES[usize::from(bits >> 2 & 7) % CAUSES.len()]
}

/// What [`Reader::tail`] has found.
pub(super) fn decode_tail(bytes: &[u8]) -> Tail {
    if bytes.is_empty() {
        return Tail::default();
    }
    postcard::from_bytes(bytes).expect("it was written as this type")
}

/// All ticks in few bytes: most are small, and many are 0.
pub(super) fn pack(ticks: &[u64]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(ticks.len() + 2);
    let bases = Bases::default();
    let mut writer = Writer::new(&mut out, &bases);
    let mut rest = ticks;
    while let [tick, ..] = rest {
        let zeros = rest.iter().take_while(|tick| **tick == 0).count();
        if zeros > 0 {
            writer.varint(0);
            writer.varint(zeros as u64);
            rest = &rest[zeros..];
        } else {
            writer.varint(*tick);
            rest = &rest[1..];
        }
    }
    out.into()
}

/// What [`pack`] has packed, of `states` states.
pub(super) fn unpack(bytes: &[u8], states: usize) -> Vec<u64> {
    let mut ticks = Vec::with_capacity(states);
    let mut reader = Reader::new(bytes);
    while !reader.bytes.is_empty() {
        match reader.varint() {
            0 => {
                let zeros = usize::try_from(reader.varint()).unwrap_or(0);
                ticks.resize(states.min(ticks.len() + zeros), 0);
            }
            tick => ticks.push(tick),
        }
    }
    ticks.resize(states, 0);
    ticks
}

#[inline]
fn zigzag(n: u64) -> u64 {
    n << 1 ^ 0_u64.wrapping_sub(n >> 63)
}

#[inline]
fn unzigzag(n: u64) -> u64 {
    n >> 1 ^ 0_u64.wrapping_sub(n & 1)
}

/// What was written as a `u32`.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "it was written as a u32")]
fn low(n: u64) -> u32 {
    n as u32
}
