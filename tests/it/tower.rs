//! Gates and delays: what the root's handlers refuse, and what they do.

use std::future::pending;
use std::time::Duration;

use flights::cli::FeedArgs;
use flights::narrator::Narrator;
use flights::payloads::Estimate;
use flights::states::Flights;
use flights::tower::Tower;
use flights::traffic::Traffic;
use machine_node::random::RandomTraffic;
use machine_node::status::Lines;
use machine_runtime::{Epoch, Handle, Machine, Mutation, Outcome, Owner, Reactor, ViewOptions};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout};

use crate::support::{Program, run};
use crate::writes::ask;

fn tower() -> Machine<Flights> {
    let mut machine = Machine::new().with(Tower);
    assert!(machine.add([Flights::Start, Flights::Ready]).is_executed());
    machine
}

/// A machine whose flight 1 boards at gate 2.
fn boarding() -> Machine<Flights> {
    let mut machine = tower();
    let called = [
        Flights::outbound(1),
        Flights::go_to_gate(1),
        Flights::gate(1, 2),
    ];
    assert!(machine.add(called).is_executed());
    machine
}

#[track_caller]
fn check_refused(outcome: &Outcome<Flights>, expected: &str) {
    match outcome {
        Outcome::Canceled(reason) => assert_eq!(reason.to_string(), expected),
        other => panic!("{other:?}, instead of {expected}"),
    }
}

#[test]
fn two_flights_cannot_have_one_gate() {
    let mut machine = tower();
    assert!(machine.add(Flights::gate(1, 2)).is_executed());
    check_refused(
        &machine.add(Flights::gate(3, 2)),
        "refused by enter of Flight3Gate2: gate 2 is held by flight 1",
    );
    // Who leaves it in the same transition does not hold it any more.
    let swap = [Flights::gate(1, 1), Flights::gate(3, 2)];
    assert!(machine.add(swap).is_executed());
    let both = [Flights::gate(4, 3), Flights::gate(5, 3)];
    check_refused(
        &machine.add(both),
        "refused by enter of Flight4Gate3: gate 3 is held by flight 5",
    );
    assert!(machine.remove(Flights::gate(3, 2)).is_executed());
    assert!(machine.add(Flights::gate(5, 2)).is_executed());
}

#[test]
fn boarding_closes_a_gate_and_its_end_opens_it() {
    let closed = Flights::closed(2);
    for begin in [
        vec![Flights::go_to_gate(1), Flights::gate(1, 2)],
        vec![Flights::gate(1, 2), Flights::go_to_gate(1)],
    ] {
        let mut machine = tower();
        assert!(machine.add(Flights::outbound(1)).is_executed());
        for state in begin {
            assert!(!machine.is_active(closed));
            assert!(machine.add(state).is_executed());
        }
        assert!(machine.is_active(closed));
    }
    let ends = [
        Mutation::add(Flights::departed(1)),
        Mutation::add([Flights::departed(1), Flights::gate_unknown(1)]),
        Mutation::remove(Flights::go_to_gate(1)),
        Mutation::remove(Flights::outbound(1)),
        Mutation::add(Flights::inbound(1)),
        Mutation::set(Flights::Start),
    ];
    for end in ends {
        let mut machine = boarding();
        assert_eq!(machine.mutate(&end), Outcome::Executed, "{end:?}");
        assert!(!machine.is_active(closed), "{end:?}");
    }
}

#[test]
fn a_gate_is_closed_for_who_boards_there_and_nobody_else() {
    let mut machine = boarding();
    let boards = "flight 1 boards at gate 2";
    for to in [Flights::gate(1, 3), Flights::gate_unknown(1)] {
        let expected = format!("refused by exit of Flight1Gate2: {boards}");
        check_refused(&machine.add(to), &expected);
    }
    let expected = format!("refused by exit of Gate2Closed: {boards}");
    check_refused(&machine.remove(Flights::closed(2)), &expected);
    check_refused(
        &machine.add(Flights::closed(3)),
        "refused by enter of Gate3Closed: nobody boards at gate 3",
    );
    // It opens once the flight has left, not while it does.
    let hand_over = [
        Flights::departed(1),
        Flights::gate_unknown(1),
        Flights::gate(3, 2),
    ];
    check_refused(
        &machine.add(hand_over),
        "refused by enter of Flight3Gate2: gate 2 is closed",
    );
    assert!(machine.add(&hand_over[..2]).is_executed());
    assert!(machine.add(hand_over[2]).is_executed());
}

#[test]
fn random_traffic_breaks_no_rule_of_the_tower() {
    let mut machine = tower();
    let mut traffic = RandomTraffic::new(5);
    let (mut closed, mut overdue) = (0, 0);
    for _ in 0..20_000 {
        let exception = machine.is_active(Flights::Exception);
        let _ = machine.mutate(&traffic.next(exception));
        for gate in Flights::gates() {
            let at = |flight: &usize| machine.is_active(Flights::gate(*flight, gate));
            let at: Vec<_> = Flights::flights().filter(at).collect();
            assert!(at.len() <= 1, "flights {at:?} are at gate {gate}");
            let boards = |flight: &usize| machine.is_active(Flights::go_to_gate(*flight));
            let is_closed = machine.is_active(Flights::closed(gate));
            assert_eq!(is_closed, at.iter().any(boards), "gate {gate}");
            closed += usize::from(is_closed);
        }
        for flight in
            Flights::flights().filter(|flight| machine.is_active(Flights::overdue(*flight)))
        {
            assert!(machine.is_active(Flights::delayed(flight)));
            overdue += 1;
        }
    }
    assert!(closed > 0 && overdue > 0);
    assert_eq!(machine.errors().len(), 0);
}

/// A root, and the task that owns its machine.
fn root() -> (Handle<Flights>, JoinSet<()>) {
    let (root, owner) = Owner::new(tower(), Epoch(1), ViewOptions::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        owner.run(pending()).await;
    });
    (root, tasks)
}

async fn delay(root: &Handle<Flights>, in_ms: Option<u64>) {
    let estimate = Estimate {
        until: "16:15".to_owned(),
        in_ms,
    };
    let delayed = Mutation::add(Flights::delayed(1)).with(Flights::delayed_payload(1), &estimate);
    assert!(root.mutate(delayed).await.unwrap().outcome.is_executed());
}

#[tokio::test(start_paused = true)]
async fn a_delayed_flight_past_its_time_is_overdue_until_it_leaves() {
    let (root, _tasks) = root();
    let start = Instant::now();
    delay(&root, Some(60_000)).await;
    let overdue = root.view().when(Flights::overdue(1));
    overdue.await.unwrap();
    let took = start.elapsed();
    let minute = Duration::from_mins(1);
    assert!(
        took >= minute && took < minute + Duration::from_millis(5),
        "{took:?}"
    );
    assert!(root.view().is_active(Flights::delayed(1)));
    let departed = root.add(Flights::departed(1)).await.unwrap();
    assert!(departed.outcome.is_executed());
    assert!(!root.view().is_active(Flights::overdue(1)));
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_leaves_in_time_or_has_no_estimate_is_not_overdue() {
    let (root, _tasks) = root();
    delay(&root, Some(60_000)).await;
    advance(Duration::from_secs(59)).await;
    assert!(
        root.add(Flights::departed(1))
            .await
            .unwrap()
            .outcome
            .is_executed()
    );
    // The old timer is gone where the slot shows another delayed flight.
    delay(&root, None).await;
    let overdue = root.view().when(Flights::overdue(1));
    assert!(timeout(Duration::from_hours(24), overdue).await.is_err());
    let late = root.add(Flights::overdue(2)).await.unwrap().outcome;
    check_refused(&late, "Flight2Overdue is blocked by Flight2Scheduled");
}

#[test]
fn an_estimate_that_cannot_be_read_is_refused() {
    let delayed = Flights::delayed(1);
    let wrong = Mutation::add(delayed).with_payload(delayed, r#"{"in_ms":"soon"}"#);
    let outcome = tower().mutate(&wrong);
    let Outcome::Canceled(reason) = outcome else {
        panic!("{outcome:?}")
    };
    let start = "refused by enter of Flight1Delayed: not a payload of the declared type: ";
    assert!(reason.to_string().starts_with(start), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_day_at_60x_is_refused_nothing_and_what_is_late_is_told() {
    let (root, mut tasks) = root();
    let told = Lines::default();
    let narrator = Narrator::new(root.view().clone(), told.clone(), String::new());
    tasks.spawn(Reactor::new(&root, narrator).run(pending()));
    // The clock moves once everybody waits: the narrator has seen what there is at the start.
    sleep(Duration::from_millis(1)).await;
    let lines = Lines::default();
    let traffic = Traffic::new(&FeedArgs {
        replay: Some("shipped".into()),
        speed: "60x".parse().unwrap(),
        random: None,
        seed: 0,
    });
    traffic.unwrap().run(&root, &lines, true).await.unwrap();
    let lines = lines.take();
    let account = lines.last().unwrap();
    let arrived = "the replay is over: 1004 departures = 10 arrived + 0 diverted + 5 departed";
    assert!(account.starts_with(arrived), "{account}");
    assert!(account.contains(", 0 refused, in 15"), "{account}");

    let told = told.take();
    let late: Vec<_> = told
        .iter()
        .filter_map(|line| line.split_once(" is overdue since "))
        .collect();
    assert!(late.len() > 5, "{told:#?}");
    for (flight, until) in late {
        let delayed = format!("{flight} is delayed until {until}");
        assert!(told.contains(&delayed), "{delayed}");
    }
    // What the feed says of flights, and the states are enough to tell, the narrator says too.
    let same = |line: &&String| line.contains(" is on time") || line.contains(" scheduled for ");
    let words = lines.iter().filter(same).map(|line| &line[18..]);
    let missing: Vec<_> = words
        .filter(|words| !told.iter().any(|line| line == words))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[tokio::test]
async fn a_second_flight_hears_why_it_does_not_get_the_gate() {
    let root = Program::start(&["node", "--addr=:0", "--http-addr=:0"]);
    let parent = format!("--parent={}", root.line_after("root: tarpc "));
    let leaf = [
        "node",
        "--name=rep-1",
        &parent,
        "--addr=:0",
        "--http-addr=:0",
    ];
    let leaf = Program::start(&leaf);
    let addr = leaf.line_after("rep-1: http://");
    let addr = addr.trim_end_matches('/');
    let mutate = |args: &[&str]| run(&[&["mutate", "--node", addr], args].concat());
    assert_eq!(mutate(&["add", "Flight3Gate2"]).code, Some(0));
    let why = "refused by enter of Flight1Gate2: gate 2 is held by flight 3";
    let second = mutate(&["add", "Flight1Gate2"]);
    assert_eq!(
        (second.code, second.stdout),
        (Some(4), format!("canceled: {why}\n"))
    );
    let body = r#"{"op":"add","states":["Flight1Gate2"]}"#;
    let (status, answer) = ask(addr, body.to_owned(), None).await.unwrap();
    assert_eq!((status, &answer["outcome"]), (200, &"canceled".into()));
    let reason = &answer["reason"];
    assert_eq!(reason["code"], "refused", "{answer}");
    assert_eq!(reason["message"], why, "{answer}");
}
