//! A parent and an honest follower, and what an attack costs them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use machine_runtime::observe::Observers;
use machine_runtime::replica::{
    Bearer, Connect, Follower, FollowerOptions, Source, SourceOptions, Token,
};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Schema, StateDef, View, ViewOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::limits::Guests;

/// How many states there are, `Exception` among them: a snapshot is much longer than a write.
pub(crate) const STATES: usize = 2000;

/// The longest frame that a follower may send.
pub(crate) const LONGEST: usize = 64 * 1024 + 8 * 1024;

/// The most that an attack takes while it goes on: the frame that it sends, what is made of it, answers.
pub(crate) const PEAK: u64 = 2 * 1024 * 1024;

/// The most that is left of one: buffers that have grown.
pub(crate) const LEFT: i64 = 48 * 1024;

/// After so long nobody is left who says nothing.
pub(crate) const QUIET: Duration = Duration::from_mins(3);

pub(crate) fn schema() -> Arc<Schema> {
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

/// A parent with an honest follower, all on this thread, where time stands still until nobody has anything to
/// do.
pub(crate) struct Scene {
    pub(crate) runtime: Runtime,
    pub(crate) root: Handle<DynState>,
    pub(crate) source: Source,
    pub(crate) view: View<DynState>,
    /// What the parent tells.
    pub(crate) observers: Observers,
    pub(crate) tasks: JoinSet<()>,
    pub(crate) links: JoinSet<()>,
    pub(crate) written: u32,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(tell: impl FnOnce(&mut SourceOptions)) -> Self {
        Self::made(tell, None)
    }

    /// One where `guests` says who is let in; the honest follower shows this token.
    pub(crate) fn guarded(guests: Arc<Guests>, honest: &Token) -> Self {
        Self::made(|_| {}, Some((guests, honest)))
    }

    pub(crate) fn made(
        tell: impl FnOnce(&mut SourceOptions),
        guarded: Option<(Arc<Guests>, &Token)>,
    ) -> Self {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let (mut tasks, links) = (JoinSet::new(), JoinSet::new());
        let guard = runtime.enter();
        let machine = Machine::with_schema(schema());
        let observers = Observers::new();
        let mut view = ViewOptions::default();
        view.observers = Some(observers.clone());
        let (root, owner) = Owner::new(machine, Epoch(1), view);
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
            observers,
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

    pub(crate) fn connect(&mut self) -> DuplexStream {
        let (ours, theirs) = duplex(256 * 1024);
        let source = self.source.clone();
        let serve = async move { source.serve_connection(ours).await };
        self.links.spawn_on(serve, self.runtime.handle());
        theirs
    }

    /// Whoever has gone is seen to have.
    pub(crate) fn settles(&self) {
        self.runtime
            .block_on(async { sleep(Duration::from_secs(1)).await });
    }

    /// The honest follower sees what is written now.
    #[track_caller]
    pub(crate) fn follows_on(&mut self) {
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
    pub(crate) fn attack(&mut self, name: &str, frames: &[Vec<u8>]) -> Vec<u8> {
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

    pub(crate) fn measured(&mut self, mut work: impl FnMut(&mut Self)) -> AllocationInfo {
        measure(|| work(self))
    }

    pub(crate) fn send(&mut self, name: &str, frames: &[Vec<u8>]) -> Vec<u8> {
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

    pub(crate) fn garbage(&self) -> u64 {
        self.source.stats().garbage()
    }

    /// Sends what cannot be read: the connection is closed for that, and at once.
    #[track_caller]
    pub(crate) fn garbled(&mut self, name: &str, frames: &[Vec<u8>]) {
        let before = self.garbage();
        let began = self.now();
        let _ = self.attack(name, frames);
        assert_eq!(self.garbage(), before + 1, "{name} is not counted");
        assert!(self.now() - began < Duration::from_secs(5), "{name}");
    }

    pub(crate) fn now(&self) -> tokio::time::Instant {
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
pub(crate) async fn accept(source: &Source, dialled: &mut UnboundedReceiver<DuplexStream>) {
    let mut links = JoinSet::new();
    while let Some(stream) = dialled.recv().await {
        let source = source.clone();
        links.spawn(async move { source.serve_connection(stream).await });
    }
}

pub(crate) struct Dial(UnboundedSender<DuplexStream>);

impl Connect for Dial {
    type Io = DuplexStream;

    async fn connect(&mut self) -> std::io::Result<DuplexStream> {
        let (ours, theirs) = duplex(64 * 1024);
        let sent = self.0.send(theirs);
        sent.map_err(|_gone| std::io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }
}
