//! Rules R1 to R10 by the letter, on plain lists.

use machine_runtime::Op;

use crate::vectors::RawSchema;

/// One state's rules, sanitised.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) auto: bool,
    pub(crate) multi: bool,
    pub(crate) health: bool,
    pub(crate) require: Vec<usize>,
    pub(crate) add: Vec<usize>,
    pub(crate) remove: Vec<usize>,
    after: Vec<usize>,
}

/// The rules of a schema.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) rules: Vec<Rules>,
    /// Each state's place in the require order, -1 without one (R10).
    keys: Vec<isize>,
}

impl Resolver {
    pub(crate) fn new(states: &[String], schema: &RawSchema) -> Self {
        let index = |name: &String| states.iter().position(|state| state == name).unwrap();
        let rules = states.iter().map(|name| {
            // R3: a state that is supplied is multi and has no relations.
            let Some(raw) = schema.get(name) else {
                return Rules {
                    multi: true,
                    ..Rules::default()
                };
            };
            // R2, step by step.
            let (mut add, mut remove, mut after) =
                (raw.add.clone(), raw.remove.clone(), raw.after.clone());
            remove.retain(|other| other != name);
            remove.retain(|other| !add.contains(other));
            add.retain(|other| schema.contains_key(other));
            after.retain(|other| other != name);
            remove.retain(|other| schema.contains_key(other));
            after.retain(|other| schema.contains_key(other));
            let indices = |names: &[String]| names.iter().map(index).collect();
            Rules {
                auto: raw.auto,
                multi: raw.multi,
                health: ["Healthcheck", "Heartbeat"].contains(&name.as_str()),
                require: indices(&raw.require),
                add: indices(&add),
                remove: indices(&remove),
                after: indices(&after),
            }
        });
        let rules: Vec<Rules> = rules.collect();
        Self {
            keys: keys(&rules),
            rules,
        }
    }

    /// R5 to R10: the active list that a mutation leads to.
    pub(crate) fn target(&self, active: &[usize], op: Op, called: &[usize]) -> Vec<usize> {
        let before = active.iter().copied();
        let start: Vec<usize> = match op {
            Op::Add => called.iter().copied().chain(before).collect(),
            Op::Remove => before.filter(|state| !called.contains(state)).collect(),
            _ => called.to_vec(),
        };
        let list = self.add_pass(&unique(&start), active, op, called);
        let list = self.require_pass(unique(&list));

        // R8: from the end to the start; members still to be visited block.
        let mut blocked: Vec<usize> = Vec::new();
        let mut kept: Vec<usize> = Vec::new();
        for state in list.iter().rev() {
            let blocks =
                |by: &usize| self.rules[*by].remove.contains(state) && !blocked.contains(by);
            if list.iter().any(blocks) {
                blocked.push(*state);
            } else {
                kept.push(*state);
            }
        }

        // R9.
        let gone: Vec<usize> = kept
            .iter()
            .flat_map(|state| self.rules[*state].remove.clone())
            .collect();
        let mut list = self.add_pass(&kept, active, op, called);
        list.retain(|state| !gone.contains(state));
        let mut list = unique(&list);
        list.reverse();
        self.sorted(self.require_pass(list))
    }

    /// R6.
    fn add_pass(&self, list: &[usize], active: &[usize], op: Op, called: &[usize]) -> Vec<usize> {
        let mut result = list.to_vec();
        for state in list {
            if active.contains(state) && !self.rules[*state].multi {
                continue;
            }
            let added = self.rules[*state].add.iter();
            result.extend(added.filter(|add| op != Op::Remove || !called.contains(add)));
        }
        result
    }

    /// R7.
    fn require_pass(&self, mut list: Vec<usize>) -> Vec<usize> {
        loop {
            let round = list.clone();
            list.retain(|state| self.rules[*state].require.iter().all(|r| round.contains(r)));
            if list.len() == round.len() {
                return list;
            }
        }
    }

    /// R10.
    pub(crate) fn sorted(&self, mut list: Vec<usize>) -> Vec<usize> {
        list.sort_by_key(|state| self.keys[*state]);
        let has_to_follow = |left: usize, element: usize| {
            self.rules[left].after.contains(&element) && !self.rules[element].after.contains(&left)
        };
        for i in 1..list.len() {
            let mut j = i;
            while j > 0 && has_to_follow(list[j - 1], list[j]) {
                list.swap(j - 1, j);
                j -= 1;
            }
        }
        list
    }
}

/// R10: places in a depth-first walk along Require; none at all if there is a cycle anywhere.
fn keys(rules: &[Rules]) -> Vec<isize> {
    fn visit(rules: &[Rules], state: usize, path: &mut Vec<usize>, order: &mut Vec<usize>) -> bool {
        if path.contains(&state) {
            return false;
        }
        path.push(state);
        let open = |next: &usize, path: &mut Vec<usize>, order: &mut Vec<usize>| {
            order.contains(next) || visit(rules, *next, path, order)
        };
        let acyclic = rules[state]
            .require
            .iter()
            .all(|next| open(next, path, order));
        path.pop();
        order.push(state);
        acyclic
    }
    let mut order = Vec::new();
    for state in 0..rules.len() {
        let start = !rules[state].require.is_empty() && !order.contains(&state);
        if start && !visit(rules, state, &mut Vec::new(), &mut order) {
            return vec![-1; rules.len()];
        }
    }
    let key = |state| order.iter().position(|other| *other == state);
    (0..rules.len())
        .map(|state| key(state).map_or(-1, usize::cast_signed))
        .collect()
}

/// Repeats collapse to the first.
pub(crate) fn unique(list: &[usize]) -> Vec<usize> {
    let mut result = Vec::new();
    for state in list {
        if !result.contains(state) {
            result.push(*state);
        }
    }
    result
}
