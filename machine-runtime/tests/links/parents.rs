//! Whom a follower follows, and who is followed.

use std::time::Duration;

use machine_runtime::replica::Resync;
use tokio::time::Instant;

use crate::nodes::{Host, Nodes, add, options};

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
