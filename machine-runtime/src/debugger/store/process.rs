//! What is held of one process.

use std::collections::{BTreeMap, VecDeque};

use crate::debug::frame::{Hello, Line};

use super::{MachineId, ProcessId};

/// A line of a log as it was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToldLine {
    /// The number of its frame.
    pub number: u64,
    /// When, by the sender's wall clock: microseconds since 1970.
    pub wall: u64,
    /// When, by its monotonic clock.
    pub mono: u64,
    /// The machine that it is about, if it is about one.
    pub machine: Option<MachineId>,
    /// The line.
    pub line: Line,
    /// The latest wall clock up to here.
    pub(super) latest: u64,
}

impl ToldLine {
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.line.target.len() + self.line.text.len()
    }
}

/// Whether a process tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Connection {
    /// It does.
    Connected,
    /// It does no more, and why.
    Lost(String),
    /// It said that it has ended.
    Gone,
}

/// One process, over all its streams.
#[derive(Debug)]
pub struct Process {
    pub(super) id: ProcessId,
    pub(super) hello: Hello,
    pub(super) connection: Connection,
    /// How many streams bring it.
    pub(super) streams: usize,
    pub(super) last: u64,
    pub(super) lost: u64,
    pub(super) numbers: BTreeMap<u32, MachineId>,
    pub(super) lines: VecDeque<ToldLine>,
    pub(super) line_bytes: usize,
    pub(super) forgotten_lines: u64,
}

impl Process {
    pub(super) fn new(id: ProcessId, hello: Hello) -> Self {
        Self {
            id,
            hello,
            connection: Connection::Connected,
            streams: 0,
            last: 0,
            lost: 0,
            numbers: BTreeMap::new(),
            lines: VecDeque::new(),
            line_bytes: 0,
            forgotten_lines: 0,
        }
    }

    /// Its place among all processes.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// What it said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Whether it tells, or why not.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The number of the last frame that came.
    pub fn last_frame(&self) -> u64 {
        self.last
    }

    /// How many frames are missing between the first and the last.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Its log, oldest line first.
    pub fn lines(&self) -> &VecDeque<ToldLine> {
        &self.lines
    }

    /// How many older lines were forgotten.
    pub fn forgotten_lines(&self) -> u64 {
        self.forgotten_lines
    }

    /// The places in [`Process::lines`] of the lines up to `level` (1 is errors only) that hold `text`
    /// in target or text, in upper or lower case.
    pub fn find_lines(&self, level: u8, text: &str) -> impl Iterator<Item = usize> {
        let needle = text.to_lowercase();
        let lines = self.lines.iter().enumerate();
        lines.filter_map(move |(place, told)| {
            let Line {
                level: of,
                target,
                text,
            } = &told.line;
            let found = *of <= level
                && (super::search::contains(text, &needle)
                    || super::search::contains(target, &needle));
            found.then_some(place)
        })
    }

    /// The place of the last line at or before `wall`, in the order in which lines were told; clocks
    /// that step back count as in [`History::last_at`](super::History::last_at).
    pub fn line_at(&self, wall: u64) -> Option<usize> {
        let after = self.lines.partition_point(|told| told.latest <= wall);
        after.checked_sub(1)
    }

    /// Forgets the oldest line, and says how many bytes that frees.
    pub(super) fn forget_line(&mut self) -> Option<usize> {
        let bytes = self.lines.pop_front()?.bytes();
        self.line_bytes -= bytes;
        self.forgotten_lines += 1;
        Some(bytes)
    }
}
