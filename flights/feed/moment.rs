//! The virtual clock: the civil time of the departure airports, to the minute.

use std::fmt;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};

/// A minute on the virtual clock. Written `2013-07-10 05:15`.
///
/// It is the clock on the wall of the departure airports. A night in which that clock is put
/// forward or back is counted as if it was not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(DateTime);

impl Moment {
    /// `minutes` after the start of `date`.
    pub(super) fn new(date: Date, minutes: i64) -> Self {
        Self(DateTime::from(date)).plus(minutes)
    }

    /// The moment `minutes` later, or earlier if they are negative; the last or first of all where the
    /// calendar ends.
    #[must_use]
    pub fn plus(self, minutes: i64) -> Self {
        const MOST: i64 = i64::MAX / 60;
        let minutes = SignedDuration::from_mins(minutes.clamp(-MOST, MOST));
        Self(self.0.saturating_add(minutes))
    }

    /// The minutes from `earlier` to this moment.
    pub fn minutes_since(self, earlier: Self) -> i64 {
        self.0.duration_since(earlier.0).as_mins()
    }

    /// The date, as `2013-07-10`.
    pub fn date(self) -> impl fmt::Display {
        self.0.date()
    }

    /// The time of day, as `05:15`.
    pub fn time(self) -> impl fmt::Display {
        TimeOfDay(i64::from(self.0.hour()) * 60 + i64::from(self.0.minute()))
    }

    /// The minutes since midnight.
    pub(super) fn minute_of_day(self) -> i64 {
        i64::from(self.0.hour()) * 60 + i64::from(self.0.minute())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.date(), self.time())
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Minutes since midnight, written `05:15`.
pub(super) struct TimeOfDay(pub(super) i64);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02}:{:02}",
            self.0.rem_euclid(1440) / 60,
            self.0.rem_euclid(60)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_run_over_midnight_and_back() {
        let eve = Moment::new(Date::constant(2013, 12, 31), 22 * 60 + 45);
        assert_eq!(eve.to_string(), "2013-12-31 22:45");
        assert_eq!(eve.plus(92).to_string(), "2014-01-01 00:17");
        assert_eq!(eve.plus(92).plus(-92), eve);
        assert_eq!(eve.plus(92).minutes_since(eve), 92);
        assert_eq!(eve.minutes_since(eve.plus(92)), -92);
        for (minutes, end) in [
            (i64::MAX, "9999-12-31 23:59"),
            (i64::MIN, "-009999-01-01 00:00"),
        ] {
            assert_eq!(eve.plus(minutes).to_string(), end);
        }
        assert_eq!(
            Moment::new(Date::constant(2012, 2, 28), 1440).to_string(),
            "2012-02-29 00:00"
        );
    }
}
