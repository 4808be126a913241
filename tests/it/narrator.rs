//! What a replica tells a person.

use std::future::pending;

use flights::narrator::Narrator;
use flights::payloads::{Arrival, Estimate, Itinerary};
use flights::states::Flights;
use flights::tower::Tower;
use machine_node::status::Lines;
use machine_runtime::replica::{Follower, FollowerOptions, Source, SourceOptions, Tcp};
use machine_runtime::{
    Epoch, Handle, Machine, Mutation, Outcome, Owner, Reactor, States as _, ViewOptions,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::task::yield_now;

use crate::support::{Program, run};

/// A root and a replica that narrates.
struct Pair {
    root: Handle<Flights>,
    lines: Lines,
    _tasks: JoinSet<()>,
}

impl Pair {
    /// `before` is run before the replica is there.
    async fn new(before: Vec<Mutation<Flights>>) -> Self {
        let mut tasks = JoinSet::new();
        let machine = Machine::new().with(Tower);
        let (root, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
        tasks.spawn(async move {
            owner.run(pending()).await;
        });
        execute(&root, before).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let source = Source::new(root.view(), SourceOptions::new("root"));
        tasks.spawn(async move { source.serve(listener, pending()).await });
        let schema = Flights::schema().clone();
        let (view, follower) = Follower::new::<Flights>(schema, FollowerOptions::new("leaf"));
        let lines = Lines::default();
        let narrator = Narrator::new(view, lines.clone(), "leaf: ".to_owned());
        tasks.spawn(Reactor::new(&follower.handle(), narrator).run(pending()));
        let mut synced = follower.handle::<Flights>().view().positions();
        tasks.spawn(follower.run(vec![Tcp { addr }], pending()));
        synced.wait_for(Option::is_some).await.unwrap();
        Self {
            root,
            lines,
            _tasks: tasks,
        }
    }

    /// Runs `mutations`, which the replica sees at once, until `count` lines were told of them.
    #[track_caller]
    fn check(
        &self,
        mutations: Vec<Mutation<Flights>>,
        expected: &[&str],
    ) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            execute(&self.root, mutations).await;
            let mut told = Vec::new();
            while told.len() < expected.len() {
                told.extend(self.lines.take());
                yield_now().await;
            }
            let expected: Vec<_> = expected
                .iter()
                .map(|line| format!("leaf: {line}"))
                .collect();
            assert_eq!(told, expected, "{place}");
        }
    }
}

async fn execute(root: &Handle<Flights>, mutations: Vec<Mutation<Flights>>) {
    for receipt in root.mutate_all(mutations).await.unwrap() {
        assert_eq!(receipt.outcome, Outcome::Executed);
    }
}

/// The slot shows `flight` from now on.
fn shown(slot: usize, flight: &str) -> Vec<Mutation<Flights>> {
    let text = str::to_owned;
    let itinerary = Itinerary {
        flight: text(flight),
        from: text("EWR"),
        to: text("IAH"),
        date: text("2013-01-01"),
        sched: text("05:15"),
        due: text("08:19"),
    };
    let called = [
        Flights::outbound(slot),
        Flights::scheduled(slot),
        Flights::gate_unknown(slot),
    ];
    vec![
        Mutation::remove(Flights::outbound(slot)),
        Mutation::add(called).with(Flights::outbound_payload(slot), &itinerary),
    ]
}

fn called(slot: usize, gate: usize) -> Mutation<Flights> {
    Mutation::add([
        Flights::on_time(slot),
        Flights::go_to_gate(slot),
        Flights::gate(slot, gate),
    ])
}

fn departed(slot: usize) -> Mutation<Flights> {
    Mutation::add([Flights::departed(slot), Flights::gate_unknown(slot)])
}

#[tokio::test]
async fn a_flight_is_told_from_its_states_and_what_they_retain() {
    let leaf = Pair::new(vec![]).await;
    leaf.check(
        shown(1, "UA1545"),
        &["UA1545 to IAH is scheduled for 05:15, in slot 1"],
    )
    .await;
    let on_time = [
        "UA1545 to IAH is on time, go to gate 3",
        "gate 3 is closed for boarding",
    ];
    leaf.check(vec![called(1, 3)], &on_time).await;
    let left = ["gate 3 is open", "UA1545 to IAH departed from gate 3"];
    leaf.check(vec![departed(1)], &left).await;
    let arrival = Arrival {
        flight: "UA1545".to_owned(),
        delay: Some(-12),
        diverted: false,
    };
    let arrived = Mutation::add(Flights::arrived(1)).with(Flights::arrived_payload(1), &arrival);
    leaf.check(vec![arrived], &["UA1545 to IAH arrived 12 minutes early"])
        .await;
    // What ends with its flight gone is no cancellation.
    leaf.check(
        shown(1, "DL7"),
        &["DL7 to IAH is scheduled for 05:15, in slot 1"],
    )
    .await;
    let cancelled = Mutation::remove(Flights::outbound(1));
    leaf.check(vec![cancelled], &["DL7 to IAH is cancelled"])
        .await;
}

#[tokio::test]
async fn a_delay_and_changes_of_gates_are_told() {
    let leaf = Pair::new(shown(2, "UA1")).await;
    leaf.check(vec![], &["flights shown: 1, overdue: 0, gates closed: 0"])
        .await;
    let estimate = Estimate {
        until: "05:30".to_owned(),
        in_ms: None,
    };
    let delayed = Mutation::add(Flights::delayed(2)).with(Flights::delayed_payload(2), &estimate);
    // The name is known although it was there before.
    leaf.check(vec![delayed], &["UA1 to IAH is delayed until 05:30"])
        .await;
    let overdue = Mutation::add(Flights::overdue(2));
    leaf.check(vec![overdue], &["UA1 to IAH is overdue since 05:30"])
        .await;
    let gate = |gate| vec![Mutation::add(Flights::gate(2, gate))];
    leaf.check(gate(1), &["UA1 to IAH gets gate 1"]).await;
    leaf.check(gate(4), &["UA1 to IAH moves from gate 1 to gate 4"])
        .await;
    let boards = vec![Mutation::add(Flights::go_to_gate(2))];
    let told = [
        "UA1 to IAH boards, go to gate 4",
        "gate 4 is closed for boarding",
    ];
    leaf.check(boards, &told).await;
    // Nobody wrote down which flight this is.
    let other = vec![Mutation::add(Flights::on_time(5))];
    leaf.check(other, &["flight 5 is on time and waits for a gate"])
        .await;
}

#[tokio::test]
async fn several_transitions_at_once_are_told_as_what_they_came_to() {
    let leaf = Pair::new(shown(1, "UA1")).await;
    leaf.check(vec![], &["flights shown: 1, overdue: 0, gates closed: 0"])
        .await;
    let mut all = vec![called(1, 3), departed(1)];
    all.extend(shown(2, "UA2"));
    let told = [
        "UA1 to IAH departed",
        "UA2 to IAH is scheduled for 05:15, in slot 2",
    ];
    leaf.check(all, &told).await;
    // A flight that took over the slot is told by its own name, and has a gate of its own.
    let mut all = shown(1, "UA3");
    all.push(called(1, 5));
    let told = [
        "UA3 to IAH is on time, go to gate 5",
        "gate 5 is closed for boarding",
    ];
    leaf.check(all, &told).await;
    let mut all = vec![departed(1)];
    all.extend(shown(1, "UA4"));
    all.push(called(1, 2));
    let told = [
        "gate 5 is open",
        "UA4 to IAH is on time, go to gate 2",
        "gate 2 is closed for boarding",
    ];
    leaf.check(all, &told).await;
}

#[test]
fn a_node_narrates_if_it_is_asked_to() {
    let root = Program::start(&["node", "--addr=:0", "--http-addr=:0"]);
    let parent = format!("--parent={}", root.line_after("root: tarpc "));
    let leaf = [
        "node",
        "--name=rep-1",
        "--narrate",
        "--addr=:0",
        "--http-addr=:0",
    ];
    let leaf = Program::start(&[&leaf[..], &[&parent]].concat());
    let addr = leaf.line_after("rep-1: http://");
    let addr = addr.trim_end_matches('/');
    let gate = run(&["mutate", "add", "Flight1Gate2", "--node", addr]);
    assert_eq!(gate.code, Some(0));
    leaf.line(|line| (line == "flight 1 gets gate 2").then_some(()));
}

#[test]
fn the_first_leaf_of_a_tree_tells_the_day_and_nobody_else_does() {
    for arg in ["--log=warn", "--processes"] {
        // A day in four seconds: without waiting at all it may be one delta to a leaf, or over before
        // it has its first snapshot, and then there is nothing to tell.
        let speed = "--speed=20000x";
        let args = ["tree", speed, "--http-port=0", "--rpc-port=0", arg];
        let tree = Program::start(&args);
        let is_told = |line: &str| line.contains(" to ") && line.contains(", in slot ");
        tree.line(|line| (line.starts_with("rep-1-1: ") && is_told(line)).then_some(()));
        let lines = tree.lines_until(|line| line.starts_with("all 9 nodes are at "));
        let by_others = lines
            .iter()
            .filter(|line| is_told(line) && !line.starts_with("rep-1-1: "));
        assert_eq!(by_others.collect::<Vec<_>>(), [""; 0]);
        assert!(tree.interrupt().success());
    }
}
