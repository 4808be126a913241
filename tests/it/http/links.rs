use std::future::pending;
use std::io;
use std::time::Duration;

use machine_node::shutdown::Tasks;
use machine_runtime::replica::{Connect, Follower, FollowerOptions, Source, SourceStats};
use machine_runtime::{Epoch, Machine, Owner, States as _, View, ViewOptions};
use tokio::io::DuplexStream;
use tokio::join;
use tokio::sync::watch;

use super::events::Events;
use super::{House, Node, Root, at, until};

/// Leads to whichever source there is at the time; a connection breaks once there is another.
struct Wire {
    source: watch::Receiver<Option<Source>>,
    tasks: Tasks,
}

impl Connect for Wire {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        let source = self.source.borrow_and_update().clone();
        let source = source.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let mut other = self.source.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = other.changed() => {}
                () = source.serve_connection(theirs) => {}
            }
        });
        Ok(ours)
    }
}

/// A replica whose link can be cut and laid anew.
struct Replica {
    node: Node,
    view: View<House>,
    source: watch::Sender<Option<Source>>,
}

impl Replica {
    /// A replica that shows what `root` does.
    async fn of(root: &Root) -> Self {
        let mut options = FollowerOptions::new("rep-1");
        options.heartbeat = Duration::from_millis(20);
        options.retry_most = options.retry_least;
        options.view.stale_after = Duration::from_millis(500);
        let (view, follower) = Follower::new(House::schema().clone(), options);
        let (handle, link) = (follower.handle(), Some(follower.link().clone()));
        let node = Node::new(&handle, link, SourceStats::default()).await;
        let (source, receiver) = watch::channel(Some(root.source.clone()));
        let wire = Wire {
            source: receiver,
            tasks: node.tasks.clone(),
        };
        node.tasks
            .spawn(follower.run(vec![wire], node.tasks.stopped()));
        let newest = root.handle.view().position();
        until(async || view.position() == newest).await;
        Self { node, view, source }
    }

    /// Leads it to a root with a life of its own, at revision 0.
    fn begin_anew(&self) {
        let (handle, owner) = Owner::new(
            Machine::<House>::new(),
            Epoch(0xdef),
            ViewOptions::default(),
        );
        let options = machine_runtime::replica::SourceOptions::new("root");
        self.source
            .send_replace(Some(Source::new(handle.view(), options)));
        self.node.tasks.spawn_until_stopped(async move {
            owner.run(pending()).await;
            drop(handle);
        });
    }
}

#[tokio::test]
async fn a_write_is_read_on_a_replica_by_its_position() {
    let root = Root::with_a_door_open().await;
    let replica = Replica::of(&root).await;
    for _ in 0..20 {
        let receipt = root.handle.add(House::Knock).await.unwrap();
        let path = format!("/v1/states?min_rev={}", receipt.position);
        let answer = replica.node.get(&path).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.header("machine-position"),
            receipt.position.to_string()
        );
    }
}

#[tokio::test]
async fn a_new_life_ends_waits_with_a_conflict_and_streams_go_on_with_a_snapshot() {
    let root = Root::with_a_door_open().await;
    let replica = Replica::of(&root).await;
    let mut events = Events::open(&replica.node, "", &[]).await;
    events.check_snapshot(&replica.node, 2).await;
    let [past, reached] = [format!("after={}", at(2)), format!("min_rev={}", at(9))]
        .map(|query| format!("/v1/states?{query}&wait=60"));
    let anew = async {
        replica.node.until_metric("machine_http_waiting", 2).await;
        replica.begin_anew();
    };
    let (past, reached, ()) = join!(replica.node.get(&past), replica.node.get(&reached), anew);
    let position = replica.view.position().unwrap().to_string();
    assert_eq!(position, "00000000000000000000000000000def.0");
    let message = format!("the position is of another epoch, this node is at {position}");
    past.check_error(409, "epoch_changed", &message, "[]");
    reached.check_error(409, "epoch_changed", &message, "[]");
    let mut event = events.next().await.unwrap();
    while event.name == "stale" {
        event = events.next().await.unwrap();
    }
    assert_eq!((event.name.as_str(), event.id), ("snapshot", position));
}

#[tokio::test]
async fn a_node_that_finds_its_parent_again_is_fresh_again() {
    let root = Root::with_a_door_open().await;
    let replica = Replica::of(&root).await;
    let stale = async |value: &str| {
        until(async || replica.node.get("/").await.header("machine-stale") == value).await;
    };
    let mut events = Events::open(&replica.node, "", &[]).await;
    events.check_snapshot(&replica.node, 2).await;
    stale("false").await;
    replica.source.send_replace(None);
    stale("true").await;
    let (mut told, mut deltas) = (Vec::new(), 0);
    let event = events.next().await.unwrap();
    told.push(event.data.starts_with("{\"stale\":true,"));
    root.add(House::Knock).await;
    replica.source.send_replace(Some(root.source.clone()));
    stale("false").await;
    until(async || replica.node.get("/readyz").await.status() == 200).await;
    while told.last() != Some(&false) || deltas == 0 {
        let event = events.next().await.unwrap();
        if event.name == "stale" {
            told.push(event.data.starts_with("{\"stale\":true,"));
        } else {
            assert_eq!((event.name.as_str(), event.id), ("delta", at(3)));
            deltas += 1;
        }
    }
    // It says each change once, the first of them being that it is stale.
    assert!(
        told.iter()
            .enumerate()
            .all(|(i, stale)| *stale == (i % 2 == 0)),
        "{told:?}"
    );
}
