//! How fast the virtual clock runs.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::moment::Moment;

/// The longest wait: a few decades, as far as timers can count on from now.
const LONGEST_WAIT: Duration = Duration::from_hours(30 * 365 * 24);

/// Virtual seconds per second: `60x` or `60` is a minute a second, `1` is real time, `max` does
/// not wait at all.
///
/// ```
/// use flights::feed::Speed;
///
/// let speed: Speed = "60x".parse()?;
/// assert_eq!(speed.to_string(), "60x");
/// # Ok::<(), flights::feed::SpeedError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Speed {
    /// This many virtual seconds per second; finite and above zero.
    Times(f64),
    /// Without waiting.
    Max,
}

impl Speed {
    /// How long the clock takes from one moment to another; nothing if it is already past it.
    ///
    /// A driver that waits for each step from the start of the replay, not from the step before,
    /// does not drift.
    pub fn wait(self, from: Moment, to: Moment) -> Duration {
        let minutes = u32::try_from(to.minutes_since(from).max(0)).unwrap_or(u32::MAX);
        match self {
            Self::Times(times) => Duration::try_from_secs_f64(f64::from(minutes) * 60.0 / times)
                .map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT)),
            Self::Max => Duration::ZERO,
        }
    }
}

impl Speed {
    /// In how many milliseconds `to` is past, seen from `from`: half a minute after it, so that
    /// what happens on that minute is not late. Never, where nobody waits.
    pub(super) fn past_in_ms(self, from: Moment, to: Moment) -> Option<u64> {
        if self == Self::Max {
            return None;
        }
        let past = self.wait(from, to) + self.wait(from, from.plus(1)) / 2;
        u64::try_from(past.as_millis()).ok()
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}x"),
            Self::Max => f.write_str("max"),
        }
    }
}

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.strip_suffix('x').unwrap_or(text).parse::<f64>();
        times
            .ok()
            .filter(|times| times.is_finite() && *times > 0.0)
            .map(Self::Times)
            .ok_or_else(|| SpeedError {
                text: text.to_owned(),
            })
    }
}

/// A text that is no speed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no speed, expected `max` or a factor above zero such as `60x`, `60` or `0.5`")]
#[non_exhaustive]
pub struct SpeedError {
    /// The text as given.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use jiff::civil::Date;

    use super::*;

    #[test]
    fn a_speed_is_max_or_a_positive_factor() {
        let speed = |text: &str| text.parse::<Speed>().ok();
        assert_eq!(speed("max"), Some(Speed::Max));
        assert_eq!(speed("60"), Some(Speed::Times(60.0)));
        assert_eq!(speed("60x"), speed("60"));
        assert_eq!(speed("0.5x"), Some(Speed::Times(0.5)));
        for wrong in [
            "", "x", "0", "-1", "inf", "NaN", "60 x", "60xx", "Max", "fast",
        ] {
            assert_eq!(speed(wrong), None, "{wrong}");
        }
        assert_eq!(
            "fast".parse::<Speed>().unwrap_err().to_string(),
            "`fast` is no speed, expected `max` or a factor above zero such as `60x`, `60` or `0.5`"
        );
    }

    #[test]
    fn a_time_is_past_half_a_minute_after_it() {
        let five = Moment::new(Date::constant(2013, 7, 10), 300);
        let past = |speed: Speed| speed.past_in_ms(five, five.plus(30));
        assert_eq!(past(Speed::Times(1.0)), Some(30 * 60_000 + 30_000));
        assert_eq!(past(Speed::Times(60.0)), Some(30_500));
        assert_eq!(past(Speed::Max), None);
    }

    #[test]
    fn a_wait_is_virtual_time_over_speed() {
        let five = Moment::new(Date::constant(2013, 7, 10), 300);
        let wait = |speed: Speed| speed.wait(five, five.plus(30));
        assert_eq!(wait(Speed::Times(1.0)), Duration::from_mins(30));
        assert_eq!(wait(Speed::Times(60.0)), Duration::from_secs(30));
        assert_eq!(wait(Speed::Times(1e-300)), LONGEST_WAIT);
        assert_eq!(wait(Speed::Max), Duration::ZERO);
        assert_eq!(Speed::Times(1.0).wait(five.plus(1), five), Duration::ZERO);
    }
}
