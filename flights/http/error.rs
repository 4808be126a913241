//! Errors as answers: a status and `{"error":{"code":…,"message":…,"allowed":[…]}}`.

use serde::Serialize;
use warp::http::StatusCode;
use warp::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use warp::reply::Response;

/// An answer that says what is wrong with the question, or with the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    allowed: Vec<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'a str,
    message: &'a str,
    allowed: &'a [String],
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        Self {
            status,
            code,
            message,
            allowed: Vec::new(),
        }
    }

    fn allowing(mut self, allowed: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed = allowed.into_iter().map(Into::into).collect();
        self
    }

    /// A parameter is unknown.
    pub(super) fn unknown_parameter(name: &str, allowed: Vec<String>) -> Self {
        let message = format!("there is no parameter `{name}`");
        Self::new(StatusCode::BAD_REQUEST, "unknown_parameter", message).allowing(allowed)
    }

    /// A parameter has a value that it cannot have.
    pub(super) fn bad_value(name: &str, value: &str, want: &str) -> Self {
        let message = format!("`{name}` is `{value}`, but has to be {want}");
        Self::new(StatusCode::BAD_REQUEST, "bad_value", message)
    }

    /// Two parameters exclude each other, or one stands there twice.
    pub(super) fn conflict(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_query", message)
    }

    /// A group is unknown.
    pub(super) fn unknown_group(name: &str, allowed: Vec<String>) -> Self {
        let message = format!("there is no group `{name}`");
        Self::new(StatusCode::BAD_REQUEST, "unknown_group", message).allowing(allowed)
    }

    /// A state is unknown; `allowed` are those that resemble it.
    pub(super) fn unknown_state(message: String, allowed: Option<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_state", message).allowing(allowed)
    }

    /// Nothing is served at this path.
    pub(super) fn unknown_path(path: &str, allowed: &[&str]) -> Self {
        let message = format!("there is nothing at `{path}`");
        Self::new(StatusCode::NOT_FOUND, "unknown_path", message).allowing(allowed.iter().copied())
    }

    /// The path is only read.
    pub(super) fn method(method: &str) -> Self {
        let message = format!("`{method}` is not possible here");
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
        .allowing(["GET", "HEAD"])
    }

    /// A position is of another life of the root.
    pub(super) fn epoch_changed(theirs: &str, ours: &str) -> Self {
        let message =
            format!("position `{theirs}` is of another life of the root; this node is at `{ours}`");
        Self::new(StatusCode::CONFLICT, "epoch_changed", message)
    }

    /// A position was not reached in time.
    pub(super) fn not_reached(position: &str, ours: &str, seconds: f64) -> Self {
        let message =
            format!("position `{position}` was not reached within {seconds} s, only `{ours}`");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "not_reached", message)
    }

    /// The node has nothing to show yet.
    pub(super) fn not_ready(why: &str) -> Self {
        let message = format!("this node has nothing to show yet: {why}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
    }

    /// The node is being stopped.
    pub(super) fn stopping() -> Self {
        let message = "this node is being stopped".to_owned();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message)
    }

    pub(super) fn into_response(self) -> Response {
        let body = Body {
            error: Inner {
                code: self.code,
                message: &self.message,
                allowed: &self.allowed,
            },
        };
        let body = serde_json::to_string(&body).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
