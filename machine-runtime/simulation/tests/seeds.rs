//! A few seeds: that they are clean, that they are the same in every run, and that bugs are found.
//! `tests/run` runs more of them.

use machine_simulation::planted::{LinkBug, Planted, RootBug, StoreBug};
use machine_simulation::run::{Report, run};

/// A thread of its own has random numbers of its own.
fn run_alone(seed: u64, planted: Option<Planted>) -> Report {
    let ran = std::thread::spawn(move || run(seed, planted, false)).join();
    ran.unwrap_or_else(|_panicked| panic!("seed {seed} panicked"))
}

#[track_caller]
fn finds(bug: Planted) {
    let mut reports = (0..100).map(|seed| run_alone(seed, Some(bug)));
    let found = reports.any(|report| report.failure.is_some());
    assert!(found, "{} is not found", bug.name());
}

#[test]
fn what_is_replicated_is_right_whatever_happens() {
    for seed in 0..6 {
        let report = run_alone(seed, None);
        assert_eq!(report.failure, None, "seed {seed}");
        assert!(report.looks > 100, "seed {seed} looked at nothing");
        assert!(report.acknowledged > 0, "seed {seed} wrote nothing");
    }
}

#[test]
fn a_seed_is_the_same_in_every_run() {
    for seed in [2, 16] {
        let (one, other) = (run_alone(seed, None), run_alone(seed, None));
        assert_eq!(
            (one.hash, one.events),
            (other.hash, other.events),
            "seed {seed}"
        );
        assert_ne!(one.hash, run_alone(seed + 1, None).hash);
    }
}

#[test]
fn a_failure_is_the_same_in_every_run() {
    let bug = Some(Planted::Link(LinkBug::SkipsDelta));
    let failed = (0..100).find(|seed| run_alone(*seed, bug).failure.is_some());
    let seed = failed.unwrap_or_else(|| panic!("no seed fails"));
    let (one, other) = (run_alone(seed, bug), run_alone(seed, bug));
    assert_eq!((one.failure, one.hash), (other.failure, other.hash));
}

#[test]
fn bugs_of_links_stores_and_roots_are_found() {
    finds(Planted::Link(LinkBug::RingOffByOne));
    finds(Planted::Link(LinkBug::AgeIsZero));
    finds(Planted::Store(StoreBug::AcknowledgesEarly));
    finds(Planted::Root(RootBug::SameEpoch));
}

#[test]
fn what_stands_between_and_has_no_bug_is_no_failure() {
    for seed in 0..3 {
        let report = run_alone(seed, Some(Planted::Nothing));
        assert_eq!(report.failure, None, "seed {seed}");
    }
}
