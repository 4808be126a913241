//! What went wrong in a machine's handlers, and what its users added: `Exception` keeps the last,
//! a bounded history the recent ones.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use crate::handlers::{BoxError, Phase};

/// How many errors a machine remembers.
pub const ERROR_HISTORY: usize = 64;

/// How many bytes of a message the payload of `Exception`, or a refusal, has at most; the history has
/// them all.
const MESSAGE_ON_WIRE: usize = 400;

/// What kind of error it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// A handler panicked (rule R26).
    Panic,
    /// A handler took longer than it may (rule R27).
    Timeout,
    /// A handler took so long that the queue was emptied (rule R27).
    Deadline,
    /// A final handler, or work spawned for a state, returned an error (rule R28).
    Returned,
    /// Work spawned for a state panicked.
    WorkPanic,
    /// It was added by hand (rule R28).
    Added,
    /// Mutations caused each other without end and were cut (rule R34).
    Runaway,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Panic,
        Self::Timeout,
        Self::Deadline,
        Self::Returned,
        Self::WorkPanic,
        Self::Added,
        Self::Runaway,
    ];

    /// The kind's name on the wire and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Returned => "returned",
            Self::WorkPanic => "work_panic",
            Self::Added => "added",
            Self::Runaway => "runaway",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error of a machine, and the transition that caused it.
///
/// As the payload of `Exception` it is this, as JSON, without [`Error::source`]; so every replica
/// shows it.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MachineError {
    /// What kind of error.
    pub kind: ErrorKind,
    /// What went wrong, in words.
    pub message: String,
    /// The phase of the handler, if one was at fault.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub phase: Option<Phase>,
    /// The state that the handler, or the work, was for.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub state: Option<String>,
    /// The mutation of that transition, as `add Foo Bar`.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "String::is_empty")
    )]
    pub mutation: String,
    /// The machine's revision at the time.
    pub revision: u64,
    /// The error itself, where there was one.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) source: Option<Arc<dyn Error + Send + Sync>>,
}

impl MachineError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>, revision: u64) -> Self {
        Self {
            kind,
            message: message.into(),
            phase: None,
            state: None,
            mutation: String::new(),
            revision,
            source: None,
        }
    }

    pub(crate) fn of(kind: ErrorKind, error: BoxError, revision: u64) -> Self {
        Self {
            source: Some(error.into()),
            ..Self::new(kind, String::new(), revision)
        }
        .with_message_of_source()
    }

    fn with_message_of_source(mut self) -> Self {
        if let Some(source) = &self.source {
            self.message = source.to_string();
        }
        self
    }

    /// The payload of `Exception`: what of this fits.
    #[cfg(feature = "serde")]
    pub(crate) fn to_payload(&self) -> bytes::Bytes {
        let mut short = self.clone();
        shorten(&mut short.message);
        shorten(&mut short.mutation);
        let json = serde_json::to_vec(&short).expect("texts and numbers can be written as JSON");
        if json.len() <= crate::mutation::MAX_PAYLOAD {
            return json.into();
        }
        // Control characters take six bytes each, and names may be long.
        let least = Self::new(self.kind, "too long to be shown here", self.revision);
        let json = serde_json::to_vec(&least).expect("texts and numbers can be written as JSON");
        json.into()
    }

    /// Reads a payload of `Exception`. What somebody made up is an added error of that text.
    #[cfg(feature = "serde")]
    pub fn from_payload(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_other| {
            let text = serde_json::from_slice::<String>(bytes);
            let text = text.unwrap_or_else(|_other| String::from_utf8_lossy(bytes).into_owned());
            Self::new(ErrorKind::Added, text, 0)
        })
    }

    /// Without `serde` there is no JSON: the message as it is.
    #[cfg(not(feature = "serde"))]
    pub(crate) fn to_payload(&self) -> bytes::Bytes {
        let mut text = self.message.clone();
        shorten(&mut text);
        text.into_bytes().into()
    }
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.phase, &self.state) {
            (kind, Some(phase), Some(state)) => write!(f, "{kind} in {phase} of {state}: ")?,
            (kind, Some(phase), None) => write!(f, "{kind} in {phase}: ")?,
            // The state is in the message.
            (ErrorKind::Runaway, None, _) => f.write_str("runaway: ")?,
            (kind, None, Some(state)) => write!(f, "{kind} in work for {state}: ")?,
            (_, None, None) => {}
        }
        f.write_str(&self.message)?;
        if !self.mutation.is_empty() {
            write!(f, " (after {})", self.mutation)?;
        }
        Ok(())
    }
}

impl Error for MachineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|error| error as _)
    }
}

/// Drops what is of somebody else's making. That it may panic as it does is no reason to.
pub(crate) fn discard<T>(value: T) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        #[expect(
            clippy::mem_forget,
            reason = "to drop it might go on like that for ever"
        )]
        std::mem::forget(again);
    }
}

/// Wakes everybody. That a waker may panic is no reason to.
pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            discard(panic);
        }
    }
}

/// `text` as far as it goes over the wire.
pub(crate) fn shorten(text: &mut String) {
    let mut end = text.len().min(MESSAGE_ON_WIRE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// The recent errors, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Errors {
    recent: VecDeque<MachineError>,
    count: u64,
    counts: [u64; ErrorKind::ALL.len()],
}

impl Errors {
    pub(crate) fn push(&mut self, error: MachineError) {
        if self.recent.len() == ERROR_HISTORY {
            discard(self.recent.pop_front());
        }
        self.count += 1;
        self.counts[error.kind as usize] += 1;
        self.recent.push_back(error);
    }

    pub(crate) fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = &MachineError> + ExactSizeIterator {
        self.recent.iter()
    }

    /// Takes all.
    #[cfg(feature = "tokio")]
    pub(crate) fn take(&mut self) -> VecDeque<MachineError> {
        std::mem::take(&mut self.recent)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn count_of(&self, kind: ErrorKind) -> u64 {
        self.counts[kind as usize]
    }
}
