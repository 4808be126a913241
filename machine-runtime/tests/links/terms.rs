//! What both sides agree on: selections, intervals, compression.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use machine_runtime::replica::{Follower, Granularity, LinkState, Resync, Source, SourceOptions};
use machine_runtime::{DynState, Epoch, Machine, Mutation, Owner, Schema, StateDef, ViewOptions};
use tokio::time::{Instant, timeout};

use crate::nodes::{Host, Nodes, add, options, schema, selection, state};

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
