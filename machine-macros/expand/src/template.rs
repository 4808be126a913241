//! The template unrolled: where every copy of every line stands in the index order.
//!
//! A loop body has the same number of states in every round, so the index of a copy is a sum of
//! loop values times strides. Nothing is looked up by name that can be computed.

use std::collections::BTreeMap;

use proc_macro2::{Ident, Span};
use syn::LitStr;

use crate::counts::Resolved;
use crate::diagnostics::{self as say, At, Errors};
use crate::input::{self, Item, Last, Members, Name, Piece};
use crate::model::MAX_STATES;
use crate::names::{self, Shape};

/// A set of states: the template of this call, or one that it inherits.
pub(crate) struct Set<'a> {
    pub(crate) items: &'a [Item],
    pub(crate) counts: &'a Resolved,
    /// For an inherited set its name, and where this template names it.
    pub(crate) inherited: Option<(&'a str, Span)>,
}

pub(crate) struct Template<'a> {
    /// One line each state as written; the first is `Exception`.
    pub(crate) lines: Vec<Line<'a>>,
    pub(crate) groups: Vec<Group<'a>>,
    pub(crate) loops: Vec<Loop>,
    pub(crate) axes: Vec<Axis>,
    pub(crate) counts: Vec<(String, u32)>,
    /// The number of states.
    pub(crate) len: usize,
    tree: Vec<Entry>,
    group_names: BTreeMap<String, usize>,
}

/// A state as written.
pub(crate) struct Line<'a> {
    pub(crate) state: &'a input::State,
    /// The loops around it, outermost first.
    pub(crate) path: Vec<usize>,
    /// The groups that declare it, outermost first.
    pub(crate) groups: Vec<usize>,
    /// Its place in the body of the innermost loop.
    pub(crate) start: usize,
    pub(crate) shape: Shape,
    pub(crate) at: At,
    pub(crate) inherited: Option<&'a str>,
    /// Whether a mistake keeps it out of the enum.
    pub(crate) dropped: bool,
}

/// A group, or a family of groups when it stands in loops.
pub(crate) struct Group<'a> {
    pub(crate) name: String,
    pub(crate) docs: &'a [LitStr],
    pub(crate) exclusive: bool,
    pub(crate) path: Vec<usize>,
    pub(crate) members: Listing<'a>,
    pub(crate) at: At,
    pub(crate) inherited: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Listing<'a> {
    /// Declared in the group, hence next to each other: place in the body of the innermost loop.
    Run {
        start: usize,
        len: usize,
    },
    Names(&'a [Name]),
}

pub(crate) struct Loop {
    pub(crate) axis: usize,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// Where the first round starts in the body of the loop around it.
    pub(crate) start: usize,
    /// The number of states in a round.
    pub(crate) stride: usize,
}

/// A loop variable.
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// The count that it runs to, where it is not a number.
    pub(crate) count: Option<String>,
    pub(crate) at: At,
}

enum Entry {
    Line(usize),
    Loop(usize, Vec<Self>),
    Open(usize),
    Close(usize),
}

/// Where [`Template::declare`] stands.
struct Scope<'s, 'a> {
    set: &'s Set<'a>,
    path: Vec<usize>,
    groups: Vec<usize>,
}

impl<'a> Template<'a> {
    /// Lays out `sets` one behind the other, `exception` before them.
    pub(crate) fn build(
        name: &Ident,
        exception: &'a input::State,
        sets: &[Set<'a>],
        errors: &mut Errors,
    ) -> Self {
        let mut template = Self {
            lines: Vec::new(),
            groups: Vec::new(),
            loops: Vec::new(),
            axes: Vec::new(),
            counts: Vec::new(),
            len: 0,
            tree: Vec::new(),
            group_names: BTreeMap::new(),
        };
        let mut tree = vec![Entry::Line(0)];
        template.lines.push(Line {
            state: exception,
            path: Vec::new(),
            groups: Vec::new(),
            start: 0,
            shape: names::shape(&exception.name.pieces),
            at: name.span().into(),
            inherited: None,
            dropped: false,
        });
        for set in sets {
            template.add_counts(set, errors);
            let mut scope = Scope {
                set,
                path: Vec::new(),
                groups: Vec::new(),
            };
            template.declare(set.items, &mut scope, &mut tree, errors);
        }
        template.tree = tree;
        if template.axes.len() > usize::from(u8::MAX) {
            errors.at(name.span(), say::too_many_variables());
        }
        template.measure();
        if template.len > MAX_STATES {
            errors.at(
                name.span(),
                say::too_many_states(&name.to_string(), template.len),
            );
            errors.counts_made_up = true;
            for looped in &mut template.loops {
                looped.last = looped.first;
            }
            for axis in &mut template.axes {
                axis.last = axis.first;
            }
            template.measure();
        }
        template
    }

    fn add_counts(&mut self, set: &Set<'a>, errors: &mut Errors) {
        for (name, value) in &set.counts.values {
            match self.counts.iter().find(|(known, _)| known == name) {
                None => self.counts.push((name.clone(), *value)),
                Some((_, other)) if other == value => {}
                Some((_, other)) => {
                    let span = set.inherited.map_or_else(Span::call_site, |(_, span)| span);
                    errors.at(span, say::count_differs(name, *other, *value));
                }
            }
        }
    }

    fn declare(
        &mut self,
        items: &'a [Item],
        scope: &mut Scope<'_, 'a>,
        into: &mut Vec<Entry>,
        errors: &mut Errors,
    ) {
        for item in items {
            match item {
                Item::State(state) => self.declare_state(state, scope, into, errors),
                Item::Group(group) => {
                    let id = self.declare_group(group, scope, errors);
                    if let Members::Declared(items) = &group.members {
                        into.push(Entry::Open(id));
                        scope.groups.push(id);
                        self.declare(items, scope, into, errors);
                        scope.groups.pop();
                        into.push(Entry::Close(id));
                    }
                }
                Item::Loop(looped) => {
                    let name = looped.variable.to_string();
                    if self.variables(&scope.path).any(|outer| outer == name) {
                        let at = scope
                            .set
                            .inherited
                            .map_or(At::from(looped.variable.span()), |(_, span)| span.into());
                        errors.at(at, say::variable_shadowed(&name));
                        // Its lines are as good once in each round of the outer one.
                        self.declare(&looped.body, scope, into, errors);
                        continue;
                    }
                    let id = self.declare_loop(looped, scope, errors);
                    let mut body = Vec::new();
                    scope.path.push(id);
                    self.declare(&looped.body, scope, &mut body, errors);
                    scope.path.pop();
                    into.push(Entry::Loop(id, body));
                }
            }
        }
    }

    fn declare_state(
        &mut self,
        state: &'a input::State,
        scope: &Scope<'_, 'a>,
        into: &mut Vec<Entry>,
        errors: &mut Errors,
    ) {
        let at = scope
            .set
            .inherited
            .map_or(state.name.at, |(_, span)| span.into());
        let known: Vec<&str> = self.variables(&scope.path).collect();
        let mut dropped = false;
        for variable in state.name.variables() {
            let name = variable.to_string();
            if !known.contains(&name.as_str()) {
                errors.at(
                    variable.span(),
                    say::variable_unknown(&name, say::similar(&name, known.iter().copied())),
                );
                dropped = true;
            }
        }
        for variable in &known {
            if !dropped && !state.name.variables().any(|used| used == variable) {
                errors.at(at, say::variable_unused(&state.name.pattern(), variable));
                dropped = true;
            }
        }
        into.push(Entry::Line(self.lines.len()));
        self.lines.push(Line {
            state,
            path: scope.path.clone(),
            groups: scope.groups.clone(),
            start: 0,
            shape: names::shape(&state.name.pieces),
            at,
            inherited: scope.set.inherited.map(|(name, _)| name),
            dropped,
        });
    }

    fn declare_group(
        &mut self,
        group: &'a input::Group,
        scope: &Scope<'_, 'a>,
        errors: &mut Errors,
    ) -> usize {
        let name = group.name.to_string();
        let at = scope
            .set
            .inherited
            .map_or(At::from(group.name.span()), |(_, span)| span.into());
        let id = self.groups.len();
        if self.group_names.insert(name.clone(), id).is_some() {
            errors.at(at, say::duplicate("group", &name, "a group"));
        }
        let members = match &group.members {
            Members::Declared(_) => Listing::Run { start: 0, len: 0 },
            Members::Listed(names) => Listing::Names(names),
        };
        self.groups.push(Group {
            name,
            docs: &group.docs,
            exclusive: group.exclusive,
            path: scope.path.clone(),
            members,
            at,
            inherited: scope.set.inherited.is_some(),
        });
        id
    }

    fn declare_loop(
        &mut self,
        looped: &'a input::Loop,
        scope: &Scope<'_, 'a>,
        errors: &mut Errors,
    ) -> usize {
        let name = looped.variable.to_string();
        let at = scope
            .set
            .inherited
            .map_or(At::from(looped.variable.span()), |(_, span)| span.into());
        let (first, last, count) = match &looped.range {
            None => (1, 1, None),
            Some((first, Last::Number(last))) => (*first, *last, None),
            Some((first, Last::Count(count))) => {
                let count = count.to_string();
                (
                    *first,
                    scope.set.counts.value(&count).unwrap_or(1),
                    Some(count),
                )
            }
        };
        let sound = looped.range.is_some() && scope.set.counts.complete;
        if sound && last < first {
            errors.at(at, say::RANGE_EMPTY);
        }
        let last = last.max(first);
        let axis = self
            .axes
            .iter()
            .position(|axis| axis.name == name)
            .unwrap_or_else(|| {
                self.axes.push(Axis {
                    name: name.clone(),
                    first,
                    last,
                    count,
                    at,
                });
                self.axes.len() - 1
            });
        let known = &self.axes[axis];
        if sound && (known.first, known.last) != (first, last) {
            errors.at(
                at,
                say::variable_ranges(&name, (first, last), (known.first, known.last)),
            );
        }
        self.loops.push(Loop {
            axis,
            first: known.first,
            last: known.last,
            start: 0,
            stride: 0,
        });
        self.loops.len() - 1
    }

    /// The variables of the loops in `path`.
    pub(crate) fn variables(&self, path: &[usize]) -> impl Iterator<Item = &str> {
        path.iter()
            .map(|id| self.axes[self.loops[*id].axis].name.as_str())
    }

    /// Whether, of loops in each other, the outer one's variable is always the first to appear.
    pub(crate) fn nests_in_one_order(&self) -> bool {
        let lines = self.lines.iter().map(|line| &line.path);
        let mut paths = lines.chain(self.groups.iter().map(|group| &group.path));
        paths.all(|path| path.is_sorted_by_key(|id| self.loops[*id].axis))
    }

    pub(crate) fn group(&self, name: &str) -> Option<usize> {
        self.group_names.get(name).copied()
    }

    /// Whether a line that a mistake keeps out may have been meant by a name of this shape.
    pub(crate) fn left_out(&self, shape: &Shape) -> bool {
        self.lines
            .iter()
            .any(|line| line.dropped && line.shape.resembles(shape))
    }

    /// Gives every loop, line and group its place; needed again when lines are dropped.
    pub(crate) fn measure(&mut self) {
        let tree = std::mem::take(&mut self.tree);
        self.len = self.place(&tree);
        self.tree = tree;
    }

    fn place(&mut self, entries: &[Entry]) -> usize {
        let mut offset = 0_usize;
        for entry in entries {
            match entry {
                Entry::Line(line) => {
                    self.lines[*line].start = offset;
                    offset = offset.saturating_add(usize::from(!self.lines[*line].dropped));
                }
                Entry::Loop(id, body) => {
                    let stride = self.place(body);
                    let looped = &mut self.loops[*id];
                    (looped.start, looped.stride) = (offset, stride);
                    let rounds = (looped.last - looped.first) as usize + 1;
                    offset = offset.saturating_add(stride.saturating_mul(rounds));
                }
                Entry::Open(group) => {
                    self.groups[*group].members = Listing::Run {
                        start: offset,
                        len: 0,
                    }
                }
                Entry::Close(group) => {
                    if let Listing::Run { start, len } = &mut self.groups[*group].members {
                        *len = offset - *start;
                    }
                }
            }
        }
        offset
    }

    /// Calls `visit` for every state in index order, with the values of the loop variables by axis
    /// (`u32::MAX` outside a variable's loops).
    pub(crate) fn unroll(&self, mut visit: impl FnMut(usize, &[u32])) {
        let mut values = vec![u32::MAX; self.axes.len()];
        self.unroll_entries(&self.tree, &mut values, &mut visit);
    }

    fn unroll_entries(
        &self,
        entries: &[Entry],
        values: &mut [u32],
        visit: &mut impl FnMut(usize, &[u32]),
    ) {
        for entry in entries {
            match entry {
                Entry::Line(line) if !self.lines[*line].dropped => visit(*line, values),
                Entry::Loop(id, body) => {
                    let looped = &self.loops[*id];
                    for value in looped.first..=looped.last {
                        values[looped.axis] = value;
                        self.unroll_entries(body, values, visit);
                    }
                    values[looped.axis] = u32::MAX;
                }
                Entry::Line(_) | Entry::Open(_) | Entry::Close(_) => {}
            }
        }
    }

    /// Calls `visit` for every round of the loops in `path`, the innermost counting fastest.
    pub(crate) fn rounds(&self, path: &[usize], mut visit: impl FnMut(&[u32])) {
        let mut values = vec![u32::MAX; self.axes.len()];
        for id in path {
            values[self.loops[*id].axis] = self.loops[*id].first;
        }
        loop {
            visit(&values);
            let next = path.iter().rev().find(|id| {
                let looped = &self.loops[**id];
                let value = &mut values[looped.axis];
                let more = *value < looped.last;
                *value = if more { *value + 1 } else { looped.first };
                more
            });
            if next.is_none() {
                return;
            }
        }
    }

    /// The index of what starts at `start` in the innermost of the loops in `path`.
    pub(crate) fn place_of(&self, path: &[usize], start: usize) -> Place {
        let mut place = Place {
            base: start,
            steps: Vec::new(),
        };
        for id in path {
            let looped = &self.loops[*id];
            place.base += looped.start;
            place.steps.push(Step {
                axis: looped.axis,
                first: looped.first,
                stride: looped.stride,
            });
        }
        place
    }

    /// The name of the copy of `line` at `values`.
    pub(crate) fn write_name(&self, pieces: &[Piece], values: &[u32], into: &mut String) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => into.push_str(text),
                Piece::Variable(variable) => {
                    let axis = self.axes.iter().position(|axis| variable == &axis.name);
                    names::write_number(axis.map_or(u32::MAX, |axis| values[axis]), into);
                }
            }
        }
    }
}

/// An index as a function of the loop variables.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) base: usize,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) axis: usize,
    pub(crate) first: u32,
    pub(crate) stride: usize,
}

impl Place {
    pub(crate) fn index(&self, values: &[u32]) -> usize {
        let mut index = self.base;
        for step in &self.steps {
            index += (values[step.axis] - step.first) as usize * step.stride;
        }
        index
    }
}
