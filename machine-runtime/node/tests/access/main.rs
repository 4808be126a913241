//! Who may do what on a node, asked for over real sockets.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use machine_node::access::{Access, token};
use machine_node::node::{Node, NodeConfig, Origin, Sockets};
use machine_node::observe::ObserveConfig;
use machine_node::shutdown::Tasks;
use machine_runtime::observe::Observers;
use machine_runtime::replica::{Bearer, Token};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Owner, Schema, SchemaBuilder, StateDef, ViewOptions,
};
use tokio::net::{TcpListener, TcpStream};

// Pages of other sites, and what all answers have.
mod browsers;
// What is taken from somebody while they have it.
mod revocation;
// Every role and everything that there is to ask for.
mod table;

/// How long anything may take before a test gives up: never the time that it should take.
const PATIENCE: Duration = Duration::from_mins(1);

fn schema() -> Arc<Schema> {
    let lamps = (1..=3).map(|i| StateDef::new(format!("Lamp{i}")));
    let builder = lamps.fold(Schema::builder("Lamps"), SchemaBuilder::state);
    builder.build().unwrap().into()
}

/// A file of who may do what, gone with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("node-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A token of a client, and what stands in the file for it.
fn client(name: &str, roles: &str) -> (Token, String) {
    let token = token::make().unwrap();
    let hash = token::Fingerprint::of(&token).unwrap();
    let entry = format!("[[client]]\nname = \"{name}\"\nroles = {roles}\ntokens = [\"{hash}\"]\n");
    (token, entry)
}

/// A root, and where it is.
struct Root {
    handle: Handle<DynState>,
    node: Node,
    http: SocketAddr,
    rpc: SocketAddr,
    tasks: Tasks,
}

impl Root {
    async fn start(access: Access, change: impl FnOnce(&mut NodeConfig)) -> Self {
        let tasks = Tasks::default();
        let (observers, mut options) = (Observers::new(), ViewOptions::default());
        options.observers = Some(observers.clone());
        let machine = Machine::with_schema(schema());
        let (handle, owner) = Owner::new(machine, Epoch(7), options);
        let stopped = tasks.stopped();
        tasks.spawn(async move {
            owner.run(stopped).await;
        });
        let origin = Origin::Machine(handle.clone(), observers);
        let mut config = NodeConfig::new("root", "1.0.0", origin, ObserveConfig::new("test"));
        config.security.access = access;
        change(&mut config);
        let (rpc, http) = (bind().await, bind().await);
        let (rpc_addr, http_addr) = (rpc.local_addr().unwrap(), http.local_addr().unwrap());
        let sockets = Sockets {
            rpc,
            http: Some(http),
        };
        let node = Node::start(config, sockets, &tasks).unwrap();
        Self {
            handle,
            node,
            http: http_addr,
            rpc: rpc_addr,
            tasks,
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// A node that follows another, and where it is.
struct Below {
    http: SocketAddr,
    rpc: SocketAddr,
    tasks: Tasks,
    _node: Node,
}

impl Below {
    async fn start(name: &str, parent: SocketAddr, token: Bearer, access: Access) -> Self {
        let tasks = Tasks::default();
        let origin = Origin::Parents(schema(), vec![parent.to_string()]);
        let mut config = NodeConfig::new(name, "1.0.0", origin, ObserveConfig::new("test"));
        (config.security.access, config.security.token) = (access, token);
        let (rpc, http) = (bind().await, bind().await);
        let (rpc_addr, http_addr) = (rpc.local_addr().unwrap(), http.local_addr().unwrap());
        let sockets = Sockets {
            rpc,
            http: Some(http),
        };
        let node = Node::start(config, sockets, &tasks).unwrap();
        Self {
            http: http_addr,
            rpc: rpc_addr,
            tasks,
            _node: node,
        }
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// A connection of a reader.
struct Reader {
    sender: http1::SendRequest<Full<Bytes>>,
    _driver: tokio::task::JoinSet<()>,
}

impl Reader {
    async fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Self {
            sender,
            _driver: driver,
        }
    }

    async fn send(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let response = tokio::time::timeout(PATIENCE, self.sender.send_request(request));
        response.await.unwrap().unwrap()
    }
}

/// Asks for a path with these headers.
async fn get(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let mut reader = Reader::new(addr).await;
    let response = reader.send(&Method::GET, path, headers, "").await;
    // Dropped with the reader, the connection would end.
    response_of(response, reader)
}

fn response_of(response: Response<Incoming>, reader: Reader) -> Response<Incoming> {
    let (mut head, body) = response.into_parts();
    head.extensions
        .insert(Arc::new(std::sync::Mutex::new(reader)));
    Response::from_parts(head, body)
}

async fn text(response: Response<Incoming>) -> String {
    let (_head, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await;
    let bytes = body.unwrap().unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The header of who has this token.
fn bearer(token: &Token) -> String {
    format!("Bearer {}", token.secret())
}

/// What a metric of denials is, by role and reason.
fn denied(root: &Root, what: &str, why: &str) -> u64 {
    let metrics = root.node.metrics();
    let labels = format!("what=\"{what}\",why=\"{why}\"");
    let mut lines = metrics.lines();
    let line =
        lines.find(|line| line.starts_with("machine_denied_total") && line.contains(&labels));
    line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}
