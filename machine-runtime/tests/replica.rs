//! Three tiers over real sockets.
#![cfg(feature = "replica")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
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
            builder = builder.state(if i == 2 { state.auto() } else { state.retain() });
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
                    Tcp {
                        addr: parent.to_string(),
                    },
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
    let mutation = if random.u8(0..4) == 0 {
        Mutation::remove(states)
    } else {
        Mutation::add(states)
    };
    if random.bool() {
        mutation.with_payload(vec![random.u8(..); 5])
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
        .spawn(follower.run(Once(Some(near)), std::future::pending()));
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
