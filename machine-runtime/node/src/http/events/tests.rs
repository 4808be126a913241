use std::pin::Pin;

use futures_util::StreamExt as _;
use hyper::HeaderMap;
use machine_runtime::{Epoch, Handle, Machine, Mutation, Owner, States as _, ViewOptions};

use super::*;
use crate::access::{Access, Role};
use crate::fixture::Flights;
use crate::http::client::Client;
use crate::http::permit::{Gate, Hold};
use crate::http::routes::{Call, Target};
use crate::http::traffic::Gauge;
use crate::shutdown::Tasks;

/// The events of a root after `resume`, if that is one of its revisions.
struct Reader {
    handle: Handle<Flights>,
    site: Arc<Site>,
    tasks: Tasks,
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>> + Send>>,
}

impl Reader {
    fn new(resume: Option<u64>) -> Self {
        Self::held(resume, None)
    }

    fn held(resume: Option<u64>, hold: Option<Hold>) -> Self {
        let (handle, owner) = Owner::new(Machine::new(), Epoch(1), ViewOptions::default());
        let tasks = Tasks::default();
        let stopped = tasks.stopped();
        tasks.spawn(async move {
            owner.run(stopped).await;
        });
        let http = crate::http::of_root(&handle);
        let site = Arc::clone(&http.site);
        let resume = resume.map(|revision| Position {
            epoch: Epoch(1),
            revision,
        });
        let taken = site.admit_stream(&Client::Others).unwrap();
        let stopping = CancellationToken::new();
        let stream = Box::pin(stream(Arc::clone(&site), resume, hold, stopping, taken));
        Self {
            handle,
            site,
            tasks,
            stream,
        }
    }

    /// The next block of lines: an event or a comment.
    async fn block(&mut self) -> String {
        let mut text = String::new();
        while !text.ends_with("\n\n") {
            let Ok(bytes) = self.stream.next().await.unwrap();
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        text
    }

    async fn heartbeats(&self, count: usize) {
        let heartbeats = [
            Mutation::add(Flights::Heartbeat),
            Mutation::remove(Flights::Heartbeat),
        ];
        let mutations = heartbeats.into_iter().cycle().take(count).collect();
        self.handle.mutate_all(mutations).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_slow_reader_misses_is_one_delta() {
    let mut reader = Reader::new(None);
    assert_eq!(reader.block().await, "retry: 1000\n\n");
    assert!(reader.block().await.starts_with("event: snapshot\n"));
    for _ in 0..500 {
        reader.heartbeats(2).await;
    }
    let receipt = reader.handle.add(Flights::Start).await.unwrap();
    assert!(receipt.outcome.is_executed());
    let position = reader.handle.view().position().unwrap();
    let delta = reader.block().await;
    let expected = format!(
        "event: delta\nid: {position}\ndata: {{\"revision\":{},\"on\":[",
        position.revision
    );
    assert!(delta.starts_with(&expected), "{delta}");
    assert!(
        delta.contains("\"Start\"") && delta.ends_with("],\"off\":[]}\n\n"),
        "{delta}"
    );
    assert!(position.revision > 1000);
    reader.tasks.stop();
}

#[tokio::test]
async fn who_is_too_slow_for_the_deltas_that_are_held_gets_a_snapshot() {
    let mut reader = Reader::new(Some(0));
    reader.block().await;
    reader.heartbeats(2 * machine_runtime::RING_DELTAS).await;
    assert!(reader.block().await.starts_with("event: snapshot\n"));
    reader.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_every_fifteen_seconds() {
    let mut reader = Reader::new(Some(0));
    assert_eq!(reader.block().await, "retry: 1000\n\n");
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(reader.block().await, ":\n\n");
        assert_eq!(start.elapsed(), KEEP_ALIVE);
    }
    reader.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stays_behind_its_reader_tells_what_it_has() {
    let mut reader = Reader::new(Some(7));
    reader.block().await;
    let start = Instant::now();
    assert!(reader.block().await.starts_with("event: snapshot\n"));
    assert_eq!(start.elapsed(), CATCH_UP);
    reader.tasks.stop();
}

#[tokio::test]
async fn streams_are_counted_while_they_last() {
    let reader = Reader::new(None);
    assert_eq!(reader.site.traffic.gauge(Gauge::Streams), 1);
    let Reader { site, stream, .. } = reader;
    drop(stream);
    assert_eq!(site.traffic.gauge(Gauge::Streams), 0);
}

#[tokio::test]
async fn who_may_not_read_any_more_gets_no_news_however_much_there_is() {
    let file = std::env::temp_dir().join(format!("node-events-{}.toml", std::process::id()));
    std::fs::write(&file, "[anonymous]\nroles = [\"observe\"]\n").unwrap();
    let access = Access::load(&file, Flights::schema()).unwrap();
    let asker = Gate::new(&access, Arc::default(), None).asker(&HeaderMap::new());
    let mut call = Call::plain(Target::Events);
    call.asker = asker;
    let hold = Hold::new(&access, &call, Role::Observe);
    assert!(hold.is_some());
    let mut reader = Reader::held(None, hold);
    reader.heartbeats(1).await;
    while !reader.block().await.starts_with("event: snapshot") {}
    reader.heartbeats(2).await;
    assert!(reader.block().await.starts_with("event: delta"));
    std::fs::write(&file, "").unwrap();
    access.reload().unwrap();
    std::fs::remove_file(&file).unwrap();
    // There is something to tell whenever it is asked.
    reader.heartbeats(1).await;
    assert_eq!(reader.block().await, std::str::from_utf8(REVOKED).unwrap());
    assert!(reader.stream.next().await.is_none());
    reader.tasks.stop();
}
