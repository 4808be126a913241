//! What the program logs, by which settings, and how.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use serde_json::Value;

use crate::support::{PATIENCE, command, json, run_command, signal};

// A Loki that takes lines, refuses them, hangs, or is not there.
mod loki;
// What nodes do: states, mutations, decisions, handlers.
mod states;

/// Two nodes and no more traffic than a mutation now and then.
const PAIR: [&str; 5] = [
    "tree",
    "--fanout=1",
    "--http-port=0",
    "--rpc-port=0",
    "--random=1h",
];

/// A running program, and what it writes.
struct Logged {
    child: Child,
    /// Lines, and whether they are of standard error.
    lines: Receiver<(bool, String)>,
    /// Those of standard error so far.
    errors: Vec<String>,
}

impl Logged {
    fn start(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        read(child.stdout.take().unwrap(), false, sender.clone());
        read(child.stderr.take().unwrap(), true, sender);
        Self {
            child,
            lines,
            errors: Vec::new(),
        }
    }

    /// The next line that has `part` in it, of either output.
    fn line(&mut self, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let next = self.lines.recv_timeout(left);
            let (logged, line) =
                next.unwrap_or_else(|_| panic!("no line with `{part}`: {:#?}", self.errors));
            if logged {
                self.errors.push(line.clone());
            }
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Interrupts it; all lines of standard error.
    fn interrupt(mut self) -> (ExitStatus, Vec<String>) {
        signal("INT", self.child.id());
        let status = self.child.wait().unwrap();
        let rest = self.lines.iter().filter(|(logged, _)| *logged);
        let mut logged = std::mem::take(&mut self.errors);
        logged.extend(rest.map(|(_, line)| line));
        (status, logged)
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(from: impl Read + Send + 'static, logged: bool, to: Sender<(bool, String)>) {
    std::thread::spawn(move || {
        let lines = BufReader::new(from).lines().map_while(Result::ok);
        for line in lines {
            if to.send((logged, line)).is_err() {
                break;
            }
        }
    });
}

/// What is logged by two nodes that find each other, with these flags and this environment.
#[track_caller]
fn logged(flags: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    let args: Vec<_> = flags.iter().chain(&PAIR).copied().collect();
    let mut tree = Logged::start(command(&args).envs(environment.iter().copied()));
    tree.line("2 nodes are ready");
    let (status, logged) = tree.interrupt();
    assert!(status.success(), "{logged:#?}");
    logged
}

#[track_caller]
fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

#[test]
fn a_level_says_what_is_logged_and_a_filter_wins_over_it() {
    assert!(logged(&[], &[]).is_empty());
    assert!(logged(&[], &[("AM_LOG", "0")]).is_empty());
    let lines = logged(&[], &[("AM_LOG", "4")]);
    assert!(has(&lines, "DEBUG source: follower came"), "{lines:#?}");
    assert!(!has(&lines, "TRACE"), "{lines:#?}");
    let lines = logged(&[], &[("AM_LOG", "4"), ("RUST_LOG", "off")]);
    assert!(lines.is_empty(), "{lines:#?}");
    let both = [("AM_LOG", "0"), ("RUST_LOG", "warn")];
    let lines = logged(&["--log=4"], &both);
    assert!(has(&lines, "DEBUG source: follower came"), "{lines:#?}");
    let lines = logged(&["--log=info"], &[]);
    assert!(
        has(&lines, " INFO follower: following node=\"rep-1\""),
        "{lines:#?}"
    );
    assert!(!has(&lines, "DEBUG"), "{lines:#?}");
}

#[tokio::test]
async fn a_node_goes_on_while_nobody_reads_its_lines() {
    let args = [
        "--log=3",
        "node",
        "--addr=:0",
        "--http-addr=:0",
        "--random=1ms",
    ];
    let child = command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    // Its lines are left where they are.
    let mut node = Logged {
        child: child.unwrap(),
        lines: channel().1,
        errors: Vec::new(),
    };
    let mut out = BufReader::new(node.child.stdout.take().unwrap()).lines();
    let addr = out
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("root: http://").map(str::to_owned));
    let addr = addr.unwrap();
    let addr = addr.trim_end_matches('/');
    // More lines than a pipe holds, of 100 bytes and more each.
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = machine_node::client::get(addr, "/healthz", "*/*");
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        assert!(answer.unwrap().unwrap().head.status().is_success());
        let states = tokio::time::timeout(PATIENCE, json(addr, "/v1/states")).await;
        if states.unwrap()["revision"].as_u64().unwrap() > 1500 {
            break;
        }
        assert!(Instant::now() < end);
    }
    signal("TERM", node.child.id());
    let began = Instant::now();
    while node.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "it did not end");
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_is_no_filter_level_format_or_address_is_wrong_usage() {
    let cases = [
        ("RUST_LOG", "infoo", "`infoo` is no log filter; try `info`"),
        ("RUST_LOG", "warn,machine=loud", "`loud` in `machine=loud`"),
        ("AM_LOG", "6", "AM_LOG: `6` is no level"),
        ("AM_LOG", "debug", "0 (nothing) to 5 (everything)"),
        ("AM_LOG_FORMAT", "xml", "it is text or json"),
        ("LOKI_ADDR", "ftp://here", "`ftp` is not http or https"),
        ("AM_LOKI_ADDR", "http://", "localhost:3100"),
    ];
    for (name, value, part) in cases {
        for args in [&PAIR[..], &["node", "--addr=:0"]] {
            let ended = run_command(command(args).env(name, value));
            assert_eq!(ended.code, Some(2), "{name}={value}: {ended:?}");
            assert!(ended.stderr.contains(part), "{}", ended.stderr);
        }
    }
}

/// The fields of a logged line.
#[track_caller]
fn object(line: &str) -> serde_json::Map<String, Value> {
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => fields,
        _ => panic!("no JSON object: {line}"),
    }
}

/// As `2026-11-24T18:24:41.995937Z`.
#[track_caller]
fn check_time(time: &Value) {
    let time = time.as_str().unwrap();
    let parsed: jiff::Timestamp = time.parse().unwrap();
    assert_eq!(time, format!("{parsed:.6}"));
}

#[test]
fn json_lines_are_an_object_each() {
    for processes in [&[][..], &["--processes"]] {
        let args: Vec<_> = PAIR.iter().chain(processes).copied().collect();
        let environment = [("AM_LOG_FORMAT", "json"), ("AM_LOG", "4")];
        let mut tree = Logged::start(command(&args).envs(environment));
        let following = tree.line("\"message\":\"following\"");
        let following = object(&following);
        assert_eq!(following["level"], "info");
        assert_eq!(following["target"], "machine_runtime::replica::follower");
        assert_eq!(following["node"], "rep-1");
        assert_eq!(following["parent"], "root");
        tree.line("2 nodes are ready");
        let (status, lines) = tree.interrupt();
        assert!(status.success(), "{lines:#?}");
        assert!(lines.len() > 1, "{lines:#?}");
        for line in &lines {
            let fields = object(line);
            check_time(&fields["timestamp"]);
            assert!(fields["message"].is_string(), "{line}");
        }
    }
}

#[test]
fn a_switch_logs_more_or_is_said_to_mean_nothing_once() {
    let lines = logged(&[], &[("AM_RPC_LOG_SERVER", "1")]);
    assert!(has(&lines, "DEBUG source: follower came"), "{lines:#?}");
    assert!(!has(&lines, "no meaning"), "{lines:#?}");
    assert!(!has(&lines, "following"), "{lines:#?}");
    let lines = logged(&[], &[("AM_RPC_LOG_CLIENT", "1")]);
    assert!(has(&lines, "INFO follower: following"), "{lines:#?}");
    for off in ["", "0"] {
        let names = ["AM_RPC_LOG_SERVER", "AM_LOG_ARGS", "AM_DEBUG"];
        let lines = logged(&[], &names.map(|name| (name, off)));
        assert!(lines.is_empty(), "{lines:#?}");
    }
    let meaningless = [
        "AM_RPC_DBG",
        "AM_NODE_LOG_SUPERVISOR",
        "AM_NODE_LOG_CLIENT",
        "AM_NODE_LOG_WORKER",
        "AM_LOG_PRINT",
        "AM_LOG_STEPS",
        "AM_LOG_GRAPH",
        "AM_LOG_ARGS",
        "AM_LOG_WHEN",
        "AM_LOG_STATE_CTX",
        "AM_LOG_FILE",
    ];
    let on = meaningless.map(|name| (name, "1"));
    let lines = logged(&[], &on);
    let named: BTreeSet<_> = lines
        .iter()
        .filter(|line| line.contains(" has no meaning here: "))
        .filter_map(|line| {
            meaningless
                .into_iter()
                .find(|name| line.contains(&format!(" {name} ")))
        })
        .collect();
    assert_eq!(named, BTreeSet::from(meaningless), "{lines:#?}");
    assert_eq!(lines.len(), meaningless.len(), "{lines:#?}");
    assert!(logged(&["--log=0"], &on).is_empty());
}

#[test]
fn a_foreign_variable_that_is_wrong_is_warned_of_and_ignored() {
    let wrong = [("OTEL_TRACES_SAMPLER_ARG", "bogus")];
    let lines = logged(&[], &wrong);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let part = "OTEL_TRACES_SAMPLER_ARG: `bogus` is ignored: it is 0 to 1";
    assert!(has(&lines, part), "{lines:#?}");
    assert!(logged(&[], &[(wrong[0].0, "")]).is_empty());
}

#[test]
fn the_processes_of_a_tree_log_likewise_and_only_the_first_warns() {
    let args: Vec<_> = PAIR.iter().chain(&["--processes"]).copied().collect();
    let on = [("AM_RPC_LOG_SERVER", "1"), ("AM_RPC_DBG", "1")];
    let mut tree = Logged::start(command(&args).envs(on));
    // A process's lines are among those that its supervisor prints.
    let warned = tree.line("no meaning");
    assert!(!warned.contains("root: "), "{warned}");
    let came = tree.line("follower came");
    assert!(came.starts_with("root: "), "{came}");
    tree.line("2 nodes are ready");
    signal("INT", tree.child.id());
    let rest: Vec<_> = tree.lines.iter().collect();
    assert!(!rest.iter().any(|(_, line)| line.contains("no meaning")));
    assert!(tree.child.wait().unwrap().success());
}

#[tokio::test]
async fn a_root_has_a_pulse() {
    let mut args = vec!["node", "--addr=:0", "--http-addr=:0"];
    // Every five seconds, which is too long to wait for here.
    let mut node = Logged::start(command(&args).env("AM_HEALTHCHECK", "1"));
    node.line("root: http://");
    assert!(node.interrupt().0.success());
    args.push("--healthcheck=10ms");
    let mut node = Logged::start(&mut command(&args));
    let addr = node.line("root: http://");
    let addr = addr
        .trim_start_matches("root: http://")
        .trim_end_matches('/');
    let end = Instant::now() + PATIENCE;
    let mut path = "/v1/states?ticks=1".to_owned();
    loop {
        // Waits for the next change.
        let states = json(addr, &path).await;
        let ticks = &states["ticks"];
        let of = |name: &str| ticks[name].as_u64().unwrap_or(0);
        if of("Heartbeat") >= 10 && of("Healthcheck") >= 9 {
            break;
        }
        assert!(Instant::now() < end, "{states}");
        let (epoch, revision) = (states["epoch"].as_str().unwrap(), &states["revision"]);
        path = format!("/v1/states?ticks=1&after={epoch}.{revision}&wait=60");
    }
    assert!(node.interrupt().0.success());
}
