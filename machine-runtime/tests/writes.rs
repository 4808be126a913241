//! Writes from replicas: up to the root, and back with what came of them.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use machine_runtime::replica::{Connect, Follower, FollowerOptions, Source, SourceOptions, UPLINK};
use machine_runtime::{
    DynState, Epoch, Handle, Key, MAX_PAYLOAD, Machine, MutateError, Mutation, Outcome, Owner,
    Pipe, PipeEnd, Reason, Schema, StateDef, ViewOptions, WRITE_BYTES, WRITE_CALLS, WriteOptions,
};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

const RED: DynState = DynState(1);
const GREEN: DynState = DynState(2);
/// Multi: each add of it ticks, so its tick counts them.
const KNOCK: DynState = DynState(3);

fn schema() -> Arc<Schema> {
    Schema::builder("Light")
        .state(StateDef::new("Red").remove(["Green"]).retain())
        .state(StateDef::new("Green").remove(["Red"]))
        .state(StateDef::new("Knock").multi())
        .build()
        .unwrap()
        .into()
}

type Tasks = JoinSet<()>;

/// A root, and the task that is its machine.
fn root(epoch: u128) -> (Handle<DynState>, Tasks) {
    let (handle, owner) = idle_root(epoch);
    let mut machine = Tasks::new();
    machine.spawn(async move {
        owner.run(pending()).await;
    });
    (handle, machine)
}

/// A root whose machine does not run yet.
fn idle_root(epoch: u128) -> (Handle<DynState>, Owner<DynState>) {
    let machine = Machine::with_schema(schema());
    Owner::new(machine, Epoch(epoch), ViewOptions::default())
}

/// The connections that a replica is given, one after the other.
struct Given(mpsc::UnboundedReceiver<DuplexStream>);

impl Connect for Given {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(io) => Ok(io),
            None => pending().await,
        }
    }
}

/// A replica, and where it takes connections from.
struct Replica {
    handle: Handle<DynState>,
    give: mpsc::UnboundedSender<DuplexStream>,
    _follower: Tasks,
}

impl Replica {
    fn new() -> Self {
        let (_, follower) = Follower::new::<DynState>(schema(), FollowerOptions::new("child"));
        let handle = follower.handle();
        let (give, given) = mpsc::unbounded_channel();
        let mut tasks = Tasks::new();
        tasks.spawn(follower.run(vec![Given(given)], pending()));
        Self {
            handle,
            give,
            _follower: tasks,
        }
    }

    /// A replica that follows `parent`, and their link.
    async fn of(parent: &Handle<DynState>) -> (Self, Tasks) {
        let replica = Self::new();
        let link = replica.link(parent);
        replica.shows_something().await;
        (replica, link)
    }

    /// Connects it to a parent until what is returned is dropped.
    fn link(&self, parent: &Handle<DynState>) -> Tasks {
        let source = Source::new(parent.view(), SourceOptions::new("parent")).with_writes(parent);
        self.link_to(source)
    }

    fn link_to(&self, source: Source) -> Tasks {
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut link = Tasks::new();
        link.spawn(async move { source.serve_connection(far).await });
        self.give.send(near).unwrap();
        link
    }

    async fn shows_something(&self) {
        let mut positions = self.handle.view().positions();
        positions.wait_for(Option::is_some).await.unwrap();
    }
}

fn keyed(key: &str) -> WriteOptions {
    WriteOptions::new().with_key(Key::new(key).unwrap())
}

fn within(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_mutation_of_the_second_tier_is_the_roots() {
    let (root, _machine) = root(1);
    let (l1, _link) = Replica::of(&root).await;
    let (l2, _link) = Replica::of(&l1.handle).await;
    let mutation = Mutation::add(RED).with_payload(RED, "\"stop\"");
    let receipt = l2.handle.mutate(mutation).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Executed);
    assert_eq!(Some(receipt.position), root.view().position());
    // Its own writes are read where the position is waited for.
    let mut positions = l2.handle.view().positions();
    let reached = positions.wait_for(|at| at.is_some_and(|at| at.has_reached(receipt.position)));
    reached.await.unwrap();
    assert!(l2.handle.view().is_active(RED));
    assert_eq!(
        l2.handle.view().snapshot().unwrap().retained()[&1],
        "\"stop\""
    );
}

#[tokio::test]
async fn a_refusal_travels_with_its_reason() {
    let (root, _machine) = root(1);
    let (l1, _link) = Replica::of(&root).await;
    let (l2, _link) = Replica::of(&l1.handle).await;
    let before = l2.handle.add(RED).await.unwrap().position;
    let by = GREEN;
    for (mutation, reason) in [
        (
            Mutation::add([GREEN, RED]),
            Reason::Blocked { state: RED, by },
        ),
        (
            Mutation::add(RED).with_payload(RED, vec![0; MAX_PAYLOAD + 1]),
            Reason::PayloadTooLarge {
                len: MAX_PAYLOAD + 1,
            },
        ),
        (
            Mutation::add(RED).with_payload(GREEN, "1"),
            Reason::PayloadUnwanted { state: GREEN },
        ),
    ] {
        let receipt = l2.handle.mutate(mutation).await.unwrap();
        assert_eq!(receipt.outcome, Outcome::Canceled(reason));
        assert_eq!(receipt.position, before);
    }
}

#[tokio::test]
async fn a_batch_travels_as_one() {
    let (root, _machine) = root(1);
    let (l1, _link) = Replica::of(&root).await;
    let mut positions = root.view().positions();
    let batch = vec![
        Mutation::add(RED),
        Mutation::add([GREEN, RED]),
        Mutation::add(GREEN),
    ];
    let receipts = l1.handle.mutate_all(batch).await.unwrap();
    let executed: Vec<_> = receipts.iter().map(|r| r.outcome.is_executed()).collect();
    assert_eq!(executed, [true, false, true]);
    assert_eq!(*positions.borrow_and_update(), Some(receipts[2].position));
    let large = Mutation::set(vec![KNOCK; 3]).with_payload(RED, vec![0; WRITE_BYTES]);
    let refused = l1.handle.mutate(large).await;
    assert_eq!(refused, Err(MutateError::TooLarge));
    let many = |count| vec![Mutation::add(KNOCK); count];
    let refused = l1.handle.mutate_all(many(WRITE_CALLS + 1)).await;
    assert_eq!(refused, Err(MutateError::TooLarge));
    assert_eq!(root.view().tick(KNOCK), 0);
    let receipts = l1.handle.mutate_all(many(WRITE_CALLS)).await.unwrap();
    assert_eq!(receipts.len(), WRITE_CALLS);
    assert_eq!(l1.handle.mutate_all(Vec::new()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn what_was_on_a_link_that_broke_is_sent_again_and_runs_once() {
    let (root, owner) = idle_root(1);
    let (l1, link) = Replica::of(&root).await;
    let mut writers = JoinSet::new();
    for _ in 0..100 {
        let handle = l1.handle.clone();
        writers.spawn(async move { handle.add(KNOCK).await });
    }
    // All are in the root's channel, which nobody empties yet.
    turns(2_000).await;
    drop(link);
    turns(100).await;
    let mut machine = Tasks::new();
    machine.spawn(async move {
        owner.run(pending()).await;
    });
    let _link = l1.link(&root);
    for receipt in writers.join_all().await {
        assert!(receipt.unwrap().outcome.is_executed());
    }
    // An add of an active multi state ticks twice.
    assert_eq!(root.view().tick(KNOCK), 2 * 100 - 1);
}

/// Passes bytes on to the parent, and back only until it is told not to: then answers are lost.
async fn lossy(near: DuplexStream, far: DuplexStream, mut deaf: mpsc::Receiver<()>) {
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let up = tokio::io::copy(&mut near_read, &mut far_write);
    let down = async {
        tokio::select! {
            biased;
            _ = deaf.recv() => {}
            _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
        }
        pending::<()>().await;
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let (root, _machine) = root(1);
    let l1 = Replica::new();
    let (near, middle) = tokio::io::duplex(1 << 16);
    let (behind, far) = tokio::io::duplex(1 << 16);
    let (deafen, deaf) = mpsc::channel(1);
    let source = Source::new(root.view(), SourceOptions::new("root")).with_writes(&root);
    let mut link = Tasks::new();
    link.spawn(async move { source.serve_connection(far).await });
    link.spawn(lossy(middle, behind, deaf));
    l1.give.send(near).unwrap();
    l1.shows_something().await;
    deafen.send(()).await.unwrap();
    let mut writer = JoinSet::new();
    let handle = l1.handle.clone();
    writer.spawn(async move { handle.add(KNOCK).await });
    let mut positions = root.view().positions();
    positions
        .wait_for(|at| at.unwrap().revision == 1)
        .await
        .unwrap();
    // The root has run it, and its answer gets lost.
    drop(link);
    let _link = l1.link(&root);
    let receipt = writer.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(receipt.position.revision, 1);
    assert_eq!(root.view().tick(KNOCK), 1);
}

#[tokio::test]
async fn a_key_is_one_write_from_wherever_it_comes() {
    let (root, _machine) = root(1);
    let (a, _link) = Replica::of(&root).await;
    let (b, _link) = Replica::of(&root).await;
    let first = a.handle.mutate_with(Mutation::add(KNOCK), keyed("k")).await;
    let first = first.unwrap();
    let others = a.handle.add(RED).await.unwrap();
    assert!(others.outcome.is_executed());
    for handle in [&a.handle, &b.handle, &root] {
        let again = handle.mutate_with(Mutation::add(KNOCK), keyed("k")).await;
        assert_eq!(again.unwrap(), first);
        let other = handle.mutate_with(Mutation::add(GREEN), keyed("k")).await;
        assert_eq!(other, Err(MutateError::KeyReused));
    }
    assert_eq!(root.view().tick(KNOCK), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_root_the_writer_learns_so_in_time() {
    let (root, machine) = root(1);
    let (l1, link) = Replica::of(&root).await;
    let (l2, _link) = Replica::of(&l1.handle).await;
    drop(link);
    turns(100).await;
    // The first tier knows that it is not linked, the second learns it from there.
    for handle in [&l1.handle, &l2.handle] {
        let start = Instant::now();
        let lost = handle
            .mutate_within(Mutation::add(KNOCK), within(2_000))
            .await;
        let may_have_run = false;
        assert_eq!(lost, Err(MutateError::Unreachable { may_have_run }));
        assert!(start.elapsed() <= within(2_000));
    }
    // A replica that has never had a parent.
    let alone = Replica::new();
    let lost = alone
        .handle
        .mutate_within(Mutation::add(KNOCK), within(50))
        .await;
    let may_have_run = false;
    assert_eq!(lost, Err(MutateError::Unreachable { may_have_run }));
    drop(machine);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_not_answered_may_have_run() {
    let (root, owner) = idle_root(1);
    let (l1, link) = Replica::of(&root).await;
    let may_have_run = true;
    // The root takes it and does not answer.
    let lost = l1
        .handle
        .mutate_within(Mutation::add(KNOCK), within(500))
        .await;
    assert_eq!(lost, Err(MutateError::Expired { may_have_run }));
    let mut writer = JoinSet::new();
    let handle = l1.handle.clone();
    writer.spawn(async move {
        handle
            .mutate_within(Mutation::add(KNOCK), within(500))
            .await
    });
    turns(100).await;
    // The link breaks meanwhile, and there is no other.
    drop(link);
    let lost = writer.join_next().await.unwrap().unwrap();
    assert_eq!(lost, Err(MutateError::Unreachable { may_have_run }));
    // Neither was still waited for.
    assert_eq!(owner.run(std::future::ready(())).await.revision(), 0);
}

#[tokio::test]
async fn another_life_of_the_root_is_told_and_whether_the_write_was_sent_before() {
    let (first, owner) = idle_root(1);
    let (l1, link) = Replica::of(&first).await;
    let mut writer = JoinSet::new();
    let handle = l1.handle.clone();
    writer.spawn(async move { handle.add(KNOCK).await });
    turns(100).await;
    drop((link, owner));
    let (second, _machine) = root(2);
    let link = l1.link(&second);
    let changed = writer.join_next().await.unwrap().unwrap();
    let may_have_run = true;
    assert_eq!(changed, Err(MutateError::EpochChanged { may_have_run }));
    // One that was not sent before was surely not run.
    let stale = WriteOptions::new().with_epoch(Epoch(1));
    let changed = l1.handle.mutate_with(Mutation::add(KNOCK), stale).await;
    let may_have_run = false;
    assert_eq!(changed, Err(MutateError::EpochChanged { may_have_run }));
    assert!(l1.handle.add(KNOCK).await.unwrap().outcome.is_executed());
    assert_eq!(second.view().tick(KNOCK), 1);
    drop(link);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_under_way_than_there_is_room_for() {
    let (root, owner) = idle_root(1);
    let (l1, _link) = Replica::of(&root).await;
    let mut writers = JoinSet::new();
    for _ in 0..UPLINK {
        let handle = l1.handle.clone();
        writers.spawn(async move { handle.add(KNOCK).await });
    }
    turns(2 * UPLINK).await;
    let may_have_run = false;
    let busy = Err(MutateError::Busy { may_have_run });
    assert_eq!(l1.handle.try_mutate(Mutation::add(RED)).await, busy);
    let refused = l1.handle.mutate_within(Mutation::add(RED), within(1)).await;
    assert_eq!(refused, busy);
    // Heartbeats come all the same while the link is full of writes.
    tokio::time::sleep(within(5_000)).await;
    assert!(!l1.handle.view().is_stale());
    let mut machine = Tasks::new();
    machine.spawn(async move {
        owner.run(pending()).await;
    });
    let written = writers.join_all().await;
    assert!(written.iter().all(Result::is_ok));
    assert_eq!(root.view().tick(KNOCK), 2 * UPLINK as u64 - 1);
    assert!(l1.handle.try_mutate(Mutation::add(RED)).await.is_ok());
}

#[tokio::test]
async fn who_no_longer_waits_takes_the_mutation_back() {
    let (root, owner) = idle_root(1);
    let (l1, _link) = Replica::of(&root).await;
    let (l2, _link) = Replica::of(&l1.handle).await;
    let mut writers = JoinSet::new();
    for _ in 0..50 {
        let handle = l2.handle.clone();
        writers.spawn(async move { handle.add(KNOCK).await });
    }
    turns(1_000).await;
    writers.abort_all();
    while writers.join_next().await.is_some() {}
    turns(1_000).await;
    assert_eq!(owner.run(std::future::ready(())).await.revision(), 0);
}

#[tokio::test]
async fn a_source_without_a_handle_takes_no_writes() {
    let (root, _machine) = root(1);
    let l1 = Replica::new();
    let _link = l1.link_to(Source::new(root.view(), SourceOptions::new("root")));
    l1.shows_something().await;
    assert_eq!(l1.handle.add(RED).await, Err(MutateError::Refused));
}

#[tokio::test]
async fn a_source_without_a_handle_does_not_know_what_came_of_a_write_before() {
    let (root, owner) = idle_root(1);
    let (l1, link) = Replica::of(&root).await;
    let mut writer = JoinSet::new();
    let handle = l1.handle.clone();
    writer.spawn(async move { handle.add(KNOCK).await });
    turns(100).await;
    // It is in the root's channel when its link breaks.
    drop(link);
    let _link = l1.link_to(Source::new(root.view(), SourceOptions::new("root")));
    let lost = writer.join_next().await.unwrap().unwrap();
    let may_have_run = true;
    assert_eq!(lost, Err(MutateError::Unreachable { may_have_run }));
    drop(owner);
}

#[tokio::test]
async fn a_replica_that_ended_takes_nothing() {
    let (root, _machine) = root(1);
    let (l1, _link) = Replica::of(&root).await;
    let handle = l1.handle.clone();
    drop(l1);
    turns(10).await;
    let may_have_run = false;
    let closed = Err(MutateError::Closed { may_have_run });
    assert_eq!(handle.add(RED).await, closed);
}

#[tokio::test]
async fn a_root_that_ends_does_not_leave_the_writer_in_doubt_of_a_new_life() {
    let (first, machine) = root(1);
    let (l1, link) = Replica::of(&first).await;
    drop(machine);
    let mut writer = JoinSet::new();
    let handle = l1.handle.clone();
    writer.spawn(async move { handle.add(KNOCK).await });
    turns(100).await;
    // It was not taken by the machine that ended: it waits for the next.
    assert!(writer.try_join_next().is_none());
    drop(link);
    let (second, _machine) = root(2);
    let _link = l1.link(&second);
    let changed = writer.join_next().await.unwrap().unwrap();
    let told = matches!(changed, Err(MutateError::EpochChanged { .. }));
    assert!(told, "{changed:?}");
}

/// What a pipe looks at, with `state` active, and the task that is its machine.
async fn source_with(state: DynState) -> (Handle<DynState>, Tasks) {
    let (handle, machine) = root(7);
    assert!(handle.add(state).await.unwrap().outcome.is_executed());
    (handle, machine)
}

#[tokio::test(start_paused = true)]
async fn a_pipe_outlives_a_link_and_runs_once_what_was_on_it() {
    let (from, _from) = source_with(RED).await;
    let (root, owner) = idle_root(1);
    let (l1, link) = Replica::of(&root).await;
    let pipe = Pipe::between(from.view(), &l1.handle)
        .mirror(RED, RED)
        .on(KNOCK, Mutation::add(KNOCK))
        .start();
    turns(100).await;
    drop(link);
    // The root has it in its channel, and nobody to run it.
    tokio::time::sleep(within(60_000)).await;
    assert!((4..10).contains(&pipe.retries()), "{pipe:?}");
    let mut machine = Tasks::new();
    machine.spawn(async move {
        owner.run(pending()).await;
    });
    let link = l1.link(&root);
    root.view().when(RED).await.unwrap();
    drop(link);
    turns(100).await;
    // Meanwhile nothing is lost, and another parent that takes no writes is no end either.
    assert!(from.add(KNOCK).await.unwrap().outcome.is_executed());
    let link = l1.link_to(Source::new(root.view(), SourceOptions::new("root")));
    tokio::time::sleep(within(60_000)).await;
    assert!(pipe.retries() > 20, "{pipe:?}");
    drop(link);
    let _link = l1.link(&root);
    root.view().when(KNOCK).await.unwrap();
    assert!(from.remove(RED).await.unwrap().outcome.is_executed());
    root.view().when_not(RED).await.unwrap();
    turns(100).await;
    assert_eq!(root.view().tick(KNOCK), 1);
    assert_eq!((pipe.executed(), pipe.refused(), pipe.end()), (3, 0, None));
}

#[tokio::test(start_paused = true)]
async fn a_pipe_whose_answer_got_lost_sends_the_same_key() {
    let (from, _from) = source_with(KNOCK).await;
    let (root, _machine) = root(1);
    let l1 = Replica::new();
    let (near, middle) = tokio::io::duplex(1 << 16);
    let (behind, far) = tokio::io::duplex(1 << 16);
    let (deafen, deaf) = mpsc::channel(1);
    let source = Source::new(root.view(), SourceOptions::new("root")).with_writes(&root);
    let mut link = Tasks::new();
    link.spawn(async move { source.serve_connection(far).await });
    link.spawn(lossy(middle, behind, deaf));
    l1.give.send(near).unwrap();
    l1.shows_something().await;
    deafen.send(()).await.unwrap();
    let pipe = Pipe::between(from.view(), &l1.handle)
        .on(KNOCK, Mutation::add(KNOCK))
        .start();
    root.view().when(KNOCK).await.unwrap();
    drop(link);
    tokio::time::sleep(within(30_000)).await;
    assert!(pipe.retries() > 1 && pipe.executed() == 0, "{pipe:?}");
    let _link = l1.link(&root);
    turns(100).await;
    tokio::time::sleep(within(15_000)).await;
    assert_eq!((pipe.executed(), root.view().tick(KNOCK)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pipe_begins_anew_in_the_next_life_of_the_root() {
    let (from, _from) = source_with(RED).await;
    let (first, owner) = idle_root(1);
    let (l1, link) = Replica::of(&first).await;
    let mut pipe = Pipe::between(from.view(), &l1.handle)
        .mirror(RED, RED)
        .start();
    turns(100).await;
    // It was under way in the life before.
    drop((link, owner));
    let (second, machine) = root(2);
    let link = l1.link(&second);
    second.view().when(RED).await.unwrap();
    assert_eq!(pipe.retries(), 1);
    // Nothing was, and nothing ticks.
    drop((link, machine));
    let (third, _machine) = root(3);
    let _link = l1.link(&third);
    third.view().when(RED).await.unwrap();
    assert!(from.remove(RED).await.unwrap().outcome.is_executed());
    third.view().when_not(RED).await.unwrap();
    assert_eq!((pipe.refused(), pipe.end()), (0, None));
    // The end of the replica is the pipe's.
    drop(l1);
    assert_eq!(pipe.ended().await, PipeEnd::Target);
}

#[tokio::test(start_paused = true)]
async fn a_pipe_sends_one_by_one_what_is_too_much_for_a_write() {
    let (from, _from) = source_with(RED).await;
    let (root, _machine) = root(1);
    let (l1, _link) = Replica::of(&root).await;
    let of = |bytes| Mutation::add(RED).with_payload(RED, vec![0; bytes]);
    let mut rules = Pipe::between(from.view(), &l1.handle).on(RED, of(WRITE_BYTES));
    for _ in 0..WRITE_BYTES / MAX_PAYLOAD {
        rules = rules.on(RED, of(MAX_PAYLOAD));
    }
    let pipe = rules.on(RED, Mutation::add(KNOCK)).start();
    root.view().when(KNOCK).await.unwrap();
    turns(100).await;
    assert_eq!((pipe.executed(), pipe.refused()), (65, 1));
    assert_eq!(pipe.retries(), 0);
    let alone = Pipe::between(from.view(), &l1.handle)
        .on(RED, of(WRITE_BYTES))
        .start();
    turns(100).await;
    assert_eq!((alone.refused(), alone.end()), (1, None));
}
