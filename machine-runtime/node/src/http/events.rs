//! Server-sent events: what changes, as it does.
//!
//! Each stream remembers the position that its client was last told of and nothing else. It is
//! asked for more only when the client has taken what there was, so what a slow one misses
//! becomes one delta.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use machine_runtime::{Changes, Position, Snapshot};
use serde::Serialize;
use serde::ser::Serializer;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use warp::Reply as _;
use warp::reply::Response;

use super::Site;
use super::accept::Representation;
use super::client::Taken;
use super::permit::{Hold, lost};
use super::render::json_line;
use super::traffic::Inside;

/// How long a stream is silent at most: proxies cut off what they take for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a client that comes from a node further than this one waits for it to catch up,
/// before it gets a snapshot.
const CATCH_UP: Duration = Duration::from_secs(3);

/// How often a stale node looks whether it still is.
const STALE_LOOK: Duration = Duration::from_millis(250);

/// What a client does when the stream breaks: it comes again after so many milliseconds.
const GREETING: &[u8] = b"retry: 1000\n\n";

/// The last event of a stream that the node ends: whoever reads it may go elsewhere at once.
const END: &[u8] = b"event: end\ndata: {\"why\":\"the node stops\"}\n\n";

/// The same of a stream whose client may not have it any more.
const REVOKED: &[u8] = b"event: end\ndata: {\"why\":\"what this client may do has changed\"}\n\n";

/// The response whose body is `stream`.
pub(super) fn response<S>(stream: S) -> Response
where
    S: Stream<Item = Result<Bytes, Infallible>> + Send + Sync + 'static,
{
    let mut response = warp::reply::stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    headers.insert(unbuffered, HeaderValue::from_static("no"));
    response
}

/// The events of a site after `resume`, or from a snapshot on, until it stops or who has it on `hold` may not any
/// more. Keeps what was `taken` for it.
pub(super) fn stream(
    site: Arc<Site>,
    resume: Option<Position>,
    hold: Option<Hold>,
    stopping: CancellationToken,
    taken: (Inside, Taken),
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Sync + 'static {
    let now = Instant::now();
    // Who is silent for long is closed.
    let keep_alive = KEEP_ALIVE.min(site.limits.idle_time / 3);
    let events = Events {
        positions: site.view.positions(),
        _taken: taken,
        keep_alive,
        site,
        hold,
        told: resume,
        stale: false,
        patience: now + CATCH_UP,
        alive: now + keep_alive,
        ready: VecDeque::from([Bytes::from_static(GREETING)]),
        ended: false,
    };
    futures_util::stream::unfold((events, stopping), |(mut events, stopping)| async move {
        let bytes = events.next(&stopping).await?;
        Some((Ok(bytes), (events, stopping)))
    })
}

/// One client's stream.
struct Events {
    site: Arc<Site>,
    positions: watch::Receiver<Option<Position>>,
    hold: Option<Hold>,
    /// The position that the client was last told of.
    told: Option<Position>,
    /// Whether it was last told that the node is stale.
    stale: bool,
    /// Until when a position ahead of ours is waited for.
    patience: Instant,
    /// When something has to be said.
    alive: Instant,
    /// What is on its way to the client; the parts of one event at most.
    ready: VecDeque<Bytes>,
    /// Whether it has been told that this is the end.
    ended: bool,
    /// How long it is silent at most.
    keep_alive: Duration,
    _taken: (Inside, Taken),
}

impl Events {
    /// The next bytes, or none once the site has stopped, or what it shows has ended, and that is told.
    async fn next(&mut self, stopping: &CancellationToken) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                self.alive = Instant::now() + self.keep_alive;
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            // There may be news all the time.
            if lost(&mut self.hold).now_or_never().is_some() {
                self.ended = true;
                return Some(Bytes::from_static(REVOKED));
            }
            self.look();
            if !self.ready.is_empty() {
                continue;
            }
            let wake = self.wake();
            self.ended = tokio::select! {
                biased;
                () = stopping.cancelled() => true,
                () = lost(&mut self.hold) => {
                    self.ended = true;
                    return Some(Bytes::from_static(REVOKED));
                }
                changed = self.positions.changed() => changed.is_err(),
                () = sleep_until(wake) => false,
            };
            if self.ended {
                return Some(Bytes::from_static(END));
            }
            if Instant::now() >= self.alive {
                self.ready.push_back(Bytes::from_static(b":\n\n"));
            }
        }
    }

    /// Looks for something to tell.
    fn look(&mut self) {
        // Marked as seen first: what comes while we look makes us look again.
        self.positions.borrow_and_update();
        match self.told.map(|told| self.site.view.changes_since(told)) {
            Some(Changes::Current) => {}
            Some(Changes::Ticked { now, states }) => self.tell_delta(&now, &states),
            Some(Changes::Ahead) if Instant::now() < self.patience => {}
            _ => self.tell_snapshot(),
        }
        let stale = self.site.view.is_stale();
        if self.ready.is_empty() && stale != self.stale {
            self.tell_stale(stale);
        }
    }

    fn tell_snapshot(&mut self) {
        // The body that everybody gets who asks for all states; it ends its line itself.
        let Some(page) = self.site.page(Representation::Json) else {
            return;
        };
        let Some(position) = page.position() else {
            return;
        };
        self.told = Some(position);
        let head = format!("event: snapshot\nid: {position}\ndata: ");
        self.ready
            .extend([head.into(), page.body.clone(), Bytes::from_static(b"\n")]);
    }

    fn tell_delta(&mut self, now: &Snapshot, states: &[(usize, u32)]) {
        #[derive(Serialize)]
        struct Delta<'a> {
            revision: u64,
            on: Names<'a>,
            off: Names<'a>,
        }
        let position = now.position();
        let turned = |active| Names {
            site: &self.site,
            now,
            states,
            active,
        };
        let body = json_line(&Delta {
            revision: position.revision,
            on: turned(true),
            off: turned(false),
        });
        self.told = Some(position);
        let head = format!("event: delta\nid: {position}\ndata: ");
        self.ready
            .extend([head.into(), body, Bytes::from_static(b"\n")]);
    }

    fn tell_stale(&mut self, stale: bool) {
        #[derive(Serialize)]
        struct Staleness {
            stale: bool,
            age_ms: u64,
        }
        self.stale = stale;
        let age_ms = u64::try_from(self.site.view.age().as_millis()).unwrap_or(u64::MAX);
        let body = json_line(&Staleness { stale, age_ms });
        let id = self
            .told
            .map_or_else(String::new, |told| format!("id: {told}\n"));
        let head = format!("event: stale\n{id}data: ");
        self.ready
            .extend([head.into(), body, Bytes::from_static(b"\n")]);
    }

    /// When to look again though no position came.
    fn wake(&self) -> Instant {
        let view = &self.site.view;
        let now = Instant::now();
        let stale = if self.stale {
            now + STALE_LOOK
        } else {
            // Just past it: only then it is stale.
            let left = view.stale_after().saturating_sub(view.age());
            now + left + Duration::from_millis(1)
        };
        let mut wake = stale.min(self.alive);
        if self.patience > now {
            wake = wake.min(self.patience);
        }
        wake
    }
}

/// The names of the states among `states` that turned on, or off.
struct Names<'a> {
    site: &'a Site,
    now: &'a Snapshot,
    states: &'a [(usize, u32)],
    active: bool,
}

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // After an even number of ticks a state is as it was.
        let turned = self
            .states
            .iter()
            .filter(|(state, ticks)| ticks % 2 == 1 && self.now.is_active(*state) == self.active);
        let schema = self.site.view.schema();
        serializer.collect_seq(turned.map(|(state, _)| schema.name_of(*state)))
    }
}

#[cfg(test)]
mod tests;
