//! What a follower knows of its link to the parent, for status, readiness and metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::wire::SnapshotCause;

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
}

impl Resync {
    /// All reasons.
    pub const ALL: [Self; 5] = [
        Self::First,
        Self::Epoch,
        Self::Compacted,
        Self::Digest,
        Self::Malformed,
    ];

    /// The reason's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Epoch => "epoch",
            Self::Compacted => "compacted",
            Self::Digest => "digest",
            Self::Malformed => "malformed",
        }
    }

    /// The reason for a snapshot that was not asked for.
    pub(super) fn of(cause: SnapshotCause) -> Option<Self> {
        match cause {
            SnapshotCause::First => Some(Self::First),
            SnapshotCause::Epoch => Some(Self::Epoch),
            SnapshotCause::Compacted(_) => Some(Self::Compacted),
            SnapshotCause::Asked => None,
        }
    }
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
    deltas: AtomicU64,
    connects: AtomicU64,
    resyncs: [AtomicU64; Resync::ALL.len()],
}

impl Link {
    pub(super) fn new() -> Self {
        let state = ArcSwap::from_pointee(LinkState::Connecting {
            failures: 0,
            error: None,
        });
        let (deltas, connects, resyncs) = Default::default();
        Self {
            inner: Arc::new(Inner {
                state,
                parent: ArcSwapOption::empty(),
                deltas,
                connects,
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
