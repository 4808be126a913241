//! `/metrics`: what a first look needs.

use std::fmt;
use std::sync::atomic::AtomicU64;

use machine_runtime::replica::{Link, Resync};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use warp::http::StatusCode;
use warp::http::header::HeaderValue;
use warp::reply::Response;

use super::Http;
use super::routes::{respond, text};

const OPEN_METRICS: &str = "application/openmetrics-text";

/// The routes, as labels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Route {
    Root,
    States,
    State,
    Schema,
    Events,
    Healthz,
    Readyz,
    Metrics,
    Unknown,
}

impl Route {
    const ALL: [Self; 9] = [
        Self::Root,
        Self::States,
        Self::State,
        Self::Schema,
        Self::Events,
        Self::Healthz,
        Self::Readyz,
        Self::Metrics,
        Self::Unknown,
    ];
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Root => "/",
            Self::States => "/v1/states",
            Self::State => "/v1/states/NAME",
            Self::Schema => "/v1/schema",
            Self::Events => "/v1/events",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Metrics => "/metrics",
            Self::Unknown => "unknown",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

/// The statuses that answers have.
const STATUSES: [u16; 8] = [200, 304, 400, 404, 405, 409, 503, 504];

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabels {
    route: Route,
    status: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// Requests by route and status. The counters are looked up once, not for each request.
#[derive(Debug)]
pub(super) struct Requests {
    family: Family<RequestLabels, Counter<u64, AtomicU64>>,
    counters: Vec<[Counter<u64, AtomicU64>; STATUSES.len()]>,
}

impl Requests {
    pub(super) fn new() -> Self {
        let family = Family::default();
        let counters = Route::ALL.map(|route| {
            STATUSES.map(|status| {
                let counter: &Counter<_, _> =
                    &family.get_or_create(&RequestLabels { route, status });
                counter.clone()
            })
        });
        let counters = counters.into();
        Self { family, counters }
    }

    pub(super) fn count(&self, route: Route, status: StatusCode) {
        if let Some(place) = STATUSES.iter().position(|known| *known == status.as_u16()) {
            self.counters[route as usize][place].inc();
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.counters.iter().flatten().map(Counter::get).sum()
    }
}

/// `GET /metrics`: `OpenMetrics` for those who ask for it, else the classic text format.
pub(super) fn answer(http: &Http, accept: Option<&str>) -> Response {
    let mut open = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut open, &registry(http));
    if accept.is_some_and(|accept| accept.contains(OPEN_METRICS)) {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return respond(open, HeaderValue::from_static(content_type));
    }
    let mut response = respond(classic(&open), text());
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert("content-type", content_type);
    response
}

/// Everything at this moment; a scrape is rare, so it is put together for each.
fn registry(http: &Http) -> Registry {
    let inner = &http.inner;
    let view = &inner.view;
    let snapshot = view.snapshot();
    let (ring, ring_bytes) = view.ring_size();
    let mut registry = Registry::with_prefix("machine");
    let build = Family::<BuildLabels, Gauge>::default();
    let version = env!("CARGO_PKG_VERSION");
    build.get_or_create(&BuildLabels { version }).set(1);
    registry.register("build_info", "The version that runs", build);
    let mut gauge = |name: &str, help: &str, value: f64| {
        registry.register(name, help, ConstGauge::new(value));
    };
    let revision = snapshot.as_ref().map_or(0, |s| s.position().revision);
    let active = snapshot.as_ref().map_or(0, |s| s.active().count());
    gauge(
        "revision",
        "Revision of the newest position",
        number(revision),
    );
    gauge(
        "states",
        "States of the schema",
        number(view.schema().len() as u64),
    );
    gauge("states_active", "Active states", number(active as u64));
    gauge(
        "age_seconds",
        "How old what is shown may be",
        view.age().as_secs_f64(),
    );
    gauge(
        "stale",
        "1 if that is too old",
        f64::from(u8::from(view.is_stale())),
    );
    gauge(
        "tier",
        "Links to the root",
        number(view.tier().unwrap_or(0).into()),
    );
    gauge(
        "followers",
        "Followers served now",
        number(inner.followers.followers().len() as u64),
    );
    gauge("ring_deltas", "Deltas to resume from", number(ring as u64));
    gauge(
        "ring_bytes",
        "Bytes of these deltas",
        number(ring_bytes as u64),
    );
    let mut counter = |name: &str, help: &str, value: u64| {
        registry.register(name, help, ConstCounter::new(value));
    };
    counter(
        "deltas_sent",
        "Deltas sent to followers",
        inner.followers.deltas(),
    );
    counter(
        "snapshots_sent",
        "Snapshots sent to followers",
        inner.followers.snapshots(),
    );
    counter(
        "followers_refused",
        "Handshakes refused",
        inner.followers.refusals(),
    );
    let link = inner.link.as_ref();
    counter(
        "deltas_applied",
        "Deltas applied",
        link.map_or(0, Link::deltas),
    );
    counter(
        "connects",
        "Times the parent welcomed us",
        link.map_or(0, Link::connects),
    );
    let resyncs = Family::<ReasonLabels, Counter<u64, AtomicU64>>::default();
    for reason in Resync::ALL {
        let count = resyncs.get_or_create(&ReasonLabels {
            reason: reason.name(),
        });
        count.inc_by(link.map_or(0, |link| link.resyncs(reason)));
    }
    registry.register("resyncs", "Snapshots taken instead of deltas", resyncs);
    let requests = inner.requests.family.clone();
    registry.register(
        "http_requests",
        "HTTP requests by route and status",
        requests,
    );
    registry
}

/// Gauges are floating point; nothing counted here comes near 2^53.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn number(count: u64) -> f64 {
    count as f64
}

/// The classic text format 0.0.4 from what `prometheus_client` writes: there a counter's name
/// ends in `_total` in its comments too, and there are no units and no end mark.
fn classic(open: &str) -> String {
    let counters: Vec<&str> = open
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut classic = String::with_capacity(open.len());
    for line in open
        .lines()
        .filter(|line| *line != "# EOF" && !line.starts_with("# UNIT "))
    {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(&name) => {
                classic.push_str("# ");
                classic.push_str(kind);
                classic.push(' ');
                classic.push_str(name);
                classic.push_str("_total ");
                classic.push_str(rest);
            }
            _ => classic.push_str(line),
        }
        classic.push('\n');
    }
    classic
}
