//! What a parent keeps for its followers, counted by the allocator: the bounds under "Memory" in
//! `docs/replication.md`.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]
#![expect(
    clippy::print_stdout,
    reason = "what is counted is told beside its bound"
)]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use allocation_counter::{measure, opt_out};
use machine_runtime::replica::{Connect, Follower, FollowerOptions, Source, SourceOptions};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Position, Schema, StateDef, View,
    ViewOptions,
};
use serde::Serialize;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// The most that a connection takes beside its answers.
const CONNECTION: i64 = 40 * 1024;

/// The most that a node takes which has no followers: ring, what it shows, the channel.
const NODE: i64 = 4 * 1024 * 1024;

/// How many states there are.
const STATES: u32 = 60;

/// The payload that a third of them keep.
const PAYLOAD: u8 = 100;

/// The most that an answer takes, which is a snapshot here: ticks and payloads.
const ANSWER: i64 = STATES as i64 * 10 + STATES as i64 / 3 * (PAYLOAD as i64 + 8) + 64;

/// How many followers there are.
const FOLLOWERS: u32 = 1000;

/// How many of them do not read.
const STALLED: u32 = 100;

/// How many questions somebody asks who does not read.
const QUESTIONS: u64 = 20_000;

/// How many mutations are sent at once.
const BATCH: u32 = 16;

/// How many fill a ring.
const MANY: u32 = 8192;

/// How often a batch is sent, between two looks at the memory.
const ROUNDS: u32 = 8;

/// How many looks it takes until buffers are as large as they get: they grow by doubling, and what is
/// sent is random.
const LOOKS: u32 = 4;

/// What a follower may cost more after so many more batches, in bytes: less than one for each delta.
const MORE: i64 = 16;

fn schema() -> Arc<Schema> {
    let mut builder = Schema::builder("Many");
    for i in 0..STATES {
        let state = StateDef::new(format!("State{i}"));
        builder = builder.state(if i % 3 == 0 { state.retain() } else { state });
    }
    builder.build().unwrap().into()
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

/// A root that serves followers over streams in memory, all on this thread.
struct Parent {
    root: Handle<DynState>,
    source: Source,
    random: fastrand::Rng,
    tasks: JoinSet<()>,
}

impl Parent {
    fn start() -> Self {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let machine = Machine::with_schema(schema());
        let (root, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            owner.run(std::future::pending()).await;
        });
        let source = Source::new(root.view(), SourceOptions::new("parent")).with_writes(&root);
        Self {
            root,
            source,
            random: fastrand::Rng::with_seed(seed),
            tasks,
        }
    }

    /// Serves a connection that holds so many bytes on their way, and returns its other end.
    fn connect(&mut self, holds: usize) -> DuplexStream {
        let (ours, theirs) = duplex(holds);
        let source = self.source.clone();
        self.tasks
            .spawn(async move { source.serve_connection(ours).await });
        theirs
    }

    fn position(&self) -> Position {
        self.root.view().position().unwrap()
    }

    /// Writes so much at once, which moves states and payloads, and waits until it is done and all have been
    /// told that can be.
    async fn write(&mut self, count: u32) {
        let batch = (0..count).map(|_| {
            let state = DynState(self.random.u32(0..STATES));
            if self.random.bool() {
                return Mutation::remove(state);
            }
            match state.0 % 3 {
                0 => Mutation::add(state)
                    .with_payload(state, vec![self.random.u8(..); PAYLOAD.into()]),
                _ => Mutation::add(state),
            }
        });
        let batch = batch.collect();
        self.root.mutate_all(batch).await.unwrap();
        settle().await;
    }
}

/// Lets everybody do what there is to do.
async fn settle() {
    // Time stands still until nobody has anything to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The questions of a follower, as they are on the wire.
#[derive(Serialize)]
enum Question {
    Hello { protocol: u16, body: Vec<u8> },
    Watch { watch: Watch },
}

#[derive(Serialize)]
struct Hello {
    fingerprint: u128,
    node: String,
    position: Option<Position>,
}

#[derive(Serialize)]
struct Watch {
    after: Position,
    every: bool,
    resync: bool,
    hold_ms: u32,
}

fn frame(id: u64, message: Question) -> Vec<u8> {
    let context = tarpc::context::current();
    let request = tarpc::Request {
        context,
        id,
        message,
    };
    let body = postcard::to_stdvec(&tarpc::ClientMessage::Request(request)).unwrap();
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend(body);
    frame
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        fingerprint: schema().fingerprint().0,
        node: "stalled".to_owned(),
        position: None,
    };
    let body = postcard::to_stdvec(&hello).unwrap();
    frame(0, Question::Hello { protocol: 1, body })
}

fn watch(id: u64, after: Position, resync: bool) -> Vec<u8> {
    let watch = Watch {
        after,
        every: false,
        resync,
        hold_ms: 20_000,
    };
    frame(id, Question::Watch { watch })
}

/// What each of `count` has of `bytes`.
fn each(bytes: i64, count: u32) -> i64 {
    bytes / i64::from(count)
}

#[test]
fn a_follower_that_does_not_read_costs_its_buffers_and_an_answer() {
    let runtime = runtime();
    let mut parent = None;
    let alone = measure(|| {
        runtime.block_on(async {
            parent.insert(Parent::start()).write(MANY).await;
        });
    });
    let parent = parent.as_mut().unwrap();
    println!("a node alone: {} bytes of {NODE}", alone.bytes_max);
    assert!(i64::try_from(alone.bytes_max).unwrap() < NODE);

    let mut stalled = Vec::new();
    let came = measure(|| {
        runtime.block_on(async {
            let (hello, watch) = (hello(), watch(1, parent.position(), false));
            for _ in 0..FOLLOWERS {
                // The least that can be on its way: whatever is not read stays with the parent.
                let mut stream = parent.connect(hello.len() + watch.len());
                stream.write_all(&hello).await.unwrap();
                stream.write_all(&watch).await.unwrap();
                stalled.push(stream);
            }
            settle().await;
        });
    });
    assert_eq!(parent.source.stats().followers(), FOLLOWERS as usize);
    let written = measure(|| {
        runtime.block_on(async {
            for _ in 0..LOOKS * ROUNDS {
                parent.write(BATCH).await;
            }
        });
    });
    let held = each(came.bytes_current + written.bytes_current, FOLLOWERS);
    let bound = CONNECTION + 2 * ANSWER;
    println!("a follower that does not read: {held} bytes of {bound}");
    // It has to have come to something: a parent that hung up keeps nothing.
    assert!((1024..=bound).contains(&held));

    let more = measure(|| {
        runtime.block_on(async {
            for _ in 0..ROUNDS {
                parent.write(BATCH).await;
            }
        });
    });
    println!("while it was written to: {} bytes more", more.bytes_current);
    assert!(each(more.bytes_current, FOLLOWERS) < MORE, "it grows");
    assert_eq!(parent.source.stats().followers(), FOLLOWERS as usize);

    let left = measure(|| {
        stalled.clear();
        runtime.block_on(settle());
        while parent.tasks.try_join_next().is_some() {}
    });
    let kept = each(came.bytes_current + written.bytes_current, FOLLOWERS)
        + each(more.bytes_current + left.bytes_current, FOLLOWERS);
    println!("once it is gone: {kept} bytes");
    assert!(kept < 1024, "something stays");
    assert_eq!(parent.source.stats().followers(), 0);
}

#[test]
fn a_thousand_followers_cost_what_is_written_down_and_no_more_in_time() {
    let runtime = runtime();
    let mut parent = runtime.block_on(async {
        let mut parent = Parent::start();
        parent.write(MANY).await;
        parent
    });
    let mut others = JoinSet::new();
    let mut views = Vec::new();
    let mut stalled = Vec::new();
    let came = measure(|| {
        runtime.block_on(async {
            let (dial, mut dialled) = unbounded_channel();
            for i in STALLED..FOLLOWERS {
                let (view, follower) = opt_out_of(|| follower(i));
                let dial = Dial(dial.clone());
                opt_out(|| {
                    let run = follower.run(vec![dial], std::future::pending());
                    others.spawn(NotCounted(Box::pin(run)));
                });
                views.push(view);
            }
            while views.len() > parent.tasks.len() - 1 {
                let answer: tokio::sync::oneshot::Sender<_> = dialled.recv().await.unwrap();
                answer.send(parent.connect(4096)).unwrap();
            }
            accept_always(&mut others, dialled);
            let (hello, watch) = (hello(), watch(1, parent.position(), false));
            for _ in 0..STALLED {
                let mut stream = parent.connect(hello.len() + watch.len());
                stream.write_all(&hello).await.unwrap();
                stream.write_all(&watch).await.unwrap();
                stalled.push(stream);
            }
            settle().await;
            for _ in 0..LOOKS * ROUNDS {
                parent.write(BATCH).await;
            }
        });
    });
    assert_eq!(parent.source.stats().followers(), FOLLOWERS as usize);
    let bound = NODE + i64::from(FOLLOWERS) * (CONNECTION + 2 * ANSWER);
    println!("in all: at most {} bytes of {bound}", came.bytes_max);
    assert!(i64::try_from(came.bytes_max).unwrap() <= bound);

    let deltas = parent.source.stats().deltas();
    let more = measure(|| {
        runtime.block_on(async {
            for _ in 0..ROUNDS {
                parent.write(BATCH).await;
            }
        });
    });
    println!("while it was written to: {} bytes more", more.bytes_current);
    assert!(each(more.bytes_current, FOLLOWERS) < MORE, "it grows");
    // All that read were told each time, and show the newest.
    let deltas = parent.source.stats().deltas() - deltas;
    assert!(
        deltas >= u64::from(ROUNDS * (FOLLOWERS - STALLED)),
        "{deltas}"
    );
    let newest = Some(parent.position());
    assert!(views.iter().all(|view| view.position() == newest));
}

fn follower(i: u32) -> (View<DynState>, Follower) {
    let mut options = FollowerOptions::new(format!("follower-{i}"));
    // Deadlines of calls are of a clock that does not stand still.
    options.heartbeat = Duration::from_hours(1);
    Follower::new(schema(), options)
}

/// Nobody dials once more in these tests; whoever does waits.
fn accept_always(
    tasks: &mut JoinSet<()>,
    mut dialled: UnboundedReceiver<tokio::sync::oneshot::Sender<DuplexStream>>,
) {
    tasks.spawn(async move {
        let mut waiting = Vec::new();
        while let Some(again) = dialled.recv().await {
            waiting.push(again);
        }
    });
}

/// Asks the test for connections.
struct Dial(UnboundedSender<tokio::sync::oneshot::Sender<DuplexStream>>);

impl Connect for Dial {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        let (ask, answer) = tokio::sync::oneshot::channel();
        self.0
            .send(ask)
            .map_err(|_gone| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let answer = answer.await;
        answer.map_err(|_gone| io::ErrorKind::ConnectionRefused.into())
    }
}

/// A future whose memory is not the parent's.
struct NotCounted<F>(Pin<Box<F>>);

impl<F: Future> Future for NotCounted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        opt_out_of(|| self.0.as_mut().poll(cx))
    }
}

/// What `call` makes, of which nothing is counted.
fn opt_out_of<T>(call: impl FnOnce() -> T) -> T {
    let mut made = None;
    opt_out(|| made = Some(call()));
    made.unwrap()
}

#[test]
fn whoever_asks_on_and_does_not_read_is_sent_away() {
    let runtime = runtime();
    let mut parent = runtime.block_on(async {
        let mut parent = Parent::start();
        parent.write(MANY).await;
        parent
    });
    let flood = measure(|| {
        runtime.block_on(async {
            let mut stream = parent.connect(1024);
            stream.write_all(&hello()).await.unwrap();
            for id in 1..=QUESTIONS {
                let watch = watch(id, parent.position(), true);
                if stream.write_all(&watch).await.is_err() {
                    println!("hung up after {id} questions");
                    break;
                }
            }
            settle().await;
        });
    });
    let bound = CONNECTION + 32 * ANSWER;
    println!("a flood: at most {} bytes of {bound}", flood.bytes_max);
    assert!(i64::try_from(flood.bytes_max).unwrap() <= bound);
    let stats = parent.source.stats();
    assert_eq!((stats.dropped(), stats.followers()), (1, 0));
}
