//! The command line: help, mistakes, exit codes, settings.

use std::fs;
use std::net::TcpListener;

use crate::support::{Folder, Program, command, run, run_command};

#[test]
fn help_teaches_by_example_and_tells_the_exit_codes() {
    let ended = run(&["--help"]);
    assert_eq!(ended.code, Some(0));
    for part in [
        "Examples:",
        "flights --random 5ms",
        "Exit codes:",
        "--fanout",
        "watch",
        "mutate",
    ] {
        assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
    }
    let node = run(&["node", "--help"]).stdout;
    for part in [
        "TST_NAME",
        "TST_PARENT_ADDR",
        "TST_ADDR",
        "TST_HTTP_ADDR",
        "TST_MUT_US",
    ] {
        assert!(node.contains(part), "{part} in {node}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let ended = run(&["--version"]);
    assert!(
        ended
            .stdout
            .starts_with(concat!("flights ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 18] = [
        (
            &["tree", "--push-every", "500000000000y"],
            "it is a year at most",
        ),
        (&["tree", "--healthcheck=2y"], "it is a year at most"),
        (&["tree", "--trace-ratio=2"], "it is 0 to 1"),
        (&["top", "--every", "2y"], "it is a year at most"),
        (
            &["--speed", "max", "get"],
            "--speed is heard only behind `get`, if that has it",
        ),
        (&["--foo"], "unexpected argument '--foo'"),
        (&["tree", "--speed", "fast"], "fast"),
        (&["tree", "--random", "soon"], "soon"),
        (
            &["tree", "--fanout", "2,0"],
            "--fanout: a tier of 0 replicants has nobody in it",
        ),
        (
            &["tree", "--http-port", "65535"],
            "--http-port: there is no port 65535 + 1",
        ),
        (&["mutate", "add"], "<STATE>"),
        (&["mutate", "switch", "Ready"], "[possible values: add,"),
        (
            &["mutate", "add", "Ready", "--payload", "{"],
            "it is no JSON",
        ),
        (
            &["mutate", "add", "Ready", "--timeout", "61s"],
            "it is 1 to 60 s",
        ),
        (
            &["mutate", "add", "Ready", "--timeout", "999ms"],
            "it is 1 to 60 s",
        ),
        (&["node"], "--addr"),
        (
            &["node", "--addr", "19700"],
            "it needs a port, as in localhost:19700",
        ),
        (
            &[
                "node",
                "--addr",
                ":0",
                "--parent",
                "localhost:1",
                "--random",
                "1s",
            ],
            "--replay and --random are for a root",
        ),
    ];
    for (args, part) in cases {
        let ended = run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(part), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_variable_that_is_wrong_for_a_tree_is_nothing_to_a_subcommand() {
    let variables = [
        ("OTEL_TRACES_SAMPLER_ARG", "bogus"),
        ("AM_HEALTHCHECK", "x"),
        ("PUSH_EVERY", "x"),
        ("TST_SPEED", "x"),
        ("TST_SEED", "x"),
        ("TST_ADDR", "x"),
    ];
    let node = format!("--node={}", nobody());
    let cases: [(&[&str], i32); 6] = [
        (&["get", &node], 3),
        (&["watch", &node], 3),
        (&["mutate", "add", "Ready", &node], 3),
        (&["top", "--once", &node], 3),
        (&["completions", "bash"], 0),
        (&["dashboard"], 0),
    ];
    for (args, code) in cases {
        let ended = run_command(command(args).envs(variables));
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
    }
    for args in [&[][..], &["tree"]] {
        let ended = run_command(command(args).env("PUSH_EVERY", "x"));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("--push-every"), "{}", ended.stderr);
    }
}

#[test]
fn an_empty_variable_says_nothing_and_a_ratio_that_is_none_is_ignored() {
    let empty = [
        "PUSH_EVERY",
        "AM_HEALTHCHECK",
        "AM_SERVICE",
        "TST_SPEED",
        "TST_SEED",
        "TST_MUT_US",
        "TST_PUSH_INTERVAL",
        "TST_NAME",
    ];
    let mut node = command(&["node", "--addr=:0"]);
    node.envs(empty.map(|name| (name, "")));
    node.env("OTEL_TRACES_SAMPLER_ARG", "");
    let node = Program::start_command(&mut node);
    node.line_after("root: tarpc ");
    assert!(node.interrupt().success());
    let mut node = command(&["node", "--addr=:0"]);
    let node = Program::start_command(node.env("OTEL_TRACES_SAMPLER_ARG", "bogus"));
    node.line_after("root: tarpc ");
    assert!(node.interrupt().success());
}

#[test]
fn a_table_that_cannot_be_read_is_named() {
    let ended = run(&["--replay", "no-such-file.csv"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("no-such-file.csv"),
        "{}",
        ended.stderr
    );
}

/// An address that was free a moment ago.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_node_that_is_not_there_is_exit_code_3() {
    let addr = nobody();
    let cases: [&[&str]; 3] = [
        &["get", "--node", &addr],
        &["watch", "--node", &addr],
        &["mutate", "add", "Ready", "--node", &addr],
    ];
    for args in cases {
        let ended = run(args);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(
            ended.stderr.contains(&format!("cannot reach {addr}")),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = run(&[
        "tree",
        "--fanout",
        "1",
        "--rpc-port",
        &port,
        "--http-port",
        "0",
    ]);
    assert_eq!(ended.code, Some(1));
    let message = format!("cannot listen on 127.0.0.1:{port}, choose another --rpc-port");
    assert!(ended.stderr.contains(&message), "{}", ended.stderr);
}

#[test]
fn two_trees_run_beside_each_other() {
    let trees = [
        Program::start(&["--speed", "max"]),
        Program::start(&["--speed", "max"]),
    ];
    for tree in &trees {
        tree.line_after("all 9 nodes are at ");
    }
    for tree in trees {
        assert!(tree.interrupt().success());
    }
}

#[test]
fn an_env_file_fills_in_what_the_environment_does_not_say() {
    let folder = Folder::new("env");
    let file = "TST_NAME=from-file\nTST_ADDR=127.0.0.1:0\nTST_HTTP_ADDR=\nTST_PARENT_ADDR=\n";
    fs::write(folder.path().join(".env"), file).unwrap();
    let node = Program::start_command(command(&["node"]).current_dir(folder.path()));
    node.line_after("from-file: tarpc 127.0.0.1:");
    assert!(node.interrupt().success());
    let mut named = command(&["node"]);
    named
        .current_dir(folder.path())
        .env("TST_NAME", "from-environment");
    let node = Program::start_command(&mut named);
    node.line_after("from-environment: tarpc ");
    assert!(node.interrupt().success());
}

#[tokio::test]
async fn an_env_file_of_one_node_does_not_reach_the_processes_of_a_tree() {
    let folder = Folder::new("env-processes");
    let file = "TST_ADDR=127.0.0.1:0\nTST_PARENT_ADDR=localhost:1\nTST_MUT_US=1000000\n";
    fs::write(folder.path().join(".env"), file).unwrap();
    let args = [
        "tree",
        "--processes",
        "--fanout=1",
        "--http-port=0",
        "--rpc-port=0",
    ];
    let tree = Program::start_command(command(&args).current_dir(folder.path()));
    tree.line_after("2 nodes are ready");
    assert!(tree.interrupt().success());
}

#[test]
fn a_log_filter_reaches_every_node() {
    let args = [
        "--log=info",
        "tree",
        "--processes",
        "--fanout=1",
        "--http-port=0",
        "--rpc-port=0",
    ];
    let tree = Program::start(&args);
    tree.line(|line| (line.starts_with("rep-1: ") && line.contains("following")).then_some(()));
    assert!(tree.interrupt().success());
}

#[test]
fn an_interrupt_is_heard_while_nobody_reads_the_output() {
    // More than a pipe holds, and nobody takes it out.
    let mut table = flights_table().to_owned();
    for _ in 0..40 {
        table.push_str(flights_table().split_once('\n').unwrap().1);
    }
    let folder = Folder::new("stalled");
    let file = folder.path().join("long.csv");
    fs::write(&file, table).unwrap();
    let mut node = command(&["node", "--addr=:0", "--speed=max", "--replay"])
        .arg(&file)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Its first byte shows that it has begun to write.
    let mut out = node.stdout.take().unwrap();
    std::io::Read::read_exact(&mut out, &mut [0]).unwrap();
    crate::support::signal("INT", node.id());
    assert!(node.wait().unwrap().success());
}

fn flights_table() -> &'static str {
    include_str!("../../flights/data/nyc-2013-07-10.csv")
}

#[test]
fn a_broken_env_file_is_an_error() {
    let folder = Folder::new("broken-env");
    fs::write(folder.path().join(".env"), "TST_NAME='no end\n").unwrap();
    let ended = run_command(command(&["node"]).current_dir(folder.path()));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("cannot read .env"),
        "{}",
        ended.stderr
    );
}

#[test]
fn shells_complete_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(&["completions", shell]);
        assert!(ended.stdout.contains("processes"), "{shell}");
    }
}

#[test]
fn bench_says_what_it_cannot_do_before_it_measures() {
    let here = Folder::new("bench");
    let folder = here.path().to_str().unwrap();
    let file = here.path().join("no/figures.json");
    let missing = here.path().join("caddy");
    for (args, code, part) in [
        (vec!["bench", "everything"], 2, "[possible values: core,"),
        (
            vec!["bench", "core", "--json", file.to_str().unwrap()],
            1,
            "cannot write",
        ),
        (
            vec!["bench", "codegen", "--source", folder],
            1,
            "is not the source tree: it lacks states.toml",
        ),
        (
            vec![
                "bench",
                "published",
                "--balancer",
                missing.to_str().unwrap(),
            ],
            1,
            "there is no program",
        ),
    ] {
        let ended = run(&args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}
