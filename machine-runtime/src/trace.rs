//! The trace that a mutation belongs to, as it travels over HTTP, over links, and down again.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(feature = "replica")]
use crate::position::Epoch;
use crate::position::Position;

/// One span of a trace, for whoever works on its behalf: the `traceparent` of W3C Trace Context.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceContext {
    /// The trace, never 0.
    pub trace: u128,
    /// The span within it, never 0.
    pub span: u64,
    /// Whether the trace is kept. One that is not costs nothing below where that was decided.
    pub sampled: bool,
}

impl TraceContext {
    /// The first span of a new trace.
    pub fn root(sampled: bool) -> Self {
        Self {
            trace: fastrand::u128(1..),
            span: fastrand::u64(1..),
            sampled,
        }
    }

    /// Its 24 bytes on the wire, where only what is kept travels.
    #[cfg(feature = "replica")]
    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.trace.to_be_bytes());
        bytes[16..].copy_from_slice(&self.span.to_be_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    #[cfg(feature = "replica")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace, span) = bytes.split_first_chunk::<16>()?;
        let context = Self {
            trace: u128::from_be_bytes(*trace),
            span: u64::from_be_bytes(span.try_into().ok()?),
            sampled: true,
        };
        (context.trace != 0 && context.span != 0).then_some(context)
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span: fastrand::u64(1..),
            ..self
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no traceparent: 00-TRACE-SPAN-FLAGS in 32, 16 and 2 hexadecimal digits, not all zero")]
pub struct InvalidTrace;

impl FromStr for TraceContext {
    type Err = InvalidTrace;

    /// Reads a `traceparent` of version 00, or the part of it that a later version still has.
    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let mut parts = text.trim().split('-');
        let mut field = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let hex = part.bytes().all(lower);
            hex.then(|| u128::from_str_radix(part, 16).ok())?
        };
        let version = field(2).filter(|version| *version != 0xff);
        let version = version.ok_or(InvalidTrace)?;
        let trace = field(32).filter(|trace| *trace != 0).ok_or(InvalidTrace)?;
        let span = field(16).filter(|span| *span != 0).ok_or(InvalidTrace)?;
        let flags = field(2).ok_or(InvalidTrace)?;
        if version == 0 && parts.next().is_some() {
            return Err(InvalidTrace);
        }
        Ok(Self {
            trace,
            span: u64::try_from(span).map_err(|_long| InvalidTrace)?,
            sampled: flags & 1 == 1,
        })
    }
}

/// How many traced revisions a node remembers for its followers.
pub(crate) const TRACES: usize = 64;

/// What led to a revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Led {
    pub(crate) position: Position,
    /// The span at this node: the transition on the root, else that it became visible.
    pub(crate) context: TraceContext,
    /// The span of the root's transition.
    pub(crate) transition: u64,
}

impl Led {
    /// Whether it led to a revision of this epoch after the one and up to the other.
    #[cfg(feature = "replica")]
    pub(crate) fn is_of(&self, epoch: Epoch, after: u64, last: u64) -> bool {
        let at = self.position;
        at.epoch == epoch && after < at.revision && at.revision <= last
    }
}

/// The traces of recent revisions, for followers to be told along with the deltas.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    /// The newest traced revision, so that all others cost one look.
    newest: AtomicU64,
    // Nothing awaits under it; touched by what is traced only.
    recent: Mutex<VecDeque<Led>>,
}

impl Traces {
    /// Remembers what led to a revision.
    pub(crate) fn remember(&self, led: Led) {
        let mut recent = self.recent();
        if recent.len() == TRACES {
            recent.pop_front();
        }
        recent.push_back(led);
        self.newest.store(led.position.revision, Ordering::Release);
    }

    /// Forgets what led beyond a position that was not reached, and all of another epoch.
    #[cfg(feature = "replica")]
    pub(crate) fn forget_beyond(&self, position: Position) {
        let mut recent = self.recent();
        recent.retain(|led| led.is_of(position.epoch, 0, position.revision));
        let newest = recent.iter().map(|led| led.position.revision).max();
        self.newest.store(newest.unwrap_or(0), Ordering::Release);
    }

    /// What led to the revisions after the one, up to the other.
    #[cfg(feature = "replica")]
    pub(crate) fn between(&self, after: Position, last: u64) -> Vec<Led> {
        if self.newest.load(Ordering::Acquire) <= after.revision {
            return Vec::new();
        }
        let recent = self.recent();
        let known = recent.iter().copied();
        known
            .filter(|led| led.is_of(after.epoch, after.revision, last))
            .collect()
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Led>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context: TraceContext = text.parse().unwrap();
        assert_eq!(context.span, 0x00f0_67aa_0ba9_02b7);
        assert!(context.sampled);
        assert_eq!(context.to_string(), text);
        let child = context.child();
        assert_eq!((child.trace, child.sampled), (context.trace, true));
        assert_ne!(child.span, context.span);
        let root = TraceContext::root(false);
        assert_eq!(root.to_string().parse(), Ok(root));
    }

    #[test]
    fn a_later_version_may_have_more_and_everything_else_is_refused() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read = |text: &str| text.parse::<TraceContext>();
        assert!(read(&format!("01-{trace}-00f067aa0ba902b7-01-more")).is_ok());
        for text in [
            String::new(),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}-+0f067aa0ba902b7-01"),
        ] {
            assert_eq!(read(&text), Err(InvalidTrace), "{text}");
        }
    }
}
