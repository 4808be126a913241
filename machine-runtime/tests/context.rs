//! Work that belongs to a state.
#![cfg(feature = "tokio")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use machine_runtime::{
    DynState, EXCEPTION, Epoch, Expired, Handle, Machine, Mutation, Owner, Schema, StateDef,
    ViewOptions,
};
use tokio::task::JoinSet;

const OPEN: DynState = DynState(1);
const RING: DynState = DynState(2);

fn running() -> (Handle<DynState>, JoinSet<()>) {
    let schema = Schema::builder("Door")
        .order([EXCEPTION, "Open", "Ring"].map(str::to_owned))
        .state(StateDef::new("Open"))
        .state(StateDef::new("Ring").multi())
        .build()
        .unwrap();
    let machine = Machine::with_schema(schema.into());
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

/// Tells that it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_context_ends_when_its_state_does_and_not_before() {
    let (handle, _tasks) = running();
    let inactive = handle.view().context(OPEN);
    add(&handle, OPEN).await;
    assert!(inactive.is_ended());
    let open = handle.view().context(OPEN);
    assert_eq!(open.tick(), 1);
    add(&handle, OPEN).await;
    add(&handle, RING).await;
    assert!(!open.is_ended(), "a call that changes nothing ends nothing");
    assert!(handle.remove(OPEN).await.unwrap().outcome.is_executed());
    open.ended().await;
    assert!(open.is_ended());
}

#[tokio::test]
async fn a_multi_state_called_again_ends_its_context() {
    let (handle, _tasks) = running();
    add(&handle, RING).await;
    let ring = handle.view().context(RING);
    add(&handle, RING).await;
    ring.ended().await;
}

#[tokio::test]
async fn a_state_that_is_off_and_on_again_before_anybody_looks_ends_its_context() {
    let (handle, _tasks) = running();
    add(&handle, OPEN).await;
    let open = handle.view().context(OPEN);
    let both = vec![Mutation::remove(OPEN), Mutation::add(OPEN)];
    handle.mutate_all(both).await.unwrap();
    assert!(open.is_ended() && handle.view().is_active(OPEN));
}

#[tokio::test]
async fn work_is_dropped_when_the_state_ends() {
    let (handle, _tasks) = running();
    add(&handle, OPEN).await;
    let open = handle.view().context(OPEN);
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Dropped(Arc::clone(&dropped));
    let mut working = JoinSet::new();
    working.spawn(open.run(async move {
        let _guard = guard;
        pending::<()>().await;
    }));
    tokio::task::yield_now().await;
    assert!(!dropped.load(Ordering::Relaxed));
    assert!(handle.remove(OPEN).await.unwrap().outcome.is_executed());
    let ended = working.join_next().await.unwrap().unwrap();
    assert_eq!(ended, Err(Expired));
    assert!(dropped.load(Ordering::Relaxed));
}

#[tokio::test]
async fn work_that_is_done_in_time_has_its_result() {
    let (handle, _tasks) = running();
    let context = handle.view().context(OPEN);
    assert_eq!(context.run(ready(7)).await, Ok(7));
}

#[tokio::test]
async fn an_ended_context_never_polls_the_work() {
    let (handle, _tasks) = running();
    let context = handle.view().context(OPEN);
    let late = context.run(async { unreachable!("the context has ended") });
    add(&handle, OPEN).await;
    assert_eq!(late.await, Err::<(), _>(Expired));
}

#[tokio::test]
async fn the_end_of_the_machine_ends_its_contexts() {
    let (handle, mut tasks) = running();
    let context = handle.view().context(OPEN);
    tasks.shutdown().await;
    context.ended().await;
    assert!(handle.view().context(OPEN).is_ended());
}
