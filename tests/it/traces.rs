//! What an OpenTelemetry collector is told of mutations, by the definitions that it has published.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use machine_runtime::TraceContext;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Program, command, json, run_command};

/// The trace of the client, and its span.
const INCOMING: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const CLIENT: u64 = 0x00f0_67aa_0ba9_02b7;

const ADD: &str = r#"{"op":"add","states":["Flight1Delayed"]}"#;

/// What a collector answers.
#[derive(Clone, Copy, Debug)]
enum Reply {
    /// It takes everything.
    Taken,
    /// It takes all but so many.
    Rejects(i64),
    /// A status that is none of success, and headers.
    Status(&'static str, &'static str),
    /// Nothing.
    Hangs,
}

/// A request that a collector got.
#[derive(Debug)]
struct Got {
    /// Its first line and its headers.
    head: Vec<String>,
    body: Vec<u8>,
}

impl Got {
    /// Its spans, each with the node that it is from.
    fn spans(&self) -> Vec<(String, Span)> {
        let request = ExportTraceServiceRequest::decode(self.body.as_slice()).unwrap();
        let nodes = request.resource_spans.into_iter().flat_map(|of_node| {
            let resource = of_node.resource.unwrap().attributes;
            let node = text(&resource, "service.instance.id").unwrap();
            let spans = of_node
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            spans.map(move |span| (node.clone(), span))
        });
        nodes.collect()
    }
}

/// A collector of the test's own.
struct Collector {
    url: String,
    got: Receiver<Got>,
}

impl Collector {
    /// On a free port. It gives each request the next of these replies, and the last one again.
    fn new(replies: &'static [Reply]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), replies)
    }

    fn on(listener: TcpListener, replies: &'static [Reply]) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, got) = channel();
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for (i, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let reply = replies[i.min(replies.len() - 1)];
                let Some(stream) = take(stream, reply, &sender) else {
                    continue;
                };
                hanging.push(stream);
            }
        });
        Self { url, got }
    }

    /// The next request.
    fn next(&self) -> Got {
        self.got
            .recv_timeout(PATIENCE)
            .expect("spans that were not sent")
    }

    /// All spans that came, in the order in which they came, as soon as there are `enough`.
    fn until(&self, enough: impl Fn(&[(String, Span)]) -> bool) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        while !enough(&spans) {
            spans.extend(self.next().spans());
        }
        spans
    }

    /// The next span over HTTP of the client's trace.
    fn posted(&self) -> Span {
        let is_ours = |(_, span): &(String, Span)| {
            span.name == "POST /v1/mutations" && span.trace_id == TRACE.to_be_bytes()
        };
        let spans = self.until(|spans| spans.iter().any(is_ours));
        spans.into_iter().find(is_ours).unwrap().1
    }
}

/// Reads a request, and answers it and closes; gives the stream back where it is not to be answered.
fn take(stream: TcpStream, reply: Reply, got: &Sender<Got>) -> Option<TcpStream> {
    let mut read = BufReader::new(&stream);
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        read.read_line(&mut line).unwrap();
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(told) = line.strip_prefix("content-length: ") {
            length = told.parse().unwrap();
        }
        head.push(line.to_owned());
    }
    let mut body = vec![0; length];
    read.read_exact(&mut body).unwrap();
    // The test may have seen enough.
    let _ = got.send(Got { head, body });
    let (status, headers, partly) = match reply {
        Reply::Taken => ("200 OK", "", None),
        Reply::Rejects(spans) => ("200 OK", "", Some(spans)),
        Reply::Status(status, headers) => (status, headers, None),
        Reply::Hangs => return Some(stream),
    };
    let partial_success = partly.map(|rejected_spans| ExportTracePartialSuccess {
        rejected_spans,
        error_message: "no room".to_owned(),
    });
    let answer = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    let length = answer.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/x-protobuf\r\ncontent-length: {length}\r\n\
         connection: close\r\n{headers}\r\n"
    );
    let mut stream = &stream;
    // The program may have ended.
    let _ = stream.write_all(&[head.as_bytes(), &answer].concat());
    None
}

/// A span as `traceparent` names it.
fn context(span: &Span) -> String {
    let context = TraceContext {
        trace: u128::from_be_bytes(span.trace_id[..].try_into().unwrap()),
        span: id(&span.span_id),
        sampled: true,
    };
    context.to_string()
}

/// The id of a span; 0 for the parent of one without.
fn id(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|one| one.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    match attribute(attributes, key)? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("{key} is {other:?}"),
    }
}

/// A root, and where it answers.
fn root(settings: &[(&str, &str)], args: &[&str]) -> (Program, String) {
    let node = ["node", "--addr=:0", "--http-addr=:0"];
    let mut command = command(&[&node, args].concat());
    command.envs(settings.iter().copied());
    let root = Program::start_command(&mut command);
    let addr = root.line_after("root: http://");
    let addr = addr.trim_end_matches('/').to_owned();
    (root, addr)
}

/// Posts a mutation. Returns what the answer says of the outcome, and the span that it names.
async fn post(addr: &str, traceparent: Option<&str>) -> (String, Option<String>) {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut request = Request::post("/v1/mutations")
        .header("host", addr)
        .header("content-type", "application/json");
    if let Some(value) = traceparent {
        request = request.header("traceparent", value);
    }
    let request = request.body(Full::<Bytes>::from(ADD)).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let outcome = body["outcome"].as_str().unwrap_or_default().to_owned();
    let named = head.headers.get("traceparent");
    let named = named.map(|value| value.to_str().unwrap().to_owned());
    (outcome, named)
}

#[tokio::test]
async fn a_mutation_is_a_span_within_the_trace_of_its_client() {
    let collector = Collector::new(&[Reply::Taken]);
    let (root, addr) = root(&[], &["--otlp", &collector.url, "--service=tower"]);
    let (outcome, named) = post(&addr, Some(INCOMING)).await;
    assert_eq!(outcome, "executed");
    let got = collector.next();
    assert_eq!(got.head[0], "POST /v1/traces HTTP/1.1");
    let kind = "content-type: application/x-protobuf".to_owned();
    assert!(got.head.contains(&kind), "{:?}", got.head);
    let request = ExportTraceServiceRequest::decode(got.body.as_slice()).unwrap();
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    for (key, value) in [
        ("service.name", "tower"),
        ("service.instance.id", "root"),
        ("service.version", flights::cli::VERSION),
        ("machine.role", "root"),
    ] {
        assert_eq!(text(&resource.attributes, key).as_deref(), Some(value));
    }
    let spans = got.spans();
    let mut spans = spans.iter().map(|(_, span)| span);
    let span = spans
        .find(|span| span.name == "POST /v1/mutations")
        .unwrap();
    assert_eq!(span.kind(), SpanKind::Server);
    assert_eq!(span.trace_id, TRACE.to_be_bytes());
    assert_eq!(span.parent_span_id, CLIENT.to_be_bytes());
    assert_eq!(named, Some(context(span)));
    let status = attribute(&span.attributes, "http.response.status_code");
    assert_eq!(status, Some(&Value::IntValue(200)));
    assert!(root.interrupt().success());
}

#[tokio::test]
async fn what_a_collector_has_no_time_for_is_sent_again_and_what_it_rejects_is_not() {
    let collector = Collector::new(&[
        Reply::Status("429 Too Many Requests", "retry-after: 0\r\n"),
        Reply::Status("503 Service Unavailable", "retry-after: 0\r\n"),
        Reply::Rejects(1),
        Reply::Status("400 Bad Request", ""),
        Reply::Taken,
    ]);
    let (root, addr) = root(&[], &["--otlp", &collector.url]);
    post(&addr, Some(INCOMING)).await;
    let [first, second, third] = [(); 3].map(|()| collector.next().body);
    assert!(first == second && second == third);
    // Neither what was rejected nor what was wrong comes again.
    let mut seen = vec![first];
    for _ in 0..2 {
        post(&addr, Some(INCOMING)).await;
        let next = collector.next().body;
        assert!(!seen.contains(&next));
        seen.push(next);
    }
    assert!(root.interrupt().success());
    assert!(collector.got.try_recv().is_err());
}

#[tokio::test]
async fn a_collector_that_hangs_holds_nobody_up() {
    let collector = Collector::new(&[Reply::Hangs]);
    let (root, addr) = root(&[], &["--otlp", &collector.url]);
    post(&addr, Some(INCOMING)).await;
    collector.posted();
    // It hangs from now on.
    for _ in 0..50 {
        let (outcome, named) = post(&addr, Some(INCOMING)).await;
        assert_eq!((outcome.as_str(), named.is_some()), ("executed", true));
    }
    assert!(root.interrupt().success());
}

#[tokio::test]
async fn a_collector_that_comes_later_is_told_from_then_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let (root, addr) = root(&[], &["--otlp", &format!("http://{at}")]);
    let (outcome, _) = post(&addr, Some(INCOMING)).await;
    assert_eq!(outcome, "executed");
    let collector = Collector::on(TcpListener::bind(at).unwrap(), &[Reply::Taken]);
    let (_, named) = post(&addr, Some(INCOMING)).await;
    let named = named.unwrap();
    // With the span before, or without where that has been given up on.
    collector.until(|spans| spans.iter().any(|(_, span)| named == context(span)));
    assert!(root.interrupt().success());
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let collector = Collector::new(&[Reply::Taken]);
    let (root, addr) = root(&[], &["--otlp", &collector.url]);
    post(&addr, Some(INCOMING)).await;
    assert!(root.interrupt().success());
    collector.posted();
}

#[tokio::test]
async fn without_a_collector_there_are_no_traces() {
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", "")];
    let (root, addr) = root(&settings, &[]);
    for traceparent in [None, Some(INCOMING)] {
        let answer = post(&addr, traceparent).await;
        assert_eq!(answer, ("executed".to_owned(), None));
    }
    assert!(root.interrupt().success());
}

#[tokio::test]
async fn the_standard_variables_say_where_and_with_which_headers() {
    let collector = Collector::new(&[Reply::Taken]);
    let whole = format!("{}/other/path", collector.url);
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &whole),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=of-all"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "authorization=Basic%20eA==",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000"),
        ("OTEL_SERVICE_NAME", "of-the-standard"),
    ];
    let (root, addr) = root(&settings, &[]);
    post(&addr, Some(INCOMING)).await;
    let got = collector.next();
    let told = ExportTraceServiceRequest::decode(got.body.as_slice()).unwrap();
    let resource = told.resource_spans[0].resource.as_ref().unwrap();
    let service = text(&resource.attributes, "service.name").unwrap();
    assert_eq!(service, "of-the-standard");
    let head = got.head;
    assert_eq!(head[0], "POST /other/path HTTP/1.1");
    assert!(
        head.contains(&"authorization: Basic eA==".to_owned()),
        "{head:?}"
    );
    assert!(root.interrupt().success());
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str())];
    let (root, addr) = self::root(&settings, &["--trace-ratio=0"]);
    // Chance begins none; what comes is kept all the same.
    assert_eq!(post(&addr, None).await.1, None);
    assert!(post(&addr, Some(INCOMING)).await.1.is_some());
    assert_eq!(collector.next().head[0], "POST /v1/traces HTTP/1.1");
    assert!(root.interrupt().success());
}

#[test]
fn a_timeout_that_is_no_number_is_wrong_usage() {
    for name in [
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    ] {
        for args in [&["tree", "--processes"][..], &["node", "--addr=:0"]] {
            let mut command = command(args);
            let ended = run_command(command.args(["--otlp=localhost:1"]).env(name, "5s"));
            assert_eq!(ended.code, Some(2), "{}", ended.stderr);
            let part = format!("{name}: `5s` is no number");
            assert!(ended.stderr.contains(&part), "{}", ended.stderr);
        }
    }
}

/// What the nodes at these addresses have sent of spans, by their own account.
async fn sent(addrs: &[String]) -> Vec<u64> {
    let mut counts = Vec::new();
    for addr in addrs {
        let answer = machine_node::client::get(addr, "/metrics", "text/plain").await;
        let metrics = String::from_utf8(answer.unwrap().body.to_vec()).unwrap();
        let line = metrics.lines().find(|line| {
            line.starts_with("machine_exported_total{")
                && line.contains("\"otlp\"")
                && line.contains("\"sent\"")
        });
        counts.push(line.unwrap().rsplit(' ').next().unwrap().parse().unwrap());
    }
    counts
}

#[tokio::test]
async fn each_node_of_a_process_counts_its_own_spans() {
    let collector = Collector::new(&[Reply::Taken]);
    let args = [
        "tree",
        "--fanout=2",
        "--random=1h",
        "--http-port=0",
        "--rpc-port=0",
    ];
    let more = ["--trace-ratio=0", "--otlp", &collector.url];
    let tree = Program::start(&[&args[..], &more].concat());
    let lines = tree.lines_until(|line| line.contains("curl -N "));
    let addrs: Vec<String> = ["root", "rep-1", "rep-2"]
        .iter()
        .map(|name| {
            let start = format!("{name}: http://");
            let found = lines.iter().find_map(|line| line.strip_prefix(&start));
            found.unwrap().trim_end_matches('/').to_owned()
        })
        .collect();
    post(&addrs[0], Some(INCOMING)).await;
    let names = |spans: &[(String, Span)]| {
        let mut names: Vec<_> = spans.iter().map(|(node, _)| node.clone()).collect();
        names.sort();
        names.dedup();
        names.len()
    };
    let spans = collector.until(|spans| names(spans) == 3);
    let of = |name: &str| spans.iter().filter(|(node, _)| node == name).count() as u64;
    let expected = ["root", "rep-1", "rep-2"].map(of);
    // The last answer may not have been seen yet.
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let counts = sent(&addrs).await;
        if counts == expected {
            break;
        }
        assert!(
            std::time::Instant::now() < end,
            "{counts:?}, not {expected:?}"
        );
    }
    assert!(tree.interrupt().success());
}

#[tokio::test]
async fn the_command_sends_the_trace_that_it_is_part_of() {
    let collector = Collector::new(&[Reply::Taken]);
    let (root, addr) = root(&[], &["--otlp", &collector.url]);
    let args = ["mutate", "add", "Flight1Delayed", "--node", &addr];
    let other = INCOMING.replace("4bf9", "5bf9");
    for (variable, flag) in [
        (INCOMING, None),
        (other.as_str(), Some(INCOMING)),
        ("not ours", Some(INCOMING)),
    ] {
        let mut command = command(&args);
        command.env("TRACEPARENT", variable);
        command.args(flag.map(|value| format!("--traceparent={value}")));
        let ended = run_command(&mut command);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.starts_with("executed at "), "{}", ended.stdout);
        assert_eq!(collector.posted().parent_span_id, CLIENT.to_be_bytes());
    }
    let mut unheard = command(&args);
    let ended = run_command(unheard.env("TRACEPARENT", "not ours"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ended = run_command(unheard.arg("--traceparent=not one"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(root.interrupt().success());
}

/// The nodes of a tree of three tiers, and where they answer.
const NAMES: [&str; 4] = ["root", "rep-1", "rep-1-1", "rep-1-2"];

/// A tree as one program.
fn tree(collector: &Collector, arg: &str) -> (Vec<Program>, String) {
    let program = Program::start(&[
        "tree",
        "--fanout=1,2",
        "--random=1h",
        "--http-port=0",
        "--rpc-port=0",
        "--trace-ratio=0",
        "--otlp",
        &collector.url,
        arg,
    ]);
    let lines = program.lines_until(|line| line.contains("curl -N "));
    let mut leaves = lines
        .iter()
        .filter_map(|line| line.strip_prefix("rep-1-1: http://"));
    let leaf = leaves.next_back().unwrap();
    let leaf = leaf.trim_end_matches('/').to_owned();
    (vec![program], leaf)
}

/// Waits until a leaf follows its own parent, and not the root because that was there sooner.
async fn at_home(leaf: &str) {
    crate::links::linked(leaf, |links| {
        links["upstream"]["state"] == "following" && links["upstream"]["parent"] == "rep-1"
    })
    .await;
}

/// A tree of nodes that know nothing of each other but addresses. Each has something to show.
async fn nodes(collector: &Collector) -> (Vec<Program>, String) {
    let mut programs = Vec::new();
    let mut leaf = String::new();
    let mut above: Vec<String> = Vec::new();
    for name in NAMES {
        let tier = name.matches('-').count();
        above.truncate(tier);
        let mut args = vec!["node", "--addr=:0", "--http-addr=:0", "--trace-ratio=0"];
        args.extend(["--otlp", &collector.url, "--name", name]);
        if let Some(parent) = above.last() {
            args.extend(["--parent", parent]);
        }
        let program = Program::start(&args);
        let rpc = program.line_after(&format!("{name}: tarpc "));
        let http = program.line_after(&format!("{name}: http://"));
        let http = http.trim_end_matches('/').to_owned();
        let end = std::time::Instant::now() + PATIENCE;
        while json(&http, "/readyz").await["ready"] != true {
            assert!(
                std::time::Instant::now() < end,
                "{name} has nothing to show"
            );
        }
        if name == "rep-1-1" {
            leaf = http;
        }
        above.push(rpc);
        programs.push(program);
    }
    (programs, leaf)
}

/// What each span is, in the order of the way of a mutation that was posted to `rep-1-1`: the node, its name, its
/// kind, and the place of its parent in this list, where that is certain.
const WAY: [(&str, &str, SpanKind, Option<usize>); 7] = [
    ("rep-1-1", "POST /v1/mutations", SpanKind::Server, None),
    ("rep-1-1", "mutate", SpanKind::Client, Some(0)),
    ("rep-1", "mutate", SpanKind::Server, Some(1)),
    ("rep-1", "mutate", SpanKind::Client, Some(2)),
    ("root", "mutate", SpanKind::Server, Some(3)),
    ("root", "transition", SpanKind::Internal, Some(4)),
    ("root", "handler", SpanKind::Internal, Some(5)),
];

/// Where a mutation becomes visible.
const VISIBLE: [&str; 3] = ["rep-1", "rep-1-1", "rep-1-2"];

/// By how much clocks of one host may differ: the machine's stopwatch is not the clock of the day.
const GRAIN: u64 = 1_000_000;

/// A mutation that is posted to a leaf is one trace with every hop in it.
async fn one_mutation(collector: &Collector, leaf: &str) {
    let (outcome, _) = post(leaf, Some(INCOMING)).await;
    assert_eq!(outcome, "executed");
    let is = |(from, span): &(String, Span), node: &str, name: &str, kind: SpanKind| {
        from == node && span.name == name && span.kind() == kind
    };
    let spans = collector.until(|spans| {
        let some = |node: &str, name: &str, kind| spans.iter().any(|one| is(one, node, name, kind));
        WAY.iter()
            .all(|(node, name, kind, _)| some(node, name, *kind))
            && VISIBLE
                .iter()
                .all(|node| some(node, "visible", SpanKind::Consumer))
    });
    for (_, span) in &spans {
        assert_eq!(span.trace_id, TRACE.to_be_bytes(), "{spans:#?}");
    }
    // Each hop is there once, and within the one before.
    let mut way: Vec<&Span> = Vec::new();
    for (node, name, kind, parent) in WAY {
        let within = parent.map_or(CLIENT, |parent| id(&way[parent].span_id));
        let mut found = spans
            .iter()
            .filter(|one| is(one, node, name, kind) && id(&one.1.parent_span_id) == within);
        let span = found.next();
        let (_, span) = span.unwrap_or_else(|| panic!("{node} {name} in {spans:#?}"));
        assert!(
            name == "handler" || found.next().is_none(),
            "{node} {name}: {spans:#?}"
        );
        way.push(span);
    }
    let transition = way[5];
    let position = text(&transition.attributes, "machine.position");
    assert!(position.is_some());
    assert_eq!(text(&way[0].attributes, "machine.position"), position);
    assert_eq!(
        text(&transition.attributes, "machine.outcome").unwrap(),
        "executed"
    );
    for node in VISIBLE {
        let visible = |one: &&(String, Span)| is(one, node, "visible", SpanKind::Consumer);
        let mut found = spans.iter().filter(visible);
        let (_, span) = found.next().unwrap();
        assert!(found.next().is_none(), "{node}: {spans:#?}");
        let links: Vec<_> = span.links.iter().map(|link| id(&link.span_id)).collect();
        assert_eq!(links, [id(&transition.span_id)], "{node}");
        assert!(text(&span.attributes, "machine.position").is_some());
        assert!(span.end_time_unix_nano + GRAIN >= transition.start_time_unix_nano);
    }
    // No span is without a parent that is there, nor before it.
    for (node, span) in &spans {
        let parent = id(&span.parent_span_id);
        if parent == CLIENT {
            continue;
        }
        let mut parents = spans
            .iter()
            .filter(|(_, other)| id(&other.span_id) == parent);
        let found = parents.next();
        let (_, found) = found.unwrap_or_else(|| panic!("{node}: {span:#?} in {spans:#?}"));
        let (begins, ends) = (span.start_time_unix_nano, span.end_time_unix_nano);
        assert!(
            begins + GRAIN >= found.start_time_unix_nano,
            "{span:#?} in {found:#?}"
        );
        assert!(begins <= ends, "{span:#?}");
    }
}

#[tokio::test]
async fn one_mutation_is_one_trace_through_three_tiers_of_one_process() {
    let collector = Collector::new(&[Reply::Taken]);
    let (programs, leaf) = tree(&collector, "--log=warn");
    at_home(&leaf).await;
    one_mutation(&collector, &leaf).await;
    for program in programs {
        assert!(program.interrupt().success());
    }
}

#[tokio::test]
async fn one_mutation_is_one_trace_through_three_tiers_of_processes() {
    let collector = Collector::new(&[Reply::Taken]);
    let (_programs, leaf) = tree(&collector, "--processes");
    at_home(&leaf).await;
    one_mutation(&collector, &leaf).await;
}

#[tokio::test]
async fn one_mutation_is_one_trace_through_nodes_of_three_tiers() {
    let collector = Collector::new(&[Reply::Taken]);
    let (_programs, leaf) = nodes(&collector).await;
    one_mutation(&collector, &leaf).await;
}
