//! Times, durations and reasons in words.

use crate::handlers::Cause;
use crate::schema::Schema;

pub(super) use super::super::words::{name, reason, step};

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// The time of day, UTC, of microseconds since 1970.
pub(super) fn clock(wall: u64) -> String {
    let of_day = wall % DAY;
    let (seconds, rest) = (of_day / SECOND, of_day % SECOND);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:03}",
        seconds % 60,
        rest / 1000
    )
}

/// The date and the time to microseconds, UTC.
pub(super) fn date(wall: u64) -> String {
    // Days of a year that begins in March, so that leap days come last.
    let days = wall / DAY + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let micros = wall % 1000;
    format!("{year}-{month:02}-{day:02} {}{micros:03}", clock(wall))
}

/// The microsecond of the day that a text such as `12:03`, `12:03:04` or `12:03:04.5` names.
pub(super) fn parse_clock(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let number = |text: &str, most: u64| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|_| digits)?;
        (number < most).then_some(number)
    };
    let hours = number(parts.next()?, 24)?;
    let minutes = number(parts.next()?, 60)?;
    let (seconds, micros) = match parts.next() {
        None => (0, 0),
        Some(text) => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let digits = format!("{fraction:0<6}");
            let micros = number(digits.get(..6)?, SECOND)?;
            (number(whole, 60)?, micros)
        }
    };
    parts
        .next()
        .is_none()
        .then_some(((hours * 60 + minutes) * 60 + seconds) * SECOND + micros)
}

/// The moment of the same day as `near` at microsecond `of_day`.
pub(super) fn on_day_of(near: u64, of_day: u64) -> u64 {
    (near - near % DAY).saturating_add(of_day)
}

/// A duration in the unit that fits.
pub(super) fn nanos(nanos: u64) -> String {
    let in_unit = |unit: u64, name: &str| {
        let (whole, tenth) = (nanos / unit, nanos % unit * 10 / unit);
        if whole < 100 {
            format!("{whole}.{tenth} {name}")
        } else {
            format!("{whole} {name}")
        }
    };
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => in_unit(1_000, "us"),
        1_000_000..1_000_000_000 => in_unit(1_000_000, "ms"),
        _ => in_unit(1_000_000_000, "s"),
    }
}

/// From one time to another, in microseconds, with its sign.
pub(super) fn apart(micros: i64) -> String {
    let sign = if micros < 0 { '-' } else { '+' };
    let length = nanos(micros.unsigned_abs().saturating_mul(1000));
    format!("{sign}{length}")
}

/// A number with its thousands apart.
pub(super) fn count(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `n` and what there are so many of.
pub(super) fn many(n: usize, one: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {one}{s}", count(n as u64))
}

/// Who asked for a transition.
pub(super) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Call => "called from outside",
        Cause::Handler => "appended by a handler",
        Cause::Auto => "auto states tried by the machine",
        Cause::Panic => "added by the machine after a panic",
        Cause::Delta => "followed from the parent",
        Cause::Snapshot => "taken from a snapshot",
    }
}

/// The names of states, in their order.
pub(super) fn names(schema: &Schema, states: &[u32]) -> String {
    let names: Vec<&str> = states.iter().map(|state| name(schema, *state)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let wall = 1_375_445_412_345_678;
        assert_eq!(date(wall), "2013-08-02 12:10:12.345678");
        assert_eq!(clock(wall), "12:10:12.345");
        let of_day = parse_clock("12:10:12.345678").unwrap();
        assert_eq!(on_day_of(wall + 5_000_000, of_day), wall);
        assert_eq!(parse_clock("12:10"), Some((12 * 60 + 10) * 60 * SECOND));
        for wrong in ["", "12", "24:00", "1:60", "1:2:3:4", "a:b", "1:2:3.x"] {
            assert_eq!(parse_clock(wrong), None, "{wrong}");
        }
        assert_eq!(date(951_782_400 * SECOND), "2000-02-29 00:00:00.000000");
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        let cases = [
            (999, "999 ns"),
            (1_250, "1.2 us"),
            (150_000_000, "150 ms"),
            (2_500_000_000, "2.5 s"),
        ];
        for (from, to) in cases {
            assert_eq!(nanos(from), to);
        }
        assert_eq!(apart(-1_500), "-1.5 ms");
        assert_eq!(count(1_234_567_u64), "1,234,567");
        assert_eq!(many(1, "state"), "1 state");
    }
}
