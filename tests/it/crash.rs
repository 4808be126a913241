//! A durable root that is killed while it is written to by way of nodes that follow it.

use crate::support::run;

#[test]
fn a_root_that_is_killed_loses_nothing_and_does_nothing_twice() {
    let ended = run(&["bench", "crash", "--kills", "5", "--writers", "200"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let line = ended.stdout.trim_end();
    let (kills, rest) = line.split_once(", ").unwrap();
    let (acknowledged, rest) = rest.split_once(" acknowledged, ").unwrap();
    assert_eq!(kills, "5 kills");
    // Each writer had an answer at least, and so had somebody before each kill.
    assert!(acknowledged.parse::<u32>().unwrap() >= 200, "{line}");
    assert_eq!(rest, "0 lost, 0 doubled, 0 steps back");
}

#[test]
fn a_root_that_acknowledges_too_early_is_found_out() {
    let ended = run(&["bench", "crash", "--kills=3", "--writers=100", "--relaxed"]);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let told = ended.stderr.lines().find(|line| line.contains("3 kills, "));
    let told = told.unwrap_or_else(|| panic!("{ended:#?}"));
    assert!(!told.contains(" 0 lost, 0 doubled, 0 steps back"), "{told}");
}
