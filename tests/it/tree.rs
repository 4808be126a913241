//! Whole trees, in one process and in one each, under load and under kills.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::TcpListener;
use std::time::Instant;

use flights::states::Flights;
use flights::tower::Tower;
use machine_node::random::RandomTraffic;
use machine_runtime::{Machine, Position, StateSet};

use crate::support::{PATIENCE, Program, is_running, json, run, signal};

const NAMES: [&str; 9] = [
    "root", "rep-1", "rep-1-1", "rep-1-2", "rep-1-3", "rep-2", "rep-2-1", "rep-2-2", "rep-2-3",
];

/// The HTTP addresses that a tree prints once it is ready, among these lines.
fn addresses(lines: &[String]) -> BTreeMap<&'static str, String> {
    let addr = |name| {
        let start = format!("{name}: http://");
        let mut addrs = lines.iter().filter_map(|line| line.strip_prefix(&start));
        // With processes, the root says so itself before.
        addrs.next_back().unwrap().trim_end_matches('/').to_owned()
    };
    NAMES.map(|name| (name, addr(name))).into()
}

#[tokio::test]
async fn a_day_ends_with_nine_nodes_at_one_position() {
    for arg in ["--log=warn", "--processes"] {
        let tree = Program::start(&["tree", "--speed=max", "--http-port=0", "--rpc-port=0", arg]);
        let lines = tree.lines_until(|line| line.starts_with("all 9 nodes are at "));
        let addresses = addresses(&lines);
        let mut accounts = lines
            .iter()
            .filter_map(|line| line.split_once("the replay is over: "));
        let (_, account) = accounts.next().unwrap();
        assert!(account.starts_with("1004 departures = "), "{account}");
        assert!(account.contains(", 0 refused"), "{account}");
        let place = lines
            .last()
            .unwrap()
            .strip_prefix("all 9 nodes are at ")
            .unwrap();
        let (position, digest) = place.split_once(", digest ").unwrap();
        for (name, addr) in &addresses {
            let tier = name.matches('-').count();
            // One whose parent was late may have followed another for a moment.
            let at_home = |links: &serde_json::Value| links["tier"] == tier;
            crate::links::linked(addr, at_home).await;
            let states = json(addr, "/v1/states").await;
            let shown = format!(
                "{}.{}",
                states["epoch"].as_str().unwrap(),
                states["revision"]
            );
            assert_eq!(
                (shown.as_str(), states["digest"].as_str()),
                (position, Some(digest))
            );
            assert_eq!(states["node"], *name);
            assert_eq!(states["tier"], tier);
            assert_eq!(states["role"], if tier == 0 { "root" } else { "replicant" });
        }
        assert!(tree.interrupt().success());
    }
}

#[tokio::test]
async fn a_root_without_traffic_is_followed() {
    let root = Program::start(&["node", "--addr=:0", "--http-addr=:0"]);
    let rpc = root.line_after("root: tarpc ");
    let parent = format!("--parent={rpc}");
    let replicant = Program::start(&[
        "node",
        "--name=rep-1",
        &parent,
        "--addr=:0",
        "--http-addr=:0",
    ]);
    let addr = replicant.line_after("rep-1: http://");
    let addr = addr.trim_end_matches('/');
    let start = Instant::now();
    loop {
        let ready = json(addr, "/readyz").await;
        if ready["ready"] == true {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{ready}");
        tokio::task::yield_now().await;
    }
    let states = json(addr, "/v1/states").await;
    let active = states["active"].as_array().unwrap();
    assert!(active.iter().any(|state| state == "Ready"), "{states}");
}

#[tokio::test]
async fn get_and_watch_show_what_a_node_shows() {
    let tree = Program::start(&[
        "tree",
        "--fanout=1",
        "--random=1ms",
        "--http-port=0",
        "--rpc-port=0",
    ]);
    let addr = tree
        .line_after("rep-1: http://")
        .trim_end_matches('/')
        .to_owned();
    let states = run(&["get", "--node", &addr]);
    assert!(
        states.stdout.lines().any(|line| line == "Ready"),
        "{}",
        states.stdout
    );
    let state = run(&["get", "Ready", "Start", "--node", &addr]);
    assert_eq!(
        state.stdout,
        "Ready is active, tick 1\nStart is active, tick 1\n"
    );
    let unknown = run(&["get", "Redy", "--node", &addr]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("Ready"), "{}", unknown.stderr);

    let watch = Program::start(&["watch", "--node", &addr]);
    watch.line(|line| line.contains(" =").then_some(()));
    for _ in 0..5 {
        watch.line(|line| (line.contains(" +") || line.contains(" -")).then_some(()));
    }
    assert!(tree.interrupt().success());
}

#[tokio::test]
async fn mutate_changes_the_root_by_way_of_a_leaf() {
    let args = ["tree", "--fanout=1,1", "--http-port=0", "--rpc-port=0"];
    let tree = Program::start(&[&args[..], &["--random=1h"]].concat());
    let addr = tree.line_after("rep-1-1: http://");
    let addr = addr.trim_end_matches('/');
    let mutate = |args: &[&str]| run(&[&["mutate", "--node", addr], args].concat());
    let added = mutate(&[
        "add",
        "Flight1Outbound",
        "--payload",
        "{\"flight\":\"UA1\"}",
    ]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let position = added.stdout.strip_prefix("executed at ").unwrap();
    let position: Position = position.trim_end().parse().unwrap();
    let states = json(addr, &format!("/v1/states?payloads=1&min_rev={position}")).await;
    assert_eq!(states["payloads"]["Flight1Outbound"]["flight"], "UA1");

    let args = ["toggle", "Heartbeat", "--key", "k"];
    let first = mutate(&args);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(mutate(&args).stdout, first.stdout, "a key is run once");
    let reused = mutate(&["add", "Heartbeat", "--key", "k"]);
    assert_eq!(reused.code, Some(1));
    assert_eq!(reused.stderr, "flights: the key names another mutation\n");

    let canceled = mutate(&["add", "Flight2GoToGate"]);
    let why = "canceled: Flight2GoToGate requires Flight2Outbound, which is not active\n";
    assert_eq!((canceled.code, canceled.stdout.as_str()), (Some(4), why));
    assert_eq!(canceled.stderr, "");
    let canceled = mutate(&["add", "Flight2GoToGate", "--json"]);
    assert_eq!(canceled.code, Some(4));
    assert!(canceled.stdout.starts_with("{\"outcome\":\"canceled\","));
    let unknown = mutate(&["add", "Flight1Delaid"]);
    assert_eq!(unknown.code, Some(1));
    let why = "unknown state `Flight1Delaid`, did you mean `Flight1Delayed`?";
    assert!(unknown.stderr.contains(why), "{}", unknown.stderr);
    assert!(tree.interrupt().success());
}

#[test]
fn mutate_says_when_there_is_no_root_and_when_the_outcome_is_unknown() {
    let node = Program::start(&[
        "node",
        "--name=rep-1",
        "--parent=:1",
        "--addr=:0",
        "--http-addr=:0",
    ]);
    let addr = node.line_after("rep-1: http://");
    let addr = addr.trim_end_matches('/');
    let ended = run(&["mutate", "add", "Ready", "--timeout=1s", "--node", addr]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let why = "flights: the root could not be reached in time, the mutation was not run\n";
    assert_eq!(ended.stderr, why);
    // A node that takes the request and goes away.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = deaf.local_addr().unwrap().to_string();
    let taker = std::thread::spawn(move || deaf.accept().unwrap().0.read(&mut [0; 9]).unwrap());
    let ended = run(&["mutate", "add", "Ready", "--key=again", "--node", &addr]);
    assert!(taker.join().unwrap() > 0);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("--key again"), "{}", ended.stderr);
}

/// The digest at each revision of a root that random traffic runs into, computed here.
struct History {
    machine: Machine<Flights>,
    traffic: RandomTraffic<Flights>,
    /// The digest and the active states at each revision.
    moments: Vec<(u64, StateSet<Flights>)>,
    mutations: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut machine = Machine::new().with(Tower);
        let mut moments = vec![(0, StateSet::EMPTY)];
        assert!(machine.add([Flights::Start, Flights::Ready]).is_executed());
        append(&machine, &mut moments);
        Self {
            machine,
            traffic: RandomTraffic::new(seed),
            moments,
            mutations: 0,
        }
    }

    fn moment(&mut self, revision: u64) -> &(u64, StateSet<Flights>) {
        while self.machine.revision() < revision {
            let exception = self.machine.is_active(Flights::Exception);
            let _ = self.machine.mutate(&self.traffic.next(exception));
            append(&self.machine, &mut self.moments);
            self.mutations += 1;
        }
        &self.moments[usize::try_from(revision).unwrap()]
    }
}

/// Appends what the last run of `machine` led to, transition by transition.
fn append(machine: &Machine<Flights>, moments: &mut Vec<(u64, StateSet<Flights>)>) {
    for transition in machine.last_run().filter(|t| t.changes().len() > 0) {
        let mut active = moments.last().unwrap().1.clone();
        for (state, _) in transition.changes().filter(|(_, ticks)| ticks % 2 == 1) {
            if !active.remove(state) {
                active.insert(state);
            }
        }
        moments.push((transition.digest(), active));
    }
}

/// The tree under load, and what is known of it.
struct Watched {
    tree: Program,
    addresses: BTreeMap<&'static str, String>,
    pids: BTreeMap<String, u32>,
    history: History,
    shown: BTreeMap<&'static str, Position>,
    looks: u64,
}

impl Watched {
    /// Asks every node once. Whatever it shows the root has had.
    async fn look(&mut self) {
        for line in self.tree.new_lines() {
            if let Some((name, pid)) = line.split_once(" is process ") {
                self.pids.insert(name.to_owned(), pid.parse().unwrap());
            }
        }
        for name in NAMES {
            let addr = &self.addresses[name];
            let Ok(answer) =
                machine_node::client::get(addr, "/v1/states", "application/json").await
            else {
                continue; // It was killed.
            };
            let states: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let Some(epoch) = states["epoch"].as_str() else {
                continue;
            };
            let position: Position = format!("{epoch}.{}", states["revision"]).parse().unwrap();
            let digest = u64::from_str_radix(states["digest"].as_str().unwrap(), 16).unwrap();
            let active = states["active"].as_array().unwrap().iter();
            let active = active.map(|state| state.as_str().unwrap().parse::<Flights>().unwrap());
            let shown = (digest, active.collect());
            let had = self.history.moment(position.revision);
            assert_eq!(shown, *had, "{name} at {position}");
            if let Some(before) = self.shown.insert(name, position)
                && before.epoch == position.epoch
            {
                assert!(
                    position.has_reached(before),
                    "{name}: from {before} to {position}"
                );
            }
            self.looks += 1;
        }
    }

    /// Looks until every node shows what the root came to after now.
    async fn converge(&mut self, other_than: Option<Position>) {
        let start = Instant::now();
        let mut goal: Option<Position> = None;
        loop {
            assert!(
                start.elapsed() < PATIENCE,
                "at {:?}, not {goal:?}",
                self.shown
            );
            self.look().await;
            let root = self.shown.get("root").copied();
            let fresh = |at: &Position| other_than.is_none_or(|old| old.epoch != at.epoch);
            goal = goal.or(root.filter(fresh));
            let Some(goal) = goal else { continue };
            let there = |name| {
                self.shown
                    .get(name)
                    .is_some_and(|at: &Position| at.has_reached(goal))
            };
            if NAMES.iter().all(there) {
                return;
            }
        }
    }
}

#[tokio::test]
async fn killed_nodes_come_back_and_nobody_shows_what_the_root_never_had() {
    let seed = fastrand::u64(..1 << 32);
    println!("seed {seed}");
    let seed_arg = format!("--seed={seed}");
    let tree = Program::start(&[
        "tree",
        "--processes",
        "--random=25us",
        "--http-port=0",
        "--rpc-port=0",
        &seed_arg,
    ]);
    // The last of the lines on how to reach the nodes; all are up by then.
    let lines = tree.lines_until(|line| line.contains("curl -N "));
    let addresses = addresses(&lines);
    let pids = lines.iter().filter_map(|line| {
        let (name, pid) = line.split_once(" is process ")?;
        Some((name.to_owned(), pid.parse().ok()?))
    });
    let pids: BTreeMap<String, u32> = pids.collect();
    assert_eq!(pids.len(), NAMES.len());
    let history = History::new(seed);
    let mut watched = Watched {
        tree,
        addresses,
        pids,
        history,
        shown: BTreeMap::new(),
        looks: 0,
    };
    watched.converge(None).await;
    for victim in ["rep-1-2", "rep-2", "root", "rep-1", "root", "rep-2-3"] {
        let root = watched.shown["root"];
        signal("KILL", watched.pids[victim]);
        watched.converge((victim == "root").then_some(root)).await;
    }
    // At least 100,000 mutations in the life of this root.
    while watched.history.mutations < 100_000 {
        watched.look().await;
    }
    watched.converge(None).await;
    println!("{} answers looked at", watched.looks);
    let pids = watched.pids.clone();
    assert!(watched.tree.interrupt().success());
    for (name, pid) in pids {
        assert!(!is_running(pid), "{name} outlives its tree");
    }
}
