//! What goes wrong with a request, and how a client is told.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use machine_runtime::replica::Selection;
use machine_runtime::{MutateError, Position};
use serde::Serialize;
use warp::reply::Response;

use super::render::json_line;
use crate::door::{DoorLimits, Shut};
use crate::limits::{Limit, Limits};

/// Why a request is not answered as it was meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// What would be right, where that is a list.
    allowed: Vec<String>,
    /// Whether what was to be changed may have been, where something was.
    may_have_run: Option<bool>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            allowed: Vec::new(),
            may_have_run: None,
        }
    }

    /// The problem in one word.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn allowing<N: Into<String>>(
        mut self,
        allowed: impl IntoIterator<Item = N>,
    ) -> Self {
        self.allowed = allowed.into_iter().map(Into::into).collect();
        self
    }

    /// There is nothing at this path.
    pub(super) fn unknown_path(routes: &[&str]) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_path",
            "there is nothing at this path",
        )
        .allowing(routes.iter().copied())
    }

    /// Nobody is known who may ask for this.
    pub(super) fn unauthenticated(role: &str) -> Self {
        let message = format!(
            "this takes the role {role}, and nobody is known by what the request shows: a token, as in \
             `Authorization: Bearer fl_…`, or a client certificate"
        );
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    /// What stands in the header is no token.
    pub(super) fn no_token() -> Self {
        let message =
            "the header Authorization is no `Bearer` and a token, which `flights token` makes";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    /// It is not said by whom the request is.
    pub(super) fn several_authorizations() -> Self {
        let message = "the header Authorization is given twice";
        Self::new(StatusCode::BAD_REQUEST, "bad_header", message)
    }

    /// A token is where everybody on the way logs it.
    pub(super) fn token_in_query() -> Self {
        let message = "a token in an address is not taken, and may be in logs now: it belongs into the header \
                       Authorization";
        Self::new(StatusCode::BAD_REQUEST, "bad_query", message)
    }

    /// Who asks is known, and may not.
    pub(super) fn forbidden(who: &str, role: &str) -> Self {
        let message = format!("this takes the role {role}, which {who} does not have");
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Who asks may change other states. `sets`: all that they do not name would end.
    pub(super) fn forbidden_state(who: &str, state: &str, sets: bool) -> Self {
        let ends = if sets {
            ", which a set ends unless it is named"
        } else {
            ""
        };
        let message = format!("{who} may not change {state}{ends}");
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// A node on the way to the root does not let the one below it do this.
    pub(super) fn forbidden_above(state: &str) -> Self {
        let message = format!("a node on the way to the root does not let this one change {state}");
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// What somebody was given over time has been taken from them.
    pub(super) fn revoked() -> Self {
        let message = "what this client may do has changed while it waited";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// A page of a site that may not read.
    pub(super) fn foreign_page() -> Self {
        let message = "pages of this site may not ask for this here";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Whether it says no more than that somebody may not.
    pub(super) fn is_denial(&self) -> bool {
        [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&self.status)
    }

    /// The path is there, but not for this method.
    pub(super) fn method_not_allowed(allowed: &[&str]) -> Self {
        let message = if allowed.contains(&"GET") {
            "this path is for reading only"
        } else {
            "this path is for writing only"
        };
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
        .allowing(allowed.iter().copied())
    }

    /// A state of the path is not one of the schema's.
    pub(super) fn unknown_state(name: &str, similar: Vec<&str>) -> Self {
        let message = format!("unknown state `{}`{}", shortened(name), hint(&similar));
        Self::new(StatusCode::NOT_FOUND, "unknown_state", message).allowing(similar)
    }

    /// A state is not among those that this node follows.
    pub(super) fn not_selected(name: &str, selection: &Selection, list: Option<&str>) -> Self {
        let list = list.map_or_else(String::new, |list| format!(" ({list})"));
        let message = format!(
            "this node follows {selection}{list}, and `{name}` is not one of them: ask the root, or another node"
        );
        Self::new(StatusCode::NOT_FOUND, "not_selected", message)
    }

    /// A state that is called is not one of the schema's.
    pub(super) fn unknown_called(name: &str, similar: Vec<&str>) -> Self {
        let mut problem = Self::unknown_state(name, similar);
        problem.status = StatusCode::BAD_REQUEST;
        problem
    }

    /// A parameter names a group that the schema lacks.
    pub(super) fn unknown_group(name: &str, similar: Vec<&str>) -> Self {
        let message = format!("unknown group `{}`{}", shortened(name), hint(&similar));
        Self::new(StatusCode::BAD_REQUEST, "unknown_group", message).allowing(similar)
    }

    /// The path takes no such parameter.
    pub(super) fn unknown_parameter(name: &str, allowed: &[&str]) -> Self {
        let message = format!("unknown parameter `{}`", shortened(name));
        Self::new(StatusCode::BAD_REQUEST, "unknown_parameter", message)
            .allowing(allowed.iter().copied())
    }

    /// A parameter's value is none that it can have.
    pub(super) fn bad_value(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_value", message)
    }

    /// Parameters exclude or lack each other, or one is there twice.
    pub(super) fn bad_query(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_query", message)
    }

    /// A body is not what it has to be.
    pub(super) fn bad_body(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_body", message)
    }

    /// A body has something twice.
    pub(super) fn given_twice(name: &str) -> Self {
        Self::bad_body(format!("`{}` is given twice", shortened(name)))
    }

    /// A body has a field that there is none of.
    pub(super) fn unknown_field(name: &str, allowed: &[&str]) -> Self {
        let message = format!("unknown field `{}`", shortened(name));
        Self::new(StatusCode::BAD_REQUEST, "unknown_field", message)
            .allowing(allowed.iter().copied())
    }

    /// A body does not come.
    pub(super) fn body_late(time: Duration) -> Self {
        let message = format!("the body did not come within {} s", time.as_secs_f64());
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_late", message)
    }

    /// A body has too many bytes.
    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("a body has at most {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// A mutation takes too many bytes on its way to the root.
    pub(super) fn too_large_to_pass(most: usize) -> Self {
        let message = format!(
            "a mutation takes at most {most} bytes on its way to the root: 5 for each called state, \
             10 for each payload and what that has, and 143"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// The first line of a request is too long.
    pub(super) fn line_too_long(most: usize) -> Self {
        let message = format!("the first line of a request has at most {most} bytes");
        Self::new(StatusCode::URI_TOO_LONG, "line_too_long", message)
    }

    /// A head has too many bytes, or lines.
    pub(super) fn head_too_large(most: usize) -> Self {
        let message = format!("the head of a request has at most {most} bytes and 100 headers");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::new(status, "head_too_large", message)
    }

    /// A head does not come.
    pub(super) fn head_late(time: Duration) -> Self {
        let time = time.as_secs_f64();
        let message = format!("the head of the request did not come within {time} s");
        Self::new(StatusCode::REQUEST_TIMEOUT, "head_late", message)
    }

    /// What came is no HTTP.
    pub(super) fn bad_request() -> Self {
        let message = "this is no request of HTTP/1.0 or HTTP/1.1";
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// Somebody takes more of the node than there is for them.
    pub(super) fn limited(limit: Limit, limits: &Limits) -> Self {
        let (of_node, of_client) = (
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
        );
        let at_a_time = |what: &str, most: usize| format!("this node has {most} {what}, its most");
        let of_yours = |what: &str, most: usize| format!("one client has at most {most} {what}");
        let (waits, streams, writes) =
            ("requests that wait", "event streams", "mutations under way");
        let (status, code, message) = match limit {
            Limit::Waits => (of_node, "too_many_waits", at_a_time(waits, limits.waits)),
            Limit::Streams => {
                let message = at_a_time(streams, limits.streams);
                (of_node, "too_many_streams", message)
            }
            Limit::WaitsPerClient => {
                let message = of_yours(waits, limits.waits_per_client);
                (of_client, "too_many_waits", message)
            }
            Limit::StreamsPerClient => {
                let message = of_yours(streams, limits.streams_per_client);
                (of_client, "too_many_streams", message)
            }
            Limit::WritesPerClient => {
                let message = of_yours(writes, limits.writes_per_client);
                (of_client, "too_many_writes", message)
            }
            Limit::WriteRate => {
                let rate = limits.write_rate;
                let message = format!("one client sends at most {rate} mutations a second");
                (of_client, "too_fast", message)
            }
            _ => (of_node, "too_many_writes", at_a_time(writes, limits.writes)),
        };
        Self::new(status, code, message)
    }

    /// A body is of another type, or of none.
    pub(super) fn unsupported_type() -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let message = "the body has to be JSON, and Content-Type has to say so";
        Self::new(status, "unsupported_type", message).allowing(["application/json"])
    }

    /// There is no room for the write.
    pub(super) fn busy(error: MutateError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string())
    }

    /// There is no link to the root.
    pub(super) fn unreachable(error: MutateError) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unreachable", error.to_string())
    }

    /// There was no answer of the root's in time.
    pub(super) fn expired(error: MutateError) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "expired", error.to_string())
    }

    /// The root is in another life than the write is for.
    pub(super) fn life_changed(error: MutateError) -> Self {
        Self::new(StatusCode::CONFLICT, "epoch_changed", error.to_string())
    }

    /// The key names another write.
    pub(super) fn key_reused(error: MutateError) -> Self {
        Self::new(StatusCode::CONFLICT, "key_reused", error.to_string())
    }

    /// A node on the way up takes no writes.
    pub(super) fn not_taken(error: MutateError) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "not_taken", error.to_string())
    }

    /// The problem of a write, which may have been run all the same.
    pub(super) fn having_run(mut self, may_have_run: bool) -> Self {
        self.may_have_run = Some(may_have_run);
        self
    }

    /// The problem of a write, which was not run unless that has been said.
    pub(super) fn of_write(mut self) -> Self {
        self.may_have_run.get_or_insert(false);
        self
    }

    /// The position is of another life of the root than what is shown.
    pub(super) fn epoch_changed(now: Position) -> Self {
        let message = format!("the position is of another epoch, this node is at {now}");
        Self::new(StatusCode::CONFLICT, "epoch_changed", message)
    }

    /// A replica that has nothing to show yet.
    pub(super) fn not_ready(why: &str) -> Self {
        let message = format!("this node has nothing to show yet: {why}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
    }

    /// The node stops while the request waits.
    pub(super) fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "this node is stopping",
        )
    }

    /// There is no room for the connection.
    pub(super) fn overloaded(why: Shut, limits: &DoorLimits) -> Self {
        let (most, whose) = if why == Shut::Address {
            (limits.per_address, " from your address")
        } else {
            (limits.connections, "")
        };
        let message = format!("this node has {most} connections{whose}, its most");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// There is no room for another who draws.
    pub(super) fn drawing(most: usize) -> Self {
        let message = format!("this node draws for {most} readers at a time, its most");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    /// A diagram could not be drawn.
    pub(super) fn not_drawn() -> Self {
        let message = "the layout of the picture failed; the other formats work";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "not_drawn", message)
    }

    /// A position that was waited for did not come in time.
    pub(super) fn not_reached(asked: Position, now: Position) -> Self {
        let message = format!("{asked} was not reached in time, this node is at {now}");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "not_reached", message)
    }

    /// The status of the response.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    fn body(&self) -> Bytes {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            code: &'a str,
            message: &'a str,
            allowed: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            may_have_run: Option<bool>,
        }
        let error = Error {
            code: self.code,
            message: &self.message,
            allowed: &self.allowed,
            may_have_run: self.may_have_run,
        };
        json_line(&Body { error })
    }

    /// The last response of a connection that tells it, where there is no request that it could be one to.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (status, body) = (self.status, self.body());
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), &body].concat()
    }

    /// The response that tells it.
    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(self.body().into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                let how = HeaderValue::from_static("Bearer realm=\"machine\"");
                headers.insert(WWW_AUTHENTICATE, how);
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                let allow = self.allowed.join(", ");
                if let Ok(allow) = HeaderValue::try_from(allow) {
                    headers.insert(ALLOW, allow);
                }
            }
            _ => {}
        }
        response
    }
}

fn hint(similar: &[&str]) -> String {
    similar
        .first()
        .map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

/// As much of a client's word as a message repeats.
fn shortened(word: &str) -> String {
    const MOST: usize = 100;
    if word.chars().nth(MOST).is_none() {
        return word.to_owned();
    }
    word.chars().take(MOST).chain(['…']).collect()
}
