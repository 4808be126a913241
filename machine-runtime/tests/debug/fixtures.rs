//! Nodes, and what runs beside them.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use machine_runtime::debug::link::{DialOptions, Reporter};
use machine_runtime::debug::subject::Subject;
use machine_runtime::observe::{Interest, Observers};
use machine_runtime::replica::{Follower, FollowerOptions, Source, SourceOptions, Tcp};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Schema, State, StateDef, ViewOptions,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

type Later = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits until something outside is as it should be.
pub(crate) async fn eventually(done: impl Fn() -> bool) {
    let look = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, look).await.expect("what did not happen");
}

/// What runs until it is stopped, or this drops.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
}

impl Running {
    pub(crate) fn new<F: Future<Output = ()> + Send + 'static>(
        run: impl FnOnce(Later) -> F,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let mut tasks = JoinSet::new();
        tasks.spawn(run(Box::pin(async { drop(stopped.await) })));
        let stop = Some(stop);
        Self { stop, tasks }
    }

    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// A root, what runs it, and what is asked of it.
pub(crate) struct Root<S: State> {
    pub(crate) handle: Handle<S>,
    pub(crate) observers: Observers,
    next: fn(&mut Rng) -> Mutation<S>,
    tasks: JoinSet<()>,
}

/// A replica that is to follow.
pub(crate) struct Replica {
    pub(crate) subject: Subject,
    pub(crate) observers: Observers,
    pub(crate) parent: String,
    follows: Later,
}

impl<S: State> Root<S> {
    pub(crate) fn new(machine: Machine<S>, next: fn(&mut Rng) -> Mutation<S>) -> Self {
        let observers = Observers::new();
        let mut options = ViewOptions::default();
        options.observers = Some(observers.clone());
        let (handle, owner) = Owner::new(machine, Epoch(7), options);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(owner.run(std::future::pending()).await) });
        Self {
            handle,
            observers,
            next,
            tasks,
        }
    }

    /// Random mutations, of which some are refused.
    pub(crate) async fn work(&self, seed: u64, mutations: usize) {
        let mut rng = Rng::with_seed(seed);
        let mut many: Vec<_> = (0..mutations).map(|_| (self.next)(&mut rng)).collect();
        while !many.is_empty() {
            let rest = many.split_off(many.len().min(64));
            self.handle.mutate_all(many).await.unwrap();
            many = rest;
        }
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.observers
            .wants(Interest::CHANGES | Interest::LINKS | Interest::ERRORS)
    }

    /// A replica, which does not follow yet.
    pub(crate) async fn replica(&mut self) -> Replica {
        let rpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let parent = rpc.local_addr().unwrap().to_string();
        let view = self.handle.view();
        let source = Source::new(view, SourceOptions::new("root"));
        self.tasks
            .spawn(async move { source.serve(rpc, std::future::pending()).await });
        let observers = Observers::new();
        let mut options = FollowerOptions::new("replica");
        options.view.observers = Some(observers.clone());
        let (_, follower) = Follower::new::<DynState>(Arc::clone(view.schema()), options);
        let handle: Handle<DynState> = follower.handle();
        let subject = Subject::replicant("replica", &parent, &handle, &observers);
        let parents = vec![Tcp {
            addr: parent.clone(),
        }];
        Replica {
            subject,
            observers,
            parent,
            follows: Box::pin(follower.run(parents, std::future::pending())),
        }
    }

    pub(crate) fn follow(&mut self, replica: Replica) {
        self.tasks.spawn(replica.follows);
    }
}

/// 64 states, each of which some other removes or requires; the last takes a payload that is redacted.
pub(crate) fn tied() -> Arc<Schema> {
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

/// A root of those states.
pub(crate) fn root() -> Root<DynState> {
    Root::new(Machine::with_schema(tied()), |rng| {
        let state = DynState(rng.u32(1..65));
        if rng.u8(0..3) == 0 {
            Mutation::remove(state)
        } else {
            Mutation::add(state)
        }
    })
}

impl Root<DynState> {
    pub(crate) fn subject(&self) -> Subject {
        Subject::root("root", &self.handle, &self.observers).with_addr("here:1")
    }
}

/// How nodes of tests dial.
pub(crate) fn dials() -> DialOptions {
    let mut options = DialOptions::default();
    options.every = Duration::from_millis(20);
    options
}

/// Tells the debugger at `addr` of nodes, until what it returns drops.
pub(crate) fn report(
    addr: SocketAddr,
    options: DialOptions,
    subjects: impl IntoIterator<Item = Subject>,
) -> (Reporter, Running) {
    let reporter = Reporter::new("tests 1", addr.to_string(), options);
    for subject in subjects {
        reporter.add(subject);
    }
    let running = Running::new(|stop| reporter.clone().run(stop));
    (reporter, running)
}

/// An address at which nobody listens unless the test does: it is nobody else's until this drops.
pub(crate) struct Reserved {
    pub(crate) addr: SocketAddr,
    _socket: TcpSocket,
}

impl Reserved {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            addr: socket.local_addr().unwrap(),
            _socket: socket,
        }
    }
}
