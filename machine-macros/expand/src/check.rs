//! What the relations of a model make impossible.
//!
//! Three mistakes: a state that requires what it removes, states that require each other in a
//! circle, and a state whose requirements, followed through, exclude each other. Each is told once
//! per line of the template, and only where it begins: a state that requires a dead one is not
//! told about as well.

use crate::attributes::{REMOVE, REQUIRE};
use crate::diagnostics::{self as say, At, Errors, Topic};
use crate::model::Model;
use crate::resolve::Stamps;
use crate::template::Template;

/// The steps spent on following requirements in every copy of a line. Beyond them, only the first
/// copy of a line is looked at; copies of a line differ only where names with literal numbers are
/// involved.
const THOROUGH: usize = 20_000_000;

/// Reports every contradiction, unintended cycle and dead state.
pub(crate) fn check(template: &Template<'_>, model: &Model, errors: &mut Errors) {
    let check = Check { template, model };
    let contradictory = check.contradictions(errors);
    let components = components(model);
    check.cycles(&components, errors);
    check.dead(contradictory, &components, errors);
}

struct Check<'t, 'a> {
    template: &'t Template<'a>,
    model: &'t Model,
}

impl Check<'_, '_> {
    fn line(&self, state: usize) -> usize {
        self.model.lines[state] as usize
    }

    fn require(&self, state: usize) -> &[u32] {
        self.model.relations[REQUIRE].get(state)
    }

    fn inherited(&self, state: usize) -> bool {
        self.template.lines[self.line(state)].inherited.is_some()
    }

    /// Reports states that require what they remove; returns which states these are.
    fn contradictions(&self, errors: &mut Errors) -> Vec<bool> {
        let mut found = vec![false; self.model.len()];
        let mut removed = Stamps::new(self.model.len());
        for state in (0..self.model.len()).filter(|state| !self.require(*state).is_empty()) {
            removed.clear();
            for other in self.model.relations[REMOVE].get(state) {
                removed.insert(*other);
            }
            let Some(required) = self
                .require(state)
                .iter()
                .find(|required| removed.contains(**required))
            else {
                continue;
            };
            found[state] = true;
            if errors.first(Topic::Contradiction, self.line(state)) && !self.foreign(&[state]) {
                let required = *required as usize;
                let (name, target) = (self.model.name(state), self.model.name(required));
                let group = self.exclusive(state, required);
                errors.at(
                    self.requirement(state, required),
                    say::contradiction(name, target, group),
                );
            }
        }
        found
    }

    /// Whether these states and their relations come from inherited sets alone, which told it already.
    fn foreign(&self, states: &[usize]) -> bool {
        states.iter().all(|state| self.inherited(*state))
            && self.template.groups.iter().all(|group| group.inherited)
    }

    /// Where `state` says that it requires `required`.
    fn requirement(&self, state: usize, required: usize) -> At {
        let line = &self.template.lines[self.line(state)];
        let values: Vec<u32> = self.model.axes.iter().map(|column| column[state]).collect();
        let written = line.state.marks.relations[REQUIRE].iter().find(|name| {
            let mut text = String::new();
            self.template.write_name(&name.pieces, &values, &mut text);
            let group = self.template.group(&text);
            text == self.model.name(required)
                || group.is_some_and(|group| {
                    self.model.groups[group]
                        .items
                        .contains(&crate::model::small(required))
                })
        });
        written
            .filter(|_| line.inherited.is_none())
            .map_or(line.at, |name| name.at)
    }

    /// The exclusive group that both states are members of.
    fn exclusive(&self, a: usize, b: usize) -> Option<&str> {
        let (a, b) = (crate::model::small(a), crate::model::small(b));
        let mut groups = self
            .template
            .groups
            .iter()
            .zip(&self.model.groups)
            .filter(|(group, _)| group.exclusive);
        let both = groups.find(|(_, lists)| {
            (0..lists.ends.len())
                .map(|round| lists.get(round))
                .any(|list| list.contains(&a) && list.contains(&b))
        });
        both.map(|(group, _)| group.name.as_str())
    }

    /// Reports every require cycle that the template does not say is meant.
    fn cycles(&self, components: &Components, errors: &mut Errors) {
        let mut cyclic = vec![false; self.template.lines.len()];
        let mut told = std::collections::BTreeSet::new();
        for members in &components.cycles {
            let mut lines: Vec<usize> = members.iter().map(|state| self.line(*state)).collect();
            lines.sort_unstable();
            lines.dedup();
            for line in &lines {
                cyclic[*line] = true;
            }
            let meant = lines.iter().all(|line| {
                let line = &self.template.lines[*line];
                line.state.marks.require_cycle.is_some() || line.inherited.is_some()
            });
            if !meant && told.insert(lines) {
                let path = self.circle(members, components);
                let names: Vec<&str> = path.iter().map(|state| self.model.name(*state)).collect();
                let at = self.requirement(path[0], path[1]);
                errors.at(at, say::cycle(&names));
            }
        }
        for (line, cyclic) in self.template.lines.iter().zip(cyclic) {
            if let Some(span) = line
                .state
                .marks
                .require_cycle
                .filter(|_| !cyclic && line.inherited.is_none())
            {
                errors.at(span, say::no_cycle(&line.state.name.pattern()));
            }
        }
    }

    /// A way through the requirements from the first of `members` back to it.
    fn circle(&self, members: &[usize], components: &Components) -> Vec<usize> {
        let start = members.iter().copied().min().unwrap_or_default();
        let mut from = vec![usize::MAX; self.model.len()];
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            for next in self.require(state).iter().map(|next| *next as usize) {
                if next == start {
                    let mut path = vec![start, state];
                    while path[path.len() - 1] != start {
                        path.push(from[path[path.len() - 1]]);
                    }
                    path.reverse();
                    return path;
                }
                if components.of[next] == components.of[start] && from[next] == usize::MAX {
                    from[next] = state;
                    queue.push_back(next);
                }
            }
        }
        vec![start, start]
    }

    /// Reports states whose requirements exclude each other. `dead` are those told about already.
    fn dead(&self, mut dead: Vec<bool>, components: &Components, errors: &mut Errors) {
        let mut seen = Stamps::new(self.model.len());
        let mut closure = Vec::new();
        let mut conflicts = Vec::new();
        let mut first = vec![true; self.template.lines.len()];
        let mut steps = 0;
        for state in 0..self.model.len() {
            let first = std::mem::take(&mut first[self.line(state)]);
            if dead[state] || self.require(state).is_empty() || !(first || steps < THOROUGH) {
                continue;
            }
            seen.clear();
            seen.insert(crate::model::small(state));
            closure.clear();
            closure.push(state);
            let mut next = 0;
            while next < closure.len() {
                for required in self.require(closure[next]) {
                    if seen.insert(*required) {
                        closure.push(*required as usize);
                    }
                }
                next += 1;
            }
            let conflict = closure.iter().find_map(|member| {
                let victim = self.model.relations[REMOVE].get(*member);
                steps += victim.len() + 1;
                victim
                    .iter()
                    .find(|victim| seen.contains(**victim))
                    .map(|victim| (*member, *victim as usize))
            });
            if let Some((killer, victim)) = conflict {
                conflicts.push((state, killer, victim));
            }
        }
        for (state, ..) in &conflicts {
            dead[*state] = true;
        }
        for (state, killer, victim) in conflicts {
            let root = self.require(state).iter().all(|required| {
                let required = *required as usize;
                !dead[required] || components.of[required] == components.of[state]
            });
            if root && errors.first(Topic::Dead, self.line(state)) && !self.foreign(&[state]) {
                let group = self.exclusive(killer, victim);
                let (killer, victim) = match group {
                    Some(_) => (killer.min(victim), killer.max(victim)),
                    None => (killer, victim),
                };
                let [state_name, killer, victim] =
                    [state, killer, victim].map(|state| self.model.name(state));
                errors.at(
                    self.template.lines[self.line(state)].at,
                    say::dead(state_name, killer, victim, group),
                );
            }
        }
    }
}

/// The strongly connected components of Require.
struct Components {
    /// The component of each state.
    of: Vec<usize>,
    /// Those in which states require each other, or one state itself.
    cycles: Vec<Vec<usize>>,
}

/// Tarjan's algorithm, with its own stack: requirements can be 60,000 deep.
fn components(model: &Model) -> Components {
    const NONE: usize = usize::MAX;
    let require = |state: usize| model.relations[REQUIRE].get(state);
    let len = model.len();
    let mut found = Components {
        of: vec![NONE; len],
        cycles: Vec::new(),
    };
    let (mut index, mut low) = (vec![NONE; len], vec![NONE; len]);
    let (mut stack, mut calls) = (Vec::new(), Vec::new());
    let (mut count, mut component) = (0, 0);
    for root in 0..len {
        if index[root] != NONE {
            continue;
        }
        calls.push((root, 0));
        while let Some((state, edge)) = calls.pop() {
            if edge == 0 {
                (index[state], low[state]) = (count, count);
                count += 1;
                stack.push(state);
            }
            if let Some(next) = require(state).get(edge).map(|next| *next as usize) {
                calls.push((state, edge + 1));
                if index[next] == NONE {
                    calls.push((next, 0));
                } else if found.of[next] == NONE {
                    low[state] = low[state].min(index[next]);
                }
                continue;
            }
            if let Some((caller, _)) = calls.last() {
                low[*caller] = low[*caller].min(low[state]);
            }
            if low[state] == index[state] {
                let start = stack
                    .iter()
                    .rposition(|member| *member == state)
                    .unwrap_or(0);
                let members: Vec<usize> = stack.drain(start..).collect();
                for member in &members {
                    found.of[*member] = component;
                }
                component += 1;
                let itself = crate::model::small(state);
                if members.len() > 1 || require(state).contains(&itself) {
                    found.cycles.push(members);
                }
            }
        }
    }
    found
}
