//! The general road: rules R5 to R12 and R17 on lists, whatever holds of the active states.

use smallvec::SmallVec;

use crate::mutation::{Op, Reason, StateList};
use crate::relations::{Compiled, KEYLESS};
use crate::steps::Step;

use super::negotiate::{Rank, Talk};
use super::{Bound, Negotiator, Plan, Request, Status};

/// The lists and sets of a resolution, used again in each.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    before: Vec<u32>,
    list: Vec<u32>,
    target: Vec<u32>,
    /// The auto states that handlers refused.
    left_out: Vec<u32>,
    have: Vec<u64>,
    gone: Vec<u64>,
}

impl Status {
    pub(super) fn general(
        &mut self,
        c: &Compiled,
        request: Request<'_>,
        negotiator: &mut Option<Negotiator<'_>>,
        dry: bool,
    ) -> Result<(), Reason<u32>> {
        let mut lists = std::mem::take(&mut self.lists);
        let mut plan = std::mem::take(&mut self.plan);
        let result = self.decide(c, request, &mut lists, &mut plan, negotiator, dry);
        for state in lists.left_out.drain(..).filter(|_| !dry) {
            self.log.leave_out(state);
        }
        if result.is_ok() && !dry {
            self.apply(c, request, &lists);
            self.check_clean(c);
        }
        self.lists = lists;
        self.plan = plan;
        result
    }

    /// An auto mutation of which handlers refused these states, as [`Status::run`] has it (rule R17).
    pub(crate) fn run_without(&mut self, c: &Compiled, request: Request<'_>, left_out: &[u32]) {
        self.start = self.log.mark();
        let mut lists = std::mem::take(&mut self.lists);
        lists.begin(self.active.order(c), c.len());
        let mut fell = Fell::new(request.called);
        self.resolve(c, &mut lists, request, &mut fell);
        let reached = request.called.iter().copied();
        let reached: StateList<u32> = reached
            .filter(|state| has(&lists.have, *state) && !left_out.contains(state))
            .collect();
        self.resolve(c, &mut lists, request, &mut Fell::new(&reached));
        self.apply(c, request, &lists);
        self.check_clean(c);
        self.lists = lists;
        if self.log.changes.len() > self.start.changes {
            self.revision += 1;
        }
    }

    /// Leaves the target in `lists`.
    fn decide(
        &self,
        c: &Compiled,
        request: Request<'_>,
        lists: &mut Lists,
        plan: &mut Plan,
        negotiator: &mut Option<Negotiator<'_>>,
        dry: bool,
    ) -> Result<(), Reason<u32>> {
        lists.begin(self.active.order(c), c.len());
        let mut fell = Fell::new(request.called);
        self.resolve(c, lists, request, &mut fell);
        let refused = fell.refused(request.op, lists);
        if request.auto {
            // Rule R11 for auto mutations, then R17.
            let reached = request
                .called
                .iter()
                .copied()
                .filter(|s| has(&lists.have, *s));
            let mut called: StateList<u32> = reached.collect();
            if called.is_empty() {
                return Err(Reason::NoCandidate);
            }
            if let Some(negotiator) = negotiator {
                self.settle_general(c, request, lists, plan, negotiator)?;
                if plan.concerns {
                    let refused = called.iter().filter(|state| !has(&plan.after, **state));
                    lists.left_out.extend(refused);
                    called.retain(|state| has(&plan.after, *state));
                }
            }
            self.resolve(c, lists, request, &mut Fell::new(&called));
            if let Some(negotiator) = negotiator {
                lists.plan(c, request, plan, negotiator.bound);
            }
            return Ok(());
        }
        let judged = !dry || !request.called.iter().any(|state| c.is_multi(*state));
        if let Some(reason) = refused.filter(|_| judged) {
            return Err(reason);
        }
        if let Some(negotiator) = negotiator {
            self.settle_general(c, request, lists, plan, negotiator)?;
        }
        Ok(())
    }

    /// Says what the transition comes to, and asks whoever is concerned.
    fn settle_general(
        &self,
        c: &Compiled,
        request: Request<'_>,
        lists: &Lists,
        plan: &mut Plan,
        negotiator: &mut Negotiator<'_>,
    ) -> Result<(), Reason<u32>> {
        lists.plan(c, request, plan, negotiator.bound);
        if !plan.concerns || !negotiator.bound.asks() {
            return Ok(());
        }
        let talk = Talk {
            c,
            request,
            ticks: &self.ticks,
            revision: self.revision,
        };
        let rank = |list: &[u32], state: u32| -> Rank {
            let place = list.iter().position(|other| *other == state);
            (
                0,
                place
                    .and_then(|place| i64::try_from(place).ok())
                    .unwrap_or(i64::MAX),
            )
        };
        let before = |state| rank(&lists.before, state);
        let after = |state| rank(&lists.target, state);
        talk.run(plan, before, after, negotiator)
    }

    /// Rules R5 to R10: fills `lists.target`.
    fn resolve(&self, c: &Compiled, lists: &mut Lists, request: Request<'_>, fell: &mut Fell<'_>) {
        let called = fell.called;
        let left_out = (request.op == Op::Remove).then_some(called);
        lists.start(request.op, called);
        self.add_pass(c, lists, left_out, fell);
        lists.require_pass(c, fell);
        lists.blocking_walk(c, fell);
        self.add_pass(c, lists, left_out, fell);
        lists.finish(c, fell);
    }

    /// What [`Status::run`] would do without handlers, step by step.
    pub(crate) fn steps(&self, c: &Compiled, request: Request<'_>) -> Vec<Step<u32>> {
        let mut lists = Lists::default();
        lists.begin(self.active.order(c), c.len());
        let mut fell = Fell::new(request.called);
        fell.steps = Some(request.called.iter().copied().map(Step::Called).collect());
        self.resolve(c, &mut lists, request, &mut fell);
        let mut steps = fell.steps.take().unwrap_or_default();
        if request.auto {
            let reached = request.called.iter().copied();
            let reached: Vec<u32> = reached.filter(|state| has(&lists.have, *state)).collect();
            if reached.is_empty() {
                steps.push(Step::Refused(Reason::NoCandidate));
                return steps;
            }
            if reached.len() < request.called.len() {
                steps.push(Step::Again(reached.clone()));
                let mut fell = Fell::new(&reached);
                fell.steps = Some(steps);
                self.resolve(c, &mut lists, request, &mut fell);
                steps = fell.steps.take().unwrap_or_default();
            }
        } else if let Some(reason) = fell.refused(request.op, &lists) {
            steps.push(Step::Refused(reason));
            return steps;
        }
        let ends = lists
            .before
            .iter()
            .filter(|state| !has(&lists.have, **state));
        steps.extend(ends.copied().map(Step::Ends));
        steps.extend(lists.target.iter().copied().filter_map(|state| {
            if !self.active.contains(state) {
                return Some(Step::Begins(state));
            }
            let again = !request.auto && c.is_multi(state) && request.called.contains(&state);
            again.then_some(Step::Ticks(state))
        }));
        steps
    }

    /// Rule R6: appends what the states of the list add, and collapses repeats.
    fn add_pass(
        &self,
        c: &Compiled,
        lists: &mut Lists,
        left_out: Option<&[u32]>,
        fell: &mut Fell<'_>,
    ) {
        for i in 0..lists.list.len() {
            let state = lists.list[i];
            if !c.has_add(state) || (self.active.contains(state) && !c.is_multi(state)) {
                continue;
            }
            for add in c.add(state) {
                let removed = left_out.is_some_and(|called| called.contains(add));
                let adds = !removed && !has(&lists.gone, *add);
                if fell.steps.is_some() && !has(&lists.have, *add) {
                    let mut removers = c.removed_by(*add).iter().filter(|_| !removed);
                    let removed_by = removers.find_map(|entry| {
                        entry.first(entry.mask & lists.have[entry.word as usize])
                    });
                    fell.note_add(*add, state, adds, removed_by);
                }
                if adds {
                    lists.push(*add);
                }
            }
        }
    }

    /// Rule R12, and the target list becomes the active one.
    fn apply(&mut self, c: &Compiled, request: Request<'_>, lists: &Lists) {
        for state in &lists.before {
            if !has(&lists.have, *state) {
                self.active.clear_bit(*state);
            }
        }
        for state in &lists.target {
            self.active.set_bit(*state);
        }
        for state in &lists.before {
            if !has(&lists.have, *state) {
                self.deactivate(c, *state);
            }
        }
        for state in &lists.target {
            if self.ticks[*state as usize].is_multiple_of(2) {
                self.activate(c, *state);
            } else if !request.auto && c.is_multi(*state) && request.called.contains(state) {
                self.tick(c, *state, 2);
            }
        }
        self.active.set_order(c, &lists.target);
    }
}

/// Why called states fell.
struct Fell<'a> {
    called: &'a [u32],
    reasons: SmallVec<[(u32, Reason<u32>); 8]>,
    /// All that happens, if anybody wants to know.
    steps: Option<Vec<Step<u32>>>,
}

impl<'a> Fell<'a> {
    fn new(called: &'a [u32]) -> Self {
        Self {
            called,
            reasons: SmallVec::new(),
            steps: None,
        }
    }

    /// Why the first called state fell that is not in the target (rule R11).
    fn refused(self, op: Op, lists: &Lists) -> Option<Reason<u32>> {
        let mut called = self.called.iter();
        let missing = called.find(|state| op != Op::Remove && !has(&lists.have, **state))?;
        Some(self.reason(*missing))
    }

    fn note_add(&mut self, state: u32, by: u32, adds: bool, removed_by: Option<u32>) {
        if let Some(steps) = &mut self.steps {
            steps.push(if adds {
                Step::Added { state, by }
            } else {
                Step::NotAdded {
                    state,
                    by,
                    removed_by,
                }
            });
        }
    }

    fn note(&mut self, state: u32, reason: Reason<u32>) {
        if let Some(steps) = &mut self.steps {
            steps.push(match &reason {
                Reason::Missing { state, requires } => Step::Missing {
                    state: *state,
                    requires: *requires,
                },
                Reason::Blocked { state, by } => Step::Blocked {
                    state: *state,
                    by: *by,
                },
                other => Step::Refused(other.clone()),
            });
        }
        if self.called.contains(&state) {
            self.reasons.push((state, reason));
        }
    }

    /// Why `state` fell last.
    fn reason(self, state: u32) -> Reason<u32> {
        let mut reasons = self.reasons.into_iter().rev();
        reasons
            .find_map(|(fallen, reason)| (fallen == state).then_some(reason))
            .expect("a called state is in the list until a pass drops it and says why")
    }
}

impl Lists {
    /// Takes in what is active before the transition, of so many states.
    fn begin(&mut self, before: impl Iterator<Item = u32>, states: usize) {
        self.before.clear();
        self.before.extend(before);
        self.have.resize(states.div_ceil(64), 0);
        self.gone.resize(states.div_ceil(64), 0);
    }

    /// What the transition comes to, if that is of interest to any handler (rule R13).
    fn plan(&self, c: &Compiled, request: Request<'_>, plan: &mut Plan, bound: &Bound) {
        plan.clear();
        plan.before.clear();
        plan.before.resize(self.have.len(), 0);
        for state in &self.before {
            set(&mut plan.before, *state);
        }
        plan.after.clone_from(&self.have);
        let ends = |state: &u32| !has(&self.have, *state);
        plan.exits.extend(self.before.iter().copied().filter(ends));
        sort(c, &mut plan.exits);
        let begins = |state: &u32| {
            let again = c.is_multi(*state) && request.called.contains(state);
            again || !has(&plan.before, *state)
        };
        plan.enters
            .extend(self.target.iter().copied().filter(begins));
        let mut moves = plan.exits.iter().chain(&plan.enters);
        plan.concerns = bound.beyond_moves() || moves.any(|state| bound.moves(*state));
    }

    /// Rule R5: the starting list.
    fn start(&mut self, op: Op, called: &[u32]) {
        self.list.clear();
        self.have.fill(0);
        self.gone.fill(0);
        if op != Op::Remove {
            for state in called {
                self.push(*state);
            }
        }
        if op != Op::Set {
            let before = std::mem::take(&mut self.before);
            for state in &before {
                if op != Op::Remove || !called.contains(state) {
                    self.push(*state);
                }
            }
            self.before = before;
        }
    }

    /// Appends a state that the list does not have yet.
    fn push(&mut self, state: u32) {
        if !has(&self.have, state) {
            set(&mut self.have, state);
            self.list.push(state);
        }
    }

    /// Rule R7. That the rounds drop states at once or one by one comes to the same list.
    fn require_pass(&mut self, c: &Compiled, fell: &mut Fell<'_>) {
        let Self { list, have, .. } = self;
        let mut before = usize::MAX;
        while before != list.len() {
            before = list.len();
            list.retain(|state| {
                let lacks = c.require(*state).iter().find_map(|entry| {
                    let lack = entry.mask & !have[entry.word as usize];
                    (lack != 0).then(|| entry.word * 64 + lack.trailing_zeros())
                });
                if let Some(requires) = lacks {
                    unset(have, *state);
                    fell.note(
                        *state,
                        Reason::Missing {
                            state: *state,
                            requires,
                        },
                    );
                }
                lacks.is_none()
            });
        }
    }

    /// Rule R8, and the set G of rule R9. Leaves the list in walk order.
    fn blocking_walk(&mut self, c: &Compiled, fell: &mut Fell<'_>) {
        let Self {
            list, have, gone, ..
        } = self;
        list.reverse();
        list.retain(|state| {
            let by = c.removed_by(*state).iter().find_map(|entry| {
                let by = entry.mask & have[entry.word as usize];
                (by != 0).then(|| entry.word * 64 + by.trailing_zeros())
            });
            if let Some(by) = by {
                unset(have, *state);
                fell.note(*state, Reason::Blocked { state: *state, by });
            }
            by.is_none()
        });
        for state in list.iter() {
            for entry in c.remove(*state) {
                gone[entry.word as usize] |= entry.mask;
            }
        }
    }

    /// The rest of rule R9, after the second add pass: what K removes was never appended, as
    /// nothing that K removes is in K.
    fn finish(&mut self, c: &Compiled, fell: &mut Fell<'_>) {
        self.list.reverse();
        self.require_pass(c, fell);
        self.target.clear();
        self.target.append(&mut self.list);
        sort(c, &mut self.target);
    }
}

/// Rule R10.
pub(super) fn sort(c: &Compiled, list: &mut [u32]) {
    // KEYLESS, the greatest number, wraps to 0: without a key comes first.
    const { assert!(KEYLESS == u32::MAX) };
    list.sort_by_key(|state| c.key(*state).wrapping_add(1));
    if !c.after_live() {
        return;
    }
    for i in 1..list.len() {
        let mut j = i;
        while j > 0 && c.comes_after(list[j - 1], list[j]) {
            list.swap(j - 1, j);
            j -= 1;
        }
    }
}

fn has(set: &[u64], state: u32) -> bool {
    set[state as usize / 64] >> (state % 64) & 1 == 1
}

fn set(set: &mut [u64], state: u32) {
    set[state as usize / 64] |= 1 << (state % 64);
}

fn unset(set: &mut [u64], state: u32) {
    set[state as usize / 64] &= !(1 << (state % 64));
}
