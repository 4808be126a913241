//! What was denied: counted, and logged as far as anybody can read that.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Role;

/// For how long lines are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// How many lines there are in that time; of the rest only the number is told.
const LINES: u64 = 10;

/// Why something was denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Nobody is known by what was shown.
    Unknown,
    /// Who is known may not.
    NotAllowed,
    /// Who is known may, but not with this state.
    State,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::NotAllowed, Self::State];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NotAllowed => "not_allowed",
            Self::State => "state",
        }
    }
}

/// Something that was denied.
#[derive(Clone, Copy, Debug)]
pub struct Denial<'a> {
    /// What it would have taken.
    pub what: Role,
    /// Why it was denied.
    pub why: Why,
    /// To whom, if they are known.
    pub who: Option<&'a str>,
    /// Where they are.
    pub address: Option<IpAddr>,
    /// What they asked for.
    pub place: &'a str,
}

/// What a node has denied. Cheap to clone.
#[derive(Clone, Default)]
pub struct Denials {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    node: String,
    counts: [[AtomicU64; Why::ALL.len()]; Role::ALL.len()],
    told: Mutex<Option<Told>>,
}

/// What has been logged lately.
#[derive(Clone, Copy)]
struct Told {
    since: Instant,
    lines: u64,
}

impl Denials {
    /// Nothing yet, of the node of this name.
    pub(super) fn of(node: &str) -> Self {
        let inner = Inner {
            node: node.to_owned(),
            ..Inner::default()
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Counts a denial, and logs it unless there have been many.
    pub fn add(&self, denial: &Denial<'_>) {
        let count = &self.inner.counts[denial.what as usize][denial.why as usize];
        count.fetch_add(1, Ordering::Relaxed);
        let (tells, more) = self.tells(Instant::now());
        let node = &self.inner.node;
        if more > 0 {
            tracing::warn!(node, more, "denied more than there are lines of");
        }
        if !tells {
            return;
        }
        let (what, why) = (denial.what.name(), denial.why.name());
        let who = denial.who.unwrap_or_default();
        let address = denial.address.map(|address| address.to_string());
        let address = address.unwrap_or_default();
        tracing::warn!(
            node,
            what,
            why,
            who,
            address,
            place = denial.place,
            "denied"
        );
    }

    /// How often it was so.
    pub fn read(&self) -> impl Iterator<Item = (Role, Why, u64)> + '_ {
        Role::ALL.into_iter().flat_map(move |what| {
            Why::ALL.into_iter().map(move |why| {
                let count = &self.inner.counts[what as usize][why as usize];
                (what, why, count.load(Ordering::Relaxed))
            })
        })
    }

    /// Whether there is a line for one more at `now`, and how many there were none for in the window before.
    fn tells(&self, now: Instant) -> (bool, u64) {
        let mut told = self
            .inner
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let last = told.filter(|told| now.duration_since(told.since) < WINDOW);
        let more = match (&*told, last) {
            (Some(before), None) => before.lines.saturating_sub(LINES),
            _ => 0,
        };
        let last = last.unwrap_or(Told {
            since: now,
            lines: 0,
        });
        let lines = last.lines + 1;
        *told = Some(Told { lines, ..last });
        (lines <= LINES, more)
    }
}

impl fmt::Debug for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denials")
            .field("node", &self.inner.node)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_denials_the_first_are_told_and_then_how_many() {
        let denials = Denials::default();
        let now = Instant::now();
        for i in 0..100 {
            assert_eq!(denials.tells(now), (i < LINES, 0));
        }
        assert_eq!(denials.tells(now + WINDOW), (true, 100 - LINES));
        assert_eq!(denials.tells(now + WINDOW), (true, 0));
        assert_eq!(denials.tells(now + 3 * WINDOW), (true, 0));
    }
}
