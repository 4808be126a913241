//! Moving the cursor in time, and from machine to machine.

use super::super::store::{MachineId, Store, Visible};
use super::{App, Follow};

impl App {
    /// Goes so many transitions ahead or back, of those that are shown.
    pub(super) fn step(&mut self, store: &Store, by: isize) {
        let Some(machine) = self.machine else {
            return;
        };
        let history = store.machine(machine);
        let to = match (&self.visible, self.cursor) {
            (Some(visible), Some(cursor)) => step_in(visible, cursor, by),
            (Some(visible), None) if by > 0 => visible.get(0),
            (None, Some(cursor)) => {
                let last = history.end().saturating_sub(1);
                let to = cursor.saturating_add_signed(by);
                Some(to.clamp(history.start().min(last), last))
            }
            _ => None,
        };
        match to {
            Some(to) => self.go(store, machine, to),
            None if by < 0 => self.pause(),
            None => {}
        }
    }

    /// Goes to an entry, of any machine.
    pub(super) fn go(&mut self, store: &Store, machine: MachineId, index: usize) {
        self.pause();
        self.look_at(store, machine);
        let history = store.machine(machine);
        if history.range().contains(&index) {
            self.cursor = Some(index);
            self.wall = history.wall(index);
            self.is_stale = true;
        } else {
            self.trouble("what was there is not held any more");
        }
    }

    /// Goes to a time, in the same machine.
    pub(super) fn go_to_wall(&mut self, store: &Store, wall: u64) {
        let Some(machine) = self.machine else {
            return;
        };
        self.pause();
        self.wall = wall;
        self.cursor = store.machine(machine).last_at(wall);
        self.is_stale = true;
    }

    /// Goes to the first or the last entry that is shown.
    pub(super) fn go_to_end(&mut self, store: &Store, forward: bool) {
        let (Some(machine), Some(visible)) = (self.machine, &self.visible) else {
            return;
        };
        let last = visible.len().saturating_sub(1);
        if let Some(to) = visible.get(if forward { last } else { 0 }) {
            self.go(store, machine, to);
        }
    }

    /// Looks at another machine, at the same time.
    pub(super) fn look_at(&mut self, store: &Store, machine: MachineId) {
        if self.machine == Some(machine) {
            return;
        }
        let name = self.state.and_then(|state| self.name_of(store, state));
        let history = store.machine(machine);
        let before = self.machine.map(|before| store.machine(before).schema());
        let of_one =
            before.is_none_or(|before| before.fingerprint() == history.schema().fingerprint());
        if !of_one {
            self.folding.clear();
            // A filter of states is of one schema.
            self.filter.group = None;
            self.group = None;
            self.rain_group = None;
        }
        self.machine = Some(machine);
        self.cursor = history.last_at(self.wall);
        self.state = name
            .and_then(|name| history.schema().find(&name))
            .and_then(|state| u32::try_from(state).ok());
        self.visible = None;
        self.is_stale = true;
    }

    /// The name of a state of the machine that is looked at.
    pub(super) fn name_of(&self, store: &Store, state: u32) -> Option<String> {
        let schema = store.machine(self.machine?).schema();
        let known = (state as usize) < schema.len();
        known.then(|| schema.name_of(state as usize).to_owned())
    }

    /// Goes to the next or previous change of the selected state.
    pub(super) fn go_to_change(&mut self, store: &Store, forward: bool) {
        let Some(machine) = self.machine else {
            return;
        };
        let Some(state) = self.state else {
            return self.say("select a state first: Enter in the schema, or search with /");
        };
        let history = store.machine(machine);
        let visible = self.visible.as_ref();
        let to = match self.cursor {
            Some(cursor) => history.next_change(state, cursor, forward, visible),
            // Before all entries the first one counts as well.
            None if forward && !history.is_empty() => {
                let first = history.start();
                let shown = visible.is_none_or(|visible| visible.contains(first));
                let here = shown && history.has_turned(first, state);
                here.then_some(first)
                    .or_else(|| history.next_change(state, first, true, visible))
            }
            None => None,
        };
        if let Some(to) = to {
            return self.go(store, machine, to);
        }
        let name = self.name_of(store, state).unwrap_or_default();
        let way = if forward { "later" } else { "earlier" };
        self.say(format!("{name} has no {way} change that is shown"));
    }

    /// Goes to the next or previous error or refusal that is shown.
    pub(super) fn go_to_trouble(&mut self, store: &Store, forward: bool) {
        let Some(machine) = self.machine else {
            return;
        };
        let near = match (self.marks.get(&machine), self.cursor) {
            (Some(marks), Some(cursor)) => marks.near(cursor, forward),
            (Some(marks), None) if forward => marks.all(),
            _ => Vec::new(),
        };
        let shown = |i: &usize| {
            let visible = self.visible.as_ref();
            visible.is_none_or(|visible| visible.contains(*i))
        };
        if let Some(to) = near.into_iter().find(shown) {
            return self.go(store, machine, to);
        }
        let way = if forward { "later" } else { "earlier" };
        self.say(format!("no {way} error or refusal is shown"));
    }

    /// The machine above or below in the list.
    pub(super) fn go_to_machine(&mut self, store: &Store, by: isize) {
        let order = self.machine_order(store);
        let place = order.iter().position(|id| Some(*id) == self.machine);
        let last = order.len().saturating_sub(1);
        let to = place.unwrap_or(0).saturating_add_signed(by).min(last);
        if let Some(id) = order.get(to) {
            self.look_at(store, *id);
        }
    }

    /// Stops following and playing.
    pub(super) fn pause(&mut self) {
        if self.follow == Follow::Tail {
            self.follow = Follow::Paused;
        }
    }

    /// One step of playing.
    pub(super) fn play(&mut self, store: &Store) {
        let (Some(machine), Some(visible)) = (self.machine, &self.visible) else {
            return;
        };
        let next = match self.cursor {
            None => visible.get(0),
            Some(cursor) => match visible.place(cursor) {
                Ok(place) => visible.get(place + 1),
                Err(place) => visible.get(place),
            },
        };
        if let Some(to) = next {
            return self.go(store, machine, to);
        }
        self.follow = Follow::Paused;
        self.say("played to the end");
    }
}

/// Where one comes from an entry by so many of those that pass.
fn step_in(visible: &Visible, cursor: usize, by: isize) -> Option<usize> {
    let last = visible.len().checked_sub(1)?;
    let to = match visible.place(cursor) {
        Ok(place) => place.saturating_add_signed(by),
        // The first that passes is a step away, whichever way.
        Err(place) if by > 0 => place.saturating_add_signed(by - 1),
        Err(place) => place.checked_add_signed(by)?,
    };
    visible.get(to.min(last))
}
