//! What follows from what has changed: rows, the moment under the cursor, breakpoints.

use std::sync::Arc;

use super::super::store::{Filter, MachineId, Store, Visible};
use super::action::Pane;
use super::job::Job;
use super::layout::inner;
use super::{App, Follow};
use crate::debug::frame::Body;

/// How many entries a filter may look at while the screen waits.
const AT_ONCE: usize = 2_000_000;

/// The same for a filter that has to look into them.
const AT_ONCE_INSIDE: usize = 100_000;

impl App {
    /// Makes all that is shown fit what has changed.
    pub(super) fn settle(&mut self) {
        let shared = Arc::clone(&self.store);
        let store = Self::read(&shared);
        if self.machine.is_none() {
            self.machine = self.machine_order(&store).first().copied();
            self.is_stale = true;
        }
        for history in store.machines() {
            self.marks.entry(history.id()).or_default().update(history);
        }
        self.clamp_cursor(&store);
        // It may have the cursor go to another machine.
        self.stop_at_breakpoints(&store);
        if let Some(machine) = self.machine {
            self.held = store.machine(machine).len();
            self.filter_entries(&store, machine);
            self.place_cursor(&store, machine);
            self.look(&store, machine);
        }
        self.log.update(&store, self.machine);
        self.make_rows(&store);
    }

    fn filter_entries(&mut self, store: &Store, machine: MachineId) {
        let fits = self.visible.as_ref().is_some_and(|visible| {
            visible.machine() == machine && *visible.filter() == self.filter
        });
        if fits {
            if let Some(visible) = &mut self.visible {
                visible.update(store);
            }
            return;
        }
        let entries = store.machine(machine).len();
        let inside = self.filter.text.is_some() || self.filter.group.is_some();
        let most = if inside { AT_ONCE_INSIDE } else { AT_ONCE };
        if entries <= most {
            self.visible = Some(Visible::new(store, machine, self.filter.clone()));
            self.is_stale = true;
            return;
        }
        self.visible = None;
        let what = format!("filtering {entries} transitions");
        let asked = self.work.as_ref().is_some_and(|(_, of)| *of == what);
        if !asked {
            let filter = self.filter.clone();
            self.run(what, Job::Filter { machine, filter });
        }
    }

    /// Whether entries are being filtered on another thread: then nothing is known of what is shown.
    pub(super) fn drop_filter(&mut self) {
        if self.visible.is_none() {
            self.filter = Filter::default();
            self.group = None;
        }
    }

    fn stop_at_breakpoints(&mut self, store: &Store) {
        let mut hit = None;
        for breakpoint in &mut self.breakpoints {
            let history = store.machine(breakpoint.machine);
            let from = breakpoint.end.max(history.start());
            for i in from..history.end() {
                if hit.is_some() {
                    break;
                }
                if history.has_turned(i, breakpoint.state) {
                    hit = Some((breakpoint.machine, i, breakpoint.state));
                }
            }
            breakpoint.end = history.end();
        }
        let Some((machine, i, state)) = hit.filter(|_| self.follow == Follow::Tail) else {
            return;
        };
        self.go(store, machine, i);
        self.state = Some(state);
        let name = self.name_of(store, state).unwrap_or_default();
        let of = store.machine(machine).name();
        let now = store.machine(machine).ticks_after(i);
        let what = if now.is_active(state) {
            "began"
        } else {
            "ended"
        };
        self.say(format!("stopped: {name} {what} in {of}; T follows again"));
    }

    fn place_cursor(&mut self, store: &Store, machine: MachineId) {
        let history = store.machine(machine);
        if self.follow == Follow::Tail {
            let latest = store.machines().iter();
            let latest = latest.filter_map(|history| Some(history.wall(history.last()?)));
            self.wall = latest.max().unwrap_or(0);
            let last = self.visible.as_ref();
            let last = last.map_or_else(
                || history.last(),
                |visible| visible.get(visible.len().checked_sub(1)?),
            );
            if self.cursor != last {
                self.is_stale = true;
            }
            self.cursor = last;
            return;
        }
        if self.cursor.is_none() && self.wall == 0 {
            // A recording begins at its begin.
            let first = self.visible.as_ref().and_then(|visible| visible.get(0));
            let first = first.or_else(|| (!history.is_empty()).then(|| history.start()));
            if let Some(first) = first {
                (self.cursor, self.wall) = (Some(first), history.wall(first));
                self.is_stale = true;
            }
        }
    }

    /// Moves a cursor whose entry was forgotten to the first one that is held.
    pub(super) fn clamp_cursor(&mut self, store: &Store) {
        let (Some(machine), Some(cursor)) = (self.machine, self.cursor) else {
            return;
        };
        let history = store.machine(machine);
        if history.range().contains(&cursor) {
            return;
        }
        self.cursor = (!history.is_empty()).then(|| history.start());
        if let Some(cursor) = self.cursor {
            self.wall = history.wall(cursor);
        }
        self.is_stale = true;
    }

    /// Takes what is under the cursor.
    fn look(&mut self, store: &Store, machine: MachineId) {
        if !self.is_stale {
            return;
        }
        self.is_stale = false;
        let history = store.machine(machine);
        self.entry = self.cursor.map(|i| history.entry(i));
        self.moment = self.cursor.map(|i| history.ticks_after(i));
        let transition = self
            .entry
            .as_ref()
            .filter(|entry| matches!(entry.body, Body::Transition(_)));
        self.steps = transition.map(|entry| store.steps(machine, entry.index));
        let of = self.cursor.map(|i| (machine, i, self.state));
        if self.answers.of != of {
            self.answers = super::Answers {
                of,
                ..Default::default()
            };
        }
    }

    fn make_rows(&mut self, store: &Store) {
        // How many machines there are decides where panes are.
        let machines = self.machine_rows(store);
        self.lists[Pane::Machines.place()].set(machines);
        for (pane, area) in self.screen().panes {
            let area = inner(area);
            let width = usize::from(area.width);
            let place = pane.place();
            match pane {
                Pane::Machines => {}
                Pane::Schema => {
                    let rows = self.schema_rows(store);
                    self.lists[place].set(rows);
                }
                Pane::Timeline => self.strip = self.make_strip(store, area),
                Pane::Transition => {
                    let rows = self.transition_rows(store, width);
                    self.lists[place].set(rows);
                }
                Pane::Log => self.place_log(store),
                Pane::Rain => self.place_rain(),
                Pane::Lens => {
                    let mut rows = self.lens_rows(store, width);
                    rows.extend(self.link_rows(store, width));
                    self.lists[place].set(rows);
                }
                Pane::Why => {
                    let rows = self.why_rows(store, width);
                    self.lists[place].set(rows);
                }
                Pane::Diagram => {
                    self.make_diagram(store);
                    let rows = self.diagram_rows(store, width);
                    self.lists[place].set(rows);
                }
            }
            self.lists[place].fit(self.rows_in(pane, usize::from(area.height)));
        }
        self.make_overlay(store);
    }

    /// How many rows of a pane's list are in sight: some panes have a heading that stays.
    pub(super) fn rows_in(&self, pane: Pane, height: usize) -> usize {
        let _ = self;
        match pane {
            Pane::Rain => height.saturating_sub(Self::rain_heading_rows(height)),
            _ => height,
        }
    }
}
