//! What holds of every machine after every transition, whatever its handlers do: on random schemas
//! with random handlers that refuse, panic, take too long and append.
//!
//! `PROPTEST_CASES=20000 cargo test --release --test invariants` looks further than a usual run.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use machine_runtime::{
    Cause, Diverged, DynState, Enqueued, ErrorKind, Machine, Mutation, Op, Outcome, Phase, Reason,
    Recorded, Step, Transition, whatif,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

#[path = "reference/plan.rs"]
mod plan;
#[expect(dead_code, reason = "part of it builds machines by hand")]
#[path = "handlers/script.rs"]
mod script;
#[path = "../examples/conformance/subs.rs"]
mod subs;
#[path = "../examples/conformance/traced.rs"]
mod traced;
#[expect(dead_code, reason = "only what a schema looks like is of use here")]
#[path = "../examples/conformance/vectors.rs"]
mod vectors;

use plan::{Act, Plan};
use script::{Clock, Log, Script, boom};
use vectors::{RawSchema, RawState, build};

/// A handler, and what it does.
#[derive(Clone, Debug)]
struct Rule {
    phase: Phase,
    state: usize,
    /// Of a pair, the one after.
    other: usize,
    what: What,
    /// At which of its calls it does so; at each if absent. It accepts otherwise.
    nth: Option<u64>,
}

#[derive(Clone, Debug)]
enum What {
    Accept,
    Refuse,
    Panic,
    /// It takes so many milliseconds.
    Take(u64),
    Append(Op, Vec<usize>, bool),
    Fail,
}

/// How often a rule appends at most.
const APPENDS: u64 = 3;

fn rule(appends: u32) -> impl Strategy<Value = Rule> {
    let op = prop::sample::select(&[Op::Add, Op::Add, Op::Remove, Op::Set, Op::Toggle][..]);
    let append = (op, vec(0..1000_usize, 0..=3), any::<bool>());
    let what = prop_oneof![
        3 => Just(What::Accept),
        3 => Just(What::Refuse),
        2 => Just(What::Panic),
        2 => Just(What::Take(26)),
        1 => Just(What::Take(10_001)),
        appends => append.prop_map(|(op, states, payload)| What::Append(op, states, payload)),
        appends.min(1) => Just(What::Fail),
    ];
    let nth = prop::option::of(0..4_u64);
    let phase = prop::sample::select(&Phase::ALL[..]);
    (phase, 0..1000_usize, 0..1000_usize, what, nth).prop_map(|(phase, state, other, what, nth)| {
        Rule {
            phase,
            state,
            other,
            what,
            nth,
        }
    })
}

/// A plan, in a third of all cases without Add relations, and handlers.
fn cases(appends: u32) -> impl Strategy<Value = (Plan, Vec<Rule>)> {
    let no_adds = prop::bool::weighted(0.3);
    (plan::plans(), no_adds, vec(rule(appends), 0..=12)).prop_map(|(mut plan, no_adds, rules)| {
        if no_adds {
            plan.schema.values_mut().for_each(|state| state.add.clear());
        }
        (plan, rules)
    })
}

fn dyn_states(states: &[usize], count: usize) -> Vec<DynState> {
    let states = states.iter().map(|state| state % count);
    states
        .map(|state| DynState(u32::try_from(state).unwrap()))
        .collect()
}

fn mutation(op: Op, states: &[usize], count: usize, payload: bool) -> Mutation<DynState> {
    let states = dyn_states(states, count);
    let mutation = Mutation::new(op, states.clone());
    match states.first().filter(|_| payload) {
        Some(first) => mutation.with_payload(*first, "1"),
        None => mutation,
    }
}

/// A machine and what was noted of it.
struct Subject {
    machine: Machine<DynState>,
    count: usize,
    log: Log,
    clock: Clock,
    /// The queue ticks that were promised, and how often each of those came up.
    tickets: Arc<Mutex<BTreeMap<u64, u32>>>,
}

impl Subject {
    /// With `detour`, an After relation of two states that nobody calls keeps the machine off the
    /// fast road.
    fn new(plan: &Plan, rules: &[Rule], detour: bool) -> Self {
        let (mut states, mut schema) = (plan.states.clone(), plan.schema.clone());
        if detour {
            states.extend(["Y".to_owned(), "Z".to_owned()]);
            let after = RawState {
                after: vec!["Z".to_owned()],
                ..RawState::default()
            };
            schema.extend([
                ("Y".to_owned(), after),
                ("Z".to_owned(), RawState::default()),
            ]);
        }
        let machine = Machine::with_schema(build(&states, &schema).unwrap().into());
        let mut subject = Self {
            machine,
            count: plan.states.len(),
            log: Log::default(),
            clock: Clock::default(),
            tickets: Arc::default(),
        };
        subject.clock.lend(&mut subject.machine);
        if !rules.is_empty() {
            let script = rules
                .iter()
                .fold(Script::new(), |script, rule| subject.bind(rule, script));
            subject.machine.bind(script);
        }
        subject
    }

    fn bind(&self, rule: &Rule, script: Script) -> Script {
        let (calls, count) = (AtomicU64::new(0), self.count);
        let (rule, own) = (rule.clone(), rule.clone());
        let (log, clock, tickets) = (self.log.clone(), self.clock.clone(), self.tickets.clone());
        let at = |state: usize| DynState(u32::try_from(state % count).unwrap());
        let (state, other) = (at(rule.state), at(rule.other));
        // Says whether it accepts.
        let run = move |append: &mut dyn FnMut(Option<&Mutation<DynState>>) -> Enqueued| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            log.note(format!("{} {} {}", rule.phase, rule.state, rule.other));
            if rule.nth.is_some_and(|nth| nth != call) {
                return true;
            }
            let made = match &rule.what {
                What::Accept => return true,
                What::Refuse => return false,
                What::Panic => boom(),
                What::Take(millis) => {
                    clock.pass(*millis);
                    return true;
                }
                _ if call >= APPENDS => return true,
                What::Append(op, states, payload) => {
                    append(Some(&mutation(*op, states, count, *payload)))
                }
                What::Fail => append(None),
            };
            log.note(format!("{made:?}"));
            if let Enqueued::Queued(tick) = made {
                tickets.lock().unwrap().insert(tick, 0);
            }
            true
        };
        match own.phase {
            Phase::End | Phase::State | Phase::AnyState => {
                script.tell(own.phase, state, move |cx| {
                    run(&mut |mutation| match mutation {
                        Some(mutation) => cx.mutate(mutation).unwrap(),
                        None => cx.fail("failed"),
                    });
                })
            }
            phase => {
                let ask = move |cx: &mut machine_runtime::Negotiation<'_, DynState>| {
                    run(&mut |mutation| match mutation {
                        Some(mutation) => cx.mutate(mutation).unwrap(),
                        None => cx.fail("failed"),
                    })
                };
                if phase == Phase::Between {
                    script.between(state, other, ask)
                } else {
                    script.ask(phase, state, ask)
                }
            }
        }
    }

    fn order(&self) -> Vec<usize> {
        let order = self.machine.active_list();
        order.map(|state| state.0 as usize).collect()
    }

    fn look(&self) -> (Vec<u64>, Vec<usize>, [u64; 6]) {
        let m = &self.machine;
        let numbers = [
            m.revision(),
            m.digest(),
            m.queue_tick(),
            m.queue_len() as u64,
            m.error_count(),
            m.last_run().len() as u64,
        ];
        (m.ticks().to_vec(), self.order(), numbers)
    }

    fn act(&mut self, act: &Act, count: usize) {
        // How it ends is looked at afterwards.
        match act {
            Act::Mutate(op, called) => {
                let _ = self.machine.mutate(&mutation(*op, called, count, false));
            }
            Act::Enqueue(op, called, payload) => {
                let _ = self
                    .machine
                    .enqueue(&mutation(*op, called, count, *payload));
            }
            Act::Run => self.machine.run(),
        }
    }

    fn enqueue(&mut self, mutation: &Mutation<DynState>) -> Result<Enqueued, Reason<DynState>> {
        let enqueued = self.machine.enqueue(mutation)?;
        if let Enqueued::Queued(tick) = enqueued {
            self.tickets.lock().unwrap().insert(tick, 0);
        }
        Ok(enqueued)
    }

    /// Counts the tickets that came up in the last run or step.
    fn resolve(&self) -> Result<(), TestCaseError> {
        let ran = self.machine.last_run().filter_map(|t| t.queue_tick());
        let dropped = self.machine.dropped().map(|(tick, _)| tick);
        let mut tickets = self.tickets.lock().unwrap();
        for tick in ran.chain(dropped) {
            let times = tickets.entry(tick).or_default();
            *times += 1;
            prop_assert_eq!(*times, 1, "queue tick {} came up twice", tick);
        }
        Ok(())
    }
}

/// What holds after each transition.
struct Watch<'a> {
    schema: &'a RawSchema,
    states: &'a [String],
    ticks: Vec<u64>,
    revision: u64,
    /// Whether the transition before could cause an auto one.
    auto_may_follow: bool,
}

impl Watch<'_> {
    fn check(&mut self, m: &Machine<DynState>) -> Result<(), TestCaseError> {
        prop_assert_eq!(m.last_run().len(), 1);
        let t = m.last_run().next().unwrap();
        self.check_ticks(m, &t)?;
        let active = |name: &String| {
            let place = self.states.iter().position(|state| state == name);
            place.is_some_and(|place| m.ticks()[place] % 2 == 1)
        };
        let rules = |name: &String| self.schema.get(name).filter(|_| active(name));
        // Every accepted transition ends with a require pass. A repair (a canceled transition that
        // ticked) may leave dependents behind; a canceled one without a tick leaves what there was.
        if t.is_accepted() {
            for name in self.states {
                let lacks = rules(name).and_then(|of| of.require.iter().find(|of| !active(of)));
                prop_assert_eq!(lacks, None, "{} is active without it", name);
            }
        }
        // What a second-level Add brings is not walked (rule R9). Without Add, no active state
        // removes another: of two kept ones each was in the list when the other was judged.
        // Repairs only take away.
        if self.schema.values().all(|state| state.add.is_empty()) {
            for name in self.states {
                // A schema without an entry for `Exception` cannot remove it (Q7).
                let other =
                    |by: &&String| *by != name && active(by) && self.schema.contains_key(*by);
                let removes = rules(name).and_then(|of| of.remove.iter().find(other));
                prop_assert_eq!(removes, None, "{} is active with it", name);
            }
        }
        if t.is_auto() {
            prop_assert!(self.auto_may_follow, "an auto mutation follows nothing");
        }
        self.auto_may_follow = t.is_accepted() && t.changes().len() > 0 && !t.is_auto();
        Ok(())
    }

    fn check_ticks(
        &mut self,
        m: &Machine<DynState>,
        t: &Transition<'_, DynState>,
    ) -> Result<(), TestCaseError> {
        let before = std::mem::replace(&mut self.ticks, m.ticks().to_vec());
        let mut expected = before;
        for (state, ticks) in t.changes() {
            prop_assert!(ticks > 0);
            expected[state.0 as usize] += ticks;
        }
        prop_assert_eq!(m.ticks(), expected, "ticks only grow, as the log says");
        self.revision += u64::from(t.changes().len() > 0);
        prop_assert_eq!(m.revision(), self.revision);
        prop_assert_eq!(t.revision(), self.revision);
        let mut order: Vec<usize> = m.active_list().map(|state| state.0 as usize).collect();
        order.sort_unstable();
        let odd: Vec<usize> = (0..m.ticks().len())
            .filter(|i| m.ticks()[*i] % 2 == 1)
            .collect();
        prop_assert_eq!(&order, &odd);
        let active: Vec<usize> = m.active().iter().map(|state| state.0 as usize).collect();
        prop_assert_eq!(active, odd);
        prop_assert_eq!(m.digest(), digest(m));
        prop_assert_eq!(t.digest(), m.digest());
        if !t.is_accepted() && t.changes().len() > 0 {
            let Some(Reason::Panicked { phase, .. } | Reason::TimedOut { phase, .. }) = t.reason()
            else {
                return Err(TestCaseError::fail(format!("{t:?} changed something")));
            };
            prop_assert!(phase >= Phase::End);
        }
        Ok(())
    }
}

/// The digest by its definition: part of the wire contract.
fn digest(m: &Machine<DynState>) -> u64 {
    let factor = |index: u64| {
        let mut x = (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) | 1
    };
    let terms = (0..).zip(m.ticks()).map(|(index, tick)| {
        let state = DynState(u32::try_from(index).unwrap());
        let retained = m.retained(state).map_or(0, |payload| {
            xxhash_rust::xxh3::xxh3_64_with_seed(payload, index + 1)
        });
        factor(index).wrapping_mul(*tick).wrapping_add(retained)
    });
    terms.fold(0, u64::wrapping_add)
}

/// Carries out a plan step by step on both roads.
fn follow(plan: &Plan, rules: &[Rule]) -> Result<(), TestCaseError> {
    let mut roads = [false, true].map(|detour| Subject::new(plan, rules, detour));
    let count = plan.states.len();
    let mut watches = roads.each_ref().map(|subject| Watch {
        schema: &plan.schema,
        states: &plan.states,
        ticks: vec![0; subject.machine.ticks().len()],
        revision: 0,
        auto_may_follow: false,
    });
    for act in &plan.acts {
        let (mutation, run) = match act {
            Act::Mutate(op, called) => (Some(mutation(*op, called, count, false)), true),
            Act::Enqueue(op, called, payload) => {
                (Some(mutation(*op, called, count, *payload)), false)
            }
            Act::Run => (None, true),
        };
        let mut stories = Vec::new();
        for (subject, watch) in roads.iter_mut().zip(&mut watches) {
            // No time of recovery from the act before.
            subject.clock.pass(3_000);
            let mut story = Vec::new();
            if let Some(mutation) = &mutation {
                story.push(format!("{:?}", subject.enqueue(mutation)));
            }
            while run && subject.machine.step() {
                watch.check(&subject.machine)?;
                subject.resolve()?;
                let t = subject.machine.last_run().next().unwrap();
                let called: Vec<_> = t.called().collect();
                let (op, auto, accepted) = (t.op(), t.is_auto(), t.is_accepted());
                story.push(format!(
                    "{op} {called:?} {auto} {accepted} {:?}",
                    subject.log.take()
                ));
                story.push(format!(
                    "{:?} {:?}",
                    &subject.machine.ticks()[..count],
                    subject.order()
                ));
            }
            prop_assert!(!run || subject.machine.queue_len() == 0);
            stories.push(story);
        }
        prop_assert_eq!(&stories[0], &stories[1], "the roads part at {:?}", act);
    }
    for subject in &mut roads {
        subject.machine.run();
        subject.resolve()?;
        prop_assert_eq!(subject.machine.queue_len(), 0);
        let tickets = subject.tickets.lock().unwrap();
        let lost: Vec<_> = tickets.iter().filter(|(_, times)| **times == 0).collect();
        prop_assert!(lost.is_empty(), "{lost:?}");
    }
    Ok(())
}

/// Carries out a plan with handlers that accept everything, and without.
fn follow_accepting(plan: &Plan, rules: &[Rule]) -> Result<(), TestCaseError> {
    let accept: Vec<Rule> = rules
        .iter()
        .map(|rule| Rule {
            what: What::Accept,
            ..rule.clone()
        })
        .collect();
    let mut subjects = vec![
        Subject::new(plan, &[], false),
        Subject::new(plan, &accept, false),
    ];
    if plan.states.len() <= 12 {
        for detour in [false, true] {
            let mut all = Subject::new(plan, &[], detour);
            let script = Script::tracer(&all.machine.schema().clone(), &Log::default());
            all.machine.bind(script);
            subjects.push(all);
        }
    }
    let count = plan.states.len();
    for act in &plan.acts {
        let mut results = subjects.iter_mut().map(|subject| {
            let m = &mut subject.machine;
            let outcome = match act {
                Act::Mutate(op, called) => {
                    let outcome = m.mutate(&mutation(*op, called, count, false));
                    format!("{}", outcome.is_executed())
                }
                Act::Enqueue(op, called, payload) => {
                    format!("{:?}", m.enqueue(&mutation(*op, called, count, *payload)))
                }
                Act::Run => {
                    m.run();
                    String::new()
                }
            };
            let ran: Vec<_> = m
                .last_run()
                .map(|t| format!("{} {} {:?}", t.op(), t.is_accepted(), t.queue_tick()))
                .collect();
            let ticks = m.ticks()[..count].to_vec();
            let numbers = (m.revision(), m.queue_tick(), m.queue_len(), m.digest());
            (outcome, ran, ticks, numbers, subject.order())
        });
        let first = results.next().unwrap();
        for result in results {
            prop_assert_eq!(&result, &first, "{:?}", act);
        }
    }
    Ok(())
}

/// Asks before each mutation whether it can be made.
fn foretell(plan: &Plan, rules: &[Rule]) -> Result<(), TestCaseError> {
    // What a handler does must not depend on how often it was called.
    let every: Vec<Rule> = rules
        .iter()
        .map(|rule| Rule {
            nth: None,
            ..rule.clone()
        })
        .collect();
    let count = plan.states.len();
    for detour in [false, true] {
        let mut subject = Subject::new(plan, &every, detour);
        for act in &plan.acts {
            let Act::Mutate(op, called) = act else {
                continue;
            };
            subject.clock.pass(3_000);
            let mutation = mutation(*op, called, count, false);
            let before = subject.look();
            let foretold = subject.machine.can(&mutation);
            prop_assert_eq!(subject.look(), before, "a dry run left something");
            let outcome = subject.machine.mutate(&mutation);
            prop_assert_eq!(subject.machine.queue_len(), 0);
            let multi = |state: &DynState| {
                let name = &plan.states[state.0 as usize];
                // One that is supplied is multi.
                plan.schema.get(name).is_none_or(|state| state.multi)
            };
            if let Outcome::Canceled(
                Reason::Panicked { phase, .. } | Reason::TimedOut { phase, .. },
            ) = &outcome
                && *phase >= Phase::End
            {
                prop_assert!(foretold.is_executed(), "{act:?}: {foretold:?}, {outcome:?}");
            } else if !mutation.states().iter().any(multi) {
                let by_handlers = |outcome: &Outcome<_>| match outcome {
                    Outcome::Canceled(Reason::Blocked { .. } | Reason::Missing { .. }) => None,
                    outcome => Some(outcome.clone()),
                };
                prop_assert_eq!(by_handlers(&foretold), by_handlers(&outcome), "{:?}", act);
            }
        }
    }
    Ok(())
}

/// Has a second machine, begun at a checkpoint, do once more what is recorded of the first.
fn record(plan: &Plan, rules: &[Rule]) -> Result<(), TestCaseError> {
    let count = plan.states.len();
    for detour in [false, true] {
        let mut subject = Subject::new(plan, rules, detour);
        let schema = Arc::clone(subject.machine.schema());
        let start = subject.machine.checkpoint();
        let mut shadow = Machine::restore_with(schema, &start).unwrap();
        for act in &plan.acts {
            subject.clock.pass(3_000);
            subject.act(act, count);
            if let Act::Enqueue(..) = act {
                continue;
            }
            for t in subject.machine.last_run() {
                let called: Vec<_> = t.called().map(|state| state.0).collect();
                let changes: Vec<_> = t.changes().map(|(state, n)| (state.0, n)).collect();
                let left_out: Vec<_> = t.left_out().map(|state| state.0).collect();
                let canceled = t.reason().map(|reason| reason.map(|state| state.0));
                let recorded = Recorded {
                    op: t.op(),
                    called: &called,
                    cause: t.cause(),
                    queue_tick: t.queue_tick(),
                    left_out: &left_out,
                    canceled: canceled.as_ref(),
                    changes: &changes,
                };
                let mut before = shadow.fork();
                prop_assert_eq!(shadow.replay(recorded), Ok(()), "{:?}", act);
                prop_assert_eq!(shadow.revision(), t.revision());
                // So is a refusal that is none.
                if t.is_accepted() && !t.is_auto() {
                    let (state, by) = (0, 0);
                    let refused = Recorded {
                        canceled: Some(&Reason::Blocked { state, by }),
                        changes: &[],
                        ..recorded
                    };
                    let told = before.replay(refused);
                    prop_assert!(matches!(told, Err(Diverged::Accepted(_))), "{:?}", told);
                }
            }
            prop_assert_eq!(shadow.ticks(), subject.machine.ticks());
            let list: Vec<_> = shadow.active_list().map(|state| state.0 as usize).collect();
            prop_assert_eq!(list, subject.order(), "{:?}", act);
            // What is recorded otherwise is noticed.
            if let Some(t) = subject.machine.last_run().find(|t| t.changes().len() > 0) {
                let (state, n) = t.changes().next().unwrap();
                let recorded = Recorded {
                    op: Op::Set,
                    called: &[],
                    cause: Cause::Call,
                    queue_tick: None,
                    left_out: &[],
                    canceled: None,
                    changes: &[(state.0, n + 2)],
                };
                prop_assert!(shadow.fork().replay(recorded).is_err());
            }
        }
    }
    Ok(())
}

/// Records of transitions that no machine made, or not in this order.
fn forged(count: u32) -> impl Strategy<Value = Vec<Forged>> {
    let state = 0..=count;
    let op = prop::sample::select(&[Op::Add, Op::Remove, Op::Set, Op::Toggle][..]);
    let cause = prop::sample::select(&[Cause::Call, Cause::Auto, Cause::Panic][..]);
    let (phase, by) = (Phase::State, 1);
    let reasons = [
        None,
        Some(Reason::Blocked { state: 1, by }),
        Some(Reason::NoCandidate),
        Some(Reason::Panicked { phase, state: None }),
    ];
    let canceled = prop::sample::select(Vec::from(reasons));
    let number = prop_oneof![4 => 0..4_u64, 1 => Just(u64::MAX)];
    let changes = vec((state.clone(), number.clone()), 0..4);
    let lists = (vec(state.clone(), 0..4), vec(state, 0..3), changes);
    let one = (op, cause, canceled, prop::option::of(number), lists).prop_map(
        |(op, cause, canceled, queue_tick, (called, left_out, changes))| Forged {
            op,
            cause,
            canceled,
            queue_tick,
            called,
            left_out,
            changes,
        },
    );
    vec(one, 1..40)
}

#[derive(Clone, Debug)]
struct Forged {
    op: Op,
    cause: Cause,
    canceled: Option<Reason<u32>>,
    queue_tick: Option<u64>,
    called: Vec<u32>,
    left_out: Vec<u32>,
    changes: Vec<(u32, u64)>,
}

/// Takes whatever is recorded for a machine's, and has to come to no panic, and to no machine of which
/// ticks and active list disagree.
fn replay_forged(plan: &Plan, forged: &[Forged]) -> Result<(), TestCaseError> {
    let subject = Subject::new(plan, &[], false);
    let mut machine = subject.machine;
    for one in forged {
        let recorded = |changes| Recorded {
            op: one.op,
            called: &one.called,
            cause: one.cause,
            queue_tick: one.queue_tick,
            left_out: &one.left_out,
            canceled: one.canceled.as_ref(),
            changes,
        };
        let mut fork = machine.fork();
        let told = fork.replay(recorded(&one.changes));
        if told.is_ok() {
            machine = fork;
        } else if let Err(Diverged::Ticks {
            state, replayed, ..
        }) = told
        {
            // As the core has it, so that there is more than nothing to go on from.
            let corrected = [(state, replayed)];
            let mut other = machine.fork();
            if other.replay(recorded(&corrected)).is_ok() {
                machine = other;
            }
        }
        let now = machine.checkpoint();
        let schema = Arc::clone(machine.schema());
        prop_assert!(Machine::restore_with(schema, &now).is_ok(), "{:?}", now);
    }
    Ok(())
}

/// Holds the steps of each mutation against what it does.
fn tell_steps(plan: &Plan) -> Result<(), TestCaseError> {
    let count = plan.states.len();
    let mut subject = Subject::new(plan, &[], false);
    let changes = |t: &Transition<'_, DynState>| {
        let mut changes: Vec<_> = t.changes().collect();
        changes.sort_unstable();
        changes
    };
    for act in &plan.acts {
        let Act::Mutate(op, called) = act else {
            continue;
        };
        let mutation = mutation(*op, called, count, false);
        let before = subject.machine.fork();
        let outcome = subject.machine.mutate(&mutation);
        let mut before = before;
        for t in subject.machine.last_run() {
            let steps = if t.is_auto() {
                before.auto_steps(&t.called().collect::<Vec<_>>())
            } else {
                before.steps(&mutation)
            };
            let mut told: Vec<_> = steps
                .iter()
                .filter_map(|step| match step {
                    Step::Begins(state) | Step::Ends(state) => Some((*state, 1)),
                    Step::Ticks(state) => Some((*state, 2)),
                    _ => None,
                })
                .collect();
            told.sort_unstable();
            prop_assert_eq!(&told, &changes(&t), "{:?}: {:?}", act, steps);
            // Of two reasons the fast road may name the other one.
            let refused = steps.iter().any(|step| matches!(step, Step::Refused(_)));
            prop_assert_eq!(refused, !t.is_accepted());
            let called: Vec<_> = t.called().map(|state| state.0).collect();
            let ticked: Vec<_> = t.changes().map(|(state, n)| (state.0, n)).collect();
            let canceled = t.reason().map(|reason| reason.map(|state| state.0));
            let recorded = Recorded {
                op: t.op(),
                called: &called,
                cause: t.cause(),
                queue_tick: t.queue_tick(),
                left_out: &[],
                canceled: canceled.as_ref(),
                changes: &ticked,
            };
            prop_assert_eq!(before.replay(recorded), Ok(()));
        }
        let last = subject.machine.last_run().len();
        prop_assert!(last > 0 || !outcome.is_executed());
    }
    Ok(())
}

/// A list in all its orders.
fn orders(list: &[u32]) -> Vec<Vec<u32>> {
    let Some((first, rest)) = list.split_first() else {
        return vec![Vec::new()];
    };
    let with_first = |rest: Vec<u32>| {
        (0..=rest.len()).map(move |place| {
            let mut list = rest.clone();
            list.insert(place, *first);
            list
        })
    };
    orders(rest).into_iter().flat_map(with_first).collect()
}

/// Holds the smallest mutations that change each state against all that there are.
fn ask_what_if(plan: &Plan) -> Result<(), TestCaseError> {
    let count = plan.states.len();
    let mut subject = Subject::new(plan, &[], false);
    for act in &plan.acts {
        subject.act(act, count);
    }
    subject.machine.run();
    let machine = subject.machine.fork();
    let total = u32::try_from(machine.ticks().len()).unwrap();
    let mut called: Vec<Vec<u32>> = vec![Vec::new()];
    let mut by_size = Vec::new();
    for _ in 0..whatif::MOST_CALLED {
        let longer = called.iter().flat_map(|states| {
            let next = states.last().map_or(0, |last| last + 1);
            (next..total).map(move |state| [&states[..], &[state]].concat())
        });
        called = longer.collect();
        by_size.push(called.clone());
    }
    for state in (0..total).map(DynState) {
        let wanted = !machine.is_active(state);
        let works = |op: Op, called: &[u32]| {
            let mut fork = machine.fork();
            let called: Vec<_> = called.iter().copied().map(DynState).collect();
            let mutation = Mutation::new(op, called);
            fork.mutate(&mutation).is_executed() && fork.is_active(state) == wanted
        };
        let size = by_size.iter().position(|all| {
            let ops = [Op::Add, Op::Remove, Op::Set];
            let mut orders = all.iter().flat_map(|called| orders(called));
            orders.any(|called| ops.iter().any(|op| works(*op, &called)))
        });
        let answer = whatif::smallest(&machine, state, wanted, u64::MAX, || true);
        prop_assert!(!answer.cut_off);
        let found = answer
            .found
            .iter()
            .map(|mutation| mutation.states().len() - 1);
        let found: Vec<_> = found.collect();
        prop_assert_eq!(found.first().copied(), size, "{:?} of {:?}", state, machine);
        for mutation in &answer.found {
            let called: Vec<_> = mutation.states().iter().map(|state| state.0).collect();
            prop_assert!(works(mutation.op(), &called), "{:?}", mutation);
            prop_assert_eq!(Some(called.len() - 1), size);
        }
    }
    Ok(())
}

/// Goes on with a machine and with what is restored of it, from any moment between two acts.
fn restore(plan: &Plan) -> Result<(), TestCaseError> {
    let count = plan.states.len();
    for detour in [false, true] {
        let mut subject = Subject::new(plan, &[], detour);
        for act in &plan.acts {
            let checkpoint = subject.machine.checkpoint();
            let mut other = Subject::new(plan, &[], detour);
            let schema = Arc::clone(subject.machine.schema());
            other.machine = Machine::restore_with(schema, &checkpoint).unwrap();
            prop_assert_eq!(&other.machine.checkpoint(), &checkpoint);
            prop_assert_eq!(other.machine.digest(), subject.machine.digest());
            subject.act(act, count);
            other.act(act, count);
            prop_assert_eq!(other.machine.checkpoint(), subject.machine.checkpoint());
            prop_assert_eq!(other.machine.digest(), subject.machine.digest());
            if !matches!(act, Act::Enqueue(..)) {
                prop_assert_eq!(other.look(), subject.look(), "{:?}", act);
            }
        }
    }
    Ok(())
}

fn config(least: u32) -> ProptestConfig {
    ProptestConfig {
        // The smallest failing plan is printed in full and becomes a test of its own.
        failure_persistence: None,
        max_shrink_iters: 20_000,
        cases: ProptestConfig::default().cases.max(least),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn after_every_transition_the_machine_is_sound_on_both_roads((plan, rules) in cases(3)) {
        follow(&plan, &rules)?;
    }

    #[test]
    fn handlers_that_accept_everything_change_nothing((plan, rules) in cases(0)) {
        follow_accepting(&plan, &rules)?;
    }

    #[test]
    fn what_is_recorded_of_a_machine_is_reproduced_from_a_checkpoint((plan, rules) in cases(3)) {
        record(&plan, &rules)?;
    }

    #[test]
    fn no_record_ends_a_machine_or_makes_it_one_that_cannot_be(
        (plan, _) in cases(0), forged in forged(6)
    ) {
        replay_forged(&plan, &forged)?;
    }

    #[test]
    fn a_restored_machine_goes_on_as_the_other((plan, _) in cases(0)) {
        restore(&plan)?;
    }

    #[test]
    fn steps_tell_what_a_mutation_does((plan, _) in cases(0)) {
        tell_steps(&plan)?;
    }

    #[test]
    fn the_smallest_mutation_that_changes_a_state_is_found(
        // Of more states there are too many mutations to try them all.
        mut plan in plan::plans_of(1..=7_usize)
    ) {
        plan.acts.truncate(6);
        ask_what_if(&plan)?;
    }

    #[test]
    fn a_dry_run_foretells_how_a_mutation_ends((plan, rules) in cases(1)) {
        foretell(&plan, &rules)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..config(0) })]

    /// Handlers that append in every call: the queue drains all the same.
    #[test]
    fn every_run_ends(
        mut plan in plan::plans(),
        appends in vec((0..8_usize, 0..1000_usize, 0..1000_usize), 1..=4),
    ) {
        plan.acts.truncate(2);
        let mut subject = Subject::new(&plan, &[], false);
        let count = plan.states.len();
        for (phase, at, added) in appends {
            let at = dyn_states(&[at], count)[0];
            let toggle = Mutation::toggle(dyn_states(&[added], count));
            let phase = Phase::ALL[phase];
            subject.machine.bind(match phase {
                Phase::End | Phase::State | Phase::AnyState => {
                    Script::new().tell(phase, at, move |cx| drop(cx.mutate(&toggle)))
                }
                Phase::Between => Script::new().between(at, toggle.states(), {
                    let toggle = toggle.clone();
                    move |cx| cx.mutate(&toggle).is_ok()
                }),
                phase => Script::new().ask(phase, at, move |cx| cx.mutate(&toggle).is_err()),
            });
        }
        for act in &plan.acts {
            if let Act::Mutate(op, called) = act {
                let _ = subject.machine.mutate(&mutation(*op, called, count, false));
                prop_assert_eq!(subject.machine.queue_len(), 0);
                prop_assert!(!subject.machine.step());
                let runaway = |error: &machine_runtime::MachineError| error.kind == ErrorKind::Runaway;
                prop_assert!(subject.machine.errors().all(runaway));
            }
        }
    }
}
