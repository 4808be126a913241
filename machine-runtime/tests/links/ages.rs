//! How old what is shown is.

use std::future::pending;
use std::io;
use std::time::Duration;

use machine_runtime::DynState;
use machine_runtime::replica::{Connect, Follower};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use crate::nodes::{Host, Nodes, add, options, schema};

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
