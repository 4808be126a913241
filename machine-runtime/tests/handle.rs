//! The task that owns a machine, its handles and those who wait.
#![cfg(feature = "tokio")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::future::{pending, ready};
use std::sync::Arc;

use machine_runtime::{
    CHANNEL, Closed, DynState, Epoch, Handle, Key, Machine, MutateError, Mutation, Outcome, Owner,
    Position, Reason, Receipt, Schema, StateDef, View, ViewOptions, When, WriteOptions,
};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const RED: DynState = DynState(1);
const GREEN: DynState = DynState(2);
const OFF: DynState = DynState(3);
const FUSE: DynState = DynState(5);

/// A light: `Off` comes by itself, and `Red` cannot stay without the lamp that nobody switches on.
fn schema() -> Arc<Schema> {
    Schema::builder("Light")
        .state(StateDef::new("Red").remove(["Green", "Off"]).retain())
        .state(StateDef::new("Green").remove(["Red", "Off"]))
        .state(StateDef::new("Off").remove(["Red", "Green"]).auto())
        .state(StateDef::new("Short"))
        .state(StateDef::new("Fuse").remove(["Short"]).auto())
        .build()
        .unwrap()
        .into()
}

fn owner() -> (Handle<DynState>, Owner<DynState>) {
    Owner::new(
        Machine::with_schema(schema()),
        Epoch(7),
        ViewOptions::default(),
    )
}

/// A running machine, until the set is dropped.
fn running() -> (Handle<DynState>, JoinSet<()>) {
    let (handle, owner) = owner();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        owner.run(pending()).await;
    });
    (handle, tasks)
}

#[tokio::test]
async fn the_view_shows_the_effect_once_the_mutation_returns() {
    let (handle, _tasks) = running();
    let receipt = handle.add(RED).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Executed);
    assert_eq!(
        receipt.position,
        Position {
            epoch: Epoch(7),
            revision: 2
        }
    );
    assert!(handle.view().is_active(RED) && !handle.view().is_active(GREEN));
    let active: Vec<_> = handle.view().active().iter().collect();
    assert_eq!(active, [RED, FUSE]);
    assert_eq!(handle.view().position(), Some(receipt.position));
    assert_eq!(handle.view().tier(), Some(0));
    assert!(!handle.view().is_stale());
}

#[tokio::test]
async fn a_refusal_says_why_and_moves_nothing() {
    let (handle, _tasks) = running();
    let before = handle.add(RED).await.unwrap().position;
    let receipt = handle.mutate(Mutation::add([GREEN, RED])).await.unwrap();
    let reason = Reason::Blocked {
        state: RED,
        by: GREEN,
    };
    assert_eq!(receipt.outcome, Outcome::Canceled(reason));
    assert_eq!(receipt.position, before);
}

#[tokio::test]
async fn a_batch_is_one_step_to_readers() {
    let (handle, _tasks) = running();
    let mut positions = handle.view().positions();
    positions.borrow_and_update();
    let batch = vec![Mutation::add(RED), Mutation::add(GREEN), Mutation::add(RED)];
    let receipts = handle.mutate_all(batch).await.unwrap();
    assert!(receipts.iter().all(|receipt| receipt.outcome.is_executed()));
    assert_eq!(*positions.borrow_and_update(), Some(receipts[2].position));
    assert!(!positions.has_changed().unwrap());
}

#[tokio::test]
async fn a_moment_stays_as_it_is_for_as_long_as_it_is_held() {
    let (handle, _tasks) = running();
    let mut held = Vec::new();
    for i in 0..50_u64 {
        let payload = i.to_string();
        let (remove, add) = (
            Mutation::remove(RED),
            Mutation::add(RED).with_payload(RED, payload),
        );
        handle.mutate_all(vec![remove, add]).await.unwrap();
        let moment = handle.view().snapshot().unwrap();
        if i % 3 == 0 {
            held.push((i, moment));
        }
    }
    for (i, moment) in held {
        assert_eq!(moment.ticks()[1], 2 * i + 1);
        assert_eq!(moment.retained()[&1], i.to_string());
        assert!(moment.active().any(|state| state == 1));
    }
}

#[tokio::test]
async fn a_full_channel_refuses_who_does_not_want_to_wait() {
    let (handle, owner) = owner();
    let mut waiting = JoinSet::new();
    for _ in 0..CHANNEL {
        let handle = handle.clone();
        waiting.spawn(async move { handle.add(RED).await });
    }
    // Nothing runs yet: each of the tasks gets as far as its place in the channel.
    for _ in 0..2 * CHANNEL {
        tokio::task::yield_now().await;
    }
    let may_have_run = false;
    let busy = Err(MutateError::Busy { may_have_run });
    assert_eq!(handle.try_mutate(Mutation::add(GREEN)).await, busy);
    let moment = std::time::Duration::from_millis(1);
    let refused = handle.mutate_within(Mutation::add(GREEN), moment).await;
    assert_eq!(refused, busy);

    waiting.spawn(async move {
        owner.run(ready(())).await;
        Err(MutateError::Closed { may_have_run })
    });
    let ended = waiting.join_all().await;
    let executed = |ended: &&Result<Receipt<DynState>, MutateError>| ended.is_ok();
    assert_eq!(ended.iter().filter(executed).count(), CHANNEL);
}

#[tokio::test]
async fn a_shutdown_finishes_what_was_sent_before_it() {
    let (handle, owner) = owner();
    let mut tasks = JoinSet::new();
    for i in 0..100 {
        let handle = handle.clone();
        tasks.spawn(async move { handle.add(if i % 2 == 0 { RED } else { GREEN }).await });
    }
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let machine = owner.run(ready(())).await;
    let answers = tasks.join_all().await;
    assert!(answers.iter().all(Result::is_ok));
    // Each of the 100 changed two states, and the first brought up the fuse.
    assert_eq!(machine.revision(), 101);
    let may_have_run = false;
    let closed = Err(MutateError::Closed { may_have_run });
    assert_eq!(handle.add(RED).await, closed);
    assert!(handle.view().is_active(GREEN), "reads go on");
}

#[tokio::test]
async fn waiting_ends_when_the_states_are_as_awaited() {
    let (handle, _tasks) = running();
    let (red, not_red) = (handle.view().when(RED), handle.view().when_not([RED, OFF]));
    let twice = handle.view().when_ticks(RED, 2);
    let third = handle.view().when_time([(RED, 3), (GREEN, 1)]);
    assert!(handle.add(RED).await.unwrap().outcome.is_executed());
    red.await.unwrap();
    assert!(handle.add(GREEN).await.unwrap().outcome.is_executed());
    not_red.await.unwrap();
    twice.await.unwrap();
    assert!(handle.add(RED).await.unwrap().outcome.is_executed());
    third.await.unwrap();
    handle.view().when(RED).await.unwrap();
    handle.view().when_not([]).await.unwrap();
}

#[tokio::test]
async fn a_state_that_its_own_auto_mutation_ends_is_still_seen() {
    let (handle, _tasks) = running();
    let short = DynState(4);
    let seen = handle.view().when(short);
    let both = handle.view().when([short, DynState(5)]);
    let receipt = handle.add(short).await.unwrap();
    assert!(receipt.outcome.is_executed() && !handle.view().is_active(short));
    seen.await.unwrap();
    // Never both at once: not even in the transition that replaces the one by the other.
    let mut both = both;
    let polled = std::future::poll_fn(|cx| ready_now(&mut both, cx)).await;
    assert!(!polled);
}

fn ready_now(when: &mut When, cx: &mut std::task::Context<'_>) -> std::task::Poll<bool> {
    std::task::Poll::Ready(std::pin::Pin::new(when).poll(cx).is_ready())
}

#[tokio::test]
async fn the_end_of_the_machine_ends_all_waiting() {
    let (handle, owner) = owner();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        owner
            .run(async {
                let _ = stopped.await;
            })
            .await;
    });
    let waiting = handle.view().when(GREEN);
    drop(stop);
    assert_eq!(waiting.await, Err(Closed));
    assert_eq!(handle.view().when(RED).await, Err(Closed));
}

#[tokio::test]
async fn many_who_wait_are_each_woken_by_their_own_state() {
    let (handle, _tasks) = running();
    let mut waiting = JoinSet::new();
    for i in 0..1_000_u32 {
        let view = handle.view().clone();
        let state = [RED, GREEN][i as usize % 2];
        waiting.spawn(async move { view.when(state).await.map(|()| state) });
    }
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
    assert!(handle.add(RED).await.unwrap().outcome.is_executed());
    for _ in 0..500 {
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), Ok(RED));
    }
    assert!(handle.add(GREEN).await.unwrap().outcome.is_executed());
    assert_eq!(waiting.join_all().await, vec![Ok(GREEN); 500]);
}

#[tokio::test]
async fn what_a_dead_machine_shows_grows_old() {
    tokio::time::pause();
    let (handle, owner) = owner();
    let mut positions = handle.view().positions();
    assert!(!handle.view().is_stale());
    drop(owner);
    assert!(positions.changed().await.is_err());
    tokio::time::advance(std::time::Duration::from_secs(4)).await;
    assert!(handle.view().is_stale());
}

#[tokio::test]
async fn waiting_for_a_state_that_is_none_harms_nobody() {
    let (handle, _tasks) = running();
    let nobody = handle.view().when(DynState(999));
    assert!(handle.add(RED).await.unwrap().outcome.is_executed());
    drop(nobody);
    assert!(handle.view().is_active(RED));
}

#[tokio::test]
async fn calling_a_state_that_is_none_is_the_callers_mistake() {
    let (handle, _tasks) = running();
    let mut mistaken = JoinSet::new();
    let other = handle.clone();
    mistaken.spawn(async move { other.add(DynState(999)).await });
    assert!(mistaken.join_next().await.unwrap().unwrap_err().is_panic());
    assert!(handle.add(RED).await.unwrap().outcome.is_executed());
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_run() {
    let (handle, owner) = owner();
    let mut waiting = JoinSet::new();
    for state in [RED, GREEN] {
        let handle = handle.clone();
        waiting.spawn(async move { handle.add(state).await });
        tokio::task::yield_now().await;
    }
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    let machine = owner.run(ready(())).await;
    assert_eq!(machine.revision(), 0);
}

#[tokio::test]
async fn a_key_is_run_once_and_answered_the_same() {
    let (handle, _tasks) = running();
    let options = WriteOptions::new().with_key(Key::new("a").unwrap());
    let toggle = || Mutation::toggle(RED);
    let first = handle.mutate_with(toggle(), options.clone()).await.unwrap();
    assert!(handle.add(GREEN).await.unwrap().outcome.is_executed());
    let again = handle.mutate_with(toggle(), options.clone()).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(handle.view().tick(RED), 2);
    let other = handle.mutate_with(Mutation::add(GREEN), options).await;
    assert_eq!(other, Err(MutateError::KeyReused));
    let elsewhere = WriteOptions::new().with_epoch(Epoch(8));
    let may_have_run = false;
    let changed = Err(MutateError::EpochChanged { may_have_run });
    assert_eq!(handle.mutate_with(toggle(), elsewhere).await, changed);
}

#[tokio::test]
async fn a_handle_without_a_type_sends_to_the_same_machine() {
    let (handle, _tasks) = running();
    let receipt = handle.untyped().mutate(Mutation::add([GREEN, RED])).await;
    let by = GREEN;
    let reason = Reason::Blocked { state: RED, by };
    assert_eq!(receipt.unwrap().outcome, Outcome::Canceled(reason));
}

const fn assert_shareable<T: Send + Sync + Clone>() {}
const _: () = {
    assert_shareable::<Handle<DynState>>();
    assert_shareable::<View<DynState>>();
};
