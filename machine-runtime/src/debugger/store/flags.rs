//! What of an entry can be known without decoding it.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::debug::frame::{Followed, Transition};
use crate::handlers::Cause;
use crate::mutation::Reason;
use crate::schema::{EXCEPTION, Schema};

/// A set of facts about an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u16);

impl Flags {
    /// A transition that was carried out.
    pub const ACCEPTED: Self = Self(1);
    /// A transition that was canceled.
    pub const CANCELED: Self = Self(1 << 1);
    /// The machine made it to try its auto states (rule R19).
    pub const AUTO: Self = Self(1 << 2);
    /// It had to wait, or others did while it ran: mutations waited before it, or a handler appended it.
    pub const QUEUED: Self = Self(1 << 3);
    /// It was carried out and nothing ticked.
    pub const EMPTY: Self = Self(1 << 4);
    /// It called `Healthcheck` or `Heartbeat` and nothing else.
    pub const HEALTH: Self = Self(1 << 5);
    /// `Exception` ticked, or a handler panicked or took too long.
    pub const ERROR: Self = Self(1 << 6);
    /// It is a [`Key`](crate::debug::frame::Key): all there is at one moment.
    pub const KEY: Self = Self(1 << 7);
    /// It stands for frames that found no room.
    pub const DROPPED: Self = Self(1 << 8);
    /// A replica came from one moment to another.
    pub const FOLLOWED: Self = Self(1 << 9);
    /// Something before it was lost, so ticks may be too low until the next key.
    pub const UNSURE: Self = Self(1 << 10);
    /// It brought payloads that can be read, or a refusal in words.
    pub const TEXT: Self = Self(1 << 11);
    /// It belongs to a trace.
    pub const TRACED: Self = Self(1 << 12);
    /// At least one state ticked.
    pub const CHANGED: Self = Self(1 << 13);

    const NAMES: [(Self, &'static str); 14] = [
        (Self::ACCEPTED, "accepted"),
        (Self::CANCELED, "canceled"),
        (Self::AUTO, "auto"),
        (Self::QUEUED, "queued"),
        (Self::EMPTY, "empty"),
        (Self::HEALTH, "health"),
        (Self::ERROR, "error"),
        (Self::KEY, "key"),
        (Self::DROPPED, "dropped"),
        (Self::FOLLOWED, "followed"),
        (Self::UNSURE, "unsure"),
        (Self::TEXT, "text"),
        (Self::TRACED, "traced"),
        (Self::CHANGED, "changed"),
    ];

    /// No fact.
    pub const NONE: Self = Self(0);

    /// Whether all of `other` hold.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` holds.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it is a transition, carried out or canceled.
    #[inline]
    pub const fn is_transition(self) -> bool {
        self.intersects(Self(Self::ACCEPTED.0 | Self::CANCELED.0))
    }

    pub(super) fn of_transition(schema: &Schema, told: &Transition) -> Self {
        let mut flags = match &told.canceled {
            None => Self::ACCEPTED,
            Some(_) => Self::CANCELED,
        };
        let mut set = |on: bool, flag: Self| {
            if on {
                flags |= flag;
            }
        };
        let health =
            |state: &u32| matches!(schema.name_of(*state as usize), "Healthcheck" | "Heartbeat");
        let exception = |state: u32| schema.name_of(state as usize) == EXCEPTION;
        let broke = matches!(
            told.canceled,
            Some(Reason::Panicked { .. } | Reason::TimedOut { .. })
        );
        set(told.cause == Cause::Auto, Self::AUTO);
        let queued = told.waiting.0 > 0 || told.cause == Cause::Handler;
        set(queued, Self::QUEUED);
        let empty = told.is_accepted() && told.changes.is_empty();
        set(empty, Self::EMPTY);
        let health = !told.called.is_empty() && told.called.iter().all(health);
        set(health, Self::HEALTH);
        let error = told.changes.iter().any(|change| exception(change.state));
        set(error || broke || told.cause == Cause::Panic, Self::ERROR);
        let text = told.payloads.iter().any(|payload| payload.text.is_some())
            || matches!(&told.canceled, Some(Reason::Refused(refusal)) if refusal.why.is_some());
        set(text, Self::TEXT);
        set(told.trace.is_some(), Self::TRACED);
        set(!told.changes.is_empty(), Self::CHANGED);
        flags
    }

    pub(super) fn of_followed(schema: &Schema, told: &Followed) -> Self {
        let mut flags = Self::FOLLOWED;
        if !told.changes.is_empty() {
            flags |= Self::CHANGED;
        }
        if told.trace.is_some() {
            flags |= Self::TRACED;
        }
        let exception = |state: u32| schema.name_of(state as usize) == EXCEPTION;
        if told.changes.iter().any(|change| exception(change.state)) {
            flags |= Self::ERROR;
        }
        flags
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter();
        let set = names.filter(|(flag, _)| self.contains(*flag));
        f.debug_set().entries(set.map(|(_, name)| name)).finish()
    }
}
