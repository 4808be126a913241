//! What nodes do, in lines: changed states, mutations, decisions, handlers.

use serde_json::{Map, Value};

use super::{Logged, has, object};
use crate::support::{command, run};

/// A root that nothing flows through, which takes mutations.
fn root(environment: &[(&str, &str)]) -> (Logged, String) {
    let args = ["node", "--addr=:0", "--http-addr=:0"];
    let mut node = Logged::start(command(&args).envs(environment.iter().copied()));
    let line = node.line("root: http://");
    let addr = line.trim_start_matches("root: http://");
    (node, addr.trim_end_matches('/').to_owned())
}

/// What a root logs of a mutation that is executed and one that is canceled.
#[track_caller]
fn logged(environment: &[(&str, &str)]) -> Vec<String> {
    let (node, addr) = root(environment);
    let mutations: [(&[&str], i32); 2] = [
        (&["add", "Flight1Delayed", "Flight2Gate3"], 0),
        (&["add", "Flight1GoToGate"], 4),
    ];
    for (mutation, code) in mutations {
        let args: Vec<_> = [&["mutate"], mutation, &["--node", &addr]].concat();
        let ended = run(&args);
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
    let (status, lines) = node.interrupt();
    assert!(status.success(), "{lines:#?}");
    lines
}

#[test]
fn each_level_logs_more_of_what_a_root_does() {
    let parts = [
        "INFO state: +Flight2Gate3 +Flight1Delayed -",
        "INFO mutation: add Flight1Delayed Flight2Gate3 node=\"root\"",
        "Flight1GoToGate requires Flight1Outbound, which is not active",
        "DEBUG handler: enter of Flight1Delayed took ",
    ];
    let orders = [parts[0], "INFO state: +Flight1Delayed +Flight2Gate3 -"];
    for level in 0..=5 {
        let lines = logged(&[("AM_LOG", &level.to_string())]);
        let changed = orders.iter().any(|order| has(&lines, order));
        assert_eq!(changed, level >= 1, "{level}: {lines:#?}");
        for (i, part) in (1..).zip(parts).skip(1) {
            assert_eq!(
                has(&lines, part),
                level >= i,
                "{level}: {part} in {lines:#?}"
            );
        }
        if level == 0 {
            assert!(lines.is_empty(), "{lines:#?}");
        }
    }
}

#[test]
fn switches_log_decisions() {
    for switch in ["AM_LOG_QUEUED", "AM_LOG_CHECKS"] {
        let lines = logged(&[(switch, "1")]);
        assert!(has(&lines, "Flight1GoToGate requires Flight1Outbound"));
        assert!(!has(&lines, "took "), "{lines:#?}");
    }
    let lines = logged(&[("AM_LOG_FULL", "1")]);
    assert!(has(&lines, "DEBUG handler: enter of Flight1Delayed took "));
}

/// The first object among `lines` of which all of `fields` are so.
#[track_caller]
fn find(lines: &[String], fields: &[(&str, &str)]) -> Map<String, Value> {
    let mut objects = lines.iter().map(|line| object(line));
    let found = objects.find(|found| {
        let is = |(name, value): &(&str, &str)| found.get(*name) == Some(&Value::from(*value));
        fields.iter().all(is)
    });
    found.unwrap_or_else(|| panic!("no {fields:?} in {lines:#?}"))
}

#[test]
fn a_change_has_the_same_position_on_every_node() {
    let args = [
        "tree",
        "--fanout=1,1",
        "--http-port=0",
        "--rpc-port=0",
        "--random=1h",
    ];
    let environment = [("AM_LOG_FORMAT", "json"), ("AM_LOG", "3")];
    let mut tree = Logged::start(command(&args).envs(environment));
    let line = tree.line("rep-1-1: http://");
    let addr = line.trim_start_matches("rep-1-1: http://");
    let ended = run(&[
        "mutate",
        "remove",
        "Ready",
        "--node",
        addr.trim_end_matches('/'),
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = run(&[
        "mutate",
        "add",
        "Flight1GoToGate",
        "--node",
        addr.trim_end_matches('/'),
    ]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let (status, lines) = tree.interrupt();
    assert!(status.success(), "{lines:#?}");

    let state = ("target", "machine::state");
    let root = find(&lines, &[state, ("node", "root"), ("removed", "Ready")]);
    for (name, value) in [
        ("role", "root"),
        ("op", "remove"),
        ("called", "Ready"),
        ("cause", "call"),
        ("message", "-Ready"),
        ("level", "info"),
    ] {
        assert_eq!(root[name], value, "{root:?}");
    }
    for name in ["revision", "transition", "took_us", "handlers"] {
        assert!(root[name].is_u64(), "{name} in {root:?}");
    }
    assert!(!root.contains_key("added"), "{root:?}");
    for node in ["rep-1", "rep-1-1"] {
        let position = root["position"].as_str().unwrap();
        let copy = find(&lines, &[state, ("node", node), ("position", position)]);
        assert_eq!(copy["role"], "replicant");
        assert!(["delta", "snapshot"].contains(&copy["cause"].as_str().unwrap()));
    }

    let canceled = find(
        &lines,
        &[("target", "machine::mutation"), ("outcome", "canceled")],
    );
    assert_eq!(canceled["called"], "Flight1GoToGate");
    assert_eq!(canceled["reason"], "missing");
    let why = find(
        &lines,
        &[("target", "machine::decision"), ("reason", "missing")],
    );
    assert!(why["message"].as_str().unwrap().contains("Flight1Outbound"));
    let auto = find(
        &lines,
        &[("target", "machine::decision"), ("cause", "auto")],
    );
    assert!(
        auto["called"]
            .as_str()
            .unwrap()
            .contains("Flight1Scheduled")
    );
}

#[test]
fn payloads_are_not_logged() {
    let (node, addr) = root(&[("AM_LOG", "5")]);
    let payload = r#"{"until":"2013-07-10T23:58","in_ms":987654}"#;
    let ended = run(&[
        "mutate",
        "add",
        "Flight1Delayed",
        "--payload",
        payload,
        "--node",
        &addr,
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (status, lines) = node.interrupt();
    assert!(status.success(), "{lines:#?}");
    assert!(has(&lines, "+Flight1Delayed"), "{lines:#?}");
    assert!(!has(&lines, "987654"), "{lines:#?}");
}
