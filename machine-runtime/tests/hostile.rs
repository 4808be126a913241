//! What a stranger can send to the port for followers: whatever it is, the connection is closed or refused, no
//! task panics, nothing stays in memory, and who keeps to the protocol is served on.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]
#![expect(
    clippy::print_stdout,
    reason = "what is counted is told beside its bound"
)]

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use machine_runtime::replica::{
    Admission, Bearer, Changes, Connect, Credentials, Denied, Follower, FollowerOptions, Grant,
    Source, SourceOptions, Token,
};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Schema, StateDef, View, ViewOptions,
};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch::{self, Receiver};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How many states there are, `Exception` among them: a snapshot is much longer than a write.
const STATES: usize = 2000;

/// The longest frame that a follower may send.
const LONGEST: usize = 64 * 1024 + 8 * 1024;

/// The most that an attack takes while it goes on: the frame that it sends, what is made of it, answers.
const PEAK: u64 = 2 * 1024 * 1024;

/// The most that is left of one: buffers that have grown.
const LEFT: i64 = 48 * 1024;

/// After so long nobody is left who says nothing.
const QUIET: Duration = Duration::from_mins(3);

fn schema() -> Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    let make = || {
        let states = (1..STATES).map(|i| StateDef::new(format!("State{i}")).retain());
        let builder = states.fold(
            Schema::builder("Many"),
            machine_runtime::SchemaBuilder::state,
        );
        builder.build().unwrap().into()
    };
    Arc::clone(SCHEMA.get_or_init(make))
}

/// A request as tarpc and postcard have it, of any values.
#[derive(Serialize)]
struct Request<M> {
    variant: u32,
    seconds: u64,
    nanos: u32,
    trace: [u8; 16],
    span: u64,
    sampling: u32,
    id: u64,
    message: M,
}

impl<M: Serialize> Request<M> {
    fn new(id: u64, message: M) -> Self {
        Self {
            variant: 0,
            seconds: 10,
            nanos: 0,
            trace: [7; 16],
            span: 1,
            sampling: 0,
            id,
            message,
        }
    }

    fn frame(&self) -> Vec<u8> {
        prefixed(&postcard::to_stdvec(self).unwrap())
    }
}

/// The questions of a follower by their numbers.
#[derive(Serialize)]
enum Question {
    Hello { protocol: u16, body: Vec<u8> },
    Watch { watch: Watch },
    Schema { from: u32 },
    Mutate { write: Vec<u8> },
    Write { write: Vec<u8>, within_ms: u32 },
    Probe {},
}

#[derive(Serialize)]
struct Watch {
    after: (u128, u64),
    every: bool,
    resync: bool,
    hold_ms: u32,
}

#[derive(Serialize)]
struct Hello {
    fingerprint: u128,
    node: String,
    position: Option<(u128, u64)>,
    selection: Option<Vec<u8>>,
    has: Option<u64>,
    push_interval_ms: u32,
    heartbeat_ms: u32,
    every: bool,
    compress: bool,
}

fn prefixed(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&len[1..], body].concat()
}

fn hello(id: u64, node: &str, selection: Option<Vec<u8>>) -> Request<Question> {
    hello_with(id, node, selection, None)
}

/// The same of one who shows a token, which stands behind all else.
fn hello_with(
    id: u64,
    node: &str,
    selection: Option<Vec<u8>>,
    token: Option<&str>,
) -> Request<Question> {
    let hello = Hello {
        fingerprint: schema().fingerprint().0,
        node: node.to_owned(),
        position: None,
        selection,
        has: None,
        push_interval_ms: 0,
        heartbeat_ms: 1000,
        every: false,
        compress: false,
    };
    let mut body = postcard::to_stdvec(&hello).unwrap();
    body.extend(token.map_or_else(Vec::new, |token| postcard::to_stdvec(&Some(token)).unwrap()));
    Request::new(id, Question::Hello { protocol: 2, body })
}

fn watch(id: u64, hold_ms: u32) -> Vec<u8> {
    let watch = Watch {
        after: (1, u64::MAX),
        every: true,
        resync: false,
        hold_ms,
    };
    Request::new(id, Question::Watch { watch }).frame()
}

fn probe(id: u64) -> Vec<u8> {
    Request::new(id, Question::Probe {}).frame()
}

fn cancel(id: u64) -> Vec<u8> {
    prefixed(&postcard::to_stdvec(&(1_u32, [7_u8; 16], 1_u64, 0_u32, id)).unwrap())
}

/// A number as postcard writes it.
fn number(number: u64) -> Vec<u8> {
    postcard::to_stdvec(&number).unwrap()
}

/// A parent with an honest follower, all on this thread, where time stands still until nobody has anything to
/// do.
struct Scene {
    runtime: Runtime,
    root: Handle<DynState>,
    source: Source,
    view: View<DynState>,
    tasks: JoinSet<()>,
    links: JoinSet<()>,
    written: u32,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(tell: impl FnOnce(&mut SourceOptions)) -> Self {
        Self::made(tell, None)
    }

    /// One where `guests` says who is let in; the honest follower shows this token.
    fn guarded(guests: Arc<Guests>, honest: &Token) -> Self {
        Self::made(|_| {}, Some((guests, honest)))
    }

    fn made(tell: impl FnOnce(&mut SourceOptions), guarded: Option<(Arc<Guests>, &Token)>) -> Self {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let (mut tasks, links) = (JoinSet::new(), JoinSet::new());
        let guard = runtime.enter();
        let machine = Machine::with_schema(schema());
        let (root, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
        tasks.spawn(async move {
            owner.run(std::future::pending()).await;
        });
        let mut options = SourceOptions::new("parent");
        tell(&mut options);
        let mut source = Source::new(root.view(), options).with_writes(&root);
        let mut honest = FollowerOptions::new("honest");
        if let Some((guests, token)) = guarded {
            source = source.with_admission(guests);
            honest.token = Bearer::new(watch::channel(Some(token.clone())).1);
        }
        let (view, follower) = Follower::new(schema(), honest);
        let (dial, mut dialled) = unbounded_channel();
        tasks.spawn(follower.run(vec![Dial(dial)], std::future::pending()));
        let served = source.clone();
        tasks.spawn(async move { accept(&served, &mut dialled).await });
        drop(guard);
        let mut scene = Self {
            runtime,
            root,
            source,
            view,
            tasks,
            links,
            written: 0,
        };
        // What grows with the first writes has grown.
        for _ in 0..100 {
            scene.follows_on();
        }
        scene
    }

    fn connect(&mut self) -> DuplexStream {
        let (ours, theirs) = duplex(256 * 1024);
        let source = self.source.clone();
        let serve = async move { source.serve_connection(ours).await };
        self.links.spawn_on(serve, self.runtime.handle());
        theirs
    }

    /// Whoever has gone is seen to have.
    fn settles(&self) {
        self.runtime
            .block_on(async { sleep(Duration::from_secs(1)).await });
    }

    /// The honest follower sees what is written now.
    #[track_caller]
    fn follows_on(&mut self) {
        self.written += 1;
        let state = DynState(self.written % u32::try_from(STATES).unwrap());
        let (root, mut positions) = (self.root.clone(), self.view.positions());
        let seen = self.runtime.block_on(async {
            let receipt = root.mutate(Mutation::toggle(state)).await.unwrap();
            let position = receipt.position;
            let seen = positions.wait_for(|now| now.is_some_and(|now| now.has_reached(position)));
            timeout(Duration::from_mins(1), seen)
                .await
                .is_ok_and(|seen| seen.is_ok())
        });
        assert!(seen, "the follower does not follow");
        // The clock of the runtime, not that of the computer.
        let _guard = self.runtime.enter();
        let age = self.view.age();
        assert!(!self.view.is_stale(), "the follower is {age:?} old");
    }

    /// Sends `frames` over a connection, reads what comes, and waits until it is closed, though we do not
    /// close it. Returns what was answered.
    #[track_caller]
    fn attack(&mut self, name: &str, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut answers = Vec::new();
        let taken = self.measured(|scene| answers = scene.send(name, frames));
        println!(
            "{name}: at most {} bytes, {} left",
            taken.bytes_max, taken.bytes_current
        );
        assert!(taken.bytes_max < PEAK, "{name} takes {taken:?}");
        let left = taken.bytes_current - i64::try_from(answers.capacity()).unwrap();
        assert!(left < LEFT, "{name} leaves {taken:?}");
        self.follows_on();
        answers
    }

    fn measured(&mut self, mut work: impl FnMut(&mut Self)) -> AllocationInfo {
        measure(|| work(self))
    }

    fn send(&mut self, name: &str, frames: &[Vec<u8>]) -> Vec<u8> {
        let stream = self.connect();
        let (links, runtime) = (&mut self.links, &self.runtime);
        runtime.block_on(async {
            let (mut read, mut write) = tokio::io::split(stream);
            let mut answers = Vec::new();
            let talk = async {
                for frame in frames {
                    if write.write_all(frame).await.is_err() {
                        break;
                    }
                }
                // We say nothing more, and do not go.
                std::future::pending::<()>().await;
            };
            let closed = async {
                let _ = read.read_to_end(&mut answers).await;
            };
            tokio::select! {
                () = talk => {}
                () = closed => {}
                () = sleep(QUIET) => panic!("{name}: the connection is not closed"),
            }
            let ended = links.join_next().await.unwrap();
            assert!(ended.is_ok(), "{name}: {ended:?}");
            answers
        })
    }

    fn garbage(&self) -> u64 {
        self.source.stats().garbage()
    }

    /// Sends what cannot be read: the connection is closed for that, and at once.
    #[track_caller]
    fn garbled(&mut self, name: &str, frames: &[Vec<u8>]) {
        let before = self.garbage();
        let began = self.now();
        let _ = self.attack(name, frames);
        assert_eq!(self.garbage(), before + 1, "{name} is not counted");
        assert!(self.now() - began < Duration::from_secs(5), "{name}");
    }

    fn now(&self) -> tokio::time::Instant {
        let _guard = self.runtime.enter();
        tokio::time::Instant::now()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let ended = self.tasks.try_join_next();
        assert!(
            ended.is_none(),
            "a task of an honest node has ended: {ended:?}"
        );
        let names: Vec<_> = self.source.stats().served(None);
        assert_eq!(names.len(), 1, "somebody is left: {names:?}");
    }
}

/// Serves the honest follower, whenever it dials.
async fn accept(source: &Source, dialled: &mut UnboundedReceiver<DuplexStream>) {
    let mut links = JoinSet::new();
    while let Some(stream) = dialled.recv().await {
        let source = source.clone();
        links.spawn(async move { source.serve_connection(stream).await });
    }
}

struct Dial(UnboundedSender<DuplexStream>);

impl Connect for Dial {
    type Io = DuplexStream;

    async fn connect(&mut self) -> std::io::Result<DuplexStream> {
        let (ours, theirs) = duplex(64 * 1024);
        let sent = self.0.send(theirs);
        sent.map_err(|_gone| std::io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }
}

#[test]
fn lengths_that_lead_nowhere_end_the_connection() {
    let mut scene = Scene::new();
    scene.garbled("a frame of nothing", &[prefixed(&[])]);
    scene.garbled("a frame of one byte", &[prefixed(&[0])]);
    scene.garbled("the longest length", &[vec![0xff; 3]]);
    let prefix = |len: usize| u32::try_from(len).unwrap().to_be_bytes()[1..].to_vec();
    scene.garbled("a byte too long", &[prefix(LONGEST + 1)]);
    let _ = scene.attack("the longest of nothing", &[prefixed(&vec![0; LONGEST])]);
    scene.garbled("the longest of ones", &[prefixed(&vec![0xff; LONGEST])]);
    let before = scene.source.stats().no_hello();
    let _ = scene.attack("a length and nothing", &[prefix(LONGEST)]);
    let _ = scene.attack("a length and little", &[prefix(LONGEST), vec![0; 100]]);
    let _ = scene.attack("half a length", &[vec![0, 0]]);
    let _ = scene.attack("not a word", &[]);
    assert_eq!(scene.source.stats().no_hello(), before + 4);
}

#[test]
fn deadlines_that_no_clock_has_end_the_connection() {
    let mut scene = Scene::new();
    for (seconds, nanos) in [
        (u64::MAX, 0),
        (u64::MAX, 999_999_999),
        (u64::MAX, u32::MAX),
        (i64::MAX as u64, 0),
        (1 << 27, 0),
        // 2^36 milliseconds, and one less.
        (68_719_476, 736_000_000),
        (68_719_476, 735_000_000),
        (10, 1_000_000_000),
        (10, u32::MAX),
    ] {
        let mut first = hello(1, "late", None);
        (first.seconds, first.nanos) = (seconds, nanos);
        scene.garbled(
            &format!("a deadline of {seconds} s, {nanos} ns"),
            &[first.frame()],
        );
        let mut later = Request::new(2, Question::Probe {});
        (later.seconds, later.nanos) = (seconds, nanos);
        let frames = [hello(1, "late", None).frame(), later.frame()];
        scene.garbled(&format!("then one of {seconds} s, {nanos} ns"), &frames);
    }
    let mut at_once = hello(1, "now", None);
    at_once.seconds = 0;
    let _ = scene.attack("a deadline of now", &[at_once.frame()]);
}

#[test]
fn what_there_is_not_ends_the_connection() {
    let mut scene = Scene::new();
    for method in [7_u64, 127, 128, u64::from(u32::MAX), u64::MAX] {
        let mut frame = postcard::to_stdvec(&Request::new(1, ())).unwrap();
        frame.extend(number(method));
        scene.garbled(&format!("method {method}"), &[prefixed(&frame)]);
    }
    for variant in [2_u64, 128, u64::from(u32::MAX), u64::MAX] {
        let mut frame = number(variant);
        frame.extend([1; 40]);
        scene.garbled(&format!("message {variant}"), &[prefixed(&frame)]);
    }
    scene.garbled("an endless number", &[prefixed(&[0x80; 64])]);
    let good = hello(1, "good", None).frame();
    let after = [good.clone(), prefixed(&[0xde, 0xad, 0xbe, 0xef])];
    scene.garbled("garbage after a good frame", &after);
    let http = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec();
    scene.garbled("another protocol", &[http]);
}

#[test]
fn lengths_within_a_frame_are_not_believed() {
    let mut scene = Scene::new();
    let head = postcard::to_stdvec(&Request::new(1, ())).unwrap();
    for promised in [1 << 20, 1 << 32, 1 << 40, u64::MAX] {
        let parts: [&[u8]; 3] = [&[0, 2], &[3], &[4]];
        for method in parts {
            let frame = [&head, method, &number(promised), &[1; 32][..]].concat();
            scene.garbled(&format!("{method:?} of {promised}"), &[prefixed(&frame)]);
        }
    }
    for promised in [1 << 20, 1 << 40, u64::MAX] {
        // The name of a node, and a selection, within the body of a hello that is as long as it says.
        let fingerprint = postcard::to_stdvec(&schema().fingerprint().0).unwrap();
        let name = [&fingerprint, &number(promised)[..], b"abc"].concat();
        let named = [&fingerprint, &[1, b'n', 0, 1][..]].concat();
        let selection = [&named, &number(promised)[..], &[0xff; 8]].concat();
        for body in [name, selection] {
            let question = Question::Hello { protocol: 2, body };
            let refused = scene.source.stats().refusals();
            let _ = scene.attack(
                "a hello that promises",
                &[Request::new(1, question).frame()],
            );
            assert_eq!(scene.source.stats().refusals(), refused + 1);
        }
    }
}

#[test]
fn a_frame_may_be_cut_anywhere() {
    let mut scene = Scene::new();
    let good = hello(1, "cut", None).frame();
    for end in 0..good.len() {
        let mut stream = scene.connect();
        let (links, runtime) = (&mut scene.links, &scene.runtime);
        runtime.block_on(async {
            stream.write_all(&good[..end]).await.unwrap();
            drop(stream);
            let ended = timeout(QUIET, links.join_next()).await.unwrap().unwrap();
            assert!(ended.is_ok(), "cut at {end}: {ended:?}");
        });
        // What it says is as long as it says, and ends too early all the same.
        if end > 3 {
            let _ = scene.send("a shortened hello", &[prefixed(&good[3..end])]);
        }
    }
    scene.follows_on();
}

#[test]
fn numbers_of_requests_are_the_senders_own_affair() {
    let mut scene = Scene::new();
    for id in [u64::MAX, u64::MAX - 1, 1 << 32, 0] {
        let answer = scene.attack("a giant number", &[hello(id, "giant", None).frame()]);
        assert!(answer.len() > 100, "no welcome");
    }
    let twice = [
        hello(1, "twice", None).frame(),
        watch(2, 5000),
        watch(2, 5000),
        watch(2, 1),
    ];
    let _ = scene.attack("one number for three", &twice);
    let mut cancels = vec![hello(1, "fickle", None).frame()];
    cancels.extend((0..20_000).map(|i| cancel(i * 0x1234_5678_9abc)));
    let _ = scene.attack("cancels of nothing", &cancels);
    let mut both = vec![hello(1, "fickle", None).frame()];
    both.extend((2..5000).flat_map(|id| [watch(id, 20_000), cancel(id)]));
    let _ = scene.attack("questions taken back", &both);
}

#[test]
fn hello_may_be_said_again_and_again() {
    let mut scene = Scene::new();
    let some = |byte| Some(vec![byte; STATES / 8]);
    let again: Vec<_> = (0..7)
        .map(|i| hello(i, &format!("name-{i}"), some(1 << i)).frame())
        .collect();
    let answer = scene.attack("seven names", &again);
    assert!(answer.len() > 100);
    let long = "n".repeat(LONGEST / 2);
    let _ = scene.attack("a long name", &[hello(1, &long, None).frame()]);
    let odd = "\u{1b}[2J\r\n\"\\{}\0\u{202e}";
    let _ = scene.attack("an odd name", &[hello(1, odd, None).frame()]);
    let refused = scene.source.stats().refusals();
    let lengths = [0, 1, STATES / 8 - 1, STATES / 8 + 1, 60_000];
    for length in lengths {
        let hello = hello(1, "wrong", Some(vec![0xff; length]));
        let _ = scene.attack("a selection of another length", &[hello.frame()]);
    }
    let _ = scene.attack(
        "a selection of nothing",
        &[hello(1, "none", some(0)).frame()],
    );
    assert_eq!(
        scene.source.stats().refusals(),
        refused + lengths.len() as u64 + 1
    );
    for protocol in [0, 3, u16::MAX] {
        let body = vec![1; 40];
        let question = Question::Hello { protocol, body };
        let _ = scene.attack("another version", &[Request::new(1, question).frame()]);
    }
}

#[test]
fn who_has_not_said_hello_gets_and_changes_nothing() {
    let mut scene = Scene::new();
    let before = scene.root.view().position();
    let write = |id, write| {
        let within_ms = 1000;
        Request::new(id, Question::Write { write, within_ms }).frame()
    };
    // A key, an epoch, an add of the first state: what else it is, it is not looked at.
    let mut scene_write = vec![write(1, vec![0; 40]), write(2, vec![1; 60_000])];
    scene_write.push(
        Request::new(
            3,
            Question::Mutate {
                write: vec![2; 300],
            },
        )
        .frame(),
    );
    let _ = scene.send("a write without hello", &scene_write);
    let _ = scene.send("a question without hello", &[watch(1, 20_000)]);
    assert_eq!(scene.root.view().position(), before);
    let pages = (0..8).map(|id| Request::new(id, Question::Schema { from: u32::MAX }).frame());
    let pages: Vec<_> = pages.collect();
    let _ = scene.attack("pages past the end", &pages);
}

#[test]
fn thousands_of_frames_cost_no_more_than_a_few() {
    let mut scene = Scene::new();
    let mut probes = vec![hello(0, "busy", None).frame()];
    probes.extend((1..10_000).map(probe));
    let _ = scene.attack("ten thousand probes", &probes);
    let hellos: Vec<_> = (0..500)
        .map(|id| hello(id, "again", None).frame())
        .collect();
    let _ = scene.attack("five hundred hellos", &hellos);
}

#[test]
fn a_follower_too_many_is_refused_until_another_leaves() {
    let mut scene = Scene::with(|options| options.followers = 3);
    let mut streams = Vec::new();
    for i in 0..4 {
        let mut stream = scene.connect();
        scene.runtime.block_on(async {
            let frame = hello(1, &format!("f{i}"), None).frame();
            stream.write_all(&frame).await.unwrap();
            // The first byte of an answer.
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).await.unwrap();
        });
        streams.push(stream);
    }
    let stats = scene.source.stats().clone();
    assert_eq!((stats.followers(), stats.full()), (3, 2));
    scene.follows_on();
    streams.clear();
    scene.settles();
    assert_eq!(stats.followers(), 1);
    let mut stream = scene.connect();
    scene.runtime.block_on(async {
        let frame = hello(1, "next", None).frame();
        stream.write_all(&frame).await.unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await.unwrap();
    });
    assert_eq!((stats.followers(), stats.full()), (2, 2));
    drop(stream);
    scene.settles();
}

#[test]
fn a_parent_that_takes_no_byte_is_left_and_keeps_no_writer() {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (_view, follower) = Follower::new::<DynState>(schema(), FollowerOptions::new("honest"));
        let handle = follower.handle();
        let (dial, mut dialled) = unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(follower.run(vec![Stuck(dial)], std::future::pending()));
        let writes = (0..10_000).map(|_| handle.mutate(Mutation::add(DynState(1))));
        let writes: Vec<_> = writes.collect();
        let mut held = Vec::new();
        let again = async {
            while held.len() < 3 {
                held.push(dialled.recv().await.unwrap());
            }
        };
        let again = timeout(Duration::from_mins(1), again).await;
        assert!(again.is_ok(), "it waits for the first for ever");
        for write in writes {
            let written = timeout(Duration::from_mins(1), write).await;
            assert!(written.is_ok_and(|written| written.is_err()));
        }
        assert!(tasks.try_join_next().is_none());
    });
}

/// Dials parents that accept and never read.
struct Stuck(UnboundedSender<DuplexStream>);

impl Connect for Stuck {
    type Io = DuplexStream;

    async fn connect(&mut self) -> std::io::Result<DuplexStream> {
        let (ours, theirs) = duplex(16);
        let sent = self.0.send(theirs);
        sent.map_err(|_gone| std::io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }
}
/// Those who are let in: who has one of these tokens.
#[derive(Debug)]
struct Guests {
    tokens: Mutex<Vec<Token>>,
    generation: watch::Sender<u64>,
}

impl Guests {
    fn set(&self, tokens: &[&Token]) {
        *self.tokens.lock().unwrap() = tokens.iter().copied().cloned().collect();
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Admission for Guests {
    fn admit(&self, peer: &Credentials) -> Result<Grant, Denied> {
        let tokens = self.tokens.lock().unwrap();
        let known = peer
            .token
            .as_ref()
            .is_some_and(|token| tokens.contains(token));
        let grant = known.then(|| Grant::new("guest", Changes::Nothing));
        grant.ok_or(Denied::Unknown)
    }

    fn generation(&self) -> Receiver<u64> {
        self.generation.subscribe()
    }
}

/// How the answer to the question 1, a hello, begins: well, and the hello is welcome, or not.
const WELCOME: [u8; 4] = [1, 0, 0, 0];
const REFUSED: [u8; 4] = [1, 0, 0, 1];

#[test]
fn a_hello_that_somebody_recorded_is_worth_what_its_token_is() {
    let (honest, stolen) = (Token::new("honest"), Token::new("stolen"));
    let guests = Arc::new(Guests {
        tokens: Mutex::default(),
        generation: watch::Sender::new(0),
    });
    guests.set(&[&honest, &stolen]);
    let mut scene = Scene::guarded(Arc::clone(&guests), &honest);
    let stats = scene.source.stats().clone();
    let recorded = hello_with(1, "recorded", None, Some(stolen.secret())).frame();
    let says = |scene: &mut Scene| {
        let mut stream = scene.connect();
        let mut answer = [0; 7];
        scene.runtime.block_on(async {
            stream.write_all(&recorded).await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
        });
        (stream, <[u8; 4]>::try_from(&answer[3..]).unwrap())
    };
    // It says who it is of, and not over which connection: the second is as welcome as the first.
    let mut streams = Vec::new();
    for followers in [2, 3] {
        let (stream, answer) = says(&mut scene);
        assert_eq!(answer, WELCOME);
        assert_eq!(stats.followers(), followers);
        streams.push(stream);
    }
    assert_eq!((stats.denials(), stats.revoked()), (0, 0));
    scene.follows_on();
    // Without its token both end at once, and nobody else does.
    let began = scene.now();
    guests.set(&[&honest]);
    for mut stream in streams {
        let mut rest = Vec::new();
        scene.runtime.block_on(async {
            let ended = timeout(QUIET, stream.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "the connection is not closed");
        });
    }
    assert!(scene.now() - began < Duration::from_secs(5));
    assert_eq!((stats.followers(), stats.revoked()), (1, 2));
    scene.follows_on();
    let (stream, answer) = says(&mut scene);
    assert_eq!(answer, REFUSED);
    assert_eq!((stats.followers(), stats.denials()), (1, 1));
    drop(stream);
    // And what is shown again is again what it was.
    guests.set(&[&honest, &stolen]);
    let (stream, answer) = says(&mut scene);
    assert_eq!(answer, WELCOME);
    drop(stream);
    scene
        .runtime
        .block_on(async { while scene.links.join_next().await.is_some() {} });
    scene.follows_on();
}
