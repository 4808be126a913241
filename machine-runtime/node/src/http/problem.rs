//! What goes wrong with a request, and how a client is told.

use hyper::StatusCode;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use machine_runtime::Position;
use serde::Serialize;
use warp::reply::Response;

use super::render::json_line;

/// Why a request is not answered as it was meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// What would be right, where that is a list.
    allowed: Vec<String>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            allowed: Vec::new(),
        }
    }

    fn allowing<N: Into<String>>(mut self, allowed: impl IntoIterator<Item = N>) -> Self {
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

    /// The path is there, but not for this method.
    pub(super) fn method_not_allowed(allowed: &[&str]) -> Self {
        let message = "this path is for reading only";
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
    pub(super) fn overloaded(most: usize) -> Self {
        let message = format!("this node has {most} connections, its most");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// A position that was waited for did not come in time.
    pub(super) fn not_reached(asked: Position, now: Position) -> Self {
        let message = format!("{asked} was not reached in time, this node is at {now}");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "not_reached", message)
    }

    /// The response that tells it.
    pub(super) fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            code: &'a str,
            message: &'a str,
            allowed: &'a [String],
        }
        let error = Error {
            code: self.code,
            message: &self.message,
            allowed: &self.allowed,
        };
        let mut response = Response::new(json_line(&Body { error }).into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
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
