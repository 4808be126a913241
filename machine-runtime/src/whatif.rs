//! Which smallest mutation would change a state: asked of the core, on forks of a machine.

use std::ops::ControlFlow;

use crate::machine::Machine;
use crate::mutation::{Mutation, Op};
use crate::schema::{Relation, Schema, as_index};
use crate::state::DynState;

/// How many states a mutation of [`smallest`] calls at most.
pub const MOST_CALLED: usize = 3;

/// How many mutations of [`Answer::found`] there are at most.
pub const MOST_FOUND: usize = 8;

/// What came of [`smallest`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Answer {
    /// Mutations that lead to it, all with as few called states as any; those that call the state itself
    /// come first, and then those that change the fewest states.
    pub found: Vec<Mutation<DynState>>,
    /// How many mutations were tried.
    pub tried: u64,
    /// Whether more would have been tried if there had been more tries: then smaller ones were all tried
    /// that are in reach of relations, and others of this size may be missing.
    pub cut_off: bool,
}

/// Which smallest mutation makes `state` active, or inactive: what relations make of it, and auto states
/// that follow. Handlers are not asked.
///
/// A mutation of one state is tried for all states; of two and three for those that relations connect to
/// `state`, the nearest first. `go_on` is asked now and then whether it is still wanted; at most `tries`
/// mutations are tried. Nothing is found where the state is so already.
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
    let mut search = Search {
        machine,
        state,
        active,
        tries,
        go_on,
        answer: Answer::default(),
        found: Vec::new(),
    };
    if machine.is_active(state) != active {
        // Whatever stopped it is in the answer.
        let _ = search.run();
    }
    search.found.sort_by_key(|(rank, _)| *rank);
    let found = search.found.into_iter().take(MOST_FOUND);
    search.answer.found = found.map(|(_, mutation)| mutation).collect();
    search.answer
}

/// What makes one mutation better than another: whether it calls the state itself, and how many states
/// it changes.
type Rank = (bool, u64);

struct Search<'a, F> {
    machine: &'a Machine<DynState>,
    state: DynState,
    active: bool,
    tries: u64,
    go_on: F,
    answer: Answer,
    found: Vec<(Rank, Mutation<DynState>)>,
}

/// How often a search asks whether it is still wanted.
const ASK: u64 = 256;

impl<F: FnMut() -> bool> Search<'_, F> {
    fn run(&mut self) -> ControlFlow<()> {
        let schema = self.machine.schema();
        let all = (0..as_index(schema.len())).map(DynState);
        for state in all {
            self.attempt(&[state])?;
        }
        if !self.found.is_empty() {
            return ControlFlow::Continue(());
        }
        let near = near(schema, self.state);
        for (i, a) in near.iter().enumerate() {
            for b in &near[..i] {
                self.attempt(&[*b, *a])?;
            }
        }
        if !self.found.is_empty() {
            return ControlFlow::Continue(());
        }
        for (i, a) in near.iter().enumerate() {
            for (j, b) in near[..i].iter().enumerate() {
                for c in &near[..j] {
                    self.attempt(&[*c, *b, *a])?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Adds and removes these states, and sets them where neither is needed for a smaller answer.
    fn attempt(&mut self, called: &[DynState]) -> ControlFlow<()> {
        let is_active = |state: &DynState| self.machine.is_active(*state);
        let (any_active, any_inactive) =
            (called.iter().any(is_active), !called.iter().all(is_active));
        // To add what is all active, or to remove what is all inactive, may still do something: it
        // resolves anew. But that is the same whatever is called, and no answer that explains.
        let ops = [
            (Op::Add, any_inactive),
            (Op::Remove, any_active),
            (Op::Set, true),
        ];
        for (op, _) in ops.into_iter().filter(|(_, worthwhile)| *worthwhile) {
            self.one(Mutation::new(op, called.to_vec()))?;
        }
        ControlFlow::Continue(())
    }

    fn one(&mut self, mutation: Mutation<DynState>) -> ControlFlow<()> {
        if self.answer.tried >= self.tries
            || (self.answer.tried.is_multiple_of(ASK) && !(self.go_on)())
        {
            self.answer.cut_off = true;
            return ControlFlow::Break(());
        }
        self.answer.tried += 1;
        let mut fork = self.machine.fork();
        if fork.mutate(&mutation).is_executed() && fork.is_active(self.state) == self.active {
            let ticks = fork.last_run().map(|t| t.changes().len() as u64).sum();
            // A set takes all else away: it is an answer where nothing gentler is.
            let other = !mutation.states().contains(&self.state) || mutation.op() == Op::Set;
            self.found.push(((other, ticks), mutation));
        }
        ControlFlow::Continue(())
    }
}

/// The states that relations connect to `state` in whichever direction, over however many others, the
/// nearest first.
fn near(schema: &Schema, state: DynState) -> Vec<DynState> {
    let count = schema.len();
    let relations = [
        Relation::Require,
        Relation::Add,
        Relation::Remove,
        Relation::After,
    ];
    let mut towards = vec![Vec::new(); count];
    for from in 0..count {
        for to in relations
            .iter()
            .flat_map(|relation| schema.related(*relation, from))
        {
            towards[*to as usize].push(as_index(from));
            towards[from].push(*to);
        }
    }
    let mut seen = vec![false; count];
    let mut near = vec![state];
    seen[state.0 as usize] = true;
    let mut next = 0;
    while next < near.len() {
        for other in &towards[near[next].0 as usize] {
            if !std::mem::replace(&mut seen[*other as usize], true) {
                near.push(DynState(*other));
            }
        }
        next += 1;
    }
    near
}
