//! What happened when: how much by time, a row a machine, errors and refusals marked.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::super::store::{History, MachineId, Store};
use super::super::theme::Tone;
use super::super::{App, words};
use super::shorten;

/// Columns for the names of machines.
const LABEL: u16 = 12;

/// What is drawn of a time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct Strip {
    pub(in super::super) from: u64,
    pub(in super::super) to: u64,
    label: u16,
    columns: u16,
    rows: Vec<StripRow>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct StripRow {
    machine: MachineId,
    name: String,
    counts: Vec<usize>,
    /// Errors and refusals of each column.
    troubles: Vec<(usize, usize)>,
}

impl Strip {
    /// The time at a column of the pane.
    pub(in super::super) fn wall_at(&self, column: u16) -> u64 {
        let column = u64::from(column.saturating_sub(self.label));
        let columns = u64::from(self.columns.max(1));
        let span = self.to - self.from;
        // The end of the column, so that all in it is before.
        self.from + mul_div(span, (column + 1).min(columns), columns)
    }

    /// The column of a time.
    fn column_of(&self, wall: u64) -> Option<u16> {
        if wall < self.from || wall > self.to || self.columns == 0 {
            return None;
        }
        let columns = u64::from(self.columns);
        let span = (self.to - self.from).max(1);
        let column = mul_div(columns, (wall - self.from).saturating_sub(1), span).min(columns - 1);
        u16::try_from(column).ok()
    }
}

fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    let product = u128::from(a) * u128::from(b) / u128::from(c.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

impl App {
    /// The first and the last time of all machines.
    pub(in super::super) fn whole_time(store: &Store) -> Option<(u64, u64)> {
        let machines = store
            .machines()
            .iter()
            .filter(|history| !history.is_empty());
        let first = machines
            .clone()
            .map(|history| history.wall(history.start()));
        let last = machines.filter_map(|history| Some(history.wall(history.last()?)));
        first.min().zip(last.max())
    }

    pub(in super::super) fn make_strip(&self, store: &Store, area: Rect) -> Strip {
        let Some((first, last)) = Self::whole_time(store) else {
            return Strip::default();
        };
        let last = last.max(first);
        let (from, to) = match self.zoom {
            Some(span) if span < last - first => {
                let from = self.wall.saturating_sub(span / 2);
                let from = from.clamp(first, last - span);
                (from, from + span)
            }
            _ => (first, last),
        };
        let label = if area.width > 5 * LABEL { LABEL } else { 0 };
        let columns = area.width.saturating_sub(label);
        let mut strip = Strip {
            from,
            to,
            label,
            columns,
            rows: Vec::new(),
        };
        let others = usize::from(area.height.saturating_sub(3));
        let order = self.machine_order(store).into_iter();
        let others = order.filter(|id| Some(*id) != self.machine).take(others);
        for id in self.machine.into_iter().chain(others) {
            let row = self.strip_row(&strip, store.machine(id));
            strip.rows.push(row);
        }
        strip
    }

    fn strip_row(&self, strip: &Strip, history: &History) -> StripRow {
        let visible = self.visible.as_ref();
        let visible = visible.filter(|visible| visible.machine() == history.id());
        let before = |wall: u64| match wall.checked_sub(1).and_then(|wall| history.last_at(wall)) {
            Some(last) => last + 1,
            None => history.start(),
        };
        let place =
            |i: usize| visible.map_or(i, |visible| visible.place(i).unwrap_or_else(|place| place));
        let marks = self.marks.get(&history.id());
        let mut from = before(strip.from);
        let (mut counts, mut troubles) = (Vec::new(), Vec::new());
        for column in 1..=strip.columns {
            let span = strip.to - strip.from;
            let wall = strip.from + mul_div(span, u64::from(column), u64::from(strip.columns));
            let to = before(wall.saturating_add(1)).max(from);
            counts.push(place(to) - place(from));
            troubles.push(marks.map_or((0, 0), |marks| marks.between(from, to)));
            from = to;
        }
        StripRow {
            machine: history.id(),
            name: history.name().to_owned(),
            counts,
            troubles,
        }
    }

    /// `n / total` and how many of them are shown.
    pub(in super::super) fn place_in_words(&self) -> String {
        let Some(visible) = &self.visible else {
            return String::new();
        };
        let place = match self.cursor.map(|cursor| visible.place(cursor)) {
            Some(Ok(place)) => words::count((place + 1) as u64),
            Some(Err(_)) | None => "-".to_owned(),
        };
        let shown = words::count(visible.len() as u64);
        let all = self.held;
        if all == visible.len() {
            format!("{place} / {shown}")
        } else {
            format!("{place} / {shown} shown of {}", words::count(all as u64))
        }
    }

    pub(in super::super) fn draw_timeline(&self, buf: &mut Buffer, area: Rect) {
        let strip = &self.strip;
        let symbols = self.theme.symbols();
        let Some(first) = strip.rows.first() else {
            return;
        };
        let cursor = strip.column_of(self.wall);
        let label = |buf: &mut Buffer, y: u16, row: &StripRow| {
            if strip.label > 0 {
                let room = usize::from(strip.label) - 1;
                let name = shorten(&row.name, room, symbols.ellipsis);
                let tone = if Some(row.machine) == self.machine {
                    Tone::Selected
                } else {
                    Tone::Dim
                };
                buf.set_stringn(area.x, y, name, room, self.style(tone));
            }
        };
        let x = area.x + strip.label;
        for (n, row) in strip.rows.iter().enumerate() {
            let n = u16::try_from(n).unwrap_or(u16::MAX);
            // Behind the row of the machine are its marks and the times.
            let y = area.y.saturating_add(if n == 0 { 0 } else { n + 2 });
            if y >= area.bottom() {
                break;
            }
            label(buf, y, row);
            let most = row.counts.iter().copied().max().unwrap_or(0);
            for (column, count) in (0..).zip(&row.counts) {
                let level = if *count == 0 {
                    0
                } else {
                    (count * 8).div_ceil(most)
                };
                let (errors, canceled) = row.troubles[usize::from(column)];
                let tone = match (errors, canceled) {
                    (1.., _) => Tone::Error,
                    (0, 1..) => Tone::Refused,
                    _ if n == 0 => Tone::Accent,
                    _ => Tone::Dim,
                };
                let mut style = self.style(tone);
                if cursor == Some(column) {
                    style = style.patch(self.style(Tone::Cursor));
                }
                buf.set_string(x + column, y, symbols.density[level], style);
            }
        }
        if area.height > 1 {
            self.draw_marks(buf, (x, area.y + 1), first, cursor);
        }
        if area.height > 2 {
            self.draw_axis(buf, Rect::new(x, area.y + 2, strip.columns, 1));
        }
    }

    fn draw_marks(
        &self,
        buf: &mut Buffer,
        (x, y): (u16, u16),
        row: &StripRow,
        cursor: Option<u16>,
    ) {
        let symbols = self.theme.symbols();
        for (column, (errors, canceled)) in (0..).zip(&row.troubles) {
            let (sign, tone) = match (errors, canceled) {
                (1.., _) => (symbols.error, Tone::Error),
                (0, 1..) => (symbols.refused, Tone::Refused),
                _ => (symbols.rule, Tone::Dim),
            };
            buf.set_string(x + column, y, sign, self.style(tone));
        }
        if let Some(column) = cursor {
            buf.set_string(x + column, y, symbols.column, self.style(Tone::Head));
        }
    }

    fn draw_axis(&self, buf: &mut Buffer, area: Rect) {
        let strip = &self.strip;
        let (from, to) = (words::clock(strip.from), words::clock(strip.to));
        let legend = vec![
            self.span(Tone::Error, format!("{} error", self.theme.symbols().error)),
            Span::raw("  "),
            self.span(
                Tone::Refused,
                format!("{} refused", self.theme.symbols().refused),
            ),
            Span::raw("  "),
            self.span(
                Tone::Dim,
                format!(
                    "{} long, UTC",
                    words::nanos((strip.to - strip.from).saturating_mul(1000))
                ),
            ),
        ];
        let legend = Line::from(legend);
        let width = usize::from(area.width);
        buf.set_stringn(area.x, area.y, &from, width, self.style(Tone::Dim));
        let end = u16::try_from(to.len()).unwrap_or(0);
        if area.width > end * 2 + 2 {
            buf.set_string(area.right() - end, area.y, &to, self.style(Tone::Dim));
        }
        let room = usize::from(area.width.saturating_sub(end * 2 + 4));
        if legend.width() <= room {
            let at = (room - legend.width()) / 2;
            let at = area.x + end + 2 + u16::try_from(at).unwrap_or(0);
            buf.set_line(at, area.y, &legend, area.right() - at);
        }
    }
}
