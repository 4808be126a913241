//! Which requests there are: from what arrives to a [`Call`].

use std::convert::Infallible;
use std::sync::Arc;

use hyper::header::{ACCEPT, IF_NONE_MATCH};
use hyper::{Method, Request};
use warp::Filter;

use super::accept::Accept;
use super::etag::IfNoneMatch;
use super::traffic::Route;

/// A request, as far as anybody looks at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Call {
    pub(super) target: Target,
    /// None where the request says nothing but its path.
    wishes: Option<Arc<Wishes>>,
}

impl Call {
    /// A GET of a path and nothing else.
    #[cfg(test)]
    pub(super) fn plain(target: Target) -> Self {
        let wishes = None;
        Self { target, wishes }
    }

    /// What the request says beside its path.
    pub(super) fn wishes(&self) -> &Wishes {
        self.wishes.as_deref().unwrap_or(&NONE)
    }
}

/// What a request says beside its path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wishes {
    pub(super) method: Method,
    pub(super) accept: Accept,
    pub(super) if_none_match: Option<IfNoneMatch>,
    pub(super) last_event: Option<String>,
    pub(super) params: Vec<(String, String)>,
}

/// A GET of a path and nothing else.
static NONE: Wishes = Wishes {
    method: Method::GET,
    accept: Accept::ANYTHING,
    if_none_match: None,
    last_event: None,
    params: Vec::new(),
};

impl Wishes {
    /// Reads a request. A header that is not ASCII is no wish that we could understand.
    fn read<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        // A list may come in several headers of one name (RFC 9110, 5.3).
        let list = |name| {
            let values = headers.get_all(name).iter();
            let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
            (!values.is_empty()).then(|| values.join(","))
        };
        let query = request.uri().query().unwrap_or_default();
        Self {
            method: request.method().clone(),
            accept: list(ACCEPT).map_or(Accept::ANYTHING, |accept| Accept::read(&accept)),
            if_none_match: list(IF_NONE_MATCH).map(|tags| IfNoneMatch::read(&tags)),
            last_event: headers
                .get("last-event-id")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            params: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        }
    }

    /// Has `request` carry what it says, where it says anything. A filter for each header costs
    /// every request more than all of this costs those that have them.
    pub(super) fn attach<B>(request: &mut Request<B>) {
        let wishes = Self::read(request);
        if wishes != NONE {
            request.extensions_mut().insert(Arc::new(wishes));
        }
    }
}

/// What a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Root,
    States,
    State(String),
    Schema,
    Events,
    Health,
    Ready,
    Metrics,
    Nothing,
}

impl Target {
    /// The route that the request is counted under.
    pub(super) fn route(&self) -> Route {
        match self {
            Self::Root => Route::Root,
            Self::States => Route::States,
            Self::State(_) => Route::State,
            Self::Schema => Route::Schema,
            Self::Events => Route::Events,
            Self::Health => Route::Health,
            Self::Ready => Route::Ready,
            Self::Metrics => Route::Metrics,
            Self::Nothing => Route::Other,
        }
    }
}

/// Makes a call of every request.
///
/// The filters hold nothing: warp clones a route's filters for each request, and a reference
/// count per route would be most of what routing costs.
pub(super) fn calls()
-> impl Filter<Extract = (Call,), Error = Infallible> + Copy + Send + Sync + 'static {
    targets()
        .and(warp::ext::optional())
        .map(|target, wishes| Call { target, wishes })
}

/// The routes, the busiest first.
fn targets() -> impl Filter<Extract = (Target,), Error = Infallible> + Copy + Send + Sync + 'static
{
    warp::path::end()
        .map(|| Target::Root)
        .or(warp::path!("v1" / "states").map(|| Target::States))
        .unify()
        .or(warp::path!("v1" / "states" / String).map(|name: String| Target::State(decoded(&name))))
        .unify()
        .or(warp::path!("v1" / "events").map(|| Target::Events))
        .unify()
        .or(warp::path!("v1" / "schema").map(|| Target::Schema))
        .unify()
        .or(warp::path!("healthz").map(|| Target::Health))
        .unify()
        .or(warp::path!("readyz").map(|| Target::Ready))
        .unify()
        .or(warp::path!("metrics").map(|| Target::Metrics))
        .unify()
        .or(warp::any().map(|| Target::Nothing))
        .unify()
}

fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment)
        .decode_utf8_lossy()
        .into_owned()
}
