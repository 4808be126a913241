//! The side that follows.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::handle::{Handle, Target};
use crate::observe::LinkChange;
use crate::position::Position;
use crate::publisher::Publisher;
use crate::schema::Schema;
use crate::selection::Selection;
use crate::state::State;
use crate::view::{View, ViewOptions};

use super::admission::Bearer;
use super::caller::Failed;
use super::codec::frame;
use super::connect::Connect;
use super::link::{Link, LinkState, Resync};
use super::uplink::{Sessions, Uplink};
use super::wire::Malformed;

use self::parents::Parents;

mod apply;
mod parents;
mod session;
mod telling;

/// What the lines of all its parts are logged under.
const TARGET: &str = module_path!();

/// How long an answer may be late before the connection counts as dead.
const GRACE: Duration = Duration::from_secs(2);

/// How often one that does not follow the first of its parents looks whether that is back, unless told
/// otherwise.
pub const PREFER_EVERY: Duration = Duration::from_secs(10);

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

impl Granularity {
    pub(super) fn of(every: bool) -> Self {
        if every { Self::Every } else { Self::Latest }
    }
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
    /// The least time between two deltas that it asks for; zero for each at once. The parent's own holds
    /// where that is longer.
    pub push_interval: Duration,
    /// The states that it wants, if not all. It shows those of them that its parent does.
    pub selection: Option<Selection>,
    /// Whether the parent may compress large answers.
    pub compress: bool,
    /// How often it looks whether a parent that it prefers to its own is back.
    pub prefer_every: Duration,
    /// The first pause before it dials again; it doubles up to `retry_most`, and a part of it is
    /// random.
    pub retry_least: Duration,
    /// The longest pause before it dials again.
    pub retry_most: Duration,
    /// The longest frame in bytes; by default what a snapshot of the schema can take.
    pub max_frame: Option<usize>,
    /// The token that it shows its parents.
    pub token: Bearer,
}

impl FollowerOptions {
    /// The defaults, for a node of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            view: ViewOptions::default(),
            heartbeat: Duration::from_secs(1),
            granularity: Granularity::Latest,
            push_interval: Duration::ZERO,
            selection: None,
            compress: true,
            prefer_every: PREFER_EVERY,
            retry_least: Duration::from_millis(20),
            retry_most: Duration::from_secs(2),
            max_frame: None,
            token: Bearer::default(),
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
    #[error("the parent has as many followers as it takes")]
    Full,
    #[error("{0}")]
    Refused(String),
    #[error("the parent cannot be trusted: {0}")]
    Untrusted(&'static str),
}

impl From<Failed> for Lost {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Rpc(error) => Self::Rpc(error.to_string()),
            Failed::Wrong => Self::Untrusted("it answers another question than was asked"),
        }
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
    /// The states that it has, if not all.
    selection: Option<Selection>,
    /// Those that the parent gives, if not all.
    offered: Option<Selection>,
    /// The parent's name, once it said so.
    parent: String,
    /// How old what the parent shows was when it last answered.
    parent_age: Duration,
    /// How many answers in a row could not be used.
    unusable: u32,
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
            selection: None,
            offered: None,
            parent: String::new(),
            parent_age: Duration::ZERO,
            unusable: 0,
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

    fn max_frame(&self) -> usize {
        let max_frame = self.options.max_frame;
        max_frame.unwrap_or_else(|| frame(&self.schema))
    }

    /// Follows one of `parents` until `stop` resolves, and dials again for ever, with growing pauses,
    /// whenever that fails.
    ///
    /// Of those that are not cut off themselves and serve the life of the root that is shown it takes the
    /// first; while it follows another it looks now and then whether that is back. It leaves one that is
    /// cut off, silent or wrong, and goes on from its position at the next. With one parent it waits for that.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the view keeps its last moment and whoever waits on it is told that it closed.
    ///
    /// # Panics
    ///
    /// If there are no parents.
    pub async fn run<C: Connect>(mut self, parents: Vec<C>, stop: impl Future<Output = ()>) {
        assert!(!parents.is_empty(), "a follower has a parent");
        let mut parents = Parents::new(parents);
        let mut stop = pin!(stop);
        let mut failures = 0;
        let mut known = None;
        let mut pause = self.options.retry_least;
        loop {
            let connects = self.link.connects();
            let lost = tokio::select! {
                biased;
                () = &mut stop => return,
                // Dropping a session closes its connection; what was applied stays.
                lost = self.session(&mut parents) => lost,
            };
            let followed = self.link.connects() > connects;
            if followed {
                known = None;
                tracing::info!(node = self.options.name, error = %lost, "lost the parent");
                let why = lost.to_string();
                self.tell_link(LinkChange::Lost { why });
            }
            if followed && !matches!(lost, Lost::Untrusted(_) | Lost::Malformed(_)) {
                failures = 0;
                pause = self.options.retry_least;
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
                    if !parents.has_others() {
                        pause = self.options.retry_most;
                    }
                    LinkState::Refused { why }
                }
                _ => LinkState::Connecting {
                    failures,
                    error: Some(told),
                },
            });
            let jitter = fastrand::f64() / 2.0 + 0.5;
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = sleep(pause.mul_f64(jitter)) => {}
            }
            pause = (pause * 2).min(self.options.retry_most);
        }
    }
}

#[cfg(test)]
mod tests;
