//! What happens to an [`App`].

use std::sync::Arc;

use ratatui::crossterm::event::{KeyEvent, KeyEventKind};

use super::super::store::{Connection, Store};
use super::action::{Action, Pane, action_of};
use super::job::{Done, Job, JobId};
use super::list::Target;
use super::marks::Breakpoint;
use super::overlay::Kind;
use super::prompt::Purpose;
use super::{App, Effect, Follow, Message, SPEEDS, words};

impl App {
    /// Takes what happened, and says what the program has to do.
    pub fn update(&mut self, message: Message) -> Vec<Effect> {
        let shared = Arc::clone(&self.store);
        let store = Self::read(&shared);
        // Since it was placed its entry may have been forgotten.
        self.clamp_cursor(&store);
        match message {
            Message::Key(key) => self.press(&store, &key),
            Message::Mouse(event) => self.mouse(&store, event),
            Message::Resize(width, height) => self.size = (width, height),
            Message::Told => {}
            Message::Tick => {
                self.spin = self.spin.wrapping_add(1);
                if self.follow == Follow::Playing {
                    self.play(&store);
                }
            }
            Message::Done(id, done) => self.done(id, done),
            Message::Say(text) => self.say(text),
            Message::Trouble(text) => self.trouble(text),
        }
        drop(store);
        self.settle();
        std::mem::take(&mut self.effects)
    }

    fn press(&mut self, store: &Store, key: &KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        if self.prompt.is_some() {
            return self.type_key(store, key);
        }
        let action = action_of(key, self.focus, self.overlay.is_some());
        if let Some(action) = action {
            self.notice = super::Notice::default();
            self.act(store, action);
        }
    }

    /// Does what a key stands for.
    pub(super) fn act(&mut self, store: &Store, action: Action) {
        if self.act_on_overlay(store, action) {
            return;
        }
        match action {
            Action::Quit => self.effects.push(Effect::Quit),
            Action::Help => self.open(Kind::Help),
            Action::Filters => self.open(Kind::Filters),
            Action::Places => self.open(Kind::Places),
            Action::Diff => self.open(Kind::Diff),
            Action::Close => self.close(),
            Action::NextPane => self.next_pane(1),
            Action::PreviousPane => self.next_pane(-1),
            Action::Show(pane) => self.focus_on(pane),
            Action::Zoom => self.is_zoomed ^= true,
            Action::Up => self.row(store, -1),
            Action::Down => self.row(store, 1),
            Action::PageUp => self.row(store, -self.page()),
            Action::PageDown => self.row(store, self.page()),
            Action::Open => self.open_row(store),
            Action::Previous => self.step(store, -1),
            Action::Next => self.step(store, 1),
            Action::Back10 => self.step(store, -10),
            Action::Forward10 => self.step(store, 10),
            Action::Back100 => self.step(store, -100),
            Action::Forward100 => self.step(store, 100),
            Action::First => self.go_to_end(store, false),
            Action::Last => self.go_to_end(store, true),
            Action::PreviousChange => self.go_to_change(store, false),
            Action::NextChange => self.go_to_change(store, true),
            Action::PreviousTrouble => self.go_to_trouble(store, false),
            Action::NextTrouble => self.go_to_trouble(store, true),
            Action::PreviousMachine => self.go_to_machine(store, -1),
            Action::NextMachine => self.go_to_machine(store, 1),
            Action::Play => self.toggle_play(),
            Action::Faster => self.change_speed(1),
            Action::Slower => self.change_speed(-1),
            Action::Tail => self.toggle_tail(),
            Action::Command => self.ask(Purpose::Command, ""),
            Action::Search => self.ask_search(),
            Action::Bookmark => self.ask(Purpose::Bookmark, ""),
            Action::Breakpoint => self.toggle_breakpoint(store),
            Action::Mark => self.mark(store),
            Action::Export => self.ask(Purpose::Export, self.file_name(store, "amrec")),
            Action::Copy => self.copy(store),
            Action::Waiters => self.ask_waiters(store),
            Action::HideGone => self.hide_gone ^= true,
            Action::ActiveFirst => self.folding.active_first ^= true,
            Action::FoldAll => {
                let lens = self.section_lens(store);
                self.folding.turn_all(&lens);
            }
            Action::ZoomIn => self.zoom_time(store, false),
            Action::ZoomOut => self.zoom_time(store, true),
            Action::ZoomAll => self.zoom = None,
            Action::MoreLog => self.log.level = (self.log.level + 1).min(5),
            Action::LessLog => self.log.level = (self.log.level - 1).max(1),
            Action::NextGroup => {
                let groups = self.section_lens(store).len();
                let next = self.rain_group.map_or(0, |group| group + 1);
                self.rain_group = (next < groups).then_some(next);
            }
            Action::Try => self.ask(Purpose::Try, "add "),
            Action::Smallest => self.search_smallest(),
            Action::NextView => self.view = self.view.next(),
            Action::Write => self.write_diagram(store),
            // These are for lists over the panes only.
            Action::Toggle | Action::Delete => {}
        }
    }

    fn close(&mut self) {
        if self.cancel() {
            self.drop_filter();
            return self.say("given up");
        }
        for search in [
            &mut self.folding.search,
            &mut self.machine_search,
            &mut self.log.search,
        ] {
            if !search.is_empty() {
                search.clear();
                return;
            }
        }
        if self.filter.text.take().is_some() {
            return;
        }
        if self.is_zoomed {
            self.is_zoomed = false;
        } else if self.state.is_some() {
            self.select(None);
        }
    }

    /// Shows a pane and has keys act on it.
    pub(super) fn focus_on(&mut self, pane: Pane) {
        self.focus = pane;
        self.recent.retain(|other| *other != pane);
        self.recent.insert(0, pane);
    }

    fn next_pane(&mut self, by: isize) {
        let shown: Vec<Pane> = if self.is_zoomed {
            Pane::ALL.to_vec()
        } else {
            let mut shown: Vec<Pane> = Pane::ALL.to_vec();
            let on_screen = self.screen().panes;
            // Where only one pane fits, all are walked through.
            if on_screen.len() > 3 {
                shown.retain(|pane| on_screen.iter().any(|(other, _)| other == pane));
            }
            shown
        };
        let len = isize::try_from(shown.len()).unwrap_or(1);
        let place = shown.iter().position(|pane| *pane == self.focus);
        let place = place
            .and_then(|place| isize::try_from(place).ok())
            .unwrap_or(0);
        let next = usize::try_from((place + by).rem_euclid(len)).unwrap_or(0);
        if let Some(pane) = shown.get(next) {
            self.focus_on(*pane);
        }
    }

    fn page(&self) -> isize {
        let height = self.lists[self.focus.place()].height.max(2) - 1;
        isize::try_from(height).unwrap_or(1)
    }

    /// Moves the row of the focused pane; where rows are moments, the moment.
    pub(super) fn row(&mut self, store: &Store, by: isize) {
        match self.focus {
            Pane::Rain => self.step(store, by),
            Pane::Timeline => self.go_to_machine(store, by.signum()),
            pane => self.lists[pane.place()].step(by),
        }
    }

    /// Follows the row that keys act on.
    pub(super) fn open_row(&mut self, store: &Store) {
        let cursor = self.lists[self.focus.place()].cursor;
        let row = match self.focus {
            Pane::Log => self.log_row(store, cursor),
            pane => match self.lists[pane.place()].at_cursor() {
                Some(row) => row.clone(),
                None => return,
            },
        };
        let Some(target) = row.target else {
            return;
        };
        if let (Pane::Schema, Target::State(state)) = (self.focus, target) {
            // A state's own row shows its relations; a relation's row goes to the other state.
            if self.state == Some(state) || self.folding.search.is_empty() {
                self.open_state(state);
            }
            self.folding.search.clear();
            self.select(Some(state));
            return self.show_state(store, state);
        }
        self.follow_target(store, target);
    }

    fn open_state(&mut self, state: u32) {
        let list = &self.lists[Pane::Schema.place()];
        let indented = list.at_cursor().is_some_and(|row| {
            let text = row.line.to_string();
            text.starts_with("     ")
        });
        if !indented {
            self.folding.open(state);
        }
    }

    /// Has the schema's row of a state in sight.
    fn show_state(&mut self, store: &Store, state: u32) {
        let rows = self.schema_rows(store);
        let is_own = |row: &super::list::Row| {
            row.target == Some(Target::State(state)) && !row.line.to_string().starts_with("     ")
        };
        let list = &mut self.lists[Pane::Schema.place()];
        if let Some(place) = rows.iter().position(is_own) {
            list.len = rows.len();
            list.cursor = place;
        }
    }

    pub(super) fn follow_target(&mut self, store: &Store, target: Target) {
        match target {
            Target::Entry(machine, index) => self.go(store, machine, index),
            Target::Machine(machine) => self.look_at(store, machine),
            Target::State(state) => {
                self.select(Some(state));
                self.show_state(store, state);
            }
            Target::Wall(wall) => self.go_to_wall(store, wall),
            Target::Section(section) => self.folding.turn(section),
            Target::Smallest => self.search_smallest(),
            Target::Try => self.ask(Purpose::Try, "add "),
        }
    }

    fn toggle_play(&mut self) {
        self.follow = match self.follow {
            Follow::Playing => Follow::Paused,
            Follow::Paused | Follow::Tail => Follow::Playing,
        };
    }

    fn change_speed(&mut self, by: isize) {
        self.speed = self.speed.saturating_add_signed(by).min(SPEEDS.len() - 1);
        self.say(format!("{} transitions a second", SPEEDS[self.speed]));
    }

    fn toggle_tail(&mut self) {
        self.follow = match self.follow {
            Follow::Tail => Follow::Paused,
            Follow::Paused | Follow::Playing => Follow::Tail,
        };
    }

    fn ask_search(&mut self) {
        let text = match self.focus {
            Pane::Machines => self.machine_search.clone(),
            Pane::Schema => self.folding.search.clone(),
            Pane::Log => self.log.search.clone(),
            _ => self.filter.text.clone().unwrap_or_default(),
        };
        self.ask(Purpose::Search(self.focus), text);
    }

    fn toggle_breakpoint(&mut self, store: &Store) {
        let (Some(machine), Some(state)) = (self.machine, self.state) else {
            return self.say("select a state first: Enter in the schema, or search with /");
        };
        let name = self.name_of(store, state).unwrap_or_default();
        let is_it = |one: &Breakpoint| one.machine == machine && one.state == state;
        let before = self.breakpoints.len();
        self.breakpoints.retain(|one| !is_it(one));
        if self.breakpoints.len() < before {
            return self.say(format!("no breakpoint on {name} any more"));
        }
        self.breakpoints.push(Breakpoint {
            machine,
            state,
            end: store.machine(machine).end(),
        });
        self.say(format!("following stops when {name} begins or ends"));
    }

    fn mark(&mut self, store: &Store) {
        let (Some(machine), Some(cursor)) = (self.machine, self.cursor) else {
            return self.trouble("there is no moment to mark yet");
        };
        self.mark = Some((machine, cursor));
        let revision = store.machine(machine).position(cursor).revision;
        let revision = words::count(revision);
        self.say(format!(
            "A is revision {revision}; D compares the cursor with it"
        ));
    }

    fn copy(&mut self, store: &Store) {
        match self.address(store) {
            Some(address) => {
                self.say(format!("copied {address}"));
                self.effects.push(Effect::Copy(address));
            }
            None => self.trouble("there is no moment to copy the address of yet"),
        }
    }

    fn ask_waiters(&mut self, store: &Store) {
        let Some(machine) = self.machine else {
            return;
        };
        if *store.connection(machine) == Connection::Connected
            && matches!(self.source, super::Source::Listening(_))
        {
            self.effects.push(Effect::Ask(machine));
            self.say("asked; the answer is at the end of the transition");
        } else {
            self.say("only a node that is connected can be asked");
        }
    }

    fn zoom_time(&mut self, store: &Store, out: bool) {
        let Some((first, last)) = Self::whole_time(store) else {
            return;
        };
        let whole = last - first;
        let span = self.zoom.unwrap_or(whole);
        let span = if out {
            span.saturating_mul(2)
        } else {
            (span / 2).max(10)
        };
        self.zoom = (span < whole).then_some(span);
    }

    fn search_smallest(&mut self) {
        let (Some(machine), Some(index)) = (self.machine, self.cursor) else {
            return;
        };
        let Some(state) = self.state else {
            return self.say("select a state first: Enter in the schema, or search with /");
        };
        let job = Job::Smallest {
            machine,
            index,
            state,
        };
        self.run("searching the smallest mutations", job);
    }

    fn done(&mut self, id: JobId, done: Done) {
        if self.work.as_ref().is_none_or(|(of, _)| *of != id) {
            return;
        }
        self.work = None;
        match done {
            Done::Filtered(visible) => {
                self.visible = Some(*visible);
                self.is_stale = true;
            }
            Done::Smallest(lines) => self.answers.smallest = lines,
            Done::Tried(lines) => {
                self.answers.tried = lines;
                self.focus_on(Pane::Why);
            }
            Done::Wrote(text) => self.say(text),
            Done::Failed(why) => self.trouble(why),
        }
    }
}
