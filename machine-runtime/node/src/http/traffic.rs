//! Counts of what is asked and answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use machine_runtime::TraceContext;
use machine_runtime::observe::{Histogram, HistogramRead};
use tokio::sync::Notify;

use crate::door::DoorStats;

/// What requests are counted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    Root,
    States,
    State,
    Schema,
    Graph,
    Events,
    Mutations,
    Links,
    Health,
    Ready,
    Metrics,
    Other,
}

impl Route {
    pub(super) const ALL: [Self; 12] = [
        Self::Root,
        Self::States,
        Self::State,
        Self::Schema,
        Self::Graph,
        Self::Events,
        Self::Mutations,
        Self::Links,
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::Other,
    ];

    /// The paths that there are, as errors and metrics show them.
    pub(super) const PATHS: [&str; 11] = [
        "/",
        "/v1/states",
        "/v1/states/NAME",
        "/v1/schema",
        "/v1/graph",
        "/v1/events",
        "/v1/mutations",
        "/v1/links",
        "/healthz",
        "/readyz",
        "/metrics",
    ];

    pub(super) fn path(self) -> &'static str {
        Self::PATHS.get(self as usize).copied().unwrap_or("other")
    }
}

/// The statuses that answers have; anything else is counted with the last.
const STATUSES: [u16; 17] = [
    200, 304, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 429, 431, 503, 504, 500,
];

/// Bounds for what takes microseconds unless it writes.
static BOUNDS: [Duration; 18] = [
    Duration::from_micros(25),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Of the usual requests, one of so many is timed.
const SAMPLE: u64 = 8;

/// What goes up and down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gauge {
    /// Open connections.
    Connections,
    /// Streams of events under way.
    Streams,
    /// Requests that wait for a position.
    Waiting,
    /// Mutations under way.
    Writing,
}

/// Counters that are resolved before a request comes.
#[derive(Debug)]
pub(super) struct Traffic {
    answers: [[AtomicU64; STATUSES.len()]; Route::ALL.len()],
    times: [Histogram; Route::ALL.len()],
    gauges: [AtomicU64; 4],
    /// Announces that no mutation is under way any more.
    written: Notify,
    /// Who was not let in.
    pub(super) readers: DoorStats,
    /// The same at the side for followers.
    pub(super) followers: DoorStats,
}

impl Default for Traffic {
    fn default() -> Self {
        let (answers, gauges, readers, followers) = Default::default();
        Self {
            answers,
            times: Route::ALL.map(|_| Histogram::new(&BOUNDS)),
            gauges,
            written: Notify::new(),
            readers,
            followers,
        }
    }
}

impl Traffic {
    /// Whether the next of the usual requests is timed: the clock costs a visible part of one.
    pub(super) fn is_sampled(&self, route: Route) -> bool {
        let [answered, ..] = &self.answers[route as usize];
        answered.load(Ordering::Relaxed).is_multiple_of(SAMPLE)
    }

    /// Times a request that came at `began` and has been answered now.
    pub(super) fn time(&self, route: Route, began: Instant) {
        self.times[route as usize].observe(began.elapsed());
    }

    /// Times a request that was part of a trace.
    pub(super) fn time_traced(&self, route: Route, began: Instant, trace: Option<TraceContext>) {
        self.times[route as usize].observe_traced(began.elapsed(), trace);
    }

    /// How long requests took, by path.
    pub(super) fn timings(&self) -> impl Iterator<Item = (&'static str, HistogramRead)> + '_ {
        let routes = Route::ALL.into_iter().zip(&self.times);
        routes.map(|(route, times)| (route.path(), times.read()))
    }

    pub(super) fn count(&self, route: Route, status: StatusCode) {
        let status = STATUSES.iter().position(|known| *known == status.as_u16());
        let slot = status.unwrap_or(STATUSES.len() - 1);
        self.answers[route as usize][slot].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were answered.
    pub(super) fn requests(&self) -> u64 {
        self.answers
            .iter()
            .flatten()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Counts of answers by path and status.
    pub(super) fn answers(&self) -> impl Iterator<Item = (&'static str, u16, u64)> + '_ {
        Route::ALL.into_iter().flat_map(|route| {
            let counts = STATUSES.into_iter().zip(&self.answers[route as usize]);
            counts.map(move |(status, count)| (route.path(), status, count.load(Ordering::Relaxed)))
        })
    }

    /// One more of `gauge` until the guard drops.
    pub(super) fn enter(self: &Arc<Self>, gauge: Gauge) -> Inside {
        self.gauges[gauge as usize].fetch_add(1, Ordering::Relaxed);
        Inside {
            traffic: Arc::clone(self),
            gauge,
        }
    }

    /// As [`Traffic::enter`], unless there are `most`.
    pub(super) fn try_enter(self: &Arc<Self>, gauge: Gauge, most: usize) -> Option<Inside> {
        let inside = self.enter(gauge);
        (self.gauge(gauge) <= most as u64).then_some(inside)
    }

    pub(super) fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Ordering::Relaxed)
    }

    /// Waits until no mutation is under way.
    ///
    /// # Cancel safety
    ///
    /// Nothing remains of a wait that is dropped.
    pub(super) async fn no_writing(&self) {
        loop {
            let written = self.written.notified();
            if self.gauge(Gauge::Writing) == 0 {
                return;
            }
            written.await;
        }
    }
}

/// Counts in a gauge while it lives.
#[derive(Debug)]
pub(super) struct Inside {
    traffic: Arc<Traffic>,
    gauge: Gauge,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let before = self.traffic.gauges[self.gauge as usize].fetch_sub(1, Ordering::Relaxed);
        if before == 1 && self.gauge == Gauge::Writing {
            self.traffic.written.notify_waiters();
        }
    }
}
