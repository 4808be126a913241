use std::fs;

use flights::states::Flights;

use crate::support::{Folder, Program, run};

/// What a run prints that succeeds.
#[track_caller]
fn printed(args: &[&str]) -> String {
    let ended = run(&[&["graph"], args].concat());
    assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
    ended.stdout
}

#[test]
fn the_whole_is_folded_along_flights_and_gates() {
    let [flights, gates] = [Flights::flights().count(), Flights::gates().count()];
    let states = Flights::ALL.len();
    let text = printed(&["--max-nodes=30"]);
    let title = format!("title: \"Flights: {states} states in 20 nodes\"");
    let gate = flights * gates;
    for line in [
        title,
        "    subgraph c1[\"Status (one of)\"]".to_owned(),
        format!("      n2[[\"Flight1…{flights}Delayed<br/>{flights} states\"]]"),
        format!("      n10[[\"Flight1…{flights}Gate1…{gates}<br/>{gate} states\"]]"),
        format!("  n8 -->|require ×{flights}| n7"),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in {text}");
    }
    let text = printed(&["--all"]);
    let nodes = text.lines().filter(|line| line.contains("([\""));
    assert_eq!(nodes.count(), states);
    assert!(printed(&[]).contains(&format!("Flights: {states} states")));
}

#[test]
fn a_part_is_drawn_in_every_format() {
    let folder = Folder::new("graph");
    for (end, begin) in [
        ("mermaid", "---\n"),
        ("dot", "digraph {\n"),
        ("d2", "direction: right\n"),
        ("svg", "<svg "),
    ] {
        for (only, names) in [
            (
                ["--only=flight=3", "--max-nodes=50"],
                ["Flight3Delayed", "Flight3Gate1"],
            ),
            (
                ["--group=Flight2Status", "--max-nodes=50"],
                ["Flight2Delayed", "Flight2OnTime"],
            ),
            (
                ["--state=Flight1GoToGate", "--all"],
                ["Flight1Outbound", "Flight1Departed"],
            ),
        ] {
            let text = printed(&[only[0], only[1], "--format", end]);
            assert!(text.starts_with(begin), "{text}");
            let path = folder.path().join(format!("flight.{end}"));
            let out = format!("--out={}", path.display());
            assert_eq!(printed(&[only[0], only[1], &out]), "");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            for name in names {
                assert!(text.contains(name), "{name} in {text}");
            }
        }
    }
}

#[test]
fn a_running_node_colours_what_is_active() {
    let node = Program::start(&["node", "--addr=:0", "--http-addr=:0", "--name=root"]);
    let addr = node.line_after("root: http://");
    let addr = addr.trim_end_matches('/');
    let ended = run(&["mutate", "add", "Flight3Delayed", "--node", addr]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let text = printed(&["--group=Flight3Status", "--node", addr]);
    assert!(text.contains("[\"Flight3Delayed<br/>tick 1\"]"), "{text}");
    let title = format!("5 of {} states, 1 active", Flights::ALL.len());
    assert!(text.contains(&title), "{text}");
}

#[test]
fn what_is_wrong_is_told_with_what_would_be_right() {
    for (args, code, part) in [
        (
            &["--group=Statsu"][..],
            2,
            "--group: unknown group `Statsu`, did you mean `Status`?",
        ),
        (
            &["--only=fligth=3"],
            2,
            "--only: unknown loop variable `fligth`: there is flight, gate",
        ),
        (
            &["--only=flight=0"],
            2,
            "--only: `flight` is a number from 1 to ",
        ),
        (&["--only=flight"], 2, "`flight` is not like flight=3"),
        (
            &["--state=Redy"],
            2,
            "--state: unknown state `Redy`, did you mean `Ready`?",
        ),
        (
            &["--format=png"],
            2,
            "a format is one of mermaid, dot, d2 and svg",
        ),
        (&["--max-nodes=0"], 2, "it is a number from 1"),
        (&["--all", "--max-nodes=5"], 2, "cannot be used with"),
        (
            &["--only=flight=1,gate=1", "--group=Direction"],
            2,
            "no state is all of what was asked for",
        ),
        (
            &["--out=/nowhere/at/all.svg"],
            1,
            "cannot write /nowhere/at/all.svg",
        ),
        (&["--node=127.0.0.1:1"], 3, "127.0.0.1:1"),
    ] {
        let ended = run(&[&["graph"], args].concat());
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}
