//! Why the selected state is or is not active, and what would change that.

use ratatui::text::{Line, Span};

use super::super::super::store::Store;
use super::super::list::{Row, Target};
use super::super::theme::Tone;
use super::super::{App, words};

impl App {
    pub(in super::super) fn why_rows(&self, store: &Store, width: usize) -> Vec<Row> {
        let (Some(machine), Some(cursor)) = (self.machine, self.cursor) else {
            return vec![self.dim(self.nothing(store))];
        };
        let Some(state) = self.state else {
            let text =
                "select a state to be told why it is or is not active: Enter on it in the schema";
            let mut rows = self.wrapped(Tone::Dim, text, width);
            self.tried_rows(width, &mut rows);
            return rows;
        };
        let history = store.machine(machine);
        let schema = history.schema();
        let why = store.explain(machine, cursor, state);
        let (is, tone) = if why.is_active() {
            ("active", Tone::Active)
        } else {
            ("not active", Tone::Plain)
        };
        let mut rows = vec![Row::to(
            Line::from(vec![
                self.activity(state),
                Span::raw(" "),
                self.span(Tone::Selected, why.name.clone()),
                Span::raw(" is "),
                self.span(tone, is),
                self.span(Tone::Dim, format!(", tick {}", words::count(why.tick))),
            ]),
            Target::State(state),
        )];
        let mut list = |title: &str, states: &[crate::state::DynState]| {
            if states.is_empty() {
                return;
            }
            rows.push(self.heading(title));
            for other in states {
                rows.push(self.state_row(schema, "  ", other.0));
            }
        };
        if why.is_active() {
            list("Required by the active", &why.required_by);
        } else {
            list("Removed by the active", &why.blocked_by);
            list("Requires the inactive", &why.missing);
        }
        if !why.is_active() && why.blocked_by.is_empty() && why.missing.is_empty() {
            let text = match (why.auto, why.tick) {
                (true, _) => "nothing hinders it: the next change tries it",
                (false, 0) => "nothing hinders it: nothing has called it yet",
                (false, _) => "nothing hinders it: it ended and was not called again",
            };
            rows.extend(self.wrapped(Tone::Plain, text, width));
        }
        self.last_change_row(store, state, &mut rows);
        let verb = if why.is_active() {
            "deactivate"
        } else {
            "activate"
        };
        rows.push(Row::to(
            self.span(
                Tone::Accent,
                format!("s  the smallest mutations that would {verb} it"),
            ),
            Target::Smallest,
        ));
        for line in &self.answers.smallest {
            for row in self.wrapped(Tone::Plain, &format!("  {line}"), width) {
                rows.push(row);
            }
        }
        rows.push(Row::to(
            self.span(Tone::Accent, "t  try a mutation as a dry run"),
            Target::Try,
        ));
        self.tried_rows(width, &mut rows);
        rows
    }

    fn tried_rows(&self, width: usize, rows: &mut Vec<Row>) {
        for line in &self.answers.tried {
            rows.extend(self.wrapped(Tone::Plain, &format!("  {line}"), width));
        }
    }

    /// What made it as it is.
    fn last_change_row(&self, store: &Store, state: u32, rows: &mut Vec<Row>) {
        let (Some(machine), Some(cursor)) = (self.machine, self.cursor) else {
            return;
        };
        let history = store.machine(machine);
        let Some(last) = history.next_change(state, cursor + 1, false, None) else {
            return;
        };
        let what = Self::entry_in_words(history, last);
        let wall = words::clock(history.wall(last));
        rows.push(Row::to(
            Line::from(vec![
                Span::raw("changed last by "),
                self.span(Tone::Accent, what),
                self.span(Tone::Dim, format!(" at {wall}")),
            ]),
            Target::Entry(machine, last),
        ));
    }
}
