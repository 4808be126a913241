//! The frames of a process on their way: some that were sent, in case the debugger comes back, and those
//! that were not. Bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::debug::codec;
use crate::debug::frame::{Body, Frame, PROCESS};
use crate::debug::subject::Subject;
use crate::debug::teller::{At, Clocks};

/// How many bytes of frames are kept, and how many may wait to be sent.
pub(super) const KEPT: usize = 4 << 20;

/// How many bytes are sent at once, and one frame more.
const AT_ONCE: usize = 64 << 10;

/// A stream that is told: another number is another one, which begins anew.
pub(super) type Life = u64;

/// The frames of a process.
#[derive(Debug)]
pub(super) struct Stream {
    clocks: Clocks,
    // Nothing awaits under it; frames are encoded there, so that their numbers are in order.
    inner: Mutex<Inner>,
    /// There is more to send.
    more: Notify,
    /// There may be room again.
    room: Notify,
    /// Which is told, if any is.
    life: watch::Sender<Option<Life>>,
}

#[derive(Debug, Default)]
struct Inner {
    life: Life,
    /// The number of the last frame that there was.
    last: u64,
    /// The number of the last frame that was sent.
    sent: u64,
    connected: bool,
    frames: VecDeque<Kept>,
    bytes: usize,
    /// The bytes of those that were not sent.
    waiting: usize,
    /// Whether bytes were taken and are not written yet.
    writing: bool,
    schemas: BTreeSet<u128>,
    names: BTreeMap<String, u32>,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    frame: Bytes,
}

impl Stream {
    pub(super) fn new(clocks: Clocks) -> Self {
        Self {
            clocks,
            inner: Mutex::default(),
            more: Notify::new(),
            room: Notify::new(),
            life: watch::Sender::new(None),
        }
    }

    pub(super) fn clocks(&self) -> Clocks {
        self.clocks
    }

    pub(super) fn life(&self) -> watch::Receiver<Option<Life>> {
        self.life.subscribe()
    }

    pub(super) fn is_on(&self) -> bool {
        self.life.borrow().is_some()
    }

    /// A debugger is there that has the frames of this process up to `last`; none if it has none.
    pub(super) fn connect(&self, last: Option<u64>) {
        let mut inner = self.inner();
        let first = inner
            .frames
            .front()
            .map_or(inner.last + 1, |kept| kept.number);
        let is_known = |last: &u64| {
            let next = last.checked_add(1);
            next.is_some_and(|next| (first..=inner.last + 1).contains(&next))
        };
        let known = last.filter(is_known);
        inner.connected = true;
        if let Some(last) = known.filter(|_| self.is_on()) {
            inner.sent = last;
            let waiting = inner.frames.iter().filter(|kept| kept.number > last);
            inner.waiting = waiting.map(|kept| kept.frame.len()).sum();
        } else {
            inner.forget();
            inner.life += 1;
            let life = inner.life;
            // Behind the last frame of the one before, whatever that was.
            inner.sent = inner.last;
            drop(inner);
            self.life.send_replace(Some(life));
            return;
        }
        drop(inner);
        self.more.notify_one();
    }

    /// It is gone. What is told from now on is kept as far as there is room.
    pub(super) fn disconnect(&self) {
        let mut inner = self.inner();
        (inner.connected, inner.writing) = (false, false);
        drop(inner);
        self.room.notify_waiters();
    }

    /// Nobody is told any more.
    pub(super) fn end(&self) {
        self.life.send_replace(None);
        self.inner().forget();
    }

    /// Says that there is a machine. False if another stream is told.
    pub(super) fn declare(&self, life: Life, number: u32, subject: &Subject) -> bool {
        let mut inner = self.inner();
        if !self.is_told(&inner, life) {
            return false;
        }
        // Under the lock: nobody comes between whoever brings a schema and those who refer to it.
        let is_new = inner.schemas.insert(subject.fingerprint());
        inner.names.insert(subject.name().to_owned(), number);
        self.append(inner, self.clocks.now(), number, subject.declared(is_new));
        true
    }

    /// Appends a frame. False if another stream is told.
    pub(super) fn push(&self, life: Life, at: At, machine: u32, body: Body) -> bool {
        let inner = self.inner();
        let is_told = self.is_told(&inner, life);
        if is_told {
            self.append(inner, at, machine, body);
        }
        is_told
    }

    fn is_told(&self, inner: &Inner, life: Life) -> bool {
        inner.life == life && *self.life.borrow() == Some(life)
    }

    fn append(&self, mut inner: MutexGuard<'_, Inner>, at: At, machine: u32, body: Body) {
        inner.last += 1;
        let frame = Frame {
            number: inner.last,
            wall: at.wall,
            mono: at.mono,
            machine,
            body,
        };
        // A frame that is too long is a loss like others: its number is missing.
        let frame = match codec::encode(&frame) {
            Ok(frame) => frame,
            Err(error) => {
                drop(inner);
                tracing::warn!("the debugger is not told something: {error}");
                return;
            }
        };
        inner.bytes += frame.len();
        inner.waiting += frame.len();
        let number = inner.last;
        inner.frames.push_back(Kept { number, frame });
        inner.make_room();
        drop(inner);
        self.more.notify_one();
    }

    /// Appends a frame of a machine that is told of now; else it does nothing.
    pub(super) fn push_now(&self, machine: u32, body: Body) {
        let inner = self.inner();
        let is_declared = inner.names.values().any(|number| *number == machine);
        if is_declared && self.is_told(&inner, inner.life) {
            self.append(inner, self.clocks.now(), machine, body);
        }
    }

    /// Appends a frame of a node of this name, or of none.
    pub(super) fn push_named(&self, at: At, node: Option<&str>, body: Body) {
        let (life, machine) = {
            let inner = self.inner();
            let machine = node.and_then(|node| inner.names.get(node)).copied();
            (inner.life, machine.unwrap_or(PROCESS))
        };
        self.push(life, at, machine, body);
    }

    /// Waits until more may be told: always, while no debugger is there.
    pub(super) async fn has_room(&self) {
        loop {
            let notified = self.room.notified();
            {
                let inner = self.inner();
                if !inner.connected || inner.waiting < KEPT {
                    return;
                }
            }
            notified.await;
        }
    }

    /// What was taken to be sent is written.
    pub(super) fn written(&self) {
        self.inner().writing = false;
        self.room.notify_waiters();
    }

    /// Waits for what is to be sent next, with the lengths.
    pub(super) async fn next(&self) -> Vec<u8> {
        loop {
            if let Some(bytes) = self.try_next() {
                return bytes;
            }
            self.more.notified().await;
        }
    }

    /// Waits until all is written that there is to send.
    pub(super) async fn drained(&self) {
        loop {
            let notified = self.room.notified();
            {
                let inner = self.inner();
                if !inner.connected || (inner.waiting == 0 && !inner.writing) {
                    return;
                }
            }
            notified.await;
        }
    }

    /// What is to be sent next, if anything is.
    pub(super) fn try_next(&self) -> Option<Vec<u8>> {
        let mut inner = self.inner();
        let mut bytes = Vec::new();
        let behind = inner
            .frames
            .partition_point(|kept| kept.number <= inner.sent);
        let (mut sent, mut done) = (None, 0);
        for kept in inner.frames.range(behind..) {
            if bytes.len() >= AT_ONCE {
                break;
            }
            // No frame is longer than 32 bits say.
            let len = u32::try_from(kept.frame.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&kept.frame);
            sent = Some(kept.number);
            done += kept.frame.len();
        }
        inner.sent = sent?;
        inner.writing = true;
        inner.waiting = inner.waiting.saturating_sub(done);
        inner.make_room();
        drop(inner);
        self.room.notify_waiters();
        Some(bytes)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Only an exhausted memory could panic under it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Drops the oldest that are too many: those that were sent, and if nobody is there, any.
    fn make_room(&mut self) {
        while self.bytes > KEPT
            && let Some(oldest) = self.frames.front()
            && (!self.connected || oldest.number <= self.sent)
            && self.frames.len() > 1
        {
            let len = oldest.frame.len();
            if oldest.number > self.sent {
                self.waiting = self.waiting.saturating_sub(len);
            }
            self.bytes -= len;
            self.frames.pop_front();
        }
    }

    fn forget(&mut self) {
        self.frames.clear();
        self.schemas.clear();
        self.names.clear();
        (self.bytes, self.waiting) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug::frame::Line;

    fn push(stream: &Stream, life: Life, len: usize) -> bool {
        let text = "x".repeat(len);
        let target = String::new();
        let told = Line {
            level: 3,
            target,
            text,
        };
        stream.push(life, stream.clocks.now(), PROCESS, Body::Log(told))
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        let mut rest = bytes;
        let mut numbers = Vec::new();
        while let Some(frame) = codec::split(&mut rest).unwrap() {
            numbers.push(codec::decode::<Frame>(frame).unwrap().number);
        }
        numbers
    }

    #[test]
    fn who_comes_back_gets_what_it_lacks_and_nothing_twice() {
        let stream = Stream::new(Clocks::new());
        assert!(!push(&stream, 0, 1));
        stream.connect(None);
        assert!(push(&stream, 1, 1) && push(&stream, 1, 1) && !push(&stream, 2, 1));
        assert_eq!(numbers(&stream.try_next().unwrap()), [1, 2]);
        assert!(stream.try_next().is_none());
        stream.disconnect();
        push(&stream, 1, 1);
        stream.connect(Some(1));
        assert_eq!(numbers(&stream.try_next().unwrap()), [2, 3]);
        for (unknown, life) in [(Some(9), 2), (None, 3), (Some(u64::MAX), 4), (Some(0), 5)] {
            stream.disconnect();
            stream.connect(unknown);
            assert!(stream.try_next().is_none() && push(&stream, life, 1));
        }
        assert_eq!(numbers(&stream.try_next().unwrap()), [7]);
        stream.end();
        assert!(!stream.is_on() && !push(&stream, 5, 1));
        stream.connect(Some(7));
        assert!(push(&stream, 6, 1));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_was_not_sent_is_not_dropped_while_connected() {
        let stream = Stream::new(Clocks::new());
        stream.connect(None);
        let len = KEPT / 8;
        for _ in 0..12 {
            assert!(push(&stream, 1, len));
        }
        assert_eq!(stream.inner().frames.len(), 12);
        while stream.try_next().is_some() {}
        assert!(stream.inner().bytes <= KEPT && stream.inner().waiting == 0);
        stream.disconnect();
        for _ in 0..12 {
            assert!(push(&stream, 1, len));
        }
        let inner = stream.inner();
        assert!(inner.bytes <= KEPT && inner.waiting <= KEPT);
        assert_eq!(inner.frames.back().unwrap().number, 24);
        drop(inner);
        // It lacks what is not there any more.
        stream.connect(Some(12));
        assert!(!push(&stream, 1, 1) && push(&stream, 2, 1));
    }

    #[tokio::test]
    async fn whoever_tells_waits_while_a_debugger_is_slow_and_not_when_it_is_gone() {
        let stream = Stream::new(Clocks::new());
        stream.connect(None);
        stream.has_room().await;
        push(&stream, 1, KEPT);
        let mut waits = Box::pin(stream.has_room());
        assert!(futures_util::poll!(&mut waits).is_pending());
        stream.disconnect();
        waits.await;
        stream.connect(Some(0));
        let mut waits = Box::pin(stream.has_room());
        assert!(futures_util::poll!(&mut waits).is_pending());
        assert!(stream.try_next().is_some());
        waits.await;
    }

    #[tokio::test]
    async fn it_is_drained_once_what_was_taken_is_written() {
        let stream = Stream::new(Clocks::new());
        stream.connect(None);
        push(&stream, 1, 1);
        assert!(stream.try_next().is_some());
        let mut drained = Box::pin(stream.drained());
        assert!(futures_util::poll!(&mut drained).is_pending());
        stream.written();
        drained.await;
        // Nobody writes it any more.
        push(&stream, 1, 1);
        assert!(stream.try_next().is_some());
        let mut drained = Box::pin(stream.drained());
        assert!(futures_util::poll!(&mut drained).is_pending());
        stream.disconnect();
        drained.await;
    }
}
