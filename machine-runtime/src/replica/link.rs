//! What a follower knows of its link to the parent, for status, readiness and metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::follower::Granularity;
use super::wire::SnapshotCause;
use crate::selection::Selection;

/// The most characters of another node's name that are kept.
const MAX_NAME: usize = 128;

/// What another node says that its name is, as far as it is one: it stands in metrics and logs.
pub(super) fn tidy_name(said: &str) -> String {
    let known = said.chars().filter(|c| !c.is_control());
    known.take(MAX_NAME).collect()
}

/// Where a link stands.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinkState {
    /// The follower tries to reach its parent.
    Connecting {
        /// How often it failed since it last followed.
        failures: u64,
        /// What the last failure was.
        error: Option<String>,
    },
    /// The follower is served.
    Following {
        /// The parent's name.
        parent: String,
    },
    /// The parent does not serve this follower, and why. It is asked again all the same.
    Refused {
        /// Both sides and the difference.
        why: String,
    },
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting { failures: 0, .. } => f.write_str("connecting"),
            Self::Connecting { failures, error } => {
                let error = error.as_deref().unwrap_or("no answer");
                write!(f, "connecting, failed {failures} times, last: {error}")
            }
            Self::Following { parent } => write!(f, "following {parent}"),
            Self::Refused { why } => write!(f, "refused: {why}"),
        }
    }
}

/// Why a follower took a snapshot instead of a delta.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Resync {
    /// It had nothing yet.
    First,
    /// The parent shows another life of the root.
    Epoch,
    /// The parent no longer held the deltas after its position.
    Compacted,
    /// A delta did not lead to its digest.
    Digest,
    /// A message could not be read.
    Malformed,
    /// The parent gives other states than those that it had.
    Selection,
}

impl Resync {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::First,
        Self::Epoch,
        Self::Compacted,
        Self::Digest,
        Self::Malformed,
        Self::Selection,
    ];

    /// The reason's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Epoch => "epoch",
            Self::Compacted => "compacted",
            Self::Digest => "digest",
            Self::Malformed => "malformed",
            Self::Selection => "selection",
        }
    }

    /// The reason for a snapshot that was not asked for.
    pub(super) fn of(cause: SnapshotCause) -> Option<Self> {
        match cause {
            SnapshotCause::First => Some(Self::First),
            SnapshotCause::Epoch => Some(Self::Epoch),
            SnapshotCause::Compacted(_) => Some(Self::Compacted),
            SnapshotCause::Selection => Some(Self::Selection),
            SnapshotCause::Asked => None,
        }
    }
}

/// What holds on the link to a parent.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Edge {
    /// The parent's name, as it says.
    pub parent: String,
    /// Which of the parents it is, from 0.
    pub index: usize,
    /// The version of the protocol.
    pub protocol: u16,
    /// How many links the parent is from the root.
    pub tier: u32,
    /// The least time between two deltas.
    pub push_interval: Duration,
    /// How long the parent may be silent.
    pub heartbeat: Duration,
    /// What the follower wants to see.
    pub granularity: Granularity,
    /// Whether large answers are compressed.
    pub compress: bool,
    /// The longest frame in bytes.
    pub max_frame: usize,
    /// The states that travel, if not all.
    pub selection: Option<Selection>,
}

/// A follower's link to its parent. Cheap to clone; reads never wait.
#[derive(Clone, Debug)]
pub struct Link {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: ArcSwap<LinkState>,
    parent: ArcSwapOption<String>,
    edge: ArcSwapOption<Edge>,
    deltas: AtomicU64,
    connects: AtomicU64,
    moves: AtomicU64,
    resyncs: [AtomicU64; Resync::ALL.len()],
}

impl Link {
    pub(super) fn new() -> Self {
        let state = ArcSwap::from_pointee(LinkState::Connecting {
            failures: 0,
            error: None,
        });
        let (deltas, connects, moves, resyncs) = Default::default();
        Self {
            inner: Arc::new(Inner {
                state,
                parent: ArcSwapOption::empty(),
                edge: ArcSwapOption::empty(),
                deltas,
                connects,
                moves,
                resyncs,
            }),
        }
    }

    /// Where the link stands.
    pub fn state(&self) -> Arc<LinkState> {
        self.inner.state.load_full()
    }

    /// The parent's name, as it last said it.
    pub fn parent(&self) -> Option<Arc<String>> {
        self.inner.parent.load_full()
    }

    /// What holds on the link, as it was last agreed.
    pub fn edge(&self) -> Option<Arc<Edge>> {
        self.inner.edge.load_full()
    }

    /// How often the follower went from one of its parents to another.
    pub fn moves(&self) -> u64 {
        self.inner.moves.load(Ordering::Relaxed)
    }

    /// How many deltas were applied.
    pub fn deltas(&self) -> u64 {
        self.inner.deltas.load(Ordering::Relaxed)
    }

    /// How often the parent welcomed the follower.
    pub fn connects(&self) -> u64 {
        self.inner.connects.load(Ordering::Relaxed)
    }

    /// How many snapshots were taken for a reason.
    pub fn resyncs(&self, reason: Resync) -> u64 {
        self.inner.resyncs[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, state: LinkState) {
        if let LinkState::Following { parent } = &state {
            let parent = Arc::new(parent.clone());
            self.inner.parent.store(Some(parent));
        }
        self.inner.state.store(Arc::new(state));
    }

    /// Notes what holds from now on, and whether that is with another parent than before.
    pub(super) fn agree(&self, edge: Edge) {
        let index = edge.index;
        let before = self.inner.edge.swap(Some(Arc::new(edge)));
        if before.is_some_and(|before| before.index != index) {
            self.inner.moves.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_delta(&self) {
        self.inner.deltas.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_connect(&self) {
        self.inner.connects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_resync(&self, reason: Resync) {
        self.inner.resyncs[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}
