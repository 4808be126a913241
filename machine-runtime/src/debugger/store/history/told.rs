//! What is told of a machine beside its entries.

use crate::debug::frame::{Failure, Link, LinkChange, Waiting};

/// An error that a machine told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToldError {
    /// The index of the last entry before it, if there was one.
    pub index: Option<usize>,
    /// The number of its frame.
    pub number: u64,
    /// When, by the sender's wall clock: microseconds since 1970.
    pub wall: u64,
    /// When, by its monotonic clock.
    pub mono: u64,
    /// What it told.
    pub failure: Failure,
}

/// A link that a node told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToldLink {
    /// The number of its frame.
    pub number: u64,
    /// When, by the sender's wall clock: microseconds since 1970.
    pub wall: u64,
    /// When, by its monotonic clock.
    pub mono: u64,
    /// What it told.
    pub link: Link,
}

/// Who waited on a machine when it was asked last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ToldWaiters {
    /// When, by the sender's wall clock: microseconds since 1970; 0 where nothing was answered yet.
    pub wall: u64,
    /// Who.
    pub waiting: Vec<Waiting>,
}

impl ToldLink {
    pub(in super::super) fn stamp(&self) -> (u64, u64, u64) {
        (self.number, self.wall, self.mono)
    }

    pub(super) fn bytes(&self) -> usize {
        let why = match &self.link.change {
            LinkChange::Connected => 0,
            LinkChange::Lost(why) | LinkChange::Refused(why) | LinkChange::Resynced(why) => {
                why.len()
            }
        };
        size_of::<Self>() + self.link.peer.len() + why
    }
}

impl ToldError {
    pub(in super::super) fn stamp(&self) -> (u64, u64, u64) {
        (self.number, self.wall, self.mono)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.failure.kind.len() + self.failure.message.len()
    }
}

impl ToldWaiters {
    pub(super) fn bytes(&self) -> usize {
        let waiting = self.waiting.iter();
        let bytes = |one: &Waiting| one.what.len() + one.states.len() * 4 + size_of::<Waiting>();
        waiting.map(bytes).sum()
    }
}
