use std::collections::BTreeSet;

use machine_runtime::debug::frame::{Body, Declared, Hello, Line, Role};
use machine_runtime::debug::listen::{Heard, ListenOptions, Listener, What};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{PATIENCE, Program, command};

/// A debugger that listens, and what it has heard.
struct Debugger {
    heard: Receiver<Heard>,
    addr: String,
    hellos: Vec<Hello>,
    machines: Vec<Declared>,
    lines: Vec<Line>,
    transitions: usize,
    gone: usize,
    _tasks: JoinSet<()>,
}

impl Debugger {
    async fn new() -> Self {
        let bound = Listener::bind("127.0.0.1:0", ListenOptions::default()).await;
        let (listener, heard) = bound.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.run(std::future::pending()));
        Self {
            heard,
            addr,
            hellos: Vec::new(),
            machines: Vec::new(),
            lines: Vec::new(),
            transitions: 0,
            gone: 0,
            _tasks: tasks,
        }
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let all = async {
            while !done(self) {
                let frame = match self.heard.recv().await.unwrap().what {
                    What::Opened { hello, .. } => hello,
                    What::Frame(frame) => frame,
                    _ => continue,
                };
                match frame.body {
                    Body::Hello(hello) => self.hellos.push(hello),
                    Body::Machine(declared) => self.machines.push(*declared),
                    Body::Log(line) => self.lines.push(line),
                    Body::Transition(_) | Body::Followed(_) => self.transitions += 1,
                    Body::Gone => self.gone += 1,
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, all).await.expect("what was not told");
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.machines.iter().map(|m| m.name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

const TREE: [&str; 7] = [
    "tree",
    "--fanout",
    "2",
    "--rpc-port",
    "0",
    "--http-port",
    "0",
];

#[tokio::test]
async fn a_tree_dials_and_tells_of_all_its_nodes() {
    let mut debugger = Debugger::new().await;
    let mut tree = command(&TREE);
    tree.args(["--random", "1ms"])
        .env("AM_DBG_ADDR", &debugger.addr);
    let program = Program::start_command(&mut tree);
    debugger
        .until(|told| told.machines.len() == 3 && told.transitions > 100)
        .await;
    assert_eq!(debugger.names(), ["rep-1", "rep-2", "root"]);
    assert_eq!(debugger.hellos.len(), 1);
    let hello = &debugger.hellos[0];
    assert!(
        hello.program.starts_with("flights ") && hello.pid > 1,
        "{hello:?}"
    );
    let root = debugger.machines.iter().find(|m| m.role == Role::Root);
    let at = root.unwrap().addr.clone();
    let replicants = debugger
        .machines
        .iter()
        .filter(|m| m.role == Role::Replicant);
    assert!(
        replicants
            .into_iter()
            .all(|m| m.parent == at && at.is_some())
    );
    assert!(program.interrupt().success());
    debugger.until(|told| told.gone == 3).await;
}

#[tokio::test]
async fn each_process_of_a_tree_dials() {
    let mut debugger = Debugger::new().await;
    let mut tree = command(&TREE);
    tree.args(["--processes", "--debug-addr", &debugger.addr]);
    let program = Program::start_command(&mut tree);
    debugger.until(|told| told.machines.len() == 3).await;
    assert_eq!(debugger.names(), ["rep-1", "rep-2", "root"]);
    let pids: BTreeSet<_> = debugger.hellos.iter().map(|hello| hello.pid).collect();
    assert_eq!(pids.len(), 3);
    assert!(program.interrupt().success());
}

#[tokio::test]
async fn a_node_dials_when_it_is_told_to_and_its_lines_come_too() {
    let mut debugger = Debugger::new().await;
    let node = [
        "node",
        "--addr",
        "127.0.0.1:0",
        "--name",
        "mine",
        "--random",
        "1ms",
    ];
    // The flag wins over the variable, which says that nobody is to be told.
    let mut node = command(&node);
    node.args(["--debug-addr", &debugger.addr])
        .env("RUST_LOG", "off,machine::mutation=info");
    let program = Program::start_command(&mut node);
    debugger
        .until(|told| !told.lines.is_empty() && told.transitions > 0)
        .await;
    let line = &debugger.lines[0];
    assert_eq!((line.level, line.target.as_str()), (3, "machine::mutation"));
    assert!(
        line.text.contains("executed") || line.text.contains("canceled"),
        "{line:?}"
    );
    assert_eq!(debugger.names(), ["mine"]);
    assert!(program.interrupt().success());
}
