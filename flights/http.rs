//! The readers' side of a node: HTTP from its own memory.
//!
//! It serves the machine of any schema: what it knows of flights it has from the schema's groups
//! and loop variables. Nothing else knows warp. The contract is on the page `docs/http.md`.
//!
//! warp has no limits of its own and no way to set any, so the connections are accepted here and
//! its routes are run as a service.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use machine_runtime::replica::{Link, SourceStats};
use machine_runtime::{DynState, State, View};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod error;
mod events;
mod metrics;
mod negotiate;
mod query;
mod render;
mod routes;
mod states;

use metrics::Requests;
use render::Cache;

/// How many connections a node serves at a time. Each costs some 10 kB while it is used.
const CONNECTIONS: usize = 8192;

/// How long a request's head may take, and a connection may idle.
const HEAD: Duration = Duration::from_secs(30);

/// How long requests under way may take once the node is stopped.
const END: Duration = Duration::from_millis(400);

/// How large the head of a request may be.
const BUFFER: usize = 16 * 1024;

/// How long `accept` rests after an error, such as too many open files.
const REST: Duration = Duration::from_millis(100);

/// What a connection too many is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves what a view shows. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    inner: Arc<Inner>,
}

struct Inner {
    node: String,
    view: View<DynState>,
    link: Option<Link>,
    followers: SourceStats,
    cache: Cache,
    requests: Requests,
    stop: CancellationToken,
}

impl Http {
    /// The readers' side of the node `node`: `link` leads to its parent, if it has one, and
    /// `followers` counts those it serves.
    pub fn new<S: State>(
        node: &str,
        view: &View<S>,
        link: Option<Link>,
        followers: SourceStats,
    ) -> Self {
        let view = view.untyped();
        Self {
            inner: Arc::new(Inner {
                node: node.to_owned(),
                cache: Cache::default(),
                requests: Requests::new(),
                stop: CancellationToken::new(),
                view,
                link,
                followers,
            }),
        }
    }

    /// How many requests were answered.
    pub fn requests(&self) -> u64 {
        self.inner.requests.total()
    }

    /// Serves whoever connects to `listener` until `stop` resolves, then ends long polls and
    /// streams, lets the requests under way end, and returns.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) if connections.len() >= CONNECTIONS => {
                    // Whether it is heard or not, the connection closes.
                    let _ = stream.try_write(FULL);
                }
                Ok((stream, _)) => {
                    let http = self.clone();
                    connections.spawn(async move { http.connection(stream).await });
                }
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept readers");
                    tokio::time::sleep(REST).await;
                }
            }
        }
        drop(listener);
        self.inner.stop.cancel();
        // Who sends half a request only is not waited for; what is left is dropped.
        let ended = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(END, ended).await;
    }

    async fn connection(&self, stream: TcpStream) {
        // Answers are whole; waiting for more to send only delays them.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let service = TowerToHyperService::new(warp::service(routes::routes(self)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // An error here is the peer's: it broke off, or sent no HTTP.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.inner.stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("node", &self.inner.node)
            .finish_non_exhaustive()
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
