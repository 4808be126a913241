//! Sockets and connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::Service;
use rustix::net::sockopt::set_tcp_nodelay;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use warp::Filter as _;
use warp::reply::Response;

use super::Site;
use super::answer::Answer;
use super::connection::{self, Control};
use super::permit::{self, Gate};
use super::problem::Problem;
use super::routes::{self, Call, Usual, Wishes};
use super::traffic::Gauge;

/// How many connections are served at a time. Each costs a few kilobytes; without a bound a
/// client that never closes would take all of a node's file descriptors.
const MOST_CONNECTIONS: usize = 8192;

/// How many more are told that there is no room; the rest is closed without a word.
const MOST_REFUSALS: usize = 64;

/// How often the server looks at its connections.
const LOOK: Duration = Duration::from_secs(15);

/// After how many looks in a row at a connection that has brought no request and taken no byte
/// since it is closed: whoever asks nothing, sends half a request, or does not read its answer. A
/// wait for a position is shorter, and an event stream has a comment each `LOOK`.
const QUIET_LOOKS: u32 = 5;

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
    // Without it a small answer may wait for the client's acknowledgement of the one before. What
    // is accepted inherits it.
    if let Err(error) = set_tcp_nodelay(&listener, true) {
        tracing::warn!(%error, "answers may be late");
    }
    // Once the node leaves nobody waits here any more, though all else is served until it stops.
    let stopping = site.vitals.leaving().clone();
    let serving = Arc::new(Serving {
        site: Arc::clone(site),
        stopping,
    });
    let service = warp::service(routes::calls().then(move |call| answer(&serving, call)));
    let mut connections = Connections::default();
    let mut look = interval(LOOK);
    // Who was not served because nobody was is not quiet.
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
            () = connections.one_ended() => continue,
            _ = look.tick() => {
                connections.close_quiet();
                continue;
            }
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept readers");
                sleep(ACCEPT_REST).await;
                continue;
            }
        };
        connections.forget_ended();
        if connections.len() < MOST_CONNECTIONS {
            let (site, routes) = (Arc::clone(site), RefCell::new(service.clone()));
            let gate = Gate::new(&site.access, Arc::default(), Some(from.ip()));
            let inside = site.traffic.enter(Gauge::Connections);
            connections.spawn(|control| async move {
                let service = PerConnection {
                    site,
                    gate,
                    control: Arc::clone(&control),
                    routes,
                };
                connection::serve(stream, service, control).await;
                drop(inside);
            });
        } else {
            site.traffic.count_refused();
            if connections.len() < MOST_CONNECTIONS + MOST_REFUSALS {
                connections.spawn(|control| connection::serve(stream, Refusal, control));
            }
        }
    }
    drop(listener);
    site.vitals.leave();
    connections.end().await;
}

/// The connections there are. Those that are left when it drops are aborted.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    watched: HashMap<Id, Watched>,
}

/// A connection as the server sees it.
struct Watched {
    control: Arc<Control>,
    task: AbortHandle,
    /// Its activity at the last look, if there was one, and at how many looks it was the same.
    activity: Option<u64>,
    quiet: u32,
}

impl Connections {
    fn len(&self) -> usize {
        self.watched.len()
    }

    fn spawn<F>(&mut self, serve: impl FnOnce(Arc<Control>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let control = Arc::<Control>::default();
        let task = self.tasks.spawn(serve(Arc::clone(&control)));
        let watched = Watched {
            control,
            task: task.clone(),
            activity: None,
            quiet: 0,
        };
        self.watched.insert(task.id(), watched);
    }

    /// Waits for one to end; for ever where there is none.
    ///
    /// # Cancel safety
    ///
    /// What ended is forgotten, or seen by the next call.
    async fn one_ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.forget(&ended),
            None => std::future::pending().await,
        }
    }

    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(&ended);
        }
    }

    fn forget(&mut self, ended: &Result<(Id, ()), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        self.watched.remove(&id);
    }

    /// Closes those on which nothing has happened for some time.
    fn close_quiet(&mut self) {
        for watched in self.watched.values_mut() {
            let activity = Some(watched.control.activity());
            watched.quiet = if activity == watched.activity {
                watched.quiet + 1
            } else {
                0
            };
            watched.activity = activity;
            if watched.quiet >= QUIET_LOOKS {
                watched.task.abort();
            }
        }
    }

    /// Lets each finish what it is answering, for a little while.
    async fn end(mut self) {
        for watched in self.watched.values() {
            watched.control.end();
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // What is left is aborted.
        let _ = timeout(LAST_ANSWERS, ended).await;
    }
}

/// Answers a call; only one that waits needs a task's memory for more than its response.
fn answer(
    serving: &Arc<Serving>,
    call: Call,
) -> Either<Ready<Response>, impl Future<Output = Response> + Send + use<>> {
    let origin = call.wishes().origin.clone();
    let answer = serving.site.answer(call, &serving.stopping);
    if let Answer::Now(response) = answer {
        return Either::Left(ready(serving.site.finish(response, origin.as_ref())));
    }
    let serving = Arc::clone(serving);
    Either::Right(Box::pin(async move {
        let site = &serving.site;
        let response = match answer {
            Answer::Now(response) => response,
            Answer::Later(later) => site.answer_later(*later, &serving.stopping).await,
            Answer::Drawing(drawing) => site.answer_drawn(*drawing).await,
        };
        site.finish(response, origin.as_ref())
    }))
}

/// Whether an error of `accept` concerns the one connection only.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// A mutation under way.
type Writing = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// A service that belongs to one connection. hyper calls it by shared reference and never from
/// two places at once; to clone it per request instead would cost two reference counts.
struct PerConnection<S> {
    site: Arc<Site>,
    gate: Gate,
    control: Arc<Control>,
    routes: RefCell<S>,
}

impl<S> Service<Request<Incoming>> for PerConnection<S>
where
    S: tower_service::Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, Either<S::Future, Writing>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.control.note();
        let wishes = Wishes::read(&request);
        let asker = self.gate.asker(request.headers());
        // What nearly everybody asks for is not worth being routed.
        if let Some(usual) = Usual::of(&request, &wishes)
            && let Some(response) = self.site.usual(usual, asker.as_deref())
        {
            return Either::Left(ready(Ok(response)));
        }
        if let Some(response) = self.site.at_the_gate(&request, &wishes) {
            return Either::Left(ready(Ok(response)));
        }
        if routes::is_mutation(&request) {
            let site = Arc::clone(&self.site);
            let writing = async move {
                let response = site.write(request, &wishes.params, asker.as_deref()).await;
                Ok(site.finish(response, wishes.origin.as_ref()))
            };
            return Either::Right(Either::Right(Box::pin(writing)));
        }
        permit::attach(asker, &mut request);
        wishes.attach(&mut request);
        Either::Right(Either::Left(self.routes.borrow_mut().call(request)))
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
    use tokio::net::TcpStream;

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
        connection::serve(stream, Refusal, Arc::default()).await;
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
