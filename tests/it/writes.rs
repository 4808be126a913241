//! Many writers at once, while nodes and their connections end.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Program, command, json, signal};

/// How many there are.
const WRITERS: usize = 10_000;

/// What they add: each add ticks twice, as it is multi and active already.
const STATE: &str = "Healthcheck";

/// Tells the process of the writers which nodes to ask.
const NODES: &str = "WRITERS_ASK";

/// How long a writer whose connection broke, or who was told to, waits before it tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// `program`, which may open as many files as the system lets anybody.
fn with_all_files(program: &Command) -> Command {
    let mut command = Command::new("sh");
    let raised = "ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\"";
    command
        .args(["-c", raised])
        .arg(program.get_program())
        .args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(std::process::Stdio::null());
    command
}

/// A tree of processes: a root, a node that follows it, three that follow that.
struct Tree {
    program: Program,
    addresses: BTreeMap<String, String>,
    pids: BTreeMap<String, u32>,
}

impl Tree {
    fn start() -> Self {
        let program = command(&[
            "tree",
            "--processes",
            "--fanout=1,3",
            "--random=1h",
            "--http-port=0",
            "--rpc-port=0",
        ]);
        let program = Program::start_command(&mut with_all_files(&program));
        let lines = program.lines_until(|line| line.contains("curl -N "));
        let mut tree = Self {
            program,
            addresses: BTreeMap::new(),
            pids: BTreeMap::new(),
        };
        for line in lines {
            if let Some((name, addr)) = line.split_once(": http://") {
                let addr = addr.trim_end_matches('/').to_owned();
                tree.addresses.insert(name.to_owned(), addr);
            }
            tree.note(&line);
        }
        tree
    }

    fn note(&mut self, line: &str) {
        if let Some((name, pid)) = line.split_once(" is process ") {
            self.pids.insert(name.to_owned(), pid.parse().unwrap());
        }
    }

    /// Ends a node at once; it is started again.
    fn kill(&mut self, name: &str) {
        for line in self.program.new_lines() {
            self.note(&line);
        }
        signal("KILL", self.pids[name]);
    }

    /// How often the root has run what the writers ask for.
    async fn written(&self) -> u64 {
        let state = json(&self.addresses["root"], &format!("/v1/states/{STATE}")).await;
        (state["tick"].as_u64().unwrap() - 1) / 2
    }
}

#[tokio::test]
async fn ten_thousand_writers_lose_nothing_while_nodes_end() {
    let mut tree = Tree::start();
    let root = &tree.addresses["root"];
    let active = format!("{{\"op\":\"add\",\"states\":[\"{STATE}\"]}}");
    ask(root, active, None).await.unwrap();
    assert_eq!(tree.written().await, 0);
    let leaves: Vec<_> = ["rep-1-1", "rep-1-2", "rep-1-3"]
        .map(|name| tree.addresses[name].as_str())
        .into();
    let mut writers = Command::new(std::env::current_exe().unwrap());
    writers
        .args([
            "--exact",
            "writes::the_process_of_the_writers",
            "--nocapture",
        ])
        .env(NODES, leaves.join(","));
    let start = Instant::now();
    let writers = Program::start_command(&mut with_all_files(&writers));
    // The first tier, with all connections to it, then a leaf with its clients', then once more.
    for (victim, after) in [("rep-1", 1_000), ("rep-1-2", 3_000), ("rep-1", 6_000)] {
        loop {
            let written = tree.written().await;
            assert!(written < WRITERS as u64, "{victim} outlives the writers");
            if written >= after {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{written} written");
            tokio::task::yield_now().await;
        }
        tree.kill(victim);
    }
    let account = writers.line_after("writers: ");
    println!("{account}, in {:?}", start.elapsed());
    assert!(account.starts_with("10000 acknowledged"), "{account}");
    assert_eq!(tree.written().await, WRITERS as u64);
    assert!(tree.program.interrupt().success());
}

/// What the test above starts; by itself it does nothing.
#[tokio::test]
async fn the_process_of_the_writers() {
    let Ok(nodes) = std::env::var(NODES) else {
        return;
    };
    let nodes: Vec<String> = nodes.split(',').map(str::to_owned).collect();
    // Where there may be fewer connections, writers take turns.
    let connections = WRITERS.min(files() - 100);
    let shared = Arc::new(Shared {
        turns: Semaphore::new(connections),
        connected: Barrier::new(connections),
        under_way: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        retries: AtomicUsize::new(0),
    });
    let mut writers = JoinSet::new();
    for i in 0..WRITERS {
        let (shared, node) = (Arc::clone(&shared), nodes[i % nodes.len()].clone());
        let first = i < connections;
        writers.spawn(async move { shared.write(i, &node, first).await });
    }
    let positions: BTreeSet<String> = writers.join_all().await.into_iter().collect();
    // Each mutation has a revision of its own.
    println!(
        "writers: {} acknowledged, {} at once, {} retries",
        positions.len(),
        shared.most.load(Ordering::Relaxed),
        shared.retries.load(Ordering::Relaxed),
    );
    assert!(shared.most.load(Ordering::Relaxed) > connections / 2);
}

/// How many files this process may open.
fn files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    soft.parse().unwrap_or(usize::MAX)
}

/// What the writers have in common.
struct Shared {
    turns: Semaphore,
    connected: Barrier,
    under_way: AtomicUsize,
    most: AtomicUsize,
    retries: AtomicUsize,
}

impl Shared {
    /// Adds a state by way of `node`, for as long as it takes, and returns the position. `first`:
    /// whether it is one of those that all begin at once.
    async fn write(&self, i: usize, node: &str, first: bool) -> String {
        let body = format!(r#"{{"op":"add","states":["{STATE}"],"key":"writer-{i}"}}"#);
        let mut meet = first.then_some(&self.connected);
        loop {
            let turn = self.turns.acquire().await.unwrap();
            let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(under_way, Ordering::Relaxed);
            let answer = ask(node, body.clone(), meet.take()).await;
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            drop(turn);
            if let Some((200, answer)) = &answer {
                assert_eq!(answer["outcome"], "executed", "{answer}");
                return answer["position"].as_str().unwrap().to_owned();
            }
            // 503 and 504 may be tried again, as may whatever had no answer.
            let told = answer.as_ref().map(|(status, _)| *status);
            assert!(matches!(told, None | Some(503 | 504)), "{answer:?}");
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Asks for a mutation over a connection of its own, once all who are to `meet` have connected.
pub(crate) async fn ask(addr: &str, body: String, meet: Option<&Barrier>) -> Option<(u16, Value)> {
    let stream = TcpStream::connect(addr).await;
    if let Some(meet) = meet {
        meet.wait().await;
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream.ok()?)).await.ok()?;
    let request = Request::post("/v1/mutations")
        .header("host", addr)
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(body))
        .unwrap();
    let answer = async {
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some((head.status.as_u16(), serde_json::from_slice(&body).ok()?))
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        _ = connection => None,
    }
}
