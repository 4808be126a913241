//! Where each pane is, by the size of the terminal.

use ratatui::layout::Rect;

use super::App;
use super::action::Pane;

/// Where everything is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Screen {
    pub(super) title: Option<Rect>,
    pub(super) panes: Vec<(Pane, Rect)>,
    pub(super) status: Option<Rect>,
    pub(super) keys: Option<Rect>,
}

/// A row or column of panes is cut into pieces.
fn cut(area: Rect, pieces: &[u16], is_row: bool) -> Vec<Rect> {
    let all = if is_row { area.width } else { area.height };
    let sum: u32 = pieces.iter().map(|piece| u32::from(*piece)).sum();
    let mut at = 0;
    let mut done = 0;
    let mut out = Vec::new();
    for piece in pieces {
        done += u32::from(*piece);
        let to = u16::try_from(u32::from(all) * done / sum.max(1)).unwrap_or(all);
        out.push(if is_row {
            Rect::new(area.x + at, area.y, to - at, area.height)
        } else {
            Rect::new(area.x, area.y + at, area.width, to - at)
        });
        at = to;
    }
    out
}

/// The first columns, and the rest.
fn split_left(area: Rect, width: u16) -> (Rect, Rect) {
    let width = width.min(area.width);
    let left = Rect { width, ..area };
    let right = Rect {
        x: area.x + width,
        width: area.width - width,
        ..area
    };
    (left, right)
}

/// The rows but the last ones, and those.
fn split_bottom(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let top = Rect {
        height: area.height - height,
        ..area
    };
    let bottom = Rect {
        y: area.y + area.height - height,
        height,
        ..area
    };
    (top, bottom)
}

impl App {
    pub(super) fn screen(&self) -> Screen {
        let (width, height) = self.size;
        let mut rest = Rect::new(0, 0, width, height);
        let mut screen = Screen {
            title: None,
            panes: Vec::new(),
            status: None,
            keys: None,
        };
        if height >= 4 {
            let (above, keys) = split_bottom(rest, 1);
            (rest, screen.keys) = (above, Some(keys));
        }
        if height >= 6 {
            let (above, status) = split_bottom(rest, 1);
            (rest, screen.status) = (above, Some(status));
            screen.title = Some(Rect { height: 1, ..rest });
            rest.y += 1;
            rest.height -= 1;
        }
        if self.is_zoomed || width < 60 || rest.height < 12 {
            screen.panes.push((self.focus, rest));
            return screen;
        }
        let machines = u16::try_from(self.marks.len()).unwrap_or(u16::MAX);
        let more = machines
            .saturating_sub(1)
            .min(rest.height.saturating_sub(20) / 4);
        let (above, timeline) = split_bottom(rest, 5 + more);
        screen.panes = self.above_timeline(above);
        screen.panes.push((Pane::Timeline, timeline));
        screen
    }

    fn above_timeline(&self, area: Rect) -> Vec<(Pane, Rect)> {
        let mut panes = Vec::new();
        let wide = area.width >= 120;
        let huge = area.width >= 190 && area.height >= 38;
        let (machines, mut rest) = split_left(area, if wide { 30 } else { 26 });
        panes.push((Pane::Machines, machines));
        if wide {
            let (schema, right) = split_left(rest, if huge { 46 } else { 38 });
            panes.push((Pane::Schema, schema));
            rest = right;
        }
        if huge {
            let columns = cut(rest, &[1, 1], true);
            let left = cut(columns[0], &[5, 3, 3], false);
            let right = cut(columns[1], &[5, 3, 3], false);
            panes.extend([
                (Pane::Transition, left[0]),
                (Pane::Why, left[1]),
                (Pane::Diagram, left[2]),
                (Pane::Rain, right[0]),
                (Pane::Lens, right[1]),
                (Pane::Log, right[2]),
            ]);
            return panes;
        }
        // What had the focus last is in sight, as many as fit.
        let slots = match (wide, area.width >= 160, area.height >= 30) {
            (false, _, _) | (true, false, false) => cut(rest, &[1], true),
            (true, true, false) => cut(rest, &[1, 1], true),
            (true, false, true) => cut(rest, &[1, 1], false),
            (true, true, true) => {
                let columns = cut(rest, &[1, 1], true);
                let mut slots = cut(columns[0], &[3, 2], false);
                slots.extend(cut(columns[1], &[3, 2], false));
                slots
            }
        };
        let taken =
            |pane: &Pane| *pane == Pane::Timeline || panes.iter().any(|(other, _)| other == pane);
        let by_use = self.recent.iter().chain(&[
            Pane::Transition,
            Pane::Rain,
            Pane::Log,
            Pane::Why,
            Pane::Lens,
            Pane::Diagram,
        ]);
        let mut shown: Vec<Pane> = Vec::new();
        for pane in by_use {
            if shown.len() < slots.len() && !taken(pane) && !shown.contains(pane) {
                shown.push(*pane);
            }
        }
        // Their order on the screen is always the same, so that nothing jumps about.
        shown.sort_unstable();
        panes.extend(shown.into_iter().zip(slots));
        panes
    }

    /// Where a pane is, its border included.
    pub(super) fn area_of(&self, pane: Pane) -> Option<Rect> {
        let screen = self.screen();
        let found = screen.panes.into_iter().find(|(of, _)| *of == pane);
        found.map(|(_, area)| area)
    }
}

/// What is within a border.
pub(super) fn inner(area: Rect) -> Rect {
    Rect {
        x: area.x + 1.min(area.width),
        y: area.y + 1.min(area.height),
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all() {
        let area = Rect::new(3, 4, 101, 37);
        for is_row in [true, false] {
            let pieces = cut(area, &[5, 3, 3], is_row);
            let sum: u32 = pieces.iter().map(|piece| piece.area()).sum();
            assert_eq!(sum, area.area());
        }
    }
}
