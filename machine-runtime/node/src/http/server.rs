//! Sockets and connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::Service;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use warp::Filter as _;
use warp::reply::Response;

use super::Site;
use super::answer::Answer;
use super::client::Client;
use super::connection::{self, Bounds, Control, Phase};
use super::permit::{self, Gate};
use super::problem::Problem;
use super::routes::{self, Call, Usual, Wishes};
use super::traffic::Gauge;
use crate::door::{Arrival, Door, DoorLimits, Shut};
use crate::limits::Limit;
use crate::tls::Tls;

/// How many are told at a time that there is no room; the rest is closed without a word.
const MOST_REFUSALS: usize = 64;

/// How often the server looks at its connections.
const LOOK: Duration = Duration::from_secs(1);

/// How long requests under way may take once the site stops: whoever sends half a request or does
/// not read its answer is not waited for.
const LAST_ANSWERS: Duration = Duration::from_millis(400);

/// How long connections that came in by other certificates may take over what they are answering.
const OUTDATED: Duration = Duration::from_secs(5);

/// A site while it is served.
struct Serving {
    site: Arc<Site>,
    stopping: CancellationToken,
}

/// Serves `site` to whoever comes in at `door` until `stop` resolves, and a little longer for the last
/// answers.
pub(super) async fn serve(site: &Arc<Site>, mut door: Door, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    // Once the node leaves nobody waits here any more, though all else is served until it stops.
    let stopping = site.vitals.leaving().clone();
    let serving = Arc::new(Serving {
        site: Arc::clone(site),
        stopping,
    });
    let service = warp::service(routes::calls().then(move |call| answer(&serving, call)));
    let bounds = Arc::new(Bounds {
        limits: site.limits.clone(),
        limited: site.limited.clone(),
        traffic: Arc::clone(&site.traffic),
    });
    let mut connections = Connections::default();
    let mut generations = door.tls().map(Tls::changes);
    let mut outdated = None;
    let mut look = interval(LOOK);
    // Who was not served because nobody was is not quiet.
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let arrival = tokio::select! {
            () = &mut stop => break,
            arrival = door.next() => arrival,
            () = connections.one_ended() => continue,
            _ = look.tick() => {
                connections.close_quiet(&bounds);
                continue;
            }
            () = changed(&mut generations) => {
                connections.end_outdated(generations.as_ref());
                outdated = Some(Instant::now() + OUTDATED);
                continue;
            }
            () = sleep_until(outdated.unwrap_or_else(Instant::now)), if outdated.is_some() => {
                connections.abort_outdated(generations.as_ref());
                outdated = None;
                continue;
            }
        };
        connections.forget_ended();
        match arrival {
            Arrival::Visitor(visitor) => {
                let (site, routes) = (Arc::clone(site), RefCell::new(service.clone()));
                let inside = site.traffic.enter(Gauge::Connections);
                let (generation, bounds) = (visitor.generation, Arc::clone(&bounds));
                let gate = Gate::new(&site.access, visitor.names, Some(visitor.addr));
                let client = Client::at(visitor.addr);
                connections.spawn(generation, move |control| async move {
                    let service = PerConnection {
                        site,
                        gate,
                        control: Arc::clone(&control),
                        client,
                        routes,
                    };
                    connection::serve(visitor.stream, service, control, &bounds).await;
                    drop((inside, visitor.room));
                });
                if generations
                    .as_ref()
                    .is_some_and(|now| *now.borrow() != generation)
                {
                    // The files changed while hands were shaken.
                    connections.end_outdated(generations.as_ref());
                    outdated = Some(Instant::now() + OUTDATED);
                }
            }
            Arrival::TooMany(stream, why) => {
                if connections.refusals < MOST_REFUSALS {
                    let limits = *door.limits();
                    let bounds = Arc::clone(&bounds);
                    connections.refuse(move |control| async move {
                        let refusal = Refusal {
                            why,
                            limits,
                            control: Arc::clone(&control),
                        };
                        connection::serve(stream.into(), refusal, control, &bounds).await;
                    });
                }
            }
        }
    }
    drop(door);
    site.vitals.leave();
    connections.end().await;
}

/// Waits until the certificates are others; for ever without any.
async fn changed(generations: &mut Option<Generations>) {
    if let Some(generations) = generations
        && generations.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Counts how often the certificates were read again.
type Generations = watch::Receiver<u64>;

/// The connections there are. Those that are left when it drops are aborted.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    watched: HashMap<Id, Watched>,
    /// How many of them are told that there is no room.
    refusals: usize,
}

/// A connection as the server sees it.
struct Watched {
    control: Arc<Control>,
    task: AbortHandle,
    /// Its activity at the last look, and since when it is the same.
    activity: u64,
    since: Instant,
    /// Since when a head is on its way, if one is.
    head: Option<Instant>,
    /// Of which generation the certificates were that it came in by; None for one that is refused.
    generation: Option<u64>,
}

impl Connections {
    fn spawn<F>(&mut self, generation: u64, serve: impl FnOnce(Arc<Control>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.add(Some(generation), serve);
    }

    fn refuse<F>(&mut self, serve: impl FnOnce(Arc<Control>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.refusals += 1;
        self.add(None, serve);
    }

    fn add<F>(&mut self, generation: Option<u64>, serve: impl FnOnce(Arc<Control>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let control = Arc::<Control>::default();
        let task = self.tasks.spawn(serve(Arc::clone(&control)));
        let watched = Watched {
            control,
            task: task.clone(),
            activity: 0,
            since: Instant::now(),
            head: None,
            generation,
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
        let watched = self.watched.remove(&id);
        if watched.is_some_and(|watched| watched.generation.is_none()) {
            self.refusals -= 1;
        }
    }

    /// Those that came in by other certificates than those that hold now.
    fn outdated<'a>(
        &'a self,
        generations: Option<&Generations>,
    ) -> impl Iterator<Item = &'a Watched> + use<'a> {
        let now = generations.map(|now| *now.borrow());
        let watched = self.watched.values();
        watched.filter(move |watched| watched.generation.is_some() && watched.generation != now)
    }

    /// Has them end after what they are answering.
    fn end_outdated(&self, generations: Option<&Generations>) {
        for watched in self.outdated(generations) {
            watched.control.end_after_first();
        }
    }

    /// Ends those of them that are left.
    fn abort_outdated(&self, generations: Option<&Generations>) {
        for watched in self.outdated(generations) {
            watched.task.abort();
        }
    }

    /// Closes those on which nothing has happened for some time: who asks nothing, or does not read its
    /// answer. And those whose heads do not come to an end.
    fn close_quiet(&mut self, bounds: &Bounds) {
        let (limits, now) = (&bounds.limits, Instant::now());
        for watched in self.watched.values_mut() {
            let (activity, phase) = (watched.control.activity(), watched.control.phase());
            if activity != watched.activity {
                watched.activity = activity;
                watched.since = now;
                watched.head = None;
            }
            match phase {
                // These take the time that they are given.
                Phase::Answering | Phase::Writing => watched.since = now,
                Phase::Head => {
                    let began = *watched.head.get_or_insert(now);
                    if now.duration_since(began) >= limits.head_time {
                        watched.control.too_late();
                    }
                }
                Phase::Between | Phase::Open => watched.head = None,
            }
            if now.duration_since(watched.since) >= limits.idle_time {
                bounds.limited.count(Limit::Idle);
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

/// A mutation under way.
type Writing = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// A service that belongs to one connection. hyper calls it by shared reference and never from
/// two places at once; to clone it per request instead would cost two reference counts.
struct PerConnection<S> {
    site: Arc<Site>,
    gate: Gate,
    control: Arc<Control>,
    client: Client,
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
        let asker = self.gate.asker(request.headers());
        let named = asker.as_ref().and_then(|asker| asker.name());
        let named = named.map(|name| Client::Name(Arc::clone(name)));
        let wishes = Wishes::read(&request, named.as_ref().unwrap_or(&self.client));
        // What nearly everybody asks for is not worth being routed.
        if let Some(usual) = Usual::of(&request, &wishes)
            && let Some(response) = self.site.usual(usual, asker.as_deref())
        {
            self.control.asked(if request.body().is_end_stream() {
                Phase::Between
            } else {
                Phase::Open
            });
            return Either::Left(ready(Ok(response)));
        }
        if let Some(response) = self.site.at_the_gate(&request, &wishes) {
            self.control.asked(Phase::Open);
            return Either::Left(ready(Ok(response)));
        }
        if routes::is_mutation(&request) {
            self.control.asked(Phase::Writing);
            let (site, control) = (Arc::clone(&self.site), Arc::clone(&self.control));
            let writing = async move {
                let response = site.write(request, &wishes, asker.as_deref()).await;
                control.set(Phase::Answering);
                Ok(site.finish(response, wishes.origin.as_ref()))
            };
            return Either::Right(Either::Right(Box::pin(writing)));
        }
        let has_end = request.body().is_end_stream() && !routes::is_stream(&request);
        self.control.asked(if has_end {
            Phase::Answering
        } else {
            Phase::Open
        });
        permit::attach(asker, &mut request);
        wishes.attach(&mut request);
        Either::Right(Either::Left(self.routes.borrow_mut().call(request)))
    }
}

/// Answers everything with the word that there is no room.
struct Refusal {
    why: Shut,
    limits: DoorLimits,
    control: Arc<Control>,
}

impl Service<Request<Incoming>> for Refusal {
    type Response = Response;
    type Error = Infallible;
    type Future = Ready<Result<Response, Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        self.control.asked(Phase::Open);
        let mut response = Problem::overloaded(self.why, &self.limits).into_response();
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::limits::{Limited, Limits};

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
        let bounds = Bounds {
            limits: Limits::default(),
            limited: Limited::default(),
            traffic: Arc::default(),
        };
        let limits = DoorLimits::of_readers(&Limits::default());
        let why = Shut::Full;
        let control = Arc::<Control>::default();
        let refusal = Refusal {
            why,
            limits,
            control: Arc::clone(&control),
        };
        connection::serve(stream.into(), refusal, control, &bounds).await;
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
        let message = "this node has 16384 connections, its most";
        let expected = format!(
            "{{\"error\":{{\"code\":\"overloaded\",\"message\":\"{message}\",\"allowed\":[]}}}}\n"
        );
        assert_eq!(body, expected);
    }
}
