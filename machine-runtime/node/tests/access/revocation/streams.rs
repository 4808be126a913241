//! Event streams while somebody's token is taken: theirs end, whatever is going on, and nobody else's do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Incoming;
use machine_node::access::Access;
use machine_node::shutdown::Tasks;
use machine_runtime::replica::{Bearer, Token};
use machine_runtime::{DynState, Mutation};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::{Below, File, PATIENCE, Root, bearer, client, get, schema, text};
use super::{Replica, follows, reads, refused};

const SNAPSHOT: &str = "event: snapshot";
const REVOKED: &str = "event: end\ndata: {\"why\":\"what this client";

/// An event stream, and what has come over it.
struct Events {
    _connection: hyper::http::response::Parts,
    body: Incoming,
    read: String,
}

impl Events {
    /// One that has had its snapshot.
    async fn of(addr: SocketAddr, token: &Token) -> Self {
        let token = bearer(token);
        let response = get(addr, "/v1/events", &[("authorization", &token)]).await;
        assert_eq!(response.status(), 200);
        let (connection, body) = response.into_parts();
        let mut events = Self {
            _connection: connection,
            body,
            read: String::new(),
        };
        assert!(events.reads(SNAPSHOT).await);
        events
    }

    /// Whether this comes before its end.
    async fn reads(&mut self, wanted: &str) -> bool {
        reads(&mut self.body, &mut self.read, wanted).await
    }

    /// It is told that it ends, and why, and ends.
    async fn ends(mut self, whose: &str) {
        assert!(self.reads(REVOKED).await, "{whose}: {}", self.read);
        assert!(!self.reads("never").await, "{whose}");
    }
}

/// What a node says of its links to whoever may know all.
async fn links(addr: SocketAddr, token: &Token) -> Value {
    let token = bearer(token);
    let answer = get(addr, "/v1/links", &[("authorization", &token)]).await;
    serde_json::from_str(&text(answer).await).unwrap()
}

#[tokio::test]
async fn nobody_at_another_node_sees_that_somebody_goes() {
    let (gone, gone_entry) = client("gone", "[\"observe\", \"follow\"]");
    let (stays, stays_entry) = client("stays", "[\"observe\", \"follow\", \"admin\"]");
    let file = File::new("elsewhere", &format!("{gone_entry}{stays_entry}"));
    let access: [Access; 3] =
        std::array::from_fn(|_| Access::load(file.path(), &schema()).unwrap());
    let [first, second, third] = access.clone();
    let root = Root::start(first, |_| {}).await;
    let (_sender, receiver) = watch::channel(Some(stays.clone()));
    let token = Bearer::new(receiver);
    let middle = Below::start("middle", root.rpc, token.clone(), second).await;
    let leaf = Below::start("leaf", middle.rpc, token, third).await;
    let tasks = Tasks::default();
    let leaving = [root.rpc, middle.rpc].map(|rpc| Replica::at(rpc, "leaving", &gone, &tasks));
    for replica in &leaving {
        replica.until("followed", follows).await;
    }
    let https = [root.http, middle.http, leaf.http];
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    for http in https {
        while get(http, "/readyz", &[]).await.status() != 200 {
            tokio::task::yield_now().await;
        }
        kept.push(Events::of(http, &stays).await);
        lost.push(Events::of(http, &gone).await);
    }
    let add = |state| root.handle.add(DynState(state));
    let before = add(1).await.unwrap().position;
    file.write(&stays_entry);
    for access in &access {
        access.reload().unwrap();
    }
    for (stream, whose) in lost.into_iter().zip(["root", "middle", "leaf"]) {
        stream.ends(whose).await;
    }
    for replica in &leaving {
        replica.until("refused", refused).await;
    }
    let after = add(2).await.unwrap().position;
    // What came before and what came then are deltas, of the connections that were there.
    for stream in &mut kept {
        for position in [before, after] {
            let event = format!("id: {position}\n");
            assert!(stream.reads(&event).await, "{}", stream.read);
        }
        assert_eq!(stream.read.matches(SNAPSHOT).count(), 1, "{}", stream.read);
        assert!(!stream.read.contains("event: end"), "{}", stream.read);
        assert!(!stream.read.contains("event: stale"), "{}", stream.read);
    }
    for (http, revoked) in https.into_iter().zip([1, 1, 0]) {
        let links = links(http, &stays).await;
        assert_eq!(links["downstream"]["revoked"], revoked, "{links:#}");
        let Some(upstream) = links.get("upstream").filter(|up| !up.is_null()) else {
            assert_eq!(http, root.http);
            continue;
        };
        assert_eq!(upstream["connects"], 1, "{links:#}");
        let resyncs = upstream["resyncs"].as_object().unwrap();
        let resyncs: u64 = resyncs.values().filter_map(Value::as_u64).sum();
        assert_eq!(resyncs, 1, "{links:#}");
    }
    tasks.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_busy_stream_ends_too() {
    let (gone, entry) = client("gone", "[\"observe\"]");
    let (stays, stays_entry) = client("stays", "[\"observe\"]");
    let file = File::new("busy", &format!("{entry}{stays_entry}"));
    let access = Access::load(file.path(), &schema()).unwrap();
    let root = Root::start(access.clone(), |_| {}).await;
    let written = Arc::new(AtomicU64::new(0));
    for lamp in 1..=3 {
        let (handle, written) = (root.handle.clone(), Arc::clone(&written));
        root.tasks.spawn_until_stopped(async move {
            while handle
                .mutate(Mutation::toggle(DynState(lamp)))
                .await
                .is_ok()
            {
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut kept = Events::of(root.http, &stays).await;
    let mut lost = Events::of(root.http, &gone).await;
    assert!(lost.reads("event: delta").await);
    file.write(&stays_entry);
    access.reload().unwrap();
    let before = written.load(Ordering::Relaxed);
    // The other is read meanwhile, as it would be full otherwise.
    let others = async {
        kept.read.clear();
        while kept.reads("event: ").await {
            assert!(!kept.read.contains("event: end"), "{}", kept.read);
            kept.read.clear();
        }
    };
    tokio::select! {
        ended = timeout(PATIENCE, lost.ends("busy")) => ended.unwrap(),
        () = others => panic!("the other's ends"),
    }
    // There is still news, and who may read gets it.
    while written.load(Ordering::Relaxed) <= before {
        tokio::task::yield_now().await;
    }
    kept.read.clear();
    assert!(kept.reads("event: delta").await);
}
