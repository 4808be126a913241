//! The talk with handlers in the middle of a transition: who is asked, in which order, and what a
//! refusal leads to (rules R13 to R16).
//!
//! What is not bound is not visited: the pairs of rule R14 are looked for among the bound ones.

use std::collections::HashMap;

use crate::handlers::Phase;
use crate::mutation::{Op, Reason};
use crate::relations::Compiled;
use crate::set::ones;

use super::{Request, as_index};

/// Where `stay` is among [`Bound::sets`].
const STAY: usize = 2;

/// Which states have handlers in which phase.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    /// Per phase of one state, a set of states: exit, enter, stay, end, state.
    sets: [Vec<u64>; 5],
    /// The states with a handler for their coming or going.
    moves: Vec<u64>,
    pairs: Vec<Pair>,
    /// Where each pair is in `pairs`.
    places: HashMap<Pair, usize>,
    any: Any,
    asks: bool,
    /// Whether there are handlers for other things than coming and going.
    beyond_moves: bool,
}

/// Whether there are handlers of the phases that are of no state.
#[derive(Clone, Copy, Debug, Default)]
struct Any {
    enter: bool,
    state: bool,
}

/// A state before and a state after that are negotiated together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pair {
    pub(crate) before: u32,
    pub(crate) after: u32,
}

impl Bound {
    pub(crate) fn new(states: usize) -> Self {
        let empty = || vec![0; states.div_ceil(64)];
        Self {
            sets: [empty(), empty(), empty(), empty(), empty()],
            moves: empty(),
            pairs: Vec::new(),
            places: HashMap::new(),
            any: Any::default(),
            asks: false,
            beyond_moves: false,
        }
    }

    /// Notes a handler; `state` does not matter in the phases that are of none.
    pub(crate) fn add(&mut self, phase: Phase, state: u32) {
        match phase {
            Phase::AnyEnter => self.any.enter = true,
            Phase::AnyState => self.any.state = true,
            _ => {}
        }
        self.asks |= !matches!(phase, Phase::End | Phase::State | Phase::AnyState);
        let Some(place) = phase.place() else {
            self.beyond_moves = true;
            return;
        };
        set(&mut self.sets[place], state);
        if phase == Phase::Stay {
            self.beyond_moves = true;
        } else {
            set(&mut self.moves, state);
        }
    }

    /// Notes a pair; returns its place among the others.
    pub(crate) fn add_pair(&mut self, pair: Pair) -> usize {
        self.asks = true;
        self.beyond_moves = true;
        *self.places.entry(pair).or_insert_with(|| {
            self.pairs.push(pair);
            self.pairs.len() - 1
        })
    }

    pub(crate) fn pair(&self, place: usize) -> Pair {
        self.pairs[place]
    }

    pub(crate) fn any_state(&self) -> bool {
        self.any.state
    }

    pub(crate) fn has(&self, phase: Phase, state: u32) -> bool {
        phase
            .place()
            .is_some_and(|place| has(&self.sets[place], state))
    }

    /// Whether any handler may be asked.
    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    fn stays(&self) -> bool {
        self.sets[STAY].iter().any(|word| *word != 0)
    }

    /// Whether `state` has a handler for its coming or going.
    #[inline]
    pub(super) fn moves(&self, state: u32) -> bool {
        has(&self.moves, state)
    }

    /// Whether there are handlers for other things than coming and going.
    pub(super) fn beyond_moves(&self) -> bool {
        self.beyond_moves
    }
}

/// What a transition comes to, for those that have a say in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Whether it concerns any handler; without, the rest is not filled in.
    pub(crate) concerns: bool,
    /// The states that end, in the order of their handlers (rule R13).
    pub(crate) exits: Vec<u32>,
    /// The states that begin or are called again, in the order of their handlers.
    pub(crate) enters: Vec<u32>,
    /// The active states before and after.
    pub(crate) before: Vec<u64>,
    pub(crate) after: Vec<u64>,
}

impl Plan {
    pub(super) fn clear(&mut self) {
        self.concerns = false;
        self.exits.clear();
        self.enters.clear();
    }
}

/// What a handler can see at one moment of a transition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) ticks: &'a [u64],
    pub(crate) before: &'a [u64],
    pub(crate) after: &'a [u64],
    pub(crate) now: &'a [u64],
    pub(crate) revision: u64,
}

/// What handlers answer.
pub(crate) enum Answer {
    Accept,
    /// No, which of an auto mutation may concern one state only.
    Refuse(Reason<u32>),
    /// No, and nobody else is asked.
    Cancel(Reason<u32>),
}

/// What is bound, and who asks.
pub(crate) struct Negotiator<'a> {
    pub(crate) bound: &'a Bound,
    pub(crate) asker: &'a mut dyn Ask,
}

/// Whoever calls negotiation handlers.
pub(crate) trait Ask {
    /// Asks all handlers of `state` in `phase`, or those of the pair that is at `pair` among the
    /// bound ones.
    fn ask(&mut self, scene: &Stage<'_>, phase: Phase, state: u32, pair: usize) -> Answer;
}

/// Where a state stands in the active list or in the target list.
pub(super) type Rank = (u32, i64);

/// One negotiation.
pub(super) struct Talk<'a> {
    pub(super) c: &'a Compiled,
    pub(super) request: Request<'a>,
    pub(super) ticks: &'a [u64],
    pub(super) revision: u64,
}

impl Talk<'_> {
    /// Rules R14 and R15. What is dropped of an auto mutation is struck from `plan.after`.
    pub(super) fn run(
        &self,
        plan: &mut Plan,
        before_rank: impl Fn(u32) -> Rank,
        target_rank: impl Fn(u32) -> Rank,
        negotiator: &mut Negotiator<'_>,
    ) -> Result<(), Reason<u32>> {
        for i in 0..plan.exits.len() {
            let state = plan.exits[i];
            if negotiator.bound.has(Phase::Exit, state) {
                self.ask(plan, Phase::Exit, state, 0, None, negotiator)?;
            }
        }
        for i in 0..plan.enters.len() {
            let state = plan.enters[i];
            if negotiator.bound.has(Phase::Enter, state) {
                self.ask(plan, Phase::Enter, state, 0, Some(state), negotiator)?;
            }
        }
        if self.request.op != Op::Remove && negotiator.bound.stays() {
            for state in stays(negotiator.bound, plan, &target_rank) {
                self.ask(plan, Phase::Stay, state, 0, Some(state), negotiator)?;
            }
        }
        for pair in pairs(negotiator.bound, plan, before_rank, target_rank) {
            let after = negotiator.bound.pairs[pair].after;
            self.ask(plan, Phase::Between, after, pair, Some(after), negotiator)?;
        }
        if self.request.auto && plan.after.iter().all(|word| *word == 0) {
            return Err(Reason::NoCandidate);
        }
        if negotiator.bound.any.enter {
            self.ask(plan, Phase::AnyEnter, 0, 0, None, negotiator)?;
        }
        Ok(())
    }

    /// Asks, and drops `about` where that is an auto state of an auto mutation and refused.
    fn ask(
        &self,
        plan: &mut Plan,
        phase: Phase,
        state: u32,
        pair: usize,
        about: Option<u32>,
        negotiator: &mut Negotiator<'_>,
    ) -> Result<(), Reason<u32>> {
        let scene = Stage {
            request: self.request,
            ticks: self.ticks,
            before: &plan.before,
            after: &plan.after,
            now: &plan.before,
            revision: self.revision,
        };
        match (negotiator.asker.ask(&scene, phase, state, pair), about) {
            (Answer::Accept, _) => Ok(()),
            (Answer::Refuse(_), Some(state)) if self.request.auto && self.c.is_auto(state) => {
                plan.after[state as usize / 64] &= !(1 << (state % 64));
                Ok(())
            }
            (Answer::Refuse(reason) | Answer::Cancel(reason), _) => Err(reason),
        }
    }
}

/// The bound states that were active and stay so, in target order.
fn stays(bound: &Bound, plan: &Plan, rank: impl Fn(u32) -> Rank) -> Vec<u32> {
    let words = bound.sets[STAY].iter().zip(&plan.before).zip(&plan.after);
    let words: Vec<u64> = words.map(|((a, b), c)| a & b & c).collect();
    let mut states: Vec<u32> = ones(&words).map(as_index).collect();
    states.sort_by_cached_key(|state| rank(*state));
    states
}

/// The bound pairs of a state that was active and one that will be, the former by their order in
/// the active list, then the latter by theirs in the target list.
fn pairs(
    bound: &Bound,
    plan: &Plan,
    before_rank: impl Fn(u32) -> Rank,
    target_rank: impl Fn(u32) -> Rank,
) -> Vec<usize> {
    let concerned = |pair: &Pair| has(&plan.before, pair.before) && has(&plan.after, pair.after);
    let mut places: Vec<usize> = (0..bound.pairs.len())
        .filter(|place| concerned(&bound.pairs[*place]))
        .collect();
    places.sort_by_cached_key(|place| {
        let pair = bound.pairs[*place];
        (before_rank(pair.before), target_rank(pair.after))
    });
    places
}

fn has(set: &[u64], state: u32) -> bool {
    set[state as usize / 64] >> (state % 64) & 1 == 1
}

fn set(set: &mut [u64], state: u32) {
    set[state as usize / 64] |= 1 << (state % 64);
}
