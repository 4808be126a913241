//! The machine equals a slow reading of the rules: on all recorded cases, and on random schemas.
//!
//! `PROPTEST_CASES=200000 cargo test --release --test reference` looks further than a usual run.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::path::Path;

use machine_runtime::{DynState, Enqueued, Machine, Mutation, Op, Outcome, Reason};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

#[path = "reference/plan.rs"]
mod plan;
#[path = "reference/resolver.rs"]
mod resolver;
#[path = "reference/slow.rs"]
mod slow;
#[path = "../examples/conformance/subs.rs"]
mod subs;
#[path = "../examples/conformance/traced.rs"]
mod traced;
#[path = "../examples/conformance/vectors.rs"]
mod vectors;

use plan::{Act, Plan};
use slow::{Ended, Place, Slow};
use vectors::Subject;

#[test]
fn the_slow_reading_agrees_with_every_recorded_case() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/vectors");
    let mut out = Vec::new();
    let verdict = vectors::check_folder::<Slow>(&folder, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_ne!(verdict, vectors::Verdict::Apart, "{text}");
    assert!(text.contains("relations 2250/2250 cases agree"), "{text}");
    assert!(text.contains("flights 18/18 cases agree"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        // The smallest failing plan is printed in full and becomes a test of its own.
        failure_persistence: None,
        max_shrink_iters: 20_000,
        cases: ProptestConfig::default().cases.max(1_000),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_machine_equals_the_slow_reading(plan in plan::plans()) {
        follow(&plan)?;
    }
}

/// Carries out a plan on both and compares them after each call.
fn follow(plan: &Plan) -> Result<(), TestCaseError> {
    let mut slow = Slow::start(&plan.states, &plan.schema).unwrap();
    let mut fast = Machine::<DynState>::start(&plan.states, &plan.schema).unwrap();
    for act in &plan.acts {
        match act {
            Act::Mutate(op, called) => {
                fast.run();
                slow.run();
                compare(&fast, &slow)?;
                let outcome = fast.mutate(&Mutation::new(*op, dyn_states(called)));
                if let Outcome::Canceled(reason) = &outcome {
                    let reason = reason.clone().map(|state| state.0 as usize);
                    prop_assert!(is_valid(&slow, *op, called, &reason), "{act:?}: {reason:?}");
                }
                let executed = Subject::mutate(&mut slow, *op, called);
                prop_assert_eq!(outcome.is_executed(), executed, "{:?}", act);
            }
            Act::Enqueue(op, called, payload) => {
                let mut mutation = Mutation::new(*op, dyn_states(called));
                // One that is kept would be in the digest, of which the slow reading knows nothing.
                let takes = called
                    .iter()
                    .find(|state| !fast.schema().is_retained(**state));
                let takes = takes.filter(|_| *payload);
                if let Some(state) = takes {
                    mutation = mutation.with_payload(dyn_states(&[*state])[0], "x");
                }
                let place = match fast.enqueue(&mutation).unwrap() {
                    Enqueued::Queued(tick) => Place::Queued(tick),
                    Enqueued::Merged(tick) => Place::Merged(tick),
                    other => return Err(TestCaseError::fail(format!("{other:?}"))),
                };
                prop_assert_eq!(place, slow.enqueue(*op, called, takes.is_some()));
                continue;
            }
            Act::Run => {
                fast.run();
                slow.run();
            }
        }
        compare(&fast, &slow)?;
    }
    Ok(())
}

fn dyn_states(states: &[usize]) -> Vec<DynState> {
    states
        .iter()
        .map(|state| DynState(u32::try_from(*state).unwrap()))
        .collect()
}

fn compare(fast: &Machine<DynState>, slow: &Slow) -> Result<(), TestCaseError> {
    let ended: Vec<Ended> = fast
        .last_run()
        .map(|t| {
            let mut changes: Vec<_> = t.changes().map(|(s, n)| (s.0 as usize, n)).collect();
            changes.sort_unstable();
            let place = |s: DynState| s.0 as usize;
            Ended {
                op: t.op(),
                called: t.called().map(place).collect(),
                auto: t.is_auto(),
                accepted: t.is_accepted(),
                changes,
                revision: t.revision(),
                // The machine keeps the digest of them.
                ticks: Vec::new(),
            }
        })
        .collect();
    prop_assert_eq!(ended.len(), slow.ended.len());
    for ((fast, slow), t) in ended.iter().zip(&slow.ended).zip(fast.last_run()) {
        prop_assert_eq!(t.digest(), digest(&slow.ticks));
        prop_assert_eq!(
            &Ended {
                ticks: slow.ticks.clone(),
                ..fast.clone()
            },
            slow
        );
    }
    prop_assert_eq!(fast.ticks(), &slow.ticks);
    prop_assert_eq!(fast.order(), slow.active.clone());
    let active: Vec<usize> = fast.active().iter().map(|s| s.0 as usize).collect();
    let odd: Vec<usize> = (0..slow.ticks.len())
        .filter(|i| slow.ticks[*i] % 2 == 1)
        .collect();
    prop_assert_eq!(active, odd);
    prop_assert_eq!(fast.revision(), slow.revision);
    prop_assert_eq!(fast.digest(), digest(&slow.ticks));
    prop_assert_eq!(fast.queue_tick(), slow.queue_tick);
    // What the fast road stands on.
    prop_assert_eq!(&slow.resolver.sorted(slow.active.clone()), &slow.active);
    Ok(())
}

/// The digest by its definition: part of the wire contract.
fn digest(ticks: &[u64]) -> u64 {
    let factor = |index: u64| {
        let mut x = (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) | 1
    };
    let terms = (0..)
        .zip(ticks)
        .map(|(index, tick)| factor(index).wrapping_mul(*tick));
    terms.fold(0, u64::wrapping_add)
}

/// Whether the reason for a refusal names relations that exist and states that are concerned.
fn is_valid(slow: &Slow, op: Op, called: &[usize], reason: &Reason<usize>) -> bool {
    let op = if op == Op::Toggle { Op::Add } else { op };
    match reason {
        Reason::Blocked { state, by } => {
            // In the list are the called, the active, and what these add on two levels.
            let mut list: Vec<usize> = called.to_vec();
            list.extend(&slow.active);
            for _ in 0..2 {
                let added = list
                    .iter()
                    .flat_map(|state| slow.resolver.rules[*state].add.clone());
                list.extend(added.collect::<Vec<_>>());
            }
            called.contains(state)
                && slow.resolver.rules[*by].remove.contains(state)
                && list.contains(by)
        }
        Reason::Missing { state, requires } => {
            // What falls first and is added again (rule R9) comes back too late to help.
            let added = slow
                .resolver
                .rules
                .iter()
                .any(|rules| rules.add.contains(requires));
            let lacking = !slow.active.contains(requires)
                || !slow
                    .resolver
                    .target(&slow.active, op, called)
                    .contains(requires)
                || added;
            called.contains(state)
                && slow.resolver.rules[*state].require.contains(requires)
                && lacking
        }
        _ => false,
    }
}
