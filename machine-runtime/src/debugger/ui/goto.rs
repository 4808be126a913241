//! Where a typed line leads to.

use std::path::PathBuf;

use super::super::store::{MachineId, Selection, Store};
use super::job::Job;
use super::marks::Bookmark;
use super::{App, States, words};
use crate::mutation::Op;
use crate::position::Position;

impl App {
    /// `12:03:04`, `rev 1234`, `n 12`, `m MACHINE`, `s STATE`, `MACHINE@EPOCH.REVISION`.
    pub(super) fn go_to_text(&mut self, store: &Store, text: &str) {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        match word {
            "" => {}
            "rev" | "r" => self.go_to_revision(store, rest),
            "n" => self.go_to_number(store, rest),
            "m" => match self.find_machine(store, rest) {
                Some(machine) => self.look_at(store, machine),
                None => self.trouble(format!("no machine is called `{rest}`")),
            },
            "s" => self.select_by_name(store, rest),
            _ => {
                if let Some(of_day) = words::parse_clock(text) {
                    let wall = words::on_day_of(self.wall, of_day);
                    self.go_to_wall(store, wall);
                    if let Some((first, last)) = Self::whole_time(store)
                        && !(first..=last).contains(&wall)
                    {
                        let (first, last) = (words::date(first), words::date(last));
                        self.say(format!(
                            "that is outside of what is held, {first} to {last}"
                        ));
                    }
                } else if let Some((name, position)) = text.rsplit_once('@') {
                    self.go_to_address(store, name, position);
                } else {
                    self.trouble(format!(
                        "`{text}` is no time like 12:03:04, no `rev N`, `n N`, `m MACHINE`, `s STATE`, \
                         nor an address like root@EPOCH.REVISION"
                    ));
                }
            }
        }
    }

    fn go_to_revision(&mut self, store: &Store, text: &str) {
        let Some(machine) = self.machine else {
            return;
        };
        let Ok(revision) = text.replace(',', "").parse() else {
            return self.trouble(format!("`{text}` is no revision, which is a number"));
        };
        let history = store.machine(machine);
        // Before all entries it is of the first one.
        let first = || (!history.is_empty()).then(|| history.start());
        let Some(from) = self.cursor.or_else(first) else {
            return self.trouble(self.nothing(store));
        };
        let epoch = history.position(from).epoch;
        match history.first_at(Position { epoch, revision }) {
            Some(to) => self.go(store, machine, to),
            None => self.trouble(format!(
                "{} has not come to revision {text}",
                history.name()
            )),
        }
    }

    fn go_to_number(&mut self, store: &Store, text: &str) {
        let number = text.replace(',', "").parse::<usize>().ok();
        let to = number
            .and_then(|n| n.checked_sub(1))
            .and_then(|n| self.visible.as_ref()?.get(n));
        match (self.machine, to) {
            (Some(machine), Some(to)) => self.go(store, machine, to),
            _ => self.trouble(format!("`{text}` is no place among what is shown")),
        }
    }

    fn go_to_address(&mut self, store: &Store, name: &str, position: &str) {
        let Some(machine) = self.find_machine(store, name) else {
            return self.trouble(format!("no machine is called `{name}`"));
        };
        match position.parse::<Position>() {
            Ok(position) => match store.machine(machine).first_at(position) {
                Some(to) => self.go(store, machine, to),
                None => self.trouble(format!("{name} did not show {position}, or it is not held")),
            },
            Err(error) => self.trouble(error.to_string()),
        }
    }

    /// By its whole name, else by the begin of one.
    fn find_machine(&self, store: &Store, name: &str) -> Option<MachineId> {
        let order = self.machine_order(store);
        let whole = order.iter().find(|id| store.machine(**id).name() == name);
        let begin = || {
            let mut order = order.iter();
            order.find(|id| !name.is_empty() && store.machine(**id).name().starts_with(name))
        };
        whole.or_else(begin).copied()
    }

    fn select_by_name(&mut self, store: &Store, name: &str) {
        let Some(machine) = self.machine else {
            return;
        };
        match store.machine(machine).schema().find_or_suggest(name) {
            Ok(state) => self.select(u32::try_from(state).ok()),
            Err(error) => {
                let names = store.machine(machine).schema().names();
                let mut begin = names.filter(|known| !name.is_empty() && known.starts_with(name));
                let some: Vec<&str> = begin.by_ref().take(4).collect();
                let more = if begin.next().is_some() { ", …" } else { "" };
                let text = if some.is_empty() {
                    error.to_string()
                } else {
                    format!("no state is `{name}`; so begin {}{more}", some.join(", "))
                };
                self.trouble(text);
            }
        }
    }

    pub(super) fn select(&mut self, state: Option<u32>) {
        self.state = state;
        self.is_stale = true;
    }

    pub(super) fn set_bookmark(&mut self, name: &str) {
        let (Some(machine), Some(index)) = (self.machine, self.cursor) else {
            return self.trouble("there is nothing to set a bookmark at yet");
        };
        let name = if name.is_empty() {
            words::clock(self.wall)
        } else {
            name.to_owned()
        };
        self.say(format!("bookmark {name} is set; B lists them"));
        self.bookmarks.push(Bookmark {
            name,
            machine,
            index,
        });
    }

    /// The address of the moment.
    pub(super) fn address(&self, store: &Store) -> Option<String> {
        let history = store.machine(self.machine?);
        let position = history.position(self.cursor?);
        Some(format!("{}@{position}", history.name()))
    }

    pub(super) fn export(&mut self, store: &Store, text: &str) {
        let Some(machine) = self.machine else {
            return self.trouble("there is nothing to write yet");
        };
        if text.is_empty() {
            return;
        }
        let mut selection = Selection {
            filter: self.filter.clone(),
            ..Selection::default()
        };
        if self.zoom.is_some() {
            selection.walls = self.strip.from..=self.strip.to;
        }
        let job = Job::Export {
            process: store.machine(machine).process(),
            selection: Box::new(selection),
            path: PathBuf::from(text),
        };
        self.run(format!("writing {text}"), job);
    }

    /// `add A,B` or `add A B`.
    pub(super) fn try_text(&mut self, store: &Store, text: &str) {
        let (Some(machine), Some(index)) = (self.machine, self.cursor) else {
            return self.trouble("there is no moment to try it at yet");
        };
        let (op, names) = text.split_once(' ').unwrap_or((text, ""));
        let ops = [Op::Add, Op::Remove, Op::Set, Op::Toggle];
        let Some(op) = ops.into_iter().find(|known| known.name() == op) else {
            return self.trouble(format!(
                "`{op}` is nothing that can be tried: add, remove, set or toggle, as in `add A,B`"
            ));
        };
        let schema = store.machine(machine).schema();
        let mut states = Vec::new();
        for name in names.split([' ', ',']).filter(|name| !name.is_empty()) {
            match schema.find_or_suggest(name) {
                Ok(state) => states.extend(u32::try_from(state).ok()),
                Err(error) => return self.trouble(error.to_string()),
            }
        }
        if states.is_empty() {
            return self.trouble(format!("{op} which states? As in `{op} A,B`"));
        }
        let job = Job::Try {
            machine,
            index,
            op,
            states,
        };
        self.run(format!("trying {text}"), job);
    }

    /// The states of the filter's group.
    pub(super) fn group_states(&self, store: &Store, group: usize) -> Option<(String, States)> {
        let schema = store.machine(self.machine?).schema();
        let sections = super::pane::schema::sections(schema);
        let (name, states) = sections.into_iter().nth(group)?;
        let name = if name.is_empty() {
            "no group".to_owned()
        } else {
            name
        };
        Some((name, states.into_iter().collect()))
    }
}
