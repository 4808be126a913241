//! The limits of a node: what is over them is answered so that a client can tell, or closed, and counted.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::{PATIENCE, Program, command, run};

/// A node, and where it listens.
pub(crate) struct Served {
    pub(crate) program: Program,
    pub(crate) rpc: String,
    pub(crate) http: String,
}

impl Served {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_command(&mut node(args))
    }

    pub(crate) fn start_command(command: &mut Command) -> Self {
        let program = Program::start_command(command);
        let after = |mark: &'static str| {
            program
                .line(move |line| Some(line.split_once(mark)?.1.trim_end_matches('/').to_owned()))
        };
        let (rpc, http) = (after(": tarpc "), after(": http://"));
        Self { program, rpc, http }
    }

    /// How often a limit held somebody back.
    pub(crate) async fn limited(&self, limit: &str) -> u64 {
        let label = format!("limit=\"{limit}\"");
        sum(
            &self.text("/metrics").await,
            "machine_limited_total",
            &label,
        )
    }

    /// Waits until a limit has held somebody back more than `before` times.
    pub(crate) async fn limits(&self, limit: &str, before: u64) {
        let moved = async {
            while self.limited(limit).await <= before {
                tokio::task::yield_now().await;
            }
        };
        let moved = timeout(PATIENCE, moved).await;
        assert!(moved.is_ok(), "{limit} holds nobody back");
    }

    /// What the node answers, however long that takes where this computer is busy.
    pub(crate) async fn text(&self, path: &str) -> String {
        let answer = async {
            loop {
                match machine_node::client::get(&self.http, path, "*/*").await {
                    Ok(answer) => return answer,
                    Err(error) => println!("{path}: {error:#}"),
                }
            }
        };
        let answer = timeout(PATIENCE, answer).await;
        let answer = answer.unwrap_or_else(|_late| panic!("{path} is not answered"));
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    /// What comes until the node closes the connection, on which this is said.
    async fn say(&self, words: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).await.unwrap();
        // It may be closed before all is said.
        let _ = stream.write_all(words.as_bytes()).await;
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection stays open");
        String::from_utf8(answer).unwrap()
    }
}

/// What the samples of `name` with this label come to. There is one at least.
#[track_caller]
pub(crate) fn sum(metrics: &str, name: &str, label: &str) -> u64 {
    let start = format!("{name}{{");
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with(&start) && line.contains(label));
    let values: Vec<u64> = lines
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(!values.is_empty(), "no {name} with {label}");
    values.iter().sum()
}

/// A connection to a node from an address of this computer.
async fn from(host: &str, node: &Served) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{host}:0").parse().unwrap()).unwrap();
    socket.connect(node.http.parse().unwrap()).await.unwrap()
}

/// What comes over a connection next.
async fn answered(stream: &mut TcpStream) -> String {
    let mut buffer = vec![0; 64 * 1024];
    let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
    let read = read.unwrap().unwrap();
    String::from_utf8(buffer[..read].to_vec()).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

/// A node on ports of its own.
pub(crate) fn node(args: &[&str]) -> Command {
    let mut command = command(&["node", "--addr=127.0.0.1:0", "--http-addr=127.0.0.1:0"]);
    command.args(args);
    command
}

#[track_caller]
fn check(answer: &str, status: u16, code: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], code, "{body}");
}

#[tokio::test]
async fn requests_that_are_too_long_or_too_slow_are_told_so_and_counted() {
    let node = Served::start(&[
        "--max-line=1k",
        "--max-head=8k",
        "--max-body=100",
        "--head-time=1s",
        "--body-time=1s",
        "--idle-time=4s",
    ]);
    for limit in [
        "line",
        "head",
        "head_time",
        "body",
        "body_time",
        "idle_time",
        "garbage",
    ] {
        assert_eq!(node.limited(limit).await, 0, "{limit}");
    }
    let long = "x".repeat(1100);
    let line = format!("GET /?{long} HTTP/1.1\r\nhost: x\r\n\r\n");
    check(&node.say(&line).await, 414, "line_too_long");
    // One behind empty lines, and one that does not end, are so, too.
    check(
        &node.say(&format!("\r\n\r\n{line}")).await,
        414,
        "line_too_long",
    );
    check(
        &node.say(&format!("GET /{}", "x".repeat(3000))).await,
        414,
        "line_too_long",
    );
    let fits = format!(
        "GET /v1/{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        &long[..900]
    );
    check(&node.say(&fits).await, 404, "unknown_path");
    let head = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    check(&node.say(&head).await, 431, "head_too_large");
    let many = "x-many: 1\r\n".repeat(200);
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    check(&node.say(&many).await, 431, "head_too_large");
    check(
        &node.say("\u{1}\u{2}\u{3} what\r\n\r\n").await,
        400,
        "bad_request",
    );
    check(
        &node.say("GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await,
        408,
        "head_late",
    );
    let post = |length: usize, body: &str| {
        format!(
            "POST /v1/mutations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    check(
        &node.say(&post(101, &" ".repeat(101))).await,
        413,
        "too_large",
    );
    check(&node.say(&post(50, "{")).await, 408, "body_late");
    // Nothing is said, and nothing more after an answer.
    assert_eq!(node.say("").await, "");
    let kept = node.say("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(kept.starts_with("HTTP/1.1 200 "), "{kept}");
    for (limit, count) in [
        ("line", 3),
        ("head", 2),
        ("head_time", 1),
        ("body", 1),
        ("body_time", 1),
        ("idle_time", 2),
    ] {
        assert_eq!(node.limited(limit).await, count, "{limit}");
    }
    let metrics = node.text("/metrics").await;
    for status in ["408", "413", "414", "431"] {
        let counted = |line: &&str| {
            line.starts_with("machine_http_requests_total{")
                && line.contains(&format!("status=\"{status}\""))
                && !line.ends_with(" 0")
        };
        assert!(
            metrics.lines().any(|line| counted(&line)),
            "{status} is not counted"
        );
    }
}

#[tokio::test]
async fn a_head_may_take_its_time_while_its_connection_answers() {
    let node = Served::start(&["--head-time=1s", "--idle-time=3s"]);
    // A request while another waits is not a head that is late: it is read when its turn comes.
    let position = node.json("/v1/links").await["position"].clone();
    let position = position.as_str().unwrap();
    let waits = format!("GET /v1/states?after={position}&wait=5 HTTP/1.1\r\nhost: x\r\n\r\n");
    let next = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(&node.http).await.unwrap();
    stream.write_all(waits.as_bytes()).await.unwrap();
    let (start, end) = next.split_at(30);
    stream.write_all(start.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    let read = timeout(PATIENCE, stream.read_exact(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 304");
    stream.write_all(end.as_bytes()).await.unwrap();
    let mut rest = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut rest)).await;
    read.unwrap().unwrap();
    assert!(rest.contains("HTTP/1.1 200 OK"), "{rest}");
    // A stream on which nothing happens says so often enough to stay.
    let mut stream = TcpStream::connect(&node.http).await.unwrap();
    let events = "GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(events.as_bytes()).await.unwrap();
    let mut comments = 0;
    let mut buffer = [0; 16 * 1024];
    while comments < 6 {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap();
        let read = read.unwrap();
        assert!(read > 0, "the stream ends after {comments}");
        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
        comments += text.matches("\r\n:\n\n").count();
    }
    assert_eq!(node.limited("idle_time").await, 0);
}

#[tokio::test]
async fn a_client_has_its_share_and_everybody_theirs() {
    let node = Served::start(&[
        "--max-waits=3",
        "--max-waits-per-client=2",
        "--max-streams=1",
    ]);
    let position = node.json("/v1/links").await["position"].clone();
    let epoch = position
        .as_str()
        .unwrap()
        .split('.')
        .next()
        .unwrap()
        .to_owned();
    let wait = format!("/v1/states?min_rev={epoch}.9999999&wait=30");
    let waiting = async |count: u64| {
        let waits = format!(" {count}");
        let waits =
            |line: &str| line.starts_with("machine_http_waiting{") && line.ends_with(&waits);
        let all = async { while !node.text("/metrics").await.lines().any(waits) {} };
        timeout(PATIENCE, all).await.unwrap();
    };
    let mut held = Vec::new();
    for (host, count) in [("127.0.0.7", 1), ("127.0.0.7", 2)] {
        let mut stream = from(host, &node).await;
        stream.write_all(get(&wait).as_bytes()).await.unwrap();
        waiting(count).await;
        held.push(stream);
    }
    let mut third = from("127.0.0.7", &node).await;
    third.write_all(get(&wait).as_bytes()).await.unwrap();
    let answer = answered(&mut third).await;
    check(&answer, 429, "too_many_waits");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    // The connection is as good as before.
    third.write_all(get("/healthz").as_bytes()).await.unwrap();
    assert!(answered(&mut third).await.starts_with("HTTP/1.1 200 "));
    let mut other = from("127.0.0.8", &node).await;
    other.write_all(get(&wait).as_bytes()).await.unwrap();
    waiting(3).await;
    held.push(other);
    let mut last = from("127.0.0.9", &node).await;
    last.write_all(get(&wait).as_bytes()).await.unwrap();
    check(&answered(&mut last).await, 503, "too_many_waits");
    held.clear();
    waiting(0).await;
    let mut stream = from("127.0.0.7", &node).await;
    stream
        .write_all(get("/v1/events").as_bytes())
        .await
        .unwrap();
    assert!(answered(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let mut second = from("127.0.0.8", &node).await;
    second
        .write_all(get("/v1/events").as_bytes())
        .await
        .unwrap();
    check(&answered(&mut second).await, 503, "too_many_streams");
    for limit in ["waits", "waits_per_client", "streams"] {
        assert!(node.limited(limit).await > 0, "{limit}");
    }
}

#[tokio::test]
async fn a_client_writes_so_much_at_a_time_and_so_fast() {
    let node = Served::start(&["--max-writes-per-client=1", "--write-rate=2"]);
    // Mutations that are refused are so before anything of them is read, and say that they were not run.
    let body = r#"{"op":"remove","states":["Exception"]}"#;
    let write = format!(
        "POST /v1/mutations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut slow = from("127.0.0.7", &node).await;
    slow.write_all(write.as_bytes()).await.unwrap();
    let mut writer = from("127.0.0.7", &node).await;
    let refused = loop {
        writer
            .write_all([write.as_str(), body].concat().as_bytes())
            .await
            .unwrap();
        let answer = answered(&mut writer).await;
        if !answer.starts_with("HTTP/1.1 200 ") && !answer.contains("too_fast") {
            break answer;
        }
    };
    check(&refused, 429, "too_many_writes");
    assert!(refused.contains(r#""may_have_run":false"#), "{refused}");
    slow.write_all(body.as_bytes()).await.unwrap();
    let done = answered(&mut slow).await;
    assert!(
        done.starts_with("HTTP/1.1 200 ") || done.contains("too_fast"),
        "{done}"
    );
    let mut fast = from("127.0.0.10", &node).await;
    let mut answers = Vec::new();
    let all = [write.as_str(), body].concat();
    while answers.len() < 1000 && !answers.iter().any(|answer: &String| answer.contains("429")) {
        fast.write_all(all.as_bytes()).await.unwrap();
        answers.push(answered(&mut fast).await);
    }
    check(answers.last().unwrap(), 429, "too_fast");
    for limit in ["writes_per_client", "write_rate"] {
        assert!(node.limited(limit).await > 0, "{limit}");
    }
}

#[test]
fn limits_that_cannot_be_are_told_with_what_would_be_right() {
    for (flags, why) in [
        (
            &["--max-connections=10", "--max-connections-per-address=11"][..],
            "--max-connections-per-address: 11 is more than --max-connections, which is 10",
        ),
        (
            &["--max-waits-per-client=9000"],
            "--max-waits-per-client: 9000 is more than --max-waits, which is 8192",
        ),
        (
            &["--max-line=9k", "--max-head=8k"],
            "--max-line: 9216 is more than --max-head",
        ),
        (
            &["--max-line=1k", "--max-head=4k"],
            "--max-head: 4096 bytes are too few, it is 8192 at least",
        ),
        (&["--head-time=10ms"], "--head-time: it is 1s at least"),
        (&["--idle-time=1s"], "--idle-time: it is 3s at least"),
        (&["--max-streams=0"], "it is a number from 1 on"),
        (&["--max-body=0"], "it has to be more than nothing"),
        (&["--handshake-time=0s"], "it has to be longer than nothing"),
    ] {
        for command in [&["node", "--addr=:0"][..], &["tree"]] {
            let ended = run(&[command, flags].concat());
            assert_eq!(ended.code, Some(2), "{flags:?}");
            assert!(ended.stderr.contains(why), "{flags:?}: {}", ended.stderr);
        }
    }
}
