//! What somebody has over time ends with their token, and nobody else's does.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use machine_node::access::{Access, token};
use machine_node::shutdown::Tasks;
use machine_runtime::replica::{
    Bearer, Credentials, Follower, FollowerOptions, Link, LinkState, Tcp, Token,
};
use machine_runtime::{DynState, MutateError, View};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{File, PATIENCE, Reader, Root, bearer, client, get, schema};

// Whose event streams end, and whose do not.
mod streams;

/// One who follows with a token that can be another.
struct Replica {
    view: View<DynState>,
    handle: machine_runtime::Handle<DynState>,
    link: Link,
    token: watch::Sender<Option<Token>>,
}

impl Replica {
    fn of(root: &Root, name: &str, token: &Token, tasks: &Tasks) -> Self {
        Self::at(root.rpc, name, token, tasks)
    }

    fn at(rpc: SocketAddr, name: &str, token: &Token, tasks: &Tasks) -> Self {
        let (sender, receiver) = watch::channel(Some(token.clone()));
        let mut options = FollowerOptions::new(name);
        options.token = Bearer::new(receiver);
        options.retry_most = options.retry_least;
        let (view, follower) = Follower::new::<DynState>(schema(), options);
        let (link, handle) = (follower.link().clone(), follower.handle());
        let addr = rpc.to_string();
        tasks.spawn_until_stopped(follower.run(vec![Tcp { addr }], pending()));
        Self {
            view,
            handle,
            link,
            token: sender,
        }
    }

    async fn until(&self, what: &str, is: impl Fn(&LinkState) -> bool) {
        let look = async {
            while !is(&self.link.state()) {
                tokio::task::yield_now().await;
            }
        };
        assert!(
            timeout(PATIENCE, look).await.is_ok(),
            "not {what}: {}",
            self.link.state()
        );
    }
}

fn follows(state: &LinkState) -> bool {
    matches!(state, LinkState::Following { .. })
}

fn refused(state: &LinkState) -> bool {
    matches!(state, LinkState::Refused { .. })
}

/// Reads a stream up to where it has this, or its end; whether it has it.
async fn reads(body: &mut Incoming, read: &mut String, wanted: &str) -> bool {
    let found = async {
        while !read.contains(wanted) {
            match body.frame().await {
                Some(Ok(frame)) => {
                    let data = frame.data_ref().map(|data| data.to_vec());
                    *read += &String::from_utf8(data.unwrap_or_default()).unwrap();
                }
                _ => return false,
            }
        }
        true
    };
    timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test]
async fn a_token_that_is_taken_out_ends_what_it_was_shown_for() {
    let roles = "[\"observe\", \"follow\", \"mutate\"]";
    let ((gone, gone_entry), (stays, stays_entry)) =
        (client("gone", roles), client("stays", roles));
    let file = File::new("revoked", &format!("{gone_entry}{stays_entry}"));
    let tasks = Tasks::default();
    let (access, _) = Access::watch(file.path(), &schema(), &tasks).unwrap();
    let root = Root::start(access, |_| {}).await;
    let replicas = [&gone, &stays].map(|token| Replica::of(&root, "leaf", token, &tasks));
    for replica in &replicas {
        replica.until("followed", follows).await;
    }
    let served = root.node.metrics();
    assert!(served.contains("machine_followers{") && served.contains("} 2"));
    let mut streams = Vec::new();
    for token in [&gone, &stays] {
        let response = get(
            root.http,
            "/v1/events",
            &[("authorization", &bearer(token))],
        )
        .await;
        assert_eq!(response.status(), 200);
        let (head, mut body) = response.into_parts();
        let mut read = String::new();
        assert!(reads(&mut body, &mut read, "event: snapshot").await);
        streams.push((head, body, read));
    }
    let position = root.handle.view().position().unwrap();
    let path = format!("/v1/states?after={position}&wait=60");
    let mut waiting = Vec::new();
    for token in [&gone, &stays] {
        let (token, path) = (bearer(token), path.clone());
        let mut reader = Reader::new(root.http).await;
        waiting.push(async move {
            let headers = [("authorization", token.as_str())];
            let status = reader
                .send(&Method::GET, &path, &headers, "")
                .await
                .status();
            status.as_u16()
        });
    }
    let (lost, mut kept) = {
        let mut waiting = waiting.into_iter().map(Box::pin);
        (waiting.next().unwrap(), waiting.next().unwrap())
    };
    let looks = async {
        // Both wait before anything is taken from one.
        while !root
            .node
            .metrics()
            .contains("machine_http_waiting{service=\"test\",machine=\"root\",role=\"root\"} 2")
        {
            tokio::task::yield_now().await;
        }
        file.write(&stays_entry);
        pending::<()>().await;
    };
    tokio::select! {
        status = lost => assert_eq!(status, 403),
        status = &mut kept => panic!("the other's wait ended with {status}"),
        () = looks => {}
    }
    let [ended, other] = &mut streams[..] else {
        unreachable!()
    };
    assert!(
        reads(
            &mut ended.1,
            &mut ended.2,
            "event: end\ndata: {\"why\":\"what this client"
        )
        .await
    );
    assert!(!reads(&mut ended.1, &mut ended.2, "never").await, "it ends");
    replicas[0].until("refused", refused).await;
    let why = replicas[0].link.state().to_string();
    assert!(
        why.contains("does not admit this node: it does not know the token"),
        "{why}"
    );
    // The other sees no break: what comes is a delta, over the same connections.
    let receipt = root.handle.add(DynState(1)).await.unwrap();
    assert!(receipt.outcome.is_executed());
    assert_eq!(timeout(PATIENCE, kept).await.unwrap(), 200);
    assert!(reads(&mut other.1, &mut other.2, "event: delta").await);
    assert!(!other.2.contains("event: end"));
    let mut positions = replicas[1].view.positions();
    let shown = positions.wait_for(|now| *now == Some(receipt.position));
    timeout(PATIENCE, shown).await.unwrap().unwrap();
    assert_eq!(replicas[1].link.connects(), 1);
    // And with another token of the same client the first goes on.
    let (next, next_entry) = client("gone", roles);
    file.write(&format!("{next_entry}{stays_entry}"));
    replicas[0].token.send_replace(Some(next));
    replicas[0].until("followed again", follows).await;
    assert_eq!(replicas[1].link.connects(), 1);
    tasks.stop();
}

#[tokio::test]
async fn a_token_is_replaced_by_the_next_without_a_break() {
    let (first, entry) = client("reader", "[\"observe\"]");
    let second = token::make().unwrap();
    let (one, two) = [&first, &second]
        .map(|t| token::Fingerprint::of(t).unwrap().to_string())
        .into();
    let both = entry.replace(&one, &format!("{one}\", \"{two}"));
    let file = File::new("rotated", &both);
    let access = Access::load(file.path(), &schema()).unwrap();
    let root = Root::start(access.clone(), |_| {}).await;
    let mut reader = Reader::new(root.http).await;
    let mut status = async |token: &Token| {
        let header = bearer(token);
        let headers = [("authorization", header.as_str())];
        let response = reader.send(&Method::GET, "/", &headers, "").await;
        let status = response.status().as_u16();
        super::text(response).await;
        status
    };
    assert_eq!((status(&first).await, status(&second).await), (200, 200));
    file.write(&entry.replace(&one, &two));
    access.reload().unwrap();
    assert_eq!((status(&first).await, status(&second).await), (401, 200));
    // What is broken changes nothing.
    file.write("[[client]]\nname = 1");
    let error = access.reload().unwrap_err().to_string();
    assert!(error.contains(":2:8: "), "{error}");
    assert_eq!((status(&first).await, status(&second).await), (401, 200));
}

#[tokio::test]
async fn a_grant_that_changes_is_agreed_anew() {
    let (token, entry) = client("rep", "[\"follow\", \"mutate\"]");
    let file = File::new("narrowed", &entry);
    let access = Access::load(file.path(), &schema()).unwrap();
    let root = Root::start(access.clone(), |_| {}).await;
    let tasks = Tasks::default();
    let replica = Replica::of(&root, "rep", &token, &tasks);
    replica.until("followed", follows).await;
    let written = timeout(PATIENCE, replica.handle.add(DynState(2)))
        .await
        .unwrap();
    assert!(written.unwrap().outcome.is_executed());
    file.write(&entry.replace("\"mutate\"]", "\"mutate\"]\nstates = \"Lamp1\""));
    access.reload().unwrap();
    let again = async {
        while replica.link.connects() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.unwrap();
    let written = timeout(PATIENCE, replica.handle.add(DynState(2)))
        .await
        .unwrap();
    assert_eq!(written, Err(MutateError::Forbidden { state: 2 }));
    let written = timeout(PATIENCE, replica.handle.add(DynState(1)))
        .await
        .unwrap();
    assert!(written.unwrap().outcome.is_executed());
    // A change that is none for it does not end its link.
    file.write(&format!(
        "{}{}",
        std::fs::read_to_string(file.path()).unwrap(),
        client("other", "[]").1
    ));
    access.reload().unwrap();
    let written = timeout(PATIENCE, replica.handle.remove(DynState(1)))
        .await
        .unwrap();
    assert!(written.unwrap().outcome.is_executed());
    assert_eq!(replica.link.connects(), 2);
    tasks.stop();
}

#[tokio::test]
async fn what_has_a_token_does_not_print_it() {
    let (token, entry) = client("rep", "[\"follow\"]");
    let file = File::new("printed", &entry);
    let access = Access::load(file.path(), &schema()).unwrap();
    let (_sender, receiver) = watch::channel(Some(token.clone()));
    let mut options = FollowerOptions::new("rep");
    options.token = Bearer::new(receiver);
    let shown = Credentials::default().with_token(Some(token.clone()));
    let who = access.who(&shown).unwrap();
    assert_eq!(&**who.name(), "rep");
    let printed = format!("{options:?} {shown:?} {access:?} {who:?} {token:?}");
    let hash = token::Fingerprint::of(&token).unwrap().to_string();
    assert!(!printed.contains(&token.secret()[3..]), "{printed}");
    assert!(!printed.contains(&hash[7..]), "{printed}");
}

#[tokio::test]
async fn a_follower_with_a_choice_of_parents_shows_its_token_to_each() {
    let (token, entry) = client("rep", "[\"follow\"]");
    let file = File::new("choice", &entry);
    let first = Root::start(Access::load(file.path(), &schema()).unwrap(), |_| {}).await;
    let (_, stranger) = client("rep", "[\"follow\"]");
    let other_file = File::new("choice-other", &stranger);
    let other = Root::start(Access::load(other_file.path(), &schema()).unwrap(), |_| {}).await;
    let (_sender, receiver) = watch::channel(Some(token));
    let mut options = FollowerOptions::new("rep");
    options.token = Bearer::new(receiver);
    let (view, follower) = Follower::new::<DynState>(schema(), options);
    let link = follower.link().clone();
    let tasks = Tasks::default();
    // The better one does not know it: it follows the next.
    let parents = [&other, &first].map(|root| Tcp {
        addr: root.rpc.to_string(),
    });
    tasks.spawn_until_stopped(follower.run(parents.into(), pending()));
    let mut positions = view.positions();
    let shown = positions.wait_for(Option::is_some);
    timeout(PATIENCE, shown).await.unwrap().unwrap();
    assert_eq!(link.edge().map(|edge| Arc::clone(&edge).index), Some(1));
    tasks.stop();
}
