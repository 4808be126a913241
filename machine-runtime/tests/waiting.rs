//! Those who wait for states, on a machine and on a replica.
#![cfg(all(feature = "tokio", feature = "serde"))]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use machine_runtime::{
    Closed, DynState, EXCEPTION, Epoch, Handle, Machine, Mutation, Owner, PayloadOf, Schema,
    StateDef, ViewOptions,
};
use tokio::task::JoinSet;

const RING: DynState = DynState(1);
const OPEN: DynState = DynState(2);
const SHUT: DynState = DynState(3);
const NOTE: DynState = DynState(4);
const GLANCE: DynState = DynState(5);

/// A door with a bell; a note is kept, what a glance shows is not.
fn schema() -> Arc<Schema> {
    Schema::builder("Door")
        .order([EXCEPTION, "Ring", "Open", "Shut", "Note", "Glance"].map(str::to_owned))
        .state(StateDef::new("Ring").multi())
        .state(StateDef::new("Open").remove(["Shut"]))
        .state(StateDef::new("Shut").remove(["Open"]).auto())
        .state(StateDef::new("Note").retain())
        .state(StateDef::new("Glance").payload())
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

async fn mutate(handle: &Handle<DynState>, mutation: Mutation<DynState>) {
    assert!(handle.mutate(mutation).await.unwrap().outcome.is_executed());
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn the_next_activation_is_not_the_one_there_is() {
    let (handle, _tasks) = running();
    let mut first = handle.view().when_next(OPEN);
    mutate(&handle, Mutation::add(OPEN)).await;
    assert_eq!(poll(&mut first), Poll::Ready(Ok(())));
    let mut second = handle.view().when_next(OPEN);
    mutate(&handle, Mutation::remove(OPEN)).await;
    assert!(poll(&mut second).is_pending());
    mutate(&handle, Mutation::add(OPEN)).await;
    mutate(&handle, Mutation::remove(OPEN)).await;
    assert_eq!(poll(&mut second), Poll::Ready(Ok(())), "though it is over");
}

#[tokio::test]
async fn a_multi_state_called_again_is_a_next_activation() {
    let (handle, _tasks) = running();
    mutate(&handle, Mutation::add(RING)).await;
    let mut again = handle.view().when_next(RING);
    assert!(poll(&mut again).is_pending());
    mutate(&handle, Mutation::add(RING)).await;
    assert_eq!(poll(&mut again), Poll::Ready(Ok(())));
}

#[tokio::test]
async fn a_question_is_asked_when_one_of_its_states_ticked() {
    let (handle, _tasks) = running();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let mut twice = handle.view().when_query([OPEN, RING], move |now| {
        count.fetch_add(1, Ordering::Relaxed);
        now.tick(OPEN) + now.tick(RING) >= 4 && !now.is_active(OPEN)
    });
    let asked = || asked.load(Ordering::Relaxed);
    assert_eq!(asked(), 1);
    mutate(&handle, Mutation::add([OPEN, RING])).await;
    // Once by the transition and once by the first publication since.
    assert_eq!(asked(), 3);
    mutate(&handle, Mutation::add(NOTE)).await;
    assert_eq!(asked(), 3, "that concerns it not");
    mutate(&handle, Mutation::add(RING)).await;
    assert!(poll(&mut twice).is_pending());
    mutate(&handle, Mutation::remove(OPEN)).await;
    assert_eq!(poll(&mut twice), Poll::Ready(Ok(())));
}

#[tokio::test]
async fn a_question_that_panics_harms_only_who_asks() {
    let (handle, _tasks) = running();
    let view = handle.view().clone();
    let mut asking = JoinSet::new();
    asking.spawn(async move {
        let question = view.when_query(OPEN, |now| {
            assert!(!now.is_active(OPEN), "a question that cannot take it");
            false
        });
        question.await
    });
    tokio::task::yield_now().await;
    mutate(&handle, Mutation::add(OPEN)).await;
    assert!(asking.join_next().await.unwrap().unwrap_err().is_panic());
    mutate(&handle, Mutation::remove(OPEN)).await;
}

#[tokio::test]
async fn a_payload_is_awaited_by_what_it_says() {
    let (handle, _tasks) = running();
    let note = PayloadOf::<DynState, Vec<u32>>::new(NOTE);
    let add = |value: &[u32]| Mutation::add(NOTE).with_payload(NOTE, note.encode(&value.to_vec()));
    let mut long = handle.view().when_payload(note, |list| list.len() > 1);
    mutate(&handle, add(&[1])).await;
    mutate(&handle, Mutation::remove(NOTE)).await;
    mutate(&handle, Mutation::add(NOTE).with_payload(NOTE, "{}")).await;
    mutate(&handle, Mutation::remove(NOTE)).await;
    assert!(poll(&mut long).is_pending());
    mutate(&handle, add(&[1, 2])).await;
    let mut there = handle.view().when_payload(note, |_| true);
    assert_eq!(poll(&mut there), Poll::Ready(Ok(vec![1, 2])));
    // A call that does not activate it brings nothing new.
    mutate(&handle, add(&[3, 4])).await;
    mutate(&handle, Mutation::remove(NOTE)).await;
    assert_eq!(poll(&mut long), Poll::Ready(Ok(vec![1, 2])));
}

#[tokio::test]
async fn a_payload_that_is_not_retained_is_seen_as_it_comes() {
    let (handle, _tasks) = running();
    let mut seen = handle.view().when_bytes(GLANCE, |bytes| bytes == "2");
    for payload in ["1", "2", "3"] {
        let add = Mutation::add(GLANCE).with_payload(GLANCE, payload);
        handle
            .mutate_all(vec![add, Mutation::remove(GLANCE)])
            .await
            .unwrap();
    }
    assert_eq!(poll(&mut seen), Poll::Ready(Ok(Bytes::from("2"))));
    let add = Mutation::add(GLANCE).with_payload(GLANCE, "4");
    mutate(&handle, add).await;
    let mut late = handle.view().when_bytes(GLANCE, |_| true);
    assert!(poll(&mut late).is_pending());
}

#[tokio::test]
async fn the_next_error_comes_with_its_payload() {
    let (handle, _tasks) = running();
    let exception = DynState(0);
    let error = |text: &'static str| Mutation::add(exception).with_payload(exception, text);
    let mut first = handle.view().when_error();
    mutate(&handle, error("\"first\"")).await;
    let mut second = handle.view().when_error();
    assert!(poll(&mut second).is_pending(), "that one is known");
    mutate(&handle, error("\"second\"")).await;
    let mut bare = handle.view().when_error();
    mutate(&handle, Mutation::add(exception)).await;
    let found = [&mut first, &mut second, &mut bare].map(|when| match poll(when) {
        Poll::Ready(Ok(error)) => error.map(|error| error.message),
        other => panic!("{other:?}"),
    });
    let expected = [Some("first"), Some("second"), None];
    assert_eq!(found, expected.map(|text| text.map(str::to_owned)));
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_dropped_is_not_woken_and_who_is_not_concerned_neither() {
    let (handle, _tasks) = running();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut waiting: Vec<_> = (0..30)
        .map(|i| handle.view().when([OPEN, RING, NOTE][i % 3]))
        .collect();
    for when in &mut waiting {
        let polled = pin!(when).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    waiting.truncate(15);
    mutate(&handle, Mutation::add(OPEN)).await;
    assert_eq!(count.0.load(Ordering::Relaxed), 5);
    mutate(&handle, Mutation::remove(OPEN)).await;
    mutate(&handle, Mutation::add(OPEN)).await;
    assert_eq!(count.0.load(Ordering::Relaxed), 5, "each is woken once");
    drop(waiting);
    // Nothing holds the waker any more.
    drop(waker);
    assert_eq!(Arc::strong_count(&count), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_at_the_moment_of_the_change_does_not_miss_it() {
    let (handle, _tasks) = running();
    for _ in 0..2_000 {
        let view = handle.view().clone();
        let mut racing = JoinSet::new();
        racing.spawn(async move {
            let inactive = view.context(OPEN);
            let open = view.when(OPEN);
            if inactive.tick() % 2 == 0 {
                inactive.ended().await;
            }
            open.await.unwrap();
        });
        mutate(&handle, Mutation::add(OPEN)).await;
        racing.join_next().await.unwrap().unwrap();
        mutate(&handle, Mutation::remove(OPEN)).await;
    }
}

#[tokio::test]
async fn the_end_of_the_machine_is_the_end_of_all_kinds_of_waiting() {
    let (handle, mut tasks) = running();
    let view = handle.view();
    let waiting = [view.when_next(OPEN), view.when_query(OPEN, |_| false)];
    let (bytes, error) = (view.when_bytes(NOTE, |_| true), view.when_error());
    tasks.shutdown().await;
    for when in waiting {
        assert_eq!(when.await, Err(Closed));
    }
    assert_eq!(bytes.await, Err(Closed));
    assert_eq!(error.await.map(drop), Err(Closed));
    assert_eq!(view.when_not(SHUT).await, Ok(()), "what is so is so");
    assert_eq!(view.when_next(OPEN).await, Err(Closed));
}

/// A waker that breaks.
struct Broken;

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        std::panic::resume_unwind(Box::new("no bed to get out of"));
    }
}

#[tokio::test]
async fn a_waker_that_panics_is_its_owners_matter() {
    let (handle, _tasks) = running();
    let mut when = handle.view().when(OPEN);
    let waker = Waker::from(Arc::new(Broken));
    let polled = pin!(&mut when).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    mutate(&handle, Mutation::add(OPEN)).await;
    assert_eq!(when.await, Ok(()));
    mutate(&handle, Mutation::remove(OPEN)).await;
}
