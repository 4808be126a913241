//! Names in relations and groups to indices: template to model.

use proc_macro2::Ident;

use crate::attributes::{ADD, AFTER, Marks, RELATIONS, REMOVE, REQUIRE};
use crate::diagnostics::{self as say, Errors, Topic};
use crate::input::{Name, Piece};
use crate::model::{Lists, MAX_RELATIONS, Model, small};
use crate::names::{self, Names};
use crate::template::{Group, Listing, Place, Template};

/// What a name in a list stands for, as a function of the loop variables.
enum Target<'a> {
    /// States next to each other: one, or all of a group that declares them.
    Run(Place, usize),
    /// The members of a group that lists them.
    Listed(Vec<Self>),
    /// A name that has to be looked up in every round.
    Lookup { pieces: &'a [Piece], id: usize },
    /// Nothing; the reason has been reported.
    Nothing,
}

/// Resolves names against one template.
struct Resolver<'t, 'a> {
    template: &'t Template<'a>,
    names: &'t Names,
    /// The names that are looked up in every round, each with the list it stands in.
    lookups: Vec<(&'a Name, &'static str)>,
    /// How many entries all lists have.
    entries: usize,
    seen: Stamps,
    scratch: Vec<u32>,
}

/// The relations of a line.
type Targets<'a> = [Vec<Target<'a>>; 4];

/// Builds the model of `template`; reports names that lead nowhere.
pub(crate) fn resolve<'a>(
    name: &Ident,
    template: &Template<'a>,
    names: &Names,
    errors: &mut Errors,
) -> Model {
    let mut resolver = Resolver {
        template,
        names,
        lookups: Vec::new(),
        entries: 0,
        seen: Stamps::new(template.len),
        scratch: Vec::new(),
    };
    let mut model = Model {
        axes: vec![Vec::new(); template.axes.len()],
        ..Model::default()
    };
    let listed = resolver.groups(errors);
    for (group, targets) in template.groups.iter().zip(&listed) {
        let lists = resolver.members(group, targets, errors);
        model.groups.push(lists);
    }
    let targets: Vec<Targets<'a>> = (0..template.lines.len())
        .map(|line| resolver.targets(line, errors))
        .collect();
    resolver.fill(&mut model, &targets, errors);
    if resolver.entries > MAX_RELATIONS {
        errors.at(name.span(), say::too_many_relations(&name.to_string()));
    }
    model
}

impl<'a> Resolver<'_, 'a> {
    /// What each group lists; nothing for those that declare their members.
    fn groups(&mut self, errors: &mut Errors) -> Vec<Vec<Target<'a>>> {
        let template = self.template;
        let mut listed: Vec<Vec<Target<'a>>> = Vec::new();
        for (id, group) in template.groups.iter().enumerate() {
            let Listing::Names(written) = group.members else {
                listed.push(Vec::new());
                continue;
            };
            let mut targets = Vec::new();
            for name in written {
                let below = template.group(&name.pattern()).filter(|other| *other >= id);
                if below.is_some_and(|other| {
                    matches!(template.groups[other].members, Listing::Names(_))
                }) {
                    if !group.inherited {
                        errors.at(name.at, say::group_below(&name.pattern()));
                    }
                } else {
                    targets.push(self.target(name, "group", &group.path, group.inherited, errors));
                }
            }
            listed.push(targets);
        }
        listed
    }

    fn targets(&mut self, line: usize, errors: &mut Errors) -> Targets<'a> {
        let line = &self.template.lines[line];
        let relations = &line.state.marks.relations;
        std::array::from_fn(|relation| {
            relations[relation]
                .iter()
                .map(|name| {
                    self.target(
                        name,
                        RELATIONS[relation],
                        &line.path,
                        line.inherited.is_some(),
                        errors,
                    )
                })
                .collect()
        })
    }

    /// Resolves a name that stands inside the loops of `path`.
    fn target(
        &mut self,
        name: &'a Name,
        list: &'static str,
        path: &[usize],
        inherited: bool,
        errors: &mut Errors,
    ) -> Target<'a> {
        let template = self.template;
        let pattern = name.pattern();
        let known: Vec<&str> = template.variables(path).collect();
        for variable in name.variables() {
            let variable_name = variable.to_string();
            if !known.contains(&variable_name.as_str()) {
                if !inherited {
                    let similar = say::similar(&variable_name, known.iter().copied());
                    errors.at(
                        variable.span(),
                        say::variable_unknown(&variable_name, similar),
                    );
                }
                return Target::Nothing;
            }
        }
        if let Some(group) = template.group(&pattern) {
            let outside = template
                .variables(&template.groups[group].path)
                .find(|name| !known.contains(name));
            let Some(variable) = outside else {
                return self.group_target(group);
            };
            if !inherited {
                errors.at(name.at, say::group_out_of_scope(&pattern, variable));
            }
            return Target::Nothing;
        }
        if let Some(line) = self
            .names
            .line(template, &pattern, &names::shape(&name.pieces))
        {
            let line = &template.lines[line];
            return Target::Run(template.place_of(&line.path, line.start), 1);
        }
        if name.variables().next().is_none() {
            let Some((line, values)) = self.names.find(template, &pattern) else {
                if !inherited {
                    self.unknown(name, &pattern, list, errors);
                }
                return Target::Nothing;
            };
            let line = &template.lines[line];
            let base = template.place_of(&line.path, line.start).index(&values);
            return Target::Run(
                Place {
                    base,
                    steps: Vec::new(),
                },
                1,
            );
        }
        self.lookups.push((name, list));
        Target::Lookup {
            pieces: &name.pieces,
            id: self.lookups.len() - 1,
        }
    }

    fn group_target(&mut self, group: usize) -> Target<'a> {
        let group = &self.template.groups[group];
        match group.members {
            Listing::Run { start, len } => {
                Target::Run(self.template.place_of(&group.path, start), len)
            }
            Listing::Names(names) => {
                let mut ignored = Errors::default();
                Target::Listed(
                    names
                        .iter()
                        .map(|name| self.target(name, "group", &group.path, true, &mut ignored))
                        .collect(),
                )
            }
        }
    }

    fn unknown(&self, name: &Name, shown: &str, list: &str, errors: &mut Errors) {
        let shape = names::shape(&name.pieces);
        if self.template.left_out(&shape) || errors.uncertain(shown) {
            return;
        }
        if let Some(line) = self
            .names
            .shaped(&names::shape(&[Piece::Text(shown.to_owned())]))
        {
            let line = &self.template.lines[line];
            let axes = line
                .path
                .iter()
                .map(|id| &self.template.axes[self.template.loops[*id].axis]);
            let ranges = axes
                .map(|axis| (axis.name.as_str(), axis.first, axis.last))
                .collect::<Vec<_>>();
            errors.at(
                name.at,
                say::target_out_of_range(shown, list, &line.state.name.pattern(), &ranges),
            );
            return;
        }
        let groups = self.template.groups.iter().map(|group| group.name.as_str());
        let candidate = say::similar(&name.pattern(), self.names.patterns().chain(groups));
        errors.at(name.at, say::target_unknown(shown, list, candidate));
    }

    /// Appends the states that `target` stands for.
    fn expand(
        &mut self,
        target: &Target<'a>,
        values: &[u32],
        into: &mut Vec<u32>,
        errors: &mut Errors,
    ) {
        if self.entries > MAX_RELATIONS {
            return;
        }
        match target {
            Target::Run(place, len) => {
                self.entries += len;
                let start = small(place.index(values));
                into.extend(start..start + small(*len));
            }
            Target::Listed(targets) => {
                for target in targets {
                    self.expand(target, values, into, errors);
                }
            }
            Target::Lookup { pieces, id } => {
                let mut name = String::new();
                self.template.write_name(pieces, values, &mut name);
                if let Some((line, values)) = self.names.find(self.template, &name) {
                    let line = &self.template.lines[line];
                    let place = self.template.place_of(&line.path, line.start);
                    self.entries += 1;
                    into.push(small(place.index(&values)));
                } else if errors.first(Topic::Target, *id) {
                    let (written, list) = self.lookups[*id];
                    self.unknown(written, &name, list, errors);
                }
            }
            Target::Nothing => {}
        }
    }

    /// Appends the states that `targets` stand for to the open list of `lists`, each once.
    fn push<'b>(
        &mut self,
        targets: impl IntoIterator<Item = &'b Target<'a>>,
        values: &[u32],
        lists: &mut Lists,
        errors: &mut Errors,
    ) where
        'a: 'b,
    {
        let mut states = std::mem::take(&mut self.scratch);
        for target in targets {
            self.expand(target, values, &mut states, errors);
        }
        lists
            .items
            .extend(states.drain(..).filter(|state| self.seen.insert(*state)));
        self.scratch = states;
    }

    /// The members of every group of a family.
    fn members(&mut self, group: &Group<'a>, listed: &[Target<'a>], errors: &mut Errors) -> Lists {
        let template = self.template;
        let mut lists = Lists::default();
        let run = match group.members {
            Listing::Run { start, len } => {
                Some(Target::Run(template.place_of(&group.path, start), len))
            }
            Listing::Names(_) => None,
        };
        template.rounds(&group.path, |values| {
            self.seen.clear();
            self.push(run.iter().chain(listed), values, &mut lists, errors);
            lists.close();
        });
        lists
    }

    /// Names, flags and relations of every state.
    fn fill(&mut self, model: &mut Model, targets: &[Targets<'a>], errors: &mut Errors) {
        let template = self.template;
        let runs: Vec<Vec<Target<'a>>> = template
            .lines
            .iter()
            .map(|line| self.exclusive(&line.groups))
            .collect();
        let peers = listed_peers(template, &model.groups);
        let mut peers = peers.iter().peekable();
        template.unroll(|line, values| {
            let state = small(model.len());
            let marks = &template.lines[line].state.marks;
            template.write_name(
                &template.lines[line].state.name.pieces,
                values,
                &mut model.names,
            );
            model.name_ends.push(small(model.names.len()));
            model.lines.push(small(line));
            model.flags.push(flags(marks));
            for (column, value) in model.axes.iter_mut().zip(values) {
                column.push(*value);
            }

            let [require, add, remove, after] = &mut model.relations;
            self.seen.clear();
            self.push(&targets[line][REQUIRE], values, require, errors);
            self.seen.clear();
            self.push(&targets[line][ADD], values, add, errors);
            // What is added has been seen now, and so has the state itself: neither is removed.
            self.seen.insert(state);
            self.push(&runs[line], values, remove, errors);
            while let Some((_, group, round)) = peers.next_if(|(member, ..)| *member == state) {
                let members = model.groups[*group].get(*round);
                self.entries += members.len();
                if self.entries <= MAX_RELATIONS {
                    remove
                        .items
                        .extend(members.iter().filter(|member| self.seen.insert(**member)));
                }
            }
            self.push(&targets[line][REMOVE], values, remove, errors);
            self.seen.clear();
            self.seen.insert(state);
            self.push(&targets[line][AFTER], values, after, errors);
            for lists in &mut model.relations {
                lists.close();
            }
        });
    }

    /// The exclusive ones of `groups`, as lists of their members.
    fn exclusive(&self, groups: &[usize]) -> Vec<Target<'a>> {
        let groups = groups
            .iter()
            .map(|group| &self.template.groups[*group])
            .filter(|group| group.exclusive);
        groups
            .filter_map(|group| match group.members {
                Listing::Run { start, len } => {
                    Some(Target::Run(self.template.place_of(&group.path, start), len))
                }
                Listing::Names(_) => None,
            })
            .collect()
    }
}

/// For every member of an exclusive group that lists its members: state, group and round, sorted.
fn listed_peers(template: &Template<'_>, members: &[Lists]) -> Vec<(u32, usize, usize)> {
    let mut peers = Vec::new();
    for (id, group) in template.groups.iter().enumerate() {
        if group.exclusive && matches!(group.members, Listing::Names(_)) {
            for round in 0..members[id].ends.len() {
                peers.extend(
                    members[id]
                        .get(round)
                        .iter()
                        .map(|member| (*member, id, round)),
                );
            }
        }
    }
    peers.sort_unstable();
    peers
}

/// The bits that the runtime's `tables::flag` names.
fn flags(marks: &Marks) -> u8 {
    let payload = marks.payload.as_ref();
    u8::from(marks.auto)
        | u8::from(marks.multi) << 1
        | u8::from(payload.is_some()) << 2
        | u8::from(payload.is_some_and(|payload| payload.retain)) << 3
        | u8::from(payload.is_some_and(|payload| payload.redact)) << 4
}

/// A set of states that is emptied in no time.
pub(crate) struct Stamps {
    stamps: Vec<u32>,
    now: u32,
}

impl Stamps {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            stamps: vec![0; len],
            now: 1,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.now += 1;
    }

    pub(crate) fn contains(&self, state: u32) -> bool {
        self.stamps[state as usize] == self.now
    }

    /// Whether `state` was no member before.
    pub(crate) fn insert(&mut self, state: u32) -> bool {
        std::mem::replace(&mut self.stamps[state as usize], self.now) != self.now
    }
}
