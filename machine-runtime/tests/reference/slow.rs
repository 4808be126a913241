//! A slow machine by the letter of the rules R11, R12, R17, R19 to R22, R24, R25 and R29. It shares
//! nothing with the machine that it checks but the way a schema is written.

use std::collections::VecDeque;

use machine_runtime::Op;

use crate::resolver::{Resolver, unique};
use crate::vectors::{RawSchema, Subject};

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
    pub(crate) resolver: Resolver,
    pub(crate) active: Vec<usize>,
    pub(crate) ticks: Vec<u64>,
    pub(crate) revision: u64,
    queue: VecDeque<Waiting>,
    pub(crate) queue_tick: u64,
    pub(crate) ended: Vec<Ended>,
}

impl Slow {
    fn new(states: &[String], schema: &RawSchema) -> Self {
        Self {
            resolver: Resolver::new(states, schema),
            active: Vec::new(),
            ticks: vec![0; states.len()],
            revision: 0,
            queue: VecDeque::new(),
            queue_tick: 1,
            ended: Vec::new(),
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
        if !payload
            && !called.iter().any(|state| self.resolver.rules[*state].multi)
            && let Some(place) = self.queue.iter().position(same)
        {
            return Place::Merged(self.queue_tick + place as u64 + 1);
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
        let health =
            op == Op::Add && matches!(called, [state] if self.resolver.rules[*state].health);
        // R19.
        if accepted && self.ticks != before && !health {
            let free = |state: &usize| {
                let removed = |by: &usize| self.resolver.rules[*by].remove.contains(state);
                self.resolver.rules[*state].auto
                    && !self.active.contains(state)
                    && !self.active.iter().any(removed)
            };
            let candidates: Vec<usize> = (0..self.resolver.rules.len()).filter(free).collect();
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
        let mut target = self.resolver.target(&self.active, op, called);
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
                target = self.resolver.target(&self.active, op, &reached);
            }
            for state in &target {
                if !self.active.contains(state) {
                    self.ticks[*state] += 1;
                } else if self.resolver.rules[*state].multi && called.contains(state) {
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
