//! Events of one machine or replica, in order and without gaps that are not told.
//!
//! It begins with all there is, then tells each change. Where the observer lost some, it tells how many
//! and all there is anew: what comes after a key can be added up from it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant as Moment, SystemTime};

use tokio::time::{Instant, sleep_until};

use super::frame::{Body, Key, Role};
use super::subject::{Subject, failure, link, machine_key, snapshot_key};
use crate::handle::Checkpointed;
use crate::observe::{Event, Interest, Observer};
use crate::position::Position;

/// What is wanted of a subject.
pub(super) fn interest() -> Interest {
    Interest::CHANGES | Interest::LINKS | Interest::ERRORS
}

/// After so many transitions of a root there is a key again, so that any of them is soon found.
pub(super) const KEY_EVERY: u64 = 16_384;

/// The least time between two keys that make up for losses: to make one is work for the machine's task.
const KEY_PAUSE: Duration = Duration::from_millis(250);

/// The clocks of a process that tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    began: Moment,
}

/// When something was.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) wall: u64,
    pub(super) mono: u64,
}

impl Clocks {
    pub(super) fn new() -> Self {
        let began = Moment::now();
        Self { began }
    }

    pub(super) fn now(&self) -> At {
        self.at(SystemTime::now(), Moment::now())
    }

    fn at(&self, wall: SystemTime, since: Moment) -> At {
        let wall = wall.duration_since(SystemTime::UNIX_EPOCH);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        At {
            wall: wall.map_or(0, micros),
            mono: micros(since.saturating_duration_since(self.began)),
        }
    }
}

type Asked = Pin<Box<dyn Future<Output = Option<Checkpointed>> + Send>>;

/// Tells of one subject.
pub(super) struct Teller {
    subject: Subject,
    clocks: Clocks,
    observer: Observer,
    /// What is told next.
    out: VecDeque<(At, Body)>,
    /// Events behind a key that is on its way.
    held: VecDeque<Arc<Event>>,
    room: usize,
    asked: Option<Asked>,
    /// A key that is told once everything before it was.
    key: Option<Key>,
    /// Up to where all was told; none before the first key, and after a loss until the next.
    last: Option<Last>,
    /// Up to where all was told before a loss.
    before: Option<Last>,
    /// How many events were lost that a key made up for.
    lost: u64,
    /// How many events were lost, as far as that was told.
    counted: u64,
    /// How many events were lost when a key was asked for.
    lost_asked: u64,
    /// How many changes were taken since a loss, which cannot be told before the next key.
    skipped: u64,
    since_key: u64,
    wanted: bool,
    next_key: Instant,
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    sequence: u64,
    position: Position,
}

impl Teller {
    /// Begins with a key. The observer has been attached just now, with [`interest`]. While a key is on its
    /// way, `room` events are held here at most: for one that loses nothing it has to be all.
    pub(super) fn new(subject: Subject, observer: Observer, clocks: Clocks, room: usize) -> Self {
        Self {
            subject,
            clocks,
            observer,
            out: VecDeque::new(),
            held: VecDeque::new(),
            room,
            asked: None,
            key: None,
            last: None,
            before: None,
            lost: 0,
            counted: 0,
            lost_asked: 0,
            skipped: 0,
            since_key: 0,
            wanted: true,
            next_key: Instant::now(),
            ended: false,
        }
    }

    /// Has it tell a key soon, with nothing left out before.
    pub(super) fn want_key(&mut self) {
        self.wanted = true;
    }

    /// The next that is told. It never ends.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left out if it is dropped.
    pub(super) async fn next(&mut self) -> (At, Body) {
        loop {
            if let Some(told) = self.out.pop_front() {
                return told;
            }
            if self.key_is_due() {
                self.tell_key();
                continue;
            }
            if let Some(asked) = &mut self.asked {
                tokio::select! {
                    key = asked => self.answered(key),
                    event = self.observer.next(), if self.held.len() < self.room => self.held.push_back(event),
                }
                continue;
            }
            let pause = self.last.is_none() && Instant::now() < self.next_key;
            if self.wanted && self.key.is_none() && !self.ended {
                if pause {
                    // Nothing is taken meanwhile: an observer that is full costs the machine least.
                    sleep_until(self.next_key).await;
                }
                if self.last.is_none() {
                    self.skip();
                }
                self.ask();
                continue;
            }
            let event = match self.held.pop_front().or_else(|| self.observer.try_next()) {
                Some(event) => event,
                None if self.lost < self.observer.lost() && self.last.is_some() => {
                    self.lose(0);
                    continue;
                }
                None => tokio::select! {
                    event = self.observer.next() => event,
                    () = sleep_until(self.next_key), if pause => continue,
                },
            };
            self.event(&event);
        }
    }

    /// What can be told without waiting, to the end, and how much is missing there.
    pub(super) fn rest(&mut self) -> Vec<(At, Body)> {
        while let Some(event) = self.held.pop_front().or_else(|| self.observer.try_next()) {
            self.event(&event);
            if self.key_is_due() {
                self.tell_key();
            }
        }
        let lost = self.observer.lost().saturating_sub(self.counted);
        if self.before.is_some() || (lost > 0 && self.last.is_some()) {
            // No key comes any more that would make up for it.
            self.counted += lost;
            self.before = None;
            let dropped = Body::Dropped((lost + self.skipped).max(1));
            self.out.push_back((self.clocks.now(), dropped));
        }
        self.out.drain(..).collect()
    }

    /// Takes what waits and cannot be told without a key, so that what comes behind the key finds room.
    fn skip(&mut self) {
        for _ in 0..self.room {
            let Some(event) = self.held.pop_front().or_else(|| self.observer.try_next()) else {
                return;
            };
            self.event(&event);
        }
    }

    fn ask(&mut self) {
        self.wanted = false;
        self.lost_asked = self.observer.lost();
        if self.subject.role() == Role::Root {
            let handle = self.subject.handle().clone();
            self.asked = Some(Box::pin(async move { handle.checkpoint().await }));
        } else {
            self.key = self.subject.replica_key();
        }
    }

    fn answered(&mut self, key: Option<Checkpointed>) {
        self.asked = None;
        self.key = key.map(machine_key);
        // Without an answer the machine has ended, and nothing comes of it any more.
        self.ended = self.key.is_none();
    }

    /// Whether all before the key was told, or cannot be any more.
    fn key_is_due(&self) -> bool {
        let Some(key) = &self.key else {
            return false;
        };
        let Some(last) = self.last else {
            return true;
        };
        let same = last.position.epoch == key.position.epoch;
        match self.subject.role() {
            Role::Root => last.sequence >= key.sequence,
            Role::Replicant => !same || last.position.revision >= key.position.revision,
        }
    }

    fn tell_key(&mut self) {
        let Some(key) = self.key.take() else {
            return;
        };
        let last = Last {
            sequence: key.sequence,
            position: key.position,
        };
        if let Some(told) = self.last {
            let is_now = match self.subject.role() {
                Role::Root => told.sequence == last.sequence,
                Role::Replicant => told.position == last.position,
            };
            if !is_now {
                // It has gone on in another life meanwhile, and began that with a key.
                return;
            }
        }
        let now = self.clocks.now();
        let skipped = std::mem::take(&mut self.skipped);
        let begins = self.last.is_none();
        if begins {
            self.wanted = false;
        }
        let missed = self.observer.lost();
        if let Some(before) = self.before.take() {
            let dropped = match self.subject.role() {
                Role::Root => last.sequence.saturating_sub(before.sequence),
                // Its steps have no numbers.
                Role::Replicant => {
                    let unseen = missed.saturating_sub(self.counted);
                    self.counted = missed;
                    unseen + skipped
                }
            };
            self.out.push_back((now, Body::Dropped(dropped.max(1))));
        }
        if begins {
            // The key has what was lost before it was asked for. One that loses nothing can only lack what
            // was done before it was attached.
            let is_lossless = self.room == usize::MAX;
            self.lost = if is_lossless {
                missed
            } else {
                self.lost.max(self.lost_asked)
            };
            self.counted = self.counted.max(self.lost);
        }
        self.out.push_back((now, Body::Key(Box::new(key))));
        self.last = Some(last);
        self.since_key = 0;
        self.next_key = Instant::now() + KEY_PAUSE;
    }

    /// Events were lost: only a key helps. So many were taken that show it.
    fn lose(&mut self, taken: u64) {
        self.before = self.last.take();
        self.wanted = true;
        self.skipped = taken;
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Transition(t) => {
                let Some(last) = self.last else {
                    self.skipped += 1;
                    return;
                };
                if t.sequence <= last.sequence {
                    return;
                }
                if t.sequence != last.sequence + 1 {
                    return self.lose(1);
                }
                let at = self.clocks.at(t.at, t.since);
                self.out.push_back((at, self.subject.transition(t)));
                self.last = Some(Last {
                    sequence: t.sequence,
                    position: t.position,
                });
                self.since_key += 1;
                self.wanted |= self.since_key >= KEY_EVERY && self.key.is_none();
            }
            Event::Followed(f) => {
                let at = self.clocks.at(f.at, f.since);
                let told = self.last.map(|last| last.position);
                let is_known = |told: Position| told.has_reached(f.position);
                if told.is_some_and(is_known) {
                    return;
                }
                if let Some(whole) = &f.whole {
                    self.key = Some(snapshot_key(whole));
                    let last = self.last.take();
                    if told.is_some() && told != f.from {
                        self.before = last;
                    }
                    return self.tell_key();
                }
                let Some(then) = told else {
                    self.skipped += 1;
                    self.wanted |= self.key.is_none();
                    return;
                };
                if f.from != Some(then) {
                    return self.lose(1);
                }
                self.out.push_back((at, Subject::followed(f)));
                self.last = Some(Last {
                    sequence: 0,
                    position: f.position,
                });
            }
            Event::Link(told) => {
                let at = self.clocks.at(told.at, told.since);
                self.out.push_back((at, link(told)));
            }
            Event::Error(told) => {
                let at = self.clocks.at(told.at, told.since);
                self.out.push_back((at, failure(&told.error)));
            }
            Event::Span(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::debug::samples::Node;
    use crate::handlers::Cause;
    use crate::mutation::Mutation;
    use crate::observe::{Followed, TickChanges};
    use crate::state::DynState;

    fn followed(told: Position, from: u64) -> Event {
        let at = |revision| Position { revision, ..told };
        Event::Followed(Followed {
            at: SystemTime::now(),
            since: Moment::now(),
            from: Some(at(from)),
            position: at(from + 1),
            cause: Cause::Delta,
            changes: TickChanges::default(),
            whole: None,
            trace: None,
            released: 0,
        })
    }

    /// Changes a state so many times.
    async fn change(node: &Node, times: usize) {
        for _ in 0..times {
            let toggle = Mutation::toggle(DynState(1));
            let _ = node.handle.mutate(toggle).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_behind_a_key_that_is_on_its_way_is_made_up_for_and_counted_once() {
        for is_wanted in [false, true] {
            let node = Node::new();
            let observer = node.observers.attach("test", interest(), 4);
            let mut teller = Teller::new(node.subject("root"), observer, Clocks::new(), 4);
            let (_, Body::Key(first)) = teller.next().await else {
                panic!("it does not begin with a key");
            };
            // Four wait, six are lost.
            change(&node, 10).await;
            let (mut told, mut dropped) = (0, 0);
            if is_wanted {
                teller.want_key();
            } else {
                while told < 4 {
                    told += u64::from(matches!(teller.next().await.1, Body::Transition(_)));
                }
            }
            let mut next = Box::pin(teller.next());
            assert!(futures_util::poll!(&mut next).is_pending());
            if !is_wanted {
                tokio::time::advance(KEY_PAUSE).await;
                assert!(futures_util::poll!(&mut next).is_pending());
            }
            drop(next);
            assert!(teller.asked.is_some());
            change(&node, 10).await;
            let last = node.handle.checkpoint().await.unwrap().sequence;
            let mut sequence = 0;
            while sequence < last {
                let next = timeout(KEY_PAUSE * 100, teller.next()).await;
                match next.expect("what was lost last is not made up for").1 {
                    Body::Transition(t) => (sequence, told) = (t.sequence, told + 1),
                    Body::Key(key) => sequence = key.sequence,
                    Body::Dropped(n) => dropped += n,
                    _ => {}
                }
            }
            assert_eq!(first.sequence + told + dropped, last);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_and_not_told_after_a_loss_counts_as_lost() {
        for at_the_end in [false, true] {
            let node = Node::new();
            let observers = &node.observers;
            let subject = Subject::replicant("replica", "here:1", &node.handle, observers);
            let observer = observers.attach("test", interest(), 4);
            let mut teller = Teller::new(subject, observer, Clocks::new(), 4);
            let (_, Body::Key(key)) = teller.next().await else {
                panic!("it does not begin with a key");
            };
            let position = key.position;
            let tell =
                |from| assert!(observers.tell(Interest::CHANGES, || followed(position, from)));
            let revision = position.revision;
            tell(revision);
            assert!(matches!(teller.next().await.1, Body::Followed(_)));
            // One is missing, and what comes then does not go on from what was told.
            for from in revision + 2..revision + 5 {
                tell(from);
            }
            let told = if at_the_end {
                teller.rest().pop().unwrap()
            } else {
                teller.next().await
            };
            assert!(matches!(told.1, Body::Dropped(3)), "{told:?}");
        }
    }
}
