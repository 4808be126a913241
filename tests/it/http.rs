//! The contract of `docs/http.md`, asked for over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use machine_node::door::{Door, DoorLimits};
use machine_node::http::{Guard, Http};
use machine_node::limits::Limits;
use machine_node::links::{LinkConfig, Links};
use machine_node::observe::{ObserveConfig, Observed};
use machine_node::shutdown::Tasks;
use machine_node::vitals::Vitals;
use machine_runtime::observe::Observers;
use machine_runtime::replica::{Link, Source, SourceOptions, SourceStats};
use machine_runtime::{Epoch, Handle, Machine, Mutation, Owner, ViewOptions, states};
use tokio::net::{TcpListener, TcpStream};

use crate::exposition::Exposition;
use crate::support::PATIENCE;

// Broken requests, limits, slow readers.
mod connections;
// What goes wrong, and how a client is told.
mod errors;
// Server-sent events.
mod events;
// Diagrams with what is active.
mod graph;
// Replicas whose link breaks, mends, or leads to another life.
mod links;
// Health, readiness, metrics, connections.
mod operation;
// Replicas: before their first snapshot, and cut off.
mod replica;
// The states: representations, tags, details, selections.
mod states;
// Requests that wait.
mod waiting;
// Mutations: what comes of them, and how a client is told when nothing does.
mod writes;

states! {
    counts = { doors = 3 };

    /// A house with a few doors.
    pub enum House {
        for door in 1..=doors {
            exclusive Position {
                /// The door is open.
                Door{door}Open,
                /// The door is closed.
                #[auto]
                Door{door}Closed,
            }

            /// The door has a name.
            #[payload(Vec<u8>, retain)]
            Door{door}Named,
        }

        /// Somebody knocks.
        #[multi]
        Knock,
    }
}

/// The epoch of every machine here, as it is written.
const EPOCH: &str = "00000000000000000000000000000abc";

/// A position in it.
fn at(revision: u64) -> String {
    format!("{EPOCH}.{revision}")
}

/// A node under test.
struct Node {
    addr: SocketAddr,
    http: Http,
    tasks: Tasks,
}

impl Node {
    /// Serves what a handle shows and takes on a free port.
    async fn new(handle: &Handle<House>, link: Option<Link>, source: SourceStats) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, handle, link, source)
    }

    /// Serves what a handle shows and takes on a socket.
    fn on(
        listener: TcpListener,
        handle: &Handle<House>,
        link: Option<Link>,
        source: SourceStats,
    ) -> Self {
        let name = if link.is_some() { "rep-1" } else { "root" };
        let config = LinkConfig::default();
        let links = match link {
            Some(link) => Links::of_replicant(config, Vec::new(), link, source),
            None => Links::of_root(config, source),
        };
        let observed = Observed::new(ObserveConfig::new("house"), Observers::new());
        let http = Http::new(
            name,
            "1.0.0",
            handle,
            links,
            Vitals::default(),
            observed,
            Guard::default(),
        )
        .unwrap();
        let addr = listener.local_addr().unwrap();
        let tasks = Tasks::default();
        let (served, stopped) = (http.clone(), tasks.stopped());
        let limits = DoorLimits::of_readers(&Limits::default());
        let door = Door::new(listener, "readers", limits, None, http.readers().clone());
        tasks.spawn(async move { served.serve(door, stopped).await });
        Self { addr, http, tasks }
    }

    /// Asks for `path` and reads the answer.
    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    /// Waits until the samples of a metric come to so many.
    async fn until_metric(&self, name: &str, count: u32) {
        let value = Some(f64::from(count));
        until(async || self.get("/metrics").await.metric(name, &[]) == value).await;
    }

    /// Asks with a method and headers and reads the answer.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let (head, body) = self.open(method, path, headers).await.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .unwrap()
            .unwrap();
        Answer {
            head: Response::from_parts(head, ()),
            body: body.to_bytes(),
        }
    }

    /// Asks for a mutation.
    async fn post(&self, query: &str, body: impl Into<Bytes>) -> Answer {
        self.post_as(query, &[("content-type", "application/json")], body)
            .await
    }

    /// Asks for a mutation, with other headers.
    async fn post_as(
        &self,
        query: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::post(format!("/v1/mutations{query}")).header("host", "node");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = async {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let head = Response::from_parts(head, ());
            Answer { head, body }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap()
    }

    /// Asks and reads the answer's head.
    async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        self.open_over(stream, method, path, headers).await
    }

    /// Asks over a connection and reads the answer's head.
    async fn open_over(
        &self,
        stream: TcpStream,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        // It ends with the answer.
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "node");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request);
        tokio::time::timeout(PATIENCE, response)
            .await
            .unwrap()
            .unwrap()
    }
}

/// A root under test.
struct Root {
    node: Node,
    handle: Handle<House>,
    source: Source,
}

impl Root {
    /// A root at revision 0.
    async fn new(options: ViewOptions) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), options)
    }

    /// A root at revision 0 that serves on a socket.
    fn on(listener: TcpListener, options: ViewOptions) -> Self {
        let (handle, owner) = Owner::new(Machine::new(), Epoch(0xabc), options);
        let source = Source::new(handle.view(), SourceOptions::new("root")).with_writes(&handle);
        let node = Node::on(listener, &handle, None, source.stats().clone());
        let stopped = node.tasks.stopped();
        node.tasks.spawn(async move {
            owner.run(stopped).await;
        });
        Self {
            node,
            handle,
            source,
        }
    }

    /// A root where door 1 is open and the others are closed: revision 2.
    async fn with_a_door_open() -> Self {
        let root = Self::new(ViewOptions::default()).await;
        root.add(House::Door1Open).await;
        assert_eq!(root.handle.view().position().unwrap().to_string(), at(2));
        root
    }

    async fn add(&self, state: House) {
        assert!(self.handle.add(state).await.unwrap().outcome.is_executed());
    }

    async fn add_with(&self, state: House, payload: &'static [u8]) {
        let mutation = Mutation::add(state).with_payload(state, payload);
        assert!(
            self.handle
                .mutate(mutation)
                .await
                .unwrap()
                .outcome
                .is_executed()
        );
    }

    fn digest(&self) -> String {
        format!("{:016x}", self.handle.view().snapshot().unwrap().digest())
    }
}

/// An answer as a whole.
#[derive(Debug)]
struct Answer {
    head: Response<()>,
    body: Bytes,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The sum of a metric's samples that have these labels.
    #[track_caller]
    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        Exposition::classic(self.text()).sum(name, labels)
    }

    fn header(&self, name: &str) -> &str {
        self.head
            .headers()
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    fn check(&self, status: u16, body: &str) {
        assert_eq!((self.status(), self.text()), (status, body));
    }

    /// Checks for an error of a mutation that was not run.
    #[track_caller]
    fn check_failed(&self, status: u16, code: &str, message: &str, allowed: &str) {
        let message = message.replace('"', "\\\"");
        let allowed = format!(r#"{allowed},"may_have_run":false"#);
        self.check_error(status, code, &message, &allowed);
    }

    /// Checks for an error of this shape; `allowed` is its end, as JSON.
    #[track_caller]
    fn check_error(&self, status: u16, code: &str, message: &str, allowed: &str) {
        let error =
            format!(r#"{{"error":{{"code":"{code}","message":"{message}","allowed":{allowed}}}}}"#);
        self.check(status, &(error + "\n"));
        assert_eq!(self.header("content-type"), "application/json");
    }
}

/// Waits until `done` says so. What it looks at has to yield.
async fn until<F: Future<Output = bool>>(done: impl Fn() -> F) {
    let wait = async {
        while !done().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

/// Options of a view that is stale at once.
fn soon_stale() -> ViewOptions {
    let mut options = ViewOptions::default();
    options.stale_after = Duration::from_millis(1);
    options
}
