//! A node and a debugger over TCP: what is told, what is told again, and what neither can do to the
//! other.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use machine_runtime::debug::codec::{self, preamble};
use machine_runtime::debug::frame::{Ask, Body, Change, Declared, Frame, Line, Role, VERSION};
use machine_runtime::debug::link::{DialOptions, Reporter};
use machine_runtime::debug::listen::{Asker, ConnectionId, Heard, ListenOptions, Listener, What};
use machine_runtime::debug::subject::Subject;
use machine_runtime::observe::{Interest, Observers};
use machine_runtime::replica::{Follower, FollowerOptions, Source, SourceOptions, Tcp};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Position, Schema, StateDef, ViewOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_mins(1);

/// 64 states, each of which some other removes or requires; the last takes a payload that is redacted.
fn schema() -> Arc<Schema> {
    let mut builder = Schema::builder("Tied");
    for i in 0..64 {
        let mut state = StateDef::new(format!("State{i}"));
        if i % 3 == 1 {
            state = state.remove([format!("State{}", i - 1)]);
        }
        if i % 5 == 3 && i % 3 != 1 {
            state = state.require([format!("State{}", i - 1)]);
        }
        if i % 7 == 3 {
            state = state.auto();
        }
        builder = builder.state(state);
    }
    let secret = StateDef::new("Secret").multi().redact();
    let open = StateDef::new("Open").multi().payload();
    builder.state(secret).state(open).build().unwrap().into()
}

/// A root and what runs it.
struct Root {
    handle: Handle<DynState>,
    observers: Observers,
    tasks: JoinSet<()>,
}

fn root() -> Root {
    let observers = Observers::new();
    let mut options = ViewOptions::default();
    options.observers = Some(observers.clone());
    let machine = Machine::with_schema(schema());
    let (handle, owner) = Owner::new(machine, Epoch(7), options);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(owner.run(std::future::pending()).await) });
    Root {
        handle,
        observers,
        tasks,
    }
}

impl Root {
    fn subject(&self) -> Subject {
        Subject::root("root", &self.handle, &self.observers).with_addr("here:1")
    }

    /// Random adds and removes, of which some are refused.
    async fn work(&self, seed: u64, mutations: usize) {
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..mutations {
            let state = DynState(rng.u32(1..65));
            let mutation = if rng.u8(0..3) == 0 {
                Mutation::remove(state)
            } else {
                Mutation::add(state)
            };
            // A refusal is told like the others.
            let _ = self.handle.mutate(mutation).await.unwrap();
        }
    }

    fn is_observed(&self) -> bool {
        self.observers
            .wants(Interest::CHANGES | Interest::LINKS | Interest::ERRORS)
    }
}

/// A debugger, and what it has put together.
struct Debugger {
    heard: Receiver<Heard>,
    asker: Asker,
    addr: SocketAddr,
    book: Book,
    connection: Option<ConnectionId>,
    closed: Vec<Option<String>>,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
}

impl Debugger {
    async fn new() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), ListenOptions::default()).await
    }

    async fn at(addr: SocketAddr, options: ListenOptions) -> Self {
        let (listener, heard) = Listener::bind(addr, options).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (addr, asker) = (listener.local_addr().unwrap(), listener.asker());
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.run(async { drop(stopped.await) }));
        Self {
            heard,
            asker,
            addr,
            book: Book::default(),
            connection: None,
            closed: Vec::new(),
            stop: Some(stop),
            tasks,
        }
    }

    /// Hears until `done`.
    async fn until(&mut self, done: impl Fn(&Book) -> bool) {
        let all = async {
            while !done(&self.book) {
                self.hear().await;
            }
        };
        timeout(PATIENCE, all).await.expect("what did not come");
    }

    async fn hear(&mut self) {
        let heard = self.heard.recv().await.unwrap();
        match heard.what {
            What::Opened { hello, .. } => {
                self.connection = Some(heard.connection);
                self.book.take(&hello);
            }
            What::Frame(frame) => self.book.take(&frame),
            What::Closed { why, .. } => self.closed.push(why),
            _ => {}
        }
    }

    /// Hears until machine `number`, the root if it is 1, is told of as far as the root is.
    async fn has_reached(&mut self, number: u32, root: &Root) {
        let at = root.handle.checkpoint().await.unwrap();
        self.until(|book| {
            let machine = book.machines.get(&number);
            machine.is_some_and(|machine| {
                let all = number != 1 || machine.sequence == at.sequence;
                all && machine.position == Some(at.position)
            })
        })
        .await;
        assert_eq!(
            self.book.machines[&number].ticks,
            root.handle.view().snapshot().unwrap().ticks()
        );
    }

    /// Stops listening and hangs up.
    async fn hang_up(&mut self) {
        drop(self.stop.take());
        while self.tasks.join_next().await.is_some() {}
    }
}

/// All that a debugger knows. It checks that nothing is left out untold.
#[derive(Default)]
struct Book {
    hellos: usize,
    process: u128,
    number: u64,
    machines: BTreeMap<u32, Machined>,
    lines: Vec<(u32, String)>,
    frames: Vec<Frame>,
}

#[derive(Default)]
struct Machined {
    declared: Option<Declared>,
    ticks: Vec<u64>,
    position: Option<Position>,
    sequence: u64,
    keys: usize,
    transitions: usize,
    canceled: usize,
    dropped: u64,
    /// Whether a key has to come before anything else.
    lost: bool,
    links: usize,
    waiters: Option<Vec<(String, u32)>>,
    gone: bool,
}

impl Book {
    fn take(&mut self, frame: &Frame) {
        if let Body::Hello(hello) = &frame.body {
            assert_eq!(hello.version, VERSION);
            self.hellos += 1;
            if hello.process != self.process {
                (self.process, self.number) = (hello.process, 0);
            }
            return;
        }
        assert!(frame.number > self.number, "a frame came twice");
        self.number = frame.number;
        self.frames.push(frame.clone());
        if let Body::Log(line) = &frame.body {
            self.lines.push((frame.machine, line.text.clone()));
            return;
        }
        let machine = self.machines.entry(frame.machine).or_default();
        if let Body::Machine(declared) = &frame.body {
            machine.declared = Some((**declared).clone());
            machine.lost = true;
            return;
        }
        assert!(
            machine.declared.is_some(),
            "a machine that was not declared"
        );
        match &frame.body {
            Body::Key(key) => {
                // What was told of it adds up to it.
                if !machine.lost {
                    assert_eq!(machine.ticks, key.ticks);
                    assert_eq!(machine.sequence, key.sequence);
                }
                machine.lost = false;
                machine.keys += 1;
                machine.ticks.clone_from(&key.ticks);
                machine.position = Some(key.position);
                machine.sequence = key.sequence;
            }
            Body::Transition(t) => {
                assert!(!machine.lost);
                assert_eq!(t.sequence, machine.sequence + 1, "a gap");
                machine.sequence = t.sequence;
                machine.transitions += 1;
                machine.canceled += usize::from(!t.is_accepted());
                machine.change(&t.changes);
                let position = machine.position.as_mut().unwrap();
                position.revision = t.revision;
            }
            Body::Followed(f) => {
                assert!(!machine.lost);
                assert_eq!(
                    Some(f.from),
                    machine.position.map(|at| at.revision),
                    "a gap"
                );
                machine.change(&f.changes);
                machine.position = Some(f.position);
                machine.transitions += 1;
            }
            Body::Dropped(n) => {
                machine.dropped += n;
                machine.lost = true;
            }
            Body::Link(_) => machine.links += 1,
            Body::Waiters(waiters) => {
                let waiters = waiters.iter().map(|w| (w.what.clone(), w.count));
                machine.waiters = Some(waiters.collect());
            }
            Body::Gone => machine.gone = true,
            _ => {}
        }
    }
}

impl Machined {
    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            self.ticks[change.state as usize] += change.ticks;
        }
    }
}

/// Tells the debugger at `addr` of nodes, until what it returns drops.
fn report(addr: SocketAddr, subjects: impl IntoIterator<Item = Subject>) -> Reporting {
    let mut options = DialOptions::default();
    options.every = Duration::from_millis(20);
    report_with(addr, options, subjects)
}

fn report_with(
    addr: SocketAddr,
    options: DialOptions,
    subjects: impl IntoIterator<Item = Subject>,
) -> Reporting {
    let reporter = Reporter::new("tests 1", addr.to_string(), options);
    for subject in subjects {
        reporter.add(subject);
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(reporter.clone().run(async { drop(stopped.await) }));
    Reporting {
        reporter,
        stop: Some(stop),
        tasks,
    }
}

struct Reporting {
    reporter: Reporter,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
}

impl Reporting {
    async fn stop(mut self) {
        drop(self.stop.take());
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// Waits until something outside is as it should be.
async fn eventually(done: impl Fn() -> bool) {
    let look = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, look).await.expect("what did not happen");
}

#[tokio::test]
async fn a_debugger_is_told_of_a_machine_and_of_its_replicas() {
    let mut root = root();
    root.work(1, 100).await;
    let rpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let parent = rpc.local_addr().unwrap().to_string();
    let source = Source::new(root.handle.view(), SourceOptions::new("root"));
    root.tasks
        .spawn(async move { source.serve(rpc, std::future::pending()).await });
    let observers = Observers::new();
    let mut options = FollowerOptions::new("replica");
    options.view.observers = Some(observers.clone());
    let (_, follower) = Follower::new::<DynState>(schema(), options);
    let replica: Handle<DynState> = follower.handle();
    let addr = parent.clone();
    let stop = std::future::pending();
    root.tasks.spawn(follower.run(vec![Tcp { addr }], stop));

    let mut debugger = Debugger::new().await;
    let replicant = Subject::replicant("replica", &parent, &replica, &observers);
    let reporting = report(debugger.addr, [root.subject(), replicant]);
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
    assert_eq!(told.fingerprint(), schema().fingerprint());
    assert_eq!(declared.fingerprint, schema().fingerprint().0);
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
    let reporting = report(debugger.addr, [root.subject()]);
    let line = |text: &str| Line {
        level: 2,
        target: "tests".into(),
        text: text.into(),
    };
    reporting.reporter.log(None, line("nobody is there yet"));
    debugger.until(|book| book.machines.contains_key(&1)).await;
    reporting.reporter.log(Some("root"), line("of the root"));
    reporting.reporter.log(Some("else"), line("of nobody"));
    let schema = schema();
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
async fn who_waits_is_told_when_asked_and_questions_are_paced() {
    let root = root();
    let mut debugger = Debugger::new().await;
    let _reporting = report(debugger.addr, [root.subject()]);
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
async fn nobody_observes_while_nobody_is_there_and_a_while_after() {
    let root = root();
    // An address at which nobody listens.
    let addr = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let mut options = DialOptions::default();
    options.every = Duration::from_millis(20);
    options.grace = Duration::from_millis(50);
    let reporting = report_with(addr, options, [root.subject()]);
    root.work(1, 100).await;
    assert!(!root.is_observed() && !reporting.reporter.is_on());
    let mut debugger = Debugger::at(addr, ListenOptions::default()).await;
    debugger.has_reached(1, &root).await;
    assert!(root.is_observed() && reporting.reporter.is_on());
    debugger.hang_up().await;
    eventually(|| !root.is_observed() && !reporting.reporter.is_on()).await;
    root.work(2, 100).await;
    let mut again = Debugger::at(addr, ListenOptions::default()).await;
    again.has_reached(1, &root).await;
    assert_eq!(root.observers.lost(), [("debugger", 0)]);
}

#[tokio::test]
async fn nobody_observes_for_whoever_else_accepts_at_the_port_of_a_debugger_that_has_gone() {
    let root = root();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = DialOptions::default();
    options.every = Duration::from_millis(20);
    options.grace = Duration::from_millis(200);
    let reporting = report_with(listener.local_addr().unwrap(), options, [root.subject()]);
    let (mut socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut says = preamble().to_vec();
    let (version, process, last) = (VERSION, 0, 0);
    let hello = Ask::Hello {
        version,
        process,
        last,
    };
    codec::append(&hello, &mut says).unwrap();
    socket.write_all(&says).await.unwrap();
    eventually(|| root.is_observed()).await;
    drop(socket);
    let mut others = JoinSet::new();
    others.spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    eventually(|| !root.is_observed() && !reporting.reporter.is_on()).await;
    reporting.stop().await;
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
    let _reporting = report(addr, [root.subject()]);
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
    let _reporting = report(debugger.addr, [root.subject()]);
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
    let _reporting = report(debugger.addr, [root.subject()]);
    debugger.has_reached(1, &root).await;
    while debugger.book.machines[&1].keys < 2 {
        root.work(4, 2000).await;
        debugger.has_reached(1, &root).await;
    }
    let machine = &debugger.book.machines[&1];
    assert!(machine.transitions >= 16_384 && machine.dropped == 0);
}

/// What a debugger may do that it should not: each is done to each connection, again and again.
#[tokio::test]
async fn no_debugger_disturbs_a_node() {
    let hello = {
        let mut bytes = preamble().to_vec();
        let (version, process, last) = (VERSION, 0, 0);
        codec::append(
            &Ask::Hello {
                version,
                process,
                last,
            },
            &mut bytes,
        )
        .unwrap();
        bytes
    };
    let mut flood = hello.clone();
    for machine in 0..200_000 {
        codec::append(&Ask::Waiters { machine }, &mut flood).unwrap();
    }
    let with = |more: &[u8]| [hello.as_slice(), more].concat();
    let mut other = preamble();
    other[7] = 99;
    // What is said, and whether the connection is held for a while then, without reading.
    let deeds: Vec<(Vec<u8>, bool)> = vec![
        (Vec::new(), false),
        (Vec::new(), true),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false),
        (other.to_vec(), true),
        (preamble().to_vec(), true),
        (hello.clone(), false),
        (hello.clone(), true),
        (with(&[0xff; 64]), true),
        (with(&[0, 0, 0, 3, 9, 9, 9]), true),
        (with(&[0, 0, 0x10, 0, 1]), true),
        (flood, true),
    ];
    let root = root();
    let liar = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = liar.local_addr().unwrap();
    let mut options = DialOptions::default();
    options.every = Duration::from_millis(2);
    options.grace = Duration::from_millis(5);
    options.stall = Duration::from_millis(50);
    let reporting = report_with(addr, options, [root.subject()]);
    for (seed, (says, holds)) in (100..).zip(deeds) {
        let (mut socket, _) = timeout(PATIENCE, liar.accept()).await.unwrap().unwrap();
        // It may hang up before it has heard all.
        let said = timeout(Duration::from_millis(100), socket.write_all(&says)).await;
        drop(said);
        let socket = holds.then_some(socket);
        let before = root.handle.checkpoint().await.unwrap().sequence;
        root.work(seed, 300).await;
        let after = root.handle.checkpoint().await.unwrap().sequence;
        assert!(after >= before + 300);
        drop(socket);
    }
    // A debugger that is one is told all the same.
    drop(liar);
    let mut debugger = Debugger::at(addr, ListenOptions::default()).await;
    debugger.has_reached(1, &root).await;
    root.work(7, 100).await;
    debugger.has_reached(1, &root).await;
    reporting.stop().await;
}

/// What came of a connection on which these bytes are sent.
async fn closed_for(debugger: &mut Debugger, says: &[u8]) -> Option<String> {
    let mut socket = TcpStream::connect(debugger.addr).await.unwrap();
    let before = debugger.closed.len();
    // It may be closed before all is said.
    let _ = socket.write_all(says).await;
    let closed = async {
        while debugger.closed.len() == before {
            debugger.hear().await;
        }
    };
    timeout(PATIENCE, closed).await.unwrap();
    debugger.closed[before].clone()
}

#[tokio::test]
async fn no_node_disturbs_a_debugger() {
    let mut options = ListenOptions::default();
    options.patience = Duration::from_millis(200);
    options.connections = 4;
    options.bytes = 1 << 20;
    let mut debugger = Debugger::at("127.0.0.1:0".parse().unwrap(), options).await;
    let mut other = preamble();
    other[7] = 99;
    let said = |why: Option<String>, what: &str| {
        let why = why.expect("a reason");
        assert!(why.contains(what), "{why}");
    };
    said(
        closed_for(&mut debugger, b"GET / HTTP/1.1\r\n\r\n").await,
        "GET / HT",
    );
    said(closed_for(&mut debugger, &other).await, "version 99");
    said(
        closed_for(&mut debugger, b"").await,
        "did not say who it is",
    );
    let with = |more: &[u8]| [&preamble(), more].concat();
    said(
        closed_for(&mut debugger, &with(&[0, 1, 0, 0])).await,
        "65536 bytes",
    );
    said(
        closed_for(&mut debugger, &with(&[0, 0, 0, 2, 1, 1])).await,
        "not a frame",
    );
    let gone = Frame {
        number: 1,
        wall: 0,
        mono: 0,
        machine: 1,
        body: Body::Gone,
    };
    let mut bytes = Vec::new();
    codec::append(&gone, &mut bytes).unwrap();
    said(closed_for(&mut debugger, &with(&bytes)).await, "first");
    let hello = machine_runtime::debug::frame::Hello {
        version: VERSION,
        program: String::new(),
        host: String::new(),
        pid: 1,
        process: 5,
    };
    let hello = Frame {
        number: 0,
        body: Body::Hello(hello),
        ..gone.clone()
    };
    let mut bytes = Vec::new();
    codec::append(&hello, &mut bytes).unwrap();
    let opened = |more: &[u8]| [preamble().as_slice(), &bytes, more].concat();
    said(
        closed_for(&mut debugger, &opened(&[0xff; 4])).await,
        "4294967295 bytes",
    );
    said(
        closed_for(&mut debugger, &opened(&[0, 0, 1, 0, 7])).await,
        "was not there within",
    );
    said(
        closed_for(&mut debugger, &opened(&[0, 0, 0, 1, 0])).await,
        "not a frame",
    );
    // More than there is room for are not taken, and a node gets in once they have gone.
    let mut many = Vec::new();
    for _ in 0..8 {
        many.push(TcpStream::connect(debugger.addr).await.unwrap());
    }
    let root = root();
    let _reporting = report(debugger.addr, [root.subject()]);
    debugger.has_reached(1, &root).await;
    root.work(1, 1000).await;
    debugger.has_reached(1, &root).await;
    drop(many);
}

/// The frames that a process says to have sent over a connection of its own, and what it was asked first.
async fn dial_as(addr: SocketAddr, frames: &[Frame]) -> (TcpStream, Ask) {
    let mut bytes = preamble().to_vec();
    for frame in frames {
        codec::append(frame, &mut bytes).unwrap();
    }
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(&bytes).await.unwrap();
    let mut began = [0; 12];
    socket.read_exact(&mut began).await.unwrap();
    let len = u32::from_be_bytes(began[8..].try_into().unwrap());
    let mut ask = vec![0; len as usize];
    socket.read_exact(&mut ask).await.unwrap();
    (socket, codec::decode(&ask).unwrap())
}

#[tokio::test]
async fn a_process_that_dials_anew_is_not_heard_twice() {
    let mut debugger = Debugger::new().await;
    let frame = |number, body| Frame {
        number,
        wall: 0,
        mono: 0,
        machine: 0,
        body,
    };
    let hello = machine_runtime::debug::frame::Hello {
        version: VERSION,
        program: String::new(),
        host: String::new(),
        pid: 1,
        process: 5,
    };
    let line = Line {
        level: 3,
        target: String::new(),
        text: "x".repeat(1000),
    };
    // More than is passed on while nobody takes anything; the rest of it waits in the socket.
    let all: Vec<_> = (1..=3000)
        .map(|number| frame(number, Body::Log(line.clone())))
        .collect();
    let hello = frame(0, Body::Hello(hello));
    let mut sent = vec![hello.clone()];
    sent.extend_from_slice(&all);
    let addr = debugger.addr;
    let mut dials = JoinSet::new();
    dials.spawn(async move { dial_as(addr, &sent).await });
    let (_old, first) = loop {
        tokio::select! {
            Some(dialled) = dials.join_next() => break dialled.unwrap(),
            // Just enough for it to go on.
            () = debugger.hear(), if debugger.book.lines.len() < 1500 => {}
        }
    };
    assert_eq!(
        first,
        Ask::Hello {
            version: VERSION,
            process: 0,
            last: 0
        }
    );
    let (mut new, second) = dial_as(addr, &[hello]).await;
    let Ask::Hello {
        process: 5, last, ..
    } = second
    else {
        panic!("{second:?}");
    };
    let mut rest = Vec::new();
    for frame in &all[usize::try_from(last).unwrap()..] {
        codec::append(frame, &mut rest).unwrap();
    }
    dials.spawn(async move {
        new.write_all(&rest).await.unwrap();
        (new, first)
    });
    debugger.until(|book| book.lines.len() == 3000).await;
    let numbers = debugger.book.frames.iter().map(|frame| frame.number);
    assert!(numbers.eq(1..=3000));
}
