//! Which request is answered by what.

use std::convert::Infallible;

use bytes::Bytes;
use serde::Serialize;
use warp::Filter;
use warp::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

use super::error::Problem;
use super::metrics::Route;
use super::render::json;
use super::{Http, events, metrics, query, states};

/// What is served, as told to those who ask for anything else.
const PATHS: [&str; 8] = [
    "/",
    "/v1/states",
    "/v1/states/NAME",
    "/v1/schema",
    "/v1/events",
    "/healthz",
    "/readyz",
    "/metrics",
];

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// All routes of a node.
pub(super) fn routes(
    http: &Http,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + use<> {
    let http = http.clone();
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and_then(move |method, path: FullPath, query: String, headers| {
            let http = http.clone();
            async move {
                let (route, answer) = http.answer(&method, path.as_str(), &query, &headers).await;
                let response = answer.unwrap_or_else(Problem::into_response);
                http.inner.requests.count(route, response.status());
                Ok::<_, Infallible>(response)
            }
        })
}

impl Http {
    async fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
    ) -> (Route, Result<Response, Problem>) {
        let (route, name) = match path {
            "/" => (Route::Root, ""),
            "/v1/states" => (Route::States, ""),
            "/v1/schema" => (Route::Schema, ""),
            "/v1/events" => (Route::Events, ""),
            "/healthz" => (Route::Healthz, ""),
            "/readyz" => (Route::Readyz, ""),
            "/metrics" => (Route::Metrics, ""),
            _ => match path.strip_prefix("/v1/states/") {
                Some(name) if !name.is_empty() && !name.contains('/') => (Route::State, name),
                _ => return (Route::Unknown, Err(Problem::unknown_path(path, &PATHS))),
            },
        };
        if method != Method::GET && method != Method::HEAD {
            return (route, Err(Problem::method(method.as_str())));
        }
        let answer = match route {
            Route::Root => states::root(self, query, headers),
            Route::States => states::states(self, query, headers).await,
            Route::State => states::state(self, name, query),
            Route::Schema => query::none(query).map(|()| self.schema()),
            Route::Events => events::events(self, query, headers),
            Route::Healthz => query::none(query).map(|()| healthy()),
            Route::Readyz => query::none(query).map(|()| self.ready()),
            Route::Metrics => {
                query::none(query).map(|()| metrics::answer(self, header(headers, &ACCEPT)))
            }
            Route::Unknown => Err(Problem::unknown_path(path, &PATHS)),
        };
        (route, answer)
    }

    fn schema(&self) -> Response {
        let body = self.inner.cache.schema(self.inner.view.schema());
        respond(body, JSON)
    }

    fn ready(&self) -> Response {
        #[derive(Serialize)]
        struct Ready {
            ready: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            why: Option<String>,
        }
        let why = self.unready();
        let body = json(&Ready {
            ready: why.is_none(),
            why: why.clone(),
        });
        let mut response = respond(body, JSON);
        if why.is_some() {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }

    /// Why the node is not ready, if it is not.
    pub(super) fn unready(&self) -> Option<String> {
        let view = &self.inner.view;
        if !view.is_stale() {
            return None;
        }
        let link = self.link();
        Some(if view.position().is_none() {
            format!("no snapshot yet, {link}")
        } else {
            let (age, bound) = (view.age().as_secs_f64(), view.stale_after().as_secs_f64());
            format!("what it shows is {age:.1} s old, the bound is {bound} s; {link}")
        })
    }

    /// How it stands with the parent, in words.
    pub(super) fn link(&self) -> String {
        let link = self.inner.link.as_ref();
        link.map_or_else(|| "no parent".to_owned(), |link| link.state().to_string())
    }
}

fn healthy() -> Response {
    respond("{\"alive\":true}", JSON)
}

/// An answer as a whole.
pub(super) fn respond(body: impl Into<Bytes>, content_type: HeaderValue) -> Response {
    let mut response = Response::new(body.into().into());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A header as text, if it is there and is text.
pub(super) fn header(
    headers: &HeaderMap,
    name: impl warp::http::header::AsHeaderName,
) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The content type of plain text.
pub(super) const fn text() -> HeaderValue {
    TEXT
}
