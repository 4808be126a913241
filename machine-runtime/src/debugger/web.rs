//! The debugger in a browser: one page, and what it asks for. It reads a store and changes nothing.
//!
//! Whoever looks has a cursor of their own, in the address: a link shows another person the same. All that
//! nodes told is data: JSON, or pictures that escape it, and the page shows it as text.
//!
//! ```no_run
//! # use std::sync::{Arc, RwLock};
//! # use machine_runtime::debugger::store::{Store, StoreLimits};
//! # use machine_runtime::debugger::web::Web;
//! # async fn serve() -> std::io::Result<()> {
//! let store = Arc::new(RwLock::new(Store::new(StoreLimits::default())));
//! let web = Web::bind("127.0.0.1:6832", store).await?;
//! println!("http://{}/", web.local_addr()?);
//! web.serve(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hyper::Method;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use warp::Filter as _;
use warp::reply::Response;

use super::store::Store;

mod answer;
mod detail;
mod draw;
mod known;
mod params;
mod routes;
mod told;
mod words;

use self::answer::Problem;
use self::known::Known;
use self::params::Params;
use self::routes::{Call, Target};

/// How many browsers' connections there are at most.
const MOST_CONNECTIONS: usize = 64;

/// How many read the store at a time: frames wait for them.
const MOST_READERS: usize = 2;

/// How many more wait for that.
const MOST_WAITING: usize = 32;

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_millis(400);

/// How long `accept` rests after an error, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The pages of a store, on a socket.
#[derive(Debug)]
pub struct Web {
    listener: TcpListener,
    site: Arc<Site>,
}

/// What every request has in common.
#[derive(Debug)]
struct Site {
    store: Arc<RwLock<Store>>,
    /// Whether only this computer is let in.
    is_local: bool,
    known: Mutex<Known>,
    readers: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Web {
    /// Listens on `addr`, such as `127.0.0.1:6832`; port 0 is a free one. Everybody who can reach it can
    /// read all that nodes told.
    ///
    /// # Errors
    ///
    /// If it cannot listen there.
    pub async fn bind(addr: &str, store: Arc<RwLock<Store>>) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let is_local = listener.local_addr()?.ip().is_loopback();
        Ok(Self {
            listener,
            site: Arc::new(Site {
                store,
                is_local,
                known: Mutex::default(),
                readers: Arc::new(Semaphore::new(MOST_READERS)),
                waiting: Semaphore::new(MOST_WAITING),
            }),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// If the socket does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers browsers until `stop` resolves, and a little longer for the last answers.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Self { listener, site } = self;
        let mut stop = pin!(stop);
        let stopping = CancellationToken::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(Arc::clone(&site), stream, stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept browsers");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
        drop(listener);
        stopping.cancel();
        let ended = async { while connections.join_next().await.is_some() {} };
        // What is left is aborted.
        let _ = timeout(LAST_ANSWERS, ended).await;
    }
}

/// Answers what comes over one connection.
async fn connection(site: Arc<Site>, stream: TcpStream, stopping: CancellationToken) {
    let answer = routes::calls().then(move |call| {
        let site = Arc::clone(&site);
        async move { site.answer(call).await }
    });
    let service = warp::service(answer);
    let service = service_fn(move |request| service.clone().call(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

impl Site {
    async fn answer(self: &Arc<Self>, call: Call) -> Response {
        let answered = self.try_answer(call).await;
        let mut response = answered.unwrap_or_else(Problem::into_response);
        answer::secure(response.headers_mut());
        response
    }

    async fn try_answer(self: &Arc<Self>, call: Call) -> Result<Response, Problem> {
        if call.method != Method::GET && call.method != Method::HEAD {
            return Err(Problem::Method);
        }
        if self.is_local && !call.host.as_deref().is_some_and(is_here) {
            return Err(Problem::Host);
        }
        if let Some(file) = routes::file(call.target) {
            return Ok(file);
        }
        let params = Params::read(&call.query)?;
        let site = Arc::clone(self);
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(Problem::Busy);
        };
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        let read = spawn_blocking(move || {
            let _permit = permit;
            site.read(call.target, &params)
        });
        read.await.unwrap_or(Err(Problem::Failed))
    }

    /// Looks into the store. Drawing is done when that is let go.
    fn read(&self, target: Target, params: &Params) -> Result<Response, Problem> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let value = match target {
            Target::Machines => told::machines(&store, params)?,
            Target::Timeline => told::timeline(&store, &mut known(), params)?,
            Target::List => told::list(&store, &mut known(), params)?,
            Target::Log => told::log(&store, params)?,
            Target::Entry => detail::entry(&store, params)?,
            Target::States => detail::states(&store, params)?,
            Target::Why => detail::why(&store, params)?,
            Target::Lens => detail::lens(&store, params)?,
            Target::Graph => {
                let graph = draw::graph(&store, params)?;
                drop(store);
                return answer::picture(graph.to(crate::graph::Format::Svg));
            }
            Target::Sequence => {
                let sequence = draw::sequence(&store, params)?;
                drop(store);
                return answer::picture(sequence.to(crate::graph::Format::Svg));
            }
            Target::Page | Target::Script | Target::Style | Target::Nothing => {
                return Err(Problem::Nothing);
            }
        };
        drop(store);
        Ok(answer::json(&value))
    }
}

/// Whether a `Host` names this computer. A page from elsewhere can have its own name lead here, but not
/// these: what it asks for then is not answered.
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let addr = bare.unwrap_or(name).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || addr.is_ok_and(|addr| addr.is_loopback())
}

#[cfg(test)]
mod tests;
