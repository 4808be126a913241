//! What comes over a link: to a node that is followed, and to one that follows. Neither panics nor waits for ever,
//! the machine of the first stays what its rules allow, and the second shows nothing whose digest is wrong.
//!
//! An input is a byte that says which of them is tried, and frames: a length and as many bytes. A length of 255
//! stands for all that is left, without a prefix. A follower's answers are the messages of tarpc's responses: the
//! number of the request is put before them.

#![no_main]

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use machine_runtime::replica::tamper::{self, PREFIX};
use machine_runtime::replica::{
    Connect, Follower, FollowerOptions, OLDEST_PROTOCOL, PROTOCOL, Source, SourceOptions,
};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Schema, StateDef, ViewOptions,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a follower is given answers, by a clock that does not wait.
const TIME: Duration = Duration::from_secs(5);

/// How long anything may take, by the same clock.
const PATIENCE: Duration = Duration::from_secs(3600);

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind % 4 {
        0 => NODES.with_borrow_mut(|nodes| nodes.follow(rest)),
        1 => NODES.with_borrow_mut(|nodes| nodes.answer(rest)),
        2 => read_requests(rest),
        _ => read_answers(rest),
    }
});

/// What is read of a request is what is read of what it is written as.
fn read_requests(input: &[u8]) {
    let states = schema().len();
    for frame in frames(input) {
        let _ = tamper::read_write(frame, states);
        let Some(mut request) = tamper::read_request(frame) else {
            continue;
        };
        let said = request.said();
        let again = tamper::read_request(&request.frame()).map(|mut again| again.said());
        assert_eq!(again, Some(said));
    }
}

fn read_answers(input: &[u8]) {
    let states = schema().len();
    for frame in frames(input) {
        for protocol in OLDEST_PROTOCOL..=PROTOCOL {
            let Some(answer) = tamper::read_answer(frame, protocol) else {
                continue;
            };
            let selection = answer.selection(states);
            let _ = answer.told(0, states, selection.as_ref());
            let _ = answer.told(u64::MAX, states, None);
        }
    }
}

/// The parts of an input.
fn frames(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = input.split_first()?;
        let len = if *len == u8::MAX {
            rest.len()
        } else {
            usize::from(*len).min(rest.len())
        };
        let (frame, rest) = rest.split_at(len);
        input = rest;
        Some(frame)
    })
}

/// The parts of an input as they go over a connection.
fn stream(mut input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((len, rest)) = input.split_first() {
        if *len == u8::MAX {
            bytes.extend_from_slice(rest);
            break;
        }
        let (frame, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        bytes.extend(prefixed(frame));
        input = rest;
    }
    bytes
}

fn prefixed(frame: &[u8]) -> impl Iterator<Item = u8> {
    let len = (frame.len() as u64).to_be_bytes();
    len.into_iter()
        .skip(len.len() - PREFIX)
        .chain(frame.iter().copied())
}

fn schema() -> Arc<Schema> {
    let lamps = (1..=3).map(|i| StateDef::new(format!("Lamp{i}")).retain());
    let builder = lamps.fold(
        Schema::builder("Lamps"),
        machine_runtime::SchemaBuilder::state,
    );
    builder.build().expect("it is sound").into()
}

thread_local! {
    static NODES: RefCell<Nodes> = RefCell::new(Nodes::new());
}

/// A root, and a clock that goes on when nobody has anything to do.
struct Nodes {
    runtime: Runtime,
    root: Handle<DynState>,
    source: Source,
    _tasks: JoinSet<()>,
}

impl Nodes {
    fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let runtime = runtime.expect("it has a clock");
        let machine = Machine::with_schema(schema());
        let (root, owner) = Owner::new(machine, Epoch(7), ViewOptions::default());
        let source = Source::new(root.view(), SourceOptions::new("root")).with_writes(&root);
        let mut tasks = JoinSet::new();
        tasks.spawn_on(
            async move {
                owner.run(pending()).await;
            },
            runtime.handle(),
        );
        let first = Mutation::add(DynState(1)).with_payload(DynState(1), "bright");
        let first = runtime.block_on(root.mutate(first));
        assert!(first.is_ok_and(|receipt| receipt.outcome.is_executed()));
        Self {
            runtime,
            root,
            source,
            _tasks: tasks,
        }
    }

    /// Sends an input to the root as a follower.
    fn follow(&mut self, input: &[u8]) {
        let bytes = stream(input);
        let (ours, theirs) = duplex(1 << 12);
        let (mut read, mut write) = split(ours);
        self.runtime.block_on(async {
            let sent = async {
                // Who is closed has said enough.
                let _ = write.write_all(&bytes).await;
                let _ = write.shutdown().await;
            };
            let mut answers = Vec::new();
            let read = read.read_to_end(&mut answers);
            let served = self.source.serve_connection(theirs);
            let all = async { tokio::join!(sent, read, served) };
            assert!(
                timeout(PATIENCE, all).await.is_ok(),
                "a connection that was closed does not end"
            );
            let _ = self.root.errors().await;
        });
        let now = self.root.view().snapshot().expect("a root shows something");
        assert_eq!(now.digest(), digest(now.ticks(), now.retained().iter()));
    }

    /// Answers a follower with an input.
    fn answer(&mut self, input: &[u8]) {
        let (ours, theirs) = duplex(1 << 12);
        self.runtime.block_on(async {
            let (view, follower) =
                Follower::new::<DynState>(schema(), FollowerOptions::new("leaf"));
            let answers = async {
                tokio::select! {
                    _ = tell(ours, input) => {}
                    () = tokio::time::sleep(TIME) => {}
                }
            };
            timeout(PATIENCE, follower.run(vec![Once(Some(theirs))], answers))
                .await
                .expect("it was stopped");
            if let Some(now) = view.snapshot() {
                assert_eq!(now.digest(), digest(now.ticks(), now.retained().iter()));
            }
        });
    }
}

/// Answers each request with a frame of `input`, and then no more.
async fn tell(io: DuplexStream, input: &[u8]) -> io::Result<()> {
    let (mut read, mut write) = split(io);
    for message in frames(input) {
        let mut prefix = [0; 4];
        read.read_exact(&mut prefix[4 - PREFIX..]).await?;
        let mut request = vec![0; u32::from_be_bytes(prefix) as usize];
        read.read_exact(&mut request).await?;
        let id = tamper::read_request(&request).map_or(0, |mut request| request.id());
        let mut answer = vec![u8::try_from(id % 128).unwrap_or_default()];
        answer.extend_from_slice(message);
        write
            .write_all(&prefixed(&answer).collect::<Vec<_>>())
            .await?;
    }
    pending().await
}

/// The digest of a moment.
fn digest<'a>(ticks: &[u64], retained: impl Iterator<Item = (&'a u32, &'a bytes::Bytes)>) -> u64 {
    let ticks = (0..)
        .zip(ticks)
        .map(|(state, tick)| tamper::tick_digest(state).wrapping_mul(*tick));
    let retained = retained.map(|(state, payload)| tamper::payload_digest(*state, payload));
    ticks.chain(retained).fold(0, u64::wrapping_add)
}

/// The one connection that there is.
struct Once(Option<DuplexStream>);

impl Connect for Once {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        match self.0.take() {
            Some(io) => Ok(io),
            None => pending().await,
        }
    }
}
