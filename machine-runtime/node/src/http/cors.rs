//! What browsers are told: which pages of other sites may read, and what to make of an answer.

use std::fmt;
use std::str::FromStr;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, StatusCode};
use warp::reply::Response;

use super::problem::Problem;

/// The origins whose pages may read a node from within a browser; none unless told otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origins(Vec<Origin>);

/// A site as browsers name it: a scheme, a host, and a port that is not the scheme's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin(HeaderValue);

/// What is no origin.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongOrigin(String);

impl FromStr for Origin {
    type Err = WrongOrigin;

    fn from_str(text: &str) -> Result<Self, WrongOrigin> {
        let wrong = |why: &str| Err(WrongOrigin(format!("`{text}` is no origin: {why}")));
        if text.contains('*') {
            return wrong("all sites at once are not allowed, name those that are");
        }
        let Some((scheme, host)) = text.split_once("://") else {
            return wrong("it is such as https://a.example");
        };
        if !["http", "https"].contains(&scheme) {
            return wrong("browsers read over http and https");
        }
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        let usual = if scheme == "http" { "80" } else { "443" };
        if port == Some(usual) {
            return wrong("browsers leave out the scheme's own port");
        }
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        let known = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._[]:".contains(&byte)
        };
        if name.is_empty() || !name.bytes().all(known) || !port.is_none_or(is_port) {
            return wrong(
                "behind the scheme it has a host in lower case and a port, and nothing else",
            );
        }
        match HeaderValue::from_str(text) {
            Ok(value) => Ok(Self(value)),
            Err(_) => wrong("it has characters that no header has"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

impl Origins {
    /// These.
    pub fn new(origins: Vec<Origin>) -> Self {
        Self(origins)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.0.iter()
    }

    fn allowed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        self.0
            .iter()
            .any(|known| known.0 == *origin)
            .then_some(origin)
    }

    /// The answer to a browser that asks whether a page may ask; None if it is not that.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response> {
        let headers = request.headers();
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        if request.method() != Method::OPTIONS || !headers.contains_key(ORIGIN) {
            return None;
        }
        let reads = [Method::GET, Method::HEAD]
            .iter()
            .any(|method| wanted == method.as_str());
        let mut response = match self.allowed(headers).filter(|_| reads) {
            Some(origin) => {
                let mut response = Response::default();
                *response.status_mut() = StatusCode::NO_CONTENT;
                let headers = response.headers_mut();
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                for (name, value) in [
                    (ACCESS_CONTROL_ALLOW_METHODS, "GET"),
                    (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, last-event-id"),
                    (ACCESS_CONTROL_MAX_AGE, "600"),
                ] {
                    headers.insert(name, HeaderValue::from_static(value));
                }
                response
            }
            None => Problem::foreign_page().into_response(),
        };
        self.vary(response.headers_mut());
        harden(response.headers_mut());
        Some(response)
    }

    /// Has a browser hand an answer to the page that asked, if that may read.
    pub(super) fn allow(&self, asked: Option<&HeaderValue>, response: &mut Response) {
        if self.0.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        self.vary(headers);
        if let Some(origin) = asked.filter(|origin| self.0.iter().any(|known| known.0 == *origin)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let shown = "etag, machine-position, machine-age-ms, machine-stale";
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(shown),
            );
        }
    }

    fn vary(&self, headers: &mut HeaderMap) {
        if !self.0.is_empty() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

/// Has browsers take an answer for what it says it is, and tell nobody where it came from.
pub(super) fn harden(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    debug_assert!(
        headers
            .get(CONTENT_TYPE)
            .is_none_or(|kind| !kind.as_bytes().starts_with(b"text/html")),
        "a page for browsers needs a policy of its own"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_as_browsers_write_it() {
        for text in [
            "https://a.example",
            "http://localhost:3000",
            "https://[::1]:8443",
            "http://127.0.0.1",
            "https://[::1]",
        ] {
            assert_eq!(
                text.parse::<Origin>().map(|o| o.to_string()),
                Ok(text.to_owned())
            );
        }
        let why = |text: &str| text.parse::<Origin>().unwrap_err().to_string();
        assert!(why("*").contains("name those that are"));
        assert!(why("https://*.example").contains("name those that are"));
        assert!(why("a.example").contains("such as https://a.example"));
        assert!(why("null").contains("such as https://a.example"));
        assert!(why("ftp://a.example").contains("http and https"));
        assert!(why("https://a.example:443").contains("own port"));
        for text in [
            "https://",
            "https://a.example/",
            "https://A.example",
            "https://a:x",
            "https://a b",
        ] {
            assert!(why(text).contains("and nothing else"), "{text}");
        }
    }
}
