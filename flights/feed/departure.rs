//! One departure of the table: what was planned and what came of it.

use std::fmt;

use crate::payloads::{Arrival, Itinerary};

use super::moment::{Moment, TimeOfDay};

/// How many minutes before its schedule a flight is shown.
pub const SHOWN_BEFORE: i64 = 60;

/// How many minutes before it departs a flight calls its passengers to the gate.
pub const CALLED_BEFORE: i64 = 40;

/// A flight that departs this many minutes after its schedule is delayed; with fewer it is on
/// time, as in the statistics that the table comes from.
pub const DELAYED_FROM: i64 = 15;

/// Delays are announced in steps of this many minutes, and the rest of them is kept back.
pub const ANNOUNCED_IN: i64 = 15;

/// One departure: a row of the table, on the virtual clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure {
    pub(super) carrier: Code,
    pub(super) number: u32,
    pub(super) origin: Code,
    pub(super) destination: Code,
    pub(super) scheduled: Moment,
    /// Minutes since midnight on the destination's clock.
    pub(super) due: i64,
    pub(super) fate: Fate,
}

/// What came of a departure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It never left.
    Cancelled,
    /// It left and landed where it was to land.
    Arrived {
        /// When it left the gate.
        departed: Moment,
        /// When it arrived, on the clock of the departure airport.
        arrived: Moment,
        /// By how many minutes it was late; negative if it was early.
        delay: i64,
    },
    /// It left and arrived after a detour: the table has its arrival but no arrival delay.
    Diverted {
        /// When it left the gate.
        departed: Moment,
        /// When it arrived, on the clock of the departure airport.
        arrived: Moment,
    },
    /// It left, and the table knows of no arrival.
    Lost {
        /// When it left the gate.
        departed: Moment,
    },
}

impl Fate {
    /// When the flight left, if it did.
    pub fn departed(self) -> Option<Moment> {
        match self {
            Self::Cancelled => None,
            Self::Arrived { departed, .. }
            | Self::Diverted { departed, .. }
            | Self::Lost { departed } => Some(departed),
        }
    }

    /// When the flight arrived, if that is known.
    pub fn arrived(self) -> Option<Moment> {
        match self {
            Self::Arrived { arrived, .. } | Self::Diverted { arrived, .. } => Some(arrived),
            Self::Cancelled | Self::Lost { .. } => None,
        }
    }
}

impl Departure {
    /// When the flight was to leave.
    pub fn scheduled(&self) -> Moment {
        self.scheduled
    }

    /// Where the flight was to go.
    pub fn destination(&self) -> &str {
        self.destination.as_str()
    }

    /// What came of it.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// From when on the flight is shown.
    pub(super) fn shown(&self) -> Moment {
        self.scheduled.plus(-SHOWN_BEFORE)
    }

    /// By how many minutes it left late; negative if early.
    pub(super) fn delay(&self, departed: Moment) -> i64 {
        departed.minutes_since(self.scheduled)
    }

    /// When it is said to leave once it is late: the delay in whole steps of [`ANNOUNCED_IN`].
    pub(super) fn estimate(&self, departed: Moment) -> Moment {
        let delay = self.delay(departed).max(ANNOUNCED_IN);
        self.scheduled.plus(delay - delay % ANNOUNCED_IN)
    }

    /// What the direction state of a slot retains: which flight the slot shows.
    pub fn itinerary(&self) -> Itinerary {
        Itinerary {
            flight: self.to_string(),
            from: self.origin.as_str().to_owned(),
            to: self.destination().to_owned(),
            date: self.scheduled.date().to_string(),
            sched: self.scheduled.time().to_string(),
            due: TimeOfDay(self.due).to_string(),
        }
    }

    /// What the mutation to `Arrived` carries.
    pub fn arrival(&self) -> Arrival {
        let delay = match self.fate {
            Fate::Arrived { delay, .. } => Some(delay),
            Fate::Cancelled | Fate::Diverted { .. } | Fate::Lost { .. } => None,
        };
        Arrival {
            flight: self.to_string(),
            delay,
            diverted: matches!(self.fate, Fate::Diverted { .. }),
        }
    }
}

/// The flight's designator, `UA1545`.
impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.carrier.as_str(), self.number)
    }
}

/// The code of an airline or an airport: one to four letters or digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Code([u8; 4]);

impl Code {
    pub(super) fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; 4];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        let valid = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        valid.then_some(Self(bytes))
    }

    pub(super) fn as_str(&self) -> &str {
        let len = self.0.iter().take_while(|byte| **byte != 0).count();
        std::str::from_utf8(&self.0[..len]).expect("a code is made of ASCII letters and digits")
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
