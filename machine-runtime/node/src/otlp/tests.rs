use std::sync::Mutex;

use machine_runtime::observe::{Span as Told, SpanKind, Traced};
use machine_runtime::{States as _, TraceContext};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::fixture::Flights;
use crate::shutdown::Tasks;

/// A collector that gives each request the next of its answers, and the last one again.
struct Collector {
    url: String,
    got: Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>,
    tasks: Tasks,
}

/// How long anything may take before a test gives up: never the time that it should take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What it answers; empty: nothing at all, ever.
type Reply = Vec<u8>;

fn reply(status: &str, headers: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn taken(rejected: i64) -> Reply {
    let answer = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "too many".to_owned(),
        }),
    };
    reply("200 OK", "", &answer.encode_to_vec())
}

impl Collector {
    async fn new(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let got = Arc::<Mutex<Vec<_>>>::default();
        let tasks = Tasks::default();
        let all = Arc::clone(&got);
        tasks.spawn_until_stopped(async move {
            let mut kept = Vec::new();
            for i in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = request(&mut stream).await;
                all.lock().unwrap().push(request);
                let reply = &replies[i.min(replies.len() - 1)];
                if reply.is_empty() {
                    kept.push(stream);
                    continue;
                }
                stream.write_all(reply).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Self { url, got, tasks }
    }

    fn got(&self) -> Vec<(String, ExportTraceServiceRequest)> {
        self.got.lock().unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn request(stream: &mut TcpStream) -> (String, ExportTraceServiceRequest) {
    let mut read = Vec::new();
    loop {
        stream.read_buf(&mut read).await.unwrap();
        let end = read.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else { continue };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if read.len() == end + 4 + length {
            let body = ExportTraceServiceRequest::decode(&read[end + 4..]).unwrap();
            return (head, body);
        }
    }
}

/// Tells of so many spans and sends them as at the end of a program.
async fn send(config: &OtlpConfig, spans: usize, last: Duration) -> [u64; 3] {
    let (observers, exports) = (Observers::new(), Exports::default());
    let origin = Origin {
        service: "flights",
        node: "rep-1",
        version: "1.2.3",
        role: "replicant",
    };
    let schema = Arc::clone(Flights::schema());
    let otlp = Otlp::new(config, &origin, schema, &observers, exports.clone());
    let mut otlp = otlp.unwrap();
    otlp.last = last;
    Arc::get_mut(&mut otlp.post).unwrap().pause = Duration::ZERO;
    for _ in 0..spans {
        let traced = Traced::within(TraceContext::root(true));
        let span = Told::ended(
            traced,
            SpanKind::Client,
            "mutate",
            std::time::SystemTime::now(),
        );
        otlp.take(&Event::Span(span));
    }
    otlp.run(std::future::ready(())).await;
    exports.of(Exporter::Otlp).read().map(|(_, count)| count)
}

/// What comes of `spans` spans where a collector answers so, and how many requests it took.
async fn came_of(spans: usize, replies: Vec<Reply>) -> ([u64; 3], usize) {
    let collector = Collector::new(replies).await;
    let counts = send(&OtlpConfig::at(&collector.url), spans, PATIENCE).await;
    (counts, collector.got().len())
}

#[tokio::test]
async fn spans_say_whose_they_are_and_come_with_headers() {
    let collector = Collector::new(vec![taken(0)]).await;
    let config = OtlpConfig::at(&collector.url).with_headers("api-key=a%20b");
    assert_eq!(send(&config, 2, PATIENCE).await, [2, 0, 0]);
    let got = collector.got();
    let [(head, request)] = &got[..] else {
        panic!("{got:?}")
    };
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    assert!(head.contains("api-key: a b"), "{head}");
    let [of_node] = &request.resource_spans[..] else {
        panic!("{request:?}")
    };
    let attributes = &of_node.resource.as_ref().unwrap().attributes;
    let attributes = attributes.iter().map(|one| {
        let value = one.value.clone().unwrap().value.unwrap();
        let Value::StringValue(value) = value else {
            panic!("{value:?}")
        };
        (one.key.as_str(), value)
    });
    let expected = [
        ("service.name", "flights"),
        ("service.instance.id", "rep-1"),
        ("service.version", "1.2.3"),
        ("machine.role", "replicant"),
    ];
    let expected = expected.map(|(key, value)| (key, value.to_owned()));
    assert_eq!(attributes.collect::<Vec<_>>(), expected);
    let [of_scope] = &of_node.scope_spans[..] else {
        panic!("{of_node:?}")
    };
    assert_eq!(of_scope.scope.as_ref().unwrap().name, "machine-node");
    assert_eq!(of_scope.spans.len(), 2);
}

#[tokio::test]
async fn batches_are_bounded_and_so_is_what_waits() {
    assert_eq!(came_of(1000, vec![taken(0)]).await, ([1000, 0, 0], 2));
    let more = MOST_WAITING + 10;
    let all = count(MOST_WAITING);
    assert_eq!(came_of(more, vec![taken(0)]).await, ([all, 10, 0], 8));
}

#[tokio::test]
async fn what_a_collector_rejects_has_failed_and_is_not_sent_again() {
    assert_eq!(came_of(5, vec![taken(2)]).await, ([3, 0, 2], 1));
    assert_eq!(came_of(5, vec![taken(-1)]).await, ([5, 0, 0], 1));
    assert_eq!(came_of(5, vec![taken(9)]).await, ([0, 0, 5], 1));
    let no_protobuf = reply("200 OK", "", b"\xff{}");
    assert_eq!(came_of(5, vec![no_protobuf]).await, ([5, 0, 0], 1));
}

#[tokio::test]
async fn what_may_pass_is_tried_three_times_and_nothing_else_is() {
    let busy = || reply("429 Too Many Requests", "retry-after: 0\r\n", b"");
    let away = || reply("503 Service Unavailable", "", b"");
    let dated = || reply("502 Bad Gateway", "retry-after: Fri, 31 Dec 1999\r\n", b"");
    assert_eq!(
        came_of(3, vec![busy(), away(), taken(0)]).await,
        ([3, 0, 0], 3)
    );
    assert_eq!(
        came_of(3, vec![away(), dated(), busy(), taken(0)]).await,
        ([0, 0, 3], 3)
    );
    for status in [
        "400 Bad Request",
        "404 Not Found",
        "500 Internal Server Error",
    ] {
        let wrong = reply(status, "", b"");
        assert_eq!(came_of(3, vec![wrong, taken(0)]).await, ([0, 0, 3], 1));
    }
    // As long as the collector says, even where that is longer than there is time.
    let later = reply("429 Too Many Requests", "retry-after: 20\r\n", b"");
    let collector = Collector::new(vec![later, taken(0)]).await;
    let config = OtlpConfig::at(&collector.url);
    assert_eq!(send(&config, 3, LAST).await, [0, 0, 3]);
    assert!(collector.got().len() < 2);
}

#[tokio::test]
async fn a_collector_that_hangs_costs_the_spans_and_the_time_at_the_end() {
    let began = Instant::now();
    let collector = Collector::new(vec![Reply::new()]).await;
    let config = OtlpConfig::at(&collector.url);
    assert_eq!(send(&config, 700, LAST).await, [0, 0, 700]);
    assert!(began.elapsed() >= LAST);
    // One that answers after an attempt that hung gets them all the same.
    let collector = Collector::new(vec![Reply::new(), taken(0)]).await;
    let mut config = OtlpConfig::at(&collector.url);
    config.timeout = Some(Duration::from_millis(20));
    assert_eq!(send(&config, 3, PATIENCE).await, [3, 0, 0]);
}

#[tokio::test]
async fn nobody_there_costs_the_spans() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(send(&OtlpConfig::at(url), 3, PATIENCE).await, [0, 0, 3]);
}

#[tokio::test]
async fn what_is_no_url_is_refused_at_the_start() {
    for url in ["", "ftp://c/x", "http://", "c:port"] {
        let error = Post::new(&OtlpConfig::at(url)).unwrap_err().to_string();
        assert!(error.contains("http://localhost:4318"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_is_none_of_success() {
    let other = Collector::new(vec![taken(0)]).await;
    let moved = format!("location: {}\r\n", other.url);
    for status in ["302 Found", "307 Temporary Redirect"] {
        let moved = reply(status, &moved, b"");
        assert_eq!(came_of(3, vec![moved]).await, ([0, 0, 3], 1));
    }
    assert!(other.got().is_empty());
}

#[tokio::test]
async fn a_collector_that_asks_for_no_pause_is_not_asked_without_one() {
    let busy = reply("429 Too Many Requests", "retry-after: 0\r\n", b"");
    let collector = Collector::new(vec![busy, taken(0)]).await;
    let mut post = Post::new(&OtlpConfig::at(&collector.url)).unwrap();
    post.pause = Duration::from_millis(100);
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans::default()],
    };
    let body = Bytes::from(request.encode_to_vec());
    let began = Instant::now();
    assert_eq!(post.deliver(body).await.unwrap(), 0);
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn who_we_are_is_in_a_header_and_not_shown() {
    let collector = Collector::new(vec![taken(0)]).await;
    let url = collector.url.replace("http://", "http://me:hidden@") + "?token=hidden";
    let config = OtlpConfig::at(url);
    assert!(!format!("{config:?}").contains("hidden"));
    assert_eq!(send(&config, 1, PATIENCE).await, [1, 0, 0]);
    let (head, _) = &collector.got()[0];
    assert!(head.starts_with("POST /v1/traces?token=hidden "), "{head}");
    assert!(head.contains("authorization: Basic bWU6aGlkZGVu"), "{head}");
}
