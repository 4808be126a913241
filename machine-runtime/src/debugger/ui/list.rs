//! Rows of a pane, which of them keys act on, and which are in sight.

use ratatui::text::Line;

use super::super::store::MachineId;

/// What a row leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Entry(MachineId, usize),
    Machine(MachineId),
    State(u32),
    /// A time.
    Wall(u64),
    /// A section of the schema, to fold.
    Section(usize),
    Smallest,
    Try,
}

/// One line, and what it leads to.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Row {
    pub(super) line: Line<'static>,
    pub(super) target: Option<Target>,
}

impl Row {
    pub(super) fn new(line: impl Into<Line<'static>>) -> Self {
        Self {
            line: line.into(),
            target: None,
        }
    }

    pub(super) fn to(line: impl Into<Line<'static>>, target: Target) -> Self {
        Self {
            line: line.into(),
            target: Some(target),
        }
    }
}

/// The rows of a pane: all of them where there are few, else only how many there are.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct List {
    pub(super) rows: Vec<Row>,
    pub(super) len: usize,
    /// The row that keys act on.
    pub(super) cursor: usize,
    /// The first in sight.
    pub(super) offset: usize,
    /// How many are in sight.
    pub(super) height: usize,
}

impl List {
    /// Takes new rows, and keeps the place.
    pub(super) fn set(&mut self, rows: Vec<Row>) {
        self.len = rows.len();
        self.rows = rows;
    }

    /// Makes cursor and sight fit.
    pub(super) fn fit(&mut self, height: usize) {
        self.height = height;
        self.cursor = self.cursor.min(self.len.saturating_sub(1));
        let most = self.len.saturating_sub(height);
        let first = (self.cursor + 1).saturating_sub(height);
        self.offset = self.offset.clamp(first, self.cursor.max(first)).min(most);
    }

    /// Moves the cursor by so many rows.
    pub(super) fn step(&mut self, by: isize) {
        let last = self.len.saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(by).min(last);
    }

    /// The row that keys act on.
    pub(super) fn at_cursor(&self) -> Option<&Row> {
        self.rows.get(self.cursor)
    }
}
