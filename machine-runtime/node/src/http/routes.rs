//! Which requests there are: from what arrives to a [`Call`].

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use hyper::header::{ACCEPT, HeaderName, HeaderValue, IF_NONE_MATCH, ORIGIN};
use hyper::{Method, Request};
use warp::Filter;

use super::accept::{Accept, Representation};
use super::client::Client;
use super::etag::IfNoneMatch;
use super::permit::Asker;
use super::traffic::Route;

/// Where an event stream is to go on.
static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A request, as far as anybody looks at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Call {
    pub(super) target: Target,
    /// Who sends it; None where nobody is asked who they are.
    pub(super) asker: Option<Arc<Asker>>,
    /// None in tests.
    wishes: Option<Arc<Wishes>>,
}

impl Call {
    /// A GET of a path and nothing else.
    #[cfg(test)]
    pub(super) fn plain(target: Target) -> Self {
        Self {
            target,
            asker: None,
            wishes: None,
        }
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
    /// The site of the page that asks, if a browser says so.
    pub(super) origin: Option<HeaderValue>,
    /// Whose they are.
    pub(super) client: Client,
}

/// A GET of a path and nothing else.
static NONE: Wishes = Wishes {
    method: Method::GET,
    accept: Accept::ANYTHING,
    if_none_match: None,
    last_event: None,
    params: Vec::new(),
    origin: None,
    client: Client::Others,
};

impl Wishes {
    /// Reads a request. A header that is not ASCII is no wish that we could understand.
    pub(super) fn read<B>(request: &Request<B>, client: &Client) -> Self {
        let [mut accept, mut if_none_match, mut last_event] = [const { None }; 3];
        let mut origin = None;
        // One walk over the few that there are costs less than to look for each.
        for (name, value) in request.headers() {
            let list = match name {
                _ if name == ACCEPT => &mut accept,
                _ if name == IF_NONE_MATCH => &mut if_none_match,
                _ if name == LAST_EVENT_ID => &mut last_event,
                _ if name == ORIGIN => {
                    origin = Some(value.clone());
                    continue;
                }
                _ => continue,
            };
            let Ok(value) = value.to_str() else { continue };
            // A list may come in several headers of one name (RFC 9110, 5.3).
            *list = Some(match list.take() {
                None => Cow::Borrowed(value),
                Some(before) => Cow::Owned(format!("{before},{value}")),
            });
        }
        let params = |query: &str| {
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect()
        };
        Self {
            method: request.method().clone(),
            accept: accept.map_or(Accept::ANYTHING, |accept| Accept::read(&accept)),
            if_none_match: if_none_match.map(|tags| IfNoneMatch::read(&tags)),
            last_event: last_event.map(Cow::into_owned),
            params: request.uri().query().map_or_else(Vec::new, params),
            origin,
            client: client.clone(),
        }
    }

    /// Whether the request says nothing but its path.
    pub(super) fn are_none(&self) -> bool {
        self.method == NONE.method
            && self.accept == NONE.accept
            && self.if_none_match.is_none()
            && self.last_event.is_none()
            && self.params.is_empty()
            && self.origin.is_none()
    }

    /// Has `request` carry what it says. A filter for each header costs every request more than all of this
    /// costs those that have them.
    pub(super) fn attach<B>(self, request: &mut Request<B>) {
        request.extensions_mut().insert(Arc::new(self));
    }
}

/// A GET of all active states that says nothing but its path: by far the most frequent request, and
/// the one whose cost shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Usual(pub(super) Route, pub(super) Representation);

impl Usual {
    /// The request, if it is one.
    pub(super) fn of<B>(request: &Request<B>, wishes: &Wishes) -> Option<Self> {
        let usual = match request.uri().path() {
            "/" => Self(Route::Root, Representation::Text),
            "/v1/states" => Self(Route::States, Representation::Json),
            _ => return None,
        };
        wishes.are_none().then_some(usual)
    }
}

/// Whether a request is for the stream of events, whose answer has no end.
pub(super) fn is_stream<B>(request: &Request<B>) -> bool {
    request.uri().path() == "/v1/events"
}

/// Whether a request is a mutation: the only one whose body matters.
pub(super) fn is_mutation<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST && request.uri().path() == "/v1/mutations"
}

/// What a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Root,
    States,
    State(String),
    Schema,
    Graph,
    Events,
    Mutations,
    Links,
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
            Self::Graph => Route::Graph,
            Self::Events => Route::Events,
            Self::Mutations => Route::Mutations,
            Self::Links => Route::Links,
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
        .and(warp::ext::optional())
        .map(|target, asker, wishes| Call {
            target,
            asker,
            wishes,
        })
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
        .or(warp::path!("v1" / "mutations").map(|| Target::Mutations))
        .unify()
        .or(warp::path!("v1" / "schema").map(|| Target::Schema))
        .unify()
        .or(warp::path!("v1" / "graph").map(|| Target::Graph))
        .unify()
        .or(warp::path!("v1" / "links").map(|| Target::Links))
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
