//! Machines that follow states of others.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::future::pending;
use std::sync::Arc;

use machine_runtime::replica::{Follower, FollowerOptions, Source, SourceOptions, Tcp};
use machine_runtime::{
    DynState, EXCEPTION, Epoch, Handle, Machine, Mutation, Owner, Pipe, PipeEnd, Schema, StateDef,
    View, ViewOptions,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const EXC: DynState = DynState(0);
const A: DynState = DynState(1);
const B: DynState = DynState(2);
const NOTE: DynState = DynState(3);
const RING: DynState = DynState(4);
const BLOCKED: DynState = DynState(5);

/// Both sides: `Blocked` requires what is never active but where a test wants it.
fn schema() -> Arc<Schema> {
    Schema::builder("Side")
        .order([EXCEPTION, "A", "B", "Note", "Ring", "Blocked"].map(str::to_owned))
        .state(StateDef::new("A"))
        .state(StateDef::new("B"))
        .state(StateDef::new("Note").retain())
        .state(StateDef::new("Ring").multi())
        .state(StateDef::new("Blocked").require(["B"]))
        .build()
        .unwrap()
        .into()
}

/// A running machine, until the set is dropped.
fn running() -> (Handle<DynState>, JoinSet<()>) {
    let machine = Machine::with_schema(schema());
    let (handle, owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        owner.run(pending()).await;
    });
    (handle, tasks)
}

async fn add(handle: &Handle<DynState>, state: DynState) {
    assert!(handle.add(state).await.unwrap().outcome.is_executed());
}

async fn remove(handle: &Handle<DynState>, state: DynState) {
    assert!(handle.remove(state).await.unwrap().outcome.is_executed());
}

/// Lets all tasks do what there is to do.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_mirror_follows_both_ways_and_begins_with_what_is() {
    let ((from, _from), (to, _to)) = (running(), running());
    add(&from, A).await;
    add(&to, B).await;
    let pipe = Pipe::between(from.view(), &to)
        .mirror(A, A)
        .mirror(B, B)
        .start();
    to.view().when(A).await.unwrap();
    to.view().when_not(B).await.unwrap();
    remove(&from, A).await;
    to.view().when_not(A).await.unwrap();
    add(&from, B).await;
    to.view().when(B).await.unwrap();
    assert_eq!((pipe.refused(), pipe.end()), (0, None));
}

#[tokio::test]
async fn several_states_are_all_or_any_and_can_be_negated() {
    let ((from, _from), (to, _to)) = (running(), running());
    let _pipe = Pipe::between(from.view(), &to)
        .mirror([A, B], A)
        .mirror_any([A, B], B)
        .mirror_not(A, NOTE)
        .start();
    to.view().when(NOTE).await.unwrap();
    let shown = async || {
        settle().await;
        [A, B, NOTE].map(|state| to.view().is_active(state))
    };
    assert_eq!(shown().await, [false, false, true]);
    add(&from, A).await;
    assert_eq!(shown().await, [false, true, false]);
    add(&from, B).await;
    assert_eq!(shown().await, [true, true, false]);
    remove(&from, A).await;
    assert_eq!(shown().await, [false, true, true]);
    remove(&from, B).await;
    assert_eq!(shown().await, [false, false, true]);
}

#[tokio::test]
async fn each_time_a_state_comes_again_its_mutation_runs() {
    let ((from, _from), (to, _to)) = (running(), running());
    let pipe = Pipe::between(from.view(), &to)
        .on(RING, Mutation::add(RING))
        .start();
    for tick in [1, 3, 5] {
        add(&from, RING).await;
        to.view().when_time([(RING, tick)]).await.unwrap();
    }
    // Off and on again at once is one application, and one that is over already is none.
    let again = vec![Mutation::remove(RING), Mutation::add(RING)];
    from.mutate_all(again).await.unwrap();
    to.view().when_time([(RING, 7)]).await.unwrap();
    let over = vec![Mutation::add(RING), Mutation::remove(RING)];
    from.mutate_all(over).await.unwrap();
    settle().await;
    assert_eq!((to.view().tick(RING), pipe.executed()), (7, 4));
}

#[tokio::test]
async fn a_payload_goes_along() {
    let ((from, _from), (to, _to)) = (running(), running());
    let _pipe = Pipe::between(from.view(), &to).carry(NOTE, NOTE).start();
    let note = |text: &'static str| Mutation::add(NOTE).with_payload(NOTE, text);
    let seen = |text| to.view().when_bytes(NOTE, move |bytes| bytes == text);
    let first = seen("1");
    assert!(from.mutate(note("1")).await.unwrap().outcome.is_executed());
    first.await.unwrap();
    // Another payload before anybody looks.
    let second = seen("2");
    let again = vec![Mutation::remove(NOTE), note("2")];
    from.mutate_all(again).await.unwrap();
    second.await.unwrap();
    remove(&from, NOTE).await;
    to.view().when_not(NOTE).await.unwrap();
}

#[tokio::test]
async fn errors_are_errors_of_the_target_and_stay_there() {
    let ((from, _from), (to, _to)) = (running(), running());
    let _pipe = Pipe::between(from.view(), &to).errors().start();
    let error = to.view().when_error();
    let mutation = Mutation::add(EXC).with_payload(EXC, "\"broken\"");
    assert!(from.mutate(mutation).await.unwrap().outcome.is_executed());
    assert_eq!(error.await.unwrap().unwrap().message, "broken");
    remove(&from, EXC).await;
    settle().await;
    assert!(to.view().is_active(EXC));
}

#[tokio::test]
async fn what_is_made_of_the_moment_runs_if_it_is_anything() {
    let ((from, _from), (to, _to)) = (running(), running());
    let pipe = Pipe::between(from.view(), &to)
        .on_with(RING, |now| {
            (now.ticks()[4] > 1).then(|| Mutation::add([A, B]))
        })
        .start();
    add(&from, RING).await;
    settle().await;
    assert_eq!(pipe.executed(), 0);
    add(&from, RING).await;
    to.view().when([A, B]).await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_counted_and_not_repeated() {
    let ((from, _from), (to, _to)) = (running(), running());
    let pipe = Pipe::between(from.view(), &to)
        .on(A, Mutation::add(BLOCKED))
        .start();
    add(&from, A).await;
    settle().await;
    assert_eq!((pipe.refused(), pipe.executed()), (1, 0));
    add(&to, B).await;
    settle().await;
    assert!(!to.view().is_active(BLOCKED));
    remove(&from, A).await;
    add(&from, A).await;
    to.view().when(BLOCKED).await.unwrap();
}

#[tokio::test]
async fn a_dropped_pipe_leaves_nothing_behind() {
    let ((from, _from), (to, mut tasks)) = (running(), running());
    let pipe = Pipe::between(from.view(), &to).mirror(A, A).start();
    add(&from, A).await;
    to.view().when(A).await.unwrap();
    drop(pipe);
    remove(&from, A).await;
    settle().await;
    let view = to.view().clone();
    assert!(view.is_active(A));
    // The last handle was not the pipe's: without it the machine ends.
    drop(to);
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_of_either_side_ends_it() {
    let ((from, mut from_tasks), (to, mut to_tasks)) = (running(), running());
    let mut pipe = Pipe::between(from.view(), &to).mirror(A, A).start();
    let mut back = Pipe::between(to.view(), &from).mirror(B, B).start();
    // What was there at the end is still taken over.
    add(&from, A).await;
    from_tasks.shutdown().await;
    assert_eq!(pipe.ended().await, PipeEnd::Source);
    assert!(to.view().is_active(A));
    assert_eq!(back.ended().await, PipeEnd::Target);
    assert_eq!(pipe.end(), Some(PipeEnd::Source));

    let (other, _other) = running();
    let mut quiet = Pipe::between(other.view(), &to).mirror(B, B).start();
    settle().await;
    to_tasks.shutdown().await;
    assert_eq!(quiet.ended().await, PipeEnd::Target, "without a mutation");
    assert_eq!(quiet.ended().await, PipeEnd::Target);
}

#[tokio::test]
async fn a_state_that_is_none_is_the_callers_mistake() {
    let ((from, _from), (to, _to)) = (running(), running());
    for [a, b] in [[DynState(99), A], [A, DynState(99)]] {
        let rules = Pipe::between(from.view(), &to).mirror(a, b);
        let start = std::panic::AssertUnwindSafe(|| rules.start());
        assert!(std::panic::catch_unwind(start).is_err());
    }
}

/// A replica of a machine.
async fn follow(root: &View<DynState>, tasks: &mut JoinSet<()>) -> View<DynState> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let source = Source::new(root, SourceOptions::new("parent"));
    tasks.spawn(async move { source.serve(listener, pending()).await });
    let (view, follower) = Follower::new(schema(), FollowerOptions::new("child"));
    tasks.spawn(follower.run(vec![Tcp { addr }], pending()));
    view
}

#[tokio::test]
async fn a_replica_is_as_good_a_source() {
    let ((from, mut from_tasks), (to, _to)) = (running(), running());
    let replica = follow(from.view(), &mut from_tasks).await;
    // It has nothing to show yet.
    let _pipe = Pipe::between(&replica, &to)
        .mirror(A, A)
        .carry(NOTE, NOTE)
        .errors()
        .start();
    add(&from, A).await;
    to.view().when(A).await.unwrap();
    let context = replica.context(A);
    let note = to.view().when_bytes(NOTE, |bytes| bytes == "1");
    let error = replica.when_error();
    let mutation = Mutation::add([NOTE, EXC])
        .with_payload(NOTE, "1")
        .with_payload(EXC, "2");
    assert!(from.mutate(mutation).await.unwrap().outcome.is_executed());
    note.await.unwrap();
    assert_eq!(error.await.unwrap().unwrap().message, "2");
    to.view().when(EXC).await.unwrap();
    assert!(!context.is_ended());
    remove(&from, A).await;
    to.view().when_not(A).await.unwrap();
    context.ended().await;
}
