//! Which smallest mutation would change a state: asked of the core, on forks of a machine.

use std::ops::ControlFlow;

use crate::machine::{Machine, Transition};
use crate::mutation::{Mutation, Op};
use crate::schema::as_index;
use crate::state::DynState;

mod reach;
#[cfg(test)]
mod tests;

use reach::{Needs, Reach};

/// How many states a mutation of [`smallest`] calls at most.
pub const MOST_CALLED: usize = 3;

/// How many mutations of [`Answer::found`] there are at most.
pub const MOST_FOUND: usize = 8;

/// Of so many mutations the best are told; more are not looked for.
const ENOUGH: usize = 64;

/// What came of [`smallest`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Answer {
    /// Mutations that lead to it, all with as few called states as any; those that call the state itself
    /// come first, and then those that change the fewest states.
    pub found: Vec<Mutation<DynState>>,
    /// How many mutations were tried.
    pub tried: u64,
    /// Whether the search ended before its time. Nothing found then does not say that there is nothing;
    /// what is found is as small as any.
    pub cut_off: bool,
}

/// Which smallest mutation makes `state` active, or inactive: what relations make of it, and auto states
/// that follow. Handlers are not asked.
///
/// Tried are those states that have a say in it over relations, the nearest first. The others matter only
/// where it depends on them whether an auto mutation follows. A mutation that lacks what `state` requires is left
/// out. `go_on` is asked now and then whether it is still wanted; at most `tries` mutations are tried.
/// Nothing is found where the state is so already.
///
/// # Panics
///
/// If the schema has no such state.
pub fn smallest(
    machine: &Machine<DynState>,
    state: DynState,
    active: bool,
    tries: u64,
    go_on: impl FnMut() -> bool,
) -> Answer {
    if machine.is_active(state) == active {
        return Answer::default();
    }
    let reach = Reach::of(machine.schema(), &[state.0]);
    let mut search = Search {
        machine,
        state,
        active,
        tries,
        go_on,
        steps: 0,
        out: vec![false; reach.near.len()],
        reach,
        undone: Vec::new(),
        others_change: [false; 3],
        answer: Answer::default(),
        found: Vec::new(),
    };
    search.answer.cut_off |= search.run() == ControlFlow::Break(Stop::CutOff);
    search.found.sort_by_key(|(rank, _)| *rank);
    let found = search.found.into_iter().take(MOST_FOUND);
    search.answer.found = found.map(|(_, mutation)| mutation).collect();
    search.answer
}

/// What makes one mutation better than another: whether it calls the state itself, and how many states
/// it changes.
type Rank = (bool, u64);

/// Why a search ends.
#[derive(PartialEq, Eq, Debug)]
enum Stop {
    Enough,
    CutOff,
}

struct Search<'a, F> {
    machine: &'a Machine<DynState>,
    state: DynState,
    active: bool,
    tries: u64,
    go_on: F,
    /// How often it asked itself what to call next.
    steps: u64,
    reach: Reach,
    /// Which of the states in reach are not called beside those that are: what calls them was tried.
    out: Vec<bool>,
    /// Mutations that lead to it, but for an auto mutation of states out of reach that follows; and those
    /// states.
    undone: Vec<(Op, Vec<u32>, Vec<u32>)>,
    /// Whether one state out of reach can be added, removed or set, and changes something.
    others_change: [bool; 3],
    answer: Answer,
    found: Vec<(Rank, Mutation<DynState>)>,
}

/// How many mutations are remembered that an auto mutation undoes.
const MOST_UNDONE: usize = 256;

/// How many steps there are between two questions whether a search is still wanted.
const ASK: u64 = 256;

impl<F: FnMut() -> bool> Search<'_, F> {
    fn run(&mut self) -> ControlFlow<Stop> {
        for size in 1..=MOST_CALLED {
            for op in [Op::Add, Op::Remove, Op::Set] {
                let needs = if self.active {
                    self.reach.needs(self.machine, op)
                } else {
                    Needs::default()
                };
                // What is removed adds nothing.
                if op != Op::Remove || needs.is_empty() {
                    self.choose(op, size, &mut Vec::new(), &needs)?;
                }
            }
            if self.found.is_empty() {
                self.run_others(size)?;
            }
            self.hold_back(size)?;
            if !self.found.is_empty() {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// States out of reach matter only as they change something, so that auto states follow, and in a
    /// set, which takes all others away. Those that do so first stand for all.
    fn run_others(&mut self, size: usize) -> ControlFlow<Stop> {
        let all = 0..as_index(self.machine.schema().len());
        let others: Vec<u32> = all.filter(|state| !self.reach.has(*state)).collect();
        for (i, op) in [Op::Add, Op::Remove, Op::Set].into_iter().enumerate() {
            if self.others_change[i] {
                continue;
            }
            if size > 1 {
                self.with_others(op, &mut Vec::new(), &others, size)?;
                continue;
            }
            for state in &others {
                let changes = self.one(op, &[*state])?;
                let follow = op != Op::Add || !self.machine.schema().is_health(&[*state]);
                self.others_change[i] |= changes && follow;
                if self.others_change[i] && self.found.is_empty() {
                    break;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Calls states out of reach besides those that an auto mutation undoes, so that it does not follow:
    /// what it would try is called, or cannot be tried.
    fn hold_back(&mut self, size: usize) -> ControlFlow<Stop> {
        if self.undone.is_empty() {
            return ControlFlow::Continue(());
        }
        let undone = std::mem::take(&mut self.undone);
        let autos: Vec<u32> = undone
            .iter()
            .flat_map(|(.., autos)| autos)
            .copied()
            .collect();
        let mut others = Reach::of(self.machine.schema(), &autos).near;
        others.retain(|other| !self.reach.has(*other));
        others.sort_unstable();
        for (op, called, _) in &undone {
            let left = size.saturating_sub(called.len());
            if left > 0 {
                self.with_others(*op, &mut called.clone(), &others, left)?;
            }
        }
        // What was undone of those is of no further interest.
        self.undone = undone;
        ControlFlow::Continue(())
    }

    fn with_others(
        &mut self,
        op: Op,
        called: &mut Vec<u32>,
        others: &[u32],
        left: usize,
    ) -> ControlFlow<Stop> {
        if left == 0 {
            return self.attempt(op, called.clone());
        }
        for (i, other) in others.iter().enumerate() {
            called.push(*other);
            self.with_others(op, called, &others[i + 1..], left - 1)?;
            called.pop();
        }
        ControlFlow::Continue(())
    }

    /// Calls `left` more of the states in reach besides `called`, places in reach, in all ways in which
    /// something is called for each of `needs`.
    fn choose(
        &mut self,
        op: Op,
        left: usize,
        called: &mut Vec<usize>,
        needs: &Needs,
    ) -> ControlFlow<Stop> {
        if left == 0 {
            let mut places = called.clone();
            places.sort_unstable();
            let states = places.iter().map(|place| self.reach.near[*place]);
            return self.attempt(op, states.collect());
        }
        let open = needs.open(called);
        let (count, all) = (self.reach.near.len(), needs.all(&open));
        let next: Vec<usize> = match open.first() {
            // The last one has to do for all.
            Some(_) if left == 1 => all.collect(),
            Some(first) => needs.of(*first).to_vec(),
            None => (0..count).collect(),
        };
        let mut tried = Vec::new();
        let mut result = ControlFlow::Continue(());
        for place in next {
            self.steps += 1;
            if self.steps.is_multiple_of(ASK) && !(self.go_on)() {
                result = ControlFlow::Break(Stop::CutOff);
                break;
            }
            if self.out[place] {
                continue;
            }
            self.out[place] = true;
            tried.push(place);
            called.push(place);
            result = self.choose(op, left - 1, called, needs);
            called.pop();
            if result.is_break() {
                break;
            }
        }
        for place in tried {
            self.out[place] = false;
        }
        result
    }

    /// Calls these states, in each order that can make a difference: that of what they add.
    fn attempt(&mut self, op: Op, mut states: Vec<u32>) -> ControlFlow<Stop> {
        let compiled = self.machine.schema().compiled();
        let adders = states.iter().filter(|state| compiled.has_add(**state));
        if op == Op::Remove || adders.count() < 2 {
            self.one(op, &states)?;
            return ControlFlow::Continue(());
        }
        self.orders(op, &mut states, 0)?;
        ControlFlow::Continue(())
    }

    /// Tries the orders of the states behind the first `fixed`, until one leads to it.
    fn orders(&mut self, op: Op, states: &mut [u32], fixed: usize) -> ControlFlow<Stop, bool> {
        if fixed + 1 >= states.len() {
            let found = self.found.len();
            self.one(op, states)?;
            return ControlFlow::Continue(self.found.len() > found);
        }
        for next in fixed..states.len() {
            states[fixed..=next].rotate_right(1);
            let found = self.orders(op, states, fixed + 1)?;
            states[fixed..=next].rotate_left(1);
            if found {
                return ControlFlow::Continue(true);
            }
        }
        ControlFlow::Continue(false)
    }

    /// Tries one mutation, and says whether it changes anything.
    fn one(&mut self, op: Op, states: &[u32]) -> ControlFlow<Stop, bool> {
        if self.answer.tried >= self.tries
            || (self.answer.tried.is_multiple_of(ASK) && !(self.go_on)())
        {
            return ControlFlow::Break(Stop::CutOff);
        }
        self.answer.tried += 1;
        let called: Vec<DynState> = states.iter().copied().map(DynState).collect();
        let mutation = Mutation::new(op, called);
        let mut fork = self.machine.fork();
        let is_executed = fork.mutate(&mutation).is_executed();
        if is_executed && fork.is_active(self.state) == self.active {
            let ticks = fork.last_run().map(|t| t.changes().len() as u64).sum();
            // A set takes all else away: it is an answer where nothing gentler is.
            let other = !states.contains(&self.state.0) || op == Op::Set;
            self.found.push(((other, ticks), mutation));
            if self.found.len() >= ENOUGH {
                return ControlFlow::Break(Stop::Enough);
            }
        }
        if is_executed && let Some(autos) = self.undoing(&fork) {
            if self.undone.len() < MOST_UNDONE {
                self.undone.push((op, states.to_vec(), autos));
            } else {
                self.answer.cut_off = true;
            }
        }
        ControlFlow::Continue(is_executed && fork.revision() != self.machine.revision())
    }

    /// The states out of reach of the auto mutation that undoes what `fork` had come to, if it would not
    /// have done so without them: where none of its states can begin nothing is resolved anew.
    fn undoing(&self, fork: &Machine<DynState>) -> Option<Vec<u32>> {
        let mut ran = fork.last_run();
        ran.next()?;
        let auto = ran.next().filter(Transition::is_auto)?;
        // It ticks in the auto mutation, and so was as wanted before.
        let is_undone = auto.changes().any(|(state, _)| state == self.state);
        let (near, others): (Vec<_>, Vec<_>) =
            auto.called().partition(|state| self.reach.has(state.0));
        let others = others.into_iter().map(|state| state.0).collect();
        (is_undone && !near.iter().any(|state| fork.is_active(*state))).then_some(others)
    }
}
