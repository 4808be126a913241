//! What the panes show.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::schema::Schema;

use super::super::store::Store;
use super::list::{Row, Target};
use super::theme::Tone;
use super::{App, words};

pub(super) mod diagram;
mod lens;
pub(super) mod log;
mod machines;
pub(super) mod rain;
pub(super) mod schema;
pub(super) mod timeline;
mod transition;
mod why;

impl App {
    pub(super) fn style(&self, tone: Tone) -> Style {
        self.theme.style(tone)
    }

    pub(super) fn span(&self, tone: Tone, text: impl Into<String>) -> Span<'static> {
        Span::styled(text.into(), self.style(tone))
    }

    pub(super) fn heading(&self, text: impl Into<String>) -> Row {
        Row::new(self.span(Tone::Head, text))
    }

    pub(super) fn dim(&self, text: impl Into<String>) -> Row {
        Row::new(self.span(Tone::Dim, text))
    }

    /// Why the machine has no entry under the cursor.
    pub(super) fn nothing(&self, store: &Store) -> String {
        let later = self.machine.map_or(0, |id| store.machine(id).len());
        if later == 0 {
            return "nothing was told of this machine yet".to_owned();
        }
        let later = words::count(later as u64);
        format!("not there yet at this moment; entries that are later: {later}")
    }

    /// A text over as many rows as it needs.
    pub(super) fn wrapped(&self, tone: Tone, text: &str, width: usize) -> Vec<Row> {
        let lines = wrap(text, width).into_iter();
        lines.map(|line| Row::new(self.span(tone, line))).collect()
    }

    /// A state's name, highlighted where it is the selected one.
    pub(super) fn state_name(&self, schema: &Schema, state: u32) -> Span<'static> {
        let name = words::name(schema, state).to_owned();
        if self.state == Some(state) {
            self.span(Tone::Selected, name)
        } else {
            Span::raw(name)
        }
    }

    /// Whether a state is active under the cursor, as a sign.
    pub(super) fn activity(&self, state: u32) -> Span<'static> {
        let moment = self.moment.as_ref();
        let is_active = moment.is_some_and(|moment| moment.is_active(state));
        let symbols = self.theme.symbols();
        if is_active {
            self.span(Tone::Active, symbols.active)
        } else {
            self.span(Tone::Dim, symbols.inactive)
        }
    }

    /// States, each on a row that leads to it.
    pub(super) fn state_row(&self, schema: &Schema, before: impl Into<String>, state: u32) -> Row {
        let line = Line::from(vec![
            Span::raw(before.into()),
            self.activity(state),
            Span::raw(" "),
            self.state_name(schema, state),
        ]);
        Row::to(line, Target::State(state))
    }
}

/// Two texts at both ends of a row.
pub(super) fn apart(
    mut left: Vec<Span<'static>>,
    right: Vec<Span<'static>>,
    width: usize,
) -> Line<'static> {
    let taken: usize = left.iter().chain(&right).map(Span::width).sum();
    left.push(Span::raw(" ".repeat(width.saturating_sub(taken).max(1))));
    left.extend(right);
    Line::from(left)
}

/// A text in lines of at most so many columns, broken between words where there are any.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        let mut taken = 0;
        for word in paragraph.split_inclusive(' ') {
            let long = Span::raw(word.trim_end()).width();
            if taken > 0 && taken + long > width {
                lines.push(std::mem::take(&mut line));
                taken = 0;
            }
            for char in word.chars() {
                let columns = Span::raw(char.to_string()).width();
                if taken > 0 && taken + columns > width {
                    if char == ' ' {
                        continue;
                    }
                    lines.push(std::mem::take(&mut line));
                    taken = 0;
                }
                line.push(char);
                taken += columns;
            }
        }
        lines.push(line);
    }
    lines
}

/// A text of which at most so many columns are left.
pub(super) fn shorten(text: &str, width: usize, ellipsis: &str) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(Span::raw(ellipsis).width());
    let mut out = String::new();
    let mut taken = 0;
    for char in text.chars() {
        let columns = Span::raw(char.to_string()).width();
        if taken + columns > room {
            break;
        }
        out.push(char);
        taken += columns;
    }
    out + ellipsis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_within_long_ones() {
        assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap("0123456789", 8), ["01234567", "89"]);
        assert_eq!(wrap("a\nb", 8), ["a", "b"]);
        assert_eq!(shorten("0123456789", 5, "…"), "0123…");
        assert_eq!(shorten("01234", 5, "…"), "01234");
    }
}
