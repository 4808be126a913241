use http_body_util::BodyExt;
use hyper::body::Incoming;
use machine_runtime::ViewOptions;
use tokio::net::TcpStream;

use crate::support::PATIENCE;

use super::{EPOCH, House, Node, Root, at};

/// A stream of events, read one by one.
pub(super) struct Events {
    body: Incoming,
    text: String,
}

#[derive(PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) data: String,
}

impl Events {
    pub(super) async fn open(node: &Node, query: &str, headers: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(node.addr).await.unwrap();
        Self::over(node, stream, query, headers).await
    }

    pub(super) async fn over(
        node: &Node,
        stream: TcpStream,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let path = format!("/v1/events{query}");
        let response = node.open_over(stream, "GET", &path, headers).await;
        assert_eq!(response.status(), 200);
        let header = |name| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-accel-buffering"), "no");
        Self {
            body: response.into_body(),
            text: String::new(),
        }
    }

    async fn resume(node: &Node, id: &str) -> Self {
        Self::open(node, "", &[("last-event-id", id)]).await
    }

    /// The next event; none if the stream ended.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| {
                    let mut lines = block.lines().filter_map(|line| line.strip_prefix(name));
                    lines.next().unwrap_or_default().to_owned()
                };
                let event = Event {
                    name: field("event: "),
                    id: field("id: "),
                    data: field("data: "),
                };
                if !event.name.is_empty() {
                    return Some(event);
                }
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .unwrap()?;
            let data = frame.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    async fn check_delta(&mut self, revision: u64, on: &str, off: &str) {
        let data = format!(r#"{{"revision":{revision},"on":{on},"off":{off}}}"#);
        let delta = Event {
            name: "delta".to_owned(),
            id: at(revision),
            data,
        };
        assert_eq!(self.next().await, Some(delta));
    }

    pub(super) async fn check_snapshot(&mut self, node: &Node, revision: u64) {
        let event = self.next().await.unwrap();
        assert_eq!((event.name.as_str(), event.id), ("snapshot", at(revision)));
        assert_eq!(event.data + "\n", node.get("/v1/states").await.text());
    }
}

#[tokio::test]
async fn a_stream_begins_with_a_snapshot_and_goes_on_with_deltas() {
    let root = Root::with_a_door_open().await;
    let mut events = Events::open(&root.node, "", &[]).await;
    events.check_snapshot(&root.node, 2).await;
    root.add(House::Door2Open).await;
    events
        .check_delta(3, r#"["Door2Open"]"#, r#"["Door2Closed"]"#)
        .await;
    root.add(House::Knock).await;
    events.check_delta(4, r#"["Knock"]"#, "[]").await;
    // It ticks again without a change of what is active, and the position moves all the same.
    root.add(House::Knock).await;
    events.check_delta(5, "[]", "[]").await;
}

#[tokio::test]
async fn a_stream_resumes_with_what_changed_on_the_whole() {
    let root = Root::with_a_door_open().await;
    root.add(House::Door2Open).await;
    root.add(House::Door3Open).await;
    assert!(root.handle.remove(House::Door2Open).await.is_ok());
    let revision = root.handle.view().position().unwrap().revision;
    let mut events = Events::resume(&root.node, &at(2)).await;
    events
        .check_delta(revision, r#"["Door3Open"]"#, r#"["Door3Closed"]"#)
        .await;
    let mut events = Events::open(&root.node, &format!("?after={}", at(2)), &[]).await;
    events
        .check_delta(revision, r#"["Door3Open"]"#, r#"["Door3Closed"]"#)
        .await;
}

#[tokio::test]
async fn a_resume_from_where_the_node_is_waits_for_what_comes() {
    let root = Root::with_a_door_open().await;
    let mut events = Events::resume(&root.node, &at(2)).await;
    root.add(House::Knock).await;
    events.check_delta(3, r#"["Knock"]"#, "[]").await;
}

#[tokio::test]
async fn the_last_event_counts_more_than_the_address() {
    let root = Root::with_a_door_open().await;
    root.add(House::Knock).await;
    let (query, id) = (format!("?after={}", at(0)), at(2));
    let mut events = Events::open(&root.node, &query, &[("last-event-id", &id)]).await;
    events.check_delta(3, r#"["Knock"]"#, "[]").await;
}

#[tokio::test]
async fn a_reader_that_is_ahead_waits_for_the_node() {
    let root = Root::with_a_door_open().await;
    let mut events = Events::resume(&root.node, &at(3)).await;
    root.add(House::Knock).await;
    root.add(House::Door1Named).await;
    events.check_delta(4, r#"["Door1Named"]"#, "[]").await;
}

#[tokio::test]
async fn what_is_no_longer_held_is_a_snapshot() {
    let mut options = ViewOptions::default();
    options.ring_deltas = 2;
    let root = Root::new(options).await;
    for _ in 0..5 {
        root.add(House::Knock).await;
    }
    let revision = root.handle.view().position().unwrap().revision;
    let mut events = Events::resume(&root.node, &at(1)).await;
    events.check_snapshot(&root.node, revision).await;
    let mut events = Events::resume(&root.node, &at(revision - 1)).await;
    events.check_delta(revision, "[]", "[]").await;
}

#[tokio::test]
async fn what_is_no_position_here_is_a_snapshot() {
    let root = Root::with_a_door_open().await;
    for id in ["0123456789abcdef0123456789abcdef.2", "7", "", EPOCH] {
        let mut events = Events::resume(&root.node, id).await;
        events.check_snapshot(&root.node, 2).await;
    }
    let query = "?after=0123456789abcdef0123456789abcdef.2";
    let mut events = Events::open(&root.node, query, &[]).await;
    events.check_snapshot(&root.node, 2).await;
}

#[tokio::test]
async fn a_stream_ends_when_the_node_stops() {
    let root = Root::with_a_door_open().await;
    let mut events = Events::open(&root.node, "", &[]).await;
    events.check_snapshot(&root.node, 2).await;
    root.node.tasks.stop();
    let end = events.next().await.unwrap();
    assert_eq!((end.name.as_str(), end.id.as_str()), ("end", ""));
    assert_eq!(end.data, "{\"why\":\"the node stops\"}");
    assert_eq!(events.next().await, None);
}
