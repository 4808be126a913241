//! What of a call is looked at before tarpc's types are made of it: these panic over some deadlines.

use std::io;
use std::time::Duration;

/// The longest deadline that a call may have, far more than any takes: a day. tarpc adds it to the clock as it
/// reads it and then sets a timer for it, and either panics where there is no such time.
const LONGEST: Duration = Duration::from_hours(24);

/// The number of a request among the messages of a client; the other is that a call is cancelled, which has no
/// deadline.
const REQUEST: u64 = 0;

/// Checks the beginning of a client's message: a request has its deadline first, as seconds and
/// nanoseconds. What is cut off before is left to postcard.
///
/// # Errors
///
/// If the deadline is none that a clock can have.
pub(in crate::replica) fn check(frame: &[u8]) -> io::Result<()> {
    let Ok((REQUEST, rest)) = postcard::take_from_bytes::<u64>(frame) else {
        return Ok(());
    };
    let Ok(((seconds, nanos), _)) = postcard::take_from_bytes::<(u64, u32)>(rest) else {
        return Ok(());
    };
    let most = LONGEST.as_secs();
    if seconds > most || nanos >= 1_000_000_000 {
        let why = format!("a deadline of {seconds} s and {nanos} ns, which is more than {most} s");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(seconds: u64, nanos: u32) -> Vec<u8> {
        postcard::to_stdvec(&(0_u32, (seconds, nanos), [7_u8; 20])).unwrap()
    }

    #[test]
    fn only_deadlines_that_a_clock_can_have_are_let_through() {
        for (seconds, nanos) in [(0, 0), (10, 999_999_999), (86_400, 0)] {
            assert!(check(&request(seconds, nanos)).is_ok(), "{seconds} {nanos}");
        }
        for (seconds, nanos) in [
            (86_401, 0),
            (1 << 26, 0),
            (u64::MAX, 0),
            (u64::MAX, u32::MAX),
            (0, 1_000_000_000),
            (1, u32::MAX),
        ] {
            let error = check(&request(seconds, nanos)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn what_is_no_request_or_is_cut_off_is_left_to_postcard() {
        for frame in [&[][..], &[0], &[0, 0x80], &[0, 1], &[1, 0xff, 0xff], &[9]] {
            assert!(check(frame).is_ok(), "{frame:?}");
        }
    }
}
