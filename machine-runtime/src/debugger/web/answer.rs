//! Answers, and what is wrong with requests.

use hyper::StatusCode;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use serde_json::{Value, json};
use warp::reply::Response;

use crate::graph::NoPicture;

/// The page loads from here only, runs nothing that is not here, and is in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Pictures have their styles with them, and do nothing.
const PICTURE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

static RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Why a request is not answered as it was meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// There is nothing at this path.
    Nothing,
    /// This is for reading.
    Method,
    /// The host is another.
    Host,
    /// A parameter is wrong.
    Bad(String),
    /// What is asked for is not held.
    NotHeld(String),
    /// Too many ask.
    Busy,
    /// It went wrong here.
    Failed,
}

impl Problem {
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::Bad(message.into())
    }

    pub(super) fn not_held(message: impl Into<String>) -> Self {
        Self::NotHeld(message.into())
    }

    pub(super) fn into_response(self) -> Response {
        let (status, message) = match &self {
            Self::Nothing => (StatusCode::NOT_FOUND, "there is nothing at this path"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "this is for reading only"),
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "this is for this computer only: ask for localhost or 127.0.0.1",
            ),
            Self::Bad(message) => (StatusCode::BAD_REQUEST, message.as_str()),
            Self::NotHeld(message) => (StatusCode::NOT_FOUND, message.as_str()),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many ask at once"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "it went wrong here"),
        };
        let mut response = json(&json!({ "error": message }));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            Self::Busy => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

pub(super) fn json(value: &Value) -> Response {
    let mut response = Response::new(value.to_string().into());
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

pub(super) fn picture(drawn: Result<String, NoPicture>) -> Result<Response, Problem> {
    let drawn = drawn.map_err(|why| match why {
        NoPicture::Failed => Problem::Failed,
        why => Problem::bad(why.to_string()),
    })?;
    let mut response = Response::new(drawn.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
    let policy = HeaderValue::from_static(PICTURE_POLICY);
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// Headers that keep other pages out.
pub(super) fn secure(headers: &mut HeaderMap) {
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(POLICY));
    for (name, value) in [
        (&X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (&REFERRER_POLICY, "no-referrer"),
        (&CACHE_CONTROL, "no-store"),
        (&RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
