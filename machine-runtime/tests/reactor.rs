//! Final handlers on replicas: what they see of what their root decided, and what they send up.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::future::pending;

use machine_runtime::replica::{
    Follower, FollowerOptions, Granularity, Source, SourceOptions, Tcp,
};
use machine_runtime::{
    Binder, Cause, Epoch, ErrorKind, Handle, Handlers, Machine, Mutation, Outcome, Owner, Phase,
    Reactions, Reactor, ReactorStats, States, ViewOptions, states,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

states! {
    /// A lamp that rings.
    pub enum Lamp {
        #[payload(String, retain)]
        On,
        #[multi]
        Bell,
        Seen,
        Broken,
    }
}

/// Tells the test what it sees.
struct Witness(mpsc::UnboundedSender<String>);

impl Handlers<Lamp> for Witness {
    fn bind(&self, binder: &mut Binder<Self, Lamp>) {
        let all: &[Lamp] = Lamp::ALL;
        binder.state(all, &[], |this, cx, _| {
            let state = cx.state().unwrap();
            let payload = cx.payload_bytes(state).map(|bytes| bytes.escape_ascii());
            let payload = payload.map(|bytes| format!(" {bytes}")).unwrap_or_default();
            this.0
                .send(format!("{state:?} {}{payload}", cx.tick(state)))
                .unwrap();
            ().into()
        });
        binder.end(all, &[], |this, cx, _| {
            let state = cx.state().unwrap();
            this.0
                .send(format!("no {state:?} {}", cx.tick(state)))
                .unwrap();
            ().into()
        });
        binder.any_state(|this, cx, _| {
            assert_eq!((cx.phase(), cx.op()), (Phase::AnyState, None));
            let what = if cx.cause() == Cause::Snapshot {
                "snapshot"
            } else {
                "delta"
            };
            this.0.send(what.to_owned()).unwrap();
            ().into()
        });
    }
}

impl Reactions<Lamp> for Witness {}

/// What a witness saw, up to and with the next delta.
async fn next(seen: &mut mpsc::UnboundedReceiver<String>) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        lines.push(seen.recv().await.unwrap());
        if matches!(lines.last().unwrap().as_str(), "delta" | "snapshot") {
            return lines;
        }
    }
}

#[derive(Default)]
struct Nodes {
    tasks: JoinSet<()>,
}

impl Nodes {
    fn root(&mut self, options: ViewOptions) -> Handle<Lamp> {
        let (handle, owner) = Owner::new(Machine::new(), Epoch(1), options);
        self.tasks.spawn(async move {
            owner.run(pending()).await;
        });
        handle
    }

    async fn replica(&mut self, root: &Handle<Lamp>, granularity: Granularity) -> Handle<Lamp> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let source = Source::new(root.view(), SourceOptions::new("root"));
        let source = source.with_writes(&root.untyped());
        self.tasks
            .spawn(async move { source.serve(listener, pending()).await });
        let mut options = FollowerOptions::new("replica");
        options.granularity = granularity;
        let (_, follower) = Follower::new::<Lamp>(Lamp::schema().clone(), options);
        let handle = follower.handle();
        self.tasks
            .spawn(follower.run(vec![Tcp { addr }], pending()));
        handle
    }

    /// Runs a reactor of `handlers` on `handle`.
    fn react(&mut self, handle: &Handle<Lamp>, handlers: impl Reactions<Lamp>) -> ReactorStats {
        let reactor = Reactor::new(handle, handlers);
        let stats = reactor.stats().clone();
        self.tasks.spawn(reactor.run(pending()));
        stats
    }
}

async fn run(handle: &Handle<Lamp>, mutation: Mutation<Lamp>) {
    let receipt = handle.mutate(mutation).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Executed);
}

#[tokio::test]
async fn a_replica_sees_what_begins_and_ends_with_retained_payloads() {
    let mut nodes = Nodes::default();
    let root = nodes.root(ViewOptions::default());
    run(&root, Mutation::add(Lamp::Seen)).await;
    let replica = nodes.replica(&root, Granularity::Every).await;
    let (tell, mut seen) = mpsc::unbounded_channel();
    nodes.react(&replica, Witness(tell));
    // What is active at the start begins then.
    assert_eq!(next(&mut seen).await, ["Seen 1", "snapshot"]);
    let on = Mutation::add(Lamp::On).with_payload(Lamp::On, "\"hall\"");
    run(&root, on).await;
    assert_eq!(next(&mut seen).await, [r#"On 1 \"hall\""#, "delta"]);
    run(&root, Mutation::set(Lamp::Bell)).await;
    let expected = ["no On 2", "no Seen 2", "Bell 1", "delta"];
    assert_eq!(next(&mut seen).await, expected);
}

#[tokio::test]
async fn each_transition_is_seen_where_each_is_asked_for() {
    let mut nodes = Nodes::default();
    let root = nodes.root(ViewOptions::default());
    let replica = nodes.replica(&root, Granularity::Every).await;
    let (tell, mut seen) = mpsc::unbounded_channel();
    nodes.react(&replica, Witness(tell));
    assert_eq!(next(&mut seen).await, ["snapshot"]);
    // One publication of the root.
    let flicker = [
        Mutation::add(Lamp::On),
        Mutation::remove(Lamp::On),
        Mutation::add(Lamp::Bell),
        Mutation::add(Lamp::Bell),
    ];
    root.mutate_all(flicker.to_vec()).await.unwrap();
    assert_eq!(next(&mut seen).await, ["On 1", "delta"]);
    assert_eq!(next(&mut seen).await, ["no On 2", "delta"]);
    assert_eq!(next(&mut seen).await, ["Bell 1", "delta"]);
    assert_eq!(next(&mut seen).await, ["Bell 3", "delta"]);
}

#[tokio::test]
async fn a_coalesced_delta_shows_where_it_led_and_not_what_was_in_between() {
    let mut nodes = Nodes::default();
    let root = nodes.root(ViewOptions::default());
    let replica = nodes.replica(&root, Granularity::Latest).await;
    let (tell, mut seen) = mpsc::unbounded_channel();
    nodes.react(&replica, Witness(tell));
    assert_eq!(next(&mut seen).await, ["snapshot"]);
    let flicker = [
        Mutation::add(Lamp::On),
        Mutation::remove(Lamp::On),
        Mutation::add(Lamp::Bell),
        Mutation::add(Lamp::Bell),
        Mutation::add(Lamp::Seen),
    ];
    root.mutate_all(flicker.to_vec()).await.unwrap();
    // `On` was on in between only; `Bell` ticked twice and began once.
    assert_eq!(next(&mut seen).await, ["Bell 3", "Seen 1", "delta"]);
}

#[tokio::test]
async fn a_reactor_that_is_behind_its_ring_goes_on_from_a_snapshot() {
    let mut options = ViewOptions::default();
    options.ring_deltas = 2;
    let mut nodes = Nodes::default();
    let root = nodes.root(options);
    run(&root, Mutation::add(Lamp::On)).await;
    let (tell, mut seen) = mpsc::unbounded_channel();
    // On the view of the machine itself.
    nodes.react(&root, Witness(tell));
    assert_eq!(next(&mut seen).await, ["On 1", "snapshot"]);
    let many = [
        Mutation::remove(Lamp::On),
        Mutation::add(Lamp::Seen),
        Mutation::remove(Lamp::Seen),
        Mutation::add(Lamp::Bell),
    ];
    root.mutate_all(many.to_vec()).await.unwrap();
    assert_eq!(next(&mut seen).await, ["no On 2", "Bell 1", "snapshot"]);
}

/// Answers the bell, and breaks over a broken lamp.
struct Porter;

impl Handlers<Lamp> for Porter {
    fn bind(&self, binder: &mut Binder<Self, Lamp>) {
        binder.state(Lamp::Bell, &[], |_, cx, _| {
            cx.add([Lamp::On, Lamp::Seen]);
            ().into()
        });
        binder.state(Lamp::Broken, &[], |_, _, _| {
            std::panic::resume_unwind(Box::new("a shard"))
        });
        binder.state(Lamp::Seen, &[], |_, cx, _| {
            cx.spawn(
                |replica: Handle<Lamp>| async move { replica.add(Lamp::Broken).await.map(drop) },
            );
            ().into()
        });
    }
}

impl Reactions<Lamp> for Porter {}

#[tokio::test]
async fn handlers_of_a_replica_send_mutations_up_and_survive_their_panics() {
    let mut nodes = Nodes::default();
    let root = nodes.root(ViewOptions::default());
    let replica = nodes.replica(&root, Granularity::Latest).await;
    let stats = nodes.react(&replica, Porter);
    let broken = root.view().when(Lamp::Broken);
    run(&root, Mutation::add(Lamp::Bell)).await;
    broken.await.unwrap();
    assert!(root.view().is_active(Lamp::On) && root.view().is_active(Lamp::Seen));
    // The panic is remembered, and what comes after it is seen.
    let seen = root.view().when_ticks(Lamp::Seen, 2);
    run(&root, Mutation::remove([Lamp::Seen, Lamp::On])).await;
    run(&root, Mutation::add(Lamp::Bell)).await;
    seen.await.unwrap();
    let errors = stats.errors();
    assert_eq!(errors[0].kind, ErrorKind::Panic);
    assert_eq!(errors[0].message, "a shard");
    assert_eq!(errors[0].state.as_deref(), Some("Broken"));
    assert_eq!((stats.refused(), stats.lost()), (0, 0));
    assert!(!root.view().is_active(Lamp::from_index(0).unwrap()));
}

/// Takes a while over the first state that it sees.
struct Slow(mpsc::UnboundedSender<&'static str>);

impl Handlers<Lamp> for Slow {
    fn bind(&self, binder: &mut Binder<Self, Lamp>) {
        binder.state(Lamp::On, &[], |this, _, _| {
            let start = std::time::Instant::now();
            while start.elapsed() < std::time::Duration::from_millis(2) {}
            this.0.send("on").unwrap();
            ().into()
        });
        binder.any_state(|this, _, _| {
            this.0.send("any").unwrap();
            ().into()
        });
    }
}

impl Reactions<Lamp> for Slow {}

#[tokio::test]
async fn an_overrun_on_a_replica_is_remembered_and_nothing_else() {
    let mut nodes = Nodes::default();
    let root = nodes.root(ViewOptions::default());
    run(&root, Mutation::add(Lamp::On)).await;
    let (tell, mut seen) = mpsc::unbounded_channel();
    let mut limits = machine_runtime::Limits::default();
    limits.timeout = std::time::Duration::from_millis(1);
    let reactor = Reactor::new(&root, Slow(tell)).with_limits(limits);
    let stats = reactor.stats().clone();
    nodes.tasks.spawn(reactor.run(pending()));
    assert_eq!(
        [seen.recv().await, seen.recv().await],
        [Some("on"), Some("any")]
    );
    // The errors of a delta are there once all its handlers ran.
    run(&root, Mutation::add(Lamp::Bell)).await;
    assert_eq!(seen.recv().await, Some("any"));
    assert_eq!(stats.errors()[0].kind, ErrorKind::Timeout);
}

/// Starts work for a lamp that is off again by then.
struct Late(mpsc::UnboundedSender<bool>);

impl Handlers<Lamp> for Late {
    fn bind(&self, binder: &mut Binder<Self, Lamp>) {
        binder.state(Lamp::On, &[], |this, cx, _| {
            this.0.send(cx.context(Lamp::On).is_ended()).unwrap();
            ().into()
        });
    }
}

impl Reactions<Lamp> for Late {}

#[tokio::test]
async fn the_context_of_a_state_that_is_over_by_now_is_ended() {
    let mut nodes = Nodes::default();
    let root = nodes.root(ViewOptions::default());
    let (tell, mut ended) = mpsc::unbounded_channel();
    nodes.react(&root, Late(tell));
    tokio::task::yield_now().await;
    let flicker = [Mutation::add(Lamp::On), Mutation::remove(Lamp::On)];
    root.mutate_all(flicker.to_vec()).await.unwrap();
    assert_eq!(ended.recv().await, Some(true));
    run(&root, Mutation::add(Lamp::On)).await;
    assert_eq!(ended.recv().await, Some(false));
}
