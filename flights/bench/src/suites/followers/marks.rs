//! When what was written: one clock for all processes, and a file between them.

use rustix::time::{ClockId, clock_gettime};

/// A write, and when it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) revision: u64,
    pub(super) sent: u64,
}

impl Mark {
    /// The bytes of one.
    pub(super) const LEN: usize = 16;

    pub(super) fn bytes(self) -> [u8; Self::LEN] {
        (u128::from(self.revision) << 64 | u128::from(self.sent)).to_be_bytes()
    }

    /// All marks of a file, as far as they are whole.
    pub(super) fn all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.as_chunks().0.iter().map(|bytes| {
            let both = u128::from_be_bytes(*bytes);
            Self {
                revision: u64::try_from(both >> 64).unwrap_or(u64::MAX),
                sent: u64::try_from(both & u128::from(u64::MAX)).unwrap_or(u64::MAX),
            }
        })
    }
}

/// The time of a clock that all processes of this computer have in common, in ns.
pub(super) fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let [s, ns] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    s * 1_000_000_000 + ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_far_as_they_are_whole() {
        let marks = [(1, 2), (3, u64::MAX)].map(|(revision, sent)| Mark { revision, sent });
        let bytes: Vec<u8> = marks.iter().flat_map(|mark| mark.bytes()).collect();
        assert!(Mark::all(&bytes).eq(marks));
        assert!(Mark::all(&bytes[..31]).eq(marks[..1].iter().copied()));
    }
}
