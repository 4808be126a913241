//! Changes as they happen: server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::stream;
use machine_runtime::{Changes, Position, Snapshot};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use warp::Reply;
use warp::http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use warp::reply::Response;
use warp::sse::Event;

use super::Http;
use super::error::Problem;
use super::query;
use super::render::{Seq, States, json};
use super::routes::header;

/// How often a comment is sent where nothing happens, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often it is looked whether the node has become stale.
const LOOK: Duration = Duration::from_millis(500);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /v1/events`.
pub(super) fn events(http: &Http, query: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let after = query::events(query)?;
    http.snapshot()?;
    // What is no position is none of ours: the reader gets a snapshot first.
    let last = header(headers, &LAST_EVENT_ID).and_then(|id| id.parse().ok());
    let reader = Reader {
        http: http.clone(),
        positions: http.inner.view.positions(),
        last: last.or(after),
        stale: false,
    };
    let events = stream::unfold(reader, |mut reader| async {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let alive = warp::sse::keep_alive().interval(KEEP_ALIVE).stream(events);
    let mut response = warp::sse::reply(alive).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// One who reads events, and how far it is.
struct Reader {
    http: Http,
    positions: watch::Receiver<Option<Position>>,
    last: Option<Position>,
    stale: bool,
}

#[derive(Serialize)]
struct Stale {
    stale: bool,
    age_ms: u128,
}

impl Reader {
    /// The next event; none once the node ends. A reader who is late gets what happened
    /// meanwhile as one.
    async fn next(&mut self) -> Option<Event> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.http.inner.stop.clone();
        loop {
            self.positions.borrow_and_update();
            if let Some(event) = self.change() {
                return Some(event);
            }
            let view = &self.http.inner.view;
            if view.is_stale() != self.stale {
                self.stale = !self.stale;
                let age_ms = view.age().as_millis();
                let stale = self.stale;
                return Some(
                    Event::default()
                        .event("stale")
                        .data(json(&Stale { stale, age_ms })),
                );
            }
            // Whichever comes first, the others come again.
            tokio::select! {
                changed = self.positions.changed() => changed.ok()?,
                _ = look.tick() => {}
                () = stop.cancelled() => return None,
            }
        }
    }

    fn change(&mut self) -> Option<Event> {
        let view = &self.http.inner.view;
        let changes = match self.last {
            Some(last) => view.changes_since(last),
            None => Changes::OtherEpoch,
        };
        match changes {
            Changes::Ticked { now, states } => {
                self.last = Some(now.position());
                Some(self.delta(&now, &states))
            }
            Changes::Compacted | Changes::OtherEpoch => {
                let now = view.snapshot()?;
                self.last = Some(now.position());
                let body = json(&States::new(&self.http.inner.node, view, &now, None));
                Some(event("snapshot", &now, body))
            }
            // A node that is behind its reader catches up.
            _ => None,
        }
    }

    fn delta(&self, now: &Snapshot, states: &[(usize, u32)]) -> Event {
        #[derive(Serialize)]
        struct Delta<On, Off> {
            revision: u64,
            on: On,
            off: Off,
        }
        let schema = self.http.inner.view.schema();
        // A state that ticked an even number of times is as it was.
        let turned = |to: bool| {
            let turned = states.iter().filter(|(_, ticks)| ticks % 2 == 1);
            let turned = turned.filter(move |(state, _)| now.is_active(*state) == to);
            turned.map(|(state, _)| schema.name_of(*state))
        };
        let delta = Delta {
            revision: now.position().revision,
            on: Seq(|| turned(true)),
            off: Seq(|| turned(false)),
        };
        event("delta", now, json(&delta))
    }
}

fn event(name: &str, now: &Snapshot, data: String) -> Event {
    let id = now.position().to_string();
    Event::default().event(name).id(id).data(data)
}
