//! How nodes do, as `flights top` has it.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Program, run};

/// A root with a follower and no traffic, and where their HTTP is.
fn tree() -> (Program, String, String) {
    let args = [
        "tree",
        "--fanout=1",
        "--rpc-port=0",
        "--http-port=0",
        "--random=1h",
    ];
    let tree = Program::start(&args);
    let root = tree.line_after("root: http://");
    let child = tree.line_after("rep-1: http://");
    let addr = |url: String| url.trim_end_matches('/').to_owned();
    (tree, addr(root), addr(child))
}

/// An address at which nobody is.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn top(nodes: &[&str], more: &[&str]) -> crate::support::Ended {
    let nodes = format!("--node={}", nodes.join(","));
    let mut args = vec!["top", &nodes, "--every=50ms"];
    args.extend(more);
    run(&args)
}

#[test]
fn a_table_of_the_tree_has_rates_lag_and_the_last_error() {
    let (_tree, root, child) = tree();
    let broken = ["mutate", "add", "Exception", "--node", &child, "--payload"];
    let broken = [&broken[..], &["\"the radar is off\""]].concat();
    assert_eq!(run(&broken).code, Some(0));
    // Once more, until the follower shows it too.
    let shown = loop {
        let shown = top(&[&child, &root], &[]);
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        if shown.stdout.contains("2 nodes: ") {
            break shown.stdout;
        }
    };
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], "2 of 2 nodes answer");
    assert!(lines[2].starts_with("node "), "{shown}");
    assert!(lines[3].starts_with("root "), "{shown}");
    assert!(lines[4].starts_with("  rep-1  replicant "), "{shown}");
    assert!(lines[6].contains(": the radar is off"), "{shown}");
}

#[test]
fn a_node_that_is_gone_is_down_and_the_others_are_told_of_as_json() {
    let (_tree, root, _) = tree();
    let gone = nobody();
    let shown = top(&[&root, &gone], &["--once", "--json"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let nodes: Vec<Value> = shown
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(nodes.len(), 2, "{nodes:#?}");
    assert_eq!(
        (&nodes[0]["node"], &nodes[0]["role"]),
        (&"root".into(), &"root".into())
    );
    assert_eq!(nodes[0]["followers"], 1);
    assert!(nodes[0]["revisions_per_second"].is_number());
    assert_eq!(
        (&nodes[1]["node"], &nodes[1]["role"]),
        (&gone.clone().into(), &"down".into())
    );
    assert!(
        nodes[1]["note"]
            .as_str()
            .unwrap()
            .starts_with("cannot reach")
    );
}

#[test]
fn where_nobody_answers_it_says_so_with_exit_code_3() {
    let gone = nobody();
    let shown = top(&[&gone], &["--once"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(3), ""));
    assert!(
        shown.stderr.contains(&gone) && shown.stderr.contains("--node"),
        "{}",
        shown.stderr
    );
}
