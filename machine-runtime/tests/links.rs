//! What holds on a link, and where a follower goes when its parent fails.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machine_runtime::replica::{
    Connect, Edge, Follower, FollowerOptions, Granularity, Link, LinkState, Resync, Selection,
    Source, SourceOptions,
};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Position, Schema, StateDef, View,
    ViewOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Six lamps, of which each can be on with a payload, and an alarm.
fn schema() -> Arc<Schema> {
    let lamps = (1..=6).map(|i| StateDef::new(format!("Lamp{i}")).retain());
    let builder = lamps.fold(
        Schema::builder("Lamps"),
        machine_runtime::SchemaBuilder::state,
    );
    let builder = builder.state(StateDef::new("Alarm").multi().payload());
    builder.group("Alarms", ["Alarm"]).build().unwrap().into()
}

fn state(name: &str) -> DynState {
    DynState(u32::try_from(schema().find(name).unwrap()).unwrap())
}

fn selection(list: &str) -> Selection {
    Selection::parse(&schema(), list).unwrap()
}

/// A host that can be reached, or not, and whose connections can fall silent.
#[derive(Clone)]
struct Host {
    up: Arc<Mutex<Option<Up>>>,
    connections: Arc<AtomicUsize>,
    silent: watch::Sender<bool>,
}

struct Up {
    source: Source,
    tasks: JoinSet<()>,
}

impl Host {
    fn down() -> Self {
        Self {
            up: Arc::default(),
            connections: Arc::default(),
            silent: watch::Sender::new(false),
        }
    }

    fn new(source: &Source) -> Self {
        let host = Self::down();
        host.start(source);
        host
    }

    fn start(&self, source: &Source) {
        *self.up.lock().unwrap() = Some(Up {
            source: source.clone(),
            tasks: JoinSet::new(),
        });
    }

    /// Ends all connections, as if the process was killed.
    fn kill(&self) {
        *self.up.lock().unwrap() = None;
    }

    /// Nothing arrives any more, in neither direction, and nobody is told.
    fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    fn connections(&self) -> usize {
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

async fn pass(
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
struct Nodes(JoinSet<()>);

impl Nodes {
    fn root(&mut self, epoch: u128) -> (Handle<DynState>, Source) {
        let machine = Machine::with_schema(schema());
        let (handle, owner) = Owner::new(machine, Epoch(epoch), ViewOptions::default());
        self.0.spawn(async move {
            owner.run(pending()).await;
        });
        let options = SourceOptions::new("root");
        let source = Source::new(handle.view(), options).with_writes(&handle);
        (handle, source)
    }

    fn follow(&mut self, options: FollowerOptions, parents: &[&Host]) -> Replica {
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

struct Replica {
    view: View<DynState>,
    link: Link,
    handle: Handle<DynState>,
    source: Source,
}

impl Replica {
    async fn reaches(&self, position: Position) {
        let mut positions = self.view.positions();
        let reached = positions.wait_for(|now| now.is_some_and(|now| now.has_reached(position)));
        let reached = timeout(Duration::from_mins(1), reached).await;
        assert!(
            reached.is_ok(),
            "{position} is not reached: {}",
            self.link.state()
        );
    }

    fn edge(&self) -> Arc<Edge> {
        self.link.edge().unwrap()
    }

    /// Waits until `done`; what it asks about has to come to be while time passes.
    async fn until(&self, done: impl Fn(&Self) -> bool) {
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

async fn add(handle: &Handle<DynState>, name: &str) -> Position {
    let receipt = handle.mutate(Mutation::add(state(name))).await.unwrap();
    assert!(receipt.outcome.is_executed());
    receipt.position
}

fn options(name: &str) -> FollowerOptions {
    FollowerOptions::new(name)
}

#[tokio::test(start_paused = true)]
async fn what_is_not_selected_never_travels_and_selections_narrow_down_the_tree() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let payload = Mutation::add(state("Lamp2")).with_payload(state("Lamp2"), "2");
    assert!(root.mutate(payload).await.unwrap().outcome.is_executed());
    let top = Host::new(&source);
    let mut wants = options("rep-1");
    wants.selection = Some(selection("Lamp1,Lamp2,group=Alarms"));
    let first = nodes.follow(wants, &[&top]);
    let mut wants = options("rep-1-1");
    wants.selection = Some(selection("Lamp2,Lamp3"));
    wants.granularity = Granularity::Every;
    let below = Host::new(&first.source);
    let second = nodes.follow(wants, &[&below]);

    add(&root, "Lamp3").await;
    for (name, payload) in [
        ("Lamp1", "1"),
        ("Lamp3", "3"),
        ("Alarm", "a"),
        ("Alarm", "b"),
    ] {
        let mutation = Mutation::add(state(name)).with_payload(state(name), payload);
        assert!(root.mutate(mutation).await.unwrap().outcome.is_executed());
    }
    let off = Mutation::remove(state("Lamp2"));
    let last = root.mutate(off).await.unwrap().position;
    second.reaches(last).await;
    first.reaches(last).await;

    assert_eq!(first.view.selection(), Some(selection("Lamp1,Lamp2,Alarm")));
    assert_eq!(second.view.selection(), Some(selection("Lamp2")));
    assert_eq!(second.edge().selection, second.view.selection());
    let whole = root.view().snapshot().unwrap();
    for replica in [&first, &second] {
        let selection = replica.view.selection().unwrap();
        let shown = replica.view.snapshot().unwrap();
        for i in 0..schema().len() {
            let tick = if selection.contains(i) {
                whole.ticks()[i]
            } else {
                0
            };
            assert_eq!(shown.ticks()[i], tick, "{}", schema().name_of(i));
        }
        let retained: Vec<_> = shown.retained().keys().collect();
        let expected = whole.retained().keys();
        let expected = expected.filter(|state| selection.contains(**state as usize));
        assert_eq!(retained, expected.collect::<Vec<_>>());
        assert_eq!(replica.link.resyncs(Resync::Digest), 0);
    }
    assert!(first.view.is_active(state("Lamp1")) && !first.view.is_active(state("Lamp3")));
    // Where nothing that is selected happens the position goes on all the same.
    let position = add(&root, "Lamp5").await;
    second.reaches(position).await;
    // Who follows a node that shows only some has no more than these.
    let third = nodes.follow(options("rep-1-2"), &[&below]);
    third.reaches(position).await;
    assert_eq!(third.view.selection(), first.view.selection());
    assert_eq!(
        third.view.snapshot().unwrap().digest(),
        first.view.snapshot().unwrap().digest()
    );
}

#[tokio::test(start_paused = true)]
async fn who_selects_nothing_that_the_parent_shows_is_refused() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let top = Host::new(&source);
    let mut wants = options("rep-1");
    wants.selection = Some(selection("Lamp1"));
    let first = nodes.follow(wants, &[&top]);
    first.reaches(root.view().position().unwrap()).await;
    let mut wants = options("rep-1-1");
    wants.selection = Some(selection("Lamp2"));
    let second = nodes.follow(wants, &[&Host::new(&first.source)]);
    second
        .until(|node| matches!(&*node.link.state(), LinkState::Refused { .. }))
        .await;
    assert!(
        second
            .link
            .state()
            .to_string()
            .contains("none of the states that we select")
    );
}

#[tokio::test(start_paused = true)]
async fn each_link_has_an_interval_of_its_own() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let mut wants = options("rep-1");
    wants.push_interval = Duration::from_millis(10);
    let first = nodes.follow(wants, &[&Host::new(&source)]);
    let mut wants = options("rep-1-1");
    wants.push_interval = Duration::from_millis(400);
    let second = nodes.follow(wants, &[&Host::new(&first.source)]);
    let position = add(&root, "Alarm").await;
    second.reaches(position).await;
    assert_eq!(first.edge().push_interval, Duration::from_millis(10));
    assert_eq!(second.edge().push_interval, Duration::from_millis(400));
    let served = &first.source.stats().served(first.view.position())[0];
    assert_eq!(served.name, "rep-1-1");
    assert_eq!(
        (served.push_interval, served.lag),
        (Duration::from_millis(400), 0)
    );

    let (start, before) = (Instant::now(), (first.link.deltas(), second.link.deltas()));
    let mut last = position;
    while start.elapsed() < Duration::from_secs(4) {
        last = add(&root, "Alarm").await;
        tokio::time::advance(Duration::from_millis(5)).await;
    }
    second.reaches(last).await;
    let taken = (
        first.link.deltas() - before.0,
        second.link.deltas() - before.1,
    );
    assert!((8..=11).contains(&taken.1), "one in 400 ms: {taken:?}");
    assert!(taken.0 > 100, "one in 10 ms: {taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_goes_to_the_next_parent_without_a_snapshot_and_back_to_the_first() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let top = Host::new(&source);
    let [left, right] = ["rep-1", "rep-2"].map(|name| nodes.follow(options(name), &[&top]));
    let position = add(&root, "Lamp1").await;
    left.reaches(position).await;
    right.reaches(position).await;
    let hosts = [Host::new(&left.source), Host::new(&right.source)];
    let mut wants = options("rep-1-1");
    wants.prefer_every = Duration::from_secs(5);
    let leaf = nodes.follow(wants, &[&hosts[0], &hosts[1]]);
    leaf.reaches(position).await;
    assert_eq!((leaf.edge().index, leaf.link.moves()), (0, 0));

    hosts[0].kill();
    let position = add(&root, "Lamp2").await;
    leaf.reaches(position).await;
    assert_eq!((leaf.edge().index, leaf.link.moves()), (1, 1));
    assert!(!leaf.view.is_stale());
    // A write goes up over the new parent.
    add(&leaf.handle, "Lamp3").await;

    hosts[0].start(&left.source);
    leaf.until(|leaf| leaf.edge().index == 0).await;
    let position = add(&root, "Lamp4").await;
    leaf.reaches(position).await;
    assert_eq!(leaf.link.moves(), 2);
    let snapshots: u64 = Resync::ALL.iter().map(|why| leaf.link.resyncs(*why)).sum();
    assert_eq!(snapshots, 1, "only the first");
}

#[tokio::test(start_paused = true)]
async fn a_follower_leaves_a_parent_that_is_cut_off_before_it_is_stale_itself() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let tops = [Host::new(&source), Host::new(&source)];
    let left = nodes.follow(options("rep-1"), &[&tops[0]]);
    let right = nodes.follow(options("rep-2"), &[&tops[1]]);
    let hosts = [Host::new(&left.source), Host::new(&right.source)];
    let leaf = nodes.follow(options("rep-1-1"), &[&hosts[0], &hosts[1]]);
    let position = add(&root, "Lamp1").await;
    leaf.reaches(position).await;
    for cut in [&tops[0], &hosts[0]] {
        leaf.until(|leaf| leaf.edge().index == 0 && !leaf.view.is_stale())
            .await;
        cut.silence(true);
        let mut worst = Duration::ZERO;
        while leaf.edge().index == 0 {
            tokio::time::advance(Duration::from_millis(10)).await;
            tokio::task::yield_now().await;
            worst = worst.max(leaf.view.age());
            assert!(worst < leaf.view.stale_after(), "{worst:?}");
        }
        let position = add(&root, "Alarm").await;
        leaf.reaches(position).await;
        assert!(!leaf.view.is_stale());
        cut.silence(false);
        left.reaches(position).await;
    }
    assert_eq!(leaf.link.resyncs(Resync::Compacted), 0);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_behind_is_waited_for_not_gone_back_to() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let tops = [Host::new(&source), Host::new(&source)];
    let left = nodes.follow(options("rep-1"), &[&tops[0]]);
    let right = nodes.follow(options("rep-2"), &[&tops[1]]);
    let hosts = [Host::new(&left.source), Host::new(&right.source)];
    let leaf = nodes.follow(options("rep-1-1"), &[&hosts[0], &hosts[1]]);
    let behind = add(&root, "Lamp1").await;
    leaf.reaches(behind).await;
    right.reaches(behind).await;
    tops[1].silence(true);
    let ahead = add(&root, "Lamp2").await;
    leaf.reaches(ahead).await;
    hosts[0].kill();
    leaf.until(|leaf| leaf.edge().index == 1).await;
    assert_eq!(right.view.position(), Some(behind));
    assert_eq!(leaf.view.position(), Some(ahead));
    tops[1].silence(false);
    let position = add(&root, "Lamp3").await;
    leaf.reaches(position).await;
    assert_eq!(leaf.link.connects(), 2, "it need not have left");
    assert_eq!(
        leaf.view.snapshot().unwrap().digest(),
        root.view().snapshot().unwrap().digest()
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_lives_of_the_root_the_one_that_is_shown_is_preferred_while_it_is_served() {
    let mut nodes = Nodes::default();
    let (old, old_source) = nodes.root(1);
    let (new, new_source) = nodes.root(2);
    add(&new, "Lamp2").await;
    let hosts = [Host::down(), Host::new(&old_source)];
    let leaf = nodes.follow(options("rep-1"), &[&hosts[0], &hosts[1]]);
    let position = add(&old, "Lamp1").await;
    leaf.reaches(position).await;
    // A first parent of another life is no better.
    hosts[0].start(&new_source);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((leaf.edge().index, leaf.link.moves()), (1, 0));
    assert_eq!(leaf.view.position(), Some(position));
    // Nobody serves the old one any more.
    hosts[1].kill();
    leaf.until(|leaf| leaf.edge().index == 0).await;
    assert_eq!(leaf.view.position(), new.view().position());
    assert_eq!(leaf.link.resyncs(Resync::Epoch), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_stopped_sends_its_followers_away_first() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let top = Host::new(&source);
    let [left, right] = ["rep-1", "rep-2"].map(|name| nodes.follow(options(name), &[&top]));
    let hosts = [Host::new(&left.source), Host::new(&right.source)];
    let leaf = nodes.follow(options("rep-1-1"), &[&hosts[0], &hosts[1]]);
    let position = add(&root, "Lamp1").await;
    leaf.reaches(position).await;
    assert_eq!(left.source.stats().followers(), 1);
    let before = Instant::now();
    left.source.drain(Duration::from_secs(10)).await;
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(
        (left.source.stats().followers(), left.source.is_draining()),
        (0, true)
    );
    let position = add(&root, "Lamp2").await;
    leaf.reaches(position).await;
    assert_eq!(leaf.edge().index, 1);
    // It does not come back to a node that sends it away.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((leaf.edge().index, left.source.stats().followers()), (1, 0));
    assert!(!leaf.view.is_stale());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_says_nothing_any_more_is_dropped() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let host = Host::new(&source);
    let leaf = nodes.follow(options("rep-1"), &[&host]);
    let position = add(&root, "Lamp1").await;
    leaf.reaches(position).await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(
        (source.stats().followers(), source.stats().dropped()),
        (1, 0)
    );
    assert_eq!(host.connections(), 1, "one that asks stays");
    host.silence(true);
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(source.stats().followers(), 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        (source.stats().followers(), source.stats().dropped()),
        (0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_long_under_way_is_old_news() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let host = Host::new(&source);
    let leaf = nodes.follow(options("rep-1"), &[&host]);
    let position = add(&root, "Lamp1").await;
    leaf.reaches(position).await;
    // The question that was asked is answered at once, and the answer does not get through.
    host.silence(true);
    let position = add(&root, "Lamp2").await;
    let under_way = Duration::from_millis(2_900);
    tokio::time::sleep(under_way).await;
    host.silence(false);
    leaf.reaches(position).await;
    // The question may have been held for so long.
    let held = Duration::from_millis(1_500);
    let age = leaf.view.age();
    assert!(age + held >= under_way, "{age:?}");
    assert_eq!(leaf.link.connects(), 1);
    // The next answer is quick, once the parent gives it.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(leaf.view.age() < Duration::from_millis(200));
}

/// A host that falls silent as soon as somebody has connected.
struct Silencing(Host);

impl Connect for Silencing {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        let io = self.0.connect().await?;
        self.0.silence(true);
        Ok(io)
    }
}

#[tokio::test(start_paused = true)]
async fn a_welcome_that_was_long_under_way_is_old_news() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let position = add(&root, "Lamp1").await;
    let host = Host::new(&source);
    let (view, follower) = Follower::new::<DynState>(schema(), options("rep-1"));
    let mut tasks = JoinSet::new();
    tasks.spawn(follower.run(vec![Silencing(host.clone())], pending()));
    let under_way = Duration::from_secs(4);
    tokio::time::sleep(under_way).await;
    host.silence(false);
    let mut positions = view.positions();
    let reached = positions.wait_for(|now| now.is_some_and(|now| now.has_reached(position)));
    reached.await.unwrap();
    let age = view.age();
    assert!(age >= under_way, "{age:?}");
    // The next answer is quick.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(view.age() < Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn what_an_interval_holds_back_is_as_old_as_what_is_shown_instead() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let mut wants = options("rep-1");
    wants.push_interval = Duration::from_secs(10);
    let leaf = nodes.follow(wants, &[&Host::new(&source)]);
    let position = add(&root, "Lamp1").await;
    leaf.reaches(position).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let held_back = add(&root, "Lamp2").await;
    // Longer than any one question is held.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert_eq!(leaf.view.position(), Some(position));
    let age = leaf.view.age();
    assert!(age >= Duration::from_millis(4_500), "{age:?}");
    assert!(leaf.view.is_stale());
    leaf.reaches(held_back).await;
    assert!(leaf.view.age() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn what_a_node_that_begins_is_given_by_one_that_is_cut_off_is_as_old_as_there() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let host = Host::new(&source);
    let first = nodes.follow(options("rep-1"), &[&host]);
    let position = add(&root, "Lamp1").await;
    first.reaches(position).await;
    host.silence(true);
    tokio::time::sleep(Duration::from_secs(6)).await;
    // It was not there yet when what it shows was new.
    let second = nodes.follow(options("rep-1-1"), &[&Host::new(&first.source)]);
    second.reaches(position).await;
    let age = second.view.age();
    assert!(age >= Duration::from_secs(5), "{age:?}");
    assert!(second.view.is_stale());
    host.silence(false);
    second.until(|second| !second.view.is_stale()).await;
}

#[tokio::test(start_paused = true)]
async fn a_life_of_the_root_that_was_left_is_not_gone_back_to() {
    let mut nodes = Nodes::default();
    let (old, old_source) = nodes.root(1);
    let (new, new_source) = nodes.root(2);
    let gone = Host::new(&old_source);
    let behind = nodes.follow(options("rep-1"), &[&gone]);
    let before = add(&old, "Lamp1").await;
    behind.reaches(before).await;
    gone.silence(true);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let hosts = [Host::new(&new_source), Host::new(&behind.source)];
    let leaf = nodes.follow(options("rep-2"), &[&hosts[0], &hosts[1]]);
    let position = add(&new, "Lamp2").await;
    leaf.reaches(position).await;
    assert!(!leaf.view.is_stale());
    hosts[0].kill();
    // Who is left knows of nothing later than of the life before.
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(leaf.view.position(), Some(position));
    assert!(leaf.view.is_stale());
    // Once it has news of its root, these are later.
    gone.silence(false);
    leaf.reaches(before).await;
    assert!(!leaf.view.is_stale());
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_while_the_parent_comes_to_show_less_is_not_taken_for_all() {
    let mut nodes = Nodes::default();
    let (root, source) = nodes.root(1);
    let mut wants = options("rep-1");
    wants.selection = Some(selection("Lamp1"));
    let some = nodes.follow(wants, &[&Host::new(&source)]);
    let hosts = [Host::down(), Host::new(&source)];
    let mut wants = options("rep-2");
    wants.prefer_every = Duration::from_millis(500);
    let middle = nodes.follow(wants, &[&hosts[0], &hosts[1]]);
    let mut wants = options("rep-2-1");
    wants.push_interval = Duration::from_secs(1);
    let leaf = nodes.follow(wants, &[&Host::new(&middle.source)]);
    let position = add(&root, "Lamp1").await;
    leaf.reaches(position).await;
    // This waits for its turn when the parent begins to follow one that shows less.
    let held_back = add(&root, "Lamp2").await;
    middle.reaches(held_back).await;
    some.reaches(held_back).await;
    hosts[0].start(&some.source);
    leaf.reaches(held_back).await;
    assert_eq!(middle.edge().index, 0);
    assert_eq!(leaf.view.selection(), middle.view.selection());
    assert!(
        leaf.view
            .selection()
            .is_some_and(|has| !has.contains(state("Lamp2").0 as usize))
    );
}

#[tokio::test(start_paused = true)]
async fn large_answers_are_compressed_unless_the_follower_does_not_want_it() {
    let states = (0..3_000).map(|i| StateDef::new(format!("S{i}")));
    let builder = states.fold(
        Schema::builder("Many"),
        machine_runtime::SchemaBuilder::state,
    );
    let schema: Arc<Schema> = builder.build().unwrap().into();
    let mut nodes = Nodes::default();
    let machine = Machine::with_schema(Arc::clone(&schema));
    let (root, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
    nodes.0.spawn(async move {
        owner.run(pending()).await;
    });
    let all = Mutation::add((1..3_000).map(DynState).collect::<Vec<_>>());
    let position = root.mutate(all).await.unwrap().position;
    let source = Source::new(root.view(), SourceOptions::new("root"));
    let mut bytes = Vec::new();
    for compress in [true, false] {
        let mut wants = options("rep-1");
        wants.compress = compress;
        let observers = machine_runtime::observe::Observers::new();
        wants.view.observers = Some(observers.clone());
        let (view, follower) = Follower::new::<DynState>(Arc::clone(&schema), wants);
        let link = follower.link().clone();
        nodes
            .0
            .spawn(follower.run(vec![Host::new(&source)], pending()));
        let mut positions = view.positions();
        let reached = positions.wait_for(|now| now.is_some_and(|now| now.has_reached(position)));
        timeout(Duration::from_mins(1), reached)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            view.snapshot().unwrap().ticks(),
            root.view().snapshot().unwrap().ticks()
        );
        assert_eq!(link.edge().map(|edge| edge.compress), Some(compress));
        bytes.push(
            observers
                .stats()
                .bytes_in(machine_runtime::observe::Side::Up),
        );
    }
    assert!(bytes[0] * 10 < bytes[1], "{bytes:?}");
}
