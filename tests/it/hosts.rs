//! The program on hosts of their own, over wires to which things happen: each node has a network
//! namespace, and real TCP goes over veth pairs between them.

use std::time::Duration;

mod inside;
mod net;
mod nodes;

use crate::support::Folder;

use inside::{is_within, tell};
use net::Net;
use nodes::{Links, Node, until};

/// A root, two that follow it, one that follows each of those.
const NAMES: [&str; 5] = ["root", "rep-1", "rep-2", "rep-1-1", "rep-2-1"];

/// How long a node is stopped: longer than a link may be silent, and than a reader is told all is
/// fresh.
const STOPPED: Duration = Duration::from_secs(5);

/// A tree on hosts.
struct Tree {
    net: Net,
    root: Node,
    rep_1: Node,
    rep_2: Node,
    rep_1_1: Node,
    rep_2_1: Node,
}

impl Tree {
    /// A tree in which each node has one parent, once all are ready.
    async fn new() -> Self {
        Self::with(&[], &["rep-1"], &["rep-2"]).await
    }

    /// A tree whose root has these flags, and whose leaves have these parents, once all are ready.
    async fn with(root: &[&str], of_rep_1_1: &[&str], of_rep_2_1: &[&str]) -> Self {
        let net = Net::new(&NAMES);
        let top = &["root"];
        let followers: [(&str, &[&str]); 4] = [
            ("rep-1", top),
            ("rep-2", top),
            ("rep-1-1", of_rep_1_1),
            ("rep-2-1", of_rep_2_1),
        ];
        for (follower, parents) in followers {
            for parent in parents {
                net.wire(parent, follower);
            }
        }
        let tree = Self {
            root: Node::start(&net, "root", &[], root),
            rep_1: Node::start(&net, "rep-1", top, &[]),
            rep_2: Node::start(&net, "rep-2", top, &[]),
            rep_1_1: Node::start(&net, "rep-1-1", of_rep_1_1, &[]),
            rep_2_1: Node::start(&net, "rep-2-1", of_rep_2_1, &[]),
            net,
        };
        for node in tree.nodes() {
            node.is_ready().await;
        }
        tree
    }

    fn nodes(&self) -> [&Node; 5] {
        [
            &self.root,
            &self.rep_1,
            &self.rep_2,
            &self.rep_1_1,
            &self.rep_2_1,
        ]
    }

    /// Waits until all nodes are where the root is, and fresh; they have the same there.
    async fn converges(&self) {
        let wanted = self.root.states().await;
        let epoch = wanted["epoch"].as_str().unwrap();
        let position = format!("{epoch}.{}", wanted["revision"]);
        for node in self.nodes() {
            node.reaches(&position).await;
            node.is_stale(false).await;
            node.is_ready().await;
            let states = node.states().await;
            for field in ["epoch", "revision", "digest", "active"] {
                assert_eq!(states[field], wanted[field], "{field} of {}", node.name);
            }
        }
    }

    /// The links of all that follow.
    async fn links(&self) -> [Links; 4] {
        [
            self.rep_1.links().await,
            self.rep_2.links().await,
            self.rep_1_1.links().await,
            self.rep_2_1.links().await,
        ]
    }
}

#[tokio::test]
async fn what_is_written_at_leaves_is_everywhere() {
    if !is_within("what_is_written_at_leaves_is_everywhere") {
        return;
    }
    let tree = Tree::new().await;
    let before = tree.root.written().await;
    for _ in 0..10 {
        for node in [&tree.rep_1_1, &tree.rep_2_1, &tree.rep_2] {
            let position = node.write().await;
            // One's own write can be read at once, anywhere.
            tree.rep_1_1.reaches(&position).await;
        }
    }
    tree.converges().await;
    // The first makes it active, each other one is two ticks.
    assert_eq!(tree.rep_2_1.written().await, before + 1 + 29 * 2);
    for links in tree.links().await {
        let once = Links {
            connects: 1,
            snapshots: 1,
        };
        assert_eq!(links, once);
    }
}

#[tokio::test]
async fn over_a_slow_wire_what_piles_up_comes_at_once() {
    if !is_within("over_a_slow_wire_what_piles_up_comes_at_once") {
        return;
    }
    let tree = Tree::new().await;
    let slow = "tbf rate 64kbit burst 2kb latency 400ms";
    assert!(Net::shape("root", "rep-1", slow) && Net::shape("rep-1", "root", slow));
    let taken = async |node: &Node| node.metric("machine_deltas_total", &[("link", "up")]).await;
    let before = (taken(&tree.rep_1).await, tree.root.written().await);
    let mut written = 0;
    loop {
        tree.root.write_often(200).await;
        written += 200;
        let deltas = taken(&tree.rep_1).await - before.0;
        if deltas < written / 2 {
            break;
        }
        assert!(written < 20_000, "{deltas} deltas");
    }
    tree.converges().await;
    let deltas = taken(&tree.rep_1).await - before.0;
    assert!(deltas < written, "{deltas} deltas of {written} transitions");
    assert!(tree.rep_1_1.written().await >= before.1 + 2 * written - 1);
    // A writer behind the wire is served over it as well.
    let position = tree.rep_1_1.write().await;
    tree.rep_2_1.reaches(&position).await;
    for links in tree.links().await {
        assert_eq!((links.connects, links.snapshots), (1, 1));
    }
}

#[tokio::test]
async fn a_part_that_is_cut_off_serves_on_and_resumes() {
    if !is_within("a_part_that_is_cut_off_serves_on_and_resumes") {
        return;
    }
    let tree = Tree::new().await;
    let known = tree.rep_2_1.write().await;
    tree.converges().await;
    let (links, written) = (tree.links().await, tree.root.written().await);
    Net::unplug("rep-1", "root");
    for node in [&tree.rep_1, &tree.rep_1_1] {
        node.is_stale(true).await;
        let answer = node.get("/v1/states").await;
        assert_eq!(answer.head.status(), 200);
        assert_eq!(answer.header("machine-position"), Some(known.as_str()));
        assert_eq!(node.get("/readyz").await.head.status(), 503);
    }
    // The others go on.
    let away = tree.rep_2_1.write_often(20).await;
    assert_eq!(tree.rep_2_1.get("/readyz").await.head.status(), 200);
    // Who writes here is told in time, and the key makes it safe to ask again.
    let (status, told) = tree.rep_1_1.write_as("in the dark", 1).await;
    assert!(matches!(status, 503 | 504), "{told}");
    tree.net.plug("rep-1", "root");
    tree.rep_1_1.reaches(&away).await;
    let (status, told) = tree.rep_1_1.write_as("in the dark", 10).await;
    assert_eq!(
        (status, &told["outcome"]),
        (200, &"executed".into()),
        "{told}"
    );
    tree.converges().await;
    assert_eq!(tree.rep_1_1.written().await, written + 21 * 2);
    // One link broke, and went on where it was.
    let mut after = links;
    after[0].connects += 1;
    assert_eq!(tree.links().await, after);
    until(async || tree.root.metric("machine_followers", &[]).await == 2).await;
}

#[tokio::test]
async fn a_link_of_which_half_is_dead_is_noticed_and_mended() {
    if !is_within("a_link_of_which_half_is_dead_is_noticed_and_mended") {
        return;
    }
    let tree = Tree::new().await;
    // Once what goes down is lost, once what goes up.
    for (host, to) in [("root", "rep-1"), ("rep-1", "root")] {
        tree.root.write().await;
        tree.converges().await;
        let links = tree.links().await;
        tree.net.lose(host, to);
        tree.rep_1_1.is_stale(true).await;
        tree.rep_1.is_stale(true).await;
        until(async || tree.rep_1.metric("machine_link_up", &[]).await == 0).await;
        let away = tree.rep_2_1.write_often(20).await;
        tree.net.route(host, to);
        tree.rep_1_1.reaches(&away).await;
        tree.converges().await;
        let mut after = links;
        after[0].connects += 1;
        assert_eq!(tree.links().await, after, "{host} to {to}");
        // Nothing is left of the connection that died.
        until(async || tree.root.metric("machine_followers", &[]).await == 2).await;
    }
}

#[tokio::test]
async fn a_node_that_stood_still_catches_up() {
    if !is_within("a_node_that_stood_still_catches_up") {
        return;
    }
    let tree = Tree::new().await;
    tree.root.write().await;
    tree.converges().await;
    let links = tree.links().await;
    // For what follows it a parent that stands, for what it follows a reader that does, for itself
    // a time that jumps.
    tree.rep_1.signal("STOP");
    tree.rep_1_1.is_stale(true).await;
    let away = tree.rep_2_1.write_often(200).await;
    assert_eq!(tree.rep_2_1.get("/readyz").await.head.status(), 200);
    until(async || tree.rep_1_1.age().await >= STOPPED).await;
    tree.rep_1.signal("CONT");
    tree.rep_1_1.reaches(&away).await;
    tree.converges().await;
    for (links, before) in tree.links().await.iter().zip(links) {
        assert_eq!(links.snapshots, before.snapshots);
    }
    until(async || tree.root.metric("machine_followers", &[]).await == 2).await;
}

#[tokio::test]
async fn leaves_of_a_node_that_is_killed_go_to_another_and_stay_fresh() {
    if !is_within("leaves_of_a_node_that_is_killed_go_to_another_and_stay_fresh") {
        return;
    }
    let (first, second) = (&["rep-1", "rep-2"], &["rep-2", "rep-1"]);
    let mut tree = Tree::with(&[], first, second).await;
    tree.root.write().await;
    tree.converges().await;
    // Which of them was there first is chance; the first in the list is liked better.
    until(async || tree.rep_1_1.parent().await == "rep-1").await;
    until(async || tree.rep_2_1.parent().await == "rep-2").await;
    let links = tree.links().await;
    let mut told = tree.rep_1_1.events().await;
    tree.rep_1.kill();
    let away = tree.rep_2_1.write_often(20).await;
    tree.rep_1_1.reaches(&away).await;
    assert_eq!(tree.rep_1_1.parent().await, "rep-2");
    // Who follows the other one has not noticed.
    assert_eq!(tree.rep_2_1.links().await, links[3]);
    // It is back, and its leaf goes back to it.
    tree.rep_1.begin();
    until(async || tree.rep_1_1.parent().await == "rep-1").await;
    let position = tree.rep_1_1.write().await;
    tree.converges().await;
    // All the time what it showed was fresh, and it went on from where it was.
    told.until(&position, |event| {
        assert!(!event.contains("event: stale"), "{event}");
        assert!(!event.contains("event: snapshot"), "{event}");
    })
    .await;
    assert_eq!(tree.rep_1_1.links().await.snapshots, links[2].snapshots);
}

#[tokio::test]
async fn a_root_that_is_killed_goes_on_where_it_was() {
    if !is_within("a_root_that_is_killed_goes_on_where_it_was") {
        return;
    }
    let folder = Folder::new("hosts-root");
    let state = format!("--state-dir={}", folder.path().display());
    let mut tree = Tree::with(&[&state], &["rep-1"], &["rep-2"]).await;
    let known = tree.rep_2_1.write_often(50).await;
    tree.converges().await;
    let (links, written) = (tree.links().await, tree.root.written().await);
    tree.root.kill();
    for node in [&tree.rep_1_1, &tree.rep_2_1] {
        node.is_stale(true).await;
        assert_eq!(node.position().await, known);
    }
    tree.root.begin();
    tree.root.is_ready().await;
    tree.converges().await;
    assert_eq!(tree.root.written().await, written);
    let next = tree.rep_1_1.write().await;
    assert_eq!(
        next.split_once('.').unwrap().0,
        known.split_once('.').unwrap().0
    );
    tree.converges().await;
    assert_eq!(tree.rep_2_1.written().await, written + 2);
    for (after, before) in tree.links().await.iter().zip(links) {
        assert_eq!(after.snapshots, before.snapshots, "they resume");
    }
}

#[tokio::test]
async fn wires_that_delay_and_lose_are_survived() {
    if !is_within("wires_that_delay_and_lose_are_survived") {
        return;
    }
    let tree = Tree::new().await;
    let bad = "netem delay 30ms 10ms loss 5%";
    for (one, other) in [("root", "rep-1"), ("rep-1", "rep-1-1")] {
        if !(Net::shape(one, other, bad) && Net::shape(other, one, bad)) {
            tell(
                "delay and loss are left out, as this kernel has no netem; the simulation has them",
            );
            return;
        }
    }
    for _ in 0..10 {
        let position = tree.rep_1_1.write_often(10).await;
        tree.rep_2_1.reaches(&position).await;
    }
    tree.converges().await;
}
