//! Where in a root's history a view stands.

use std::fmt;
use std::str::FromStr;

/// One life of a root's history: 128 random bits, without an order among them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    any(feature = "durable", feature = "replica"),
    derive(serde::Serialize, serde::Deserialize)
)]
pub struct Epoch(pub u128);

impl Epoch {
    /// A new epoch.
    ///
    /// # Panics
    ///
    /// If the operating system has no random numbers to give.
    #[cfg(feature = "tokio")]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
        Self(u128::from_le_bytes(bytes))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An epoch and a revision in it: `<epoch>.<revision>`.
///
/// Positions of one epoch are ordered by revision; positions of two epochs have no order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    any(feature = "durable", feature = "replica"),
    derive(serde::Serialize, serde::Deserialize)
)]
pub struct Position {
    /// The life of the root.
    pub epoch: Epoch,
    /// How many transitions changed a tick in it.
    pub revision: u64,
}

impl Position {
    /// Whether this position is at or behind `other` in the same epoch.
    pub fn has_reached(&self, other: Self) -> bool {
        self.epoch == other.epoch && self.revision >= other.revision
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.revision)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no position.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no position, which is 32 hexadecimal digits, a dot and a revision")]
pub struct InvalidPosition {
    /// The text as given.
    pub text: String,
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let parse = || {
            let (epoch, revision) = text.split_once('.')?;
            let digits = |s: &str, hex: bool| {
                let digit = |b: u8| {
                    if hex {
                        b.is_ascii_hexdigit()
                    } else {
                        b.is_ascii_digit()
                    }
                };
                s.bytes().all(digit)
            };
            if epoch.len() != 32 || !digits(epoch, true) || !digits(revision, false) {
                return None;
            }
            let epoch = Epoch(u128::from_str_radix(epoch, 16).ok()?);
            Some(Self {
                epoch,
                revision: revision.parse().ok()?,
            })
        };
        parse().ok_or_else(|| InvalidPosition {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let position = Position {
            epoch: Epoch(0xabc),
            revision: 42,
        };
        assert_eq!(position.to_string(), "00000000000000000000000000000abc.42");
        assert_eq!(position.to_string().parse(), Ok(position));
    }

    #[test]
    fn anything_else_is_no_position() {
        for text in [
            "",
            "1.2",
            "x.1",
            "00000000000000000000000000000abc",
            "+0000000000000000000000000000abc.1",
            "00000000000000000000000000000abc.+1",
            "00000000000000000000000000000abc.",
            "00000000000000000000000000000abc.99999999999999999999",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_position_reaches_one_of_another_epoch() {
        let at = |epoch, revision| Position {
            epoch: Epoch(epoch),
            revision,
        };
        assert!(at(1, 2).has_reached(at(1, 2)) && !at(1, 1).has_reached(at(1, 2)));
        assert!(!at(1, 2).has_reached(at(2, 1)));
    }
}
