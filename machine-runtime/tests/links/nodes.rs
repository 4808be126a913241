//! Nodes of a tree, and hosts that can be reached, or not.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machine_runtime::replica::{
    Connect, Edge, Follower, FollowerOptions, Link, Selection, Source, SourceOptions,
};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Position, Schema, StateDef, View,
    ViewOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Six lamps, of which each can be on with a payload, and an alarm.
pub(crate) fn schema() -> Arc<Schema> {
    let lamps = (1..=6).map(|i| StateDef::new(format!("Lamp{i}")).retain());
    let builder = lamps.fold(
        Schema::builder("Lamps"),
        machine_runtime::SchemaBuilder::state,
    );
    let builder = builder.state(StateDef::new("Alarm").multi().payload());
    builder.group("Alarms", ["Alarm"]).build().unwrap().into()
}

pub(crate) fn state(name: &str) -> DynState {
    DynState(u32::try_from(schema().find(name).unwrap()).unwrap())
}

pub(crate) fn selection(list: &str) -> Selection {
    Selection::parse(&schema(), list).unwrap()
}

/// A host that can be reached, or not, and whose connections can fall silent.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) up: Arc<Mutex<Option<Up>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) silent: watch::Sender<bool>,
}

pub(crate) struct Up {
    pub(crate) source: Source,
    pub(crate) tasks: JoinSet<()>,
}

impl Host {
    pub(crate) fn down() -> Self {
        Self {
            up: Arc::default(),
            connections: Arc::default(),
            silent: watch::Sender::new(false),
        }
    }

    pub(crate) fn new(source: &Source) -> Self {
        let host = Self::down();
        host.start(source);
        host
    }

    pub(crate) fn start(&self, source: &Source) {
        *self.up.lock().unwrap() = Some(Up {
            source: source.clone(),
            tasks: JoinSet::new(),
        });
    }

    /// Ends all connections, as if the process was killed.
    pub(crate) fn kill(&self) {
        *self.up.lock().unwrap() = None;
    }

    /// Nothing arrives any more, in neither direction, and nobody is told.
    pub(crate) fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Connect for Host {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        if *self.silent.borrow() {
            return pending().await;
        }
        let mut up = self.up.lock().unwrap();
        let up = up.as_mut().ok_or(io::ErrorKind::ConnectionRefused)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        let (ours, near) = duplex(1 << 16);
        let (far, theirs) = duplex(1 << 16);
        let ((near_in, near_out), (far_in, far_out)) = (split(near), split(far));
        for (from, to) in [(near_in, far_out), (far_in, near_out)] {
            up.tasks.spawn(pass(from, to, self.silent.subscribe()));
        }
        let source = up.source.clone();
        up.tasks
            .spawn(async move { source.serve_connection(theirs).await });
        Ok(ours)
    }
}

pub(crate) async fn pass(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut silent: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let _ = silent.wait_for(|silent| !silent).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = silent.wait_for(|silent| !silent).await;
    let _ = to.shutdown().await;
}

/// Runs until it is dropped.
#[derive(Default)]
pub(crate) struct Nodes(pub(crate) JoinSet<()>);

impl Nodes {
    pub(crate) fn root(&mut self, epoch: u128) -> (Handle<DynState>, Source) {
        let machine = Machine::with_schema(schema());
        let (handle, owner) = Owner::new(machine, Epoch(epoch), ViewOptions::default());
        self.0.spawn(async move {
            owner.run(pending()).await;
        });
        let options = SourceOptions::new("root");
        let source = Source::new(handle.view(), options).with_writes(&handle);
        (handle, source)
    }

    pub(crate) fn follow(&mut self, options: FollowerOptions, parents: &[&Host]) -> Replica {
        let name = options.name.clone();
        let (view, follower) = Follower::new(schema(), options);
        let (link, handle) = (follower.link().clone(), follower.handle());
        let parents = parents.iter().map(|host| (*host).clone()).collect();
        self.0.spawn(follower.run(parents, pending()));
        let source = Source::new(&view, SourceOptions::new(name)).with_writes(&handle);
        Replica {
            view,
            link,
            handle,
            source,
        }
    }
}

pub(crate) struct Replica {
    pub(crate) view: View<DynState>,
    pub(crate) link: Link,
    pub(crate) handle: Handle<DynState>,
    pub(crate) source: Source,
}

impl Replica {
    pub(crate) async fn reaches(&self, position: Position) {
        let mut positions = self.view.positions();
        let reached = positions.wait_for(|now| now.is_some_and(|now| now.has_reached(position)));
        let reached = timeout(Duration::from_mins(1), reached).await;
        assert!(
            reached.is_ok(),
            "{position} is not reached: {}",
            self.link.state()
        );
    }

    pub(crate) fn edge(&self) -> Arc<Edge> {
        self.link.edge().unwrap()
    }

    /// Waits until `done`; what it asks about has to come to be while time passes.
    pub(crate) async fn until(&self, done: impl Fn(&Self) -> bool) {
        let step = Duration::from_millis(10);
        for _ in 0..6_000 {
            if done(self) {
                return;
            }
            tokio::time::advance(step).await;
            tokio::task::yield_now().await;
        }
        panic!("it never comes to be: {}", self.link.state());
    }
}

pub(crate) async fn add(handle: &Handle<DynState>, name: &str) -> Position {
    let receipt = handle.mutate(Mutation::add(state(name))).await.unwrap();
    assert!(receipt.outcome.is_executed());
    receipt.position
}

pub(crate) fn options(name: &str) -> FollowerOptions {
    FollowerOptions::new(name)
}
