//! What a follower is answered.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Source;
use super::peer::Agreed;
use crate::position::Position;
use crate::relations::factor;
use crate::replica::follower::Granularity;
use crate::replica::wire::{News, SnapshotCause, encode_delta, encode_snapshot, pack};
use crate::ring::Since;
use crate::selection::Selection;
use crate::trace::TraceContext;
use crate::transition::payload_digest;
use crate::view::Snapshot;

/// How much longer than asked a replica holds a question at most, in wait of a heartbeat to pass
/// on: half of what a follower's patience has to spare.
const RELAY: Duration = Duration::from_secs(1);

/// How many deltas one answer carries at most, where each is wanted.
const DELTAS_AT_ONCE: usize = 256;

/// What a follower asks for.
#[derive(Debug)]
pub(super) struct Question {
    /// Where it is.
    pub(super) after: Option<Position>,
    /// Whether it wants a snapshot, as it could not use what it was sent.
    pub(super) resync: bool,
    /// For how long the question may be held.
    pub(super) hold: Duration,
}

/// How much longer than `hold` a replica holds a question.
pub(in crate::replica) fn relay(hold: Duration) -> Duration {
    (hold / 2).min(RELAY)
}

/// When what happened on a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When the last delta was sent.
    pub(super) pushed: Option<Instant>,
    /// What the follower has, or was given, and when that was last known to be the root's newest: as we
    /// had it, too, our age counts.
    pub(super) current: Option<(Position, Instant)>,
}

impl Pace {
    /// How long ago, in milliseconds, what a follower at `after` has was the root's newest, while we
    /// have more.
    fn behind_ms(&self, after: Option<Position>) -> u32 {
        let current = self
            .current
            .filter(|(position, _)| Some(*position) == after);
        let behind = current.map(|(_, current)| current.elapsed().as_millis());
        behind.map_or(u32::MAX, |behind| u32::try_from(behind).unwrap_or(u32::MAX))
    }
}

impl Source {
    pub(super) fn age_ms(&self) -> u32 {
        u32::try_from(self.shared.age().as_millis()).unwrap_or(u32::MAX)
    }

    /// That a follower has all that we show once it is at `position`.
    fn all_at(&self, position: Position) -> Option<(Position, Instant)> {
        let fresh = Instant::now().checked_sub(self.shared.age());
        fresh.map(|fresh| (position, fresh))
    }

    /// Nothing new.
    pub(super) fn idle(&self) -> News {
        News::Idle {
            age_ms: self.age_ms(),
        }
    }

    /// The answer to a follower at `after`, unless there is nothing new. `fits`: whether it has the
    /// states that it is given.
    pub(super) fn look(
        &self,
        after: Option<Position>,
        resync: bool,
        fits: bool,
        agreed: &Agreed,
        pace: &Mutex<Pace>,
    ) -> Option<News> {
        let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        let news = self.look_unpacked(after, resync, fits, agreed, &mut pace)?;
        pace.pushed = Some(Instant::now());
        drop(pace);
        Some(if agreed.compress { pack(news) } else { news })
    }

    fn look_unpacked(
        &self,
        after: Option<Position>,
        resync: bool,
        fits: bool,
        agreed: &Agreed,
        pace: &mut Pace,
    ) -> Option<News> {
        let mut age_ms = self.age_ms();
        let filter = agreed.filter.as_ref();
        let cause = match after {
            None => SnapshotCause::First,
            Some(_) if resync => SnapshotCause::Asked,
            Some(_) if !fits => SnapshotCause::Selection,
            Some(after) => {
                let every = agreed.granularity == Granularity::Every;
                let since = match filter {
                    None => self.shared.ring().since(after, every, DELTAS_AT_ONCE),
                    Some(filter) => {
                        let current = self.shared.current()?;
                        let digest = digest_of(&current, filter);
                        let now = (current.position().revision, digest);
                        let ring = self.shared.ring();
                        ring.since_of(after, every, DELTAS_AT_ONCE, filter, now)
                    }
                };
                match since {
                    // One that is ahead waits for us to come after it.
                    Since::Current | Since::Ahead => return None,
                    Since::OtherEpoch => SnapshotCause::Epoch,
                    Since::Compacted { oldest } => SnapshotCause::Compacted(oldest),
                    Since::Deltas(deltas) => {
                        let last = deltas.last().map_or(0, |delta| delta.revision);
                        let at = Position {
                            revision: last,
                            ..after
                        };
                        if deltas.len() == DELTAS_AT_ONCE && self.has_news(Some(at)) {
                            // There is more.
                            age_ms = age_ms.max(pace.behind_ms(Some(after)));
                        } else {
                            pace.current = self.all_at(at);
                        }
                        let traces = self.shared.traces().between(after, last);
                        self.stats.count_deltas(deltas.len());
                        let mut deltas: Vec<_> = deltas
                            .into_iter()
                            .map(|delta| encode_delta(&delta.tidy()))
                            .collect();
                        if !traces.is_empty() {
                            let traces = traces.into_iter();
                            let traces = traces.map(|led| {
                                let TraceContext { trace, span, .. } = led.context;
                                (led.position.revision, trace, span, led.transition)
                            });
                            return Some(News::Traced {
                                age_ms,
                                deltas,
                                traces: traces.collect(),
                            });
                        }
                        return Some(match deltas.pop() {
                            Some(delta) if deltas.is_empty() => News::Delta { age_ms, delta },
                            last => {
                                deltas.extend(last);
                                News::Deltas { age_ms, deltas }
                            }
                        });
                    }
                }
            }
        };
        let current = self.shared.current()?;
        let digest = filter.map_or(current.digest(), |filter| digest_of(&current, filter));
        let snapshot = encode_snapshot(&current, digest, agreed.selection.as_ref());
        self.stats.count_snapshot();
        pace.current = self.all_at(current.position());
        Some(News::Snapshot {
            age_ms,
            cause,
            snapshot,
        })
    }

    /// Waits for an answer, for as long as the question may be held. Pushes keep their distance from
    /// the `last`.
    pub(super) async fn answer(
        &self,
        question: &Question,
        agreed: &Agreed,
        pace: &Mutex<Pace>,
    ) -> News {
        let lock = || pace.lock().unwrap_or_else(PoisonError::into_inner);
        let not_before = lock().pushed.map(|pushed| pushed + agreed.interval);
        // On a replica the next heartbeat from above is the better answer; it comes about as
        // often as our followers want one, so it gets a little more time.
        let hold = question.hold;
        let more = if self.shared.tier() == Some(0) {
            Duration::ZERO
        } else {
            relay(hold)
        };
        let end = Instant::now() + hold + more;
        let mut positions = self.shared.positions();
        let mut draining = self.draining.subscribe();
        loop {
            positions.borrow_and_update();
            let has_news = self.has_news(question.after);
            if let Some(after) = question.after.filter(|_| !has_news) {
                lock().current = self.all_at(after);
            }
            if let Some(time) = not_before.filter(|time| *time > Instant::now())
                && has_news
            {
                // Coalesce: look again once the interval is over, or the follower has waited as
                // long as it would. It is told that what it has is as old as the news.
                tokio::select! {
                    biased;
                    _ = draining.wait_for(|draining| *draining) => return News::Closing,
                    () = sleep_until(time.min(end)) => {}
                }
                if time > end {
                    let age_ms = self.age_ms().max(lock().behind_ms(question.after));
                    return News::Idle { age_ms };
                }
            }
            let news = self.look(question.after, question.resync, true, agreed, pace);
            // Looked at last: it changes before what is shown does.
            if self.shared.selection() != agreed.shown {
                // What we show is of other states than was agreed: that is agreed anew.
                return News::Closing;
            }
            if let Some(news) = news {
                return news;
            }
            // None of the branches holds anything that is lost with it.
            tokio::select! {
                biased;
                _ = draining.wait_for(|draining| *draining) => return News::Closing,
                changed = positions.changed() => {
                    if changed.is_err() {
                        return News::Closing;
                    }
                    if let Some((_, fresh)) = &mut lock().current
                        && self.shared.tier() == Some(0)
                    {
                        // Until now there was nothing new.
                        *fresh = Instant::now();
                    }
                },
                () = sleep_until(end) => return self.idle(),
                // A heartbeat of our own parent: passed on at once, it keeps ages from adding
                // up along the tree.
                () = self.shared.freshened.notified() => return self.idle(),
            }
        }
    }

    /// Whether we show what a follower at `after` does not have.
    fn has_news(&self, after: Option<Position>) -> bool {
        let now = self.shared.current();
        let now = now.map(|current| current.position());
        after.is_some_and(|after| now.is_some_and(|now| !after.has_reached(now)))
    }
}

/// The digest of the selected states of a moment.
fn digest_of(snapshot: &Snapshot, selection: &Selection) -> u64 {
    let ticks = selection.states().map(|state| {
        let tick = snapshot.ticks()[state];
        factor(state).wrapping_mul(tick)
    });
    let retained = snapshot.retained().iter();
    let retained = retained.filter(|(state, _)| selection.contains(**state as usize));
    let payloads = retained.map(|(state, payload)| payload_digest(*state, payload));
    ticks.chain(payloads).fold(0, u64::wrapping_add)
}
