//! Bugs that are planted at the seams, to see whether the checks find them: between nodes and their
//! followers, and between a root and its disk. None of them is in code that ships.

use machine_runtime::Batch;

use crate::net::Tamper;
use crate::world::{Keeping, Plan, Trouble};

mod link;

use link::Between;

/// A bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// None: what stands between has no bug, and nothing may be found.
    Nothing,
    /// One between a node and its followers.
    Link(LinkBug),
    /// One between a root and its disk.
    Store(StoreBug),
    /// One of a root that begins.
    Root(RootBug),
}

/// What is wrong between a node and its followers. What it does to states it does to digests, too: to the
/// follower all is well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkBug {
    /// Nothing.
    Nothing,
    /// A delta is left out, though not its revision.
    SkipsDelta,
    /// A delta counts twice.
    AppliesTwice,
    /// A state's ticks go to its neighbour.
    NeighbourTicks,
    /// A payload is left out of a delta.
    LosesPayload,
    /// What a snapshot retains is left out.
    LosesPayloads,
    /// A revision is one too high.
    RevisionOffByOne,
    /// Who resumes is given what comes after the revision before its own.
    RingOffByOne,
    /// Who resumes is taken for one that has the same revision of another life.
    WrongEpoch,
    /// A snapshot is an old one, at the newest position.
    OldSnapshot,
    /// A tick is wrong, and no digest is checked.
    NoDigestCheck,
    /// What is shown is always new.
    AgeIsZero,
    /// What was just shown by the root is not, for an answer that is not sent on.
    WithholdsDeltas,
    /// A write is acknowledged and goes nowhere.
    AnswersItself,
    /// A write goes up once more, with another key.
    WritesTwice,
    /// A receipt names the position before.
    EarlyReceipt,
}

/// What is wrong between a root and its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreBug {
    /// Nothing.
    Nothing,
    /// A batch is acknowledged before it is on disk: with the next.
    AcknowledgesEarly,
    /// A batch is never written.
    DropsBatch,
    /// A batch is written twice.
    WritesTwice,
    /// The last transition of a batch is not written.
    DropsTransition,
    /// The keys of writes are not written.
    ForgetsKeys,
}

/// What is wrong with a root that begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RootBug {
    /// It goes on in the same life, though it has lost what it had told of last.
    KeepsEpoch,
    /// It has nothing, and says that it is the one from before.
    SameEpoch,
}

impl Planted {
    /// All bugs.
    pub const ALL: [Self; 22] = [
        Self::Link(LinkBug::SkipsDelta),
        Self::Link(LinkBug::AppliesTwice),
        Self::Link(LinkBug::NeighbourTicks),
        Self::Link(LinkBug::LosesPayload),
        Self::Link(LinkBug::LosesPayloads),
        Self::Link(LinkBug::RevisionOffByOne),
        Self::Link(LinkBug::RingOffByOne),
        Self::Link(LinkBug::WrongEpoch),
        Self::Link(LinkBug::OldSnapshot),
        Self::Link(LinkBug::NoDigestCheck),
        Self::Link(LinkBug::AgeIsZero),
        Self::Link(LinkBug::WithholdsDeltas),
        Self::Link(LinkBug::AnswersItself),
        Self::Link(LinkBug::WritesTwice),
        Self::Link(LinkBug::EarlyReceipt),
        Self::Store(StoreBug::AcknowledgesEarly),
        Self::Store(StoreBug::DropsBatch),
        Self::Store(StoreBug::WritesTwice),
        Self::Store(StoreBug::DropsTransition),
        Self::Store(StoreBug::ForgetsKeys),
        Self::Root(RootBug::KeepsEpoch),
        Self::Root(RootBug::SameEpoch),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing | Self::Link(LinkBug::Nothing) | Self::Store(StoreBug::Nothing) => {
                "nothing"
            }
            Self::Link(LinkBug::SkipsDelta) => "skips-delta",
            Self::Link(LinkBug::AppliesTwice) => "applies-twice",
            Self::Link(LinkBug::NeighbourTicks) => "neighbour-ticks",
            Self::Link(LinkBug::LosesPayload) => "loses-payload",
            Self::Link(LinkBug::LosesPayloads) => "loses-payloads-of-snapshot",
            Self::Link(LinkBug::RevisionOffByOne) => "revision-off-by-one",
            Self::Link(LinkBug::RingOffByOne) => "ring-off-by-one",
            Self::Link(LinkBug::WrongEpoch) => "resumes-in-wrong-epoch",
            Self::Link(LinkBug::OldSnapshot) => "old-snapshot-new-revision",
            Self::Link(LinkBug::NoDigestCheck) => "no-digest-check",
            Self::Link(LinkBug::AgeIsZero) => "age-is-zero",
            Self::Link(LinkBug::WithholdsDeltas) => "withholds-deltas",
            Self::Link(LinkBug::AnswersItself) => "answers-without-passing-on",
            Self::Link(LinkBug::WritesTwice) => "passes-on-twice",
            Self::Link(LinkBug::EarlyReceipt) => "receipt-of-position-before",
            Self::Store(StoreBug::AcknowledgesEarly) => "acknowledges-before-sync",
            Self::Store(StoreBug::DropsBatch) => "drops-batch",
            Self::Store(StoreBug::WritesTwice) => "writes-batch-twice",
            Self::Store(StoreBug::DropsTransition) => "drops-transition",
            Self::Store(StoreBug::ForgetsKeys) => "forgets-keys",
            Self::Root(RootBug::KeepsEpoch) => "keeps-epoch-of-lost-tail",
            Self::Root(RootBug::SameEpoch) => "begins-anew-in-same-epoch",
        }
    }

    /// The bug of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().chain([Self::Nothing]);
        all.find(|bug| bug.name() == name)
    }

    /// Makes a world one that has what it takes for the bug, and no wrong peers beside it.
    pub fn adapt(self, plan: &mut Plan) {
        plan.faults
            .retain(|fault| !matches!(fault.trouble, Trouble::Wrong(..)));
        match self {
            Self::Link(LinkBug::WrongEpoch) | Self::Root(RootBug::SameEpoch) => {
                plan.keeping = Keeping::Memory;
            }
            Self::Store(_) => plan.keeping = Keeping::Disk,
            Self::Root(RootBug::KeepsEpoch) => {
                plan.keeping = Keeping::Late(std::time::Duration::from_millis(400));
            }
            Self::Nothing | Self::Link(_) => {}
        }
    }

    /// Who stands between nodes and their followers, of a schema of so many states, on a network of so many
    /// hosts.
    pub fn tamper(self, seed: u64, states: usize) -> Option<Box<dyn Tamper>> {
        let bug = match self {
            Self::Link(bug) => bug,
            Self::Nothing => LinkBug::Nothing,
            Self::Store(_) | Self::Root(_) => return None,
        };
        Some(Box::new(Between::new(bug, seed, states)))
    }

    /// What stands between a root and its disk.
    pub fn store_fault(self, seed: u64) -> Option<StoreFault> {
        let bug = match self {
            Self::Store(bug) => bug,
            Self::Nothing => StoreBug::Nothing,
            Self::Link(_) | Self::Root(_) => return None,
        };
        Some(StoreFault {
            bug,
            rng: fastrand::Rng::with_seed(seed),
            held: None,
        })
    }
}

/// Stands between a root and its disk.
#[derive(Debug)]
pub struct StoreFault {
    bug: StoreBug,
    rng: fastrand::Rng,
    held: Option<Batch>,
}

impl StoreFault {
    /// The batches that are kept instead of this one.
    pub fn kept(&mut self, mut batch: Batch) -> Vec<Batch> {
        let now = self.rng.u8(0..10) == 0;
        match self.bug {
            StoreBug::AcknowledgesEarly => return self.held.replace(batch).into_iter().collect(),
            StoreBug::DropsBatch if now => return Vec::new(),
            StoreBug::WritesTwice if now => return vec![batch.clone(), batch],
            StoreBug::DropsTransition if now => batch.forget_last(),
            StoreBug::ForgetsKeys => batch.forget_keys(),
            StoreBug::Nothing
            | StoreBug::DropsBatch
            | StoreBug::WritesTwice
            | StoreBug::DropsTransition => {}
        }
        vec![batch]
    }
}
