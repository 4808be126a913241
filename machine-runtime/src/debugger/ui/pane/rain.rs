//! Rain: a line a transition, a column a state.

use ratatui::text::{Line, Span};

use super::super::super::store::{Flags, Store};
use super::super::App;
use super::super::action::Pane;
use super::super::list::{Row, Target};
use super::super::theme::Tone;
use super::super::words;
use super::schema::sections;
use crate::schema::Schema;

/// Columns before the first state: time and sign.
pub(in super::super) const BEFORE: usize = 15;

/// How many rows a heading of short names has.
const SHORT: usize = 4;

/// `Flight1Boarding` as `F1Bo`: what each word begins with, and as much of the last one as there is room.
fn short(name: &str) -> String {
    let begins = |char: &char| char.is_uppercase() || char.is_ascii_digit();
    let begin: String = name.chars().filter(begins).collect();
    let last = name.char_indices().rev().find(|(_, char)| begins(char));
    let rest = last.map_or(name, |(at, char)| &name[at + char.len_utf8()..]);
    let room = SHORT.saturating_sub(begin.chars().count());
    begin.chars().chain(rest.chars().take(room)).collect()
}

impl App {
    /// The rows are the entries that are shown, and the cursor is that of time.
    pub(in super::super) fn place_rain(&mut self) {
        let list = &mut self.lists[Pane::Rain.place()];
        list.rows.clear();
        let Some(visible) = &self.visible else {
            list.len = 0;
            return;
        };
        list.len = visible.len();
        let place = self.cursor.map_or(0, |cursor| {
            visible.place(cursor).unwrap_or_else(|place| place)
        });
        list.cursor = place;
        // The cursor is in the middle where it can be, so that what comes is in sight.
        list.offset = place.saturating_sub(list.height / 2);
    }

    /// The states that have columns, as many as fit.
    pub(in super::super) fn rain_states(&self, store: &Store, width: usize) -> Vec<u32> {
        let Some(machine) = self.machine else {
            return Vec::new();
        };
        let history = store.machine(machine);
        let schema = history.schema();
        // What was called stands behind the states.
        let room = width.saturating_sub(BEFORE);
        let room = room.min((room * 2 / 3).max(24));
        let sections = sections(schema);
        if let Some((_, states)) = self.rain_group.and_then(|group| sections.get(group)) {
            return states.iter().copied().take(room).collect();
        }
        if schema.len() <= room {
            return (0..).take(schema.len()).collect();
        }
        // Without a group: what changed around the cursor.
        let mut states = Vec::new();
        states.extend(self.state);
        let cursor = self.cursor.unwrap_or(history.start());
        let from = cursor.saturating_sub(100).max(history.start());
        let to = (cursor + 100).min(history.end());
        for i in from..to {
            history.changes(i, |state, _| {
                if states.len() < room && !states.contains(&state) {
                    states.push(state);
                }
            });
        }
        states.sort_unstable();
        states
    }

    /// What the columns are.
    pub(in super::super) fn rain_group_name(&self, store: &Store) -> String {
        let name = |machine| {
            let sections = sections(store.machine(machine).schema());
            let (name, _) = sections.get(self.rain_group?)?;
            Some(if name.is_empty() {
                "no group".to_owned()
            } else {
                name.clone()
            })
        };
        let group = self.machine.and_then(name);
        group.unwrap_or_else(|| "what changes".to_owned())
    }

    /// How many rows the heading has: names from top to bottom where there is room, else short ones, else
    /// first letters.
    pub(in super::super) fn rain_heading_rows(height: usize) -> usize {
        match height {
            24.. => 10,
            12.. => SHORT,
            _ => 1,
        }
    }

    /// The names of the states over their columns; of long ones the end, which tells them apart.
    pub(in super::super) fn rain_heading(
        &self,
        schema: &Schema,
        states: &[u32],
        rows: usize,
    ) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        for row in 0..rows {
            let is_last = row + 1 == rows;
            let before = if is_last { "time" } else { "" };
            let mut spans = vec![self.span(Tone::Dim, format!("{before:<BEFORE$}"))];
            for state in states {
                let mut name = words::name(schema, *state).to_owned();
                if rows == SHORT {
                    name = short(&name);
                }
                let len = name.chars().count();
                let place = if rows == 1 {
                    Some(0)
                } else {
                    (len + row).checked_sub(rows)
                };
                let char = place
                    .and_then(|place| name.chars().nth(place))
                    .unwrap_or(' ');
                let tone = if self.state == Some(*state) {
                    Tone::Key
                } else {
                    Tone::Dim
                };
                spans.push(self.span(tone, char.to_string()));
            }
            if let Some(state) = self.state.filter(|_| is_last) {
                spans.push(Span::raw(" "));
                spans.push(self.span(Tone::Selected, words::name(schema, state).to_owned()));
            }
            lines.push(Line::from(spans));
        }
        lines
    }

    pub(in super::super) fn rain_row(&self, store: &Store, n: usize, states: &[u32]) -> Row {
        let found = self.visible.as_ref().and_then(|visible| visible.get(n));
        let (Some(machine), Some(i)) = (self.machine, found) else {
            return Row::default();
        };
        let history = store.machine(machine);
        if !history.range().contains(&i) {
            return Row::default();
        }
        let symbols = self.theme.symbols();
        let flags = history.flags(i);
        let (sign, tone) = if flags.contains(Flags::ERROR) {
            (symbols.error, Tone::Error)
        } else if flags.contains(Flags::CANCELED) {
            (symbols.refused, Tone::Refused)
        } else if flags.contains(Flags::KEY) {
            (symbols.rule, Tone::Dim)
        } else if flags.contains(Flags::DROPPED) {
            ("?", Tone::Error)
        } else {
            (" ", Tone::Plain)
        };
        let mut spans = vec![
            self.span(Tone::Dim, words::clock(history.wall(i))),
            self.span(tone, format!(" {sign} ")),
        ];
        let now = history.ticks_after(i);
        let (mut changed, mut called) = (Vec::new(), Vec::new());
        history.changes(i, |state, _| changed.push(state));
        history.called(i, |state| called.push(state));
        for state in states {
            let is_active = now.is_active(*state);
            let (sign, tone) = match (is_active, changed.contains(state), called.contains(state)) {
                (true, true, _) => (symbols.active, Tone::Changed),
                (false, true, _) => (symbols.ended, Tone::Changed),
                (_, false, true) if flags.contains(Flags::CANCELED) => {
                    (symbols.refused, Tone::Refused)
                }
                (true, false, _) => (symbols.column, Tone::Active),
                (false, false, true) => (symbols.inactive, Tone::Dim),
                (false, false, false) => (" ", Tone::Plain),
            };
            let mut span = self.span(tone, sign);
            if self.state == Some(*state) {
                span = span.patch_style(self.style(Tone::Selected));
            }
            spans.push(span);
        }
        spans.push(Span::raw("  "));
        let call = Self::entry_in_words(history, i);
        spans.push(self.span(
            if flags.contains(Flags::CANCELED) {
                Tone::Refused
            } else {
                Tone::Dim
            },
            call,
        ));
        Row::to(Line::from(spans), Target::Entry(machine, i))
    }
}
