//! Which requests there are.

use std::convert::Infallible;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use warp::Filter;
use warp::reply::Response;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Page,
    Script,
    Style,
    Machines,
    Timeline,
    List,
    Log,
    Entry,
    States,
    Why,
    Lens,
    Graph,
    Sequence,
    Nothing,
}

/// The paths.
const PATHS: [(&str, Target); 13] = [
    ("/", Target::Page),
    ("/page.js", Target::Script),
    ("/page.css", Target::Style),
    ("/api/machines", Target::Machines),
    ("/api/timeline", Target::Timeline),
    ("/api/list", Target::List),
    ("/api/log", Target::Log),
    ("/api/entry", Target::Entry),
    ("/api/states", Target::States),
    ("/api/why", Target::Why),
    ("/api/lens", Target::Lens),
    ("/graph.svg", Target::Graph),
    ("/sequence.svg", Target::Sequence),
];

/// A request, as far as anybody looks at it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) host: Option<String>,
    pub(super) target: Target,
    pub(super) query: String,
}

/// Makes a call of every request.
pub(super) fn calls()
-> impl Filter<Extract = (Call,), Error = Infallible> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(query)
        .map(
            |method, path: warp::path::FullPath, headers: HeaderMap, query| Call {
                method,
                host: host(&headers),
                target: target(path.as_str()),
                query,
            },
        )
}

/// The one host that a request is for.
fn host(headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then(|| host.to_owned())
}

fn target(path: &str) -> Target {
    let known = PATHS.iter().find(|(known, _)| *known == path);
    known.map_or(Target::Nothing, |(_, target)| *target)
}

/// What is in the program itself.
pub(super) fn file(target: Target) -> Option<Response> {
    let (text, kind) = match target {
        Target::Page => (include_str!("page.html"), "text/html; charset=utf-8"),
        Target::Script => (include_str!("page.js"), "text/javascript; charset=utf-8"),
        Target::Style => (include_str!("page.css"), "text/css; charset=utf-8"),
        _ => return None,
    };
    let mut response = Response::new(Bytes::from_static(text.as_bytes()).into());
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Some(response)
}
