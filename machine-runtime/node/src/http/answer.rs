//! From a call to a response.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, VARY};
use hyper::{Method, Request, StatusCode};
use machine_runtime::Snapshot;
use machine_runtime::replica::{Link, Selection};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;

use super::Site;
use super::accept::Representation;
use super::client::{Client, Share, Taken};
use super::cors::harden;
use super::events;
use super::graph::Drawing;
use super::metrics::Format;
use super::pages::{AGE, POSITION, Page, STALE, ascii, put_fresh, set_age, tagged};
use super::permit::{Asker, Hold, has_token};
use super::problem::Problem;
use super::query::{self, Query};
use super::render::{self, Scene, json_line};
use super::routes::{Call, Target, Usual, Wishes};
use super::similar::similar;
use super::traffic::{Gauge, Inside, Route};
use super::wait::Wait;
use crate::access::Role;
use crate::limits::Limit;

/// What may be done where states are shown: nothing but looking.
const METHODS: [&str; 2] = ["GET", "HEAD"];

/// What may be done where they are changed. It never becomes a call: its body matters.
const WRITING: [&str; 1] = ["POST"];

/// An answer, or what has to come before it.
pub(super) enum Answer {
    /// The response, already counted.
    Now(Response),
    /// The call waits for a position.
    Later(Box<Later>),
    /// A diagram is to be drawn.
    Drawing(Box<Drawing>),
}

/// A call that waits for a position.
pub(super) struct Later {
    call: Call,
    query: Query,
    representation: Representation,
    wait: Wait,
}

impl Site {
    /// Answers a call, counts and times it, unless it has to wait.
    pub(super) fn answer(self: &Arc<Self>, call: Call, stopping: &CancellationToken) -> Answer {
        let began = Instant::now();
        let route = call.target.route();
        let response = match self.try_answer(call, stopping) {
            Ok(Answer::Now(response)) => response,
            Ok(later) => return later,
            Err(problem) => self.explain(problem),
        };
        self.traffic.count(route, response.status());
        // A stream has only begun.
        if route != Route::Events {
            self.traffic.time(route, began);
        }
        Answer::Now(response)
    }

    /// Answers the usual request, counts it and times a sample; None if there is nothing to show, or not to
    /// `asker`.
    pub(super) fn usual(
        &self,
        Usual(route, representation): Usual,
        asker: Option<&Asker>,
    ) -> Option<Response> {
        if !self.access.is_open() && !asker?.may(Role::Observe) {
            return None;
        }
        let began = self.traffic.is_sampled(route).then(Instant::now);
        let mut response = whole(&*self.page(representation)?);
        self.show_age(response.headers_mut());
        self.origins.allow(None, &mut response);
        self.traffic.count(route, StatusCode::OK);
        if let Some(began) = began {
            self.traffic.time(route, began);
        }
        Some(response)
    }

    /// Answers, and counts, what is not looked at any further, whoever asks: a browser that asks first, and a
    /// token where it does not belong.
    pub(super) fn at_the_gate<B>(&self, request: &Request<B>, wishes: &Wishes) -> Option<Response> {
        let preflight = self.origins.preflight(request);
        let response = preflight.or_else(|| {
            let wrong =
                has_token(request.uri().path(), &wishes.params).then(Problem::token_in_query)?;
            Some(self.finish(wrong.into_response(), wishes.origin.as_ref()))
        })?;
        self.traffic.count(Route::Other, response.status());
        Some(response)
    }

    /// What every answer has besides, to a page of `origin` if one asks.
    pub(super) fn finish(&self, mut response: Response, origin: Option<&HeaderValue>) -> Response {
        harden(response.headers_mut());
        self.origins.allow(origin, &mut response);
        response
    }

    /// Waits, answers and counts.
    ///
    /// # Cancel safety
    ///
    /// Nothing remains of a wait that is dropped.
    pub(super) async fn answer_later(
        &self,
        later: Later,
        stopping: &CancellationToken,
    ) -> Response {
        let Later {
            call,
            query,
            representation,
            wait,
        } = later;
        let hold = Hold::new(&self.access, &call, Role::Observe);
        let waited = match self.admit_wait(&call.wishes().client) {
            Ok(_taken) => self.wait(wait, hold, stopping).await,
            Err(problem) => Err(problem),
        };
        let response = waited
            .and_then(|()| self.show(&call, &query, representation))
            .unwrap_or_else(|problem| self.explain(problem));
        self.traffic.count(call.target.route(), response.status());
        response
    }

    /// Has a client wait once more.
    fn admit_wait(&self, client: &Client) -> Result<(Inside, Taken), Problem> {
        let inside = self.enter(Gauge::Waiting, self.limits.waits, Limit::Waits)?;
        Ok((inside, self.take(client, Share::Wait)?))
    }

    /// Has a client have one more stream of events.
    pub(super) fn admit_stream(&self, client: &Client) -> Result<(Inside, Taken), Problem> {
        let inside = self.enter(Gauge::Streams, self.limits.streams, Limit::Streams)?;
        Ok((inside, self.take(client, Share::Stream)?))
    }

    /// Draws, counts and times.
    ///
    /// # Cancel safety
    ///
    /// As [`Site::draw`].
    pub(super) async fn answer_drawn(&self, drawing: Drawing) -> Response {
        let began = Instant::now();
        let response = self.draw(drawing).await;
        let response = response.unwrap_or_else(|problem| self.explain(problem));
        self.traffic.count(Route::Graph, response.status());
        self.traffic.time(Route::Graph, began);
        response
    }

    fn try_answer(
        self: &Arc<Self>,
        call: Call,
        stopping: &CancellationToken,
    ) -> Result<Answer, Problem> {
        self.permit_call(&call)?;
        if call.target == Target::Mutations {
            return Err(Problem::method_not_allowed(&WRITING));
        }
        if call.wishes().method != Method::GET && call.wishes().method != Method::HEAD {
            return Err(Problem::method_not_allowed(&METHODS));
        }
        let representation = match call.target {
            Target::Root => call.wishes().accept.representation(),
            Target::States => Representation::Json,
            Target::Graph => return self.drawing(call),
            _ => return self.answer_at_once(&call, stopping).map(Answer::Now),
        };
        if call.wishes().params.is_empty() {
            let page = self.page(representation).ok_or_else(|| self.not_ready())?;
            return Ok(Answer::Now(self.send(&page, &call)));
        }
        let details = representation == Representation::Json;
        let query = Query::parse(&call.wishes().params, self.view.schema(), details)?;
        if self.view.position().is_none() {
            return Err(self.not_ready());
        }
        if let Some(wait) = query.wait {
            return Ok(Answer::Later(Box::new(Later {
                call,
                query,
                representation,
                wait,
            })));
        }
        self.show(&call, &query, representation).map(Answer::Now)
    }

    /// Answers what never waits.
    fn answer_at_once(
        self: &Arc<Self>,
        call: &Call,
        stopping: &CancellationToken,
    ) -> Result<Response, Problem> {
        match &call.target {
            Target::State(name) => self.state(call, name),
            Target::Events => self.events(call, stopping),
            Target::Schema | Target::Links | Target::Health | Target::Ready | Target::Metrics => {
                query::only(&call.wishes().params, None)?;
                Ok(match call.target {
                    Target::Schema => send(&self.schema_page(), call),
                    Target::Links => volatile(self.links_page(), "application/json"),
                    Target::Ready => self.ready(self.may(call, Role::Observe)),
                    Target::Metrics => self.scrape(call),
                    _ => self.alive(self.may(call, Role::Observe)),
                })
            }
            Target::Root | Target::States | Target::Graph | Target::Mutations | Target::Nothing => {
                Err(Problem::unknown_path(&Route::PATHS))
            }
        }
    }

    /// The states that a query asks for.
    fn show(
        &self,
        call: &Call,
        query: &Query,
        representation: Representation,
    ) -> Result<Response, Problem> {
        let (page, is_past) = if query.is_plain() {
            let page = self.page(representation).ok_or_else(|| self.not_ready())?;
            let now = page.position();
            (page, now.map_or(Ok(true), |now| query.is_over(now))?)
        } else {
            let (page, is_past) = self.narrow_page(query, representation, call)?;
            (Arc::new(page), is_past)
        };
        Ok(if is_past {
            self.send(&page, call)
        } else {
            self.unchanged(&page)
        })
    }

    /// The response to a problem, with where the node is.
    pub(super) fn explain(&self, problem: Problem) -> Response {
        let tells = !problem.is_denial();
        let mut response = problem.into_response();
        if let Some(position) = self.view.position().filter(|_| tells) {
            let headers = response.headers_mut();
            headers.insert(&POSITION, ascii(&position.to_string()));
            put_fresh(headers);
            self.show_age(headers);
        }
        response
    }

    /// What a query asks for, without a body where the client is not to get one; and whether it is
    /// where the query waits for.
    fn narrow_page(
        &self,
        query: &Query,
        representation: Representation,
        call: &Call,
    ) -> Result<(Page, bool), Problem> {
        let now = self.now()?;
        let is_past = query.is_over(now.position())?;
        let selection = self.selection();
        let suffix = format!("{}-{:08x}", tagged(selection.as_ref()), query.hash());
        let mut page = Page::new(now.position(), representation, &suffix, Bytes::new());
        if is_past && !is_known(&page, call) {
            let scene = self.scene(&now, selection.as_ref());
            page.body = match representation {
                Representation::Json => render::narrow_json(scene, query),
                Representation::Text | Representation::Html => render::narrow_text(scene, query),
            };
        }
        Ok((page, is_past))
    }

    /// One state.
    fn state(&self, call: &Call, name: &str) -> Result<Response, Problem> {
        query::only(&call.wishes().params, None)?;
        let schema = self.view.schema();
        let Some(index) = schema.find(name) else {
            let names = (0..schema.len()).map(|i| schema.name_of(i));
            return Err(Problem::unknown_state(name, similar(name, names)));
        };
        let now = self.now()?;
        let selection = self.selection();
        if let Some(selection) = selection.as_ref().filter(|known| !known.contains(index)) {
            let list = self.links.config.select.as_deref();
            return Err(Problem::not_selected(name, selection, list));
        }
        let body = render::state(self.scene(&now, None), index);
        let suffix = tagged(selection.as_ref());
        let page = Page::new(now.position(), Representation::Json, &suffix, body);
        Ok(self.send(&page, call))
    }

    /// The stream of events.
    fn events(
        self: &Arc<Self>,
        call: &Call,
        stopping: &CancellationToken,
    ) -> Result<Response, Problem> {
        let after = query::only(&call.wishes().params, Some("after"))?;
        let after = after
            .map(|after| query::position("after", after))
            .transpose()?;
        self.now()?;
        if stopping.is_cancelled() {
            return Err(Problem::stopping());
        }
        // A browser repeats the address when it comes again: what it saw last counts. What is
        // no position there is none of ours, and is answered with a snapshot.
        let resume = match &call.wishes().last_event {
            Some(last) => last.parse().ok(),
            None => after,
        };
        if call.wishes().method == Method::HEAD {
            return Ok(events::response(futures_util::stream::empty()));
        }
        let hold = Hold::new(&self.access, call, Role::Observe);
        let taken = self.admit_stream(&call.wishes().client)?;
        let (site, stopping) = (Arc::clone(self), stopping.clone());
        let stream = events::stream(site, resume, hold, stopping, taken);
        Ok(events::response(stream))
    }

    /// `tells`: whether who asks may know why not.
    fn alive(&self, tells: bool) -> Response {
        #[derive(Serialize)]
        struct Liveness {
            alive: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            why: Option<String>,
        }
        let why = self.vitals.why_dead();
        let alive = why.is_none();
        let why = why.filter(|_| tells);
        available(&Liveness { alive, why }, alive)
    }

    /// `tells`: whether who asks may know why not.
    fn ready(&self, tells: bool) -> Response {
        #[derive(Serialize)]
        struct Readiness {
            ready: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            why: Option<String>,
        }
        let why = self.why_not_ready();
        let ready = why.is_none();
        let why = why.filter(|_| tells);
        available(&Readiness { ready, why }, ready)
    }

    /// Why the node is not ready, if it is not.
    pub(super) fn why_not_ready(&self) -> Option<String> {
        self.vitals
            .why_not_ready(&self.view, self.links.up.as_ref())
    }

    fn scrape(&self, call: &Call) -> Response {
        let format = if call.wishes().accept.wants_open_metrics() {
            Format::Open
        } else {
            Format::Classic
        };
        volatile(self.metrics.render(format).into(), format.content_type())
    }

    pub(super) fn now(&self) -> Result<Arc<Snapshot>, Problem> {
        self.view.snapshot().ok_or_else(|| self.not_ready())
    }

    fn scene<'a>(&'a self, now: &'a Snapshot, selection: Option<&'a Selection>) -> Scene<'a> {
        Scene {
            node: &self.node,
            tier: self.view.tier(),
            schema: self.view.schema(),
            now,
            selection,
            list: self.links.config.select.as_deref(),
        }
    }

    fn not_ready(&self) -> Problem {
        Problem::not_ready(&self.link_state())
    }

    fn link_state(&self) -> String {
        match self.links.up.as_ref().map(Link::state) {
            Some(state) => state.to_string(),
            None => "the machine has not started".to_owned(),
        }
    }

    /// A page that shows a moment, unless the client has it.
    pub(super) fn send(&self, page: &Page, call: &Call) -> Response {
        let mut response = send(page, call);
        self.show_age(response.headers_mut());
        response
    }

    fn unchanged(&self, page: &Page) -> Response {
        let mut response = not_modified(page);
        self.show_age(response.headers_mut());
        response
    }

    /// Sets what changes without a position, where it is not what pages are rendered with.
    fn show_age(&self, headers: &mut HeaderMap) {
        let age = self.view.age();
        if !age.is_zero() {
            set_age(headers, age, age > self.view.stale_after());
        }
    }
}

pub(super) fn is_known(page: &Page, call: &Call) -> bool {
    call.wishes()
        .if_none_match
        .as_ref()
        .is_some_and(|known| known.matches(page.etag()))
}

fn send(page: &Page, call: &Call) -> Response {
    if is_known(page, call) {
        return not_modified(page);
    }
    whole(page)
}

fn whole(page: &Page) -> Response {
    let mut response = Response::new(page.body.clone().into());
    *response.headers_mut() = page.headers.clone();
    response
}

fn not_modified(page: &Page) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    for name in [&ETAG, &VARY, &CACHE_CONTROL, &POSITION, &STALE, &AGE] {
        if let Some(value) = page.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    response
}

/// An answer to who asks whether all is well.
fn available(body: &impl Serialize, is_well: bool) -> Response {
    let mut response = volatile(json_line(body), "application/json");
    if !is_well {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// What holds for the moment of the request only.
fn volatile(body: Bytes, kind: &'static str) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
