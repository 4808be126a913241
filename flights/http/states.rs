//! The active states: as they are, after a position, or one of them.

use std::sync::Arc;
use std::time::Duration;

use machine_runtime::{Position, Snapshot};
use serde::Serialize;
use tokio::time::timeout;
use warp::http::StatusCode;
use warp::http::header::{
    ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, VARY,
};
use warp::reply::Response;

use super::Http;
use super::error::Problem;
use super::negotiate::{Format, matches};
use super::query::{self, Query, Until};
use super::render::{Rendered, States, json, payload};
use super::routes::{JSON, header, respond};

const MACHINE_POSITION: HeaderName = HeaderName::from_static("machine-position");
const MACHINE_STALE: HeaderName = HeaderName::from_static("machine-stale");
const MACHINE_AGE: HeaderName = HeaderName::from_static("machine-age-ms");

/// `GET /`.
pub(super) fn root(http: &Http, query: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    query::none(query)?;
    let format = Format::preferred(header(headers, &ACCEPT));
    let rendered = http.plain(format)?;
    Ok(http.conditional(&rendered, format.content_type(), headers))
}

/// `GET /v1/states`.
pub(super) async fn states(
    http: &Http,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let content_type = Format::Json.content_type();
    if query.is_empty() {
        let rendered = http.plain(Format::Json)?;
        return Ok(http.conditional(&rendered, content_type, headers));
    }
    let query = Query::parse(query, http.inner.view.schema())?;
    // A node that has nothing yet says so at once, however long one would wait.
    http.snapshot()?;
    if let Some(until) = query.until {
        http.until(until, query.wait).await?;
    }
    let rendered = if query.is_plain() {
        http.plain(Format::Json)?
    } else {
        let snapshot = http.snapshot()?;
        let view = &http.inner.view;
        let body = json(&States::new(
            &http.inner.node,
            view,
            &snapshot,
            Some(&query),
        ));
        let suffix = format!("j{}", query.tag());
        Arc::new(Rendered::new(&snapshot, view.tier(), body, &suffix))
    };
    if let Some(Until::After(after)) = query.until
        && rendered.position == after
    {
        return Ok(http.unchanged(&rendered));
    }
    Ok(http.conditional(&rendered, content_type, headers))
}

/// `GET /v1/states/NAME`.
pub(super) fn state(http: &Http, name: &str, query: &str) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Body<'a> {
        state: &'a str,
        active: bool,
        tick: u64,
        payload: Option<serde_json::Value>,
    }
    query::none(query)?;
    let view = &http.inner.view;
    let index = view
        .schema()
        .find_or_suggest(name)
        .map_err(|unknown| Problem::unknown_state(unknown.to_string(), unknown.similar))?;
    let snapshot = http.snapshot()?;
    let retained = u32::try_from(index)
        .ok()
        .and_then(|i| snapshot.retained().get(&i));
    let body = json(&Body {
        state: name,
        active: snapshot.is_active(index),
        tick: snapshot.ticks()[index],
        payload: retained.map(|bytes| payload(bytes)),
    });
    let mut response = respond(body, JSON);
    let position = HeaderValue::try_from(snapshot.position().to_string());
    http.mark(&mut response, position.ok());
    Ok(response)
}

impl Http {
    /// What the view shows, or why it shows nothing.
    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, Problem> {
        let snapshot = self.inner.view.snapshot();
        snapshot.ok_or_else(|| Problem::not_ready(&self.link()))
    }

    fn plain(&self, format: Format) -> Result<Arc<Rendered>, Problem> {
        let Self { inner } = self;
        let rendered = inner.cache.body(&inner.node, &inner.view, format);
        rendered.ok_or_else(|| Problem::not_ready(&self.link()))
    }

    /// Waits for `until`, for `wait` at most. That nothing came after a position is no problem;
    /// that a position was not reached is one.
    async fn until(&self, until: Until, wait: Duration) -> Result<(), Problem> {
        let (Until::After(position) | Until::Reached(position)) = until;
        let done = |now: Position| {
            now.epoch != position.epoch
                || match until {
                    Until::After(after) => now.revision > after.revision,
                    Until::Reached(goal) => now.revision >= goal.revision,
                }
        };
        let mut positions = self.inner.view.positions();
        let waited = tokio::select! {
            waited = timeout(wait, positions.wait_for(|now| now.is_some_and(done))) => waited,
            () = self.inner.stop.cancelled() => return Err(Problem::stopping()),
        };
        let now = self.snapshot()?.position();
        if now.epoch != position.epoch {
            return Err(Problem::epoch_changed(
                &position.to_string(),
                &now.to_string(),
            ));
        }
        match (waited, until) {
            (Ok(Ok(_)), _) | (Err(_), Until::After(_)) => Ok(()),
            (Ok(Err(_closed)), _) => Err(Problem::stopping()),
            (Err(_elapsed), Until::Reached(goal)) => {
                let (goal, now) = (goal.to_string(), now.to_string());
                Err(Problem::not_reached(&goal, &now, wait.as_secs_f64()))
            }
        }
    }

    /// The whole answer, or 304 where the reader has it already.
    fn conditional(
        &self,
        rendered: &Rendered,
        content_type: &'static str,
        headers: &HeaderMap,
    ) -> Response {
        let known = header(headers, &IF_NONE_MATCH);
        let tag = rendered.tag.to_str().unwrap_or_default();
        if known.is_some_and(|known| matches(known, tag)) {
            return self.unchanged(rendered);
        }
        let mut response = Response::new(rendered.body.clone().into());
        let headers = response.headers_mut();
        headers.reserve(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.tag(&mut response, rendered);
        response
    }

    fn unchanged(&self, rendered: &Rendered) -> Response {
        let mut response = Response::new(bytes::Bytes::new().into());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        self.tag(&mut response, rendered);
        response
    }

    /// What a reader needs to ask again.
    fn tag(&self, response: &mut Response, rendered: &Rendered) {
        let headers = response.headers_mut();
        headers.insert(ETAG, rendered.tag.clone());
        headers.insert(VARY, HeaderValue::from_static("accept"));
        self.mark(response, Some(rendered.position_header.clone()));
    }

    /// What changes without a position.
    pub(super) fn mark(&self, response: &mut Response, position: Option<HeaderValue>) {
        let view = &self.inner.view;
        let age = view.age();
        let stale = HeaderValue::from_static(if age > view.stale_after() {
            "true"
        } else {
            "false"
        });
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let headers = response.headers_mut();
        if let Some(position) = position {
            headers.insert(MACHINE_POSITION, position);
        }
        headers.insert(MACHINE_STALE, stale);
        headers.insert(MACHINE_AGE, HeaderValue::from(age));
    }
}
