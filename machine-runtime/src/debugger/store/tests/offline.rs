//! Cores of moments that are gone, beside the machine that was there.

use fastrand::Rng;

use super::told::{Teller, hello, schema};
use super::*;
use crate::debug::frame::Change;
use crate::machine::Machine;
use crate::mutation::{Mutation, Op};
use crate::state::DynState;

/// What a machine was after an entry.
struct Was {
    index: usize,
    machine: Machine<DynState>,
}

fn watched(seed: u64, runs: usize) -> (Store, StreamId, Teller, Vec<Was>) {
    let mut teller = Teller::new(schema(40, &mut Rng::with_seed(seed)), seed);
    let mut store = Store::new(StoreLimits::default());
    let stream = store.connect(&hello(1)).unwrap().stream;
    store.apply(stream, teller.declared("root", None)).unwrap();
    let key = teller.key();
    store.apply(stream, key).unwrap();
    let mut all = Vec::new();
    for run in 0..runs {
        for frame in teller.mutate() {
            store.apply(stream, frame).unwrap();
        }
        if run % 17 == 0 {
            all.push(Was {
                index: store.machine(MachineId(0)).last().unwrap(),
                machine: teller.core.fork(),
            });
        }
        if run % 1_000 == 999 {
            let key = teller.key();
            store.apply(stream, key).unwrap();
        }
    }
    (store, stream, teller, all)
}

#[test]
fn a_core_of_a_moment_is_the_machine_that_was_there() {
    for seed in 0..3 {
        let (store, _, _, all) = watched(seed, 2_500);
        for was in &all {
            let core = store.core_at(MachineId(0), was.index).unwrap();
            assert_eq!(core.guessed, None);
            assert_eq!(core.machine.ticks(), was.machine.ticks());
            assert_eq!(core.machine.revision(), was.machine.revision());
            assert!(core.machine.active_list().eq(was.machine.active_list()));
        }
    }
}

#[test]
fn a_dry_run_does_what_the_machine_would_have_done() {
    let (store, _, _, mut all) = watched(7, 1_000);
    let mut rng = Rng::with_seed(7);
    for was in &mut all {
        let states = [rng.u32(..40), rng.u32(..40)];
        let op = [Op::Add, Op::Remove, Op::Set, Op::Toggle][rng.usize(..4)];
        let before = was.machine.ticks().to_vec();
        let outcome = was.machine.mutate(&Mutation::new(op, states.map(DynState)));
        let tried = store.dry_run(MachineId(0), was.index, op, &states).unwrap();
        assert_eq!((&tried.outcome, &tried.guessed), (&outcome, &None));
        let after = was.machine.ticks();
        let ticked = (0..before.len()).filter(|i| before[*i] != after[*i]);
        assert!(
            tried
                .changes
                .iter()
                .map(|change| change.state as usize)
                .eq(ticked)
        );
        let all = tried.changes.iter();
        let mut all = all.map(|change| (change.root, change.node, change.state as usize));
        assert!(all.all(|(from, to, i)| (from, to) == (before[i], after[i])));
    }
}

#[test]
fn states_are_explained_as_they_were() {
    let (store, _, _, all) = watched(8, 300);
    for was in &all {
        for state in 0..40 {
            let said = store.explain(MachineId(0), was.index, state);
            assert_eq!(said, was.machine.explain(DynState(state)));
        }
    }
}

#[test]
fn what_was_lost_has_no_core_and_what_handlers_changed_a_guessed_one() {
    let (mut store, stream, mut teller, _) = watched(9, 100);
    let last = store.machine(MachineId(0)).last().unwrap();
    assert_eq!(
        store.core_at(MachineId(0), last + 1).unwrap_err(),
        WhyNot::NotHeld
    );
    // A transition that no relation explains.
    let mut odd = teller.mutate().remove(0);
    if let Body::Transition(told) = &mut odd.body {
        told.changes.push(Change { state: 0, ticks: 2 });
        told.changes.dedup_by_key(|change| change.state);
    }
    store.apply(stream, odd).unwrap();
    let core = store.core_at(MachineId(0), last + 1).unwrap();
    let diverged = |why| matches!(why, WhyNot::Diverged { index, .. } if index == last + 1);
    assert!(core.guessed.is_some_and(diverged));
    let moment = store.machine(MachineId(0)).ticks_after(last + 1);
    assert_eq!(core.machine.ticks(), moment.ticks);
    teller.number += 1;
    store.apply(stream, teller.frame(Body::Dropped(1))).unwrap();
    assert_eq!(
        store.core_at(MachineId(0), last + 2).unwrap_err(),
        WhyNot::Lost
    );
}
