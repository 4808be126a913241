//! Nodes on hosts, and what they say.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use machine_node::client::{self, Answer};
use machine_runtime::Position;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::exposition::Exposition;
use crate::support::{PATIENCE, Program, command, signal};

use super::net::{Net, on};

const RPC: u16 = 19700;
const HTTP: u16 = 18700;

/// How long a node may keep a question that waits: less than its client does.
const HOLD: u64 = 4;

/// How long it is until somebody looks again who cannot be told.
const PAUSE: Duration = Duration::from_millis(20);

/// What is written: it can be added again and again, and each time its tick grows.
pub(super) const STATE: &str = "Healthcheck";

/// A node that runs on the host of its name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: &'static str,
    args: Vec<String>,
    http: String,
    program: Option<Program>,
}

impl Node {
    /// Starts a node that follows the first of these that it can; the root follows nobody.
    pub(super) fn start(net: &Net, name: &'static str, parents: &[&str], args: &[&str]) -> Self {
        let rpc = |name| format!("{}:{RPC}", net.addr(name));
        let http = format!("{}:{HTTP}", net.control(name));
        let mut all = vec![
            "node".to_owned(),
            format!("--name={name}"),
            format!("--addr={}", rpc(name)),
            format!("--http-addr={http}"),
            "--log=info".to_owned(),
            "--insecure-plaintext".to_owned(),
        ];
        if !parents.is_empty() {
            let parents: Vec<_> = parents.iter().map(|parent| rpc(parent)).collect();
            all.push(format!("--parent={}", parents.join(",")));
        }
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let mut node = Self {
            name,
            args: all,
            http,
            program: None,
        };
        node.begin();
        node
    }

    /// Starts it, or starts it again.
    pub(super) fn begin(&mut self) {
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let program = Program::start_command(&mut on(self.name, &command(&args)));
        self.program = Some(program);
    }

    /// Ends it at once, without a word to anybody.
    pub(super) fn kill(&mut self) {
        self.program = None;
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, name: &str) {
        signal(name, self.program.as_ref().unwrap().pid());
    }

    /// What it answers.
    pub(super) async fn get(&self, path: &str) -> Answer {
        let answer = client::get(&self.http, path, "application/json").await;
        answer.unwrap_or_else(|error| panic!("{} {path}: {error:#}", self.name))
    }

    /// Its states as JSON.
    pub(super) async fn states(&self) -> Value {
        serde_json::from_slice(&self.get("/v1/states").await.body).unwrap()
    }

    /// Waits until it is ready.
    pub(super) async fn is_ready(&self) {
        until(async || {
            let answer = client::get(&self.http, "/readyz", "application/json").await;
            answer.is_ok_and(|answer| answer.head.status() == 200)
        })
        .await;
    }

    /// Waits until it shows this position or a later one.
    pub(super) async fn reaches(&self, position: &str) {
        self.waits(&format!("min_rev={position}")).await;
    }

    async fn waits(&self, query: &str) {
        let start = Instant::now();
        loop {
            let answer = self.get(&format!("/v1/states?{query}&wait={HOLD}")).await;
            if answer.head.status() == 200 {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{} {answer:?}", self.name);
        }
    }

    /// Waits until it is stale, or no longer is.
    pub(super) async fn is_stale(&self, stale: bool) {
        let mut events = Events::open(&self.http).await;
        // From here on it tells; before, it may have been so already.
        let answer = self.get("/v1/states").await;
        if answer.header("machine-stale") == Some(if stale { "true" } else { "false" }) {
            return;
        }
        let told = format!("\"stale\":{stale},");
        while !events.next().await.contains(&told) {}
    }

    /// What happens to it from now on.
    pub(super) async fn events(&self) -> Events {
        let mut events = Events::open(&self.http).await;
        // It begins with what is.
        let first = events.next().await;
        assert!(first.contains("event: snapshot"), "{first}");
        events
    }

    /// Where it is.
    pub(super) async fn position(&self) -> String {
        let answer = self.get("/v1/states").await;
        answer.header("machine-position").unwrap().to_owned()
    }

    /// The name of the node that it follows, as far as it follows one.
    pub(super) async fn parent(&self) -> String {
        let links: Value = serde_json::from_slice(&self.get("/v1/links").await.body).unwrap();
        let parent = &links["upstream"]["parent"];
        parent.as_str().unwrap_or_default().to_owned()
    }

    /// How old what it shows may be.
    pub(super) async fn age(&self) -> Duration {
        let answer = self.get("/v1/states").await;
        let age = answer.header("machine-age-ms").unwrap();
        Duration::from_millis(age.parse().unwrap())
    }

    /// The sum of a metric's samples that have these labels.
    #[expect(clippy::cast_possible_truncation, reason = "they are counters")]
    #[expect(clippy::cast_sign_loss, reason = "they are counters")]
    pub(super) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let answer = client::get(&self.http, "/metrics", "text/plain").await;
        let text = String::from_utf8(answer.unwrap().body.to_vec()).unwrap();
        let sum = Exposition::classic(&text).sum(name, labels);
        sum.unwrap_or_else(|| panic!("{name} of {}", self.name)) as u64
    }

    /// How often it was let in, and how many snapshots it took.
    pub(super) async fn links(&self) -> Links {
        Links {
            connects: self.metric("machine_connects_total", &[]).await,
            snapshots: self.metric("machine_resyncs_total", &[]).await,
        }
    }

    /// Writes by way of it, and returns the position.
    pub(super) async fn write(&self) -> String {
        let (status, answer) = self.post(&mut self.client().await, "", None).await;
        assert_eq!(status, 200, "{} {answer}", self.name);
        assert_eq!(answer["outcome"], "executed", "{answer}");
        answer["position"].as_str().unwrap().to_owned()
    }

    /// Writes so often over one connection, and returns the last position.
    pub(super) async fn write_often(&self, times: usize) -> String {
        let mut client = self.client().await;
        let mut last = Value::Null;
        for _ in 0..times {
            let (status, answer) = self.post(&mut client, "", None).await;
            assert_eq!(status, 200, "{} {answer}", self.name);
            last = answer;
        }
        last["position"].as_str().unwrap().to_owned()
    }

    /// Asks for a write with a key, which may take so long. Returns the status and what is said.
    pub(super) async fn write_as(&self, key: &str, within: u32) -> (u16, Value) {
        let query = format!("?wait={within}");
        let mut client = self.client().await;
        self.post(&mut client, &query, Some(key)).await
    }

    /// How often the state has been written, as the node shows it.
    pub(super) async fn written(&self) -> u64 {
        let answer = self.get(&format!("/v1/states/{STATE}")).await;
        let state: Value = serde_json::from_slice(&answer.body).unwrap();
        state["tick"].as_u64().unwrap()
    }

    async fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.http).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Client { sender, driver }
    }

    async fn post(&self, client: &mut Client, query: &str, key: Option<&str>) -> (u16, Value) {
        let mut body = serde_json::json!({ "op": "add", "states": [STATE] });
        if let Some(key) = key {
            body["key"] = key.into();
        }
        let request = Request::post(format!("/v1/mutations{query}"))
            .header("host", &self.http)
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .unwrap();
        let answer = async {
            let (head, body) = client.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>((head.status.as_u16(), body))
        };
        let (status, body) = tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap()
            .unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

/// A connection over which is written.
struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    #[expect(dead_code, reason = "it ends when it is dropped")]
    driver: JoinSet<hyper::Result<()>>,
}

/// What became of a node's link so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Links {
    pub(super) connects: u64,
    pub(super) snapshots: u64,
}

/// The events of a node.
pub(super) struct Events {
    body: hyper::body::Incoming,
    #[expect(dead_code, reason = "it ends when it is dropped")]
    driver: JoinSet<hyper::Result<()>>,
    text: String,
}

impl Events {
    async fn open(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = Request::get("/v1/events").header("host", addr);
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self {
            body: response.into_body(),
            driver,
            text: String::new(),
        }
    }

    /// Has all looked at up to the one of this position, or of a later one.
    pub(super) async fn until(&mut self, position: &str, look: impl Fn(&str)) {
        let wanted: Position = position.parse().unwrap();
        loop {
            let event = self.next().await;
            look(&event);
            let id = event.lines().find_map(|line| line.strip_prefix("id: "));
            let shown: Option<Position> = id.map(|id| id.parse().unwrap());
            if shown.is_some_and(|shown| shown.has_reached(wanted)) {
                return;
            }
        }
    }

    async fn next(&mut self) -> String {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                if block.contains("event: ") {
                    return block;
                }
                continue;
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let data = frame.unwrap().expect("it goes on").unwrap();
            let data = data.into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }
}

/// Looks until something is so.
pub(super) async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "it has not become so");
        tokio::time::sleep(PAUSE).await;
    }
}
