//! Lists over the panes: the help, what is hidden, marks, and what differs.

use ratatui::text::{Line, Span};

use super::super::store::{MachineId, Store, Visible};
use super::action::{Action, Binding, Scope, sections};
use super::list::{List, Row, Target};
use super::theme::Tone;
use super::{App, words};

/// A list over the panes.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Overlay {
    pub(super) kind: Kind,
    pub(super) list: List,
}

/// Which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Help,
    Filters,
    Places,
    Diff,
}

impl Kind {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Help => "Help",
            Self::Filters => "What is hidden",
            Self::Places => "Bookmarks and breakpoints",
            Self::Diff => "What differs",
        }
    }
}

/// The settings in the list of filters, in their order.
const SETTINGS: usize = 8;

impl App {
    pub(super) fn open(&mut self, kind: Kind) {
        let list = List::default();
        self.overlay = Some(Overlay { kind, list });
    }

    /// Makes the rows of the list over the panes.
    pub(super) fn make_overlay(&mut self, store: &Store) {
        let Some(mut overlay) = self.overlay.take() else {
            return;
        };
        let rows = match overlay.kind {
            Kind::Help => self.help_rows(),
            Kind::Filters => self.filter_rows(store),
            Kind::Places => self.place_rows(store),
            Kind::Diff => self.diff_rows(store),
        };
        overlay.list.set(rows);
        let height = usize::from(self.overlay_area(overlay.list.len).height);
        overlay.list.fit(height.saturating_sub(2));
        self.overlay = Some(overlay);
    }

    fn help_rows(&self) -> Vec<Row> {
        let symbols = self.theme.symbols();
        let mut rows = vec![
            self.heading("What is on the screen"),
            Row::new(
                "All panes show one moment: that of the cursor in the timeline. Times are UTC.",
            ),
            Row::new("Left and Right move it, in every pane; T follows what comes."),
            Row::new("A state that is selected (Enter in the schema) is underlined everywhere."),
        ];
        let legend = [
            (Tone::Active, symbols.active, "active, accepted"),
            (Tone::Dim, symbols.inactive, "not active"),
            (Tone::Active, symbols.began, "began"),
            (Tone::Refused, symbols.ended, "ended"),
            (Tone::Changed, symbols.touched, "called again, or late"),
            (Tone::Refused, symbols.refused, "refused"),
            (Tone::Error, symbols.error, "error at this moment"),
            (
                Tone::Past,
                symbols.past,
                "an error within the last 100 transitions",
            ),
            (Tone::Refused, "-3", "three revisions behind the root"),
            (Tone::Dim, "-", "nothing of it yet at this moment"),
            (Tone::Dim, symbols.more, "more came later"),
        ];
        for (tone, sign, text) in legend {
            rows.push(Row::new(Line::from(vec![
                self.span(tone, format!("  {sign:<3}")),
                Span::raw(text),
            ])));
        }
        for (scope, bindings) in sections(self.focus) {
            rows.push(Row::default());
            rows.push(self.heading(scope.heading()));
            if let Scope::In(pane) = scope {
                rows.push(self.dim(format!("  {}", pane.about())));
            }
            rows.extend(bindings.into_iter().map(|binding| self.key_row(binding)));
        }
        rows
    }

    fn key_row(&self, binding: &Binding) -> Row {
        let keys = format!("  {:<16} ", binding.keys());
        Row::new(Line::from(vec![
            self.span(Tone::Key, keys),
            Span::raw(binding.help.replace('`', "")),
        ]))
    }

    fn filter_rows(&self, store: &Store) -> Vec<Row> {
        let hidden = self.visible.as_ref().map(Visible::hidden);
        let hidden = hidden.unwrap_or_default();
        let filter = &self.filter;
        let group = self.group.and_then(|group| self.group_states(store, group));
        let group = group.map_or_else(|| "all".to_owned(), |(name, _)| name);
        let text = filter.text.clone().unwrap_or_else(|| "any".to_owned());
        let toggles = [
            (filter.hide_canceled, "canceled", hidden.canceled),
            (filter.hide_auto, "auto states tried", hidden.auto),
            (filter.hide_queued, "queued", hidden.queued),
            (filter.hide_empty, "changed nothing", hidden.empty),
            (filter.hide_health, "health only", hidden.health),
        ];
        let mut rows = Vec::new();
        for (is_hidden, name, count) in toggles {
            let sign = if is_hidden { "[hidden]" } else { "[shown] " };
            let tone = if is_hidden {
                Tone::Refused
            } else {
                Tone::Active
            };
            rows.push(Row::new(Line::from(vec![
                self.span(tone, sign),
                Span::raw(format!(" {name:<20}")),
                self.span(Tone::Dim, words::count(count as u64)),
            ])));
        }
        let choices = [
            ("group of states", group, hidden.group),
            ("text", text, hidden.text),
        ];
        for (name, value, count) in choices {
            rows.push(Row::new(Line::from(vec![
                self.span(Tone::Accent, format!("{name}: {value:<20} ")),
                self.span(Tone::Dim, format!("hides {}", words::count(count as u64))),
            ])));
        }
        rows.push(Row::new(self.span(
            Tone::Accent,
            format!("log: up to {}", self.log.level_name()),
        )));
        debug_assert_eq!(rows.len(), SETTINGS);
        rows.push(Row::default());
        rows.push(self.dim("Space or Enter changes a row, Esc closes"));
        rows
    }

    /// Changes the setting of a row.
    fn change_setting(&mut self, store: &Store, row: usize) {
        let filter = &mut self.filter;
        match row {
            0 => filter.hide_canceled ^= true,
            1 => filter.hide_auto ^= true,
            2 => filter.hide_queued ^= true,
            3 => filter.hide_empty ^= true,
            4 => filter.hide_health ^= true,
            5 => {
                let next = self.group.map_or(0, |group| group + 1);
                let states = self.group_states(store, next);
                self.group = states.as_ref().map(|_| next);
                self.filter.group = states.map(|(_, states)| states);
            }
            6 if filter.text.is_some() => filter.text = None,
            6 => {
                self.overlay = None;
                self.ask(
                    super::prompt::Purpose::Search(super::action::Pane::Timeline),
                    "",
                );
            }
            7 => self.log.level = self.log.level % 5 + 1,
            _ => {}
        }
    }

    fn place_rows(&self, store: &Store) -> Vec<Row> {
        let mut rows = Vec::new();
        for bookmark in &self.bookmarks {
            let history = store.machine(bookmark.machine);
            let held = history.range().contains(&bookmark.index);
            let when = if held {
                words::clock(history.wall(bookmark.index))
            } else {
                "not held any more".to_owned()
            };
            let line = Line::from(vec![
                Span::raw(format!("{:<24} ", bookmark.name)),
                self.span(Tone::Dim, format!("{} {when}", history.name())),
            ]);
            rows.push(Row::to(
                line,
                Target::Entry(bookmark.machine, bookmark.index),
            ));
        }
        for breakpoint in &self.breakpoints {
            let history = store.machine(breakpoint.machine);
            let name = words::name(history.schema(), breakpoint.state);
            let line = Line::from(vec![
                self.span(Tone::Error, format!("{} ", self.theme.symbols().breakpoint)),
                Span::raw(format!("{name:<22} ")),
                self.span(Tone::Dim, history.name().to_owned()),
            ]);
            rows.push(Row::to(line, Target::Machine(breakpoint.machine)));
        }
        if rows.is_empty() {
            rows.push(self.dim("none: b sets a bookmark, ! a breakpoint on the selected state"));
        }
        rows
    }

    fn diff_rows(&self, store: &Store) -> Vec<Row> {
        let (Some(a), Some(machine), Some(cursor)) = (self.mark, self.machine, self.cursor) else {
            return vec![self.dim("mark a moment as A first, with d")];
        };
        let b = (machine, cursor);
        let held =
            |(machine, index): (MachineId, usize)| store.machine(machine).range().contains(&index);
        if !held(a) || !held(b) {
            return vec![self.dim("what was there is not held any more")];
        }
        let words_of = |(machine, index): (MachineId, usize)| {
            let history = store.machine(machine);
            let wall = words::clock(history.wall(index));
            let revision = words::count(history.position(index).revision);
            format!("{} revision {revision} at {wall}", history.name())
        };
        let mut rows = vec![
            Row::to(format!("A      {}", words_of(a)), Target::Entry(a.0, a.1)),
            Row::to(format!("cursor {}", words_of(b)), Target::Entry(b.0, b.1)),
        ];
        let Some(differences) = store.diff(a, b) else {
            rows.push(self.dim("the two have different schemas"));
            return rows;
        };
        let schema = store.machine(machine).schema();
        let symbols = self.theme.symbols();
        rows.push(self.heading(words::many(differences.len(), "state") + " differ"));
        for difference in differences {
            let sign = |tick: u64| {
                if tick % 2 == 1 {
                    self.span(Tone::Active, symbols.active)
                } else {
                    self.span(Tone::Dim, symbols.inactive)
                }
            };
            let line = Line::from(vec![
                sign(difference.root),
                Span::raw(symbols.arrow),
                sign(difference.node),
                Span::raw(" "),
                self.state_name(schema, difference.state),
                self.span(
                    Tone::Dim,
                    format!(
                        " tick {} {} {}",
                        difference.root, symbols.arrow, difference.node
                    ),
                ),
            ]);
            rows.push(Row::to(line, Target::State(difference.state)));
        }
        rows
    }

    /// An action while a list is over the panes. Says whether it was one for it.
    pub(super) fn act_on_overlay(&mut self, store: &Store, action: Action) -> bool {
        let Some(overlay) = &mut self.overlay else {
            return false;
        };
        let list = &mut overlay.list;
        let page = isize::try_from(list.height.max(2) - 1).unwrap_or(1);
        // Of the help there is no row to be at: it scrolls.
        let from = if overlay.kind == Kind::Help {
            match action {
                Action::Up | Action::PageUp => list.cursor = list.offset,
                Action::Down | Action::PageDown => {
                    list.cursor = list.offset + list.height.saturating_sub(1);
                }
                _ => {}
            }
            list.cursor
        } else {
            list.cursor
        };
        let kind = overlay.kind;
        match action {
            Action::Up => list.step(-1),
            Action::Down => list.step(1),
            Action::PageUp => list.step(-page),
            Action::PageDown => list.step(page),
            Action::First => list.cursor = 0,
            Action::Last => list.cursor = list.len.saturating_sub(1),
            Action::Close => self.overlay = None,
            Action::Help if kind == Kind::Help => self.overlay = None,
            Action::Filters if kind == Kind::Filters => self.overlay = None,
            Action::Places if kind == Kind::Places => self.overlay = None,
            Action::Diff if kind == Kind::Diff => self.overlay = None,
            Action::Toggle | Action::Open if kind == Kind::Filters => {
                self.change_setting(store, from);
            }
            Action::Open if kind != Kind::Help => {
                let target = list.at_cursor().and_then(|row| row.target);
                if let Some(target) = target {
                    self.overlay = None;
                    self.follow_target(store, target);
                }
            }
            Action::Delete if kind == Kind::Places => {
                if from < self.bookmarks.len() {
                    self.bookmarks.remove(from);
                } else if from < self.bookmarks.len() + self.breakpoints.len() {
                    self.breakpoints.remove(from - self.bookmarks.len());
                }
            }
            Action::Quit => return false,
            _ => {}
        }
        true
    }
}
