//! Writes on their way: keys, options, and how they fail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::handlers::Finished;
use crate::mutation::{Mutation, Outcome};
use crate::position::{Epoch, Position};
use crate::queue::Waiting;
use crate::state::State;
use crate::trace::TraceContext;

/// How long a write may take whose writer does not say, where the root is another node.
pub const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// The longest that a write with a deadline may take, whatever its writer says.
pub const WRITE_LONGEST: Duration = Duration::from_mins(1);

/// The most bytes that a write takes on its way up: 128, and for each of its mutations 15, its
/// payloads, 10 for each of these and 5 for each called state.
pub const WRITE_BYTES: usize = 64 * 1024;

/// The most mutations of a write on its way up.
pub const WRITE_CALLS: usize = 1024;

/// The longest key in bytes.
pub const MAX_KEY: usize = 64;

/// How a mutation ended, and where the machine stood then.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[must_use = "a mutation can be canceled"]
pub struct Receipt<S> {
    /// How it ended.
    pub outcome: Outcome<S>,
    /// The position that shows its effect: once a view has reached it, so has the effect.
    pub position: Position,
}

impl<S> Receipt<S> {
    /// The same receipt in terms of other state types.
    pub(crate) fn map<T>(self, state_of: impl Fn(S) -> T) -> Receipt<T> {
        Receipt {
            outcome: self.outcome.map(state_of),
            position: self.position,
        }
    }
}

/// What work is most often at its end: a mutation that is canceled is an error of it.
impl<S: Send + Sync + fmt::Debug + 'static> From<Result<Receipt<S>, MutateError>> for Finished {
    fn from(result: Result<Receipt<S>, MutateError>) -> Self {
        match result {
            Ok(receipt) => receipt.outcome.into_result().into(),
            Err(error) => Err::<(), _>(error).into(),
        }
    }
}

/// Names a write, so that it can be sent again when its answer was lost: the root runs a key once
/// and gives the same answer to whoever sends it again. It remembers the last
/// [`KEYS`](crate::KEYS).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// A key of these bytes, of which there are 1 to [`MAX_KEY`].
    ///
    /// # Errors
    ///
    /// If there are more or none.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        let bytes = bytes.as_ref();
        if (1..=MAX_KEY).contains(&bytes.len()) {
            Ok(Self(bytes.into()))
        } else {
            Err(InvalidKey { len: bytes.len() })
        }
    }

    /// A key that nobody else has.
    ///
    /// # Panics
    ///
    /// If the operating system has no random numbers to give.
    pub fn random() -> Self {
        Self(Epoch::random().0.to_le_bytes().as_slice().into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

/// Bytes that are no key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a key of {len} bytes, it has 1 to {MAX_KEY}")]
#[non_exhaustive]
pub struct InvalidKey {
    /// How many there are.
    pub len: usize,
}

/// What a writer can say beside its mutation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct WriteOptions {
    /// What makes it harmless to send the write again. Without one, the first node makes one up
    /// for the nodes between itself and the root.
    pub key: Option<Key>,
    /// How long it may take, room included: [`WRITE_WITHIN`] unless told, at most
    /// [`WRITE_LONGEST`].
    pub within: Option<Duration>,
    /// The life of the root that it is for: that which the first node shows, unless told.
    pub epoch: Option<Epoch>,
    /// The trace that it belongs to, and the span that caused it.
    pub trace: Option<TraceContext>,
}

impl WriteOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a key.
    #[must_use]
    pub fn with_key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// With a time that it may take.
    #[must_use]
    pub fn with_time(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// As part of a trace.
    #[must_use]
    pub fn with_trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// For one life of the root.
    #[must_use]
    pub fn with_epoch(mut self, epoch: Epoch) -> Self {
        self.epoch = Some(epoch);
        self
    }
}

/// Why a write has no receipt. [`MutateError::may_have_run`] says whether the mutation may have
/// been run all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MutateError {
    /// The machine, or the replica that was to pass the write on, has been shut down.
    #[error("the node has been shut down{}", doubt(*.may_have_run))]
    Closed {
        /// Whether the mutation may have been run.
        may_have_run: bool,
    },
    /// As much is under way as there is room for.
    #[error("as many mutations are under way as there is room for{}", doubt(*.may_have_run))]
    Busy {
        /// Whether the mutation may have been run.
        may_have_run: bool,
    },
    /// There was no live link to the root in the time that the write had, or the one that there was
    /// after another broke leads to a node that does not take the write.
    #[error("the root could not be reached in time{}", doubt(*.may_have_run))]
    Unreachable {
        /// Whether the mutation may have been run.
        may_have_run: bool,
    },
    /// There was no answer in the time that the write had.
    #[error("there was no answer in time{}", doubt(*.may_have_run))]
    Expired {
        /// Whether the mutation may have been run.
        may_have_run: bool,
    },
    /// The root began a new life, which the write was not for.
    #[error("the root began a new life{}", doubt(*.may_have_run))]
    EpochChanged {
        /// Whether the mutation may have been run, in the life before.
        may_have_run: bool,
    },
    /// The key already names another mutation, which stays as it is.
    #[error("the key names another mutation")]
    KeyReused,
    /// The write takes more than [`WRITE_BYTES`] on its way, or has more than [`WRITE_CALLS`]
    /// mutations.
    #[error("the write is too large to be passed on")]
    TooLarge,
    /// The parent takes no writes, or could not read this one.
    #[error("the parent does not take the write")]
    Refused,
    /// A node on the way up does not let the one below it call a state.
    #[error("the parent does not let this node call state {state}")]
    Forbidden {
        /// The index of the state.
        state: u32,
    },
}

impl MutateError {
    /// Whether the mutation may have been run. If not, it never will be.
    pub fn may_have_run(self) -> bool {
        match self {
            Self::Closed { may_have_run }
            | Self::Busy { may_have_run }
            | Self::Unreachable { may_have_run }
            | Self::Expired { may_have_run }
            | Self::EpochChanged { may_have_run } => may_have_run,
            Self::KeyReused | Self::TooLarge | Self::Refused | Self::Forbidden { .. } => false,
        }
    }
}

fn doubt(may_have_run: bool) -> &'static str {
    if may_have_run {
        ", the mutation may have been run"
    } else {
        ", the mutation was not run"
    }
}

/// Mutations that run in a row, and what makes it safe to send them again.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: Option<Key>,
    pub(crate) epoch: Option<Epoch>,
    /// The trace that it belongs to, if that is kept.
    pub(crate) trace: Option<TraceContext>,
    pub(crate) calls: Vec<Waiting>,
}

impl Write {
    pub(crate) fn new(calls: Vec<Waiting>, options: WriteOptions) -> Self {
        Self {
            key: options.key,
            epoch: options.epoch,
            trace: options.trace.filter(|trace| trace.sampled),
            calls,
        }
    }
}

/// What came of a write: a receipt for each of its mutations.
pub(crate) type Written = Result<Vec<Receipt<u32>>, MutateError>;

/// Until when a write may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Until {
    /// Until there is room for it.
    pub(crate) room: Instant,
    /// Until it is answered.
    pub(crate) answer: Instant,
}

impl Until {
    /// So long from now, room included.
    pub(crate) fn within(time: Duration) -> Self {
        let answer = Instant::now() + time.min(WRITE_LONGEST);
        Self {
            room: answer,
            answer,
        }
    }
}

/// Mutations of a machine whose type of states is not known where they are read.
pub(crate) trait Calls: fmt::Debug + Send {
    /// How many there are.
    fn len(&self) -> usize;

    /// Makes `call` the mutation at `place`, its states as indices, each once.
    fn read(&self, place: usize, call: &mut Waiting);
}

impl<S: State> Calls for Vec<Mutation<S>> {
    fn len(&self) -> usize {
        self.len()
    }

    fn read(&self, place: usize, call: &mut Waiting) {
        call.become_of(&self[place]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_64_bytes() {
        assert_eq!(Key::new("").unwrap_err().len, 0);
        assert_eq!(Key::new([7; 64]).unwrap().as_bytes(), [7; 64]);
        assert_eq!(Key::new([7; 65]).unwrap_err().len, 65);
        assert_ne!(Key::random(), Key::random());
        assert_eq!(format!("{:?}", Key::new("a\n").unwrap()), "Key(a\\n)");
    }

    #[test]
    fn an_error_says_whether_the_mutation_may_have_run() {
        let lost = MutateError::Expired { may_have_run: true };
        assert!(lost.may_have_run() && !MutateError::KeyReused.may_have_run());
        let message = "there was no answer in time, the mutation may have been run";
        assert_eq!(lost.to_string(), message);
    }
}
