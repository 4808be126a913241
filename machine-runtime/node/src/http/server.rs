//! Sockets and connections.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use warp::Filter as _;
use warp::reply::Response;

use super::Site;
use super::answer::Answer;
use super::problem::Problem;
use super::routes::{self, Call, Wishes};
use super::traffic::Gauge;

/// How many connections are served at a time. Each costs a few kilobytes; without a bound a
/// client that never closes would take all of a node's file descriptors.
const MOST_CONNECTIONS: usize = 8192;

/// How many more are told that there is no room; the rest is closed without a word.
const MOST_REFUSALS: usize = 64;

/// How long a client may take to send the head of a request, and so how long it may keep a
/// connection without one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the head of a request may be: far more than any of ours needs.
const HEAD_BYTES: usize = 16 * 1024;

/// How long requests under way may take once the site stops: whoever sends half a request or does
/// not read its answer is not waited for.
const LAST_ANSWERS: Duration = Duration::from_millis(400);

/// How long `accept` rests after an error, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// A site while it is served.
struct Serving {
    site: Arc<Site>,
    stopping: CancellationToken,
}

/// Serves `site` on `listener` until `stop` resolves, and a little longer for the last answers.
pub(super) async fn serve(site: &Arc<Site>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let stopping = CancellationToken::new();
    let serving = Arc::new(Serving {
        site: Arc::clone(site),
        stopping: stopping.clone(),
    });
    let service = warp::service(routes::calls().then(move |call| answer(&serving, call)));
    // Aborts what is left when it drops.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_of_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept readers");
                sleep(ACCEPT_REST).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        if connections.len() < MOST_CONNECTIONS {
            let service = PerConnection(RefCell::new(service.clone()));
            let inside = site.traffic.enter(Gauge::Connections);
            let stopping = stopping.clone();
            connections.spawn(async move {
                serve_connection(stream, service, &stopping).await;
                drop(inside);
            });
        } else {
            site.traffic.count_refused();
            if connections.len() < MOST_CONNECTIONS + MOST_REFUSALS {
                let stopping = stopping.clone();
                connections.spawn(async move {
                    serve_connection(stream, Refusal, &stopping).await;
                });
            }
        }
    }
    drop(listener);
    stopping.cancel();
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is left is aborted.
    let _ = timeout(LAST_ANSWERS, ended).await;
}

/// Answers a call; only one that waits needs a task's memory for more than its response.
fn answer(
    serving: &Arc<Serving>,
    call: Call,
) -> Either<Ready<Response>, impl Future<Output = Response> + Send + use<>> {
    match serving.site.answer(call, &serving.stopping) {
        Answer::Now(response) => Either::Left(ready(response)),
        Answer::Later(later) => {
            let serving = Arc::clone(serving);
            Either::Right(Box::pin(async move {
                serving.site.answer_later(*later, &serving.stopping).await
            }))
        }
    }
}

async fn serve_connection<S, B>(stream: TcpStream, service: S, stopping: &CancellationToken)
where
    S: Service<Request<Incoming>, Response = hyper::Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Without it a small answer may wait for the client's acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
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

/// Whether an error of `accept` concerns the one connection only.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// A service that belongs to one connection. hyper calls it by shared reference and never from
/// two places at once; to clone it per request instead would cost two reference counts.
struct PerConnection<S>(RefCell<S>);

impl<S> Service<Request<Incoming>> for PerConnection<S>
where
    S: tower_service::Service<Request<Incoming>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        Wishes::attach(&mut request);
        self.0.borrow_mut().call(request)
    }
}

/// Answers everything with the word that there is no room.
struct Refusal;

impl Service<Request<Incoming>> for Refusal {
    type Response = Response;
    type Error = Infallible;
    type Future = Ready<Result<Response, Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        let mut response = Problem::overloaded(MOST_CONNECTIONS).into_response();
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_is_told_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        serve_connection(stream, Refusal, &CancellationToken::new()).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        for header in [
            "retry-after: 1",
            "connection: close",
            "content-type: application/json",
        ] {
            assert!(head.contains(header), "{head}");
        }
        let message = "this node has 8192 connections, its most";
        let expected = format!(
            "{{\"error\":{{\"code\":\"overloaded\",\"message\":\"{message}\",\"allowed\":[]}}}}\n"
        );
        assert_eq!(body, expected);
    }
}
