//! Drawing.

use std::sync::Arc;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Widget};

use super::super::store::Store;
use super::action::{Action, BINDINGS, Pane, Scope};
use super::layout::inner;
use super::list::{List, Row};
use super::overlay::Kind;
use super::pane::wrap;
use super::theme::Tone;
use super::{App, Follow, SPEEDS, Source, words};

impl App {
    /// Draws the screen.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let shared = Arc::clone(&self.store);
        let store = Self::read(&shared);
        let area = frame.area();
        let buf = frame.buffer_mut();
        let screen = self.screen();
        let within = |rect: Rect| rect.intersection(area);
        if let Some(title) = screen.title {
            self.draw_title(&store, buf, within(title));
        }
        let is_empty = store.machines().is_empty();
        for (pane, rect) in screen.panes {
            self.draw_pane(&store, buf, pane, within(rect), is_empty);
        }
        if let Some(status) = screen.status {
            self.draw_status(&store, buf, within(status));
        }
        if let Some(keys) = screen.keys {
            self.draw_keys(buf, within(keys));
        }
        if self.overlay.is_some() {
            self.draw_overlay(buf, area);
        }
        if let Some(prompt) = &self.prompt {
            let row = Rect {
                y: area.bottom().saturating_sub(1),
                height: 1.min(area.height),
                ..area
            };
            Clear.render(row, buf);
            let label = prompt.purpose.label();
            let before = Span::raw(prompt.text[..prompt.at].to_owned()).width();
            let width = usize::from(row.width);
            // The end of a long label makes room for what is typed.
            let label: String = if Span::raw(label).width() + before + 1 > width {
                ": ".to_owned()
            } else {
                label.to_owned()
            };
            let line = Line::from(vec![
                self.span(Tone::Key, label.clone()),
                Span::raw(prompt.text.clone()),
            ]);
            buf.set_line(row.x, row.y, &line, row.width);
            let x = Span::raw(label).width() + before;
            let x = u16::try_from(x)
                .unwrap_or(u16::MAX)
                .min(row.width.saturating_sub(1));
            if row.height > 0 {
                frame.set_cursor_position((row.x + x, row.y));
            }
        }
    }

    fn draw_title(&self, store: &Store, buf: &mut Buffer, area: Rect) {
        let symbols = self.theme.symbols();
        let mut left = vec![self.span(Tone::Head, " debugger ")];
        let (sign, tone, follow) = match self.follow {
            Follow::Tail => (symbols.active, Tone::Active, "following".to_owned()),
            Follow::Playing => {
                let speed = SPEEDS[self.speed];
                (symbols.play, Tone::Active, format!("playing {speed}/s"))
            }
            Follow::Paused => (symbols.pause, Tone::Changed, "paused".to_owned()),
        };
        left.push(self.span(tone, format!(" {sign} {follow}  ")));
        if let Some(machine) = self.machine {
            let history = store.machine(machine);
            left.push(Span::raw(history.name().to_owned()));
            // Of what was looked at: by now it may be forgotten.
            if let Some(moment) = &self.moment {
                let revision = words::count(moment.position.revision);
                left.push(Span::raw(format!(" @ {revision}")));
            }
        }
        if self.wall > 0 {
            left.push(self.span(Tone::Dim, format!("  {} UTC", words::date(self.wall))));
        }
        if let (Some(visible), Some(_)) = (&self.visible, self.machine) {
            let hidden = self.held.saturating_sub(visible.len());
            if hidden > 0 {
                let text = format!("  {} hidden (f)", words::count(hidden as u64));
                left.push(self.span(Tone::Refused, text));
            }
        }
        buf.set_line(area.x, area.y, &Line::from(left), area.width);
    }

    fn draw_pane(&self, store: &Store, buf: &mut Buffer, pane: Pane, area: Rect, is_empty: bool) {
        let focused = self.focus == pane;
        let tone = if focused { Tone::Accent } else { Tone::Dim };
        let title_tone = if focused { Tone::Key } else { Tone::Plain };
        let title = format!(
            " {} {}{} ",
            pane.place() + 1,
            pane.name(),
            self.more_title(store, pane)
        );
        let mut block = Block::new()
            .borders(Borders::ALL)
            .border_set(self.theme.border(focused))
            .border_style(self.style(tone))
            .title(self.span(title_tone, title));
        let list = &self.lists[pane.place()];
        if list.len > list.height && list.height > 0 && pane != Pane::Timeline {
            let place = format!(
                " {}/{} ",
                words::count(list.cursor as u64 + 1),
                words::count(list.len as u64)
            );
            block = block.title_bottom(Line::from(self.span(Tone::Dim, place)).right_aligned());
        }
        block.render(area, buf);
        let area = inner(area);
        if is_empty {
            if matches!(pane, Pane::Schema | Pane::Transition) || self.is_zoomed {
                self.draw_hint(buf, area);
            }
            return;
        }
        let rows = |n: usize| list.rows.get(n).cloned().unwrap_or_default();
        match pane {
            Pane::Timeline => self.draw_timeline(buf, area),
            Pane::Log if list.len == 0 => {
                let level = self.log.level_name();
                let text = format!("no lines up to {level} were told; + shows more, 5 comes here");
                buf.set_stringn(
                    area.x,
                    area.y,
                    text,
                    area.width.into(),
                    self.style(Tone::Dim),
                );
            }
            Pane::Log => self.draw_list(buf, area, list, focused, |n| self.log_row(store, n)),
            Pane::Rain => {
                let Some(machine) = self.machine else {
                    return;
                };
                let states = self.rain_states(store, usize::from(area.width));
                let schema = store.machine(machine).schema();
                let rows = Self::rain_heading_rows(usize::from(area.height));
                let heading = self.rain_heading(schema, &states, rows);
                for (y, line) in (area.y..area.bottom()).zip(&heading) {
                    buf.set_line(area.x, y, line, area.width);
                }
                let taken = u16::try_from(heading.len()).unwrap_or(0).min(area.height);
                let below = Rect {
                    y: area.y + taken,
                    height: area.height - taken,
                    ..area
                };
                self.draw_list(buf, below, list, true, |n| self.rain_row(store, n, &states));
            }
            _ => self.draw_list(buf, area, list, focused, rows),
        }
    }

    /// What a title says besides the name.
    fn more_title(&self, store: &Store, pane: Pane) -> String {
        let searched = |text: &str| {
            if text.is_empty() {
                String::new()
            } else {
                format!(" /{text}")
            }
        };
        match pane {
            Pane::Machines => {
                let all = words::count(store.machines().len() as u64);
                format!(" {all}{}", searched(&self.machine_search))
            }
            Pane::Schema => {
                let order = if self.folding.active_first {
                    " active first"
                } else {
                    ""
                };
                format!("{order}{}", searched(&self.folding.search))
            }
            Pane::Timeline => format!("  {}", self.place_in_words()),
            Pane::Log => {
                format!(" {}{}", self.log.level_name(), searched(&self.log.search))
            }
            Pane::Rain => format!(": {}", self.rain_group_name(store)),
            Pane::Diagram => format!(": {}", self.view.name()),
            Pane::Transition | Pane::Lens | Pane::Why => String::new(),
        }
    }

    fn draw_list(
        &self,
        buf: &mut Buffer,
        area: Rect,
        list: &List,
        with_cursor: bool,
        row: impl Fn(usize) -> Row,
    ) {
        for y in 0..area.height {
            let n = list.offset + usize::from(y);
            if n >= list.len {
                break;
            }
            let line = row(n).line;
            buf.set_line(area.x, area.y + y, &line, area.width);
            if with_cursor && n == list.cursor {
                let row = Rect::new(area.x, area.y + y, area.width, 1);
                buf.set_style(row, self.style(Tone::Cursor));
            }
        }
    }

    /// What to do where nothing is there yet.
    fn draw_hint(&self, buf: &mut Buffer, area: Rect) {
        let text = match &self.source {
            Source::Listening(addr) => format!(
                "waiting for nodes on {addr}; start one with `flights`, or open a recording with \
                 `flights debug FILE`"
            ),
            Source::Opened(paths) => {
                format!(
                    "nothing is in {} yet; it is read on as it is written",
                    paths.join(", ")
                )
            }
        };
        let lines = wrap(&text, usize::from(area.width));
        for (y, line) in (area.y..area.bottom()).zip(lines) {
            buf.set_stringn(
                area.x,
                y,
                line,
                usize::from(area.width),
                self.style(Tone::Accent),
            );
        }
    }

    fn draw_status(&self, store: &Store, buf: &mut Buffer, area: Rect) {
        let line = if let Some((_, what)) = &self.work {
            let spinner = self.theme.symbols().spinner;
            let sign = spinner[self.spin % spinner.len()];
            Line::from(self.span(Tone::Accent, format!("{sign} {what}; Esc gives up")))
        } else if !self.notice.text.is_empty() {
            let tone = if self.notice.is_trouble {
                Tone::Error
            } else {
                Tone::Accent
            };
            Line::from(self.span(tone, self.notice.text.clone()))
        } else {
            self.machine_in_words(store)
        };
        buf.set_line(area.x, area.y, &line, area.width);
    }

    /// The actions of the key bar, and how many columns each takes.
    pub(super) fn key_bar(&self) -> Vec<(Action, usize)> {
        let parts = self.key_parts().into_iter();
        parts
            .map(|(action, key, short)| (action, Span::raw(key).width() + short.len() + 3))
            .collect()
    }

    fn key_parts(&self) -> Vec<(Action, String, &'static str)> {
        let here = if self.overlay.is_some() {
            Scope::Lists
        } else {
            Scope::In(self.focus)
        };
        let kind = self.overlay.as_ref().map(|overlay| overlay.kind);
        let first = BINDINGS.iter().filter(|binding| {
            let fits = match (binding.action, kind) {
                (Action::Toggle, _) => kind == Some(Kind::Filters),
                (Action::Delete, _) => kind == Some(Kind::Places),
                _ => true,
            };
            binding.scope == here && fits
        });
        let rest = BINDINGS.iter().filter(|binding| {
            matches!(binding.scope, Scope::Everywhere(_)) && self.overlay.is_none()
        });
        let mut parts = Vec::new();
        for binding in first
            .chain(rest)
            .filter(|binding| !binding.short.is_empty())
        {
            let key = match binding.action {
                Action::Next => self.theme.symbols().left_right.to_owned(),
                _ => binding
                    .keys
                    .first()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            };
            parts.push((binding.action, key, binding.short));
        }
        if self.overlay.is_some() {
            parts.push((Action::Close, "Esc".to_owned(), "close"));
        }
        // Help and the way out are always in sight.
        let is_last =
            |(action, ..): &(Action, String, &str)| matches!(action, Action::Help | Action::Quit);
        let (mut last, mut parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_last);
        let width = |parts: &[(Action, String, &str)]| -> usize {
            let each = parts.iter();
            each.map(|(_, key, short)| Span::raw(key.as_str()).width() + short.len() + 3)
                .sum()
        };
        let room = usize::from(self.size.0).saturating_sub(width(&last));
        while width(&parts) > room && !parts.is_empty() {
            parts.pop();
        }
        parts.append(&mut last);
        parts
    }

    fn draw_keys(&self, buf: &mut Buffer, area: Rect) {
        let mut spans = Vec::new();
        for (_, key, short) in self.key_parts() {
            spans.push(self.span(Tone::Key, key));
            spans.push(Span::raw(format!(" {short}  ")));
        }
        buf.set_line(area.x, area.y, &Line::from(spans), area.width);
    }

    /// Where the list over the panes is.
    pub(super) fn overlay_area(&self, rows: usize) -> Rect {
        let (width, height) = self.size;
        let rows = u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(2);
        let wide = width.min(90);
        let high = rows.min(height.saturating_sub(2)).max(3.min(height));
        Rect::new((width - wide) / 2, (height - high) / 2, wide, high)
    }

    fn draw_overlay(&self, buf: &mut Buffer, whole: Rect) {
        let Some(overlay) = &self.overlay else {
            return;
        };
        let list = &overlay.list;
        let area = self.overlay_area(list.len).intersection(whole);
        Clear.render(area, buf);
        let mut block = Block::new()
            .borders(Borders::ALL)
            .border_set(self.theme.border(true))
            .border_style(self.style(Tone::Accent))
            .title(self.span(Tone::Key, format!(" {} ", overlay.kind.title())));
        if list.len > list.height {
            let place = format!(" {}/{} ", list.offset + list.height, list.len);
            block = block.title_bottom(Line::from(self.span(Tone::Dim, place)).right_aligned());
        }
        block.render(area, buf);
        let rows = |n: usize| list.rows.get(n).cloned().unwrap_or_default();
        self.draw_list(buf, inner(area), list, overlay.kind != Kind::Help, rows);
    }
}

/// What a screen shows, without colours: a line a row, without the blanks at its end.
pub fn text_of(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut out = String::new();
    for y in area.top()..area.bottom() {
        let mut row = String::new();
        let mut x = area.left();
        while x < area.right() {
            let symbol = buffer[(x, y)].symbol();
            row.push_str(symbol);
            x += u16::try_from(Span::raw(symbol).width()).unwrap_or(1).max(1);
        }
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out
}
