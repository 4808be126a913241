//! What happens in a run: all of it goes into a hash, the last of it is kept to be read.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// How many events are kept for whoever wants to know how it came to a failure.
const KEPT: usize = 60;

/// Something that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// When, in milliseconds of the run.
    pub at: u64,
    /// At which host.
    pub host: usize,
    /// What.
    pub what: &'static str,
    /// Two numbers that belong to it.
    pub numbers: (u64, u64),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = self.numbers;
        let host = self.host;
        write!(
            f,
            "{:>8} ms  n{host:<3} {:<24} {a:>10} {b:x}",
            self.at, self.what
        )
    }
}

impl Inner {
    fn end_millisecond(&mut self) {
        let (hash, count) = std::mem::take(&mut self.now);
        self.before.0 = self.before.0.wrapping_add(hash);
        self.before.1 += count;
    }
}

/// Takes notes of a run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Mutex<Inner>>,
    start: Instant,
}

#[derive(Debug)]
struct Inner {
    /// Hash and count of what happened up to the millisecond that is under way.
    before: (u64, u64),
    /// Those of what happened in it so far, and which it is.
    now: (u64, u64),
    millisecond: u64,
    last: VecDeque<Note>,
    /// Each note, where all of them are wanted.
    all: Option<Vec<Note>>,
}

impl Log {
    /// A log of a run that begins now; `all` keeps every note.
    pub fn new(all: bool) -> Self {
        let inner = Inner {
            before: (0, 0),
            now: (0, 0),
            millisecond: 0,
            last: VecDeque::with_capacity(KEPT),
            all: all.then(Vec::new),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            start: Instant::now(),
        }
    }

    /// The milliseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The moment that is so many milliseconds after the beginning.
    pub fn at(&self, millis: u64) -> Instant {
        self.start + std::time::Duration::from_millis(millis)
    }

    /// Takes a note.
    pub fn note(&self, host: usize, what: &'static str, numbers: (u64, u64)) {
        let note = Note {
            at: self.now(),
            host,
            what,
            numbers,
        };
        let mut inner = self.lock();
        // What happens in the same millisecond is in no order, so all of it is summed up.
        let mut hash = 0;
        for number in [note.at, host as u64, numbers.0, numbers.1] {
            hash = mixed(hash, number);
        }
        for byte in what.bytes() {
            hash = mixed(hash, byte.into());
        }
        if note.at > inner.millisecond {
            inner.end_millisecond();
            inner.millisecond = note.at;
        }
        inner.now.0 = inner.now.0.wrapping_add(hash);
        inner.now.1 += 1;
        if inner.last.len() == KEPT {
            inner.last.pop_front();
        }
        inner.last.push_back(note);
        if let Some(all) = &mut inner.all {
            all.push(note);
        }
    }

    /// A number that says what happened before this millisecond: two runs of a seed have the same.
    pub fn hash(&self) -> u64 {
        self.so_far().0
    }

    /// How much happened before this millisecond.
    pub fn count(&self) -> u64 {
        self.so_far().1
    }

    fn so_far(&self) -> (u64, u64) {
        let now = self.now();
        let mut inner = self.lock();
        if now > inner.millisecond {
            inner.end_millisecond();
            inner.millisecond = now;
        }
        inner.before
    }

    /// What happened last; or all of it, where that is kept.
    pub fn told(&self) -> Vec<Note> {
        let inner = self.lock();
        let mut told: Vec<_> = match &inner.all {
            Some(all) => all.clone(),
            None => inner.last.iter().copied().collect(),
        };
        told.sort_by_key(|note| (note.at, note.host, note.what, note.numbers));
        told
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mixed(hash: u64, number: u64) -> u64 {
    (hash.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95)
}
