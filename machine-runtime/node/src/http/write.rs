//! `POST /v1/mutations`: from its body to what the root says.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::Request;
use hyper::body::Body;
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use machine_runtime::{
    DynState, MutateError, Outcome, Reason, Receipt, Schema, TraceContext, WRITE_BYTES,
    WRITE_WITHIN,
};
use serde::Serialize;
use tokio::time::timeout;
use warp::reply::Response;

use super::Site;
use super::ask::Ask;
use super::client::{Client, Share, Taken};
use super::pages::{POSITION, ascii, put_fresh};
use super::permit::Asker;
use super::problem::Problem;
use super::query;
use super::render::json_line;
use super::routes::Wishes;
use super::traces::Requested;
use super::traffic::{Gauge, Inside, Route};
use crate::limits::Limit;

/// The shortest time that a mutation may take: in less the root may run it and not be heard in time.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

impl Site {
    /// Has the root run what a request asks for, counts the answer and times it. Every problem says whether
    /// that may have been done all the same.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the mutation is not run unless its turn has come.
    pub(super) async fn write<B>(
        &self,
        request: Request<B>,
        wishes: &Wishes,
        asker: Option<&Asker>,
    ) -> Response
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let began = Instant::now();
        if let Err(problem) = self.permit(asker, Route::Mutations) {
            let response = self.explain(problem.of_write());
            self.traffic.count(Route::Mutations, response.status());
            return response;
        }
        let span = self.traces.of_request(request.headers());
        let trace = span.as_ref().map(Requested::context);
        let written = match self.admit_write(&wishes.client) {
            Ok(_taken) => self.try_write(request, &wishes.params, asker, trace).await,
            Err(problem) => Err(problem),
        };
        let problem = written.as_ref().err().map(Problem::code);
        let mut response = written.unwrap_or_else(|problem| self.explain(problem.of_write()));
        if let Some(span) = span {
            span.end(&mut response, problem);
        }
        self.traffic.count(Route::Mutations, response.status());
        self.traffic.time_traced(Route::Mutations, began, trace);
        response
    }

    /// Has a client write one more thing.
    fn admit_write(&self, client: &Client) -> Result<(Inside, Taken), Problem> {
        let inside = self.enter(Gauge::Writing, self.limits.writes, Limit::Writes)?;
        let taken = self.take(client, Share::Write)?;
        let paid = self.clients.pay(client, &self.limits);
        paid.map_err(|limit| self.limit(limit))?;
        Ok((inside, taken))
    }

    async fn try_write<B>(
        &self,
        request: Request<B>,
        params: &[(String, String)],
        asker: Option<&Asker>,
        trace: Option<TraceContext>,
    ) -> Result<Response, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self.vitals.is_leaving() {
            return Err(Problem::stopping());
        }
        let wait = query::only(params, Some("wait"))?;
        let within = wait.map(|wait| query::seconds(wait, SHORTEST_WAIT));
        let within = within.transpose()?;
        let body = self.read(request).await?;
        let schema = self.view.schema();
        let Ask { mutation, options } = Ask::parse(&body, schema)?;
        // Who may not any more since the head came, may not.
        let asker = asker.map(|asker| asker.anew(&self.access));
        self.permit(asker.as_ref(), Route::Mutations)?;
        self.permit_changes(asker.as_ref(), &mutation)?;
        let mut options = options.with_time(within.unwrap_or(WRITE_WITHIN));
        options.trace = trace;
        let receipt = self.handle.mutate_with(mutation, options).await;
        Ok(answer(
            &receipt.map_err(|error| problem(error, schema))?,
            schema,
        ))
    }

    /// Reads a body as far as it may be read.
    async fn read<B>(&self, request: Request<B>) -> Result<Bytes, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (most, within) = (self.limits.body_bytes, self.limits.body_time);
        let too_large = || {
            self.limited.count(Limit::Body);
            Problem::too_large(most)
        };
        let headers = request.headers();
        if !is_json(headers) {
            return Err(Problem::unsupported_type());
        }
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        let length = length.and_then(|length| length.parse().ok());
        if length.is_some_and(|length: u64| length > most as u64) {
            return Err(too_large());
        }
        let body = Limited::new(request.into_body(), most).collect();
        let body = timeout(within, body).await.map_err(|_elapsed| {
            self.limited.count(Limit::BodyTime);
            Problem::body_late(within)
        })?;
        let body = body.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                too_large()
            } else {
                Problem::bad_body("the body broke off")
            }
        })?;
        Ok(body.to_bytes())
    }
}

/// Whether a body is said to be JSON. A browser asks first before it sends such a body for a page
/// of another site, and then does not send it; one of no type it would just send.
fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.to_str().unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    })
}

/// What a receipt says.
fn answer(receipt: &Receipt<DynState>, schema: &Schema) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        outcome: &'static str,
        position: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Canceled<'a>>,
    }
    let position = receipt.position.to_string();
    let (outcome, reason) = match &receipt.outcome {
        Outcome::Executed => ("executed", None),
        Outcome::Canceled(reason) => ("canceled", Some(Canceled::new(reason, schema))),
        _ => ("other", None),
    };
    let body = Body {
        outcome,
        position: &position,
        reason,
    };
    let mut response = Response::new(json_line(&body).into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(&POSITION, ascii(&position));
    put_fresh(headers);
    response
}

/// Why a mutation was canceled.
#[derive(Serialize, Default)]
struct Canceled<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requires: Option<&'a str>,
    /// Which kind of handler it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    /// What the handler said.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Cow<'static, str>>,
    message: String,
}

impl<'a> Canceled<'a> {
    fn new(reason: &Reason<DynState>, schema: &'a Schema) -> Self {
        let reason = reason
            .clone()
            .map(|state| Name(schema.name_of(state.0 as usize)));
        let message = reason.to_string();
        let of = |state: Option<Name<'a>>| Self {
            code: reason.code(),
            state: state.map(|name| name.0),
            ..Self::default()
        };
        let why = match &reason {
            Reason::Blocked { state, by } => Self {
                by: Some(by.0),
                ..of(Some(*state))
            },
            Reason::Missing { state, requires } => Self {
                requires: Some(requires.0),
                ..of(Some(*state))
            },
            Reason::Refused(refusal) => Self {
                phase: Some(refusal.phase.name()),
                why: refusal.why.clone(),
                ..of(refusal.state)
            },
            Reason::Panicked { phase, state } | Reason::TimedOut { phase, state } => Self {
                phase: Some(phase.name()),
                ..of(*state)
            },
            Reason::PayloadUnwanted { state } => of(Some(*state)),
            _ => of(None),
        };
        Self { message, ..why }
    }
}

/// A state as people call it.
#[derive(Clone, Copy)]
struct Name<'a>(&'a str);

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why there is no receipt.
fn problem(error: MutateError, schema: &Schema) -> Problem {
    let problem = match error {
        MutateError::Closed { .. } => Problem::stopping(),
        MutateError::Busy { .. } => Problem::busy(error),
        MutateError::Unreachable { .. } => Problem::unreachable(error),
        MutateError::Expired { .. } => Problem::expired(error),
        MutateError::EpochChanged { .. } => Problem::life_changed(error),
        MutateError::KeyReused => Problem::key_reused(error),
        MutateError::Forbidden { state } => {
            Problem::forbidden_above(schema.name_of(state as usize))
        }
        MutateError::TooLarge => Problem::too_large_to_pass(WRITE_BYTES),
        _ => Problem::not_taken(error),
    };
    problem.having_run(error.may_have_run())
}

#[cfg(test)]
mod tests {
    use machine_runtime::{Phase, Refusal, States as _};

    use super::*;
    use crate::fixture::Flights;

    #[test]
    fn a_reason_has_a_code_and_what_belongs_to_it() {
        let state_of = |state: Flights| DynState(u32::try_from(state.index()).unwrap());
        let state = state_of(Flights::Flight1Delayed);
        let other = state_of(Flights::Flight2OnTime);
        let phase = Phase::Enter;
        let refusal = |state, why: Option<&'static str>| {
            let why = why.map(Into::into);
            Reason::Refused(Box::new(Refusal { phase, state, why }))
        };
        let delayed = r#","state":"Flight1Delayed""#;
        for (reason, expected) in [
            (
                Reason::Blocked { state, by: other },
                format!(r#""blocked"{delayed},"by":"Flight2OnTime""#),
            ),
            (
                Reason::Missing {
                    state,
                    requires: other,
                },
                format!(r#""missing"{delayed},"requires":"Flight2OnTime""#),
            ),
            (
                refusal(Some(state), Some("too \"late\"")),
                format!(r#""refused"{delayed},"phase":"enter","why":"too \"late\"""#),
            ),
            (refusal(None, None), r#""refused","phase":"enter""#.into()),
            (
                Reason::Panicked {
                    phase: Phase::End,
                    state: Some(state),
                },
                format!(r#""panicked"{delayed},"phase":"end""#),
            ),
            (
                Reason::TimedOut {
                    phase: Phase::AnyState,
                    state: None,
                },
                r#""timed_out","phase":"any_state""#.into(),
            ),
            (Reason::Displaced, r#""displaced""#.into()),
            (Reason::BackingOff, r#""backing_off""#.into()),
            (Reason::Runaway, r#""runaway""#.into()),
            (Reason::QueueFull, r#""queue_full""#.into()),
            (Reason::NoCandidate, r#""no_candidate""#.into()),
            (
                Reason::PayloadTooLarge { len: 1025 },
                r#""payload_too_large""#.into(),
            ),
            (
                Reason::PayloadUnwanted { state },
                format!(r#""payload_unwanted"{delayed}"#),
            ),
        ] {
            let why = Canceled::new(&reason, Flights::schema());
            let written = serde_json::to_string(&why).unwrap();
            let (fields, message) = written.split_once(r#","message":""#).unwrap();
            assert_eq!(fields, format!(r#"{{"code":{expected}"#));
            assert!(message.len() > 10, "{message}");
        }
    }
}
