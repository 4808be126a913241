//! The side that is followed.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::handle::Handle;
use crate::observe::{LinkChange, Observers, Side, SpanKind};
use crate::position::Position;
use crate::ring::Since;
use crate::schema::{StateShape, as_index};
use crate::state::{DynState, State};
use crate::trace::TraceContext;
use crate::view::{Shared, View};
use crate::write::{MutateError, Until};

use super::codec::{frame, transport};
use super::link::tidy_name;
use super::uplink::{LATE, UPLINK};
use super::wire::{
    Blob, Hello, News, PROTOCOL, Refusal, Replication, SCHEMA_PAGE, SnapshotCause, Watch, Welcome,
    WriteAnswer, decode_write, encode_delta, encode_snapshot,
};

/// The longest that a question is held, whatever the follower asks for.
const LONGEST_HOLD: Duration = Duration::from_secs(20);

/// How much longer than asked a replica holds a question at most, in wait of a heartbeat to pass
/// on: half of what a follower's patience has to spare.
const RELAY: Duration = Duration::from_secs(1);

/// How many deltas one answer carries at most, where each is wanted.
const DELTAS_AT_ONCE: usize = 256;

/// How many calls of one connection are worked on at a time: more than a follower that keeps to its
/// own bound has under way, those included that it has just dropped. Any beyond that is refused at
/// once, so a question never waits behind writes.
const CALLS: usize = 2 * UPLINK;

/// How many answers wait to be written on a connection.
const ANSWERS: usize = 64;

/// How long `accept` rests after an error, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How a node serves its followers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SourceOptions {
    /// The node's name.
    pub name: String,
    /// The least time between two deltas to one follower; what happens in between is one delta.
    /// Zero sends each at once.
    pub push_interval: Duration,
    /// The longest frame in bytes; by default what a snapshot of the schema can take.
    pub max_frame: Option<usize>,
}

impl SourceOptions {
    /// The defaults, for a node of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            push_interval: Duration::ZERO,
            max_frame: None,
        }
    }
}

/// What a source has done, for status and metrics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SourceStats {
    inner: Arc<Stats>,
}

#[derive(Debug, Default)]
struct Stats {
    deltas: AtomicU64,
    snapshots: AtomicU64,
    refusals: AtomicU64,
    // Touched when a follower comes or goes, never while one is served.
    followers: Mutex<BTreeMap<u64, FollowerSeen>>,
    connections: AtomicU64,
}

/// A follower that is served.
#[derive(Debug)]
struct FollowerSeen {
    name: String,
    /// The position that it has last asked beyond. Nothing awaits under it.
    has: Arc<Mutex<Option<Position>>>,
}

impl SourceStats {
    /// The names of the followers that are served now.
    pub fn followers(&self) -> Vec<String> {
        let table = self.table();
        table.values().map(|seen| seen.name.clone()).collect()
    }

    /// How many revisions each follower that is served now has not asked beyond yet, while `newest`
    /// is shown.
    pub fn lags(&self, newest: Position) -> Vec<(String, u64)> {
        let table = self.table();
        let lag = |seen: &FollowerSeen| {
            let has = *seen.has.lock().unwrap_or_else(PoisonError::into_inner);
            // Of another life it has nothing.
            let has = has.filter(|has| has.epoch == newest.epoch);
            let has = has.map_or(0, |has| has.revision);
            (seen.name.clone(), newest.revision.saturating_sub(has))
        };
        table.values().map(lag).collect()
    }

    /// How many deltas were sent.
    pub fn deltas(&self) -> u64 {
        self.inner.deltas.load(Ordering::Relaxed)
    }

    /// How many snapshots were sent.
    pub fn snapshots(&self) -> u64 {
        self.inner.snapshots.load(Ordering::Relaxed)
    }

    /// How many handshakes were refused.
    pub fn refusals(&self) -> u64 {
        self.inner.refusals.load(Ordering::Relaxed)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, FollowerSeen>> {
        self.inner
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the moments of a view to followers.
#[derive(Clone)]
pub struct Source {
    shared: Arc<Shared>,
    options: Arc<SourceOptions>,
    stats: SourceStats,
    writes: Option<Handle<DynState>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// A source of what `view` shows, which takes no writes.
    pub fn new<S: State>(view: &View<S>, options: SourceOptions) -> Self {
        Self {
            shared: Arc::clone(view.shared()),
            options: Arc::new(options),
            stats: SourceStats::default(),
            writes: None,
        }
    }

    /// Has followers' writes go to `handle`, which has to be that of the view.
    #[must_use]
    pub fn with_writes<S: State>(mut self, handle: &Handle<S>) -> Self {
        self.writes = Some(handle.untyped());
        self
    }

    /// What the source has done so far.
    pub fn stats(&self) -> &SourceStats {
        &self.stats
    }

    /// Serves whoever connects to `listener`, until `stop` resolves.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        // Aborts what is left when it drops; a question under way is asked again elsewhere.
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = &mut stop => return,
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => {
                    let source = self.clone();
                    connections.spawn(async move { source.serve_connection(stream).await });
                }
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept followers");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    /// Serves one follower over `io`, until either side closes it.
    pub async fn serve_connection<T: AsyncRead + AsyncWrite + Send + 'static>(&self, io: T) {
        use futures_util::StreamExt;
        let id = self.stats.inner.connections.fetch_add(1, Ordering::Relaxed);
        let peer = Peer {
            source: self.clone(),
            id,
            last: Arc::new(Mutex::new(None)),
            has: Arc::default(),
            _leave: Arc::new(Leave {
                source: self.clone(),
                id,
            }),
        };
        let config = tarpc::server::Config {
            // Bounds what a follower that does not read makes us keep.
            pending_response_buffer: ANSWERS,
        };
        let max_frame = self.options.max_frame;
        let max_frame = max_frame.unwrap_or_else(|| frame(self.shared.schema()));
        let observers = self.shared.observers().cloned();
        let transport = transport(io, max_frame, Side::Down, observers);
        let channel = BaseChannel::new(config, transport);
        channel
            .max_concurrent_requests(CALLS)
            .execute(peer.serve())
            .for_each_concurrent(None, |answer| answer)
            .await;
    }

    fn tell(&self, peer: String, change: LinkChange) {
        if let Some(observers) = self.shared.observers() {
            observers.tell_link(Side::Down, peer, change);
        }
    }

    fn age_ms(&self) -> u32 {
        u32::try_from(self.shared.age().as_millis()).unwrap_or(u32::MAX)
    }

    /// The answer to a follower at `after`, unless there is nothing new.
    fn look(&self, after: Option<Position>, every: bool, resync: bool) -> Option<News> {
        let age_ms = self.age_ms();
        let cause = match after {
            None => SnapshotCause::First,
            Some(_) if resync => SnapshotCause::Asked,
            Some(after) => {
                let since = self.shared.ring().since(after, every, DELTAS_AT_ONCE);
                match since {
                    Since::Current => return None,
                    Since::OtherEpoch => SnapshotCause::Epoch,
                    Since::Compacted { oldest } => SnapshotCause::Compacted(oldest),
                    Since::Deltas(deltas) => {
                        let last = deltas.last().map_or(0, |delta| delta.revision);
                        let traces = self.shared.traces().between(after, last);
                        self.stats
                            .inner
                            .deltas
                            .fetch_add(deltas.len() as u64, Ordering::Relaxed);
                        let mut deltas: Vec<_> = deltas
                            .into_iter()
                            .map(|delta| encode_delta(&delta.tidy()))
                            .collect();
                        if !traces.is_empty() {
                            let traces = traces.into_iter();
                            let traces = traces.map(|led| {
                                let TraceContext { trace, span, .. } = led.context;
                                (led.position.revision, trace, span, led.transition)
                            });
                            return Some(News::Traced {
                                age_ms,
                                deltas,
                                traces: traces.collect(),
                            });
                        }
                        return Some(match deltas.pop() {
                            Some(delta) if deltas.is_empty() => News::Delta { age_ms, delta },
                            last => {
                                deltas.extend(last);
                                News::Deltas { age_ms, deltas }
                            }
                        });
                    }
                }
            }
        };
        let snapshot = encode_snapshot(&*self.shared.current()?);
        self.stats.inner.snapshots.fetch_add(1, Ordering::Relaxed);
        Some(News::Snapshot {
            age_ms,
            cause,
            snapshot,
        })
    }

    /// Waits for an answer to a follower at `after`, for `hold` at most.
    async fn answer(
        &self,
        after: Option<Position>,
        every: bool,
        resync: bool,
        hold: Duration,
        not_before: Option<Instant>,
    ) -> News {
        // On a replica the next heartbeat from above is the better answer; it comes about as
        // often as our followers want one, so it gets a little more time.
        let relayed = self.shared.tier() != Some(0);
        let more = if relayed {
            (hold / 2).min(RELAY)
        } else {
            Duration::ZERO
        };
        let end = Instant::now() + hold + more;
        let mut positions = self.shared.positions();
        loop {
            positions.borrow_and_update();
            if let Some(time) = not_before.filter(|time| *time > Instant::now())
                && self.has_news(after)
            {
                // Coalesce: look again once the interval is over, or the follower has waited as
                // long as it would. It is told that what it has is as old as the news.
                let held_back = Instant::now();
                sleep_until(time.min(end)).await;
                if time > end {
                    let held_back = u32::try_from(held_back.elapsed().as_millis());
                    let age_ms = self.age_ms().max(held_back.unwrap_or(u32::MAX));
                    return News::Idle { age_ms };
                }
            }
            if let Some(news) = self.look(after, every, resync) {
                return news;
            }
            // None of the branches holds anything that is lost with it.
            tokio::select! {
                biased;
                changed = positions.changed() => if changed.is_err() {
                    return News::Closing;
                },
                () = sleep_until(end) => return News::Idle { age_ms: self.age_ms() },
                // A heartbeat of our own parent: passed on at once, it keeps ages from adding
                // up along the tree.
                () = self.shared.freshened.notified() => {
                    return News::Idle { age_ms: self.age_ms() };
                }
            }
        }
    }

    fn has_news(&self, after: Option<Position>) -> bool {
        after.is_some() && self.shared.current().map(|current| current.position()) != after
    }
}

/// Whether an error of `accept` concerns the one connection only.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput
    )
}

/// One connection.
#[derive(Clone)]
struct Peer {
    source: Source,
    id: u64,
    /// When the last delta was sent. Nothing awaits under it.
    last: Arc<Mutex<Option<Instant>>>,
    /// The position that the follower has last asked beyond.
    has: Arc<Mutex<Option<Position>>>,
    _leave: Arc<Leave>,
}

/// Strikes a follower off the list when its connection ends.
struct Leave {
    source: Source,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let left = self.source.stats.table().remove(&self.id);
        if let Some(follower) = left {
            tracing::debug!(follower = follower.name, "follower left");
            let why = "the connection ended".to_owned();
            self.source.tell(follower.name, LinkChange::Lost { why });
        }
    }
}

impl Peer {
    /// Remembers when something was pushed, where pushes have to keep a distance.
    fn note(&self, news: &News) {
        if !self.source.options.push_interval.is_zero() && !matches!(news, News::Idle { .. }) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    fn refuse(&self, refusal: Refusal) -> Refusal {
        let why = format!("{refusal:?}");
        self.source.tell(String::new(), LinkChange::Refused { why });
        self.source
            .stats
            .inner
            .refusals
            .fetch_add(1, Ordering::Relaxed);
        tracing::warn!(?refusal, "refused a follower");
        refusal
    }
}

impl Replication for Peer {
    async fn hello(self, _: Context, protocol: u16, body: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        if protocol != PROTOCOL {
            return Err(self.refuse(Refusal::Protocol(PROTOCOL)));
        }
        let hello: Hello =
            postcard::from_bytes(&body).map_err(|_malformed| self.refuse(Refusal::Malformed))?;
        let ours = self.source.shared.schema().fingerprint();
        if hello.fingerprint != ours.0 {
            return Err(self.refuse(Refusal::Fingerprint(ours.0)));
        }
        // A follower may come before we have anything ourselves.
        let source = &self.source;
        let mut positions = source.shared.positions();
        let ready = positions.wait_for(Option::is_some);
        match timeout(LONGEST_HOLD / 4, ready).await {
            Ok(Ok(_)) => {}
            Ok(Err(_closed)) => return Err(Refusal::Closing),
            Err(_elapsed) => return Err(Refusal::NotReady),
        }
        if positions.has_changed().is_err() {
            // The machine behind it has ended; what is shown will not change any more.
            return Err(Refusal::Closing);
        }
        let news = source
            .look(hello.position, false, false)
            .unwrap_or_else(|| News::Idle {
                age_ms: source.age_ms(),
            });
        self.note(&news);
        // What it has after this answer, as it says with its next question.
        let has = source.shared.current().map(|now| now.position());
        *self.has.lock().unwrap_or_else(PoisonError::into_inner) = has.or(hello.position);
        let name = tidy_name(&hello.node);
        tracing::debug!(follower = name, "follower came");
        let seen = FollowerSeen {
            name: name.clone(),
            has: Arc::clone(&self.has),
        };
        // Who says hello once more has been told of.
        if source.stats.table().insert(self.id, seen).is_none() {
            source.tell(name, LinkChange::Connected);
        }
        let welcome = Welcome {
            node: source.options.name.clone(),
            tier: source.shared.tier().unwrap_or(0),
            news,
        };
        Ok(postcard::to_stdvec(&welcome).expect("a welcome can always be encoded"))
    }

    async fn watch(self, _: Context, watch: Watch) -> News {
        *self.has.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch.after);
        let hold = Duration::from_millis(watch.hold_ms.into()).min(LONGEST_HOLD);
        let interval = self.source.options.push_interval;
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let not_before = last
            .filter(|_| !interval.is_zero())
            .map(|last| last + interval);
        let news = self
            .source
            .answer(
                Some(watch.after),
                watch.every,
                watch.resync,
                hold,
                not_before,
            )
            .await;
        self.note(&news);
        news
    }

    async fn schema(self, _: Context, from: u32) -> Vec<StateShape> {
        let schema = self.source.shared.schema();
        let end = from.saturating_add(SCHEMA_PAGE).min(as_index(schema.len()));
        (from..end)
            .map(|state| schema.shape(state as usize))
            .collect()
    }

    async fn mutate(self, ctx: Context, write: Blob) -> WriteAnswer {
        let Some(handle) = &self.source.writes else {
            return Err(MutateError::Refused).into();
        };
        let Ok(mut write) = decode_write(&write, self.source.shared.schema().len()) else {
            return Err(MutateError::Refused).into();
        };
        let observers = self.source.shared.observers();
        let hop = Observers::hop(observers, SpanKind::Server, &mut write);
        let left = ctx
            .deadline
            .saturating_duration_since(std::time::Instant::now())
            .saturating_sub(LATE);
        if left.is_zero() {
            let may_have_run = false;
            return Err(MutateError::Expired { may_have_run }).into();
        }
        let written = handle.write(write, Until::within(left)).await;
        if let Some(hop) = hop {
            hop.end(&written);
        }
        written.into()
    }
}
