//! The side that follows.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tarpc::client;
use tarpc::context::{self, Context};
use tokio::time::{sleep, timeout};

use crate::handle::{Handle, Target};
use crate::observe::{LinkChange, Side};
use crate::position::Position;
use crate::publisher::Publisher;
use crate::relations::factor;
use crate::ring::Delta;
use crate::schema::{Difference, Fingerprint, Schema, as_index};
use crate::state::State;
use crate::transition::payload_digest;
use crate::view::{Snapshot, View, ViewOptions};
use crate::when::Now;

use super::codec::{frame, transport};
use super::connect::Connect;
use super::link::{Link, LinkState, Resync, tidy_name};
use super::uplink::{Sessions, UPLINK, Uplink};
use super::wire::{
    Blob, Hello, Malformed, News, PROTOCOL, Refusal, ReplicationClient, Watch, Welcome,
    decode_delta, decode_snapshot,
};

mod telling;

/// How long it may take to reach the parent.
const CONNECT: Duration = Duration::from_secs(3);

/// How long the handshake may take. The parent may use most of it to become ready itself.
const HANDSHAKE: Duration = Duration::from_secs(8);

/// How long an answer may be late before the connection counts as dead.
const GRACE: Duration = Duration::from_secs(2);

/// What a follower wants to see of what happened between two answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Granularity {
    /// Where it led to. Costs the least, and a slow follower catches up in one step.
    #[default]
    Latest,
    /// Each transition, as far as the parent still has them one by one.
    Every,
}

/// How a replica follows.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FollowerOptions {
    /// The node's name.
    pub name: String,
    /// How much of the past it keeps for its own followers, and when it is stale.
    pub view: ViewOptions,
    /// How long the parent may be silent.
    pub heartbeat: Duration,
    /// What it wants to see.
    pub granularity: Granularity,
    /// The first pause before it dials again; it doubles up to `retry_most`, and a part of it is
    /// random.
    pub retry_least: Duration,
    /// The longest pause before it dials again.
    pub retry_most: Duration,
    /// The longest frame in bytes; by default what a snapshot of the schema can take.
    pub max_frame: Option<usize>,
}

impl FollowerOptions {
    /// The defaults, for a node of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            view: ViewOptions::default(),
            heartbeat: Duration::from_secs(1),
            granularity: Granularity::Latest,
            retry_least: Duration::from_millis(20),
            retry_most: Duration::from_secs(2),
            max_frame: None,
        }
    }
}

/// Why a session with the parent ended. None of it ends the follower.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the connection broke: {0}")]
    Rpc(String),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the parent shuts down")]
    Closing,
    #[error("the parent has nothing to show yet")]
    NotReady,
    #[error("{0}")]
    Refused(String),
}

impl From<client::RpcError> for Lost {
    fn from(error: client::RpcError) -> Self {
        Self::Rpc(error.to_string())
    }
}

/// Follows a parent and writes what it says into a view of its own.
#[derive(Debug)]
#[must_use = "nothing is followed until `run` is awaited"]
pub struct Follower {
    schema: Arc<Schema>,
    options: FollowerOptions,
    publisher: Publisher,
    link: Link,
    /// Over which writes go up, while there is one.
    sessions: Sessions,
    uplink: Uplink,
    position: Option<Position>,
    ticks: Vec<u64>,
    retained: BTreeMap<u32, Bytes>,
    digest: u64,
    /// The parent's name, once it said so.
    parent: String,
    /// Why the next question asks for a snapshot.
    resync: Option<Resync>,
    /// How many waiting futures deltas let go since the last publication.
    released: usize,
}

impl Follower {
    /// A replica of a machine with this schema, and what it shows. The view has nothing to show
    /// until the first snapshot came.
    ///
    /// # Panics
    ///
    /// If `S` has fewer states than the schema.
    pub fn new<S: State>(schema: Arc<Schema>, options: FollowerOptions) -> (View<S>, Self) {
        let last = S::from_index(schema.len() - 1);
        assert!(last.is_some(), "{schema:?} is not the schema of the states");
        let (view, publisher) = Publisher::replica(&schema, options.view.clone());
        let (sessions, uplink) = Sessions::new(Arc::clone(publisher.shared()));
        let follower = Self {
            ticks: vec![0; schema.len()],
            schema,
            options,
            publisher,
            link: Link::new(),
            sessions,
            uplink,
            position: None,
            retained: BTreeMap::new(),
            digest: 0,
            parent: String::new(),
            resync: None,
            released: 0,
        };
        (view, follower)
    }

    /// A handle whose mutations travel up to the root. They wait for a live link to the parent for as
    /// long as they may take.
    ///
    /// # Panics
    ///
    /// If `S` has fewer states than the schema.
    pub fn handle<S: State>(&self) -> Handle<S> {
        let last = S::from_index(self.schema.len() - 1);
        assert!(last.is_some(), "not the schema of the states");
        let view = View::new(Arc::clone(self.publisher.shared()));
        Handle::new(Target::Uplink(self.uplink.clone()), view)
    }

    /// What is known of the link to the parent.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Follows `parent` until `stop` resolves, and dials again for ever, with
    /// growing pauses, whenever that fails.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the view keeps its last moment and whoever waits on it is told that it closed.
    pub async fn run(mut self, mut parent: impl Connect, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut failures = 0;
        let mut known = None;
        let mut pause = self.options.retry_least;
        loop {
            let connects = self.link.connects();
            let lost = tokio::select! {
                () = &mut stop => return,
                // Dropping a session closes its connection; what was applied stays.
                lost = self.session(&mut parent) => lost,
            };
            if self.link.connects() > connects {
                failures = 0;
                known = None;
                pause = self.options.retry_least;
                tracing::info!(node = self.options.name, error = %lost, "lost the parent");
                let why = lost.to_string();
                self.tell_link(LinkChange::Lost { why });
            }
            failures += 1;
            let told = lost.to_string();
            // Once for each reason, not once for each attempt.
            if known.as_ref() != Some(&told) {
                let node = &self.options.name;
                if matches!(lost, Lost::Refused(_)) {
                    tracing::error!(node, error = told, "the parent refuses us");
                    let why = told.clone();
                    self.tell_link(LinkChange::Refused { why });
                } else {
                    tracing::info!(node, error = told, "cannot follow the parent");
                }
                known = Some(told.clone());
            }
            self.link.set(match lost {
                Lost::Refused(why) => {
                    pause = self.options.retry_most;
                    LinkState::Refused { why }
                }
                _ => LinkState::Connecting {
                    failures,
                    error: Some(told),
                },
            });
            let jitter = fastrand::f64() / 2.0 + 0.5;
            tokio::select! {
                () = &mut stop => return,
                () = sleep(pause.mul_f64(jitter)) => {}
            }
            pause = (pause * 2).min(self.options.retry_most);
        }
    }

    /// One connection to the parent, from dialling to its end.
    async fn session(&mut self, parent: &mut impl Connect) -> Lost {
        let io = match timeout(CONNECT, parent.connect()).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return Lost::Connect(error),
            Err(_elapsed) => return Lost::Timeout,
        };
        let transport = transport(
            io,
            self.options
                .max_frame
                .unwrap_or_else(|| frame(&self.schema)),
            Side::Up,
            self.publisher.shared().observers().cloned(),
        );
        let mut config = client::Config::default();
        // Calls that were dropped count until that has been written. Our own question goes into the
        // same line, so it must not be full of writes.
        config.max_in_flight_requests = 2 * UPLINK;
        config.pending_request_buffer = UPLINK;
        let new = ReplicationClient::new(config, transport);
        let lost = tokio::select! {
            ended = new.dispatch => match ended {
                Ok(()) => Lost::Rpc("closed by the parent".to_owned()),
                Err(error) => Lost::Rpc(error.to_string()),
            },
            lost = self.follow(new.client) => lost,
        };
        self.sessions.end();
        lost
    }

    async fn follow(&mut self, client: ReplicationClient) -> Lost {
        match self.greet(&client).await {
            Ok(()) => {}
            Err(lost) => return lost,
        }
        self.sessions.begin(client.clone());
        loop {
            if let Some(observers) = self.publisher.shared().observers() {
                observers.keep_up().await;
            }
            if let Err(lost) = self.ask(&client).await {
                return lost;
            }
        }
    }

    async fn greet(&mut self, client: &ReplicationClient) -> Result<(), Lost> {
        let hello = Hello {
            fingerprint: self.schema.fingerprint().0,
            node: self.options.name.clone(),
            position: self.position,
        };
        let body = postcard::to_stdvec(&hello).expect("a hello can always be encoded");
        let answer = within(HANDSHAKE, |ctx| client.hello(ctx, PROTOCOL, body)).await??;
        let body = match answer {
            Ok(body) => body,
            Err(refusal) => return Err(self.refused(client, refusal).await?),
        };
        let mut welcome: Welcome = postcard::from_bytes(&body)
            .map_err(|error| Lost::Rpc(format!("malformed welcome: {error}")))?;
        self.publisher
            .shared()
            .set_tier(welcome.tier.saturating_add(1));
        welcome.node = tidy_name(&welcome.node);
        self.parent.clone_from(&welcome.node);
        // Only a parent with something to give counts: any other is dialled with growing pauses.
        self.take(welcome.news)?;
        self.link.count_connect();
        tracing::info!(node = self.options.name, parent = welcome.node, "following");
        self.tell_link(LinkChange::Connected);
        self.link.set(LinkState::Following {
            parent: welcome.node,
        });
        Ok(())
    }

    async fn ask(&mut self, client: &ReplicationClient) -> Result<(), Lost> {
        let Some(after) = self.position else {
            // Only a parent that shut down in between welcomes without a first snapshot.
            return Err(Lost::NotReady);
        };
        let watch = Watch {
            after,
            every: self.options.granularity == Granularity::Every,
            resync: self.resync.is_some(),
            hold_ms: u32::try_from(self.options.heartbeat.as_millis()).unwrap_or(u32::MAX),
        };
        let patience = self.options.heartbeat + GRACE;
        let news = within(patience, |ctx| client.watch(ctx, watch)).await??;
        self.take(news)
    }

    /// Applies an answer. What cannot be used makes the next question ask for a snapshot.
    fn take(&mut self, news: News) -> Result<(), Lost> {
        let age_ms = match news {
            News::Idle { age_ms } => age_ms,
            News::Delta { age_ms, delta } => {
                self.apply(&[delta]);
                age_ms
            }
            News::Deltas { age_ms, deltas } => {
                self.apply(&deltas);
                age_ms
            }
            News::Snapshot {
                age_ms,
                cause,
                snapshot,
            } => {
                let snapshot = decode_snapshot(&snapshot, self.schema.len())?;
                let reason = self.resync.take().or_else(|| Resync::of(cause));
                self.replace(snapshot, reason.unwrap_or(Resync::First))?;
                age_ms
            }
            News::Traced {
                age_ms,
                deltas,
                traces,
            } => {
                let began = SystemTime::now();
                let visible = self.our_spans(&traces);
                // Followers of ours that look in between are told all the same.
                for (led, _) in &visible {
                    self.publisher.shared().traces().remember(*led);
                }
                self.apply(&deltas);
                if let Some(position) = self.position.filter(|_| !visible.is_empty()) {
                    self.publisher.shared().traces().forget_beyond(position);
                    self.tell_visible(&visible, position, began);
                }
                age_ms
            }
            News::Closing => return Err(Lost::Closing),
        };
        if self.resync.is_none() {
            self.publisher
                .shared()
                .freshen(Duration::from_millis(age_ms.into()));
        }
        Ok(())
    }

    fn apply(&mut self, deltas: &[Blob]) {
        let Some(mut position) = self.position else {
            return;
        };
        let start = position;
        for blob in deltas {
            match decode_delta(blob, position.revision, self.schema.len()) {
                Ok(delta) if self.apply_one(&delta) => position.revision = delta.revision,
                Ok(_) => {
                    self.resync = Some(Resync::Digest);
                    break;
                }
                Err(_malformed) => {
                    self.resync = Some(Resync::Malformed);
                    break;
                }
            }
        }
        if let Some(reason) = self.resync {
            tracing::warn!(
                node = self.options.name,
                reason = reason.name(),
                "asking for a snapshot"
            );
        }
        if position != start {
            self.position = Some(position);
            let changes = self.publisher.observed_changes(&self.ticks);
            self.publisher
                .publish(position, self.digest, &self.ticks, &self.retained);
            if let Some(changes) = changes {
                let changes = self.delta_changes(&changes);
                self.tell_changes(Some(start), position, changes, None, self.released);
            }
            self.released = 0;
        }
    }

    /// Applies a delta unless it does not lead to its digest; then nothing is changed.
    fn apply_one(&mut self, delta: &Delta) -> bool {
        let mut digest = self.digest;
        for change in &delta.changes {
            let ticks = u64::from(change.ticks);
            digest = digest.wrapping_add(factor(change.state as usize).wrapping_mul(ticks));
        }
        for (state, payload) in &delta.payloads {
            if let Some(old) = self.retained.get(state) {
                digest = digest.wrapping_sub(payload_digest(*state, old));
            }
            if let Some(new) = payload {
                digest = digest.wrapping_add(payload_digest(*state, new));
            }
        }
        if digest != delta.digest {
            return false;
        }
        self.digest = digest;
        for change in &delta.changes {
            let tick = &mut self.ticks[change.state as usize];
            *tick = tick.wrapping_add(change.ticks.into());
        }
        for (state, payload) in &delta.payloads {
            match payload {
                Some(payload) => self.retained.insert(*state, payload.clone()),
                None => self.retained.remove(state),
            };
        }
        self.link.count_delta();
        self.publisher
            .note((delta.revision, digest), &delta.changes, &delta.payloads);
        let now = Now {
            ticks: &self.ticks,
            retained: &self.retained,
        };
        self.released += self.publisher.followed(&delta.changes, || now);
        true
    }

    /// Takes over a snapshot, unless it is not whole or behind what was already shown.
    fn replace(&mut self, snapshot: Snapshot, reason: Resync) -> Result<(), Lost> {
        let ticks = snapshot.ticks().iter().enumerate();
        let digest = ticks.map(|(i, tick)| factor(i).wrapping_mul(*tick));
        let payloads = snapshot
            .retained()
            .iter()
            .map(|(state, p)| payload_digest(*state, p));
        let digest = digest.chain(payloads).fold(0_u64, u64::wrapping_add);
        if digest != snapshot.digest() {
            self.resync = Some(reason);
            return Err(Lost::Rpc(
                "a snapshot does not lead to its digest".to_owned(),
            ));
        }
        let position = snapshot.position();
        if let Some(ours) = self.position
            && ours.epoch == position.epoch
            && ours.revision > position.revision
        {
            // A parent that is itself behind, say one that just restarted: it will catch up.
            self.resync = Some(reason);
            return Err(Lost::NotReady);
        }
        self.link.count_resync(reason);
        let before = self.position.replace(position);
        let changes = self.snapshot_changes(&snapshot);
        self.digest = snapshot.digest();
        self.ticks.copy_from_slice(snapshot.ticks());
        self.retained.clone_from(snapshot.retained());
        self.publisher.replace(snapshot);
        let reason = reason.name();
        self.tell_link(LinkChange::Resynced { reason });
        if let Some(changes) = changes {
            let whole = self.publisher.shared().current();
            self.tell_changes(before, position, changes, whole, 0);
        }
        Ok(())
    }

    async fn refused(&self, client: &ReplicationClient, refusal: Refusal) -> Result<Lost, Lost> {
        Ok(match refusal {
            Refusal::NotReady => Lost::NotReady,
            Refusal::Closing => Lost::Closing,
            Refusal::Malformed => Lost::Refused("the parent could not read our hello".to_owned()),
            Refusal::Protocol(theirs) => Lost::Refused(format!(
                "we speak protocol {PROTOCOL}, the parent {theirs}; run the same release on both"
            )),
            Refusal::Fingerprint(theirs) => {
                let difference = self.difference(client).await?;
                let difference = difference.map_or_else(
                    || "no state differs, only what the fingerprint covers besides".to_owned(),
                    |difference| difference.to_string(),
                );
                Lost::Refused(format!(
                    "our schema is {}, the parent's {}: {difference}",
                    self.schema.fingerprint(),
                    Fingerprint(theirs)
                ))
            }
        })
    }

    /// Where our schema and the parent's differ first.
    async fn difference(&self, client: &ReplicationClient) -> Result<Option<Difference>, Lost> {
        let ours = as_index(self.schema.len());
        let mut next = 0;
        loop {
            let page = within(HANDSHAKE, |ctx| client.schema(ctx, next)).await??;
            if page.is_empty() {
                return Ok((next != ours).then_some(Difference::Count {
                    ours: ours as usize,
                    theirs: next as usize,
                }));
            }
            for theirs in &page {
                if next < ours {
                    let difference = self.schema.difference(next as usize, theirs);
                    if difference.is_some() {
                        return Ok(difference);
                    }
                }
                next += 1;
            }
        }
    }
}

/// Makes a call and gives up after `patience` in any case: a deadline of tarpc's only starts once
/// the question is written, and where it passes both sides log an error. So it is the later one.
async fn within<F: Future>(
    patience: Duration,
    call: impl FnOnce(Context) -> F,
) -> Result<F::Output, Lost> {
    let mut ctx = context::current();
    ctx.deadline = std::time::Instant::now() + 2 * patience;
    timeout(patience, call(ctx))
        .await
        .map_err(|_elapsed| Lost::Timeout)
}

#[cfg(test)]
mod tests;
