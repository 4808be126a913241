//! Three tiers over real sockets.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]
#![expect(clippy::print_stdout, reason = "a failed run has to tell its seed")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use machine_runtime::replica::{
    Connect, Follower, FollowerOptions, Granularity, Link, LinkState, Resync, Source,
    SourceOptions, Tcp,
};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Position, Schema, Snapshot, StateDef, View,
    ViewOptions,
};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Ten lights of three colours each; `Off` comes by itself.
fn schema() -> Arc<Schema> {
    let mut builder = Schema::builder("Lights");
    for light in 1..=10 {
        let name = |colour: &str| format!("Light{light}{colour}");
        let colours = ["Red", "Green", "Off"].map(name);
        for (i, colour) in colours.iter().enumerate() {
            let others = colours.iter().filter(|other| *other != colour);
            let state = StateDef::new(colour).remove(others.cloned());
            builder = builder.state(if i == 2 {
                state.auto().payload()
            } else {
                state.retain()
            });
        }
    }
    builder.build().unwrap().into()
}

/// Runs nodes until it is dropped.
#[derive(Default)]
struct Nodes {
    tasks: JoinSet<()>,
}

impl Nodes {
    fn root(&mut self, epoch: u128) -> Handle<DynState> {
        self.root_with(epoch, ViewOptions::default())
    }

    fn root_with(&mut self, epoch: u128, options: ViewOptions) -> Handle<DynState> {
        let machine = Machine::with_schema(schema());
        let (handle, owner) = Owner::new(machine, Epoch(epoch), options);
        self.tasks.spawn(async move {
            owner.run(std::future::pending()).await;
        });
        handle
    }

    async fn serve(&mut self, view: &View<DynState>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        self.serve_on(view, listener);
        addr
    }

    fn serve_on(&mut self, view: &View<DynState>, listener: TcpListener) -> Source {
        let source = Source::new(view, SourceOptions::new("parent"));
        let served = source.clone();
        self.tasks
            .spawn(async move { served.serve(listener, std::future::pending()).await });
        source
    }

    fn follow(&mut self, parent: SocketAddr) -> (View<DynState>, Link) {
        self.follow_with(schema(), parent, FollowerOptions::new("child"))
    }

    fn follow_with(
        &mut self,
        schema: Arc<Schema>,
        parent: SocketAddr,
        options: FollowerOptions,
    ) -> (View<DynState>, Link) {
        let (view, follower) = Follower::new(schema, options);
        let link = follower.link().clone();
        self.tasks.spawn(async move {
            follower
                .run(
                    vec![Tcp {
                        addr: parent.to_string(),
                    }],
                    std::future::pending(),
                )
                .await;
        });
        (view, link)
    }
}

async fn reach(view: &View<DynState>, position: Position) -> Arc<Snapshot> {
    let mut positions = view.positions();
    positions
        .wait_for(|now| now.is_some_and(|now| now.has_reached(position)))
        .await
        .unwrap();
    view.snapshot().unwrap()
}

fn random_mutation(random: &mut fastrand::Rng) -> Mutation<DynState> {
    let states: Vec<_> = (0..3).map(|_| DynState(random.u32(1..=30))).collect();
    let first = states[0];
    let mutation = if random.u8(0..4) == 0 {
        Mutation::remove(states)
    } else {
        Mutation::add(states)
    };
    if random.bool() {
        mutation.with_payload(first, vec![random.u8(..); 5])
    } else {
        mutation
    }
}

#[tokio::test]
async fn nine_nodes_converge_to_the_root() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut nodes = Nodes::default();
    let root = nodes.root(1);
    let root_addr = nodes.serve(root.view()).await;
    let mut views = Vec::new();
    for _ in 0..2 {
        let (view, _) = nodes.follow(root_addr);
        let addr = nodes.serve(&view).await;
        views.push(view);
        views.extend((0..3).map(|_| nodes.follow(addr).0));
    }
    let mut last = None;
    for _ in 0..2_000 {
        last = Some(
            root.mutate(random_mutation(&mut random))
                .await
                .unwrap()
                .position,
        );
    }
    let expected = reach(root.view(), last.unwrap()).await;
    for view in &views {
        assert_eq!(*reach(view, last.unwrap()).await, *expected);
        assert!(!view.is_stale());
    }
    let tiers: Vec<_> = views.iter().map(|view| view.tier().unwrap()).collect();
    assert_eq!(tiers, [1, 2, 2, 2, 1, 2, 2, 2]);
}

#[tokio::test]
async fn every_transition_is_seen_where_it_is_wanted() {
    let mut nodes = Nodes::default();
    let root = nodes.root(1);
    let addr = nodes.serve(root.view()).await;
    let mut options = FollowerOptions::new("child");
    options.granularity = Granularity::Every;
    let (view, link) = nodes.follow_with(schema(), addr, options);
    let start = reach(&view, root.view().position().unwrap())
        .await
        .position()
        .revision;
    let blink = |i: u32| {
        let state = DynState(1);
        if i.is_multiple_of(2) {
            Mutation::add(state)
        } else {
            Mutation::remove(state)
        }
    };
    let receipts = root
        .mutate_all((0..100).map(blink).collect())
        .await
        .unwrap();
    let last = receipts.last().unwrap().position;
    reach(&view, last).await;
    assert_eq!(link.deltas(), last.revision - start);
}

#[tokio::test]
async fn what_piled_up_comes_as_one_delta() {
    let mut nodes = Nodes::default();
    let root = nodes.root(1);
    let addr = nodes.serve(root.view()).await;
    let (view, link) = nodes.follow(addr);
    reach(&view, root.view().position().unwrap()).await;
    let receipts = root
        .mutate_all(vec![Mutation::add(DynState(1)); 3])
        .await
        .unwrap();
    reach(&view, receipts[2].position).await;
    assert_eq!((link.deltas(), link.resyncs(Resync::First)), (1, 1));
}

#[tokio::test]
async fn a_follower_resumes_where_it_was() {
    let mut nodes = Nodes::default();
    let root = nodes.root(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut parent = Nodes::default();
    parent.serve_on(root.view(), listener);
    let (view, link) = nodes.follow(addr);
    let first = root.add(DynState(1)).await.unwrap().position;
    reach(&view, first).await;

    drop(parent);
    let missed = root.add(DynState(4)).await.unwrap().position;
    nodes.serve_on(root.view(), TcpListener::bind(addr).await.unwrap());
    reach(&view, missed).await;
    assert_eq!(link.connects(), 2);
    let resyncs: u64 = Resync::ALL.iter().map(|reason| link.resyncs(*reason)).sum();
    assert_eq!(resyncs, 1, "only the first connection took a snapshot");
}

#[tokio::test]
async fn what_the_ring_no_longer_holds_is_told_and_comes_as_a_snapshot() {
    let mut nodes = Nodes::default();
    let mut options = ViewOptions::default();
    options.ring_deltas = 4;
    let root = nodes.root_with(1, options);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut parent = Nodes::default();
    parent.serve_on(root.view(), listener);
    let (view, link) = nodes.follow(addr);
    reach(&view, root.add(DynState(1)).await.unwrap().position).await;

    drop(parent);
    let blink = vec![Mutation::toggle(DynState(1)); 10];
    let missed = root.mutate_all(blink).await.unwrap()[9].position;
    nodes.serve_on(root.view(), TcpListener::bind(addr).await.unwrap());
    assert_eq!(
        *reach(&view, missed).await,
        *root.view().snapshot().unwrap()
    );
    assert_eq!(link.resyncs(Resync::Compacted), 1);
}

#[tokio::test]
async fn a_new_life_of_the_root_reaches_every_tier() {
    let mut nodes = Nodes::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut first = Nodes::default();
    let root = first.root(1);
    first.serve_on(root.view(), listener);
    let (l1, l1_link) = nodes.follow(addr);
    let l1_addr = nodes.serve(&l1).await;
    let (l2, l2_link) = nodes.follow(l1_addr);
    reach(&l2, root.add(DynState(1)).await.unwrap().position).await;

    drop(first);
    let root = nodes.root(2);
    let position = root.add(DynState(4)).await.unwrap().position;
    nodes.serve_on(root.view(), TcpListener::bind(addr).await.unwrap());
    assert_eq!(
        *reach(&l2, position).await,
        *root.view().snapshot().unwrap()
    );
    assert_eq!(l1_link.resyncs(Resync::Epoch), 1);
    assert_eq!(l2_link.resyncs(Resync::Epoch), 1);
    assert_eq!(l2_link.connects(), 1, "the link below stayed");
}

#[tokio::test]
async fn start_order_does_not_matter() {
    let mut nodes = Nodes::default();
    // Keeps a port for the root without listening on it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (l1, _) = nodes.follow(addr);
    let l1_addr = nodes.serve(&l1).await;
    let (l2, l2_link) = nodes.follow(l1_addr);
    assert!(l2.snapshot().is_none() && l2.is_stale());
    assert!(matches!(*l2_link.state(), LinkState::Connecting { .. }));

    let root = nodes.root(1);
    nodes.serve_on(root.view(), TcpListener::bind(addr).await.unwrap());
    reach(&l2, root.add(DynState(1)).await.unwrap().position).await;
}

#[tokio::test]
async fn another_schema_is_refused_by_both_names_and_the_first_difference() {
    let mut nodes = Nodes::default();
    let root = nodes.root(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let source = nodes.serve_on(root.view(), listener);
    let other = Schema::builder("Lights")
        .state(StateDef::new("Light1Blue"))
        .build()
        .unwrap();
    let (ours, theirs) = (other.fingerprint(), root.view().schema().fingerprint());
    let (view, link) = nodes.follow_with(other.into(), addr, FollowerOptions::new("child"));
    let why = loop {
        if let LinkState::Refused { why } = &*link.state() {
            break why.clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        why,
        format!(
            "our schema is {ours}, the parent's {theirs}: state 1 is `Light1Blue` here and \
             `Light1Red` there"
        )
    );
    assert!(view.snapshot().is_none());
    assert_eq!(source.stats().refusals(), 1);
}

/// A connection that cannot be opened a second time.
struct Once(Option<DuplexStream>);

impl Connect for Once {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        self.0.take().ok_or(io::ErrorKind::ConnectionRefused.into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_serves_on_and_grows_stale() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let machine = Machine::with_schema(schema());
    let (root, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
    let mut nodes = Nodes::default();
    nodes.tasks.spawn(async move {
        owner.run(std::future::pending()).await;
    });
    let source = Source::new(root.view(), SourceOptions::new("root"));
    let mut parent = JoinSet::new();
    parent.spawn(async move { source.serve_connection(far).await });
    let (view, follower) = Follower::new::<DynState>(schema(), FollowerOptions::new("child"));
    let link = follower.link().clone();
    nodes
        .tasks
        .spawn(follower.run(vec![Once(Some(near))], std::future::pending()));
    let position = root.add(DynState(1)).await.unwrap().position;
    reach(&view, position).await;
    // Heartbeats keep an idle view fresh for as long as one likes.
    tokio::time::advance(Duration::from_secs(1)).await;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!view.is_stale(), "{:?}", view.age());
    }
    drop(parent);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(view.is_stale() && view.age() > Duration::from_secs(3));
    assert_eq!(view.position(), Some(position));
    assert!(matches!(
        *link.state(),
        LinkState::Connecting { failures: 1.., .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_push_interval_makes_one_delta_of_what_happens_in_it() {
    let machine = Machine::with_schema(schema());
    let (root, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
    let mut nodes = Nodes::default();
    nodes.tasks.spawn(async move {
        owner.run(std::future::pending()).await;
    });
    let mut options = SourceOptions::new("root");
    options.push_interval = Duration::from_secs(10);
    let source = Source::new(root.view(), options);
    let (near, far) = tokio::io::duplex(1 << 16);
    nodes
        .tasks
        .spawn(async move { source.serve_connection(far).await });
    let (view, follower) = Follower::new::<DynState>(schema(), FollowerOptions::new("child"));
    let link = follower.link().clone();
    nodes
        .tasks
        .spawn(follower.run(vec![Once(Some(near))], std::future::pending()));
    let first = root.add(DynState(1)).await.unwrap().position;
    reach(&view, first).await;
    let start = tokio::time::Instant::now();
    let deltas = link.deltas();
    let mut last = first;
    for _ in 0..20 {
        last = root
            .mutate(Mutation::toggle(DynState(1)))
            .await
            .unwrap()
            .position;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What is held back is not the newest, and the view does not say that it is.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(view.position(), Some(first));
    assert!(view.age() >= Duration::from_secs(1), "{:?}", view.age());
    reach(&view, last).await;
    assert!(start.elapsed() >= Duration::from_secs(9));
    assert_eq!((link.deltas(), link.connects()), (deltas + 1, 1));
}

#[tokio::test]
async fn a_machine_that_ended_is_told_to_its_followers() {
    let mut nodes = Nodes::default();
    let mut machine = Nodes::default();
    let root = machine.root(1);
    let addr = nodes.serve(root.view()).await;
    let (view, link) = nodes.follow(addr);
    reach(&view, root.view().position().unwrap()).await;
    drop(machine);
    let told = |state: &LinkState| state.to_string().ends_with("the parent shuts down");
    while !told(&link.state()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn age_does_not_add_up_along_the_tree() {
    let machine = Machine::with_schema(schema());
    let (root, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
    let mut nodes = Nodes::default();
    nodes.tasks.spawn(async move {
        owner.run(std::future::pending()).await;
    });
    let mut views = vec![root.view().clone()];
    for _ in 0..5 {
        let (near, far) = tokio::io::duplex(1 << 16);
        let source = Source::new(views.last().unwrap(), SourceOptions::new("parent"));
        nodes
            .tasks
            .spawn(async move { source.serve_connection(far).await });
        let options = FollowerOptions::new("child");
        let (view, follower) = Follower::new::<DynState>(schema(), options);
        nodes
            .tasks
            .spawn(follower.run(vec![Once(Some(near))], std::future::pending()));
        views.push(view);
    }
    let position = root.add(DynState(1)).await.unwrap().position;
    for view in &views {
        reach(view, position).await;
    }
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for (tier, view) in views.iter().enumerate() {
            assert!(
                view.age() <= Duration::from_millis(1_100),
                "{tier}: {:?}",
                view.age()
            );
        }
    }
}

/// What a root's history is at each revision, as a machine of our own computes it.
struct History {
    epoch: Epoch,
    mutations: Vec<Mutation<DynState>>,
    digests: Vec<u64>,
}

impl History {
    fn new(epoch: u128, mutations: usize, random: &mut fastrand::Rng) -> Self {
        let mutations: Vec<_> = (0..mutations).map(|_| random_mutation(random)).collect();
        let mut machine = Machine::with_schema(schema());
        let mut digests = vec![0];
        for mutation in &mutations {
            let _ = machine.mutate(mutation);
            let changed = machine
                .last_run()
                .filter(|transition| transition.changes().len() > 0);
            digests.extend(changed.map(|transition| transition.digest()));
        }
        Self {
            epoch: Epoch(epoch),
            mutations,
            digests,
        }
    }
}

/// A node that can be killed and started again on its port.
struct Replica {
    parent: SocketAddr,
    addr: SocketAddr,
    /// The node itself, and who looks at each moment that it shows.
    life: Option<(Nodes, View<DynState>)>,
}

impl Replica {
    async fn new(parent: SocketAddr) -> Self {
        let addr = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        Self {
            parent,
            addr,
            life: None,
        }
    }

    async fn start(&mut self, histories: &Arc<Vec<History>>, looked: &Arc<AtomicU64>) {
        let mut nodes = Nodes::default();
        let (view, _) = nodes.follow(self.parent);
        nodes.serve_on(&view, bind_again(self.addr).await);
        let (histories, looked, watched) = (histories.clone(), looked.clone(), view.clone());
        nodes.tasks.spawn(async move {
            let mut before: Option<Position> = None;
            let mut positions = watched.positions();
            while positions.changed().await.is_ok() {
                let shown = watched.snapshot().unwrap();
                let position = shown.position();
                let history = histories
                    .iter()
                    .find(|h| h.epoch == position.epoch)
                    .unwrap();
                let revision = usize::try_from(position.revision).unwrap();
                assert_eq!(shown.digest(), history.digests[revision], "at {position}");
                if let Some(before) = before.filter(|before| before.epoch == position.epoch) {
                    assert!(position.has_reached(before), "from {before} to {position}");
                }
                before = Some(position);
                looked.fetch_add(1, Ordering::Relaxed);
            }
        });
        self.life = Some((nodes, view));
    }

    /// Ends the node at once. A moment that the root never had ends the test.
    fn kill(&mut self) {
        if let Some((mut nodes, _)) = self.life.take() {
            while let Some(ended) = nodes.tasks.try_join_next() {
                ended.unwrap();
            }
        }
    }
}

async fn bind_again(addr: SocketAddr) -> TcpListener {
    loop {
        // The connections of the life before may still be ending.
        match TcpListener::bind(addr).await {
            Ok(listener) => return listener,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_node_ever_shows_what_the_root_never_had() {
    const LIVES: u128 = 5;
    const MUTATIONS: usize = 20_000;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let histories = (0..LIVES)
        .map(|epoch| History::new(epoch, MUTATIONS, &mut random))
        .collect::<Vec<_>>();
    let histories = Arc::new(histories);
    let looked = Arc::new(AtomicU64::new(0));

    let root_addr = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let l1 = Replica::new(root_addr).await;
        let addr = l1.addr;
        replicas.push(l1);
        for _ in 0..3 {
            replicas.push(Replica::new(addr).await);
        }
    }
    for replica in &mut replicas {
        replica.start(&histories, &looked).await;
    }
    for history in histories.iter() {
        let mut life = Nodes::default();
        let root = life.root(history.epoch.0);
        life.serve_on(root.view(), bind_again(root_addr).await);
        let mut rest = history.mutations.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(random.usize(1..=50).min(rest.len()));
            rest = later;
            let _ = root.mutate_all(batch.to_vec()).await.unwrap();
            if random.u8(..) < 8 {
                let unlucky = random.usize(..replicas.len());
                replicas[unlucky].kill();
                replicas[unlucky].start(&histories, &looked).await;
            }
        }
        let last = root.view().snapshot().unwrap();
        assert_eq!(last.position().revision, history.digests.len() as u64 - 1);
        for replica in &replicas {
            let (_, view) = replica.life.as_ref().unwrap();
            assert_eq!(*reach(view, last.position()).await, *last);
        }
    }
    replicas.iter_mut().for_each(Replica::kill);
    println!("{} moments looked at", looked.load(Ordering::Relaxed));
    assert!(looked.load(Ordering::Relaxed) > 1_000);
}
