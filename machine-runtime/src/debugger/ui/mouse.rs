//! What the mouse does; nothing needs it.

use ratatui::crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::super::store::Store;
use super::App;
use super::action::{Action, Pane};
use super::layout::inner;
use super::pane::rain::BEFORE;

impl App {
    pub(super) fn mouse(&mut self, store: &Store, event: MouseEvent) {
        let at = Position::new(event.column, event.row);
        let screen = self.screen();
        match event.kind {
            MouseEventKind::ScrollUp => self.wheel(store, at, -1),
            MouseEventKind::ScrollDown => self.wheel(store, at, 1),
            MouseEventKind::Down(MouseButton::Left) => {
                if screen.keys.is_some_and(|keys| keys.contains(at)) {
                    self.click_key(store, at.x);
                } else if self.overlay.is_some() {
                    self.click_overlay(store, at);
                } else if let Some((pane, area)) = pane_at(&screen.panes, at) {
                    self.click(store, pane, area, at);
                }
            }
            MouseEventKind::Drag(MouseButton::Left) if self.overlay.is_none() => {
                if let Some((Pane::Timeline, area)) = pane_at(&screen.panes, at) {
                    self.click(store, Pane::Timeline, area, at);
                }
            }
            _ => {}
        }
    }

    fn wheel(&mut self, store: &Store, at: Position, by: isize) {
        if self.overlay.is_some() {
            let action = if by < 0 { Action::Up } else { Action::Down };
            self.act_on_overlay(store, action);
            return;
        }
        match pane_at(&self.screen().panes, at) {
            Some((Pane::Timeline, _)) => self.step(store, by * 5),
            Some((Pane::Rain, _)) => self.step(store, by),
            Some((pane, _)) => {
                self.focus_on(pane);
                self.lists[pane.place()].step(by * 3);
            }
            None => {}
        }
    }

    fn click(&mut self, store: &Store, pane: Pane, area: Rect, at: Position) {
        self.focus_on(pane);
        let area = inner(area);
        if !area.contains(at) {
            return;
        }
        let (column, row) = (at.x - area.x, usize::from(at.y - area.y));
        match pane {
            Pane::Timeline => {
                let wall = self.strip.wall_at(column);
                self.go_to_wall(store, wall);
            }
            Pane::Rain => {
                let offset = self.lists[pane.place()].offset;
                let states = self.rain_states(store, usize::from(area.width));
                let state = usize::from(column).checked_sub(BEFORE);
                if let Some(state) = state.and_then(|n| states.get(n)) {
                    self.select(Some(*state));
                }
                let heading = Self::rain_heading_rows(usize::from(area.height));
                let n = row.checked_sub(heading).map(|row| offset + row);
                let visible = self.visible.as_ref();
                let to = n.and_then(|n| visible?.get(n));
                if let (Some(machine), Some(to)) = (self.machine, to) {
                    self.go(store, machine, to);
                }
            }
            _ => {
                let list = &mut self.lists[pane.place()];
                let n = list.offset + row;
                if n < list.len {
                    let again = list.cursor == n;
                    list.cursor = n;
                    // One click selects; a machine is looked at, others need a second one.
                    if again || pane == Pane::Machines {
                        self.open_row(store);
                    } else if pane == Pane::Schema {
                        let target = list.at_cursor().and_then(|row| row.target);
                        if let Some(super::list::Target::State(state)) = target {
                            self.select(Some(state));
                        }
                    }
                }
            }
        }
    }

    fn click_overlay(&mut self, store: &Store, at: Position) {
        let Some(overlay) = &mut self.overlay else {
            return;
        };
        let len = overlay.list.len;
        let area = self.overlay_area(len);
        if !area.contains(at) {
            self.overlay = None;
            return;
        }
        let area = inner(area);
        if let Some(overlay) = &mut self.overlay
            && area.contains(at)
        {
            overlay.list.cursor = overlay.list.offset + usize::from(at.y - area.y);
            overlay.list.cursor = overlay.list.cursor.min(len.saturating_sub(1));
            self.act_on_overlay(store, Action::Open);
        }
    }

    fn click_key(&mut self, store: &Store, column: u16) {
        let mut from = 0;
        for (action, span) in self.key_bar() {
            let to = from + span;
            if (from..to).contains(&usize::from(column)) {
                return self.act(store, action);
            }
            from = to;
        }
    }
}

fn pane_at(panes: &[(Pane, Rect)], at: Position) -> Option<(Pane, Rect)> {
    panes.iter().copied().find(|(_, area)| area.contains(at))
}
