//! Events in words, for the live status.

use std::fmt;

use super::departure::Fate;
use super::plan::{Change, Event};

/// `UA1545 to IAH departed 12 minutes late from gate 3`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flight = &self.flight;
        write!(f, "{flight} to {} ", flight.destination())?;
        match self.change {
            Change::Shown => {
                write!(
                    f,
                    "is scheduled for {}, in slot {}",
                    flight.scheduled().time(),
                    self.slot
                )
            }
            Change::OnTime { gate: Some(gate) } => write!(f, "is on time, go to gate {gate}"),
            Change::OnTime { gate: None } => f.write_str("is on time and waits for a gate"),
            Change::Called { gate } => write!(f, "boards, go to gate {gate}"),
            Change::Delayed { until } => write!(f, "is delayed until {}", until.time()),
            Change::Departed { gate, delay } => {
                write!(f, "departed {}", Lateness(delay))?;
                gate.map_or(Ok(()), |gate| write!(f, " from gate {gate}"))
            }
            Change::Arrived => match flight.fate() {
                Fate::Arrived { delay, .. } => write!(f, "arrived {}", Lateness(delay)),
                _ => f.write_str("arrived after a diversion"),
            },
            Change::Cancelled => f.write_str("is cancelled"),
        }
    }
}

/// Minutes after the schedule, or before it if negative.
pub(crate) struct Lateness(pub(crate) i64);

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.unsigned_abs();
        let unit =
            |n, name| (n > 0).then(|| format!("{n} {name}{}", if n == 1 { "" } else { "s" }));
        let parts = [unit(minutes / 60, "hour"), unit(minutes % 60, "minute")];
        match (parts, self.0 > 0) {
            ([None, None], _) => f.write_str("on time"),
            ([hours, minutes], late) => {
                for part in [hours, minutes].into_iter().flatten() {
                    write!(f, "{part} ")?;
                }
                f.write_str(if late { "late" } else { "early" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_reads_naturally() {
        let words = |minutes| Lateness(minutes).to_string();
        assert_eq!(words(0), "on time");
        assert_eq!(words(1), "1 minute late");
        assert_eq!(words(-12), "12 minutes early");
        assert_eq!(words(120), "2 hours late");
        assert_eq!(words(634), "10 hours 34 minutes late");
    }
}
