//! A node and a debugger over TCP: what is told, and what is told again.

use machine_runtime::debug::frame::{Ask, Body, Line, Role};
use machine_runtime::debug::listen::ConnectionId;
use machine_runtime::{DynState, Mutation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::debugger::Debugger;
use crate::fixtures::{PATIENCE, dials, report, root, tied};

#[tokio::test]
async fn a_debugger_is_told_of_a_machine_and_of_its_replicas() {
    let mut root = root();
    root.work(1, 100).await;
    let replica = root.replica().await;
    let (replicant, parent) = (replica.subject.clone(), replica.parent.clone());
    root.follow(replica);
    let mut debugger = Debugger::new().await;
    let (_, mut reporting) = report(debugger.addr, dials(), [root.subject(), replicant]);
    debugger.has_reached(1, &root).await;
    root.work(2, 2000).await;
    debugger.has_reached(1, &root).await;
    debugger.has_reached(2, &root).await;

    let [one, two] = [1, 2].map(|number| &debugger.book.machines[&number]);
    assert!(
        one.transitions >= 2000 && one.canceled > 100,
        "{}",
        one.transitions
    );
    assert!(two.transitions > 0 && one.dropped + two.dropped == 0);
    let declared = one.declared.as_ref().unwrap();
    assert_eq!(
        (declared.name.as_str(), declared.role),
        ("root", Role::Root)
    );
    assert_eq!(declared.addr.as_deref(), Some("here:1"));
    let other = two.declared.as_ref().unwrap();
    assert_eq!(
        (other.name.as_str(), other.role),
        ("replica", Role::Replicant)
    );
    assert_eq!(other.parent.as_deref(), Some(parent.as_str()));
    // The schema comes once, and is the one.
    let schemas = [declared, other].map(|declared| declared.schema.as_ref());
    let schemas: Vec<_> = schemas.into_iter().flatten().collect();
    assert_eq!(schemas.len(), 1);
    let told = schemas[0].to_schema().unwrap();
    assert_eq!(told.fingerprint(), tied().fingerprint());
    assert_eq!(declared.fingerprint, tied().fingerprint().0);
    // The first key has the order that later transitions depend on.
    let mut keys = debugger
        .book
        .frames
        .iter()
        .filter_map(|frame| match &frame.body {
            Body::Key(key) if frame.machine == 1 => Some(key),
            _ => None,
        });
    let key = keys.next().unwrap();
    let active = key.ticks.iter().filter(|tick| **tick % 2 == 1).count();
    assert!(active > 3 && key.order.len() == active);

    reporting.stop().await;
    debugger
        .until(|book| book.machines[&1].gone && book.machines[&2].gone)
        .await;
    assert!(!root.is_observed());
}

#[tokio::test]
async fn payloads_are_told_unless_redacted_and_lines_with_their_node() {
    let root = root();
    let mut debugger = Debugger::new().await;
    let (reporter, _reporting) = report(debugger.addr, dials(), [root.subject()]);
    let line = |text: &str| Line {
        level: 2,
        target: "tests".into(),
        text: text.into(),
    };
    reporter.log(None, line("nobody is there yet"));
    debugger.until(|book| book.machines.contains_key(&1)).await;
    reporter.log(Some("root"), line("of the root"));
    reporter.log(Some("else"), line("of nobody"));
    let schema = tied();
    for name in ["Secret", "Open"] {
        let state = DynState(u32::try_from(schema.find(name).unwrap()).unwrap());
        let mutation = Mutation::add(state).with_payload(state, "\"pssst\"");
        assert!(
            root.handle
                .mutate(mutation)
                .await
                .unwrap()
                .outcome
                .is_executed()
        );
    }
    debugger.has_reached(1, &root).await;
    debugger.until(|book| book.lines.len() == 2).await;
    let book = &debugger.book;
    assert_eq!(book.lines[0], (1, "of the root".to_owned()));
    assert_eq!(book.lines[1], (0, "of nobody".to_owned()));
    let payloads = book.frames.iter().filter_map(|frame| match &frame.body {
        Body::Transition(t) => t.payloads.first().cloned(),
        _ => None,
    });
    let texts: Vec<_> = payloads
        .map(|payload| (payload.len, payload.text))
        .collect();
    assert_eq!(texts, [(7, None), (7, Some("\"pssst\"".to_owned()))]);
}

#[tokio::test]
async fn who_waits_is_told_when_asked() {
    let root = root();
    let mut debugger = Debugger::new().await;
    let _reporting = report(debugger.addr, dials(), [root.subject()]);
    debugger.has_reached(1, &root).await;
    let view = root.handle.view();
    let _waits = [view.when(DynState(64)), view.when(DynState(64))];
    let connection = debugger.connection.unwrap();
    assert!(debugger.asker.ask(connection, Ask::Waiters { machine: 1 }));
    assert!(debugger.asker.ask(connection, Ask::Waiters { machine: 77 }));
    debugger
        .until(|book| book.machines[&1].waiters.is_some())
        .await;
    let waiters = debugger.book.machines[&1].waiters.clone().unwrap();
    assert_eq!(waiters, [("all are active".to_owned(), 2)]);
    assert!(
        !debugger
            .asker
            .ask(ConnectionId(999), Ask::Waiters { machine: 1 })
    );
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_no_gap() {
    let root = root();
    let mut debugger = Debugger::new().await;
    // Breaks each connection after so many bytes from the node.
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, to) = (proxy.local_addr().unwrap(), debugger.addr);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for limit in [20_000, 9_000, 30_000, usize::MAX] {
            let (mut node, _) = proxy.accept().await.unwrap();
            let mut there = TcpStream::connect(to).await.unwrap();
            let (mut from_node, mut to_node) = node.split();
            let (mut from_there, mut to_there) = there.split();
            let up = async {
                let mut left = limit;
                let mut bytes = [0; 1000];
                while left > 0 {
                    let len = from_node.read(&mut bytes).await.unwrap();
                    if len == 0 {
                        break;
                    }
                    to_there.write_all(&bytes[..len]).await.unwrap();
                    left = left.saturating_sub(len);
                }
            };
            tokio::select! {
                () = up => {}
                _ = tokio::io::copy(&mut from_there, &mut to_node) => {}
            }
        }
    });
    let _reporting = report(addr, dials(), [root.subject()]);
    debugger.has_reached(1, &root).await;
    root.work(3, 1000).await;
    debugger.has_reached(1, &root).await;
    let machine = &debugger.book.machines[&1];
    assert!(debugger.book.hellos > 1, "it did not break");
    assert_eq!((machine.keys, machine.dropped), (1, 0));
    // From the key on each frame is there.
    let numbers: Vec<_> = debugger
        .book
        .frames
        .iter()
        .map(|frame| frame.number)
        .collect();
    assert!(numbers.array_windows().all(|[one, next]| one + 1 == *next));
}

#[tokio::test]
async fn what_a_slow_debugger_does_not_take_is_dropped_counted_and_made_up_for() {
    let root = root();
    let mut debugger = Debugger::new().await;
    let mut options = dials();
    // However long that takes here, it is not given up.
    options.stall = PATIENCE;
    let _reporting = report(debugger.addr, options, [root.subject()]);
    debugger.has_reached(1, &root).await;
    // It takes nothing: sockets, what is kept, and the observer's room run full one after the other.
    let mut seed = 10;
    while root.observers.lost()[0].1 == 0 {
        root.work(seed, 10_000).await;
        seed += 1;
    }
    debugger.has_reached(1, &root).await;
    root.work(9, 100).await;
    debugger.has_reached(1, &root).await;
    assert_eq!(debugger.book.hellos, 1);
    let machine = &debugger.book.machines[&1];
    assert!(
        machine.dropped >= root.observers.lost()[0].1,
        "{}",
        machine.dropped
    );
    assert!(machine.keys > 1);
    // Whatever was not told was told to be dropped.
    let at = root.handle.checkpoint().await.unwrap();
    let first = debugger
        .book
        .frames
        .iter()
        .find_map(|frame| match &frame.body {
            Body::Key(key) => Some(key.sequence),
            _ => None,
        });
    let told = machine.transitions as u64 + machine.dropped + first.unwrap();
    assert_eq!(told, at.sequence);
}

#[tokio::test]
async fn a_machine_that_does_much_is_told_whole_now_and_then() {
    let root = root();
    let mut debugger = Debugger::new().await;
    let _reporting = report(debugger.addr, dials(), [root.subject()]);
    debugger.has_reached(1, &root).await;
    while debugger.book.machines[&1].keys < 2 {
        root.work(4, 2000).await;
        debugger.has_reached(1, &root).await;
    }
    let machine = &debugger.book.machines[&1];
    assert!(machine.transitions >= 16_384 && machine.dropped == 0);
}
