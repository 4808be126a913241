//! Lines to standard error, by a thread of its own: whoever reads them slowly, or not at all, stops
//! nobody else.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many lines wait at most.
const LINES: usize = 10_000;

/// How many bytes of lines wait at most.
const BYTES: usize = 4 << 20;

/// How long what waits may take at the end.
const END: Duration = Duration::from_millis(200);

/// The least time between two lines that say that lines were lost.
const COMPLAINT: Duration = Duration::from_secs(1);

thread_local! {
    /// Whether this is the thread that writes: what it logs itself does not wait.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// What waits to be written. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Stderr {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    // Held for as long as a line is put in or taken out.
    waiting: Mutex<Waiting>,
    /// There is a line.
    more: Condvar,
    /// There is none, and none is being written.
    done: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    writing: bool,
    /// How many lines found no room, and were not told of.
    dropped: u64,
}

impl Stderr {
    /// Starts the thread, which ends with the program.
    pub(super) fn start() -> io::Result<Self> {
        let this = Self::default();
        let writer = this.clone();
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(move || writer.run(|line| io::stderr().write_all(line)))?;
        Ok(this)
    }

    /// Has a line written, if there is room for it.
    pub(super) fn push(&self, line: &[u8]) {
        if WRITES.get() {
            // Nobody is left to be told that nobody reads standard error.
            let _ = io::stderr().write_all(line);
            return;
        }
        let mut waiting = self.waiting();
        if waiting.lines.len() >= LINES || waiting.bytes + line.len() > BYTES {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.to_vec());
        self.shared.more.notify_one();
    }

    /// Waits until all is written, but not for long.
    pub(super) fn finish(&self) {
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let waiting = self.waiting();
        drop(self.shared.done.wait_timeout_while(waiting, END, busy));
    }

    fn run(&self, mut write: impl FnMut(&[u8]) -> io::Result<()>) {
        WRITES.set(true);
        let mut told: Option<Instant> = None;
        loop {
            let line = self.take();
            // See `push`.
            let _ = write(&line);
            let may = told.is_none_or(|told| told.elapsed() >= COMPLAINT);
            let dropped = if may { self.take_dropped() } else { 0 };
            if dropped > 0 {
                told = Some(Instant::now());
                tracing::warn!("{dropped} lines were not logged: nobody read them in time");
            }
        }
    }

    /// The next line, which is being written from now on.
    fn take(&self) -> Vec<u8> {
        let mut waiting = self.waiting();
        waiting.writing = false;
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.writing = true;
                return line;
            }
            self.shared.done.notify_all();
            let more = self.shared.more.wait(waiting);
            waiting = more.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.waiting().dropped)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        let waiting = self.shared.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let stderr = Stderr::default();
        for _ in 0..LINES + 3 {
            stderr.push(b"line\n");
        }
        assert_eq!(stderr.take_dropped(), 3);
        let began = Instant::now();
        stderr.finish();
        assert!(began.elapsed() >= END);
        stderr.push(&vec![b'x'; BYTES]);
        assert_eq!(stderr.take_dropped(), 1);
    }

    #[test]
    fn what_waits_is_written_before_the_end() {
        let (sender, written) = std::sync::mpsc::channel();
        let stderr = Stderr::default();
        stderr.push(b"one\n");
        stderr.push(b"two\n");
        let writer = stderr.clone();
        std::thread::spawn(move || {
            writer.run(|line| sender.send(line.to_vec()).map_err(io::Error::other));
        });
        let mut lines = Vec::new();
        while lines.len() < 2 {
            stderr.finish();
            lines.extend(written.try_iter());
        }
        assert_eq!(lines, [b"one\n", b"two\n"]);
    }
}
