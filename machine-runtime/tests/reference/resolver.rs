//! A slow machine by the letter of the rules R1 to R12, R17, R19 to R22, R24, R25 and R29, on
//! plain lists. It shares nothing with the machine that it checks but the way a schema is written.

use std::collections::VecDeque;

use machine_runtime::Op;

use crate::vectors::{RawSchema, Subject};

/// One state's rules, sanitised.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    auto: bool,
    pub(crate) multi: bool,
    health: bool,
    pub(crate) require: Vec<usize>,
    pub(crate) add: Vec<usize>,
    pub(crate) remove: Vec<usize>,
    after: Vec<usize>,
}

/// A mutation that waits.
#[derive(Debug)]
struct Waiting {
    op: Op,
    called: Vec<usize>,
    payload: bool,
}

/// A transition that ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) op: Op,
    pub(crate) called: Vec<usize>,
    pub(crate) auto: bool,
    pub(crate) accepted: bool,
    /// What ticked, and by how much, in index order.
    pub(crate) changes: Vec<(usize, u64)>,
    pub(crate) revision: u64,
    pub(crate) ticks: Vec<u64>,
}

/// What became of a mutation that was to wait, and its queue tick.
#[derive(Debug, PartialEq)]
pub(crate) enum Place {
    Queued(u64),
    Merged(u64),
}

#[derive(Debug)]
pub(crate) struct Slow {
    pub(crate) rules: Vec<Rules>,
    /// Each state's place in the require order, -1 without one (R10).
    keys: Vec<isize>,
    pub(crate) active: Vec<usize>,
    pub(crate) ticks: Vec<u64>,
    pub(crate) revision: u64,
    queue: VecDeque<Waiting>,
    pub(crate) queue_tick: u64,
    pub(crate) ended: Vec<Ended>,
}

impl Slow {
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
            active: Vec::new(),
            ticks: vec![0; rules.len()],
            revision: 0,
            queue: VecDeque::new(),
            queue_tick: 1,
            ended: Vec::new(),
            rules,
        }
    }

    /// R22, R24, R25.
    pub(crate) fn enqueue(&mut self, op: Op, called: &[usize], payload: bool) -> Place {
        let called = unique(called);
        let op = self.toggled(op, &called);
        let same = |waiting: &Waiting| {
            let [mut a, mut b] = [waiting.called.clone(), called.clone()];
            a.sort_unstable();
            b.sort_unstable();
            waiting.op == op && !waiting.payload && a == b
        };
        if !payload && !called.iter().any(|state| self.rules[*state].multi) {
            if let Some(place) = self.queue.iter().position(same) {
                return Place::Merged(self.queue_tick + place as u64 + 1);
            }
        }
        self.queue.push_back(Waiting {
            op,
            called,
            payload,
        });
        Place::Queued(self.queue_tick + self.queue.len() as u64)
    }

    /// R21: what waits, from the front, each with its auto mutation.
    pub(crate) fn run(&mut self) {
        self.ended.clear();
        while let Some(waiting) = self.queue.pop_front() {
            self.queue_tick += 1;
            self.one(waiting.op, &waiting.called);
        }
    }

    /// One mutation and what follows it; R20: whether it was executed.
    fn one(&mut self, op: Op, called: &[usize]) -> bool {
        let before = self.ticks.clone();
        let accepted = self.transition(op, called, false);
        let left = called.iter().any(|state| self.active.contains(state));
        // R29: a lone health state, added, never triggers the auto mutation.
        let health = op == Op::Add && matches!(called, [state] if self.rules[*state].health);
        // R19.
        if accepted && self.ticks != before && !health {
            let free = |state: &usize| {
                let removed = |by: &usize| self.rules[*by].remove.contains(state);
                self.rules[*state].auto
                    && !self.active.contains(state)
                    && !self.active.iter().any(removed)
            };
            let candidates: Vec<usize> = (0..self.rules.len()).filter(free).collect();
            if !candidates.is_empty() {
                self.transition(Op::Add, &candidates, true);
            }
        }
        accepted && (op != Op::Remove || !left)
    }

    /// R24.
    fn toggled(&self, op: Op, called: &[usize]) -> Op {
        match op {
            Op::Toggle if called.iter().all(|state| self.active.contains(state)) => Op::Remove,
            Op::Toggle => Op::Add,
            op => op,
        }
    }

    /// R11, R12 and R17; whether it was accepted.
    fn transition(&mut self, op: Op, called: &[usize], auto: bool) -> bool {
        let mut target = self.target(op, called);
        let reached = called.iter().filter(|state| target.contains(state));
        let reached: Vec<usize> = reached.copied().collect();
        let accepted = match (op, auto) {
            (Op::Remove, _) => true,
            (_, false) => reached.len() == called.len(),
            (_, true) => !reached.is_empty(),
        };
        let before = self.ticks.clone();
        if accepted {
            if auto {
                target = self.target(op, &reached);
            }
            for state in &target {
                if !self.active.contains(state) {
                    self.ticks[*state] += 1;
                } else if self.rules[*state].multi && called.contains(state) {
                    self.ticks[*state] += 2;
                }
            }
            for state in &self.active {
                if !target.contains(state) {
                    self.ticks[*state] += 1;
                }
            }
            self.active = target;
        }
        let ticked = (0..before.len()).filter(|state| self.ticks[*state] != before[*state]);
        let changes = ticked.map(|state| (state, self.ticks[state] - before[state]));
        let changes: Vec<_> = changes.collect();
        self.revision += u64::from(!changes.is_empty());
        self.ended.push(Ended {
            op,
            called: called.to_vec(),
            auto,
            accepted,
            changes,
            revision: self.revision,
            ticks: self.ticks.clone(),
        });
        accepted
    }

    /// R5 to R10.
    pub(crate) fn target(&self, op: Op, called: &[usize]) -> Vec<usize> {
        let active = self.active.iter().copied();
        let start: Vec<usize> = match op {
            Op::Add => called.iter().copied().chain(active).collect(),
            Op::Remove => active.filter(|state| !called.contains(state)).collect(),
            _ => called.to_vec(),
        };
        let list = self.add_pass(&unique(&start), op, called);
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
        let mut list = self.add_pass(&kept, op, called);
        list.retain(|state| !gone.contains(state));
        let mut list = unique(&list);
        list.reverse();
        self.sorted(self.require_pass(list))
    }

    /// R6.
    fn add_pass(&self, list: &[usize], op: Op, called: &[usize]) -> Vec<usize> {
        let mut result = list.to_vec();
        for state in list {
            if self.active.contains(state) && !self.rules[*state].multi {
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
fn unique(list: &[usize]) -> Vec<usize> {
    let mut result = Vec::new();
    for state in list {
        if !result.contains(state) {
            result.push(*state);
        }
    }
    result
}

impl Subject for Slow {
    fn start(states: &[String], schema: &RawSchema) -> Result<Self, String> {
        Ok(Self::new(states, schema))
    }

    fn mutate(&mut self, op: Op, called: &[usize]) -> bool {
        self.run();
        self.queue_tick += 1;
        let called = unique(called);
        self.one(self.toggled(op, &called), &called)
    }

    fn ticks(&self) -> Vec<u64> {
        self.ticks.clone()
    }

    fn order(&self) -> Vec<usize> {
        self.active.clone()
    }
}
