//! What states carry: the types of their payloads.

use serde::{Deserialize, Serialize};

/// Which flight a slot shows: what its direction retains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Itinerary {
    /// The flight's designator, `UA1545`.
    pub flight: String,
    /// The airport that it leaves, `EWR`.
    pub from: String,
    /// The airport that it goes to, `IAH`.
    pub to: String,
    /// The day of its schedule, `2013-01-01`.
    pub date: String,
    /// When it is to leave, `05:15`.
    pub sched: String,
    /// When it is to arrive, on the clock of the destination.
    pub due: String,
}

/// When a delayed flight is to leave: what `Delayed` retains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Estimate {
    /// The time of day, `16:15`.
    pub until: String,
    /// In how many milliseconds that time will be past; not known if nobody waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_ms: Option<u64>,
}

/// How a flight arrived: what `Arrived` retains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Arrival {
    /// The flight's designator, `UA1545`.
    pub flight: String,
    /// By how many minutes it was late, negative if it was early; not known after a diversion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<i64>,
    /// Whether it landed somewhere else first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub diverted: bool,
}
