use machine_node::shutdown::Tasks;
use machine_runtime::replica::{Follower, FollowerOptions, SourceStats, Tcp};
use machine_runtime::{States as _, View};
use tokio::net::TcpListener;

use super::{EPOCH, House, Node, Root, at, soon_stale, until};

/// A replica that has no parent yet.
async fn unsynced() -> (Node, Follower, View<House>) {
    let mut options = FollowerOptions::new("rep-1");
    options.view = soon_stale();
    let (view, follower) = Follower::new(House::schema().clone(), options);
    let (handle, link) = (follower.handle(), follower.link().clone());
    let node = Node::new(&handle, Some(link), SourceStats::default()).await;
    (node, follower, view)
}

/// A replica of `root`, and what ends their link.
pub(super) async fn synced(root: &Root) -> (Node, Tasks) {
    let (node, follower, view) = unsynced().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let link = Tasks::default();
    let (source, stopped) = (root.source.clone(), link.stopped());
    link.spawn(async move { source.serve(listener, stopped).await });
    node.tasks
        .spawn(follower.run(vec![Tcp { addr }], node.tasks.stopped()));
    let newest = root.handle.view().position();
    until(async || view.position() == newest).await;
    (node, link)
}

#[tokio::test]
async fn before_its_first_snapshot_a_replica_says_so() {
    let (node, _follower, _view) = unsynced().await;
    let message = "this node has nothing to show yet: connecting";
    let after = format!("/v1/states?after={}&wait=60", at(1));
    let paths = [
        "/",
        "/v1/states",
        "/v1/states/Knock",
        "/v1/states?ticks=1",
        "/v1/events",
        &after,
    ];
    for path in paths {
        let answer = node.get(path).await;
        answer.check_error(503, "not_ready", message, "[]");
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.header("machine-position"), "");
    }
    let ready = "{\"ready\":false,\"why\":\"nothing to show yet: connecting\"}\n";
    node.get("/readyz").await.check(503, ready);
    node.get("/healthz").await.check(200, "{\"alive\":true}\n");
    assert_eq!(node.get("/v1/schema").await.status(), 200);
    let metrics = node.get("/metrics").await;
    assert_eq!(metrics.metric("machine_stale", &[]), Some(1.0));
    assert_eq!(metrics.metric("machine_link_up", &[]), Some(0.0));
    assert_eq!(metrics.metric("machine_revision", &[]), None);
}

#[tokio::test]
async fn a_replica_shows_the_root_under_its_own_name() {
    let root = Root::with_a_door_open().await;
    let (node, _link) = synced(&root).await;
    let expected = format!(
        "{{\"node\":\"rep-1\",\"role\":\"replicant\",\"tier\":1,\"epoch\":\"{EPOCH}\",\
         \"revision\":2,\"digest\":\"{}\",\
         \"active\":[\"Door1Open\",\"Door2Closed\",\"Door3Closed\"]}}\n",
        root.digest()
    );
    node.get("/v1/states").await.check(200, &expected);
    let metrics = node.get("/metrics").await;
    let node = [("machine", "rep-1"), ("role", "replicant")];
    for (name, label, value) in [
        ("machine_link_up", None, 1.0),
        ("machine_tier", None, 1.0),
        ("machine_revision", None, 2.0),
        ("machine_states_active", None, 3.0),
        ("machine_resyncs_total", Some(("reason", "first")), 1.0),
        ("machine_node_info", Some(("parent", "root")), 1.0),
    ] {
        let labels: Vec<_> = node.into_iter().chain(label).collect();
        assert_eq!(metrics.metric(name, &labels), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_replica_that_is_cut_off_serves_on_and_says_how_old_it_is() {
    let root = Root::with_a_door_open().await;
    let (node, link) = synced(&root).await;
    link.stop();
    until(async || node.get("/readyz").await.text().contains("connecting")).await;
    let tag = format!("\"{}-t\"", at(2));
    for known in [&tag, "\"x\""] {
        let answer = node.ask("GET", "/", &[("if-none-match", known)]).await;
        assert_eq!(answer.status(), if known == tag { 304 } else { 200 });
        assert_eq!(answer.header("machine-stale"), "true");
        assert_ne!(answer.header("machine-age-ms").parse::<u64>().unwrap(), 0);
        assert_eq!(answer.header("machine-position"), at(2));
    }
    let ready = node.get("/readyz").await;
    assert_eq!(ready.status(), 503);
    let why = "{\"ready\":false,\"why\":\"no news of the root for ";
    assert!(ready.text().starts_with(why), "{}", ready.text());
    let metrics = node.get("/metrics").await;
    assert_eq!(metrics.metric("machine_stale", &[]), Some(1.0));
}

#[tokio::test]
async fn a_stream_tells_when_the_node_is_stale() {
    let root = Root::with_a_door_open().await;
    let (node, _link) = synced(&root).await;
    let response = node.open("GET", "/v1/events", &[]).await;
    let mut body = response.into_body();
    let mut text = String::new();
    while !text.contains("event: stale\n") || !text.ends_with("\n\n") {
        use http_body_util::BodyExt;
        let frame = tokio::time::timeout(crate::support::PATIENCE, body.frame())
            .await
            .unwrap();
        let data = frame.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&data).unwrap());
    }
    let (_, event) = text.split_once("event: stale\n").unwrap();
    let expected = format!("id: {}\ndata: {{\"stale\":true,\"age_ms\":", at(2));
    assert!(event.starts_with(&expected), "{event}");
}
