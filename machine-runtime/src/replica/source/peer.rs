//! One connection of a follower.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tarpc::context::Context;
use tokio::time::{Instant, sleep_until, timeout};

use super::Source;
use super::answer::{Pace, Question};
use super::gate::Gate;
use super::stats::{Full, Seen};
use crate::observe::{LinkChange, Observers, SpanKind};
use crate::position::Position;
use crate::replica::admission::{Credentials, Denied, Token};
use crate::replica::follower::Granularity;
use crate::replica::link::tidy_name;
use crate::replica::seldom::Seldom;
use crate::replica::uplink::LATE;
use crate::replica::wire::{
    Blob, Hello, News, OLDEST_PROTOCOL, PROTOCOL, Probe, Refusal, Replication, SCHEMA_PAGE, Secret,
    Terms, Watch, Welcome, WriteAnswer, decode_write,
};
use crate::schema::{StateShape, as_index};
use crate::selection::Selection;
use crate::write::{MutateError, Until, WRITE_LONGEST};

/// The longest that a question is held, whatever the follower asks for.
const LONGEST_HOLD: Duration = Duration::from_secs(20);

/// How long a `hello` is held at most, for us to have something to show.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// How often at most it is told that followers are refused.
static REFUSED: Seldom = Seldom::new();

/// Why nothing is expected of a follower any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Quiet {
    /// It said nothing for too long.
    Silent,
    /// It did not say hello in time, or none that was answered with a welcome.
    NoHello,
}

/// What holds on a connection since the handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Agreed {
    pub(super) protocol: u16,
    /// The least time between two deltas.
    pub(super) interval: Duration,
    pub(super) heartbeat: Option<Duration>,
    pub(super) granularity: Granularity,
    pub(super) compress: bool,
    /// What we showed ourselves, if not all.
    pub(super) shown: Option<Selection>,
    /// What travels, if not all.
    pub(super) selection: Option<Selection>,
    /// What is kept back for that: nothing if we show no more than travels.
    pub(super) filter: Option<Selection>,
}

/// One connection. Nothing awaits under any of its locks.
#[derive(Clone)]
pub(super) struct Peer {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    id: u64,
    gate: Gate,
    agreed: Mutex<Option<Arc<Agreed>>>,
    pace: Mutex<Pace>,
    /// Whether the follower has said hello.
    greeted: AtomicBool,
    /// When the follower last said something.
    heard: Mutex<Instant>,
    /// The position that the follower has last asked beyond.
    has: Arc<Mutex<Option<Position>>>,
}

/// Strikes the follower off the list when its connection ends.
impl Drop for Inner {
    fn drop(&mut self) {
        self.leave("the connection ended");
    }
}

impl Inner {
    /// Strikes the follower off the list, if it is on it.
    fn leave(&self, why: &str) {
        if let Some(follower) = self.source.stats.remove(self.id) {
            tracing::debug!(target: super::TARGET, follower, "follower left");
            let why = why.to_owned();
            self.source.tell(follower, LinkChange::Lost { why });
        }
    }
}

impl Peer {
    pub(super) fn new(source: &Source, shown: Credentials) -> Self {
        let inner = Inner {
            source: source.clone(),
            id: source.stats.next(),
            gate: Gate::new(source, shown),
            agreed: Mutex::default(),
            pace: Mutex::default(),
            greeted: AtomicBool::default(),
            heard: Mutex::new(Instant::now()),
            has: Arc::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Resolves when the follower said nothing for too long, or did not say hello in time.
    pub(super) fn quiet(&self) -> impl Future<Output = Quiet> + use<> {
        let options = &self.inner.source.options;
        let (idle, hello_within) = (options.idle, options.hello_within);
        let opened = Instant::now();
        let inner = Arc::downgrade(&self.inner);
        async move {
            loop {
                // Once the connection ends the other branch does, too.
                let Some(inner) = inner.upgrade() else {
                    return std::future::pending().await;
                };
                let silent = *lock(&inner.heard) + idle;
                let mut end = (silent, Quiet::Silent);
                if lock(&inner.agreed).is_none() {
                    // One that comes in time has the time of an answer, however often it is said.
                    let greeted = inner.greeted.load(Ordering::Relaxed);
                    let more = if greeted {
                        READY_WITHIN
                    } else {
                        Duration::ZERO
                    };
                    let no_hello = opened + hello_within + more;
                    if no_hello < silent {
                        end = (no_hello, Quiet::NoHello);
                    }
                }
                drop(inner);
                let (time, quiet) = end;
                if time <= Instant::now() {
                    return quiet;
                }
                sleep_until(time).await;
            }
        }
    }

    /// Resolves when the follower is not admitted any more, or may do something else than it was told.
    pub(super) fn revoked(&self) -> impl Future<Output = ()> + use<> {
        let generation = self.inner.gate.generation();
        let inner = Arc::downgrade(&self.inner);
        async move {
            if let Some(mut generation) = generation {
                while generation.changed().await.is_ok() {
                    match inner.upgrade() {
                        Some(inner) if inner.gate.holds() => {}
                        Some(inner) => {
                            let node = &inner.source.options.name;
                            tracing::info!(target: super::TARGET, node, "what a follower may do has changed");
                            return;
                        }
                        None => break,
                    }
                }
            }
            // Once the connection ends the other branches do, too.
            std::future::pending::<()>().await;
        }
    }

    fn hear(&self) {
        *lock(&self.inner.heard) = Instant::now();
    }

    fn refuse(&self, refusal: Refusal) -> Refusal {
        let source = &self.inner.source;
        source.stats.count_refusal();
        // A stranger can have itself refused as often as it likes, and an observer that loses nothing would be
        // told of each.
        REFUSED.say(|more| {
            tracing::warn!(target: super::TARGET, ?refusal, more, "refused a follower");
            let why = format!("{refusal:?}");
            source.tell(String::new(), LinkChange::Refused { why });
        });
        refusal
    }

    /// The refusal of one for whom there is no room, in words that it knows.
    fn refuse_full(&self, protocol: u16) -> Refusal {
        self.refuse(Refusal::Full);
        if protocol < 2 {
            Refusal::Closing
        } else {
            Refusal::Full
        }
    }

    /// What holds on the link with a follower that says this.
    fn agree(&self, protocol: u16, hello: &Hello) -> Result<Agreed, Refusal> {
        let wishes = &hello.wishes;
        let shared = &self.inner.source.shared;
        let shown = shared.selection();
        let states = shared.schema().len();
        let wanted = wishes.selection.as_ref().map(|bits| {
            let wanted = Selection::from_bytes(&bits.0, states);
            wanted.ok_or(Refusal::Malformed)
        });
        let wanted = wanted.transpose()?.filter(|wanted| !wanted.is_all());
        let selection = match (&shown, wanted) {
            (Some(shown), Some(wanted)) => Some(shown.and(&wanted)),
            (shown, wanted) => shown.clone().or(wanted),
        };
        match &selection {
            // It would take what is not shown for what is not active.
            Some(_) if protocol < 2 => return Err(Refusal::Protocol(PROTOCOL)),
            Some(nothing) if nothing.len() == 0 => return Err(Refusal::NothingSelected),
            _ => {}
        }
        let asked = Duration::from_millis(wishes.push_interval_ms.into());
        Ok(Agreed {
            protocol,
            interval: self.inner.source.options.push_interval.max(asked),
            heartbeat: (protocol > 1).then(|| Duration::from_millis(wishes.heartbeat_ms.into())),
            granularity: Granularity::of(wishes.every),
            compress: wishes.compress,
            filter: selection.clone().filter(|_| selection != shown),
            shown,
            selection,
        })
    }

    async fn run(self, write: Blob, within: Duration) -> WriteAnswer {
        let handle = self.inner.source.writes.as_ref();
        // Nobody writes who has not said hello.
        let greeted = lock(&self.inner.agreed).is_some();
        let Some(handle) = handle.filter(|_| greeted) else {
            return Err(MutateError::Refused).into();
        };
        if !self.inner.gate.is_open() {
            return Err(MutateError::Refused).into();
        }
        let states = self.inner.source.shared.schema().len();
        let Ok(mut write) = decode_write(&write, states) else {
            return Err(MutateError::Refused).into();
        };
        if let Some(state) = self.inner.gate.forbidden(&write, states) {
            return Err(MutateError::Forbidden { state }).into();
        }
        let observers = self.inner.source.shared.observers();
        let hop = Observers::hop(observers, SpanKind::Server, &mut write);
        if within.is_zero() {
            let may_have_run = false;
            return Err(MutateError::Expired { may_have_run }).into();
        }
        let written = handle.write(write, Until::within(within)).await;
        if let Some(hop) = hop {
            hop.end(&written);
        }
        written.into()
    }
}

impl Replication for Peer {
    async fn hello(self, _: Context, protocol: u16, body: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        self.hear();
        if !(OLDEST_PROTOCOL..=PROTOCOL).contains(&protocol) {
            return Err(self.refuse(Refusal::Protocol(PROTOCOL)));
        }
        let hello = Hello::decode(&body, protocol);
        let hello = hello.map_err(|_malformed| self.refuse(Refusal::Malformed))?;
        let source = &self.inner.source;
        // Before anything is told of what there is.
        if let Err(denied) = self.inner.gate.admit(hello.token.clone()) {
            self.inner.leave("it is not admitted any more");
            return Err(match protocol {
                1 => Refusal::Closing,
                _ => Refusal::Denied(denied == Denied::NotAllowed),
            });
        }
        self.inner.greeted.store(true, Ordering::Relaxed);
        let ours = source.shared.schema().fingerprint();
        if hello.fingerprint != ours.0 {
            return Err(self.refuse(Refusal::Fingerprint(ours.0)));
        }
        let most = source.options.followers;
        let has_room = source.stats.has_room(self.inner.id, most);
        has_room.map_err(|Full| self.refuse_full(protocol))?;
        // A follower may come before we have anything ourselves.
        let mut positions = source.shared.positions();
        let mut draining = source.draining.subscribe();
        tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => return Err(Refusal::Closing),
            ready = timeout(READY_WITHIN, positions.wait_for(Option::is_some)) => match ready {
                Ok(Ok(_)) => {}
                Ok(Err(_closed)) => return Err(Refusal::Closing),
                Err(_elapsed) => return Err(Refusal::NotReady),
            }
        }
        if positions.has_changed().is_err() {
            // The machine behind it has ended; what is shown will not change any more.
            return Err(Refusal::Closing);
        }
        let (agreed, news) = loop {
            let agreed = self.agree(protocol, &hello);
            let agreed = agreed.map_err(|refusal| self.refuse(refusal))?;
            let fits = agreed.selection.as_ref().map(Selection::hash) == hello.wishes.has;
            let news = source.look(hello.position, false, fits, &agreed, &self.inner.pace);
            // It changes before what is shown does.
            if source.shared.selection() == agreed.shown {
                break (agreed, news.unwrap_or_else(|| source.idle()));
            }
        };
        // What it has after this answer, as it says with its next question.
        let has = source.shared.current().map(|now| now.position());
        *lock(&self.inner.has) = has.or(hello.position);
        let name = tidy_name(&hello.node);
        tracing::debug!(target: super::TARGET, follower = name, "follower came");
        let seen = Seen {
            name: name.clone(),
            who: self.inner.gate.who(),
            agreed: agreed.clone(),
            has: Arc::clone(&self.inner.has),
        };
        // Another may have come while this one waited.
        let is_new = source.stats.add(self.inner.id, seen, most);
        let is_new = is_new.map_err(|Full| self.refuse_full(protocol))?;
        *lock(&self.inner.agreed) = Some(Arc::new(agreed.clone()));
        let welcome = Welcome {
            node: source.options.name.clone(),
            tier: source.shared.tier().unwrap_or(0),
            news,
            terms: Terms {
                selection: agreed.selection.as_ref().map(|s| Blob(s.to_bytes())),
                push_interval_ms: millis(agreed.interval),
            },
        };
        // Who says hello once more has been told of.
        if is_new {
            source.tell(name, LinkChange::Connected);
        }
        Ok(welcome.encode(protocol))
    }

    async fn watch(self, _: Context, watch: Watch) -> News {
        self.hear();
        let agreed = lock(&self.inner.agreed).clone();
        let Some(mut agreed) = agreed.filter(|_| self.inner.gate.is_open()) else {
            // Nobody asks who has not said hello.
            return News::Closing;
        };
        let granularity = Granularity::of(watch.every);
        if agreed.granularity != granularity {
            agreed = Arc::new(Agreed {
                granularity,
                ..(*agreed).clone()
            });
        }
        *lock(&self.inner.has) = Some(watch.after);
        let question = Question {
            after: Some(watch.after),
            resync: watch.resync,
            hold: Duration::from_millis(watch.hold_ms.into()).min(LONGEST_HOLD),
        };
        let answer = self
            .inner
            .source
            .answer(&question, &agreed, &self.inner.pace);
        let news = answer.await;
        // What it may have changed meanwhile.
        if self.inner.gate.is_open() {
            news
        } else {
            News::Closing
        }
    }

    async fn schema(self, _: Context, from: u32) -> Vec<StateShape> {
        self.hear();
        if !self.inner.gate.is_open() {
            return Vec::new();
        }
        let schema = self.inner.source.shared.schema();
        let end = from.saturating_add(SCHEMA_PAGE).min(as_index(schema.len()));
        (from..end)
            .map(|state| schema.shape(state as usize))
            .collect()
    }

    async fn mutate(self, ctx: Context, write: Blob) -> WriteAnswer {
        self.hear();
        let left = ctx
            .deadline
            .saturating_duration_since(std::time::Instant::now())
            .saturating_sub(LATE);
        let answer = self.run(write, left).await;
        // Version 1 has no word for it.
        answer.without_forbidden()
    }

    async fn write(self, _: Context, write: Blob, within_ms: u32) -> WriteAnswer {
        self.hear();
        let within = Duration::from_millis(within_ms.into()).min(WRITE_LONGEST);
        self.run(write, within).await
    }

    async fn probe(self, _: Context) -> Probe {
        self.hear();
        let source = &self.inner.source;
        // A certificate speaks for itself; a token has been shown.
        let admitted = self.inner.gate.is_open() || self.inner.gate.admit(None).is_ok();
        let gives =
            admitted && !source.is_draining() && source.shared.positions().has_changed().is_ok();
        let now = source.shared.current().filter(|_| gives);
        Probe {
            position: now.map(|now| now.position()),
            age_ms: if admitted { source.age_ms() } else { u32::MAX },
        }
    }

    async fn show(self, _: Context, token: Secret) -> bool {
        self.hear();
        let Secret(token) = token;
        // It is for those who ask before they say hello.
        if lock(&self.inner.agreed).is_some() {
            return false;
        }
        self.inner.gate.admit(Some(Token::new(token))).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(in crate::replica) fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
