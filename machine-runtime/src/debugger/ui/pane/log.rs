//! The log of the machine's process, around the time of the cursor.

use std::collections::VecDeque;

use ratatui::text::Line;

use super::super::super::store::{MachineId, ProcessId, Store, ToldLine};
use super::super::App;
use super::super::action::Pane;
use super::super::list::{Row, Target};
use super::super::theme::Tone;
use super::super::words;

/// Which lines are shown: looked at as they come.
#[derive(Clone, Debug)]
pub(in super::super) struct Lines {
    /// The most detailed level that is shown.
    pub(in super::super) level: u8,
    pub(in super::super) search: String,
    of: Option<(ProcessId, u8, String)>,
    /// Up to where lines were looked at, counted from the first that ever was.
    end: u64,
    shown: VecDeque<u64>,
    forgotten: u64,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            level: 3,
            search: String::new(),
            of: None,
            end: 0,
            shown: VecDeque::new(),
            forgotten: 0,
        }
    }
}

const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

impl Lines {
    /// The level's name.
    pub(in super::super) fn level_name(&self) -> &'static str {
        LEVELS[usize::from(self.level.clamp(1, 5) - 1)]
    }

    pub(in super::super) fn update(&mut self, store: &Store, machine: Option<MachineId>) {
        let Some(machine) = machine else {
            return;
        };
        let process = store.process(store.machine(machine).process());
        let of = (process.id(), self.level, self.search.clone());
        if self.of.as_ref() != Some(&of) {
            self.of = Some(of);
            self.end = 0;
            self.shown.clear();
        }
        self.forgotten = process.forgotten_lines();
        let gone = self.shown.partition_point(|n| *n < self.forgotten);
        self.shown.drain(..gone);
        let from = self.end.saturating_sub(self.forgotten);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let needle = self.search.to_lowercase();
        let mut n = self.forgotten + from as u64;
        for told in process.lines().iter().skip(from) {
            if told.line.level <= self.level && has(told, &needle) {
                self.shown.push_back(n);
            }
            n += 1;
        }
        self.end = n.max(self.end);
    }

    fn len(&self) -> usize {
        self.shown.len()
    }

    /// The place among the lines of the process.
    fn place(&self, n: usize) -> Option<usize> {
        let n = self.shown.get(n)?.checked_sub(self.forgotten)?;
        usize::try_from(n).ok()
    }
}

fn has(told: &ToldLine, needle: &str) -> bool {
    needle.is_empty()
        || told.line.text.to_lowercase().contains(needle)
        || told.line.target.to_lowercase().contains(needle)
}

impl App {
    fn line<'a>(&self, store: &'a Store, n: usize) -> Option<&'a ToldLine> {
        let process = store.process(store.machine(self.machine?).process());
        process.lines().get(self.log.place(n)?)
    }

    /// The last line at or before the cursor.
    fn line_at_cursor(&self, store: &Store) -> Option<usize> {
        let process = store.process(store.machine(self.machine?).process());
        let last = process.line_at(self.wall)? as u64 + self.log.forgotten;
        self.log
            .shown
            .partition_point(|n| *n <= last)
            .checked_sub(1)
    }

    /// The list follows the cursor, unless it has the focus.
    pub(in super::super) fn place_log(&mut self, store: &Store) {
        let at = self.line_at_cursor(store);
        let list = &mut self.lists[Pane::Log.place()];
        list.rows.clear();
        list.len = self.log.len();
        if self.focus != Pane::Log {
            list.cursor = at.unwrap_or(0);
        }
    }

    pub(in super::super) fn log_row(&self, store: &Store, n: usize) -> Row {
        let Some(told) = self.line(store, n) else {
            return Row::default();
        };
        let level = usize::from(told.line.level.clamp(1, 5));
        let tone = match level {
            1 => Tone::Error,
            2 => Tone::Refused,
            3 => Tone::Plain,
            _ => Tone::Dim,
        };
        // What is behind the cursor has not happened yet.
        let later = told.wall > self.wall;
        let symbols = self.theme.symbols();
        let at = self.line_at_cursor(store) == Some(n);
        let text = told.line.text.replace(['\n', '\r', '\t'], " ");
        let mut spans = vec![
            self.span(Tone::Accent, if at { symbols.here } else { " " }),
            self.span(Tone::Dim, words::clock(told.wall)),
            self.span(tone, format!(" {:<5} ", LEVELS[level - 1])),
            self.span(Tone::Dim, format!("{}: ", told.line.target)),
        ];
        let tone = if later { Tone::Dim } else { tone };
        let name = self.state.and_then(|state| self.name_of(store, state));
        match name.as_deref().and_then(|name| text.split_once(name)) {
            Some((before, after)) => {
                spans.push(self.span(tone, before));
                spans.push(self.span(Tone::Selected, name.unwrap_or_default()));
                spans.push(self.span(tone, after));
            }
            None => spans.push(self.span(tone, text)),
        }
        let line = Line::from(spans);
        Row::to(line, Target::Wall(told.wall))
    }
}
