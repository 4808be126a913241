//! The states of the machine under the cursor: by groups, or the active ones first.

use std::collections::BTreeSet;

use ratatui::text::{Line, Span};

use super::super::super::store::Store;
use super::super::App;
use super::super::action::Pane;
use super::super::layout::inner;
use super::super::list::{Row, Target};
use super::super::theme::Tone;
use super::super::words;
use super::{apart, shorten};
use crate::schema::{Relation, Schema};

/// A section with more states than this begins folded.
const LONG: usize = 24;

/// What is unfolded.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Folding {
    /// Sections that are not as they began, by their place.
    turned: BTreeSet<usize>,
    /// States whose relations are shown.
    open: BTreeSet<u32>,
    pub(in super::super) active_first: bool,
    pub(in super::super) search: String,
}

impl Folding {
    pub(in super::super) fn turn(&mut self, section: usize) {
        if !self.turned.remove(&section) {
            self.turned.insert(section);
        }
    }

    /// Shows the relations of a state, or hides them.
    pub(in super::super) fn open(&mut self, state: u32) {
        if !self.open.remove(&state) {
            self.open.insert(state);
        }
    }

    fn is_folded(&self, section: usize, len: usize) -> bool {
        (len > LONG) != self.turned.contains(&section)
    }

    /// Unfolds all sections, or folds them if all are unfolded.
    pub(in super::super) fn turn_all(&mut self, lens: &[usize]) {
        let sections = lens.iter().enumerate();
        let folded = |(section, len): &(usize, &usize)| self.is_folded(*section, **len);
        let any = sections.clone().any(|section| folded(&section));
        let turned = sections.filter(|(_, len)| (**len > LONG) == any);
        self.turned = turned.map(|(section, _)| section).collect();
    }

    pub(in super::super) fn clear(&mut self) {
        self.turned.clear();
        self.open.clear();
    }
}

/// The sections: states in no group, then each group. The name of the first is empty.
pub(in super::super) fn sections(schema: &Schema) -> Vec<(String, Vec<u32>)> {
    let mut grouped = vec![false; schema.len()];
    let mut groups = Vec::new();
    for group in schema.groups() {
        let members = group.all_members().to_vec();
        for member in &members {
            grouped[*member as usize] = true;
        }
        groups.push((group.name().to_owned(), members));
    }
    let rest: Vec<u32> = (0..)
        .zip(&grouped)
        .filter(|(_, grouped)| !**grouped)
        .map(|(state, _)| state)
        .collect();
    if !rest.is_empty() {
        groups.insert(0, (String::new(), rest));
    }
    groups
}

impl App {
    pub(in super::super) fn schema_rows(&self, store: &Store) -> Vec<Row> {
        let Some(machine) = self.machine else {
            return Vec::new();
        };
        let schema = store.machine(machine).schema();
        let width = self.area_of(Pane::Schema);
        let width = width.map_or(36, |area| usize::from(inner(area).width));
        let needle = self.folding.search.to_lowercase();
        if !needle.is_empty() || self.folding.active_first {
            let all: Vec<u32> = (0..).take(schema.len()).collect();
            let found = |state: &u32| {
                needle.is_empty() || words::name(schema, *state).to_lowercase().contains(&needle)
            };
            let mut all: Vec<u32> = all.into_iter().filter(found).collect();
            if self.folding.active_first {
                all.sort_by_key(|state| !self.is_active(*state));
            }
            let mut rows = Vec::new();
            for state in all {
                self.state_rows(schema, state, width, &mut rows);
            }
            return rows;
        }
        let mut rows = Vec::new();
        for (section, (name, states)) in sections(schema).iter().enumerate() {
            let is_folded = self.folding.is_folded(section, states.len());
            let active = states
                .iter()
                .filter(|state| self.is_active(**state))
                .count();
            let symbols = self.theme.symbols();
            let sign = if is_folded {
                symbols.folded
            } else {
                symbols.open
            };
            let name = if name.is_empty() { "states" } else { name };
            let counts = format!("{active}/{}", states.len());
            let room = width.saturating_sub(counts.len() + 3);
            let name = shorten(name, room, symbols.ellipsis);
            let left = vec![self.span(Tone::Head, format!("{sign} {name}"))];
            let line = apart(left, vec![self.span(Tone::Dim, counts)], width);
            rows.push(Row::to(line, Target::Section(section)));
            // Of a folded section the active states are shown all the same, and the selected one.
            for state in states {
                if !is_folded || self.is_active(*state) || self.state == Some(*state) {
                    self.state_rows(schema, *state, width, &mut rows);
                }
            }
        }
        rows
    }

    pub(in super::super) fn is_active(&self, state: u32) -> bool {
        let moment = self.moment.as_ref();
        moment.is_some_and(|moment| moment.is_active(state))
    }

    /// The lengths of the sections.
    pub(in super::super) fn section_lens(&self, store: &Store) -> Vec<usize> {
        let Some(machine) = self.machine else {
            return Vec::new();
        };
        let sections = sections(store.machine(machine).schema());
        sections.iter().map(|(_, states)| states.len()).collect()
    }

    fn state_rows(&self, schema: &Schema, state: u32, width: usize, rows: &mut Vec<Row>) {
        let index = state as usize;
        let moment = self.moment.as_ref();
        let tick = moment.and_then(|moment| moment.ticks.get(index)).copied();
        let mut flags = String::new();
        let all = [
            (schema.is_auto(index), "auto "),
            (schema.is_multi(index), "multi "),
            (schema.takes_payload(index), "payload "),
        ];
        for (_, name) in all.into_iter().filter(|(is, _)| *is) {
            flags.push_str(name);
        }
        let breaks = self.breakpoints.iter();
        let mut breaks = breaks.filter(|one| Some(one.machine) == self.machine);
        let is_break = breaks.any(|one| one.state == state);
        let mark = if is_break {
            self.theme.symbols().breakpoint
        } else {
            " "
        };
        let right = vec![
            self.span(Tone::Dim, flags),
            Span::raw(words::count(tick.unwrap_or(0))),
        ];
        let taken: usize = right.iter().map(Span::width).sum();
        let symbols = self.theme.symbols();
        let name = shorten(
            words::name(schema, state),
            width.saturating_sub(taken + 5),
            symbols.ellipsis,
        );
        let name = if self.state == Some(state) {
            self.span(Tone::Selected, name)
        } else if self.has_changed(state) {
            self.span(Tone::Changed, name)
        } else if self.is_active(state) {
            self.span(Tone::Active, name)
        } else {
            Span::raw(name)
        };
        let left = vec![
            self.span(Tone::Error, mark),
            Span::raw(" "),
            self.activity(state),
            Span::raw(" "),
            name,
        ];
        rows.push(Row::to(apart(left, right, width), Target::State(state)));
        if !self.folding.open.contains(&state) {
            return;
        }
        let mut none = true;
        for relation in Relation::ALL {
            let related = schema.related(relation, index);
            for other in related {
                none = false;
                let text = format!("      {:<8}", relation.name().to_lowercase());
                rows.push(Row::to(
                    Line::from(vec![
                        self.span(Tone::Dim, text),
                        self.activity(*other),
                        Span::raw(" "),
                        self.state_name(schema, *other),
                    ]),
                    Target::State(*other),
                ));
            }
        }
        if none {
            rows.push(self.dim("      no relations"));
        }
    }

    /// Whether a state ticked in the entry under the cursor.
    pub(in super::super) fn has_changed(&self, state: u32) -> bool {
        use crate::debug::frame::Body;
        let changes = match self.entry.as_ref().map(|entry| &entry.body) {
            Some(Body::Transition(told)) => &told.changes,
            Some(Body::Followed(told)) => &told.changes,
            _ => return false,
        };
        changes.iter().any(|change| change.state == state)
    }
}
