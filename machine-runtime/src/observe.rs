//! What a machine, a replica and their links tell whoever observes them.
//!
//! There is one seam: [`Observers`], which a view is given in its
//! [`ViewOptions`](crate::ViewOptions). It counts ([`Stats`]), and it hands [`Event`]s to those who
//! have [attached](Observers::attach). An observer pulls its events from a bounded queue of its own:
//! what finds no room there is lost and counted. So an observer that is slow, hangs or panics costs a
//! transition nothing but that look at a full queue. A view without observers does none of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "replica")]
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, mpsc};

#[cfg(feature = "replica")]
use crate::write::{Write, Written};

mod event;
mod histogram;
mod stats;

pub use event::{
    ErrorEvent, Event, Followed, HandlerRun, Interest, LinkChange, LinkEvent, Side, Span, SpanKind,
    TickChange, TickChanges, Timing, Traced, Transitioned,
};
pub use histogram::{Exemplar, Histogram, HistogramRead};
pub use stats::{HandlerKind, Refused, Stats, TransitionKind};

/// Counts what happens, and tells it to whoever attached. Cheap to clone. It is for one machine or one
/// replica: counting takes it that nobody else counts at the same time.
#[derive(Clone, Default)]
pub struct Observers {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    stats: Stats,
    /// What anybody wants, so that a look at one word decides.
    wanted: AtomicU64,
    attached: ArcSwap<Vec<Arc<Attached>>>,
    /// Held while the list changes, and while what was lost is added up.
    gone: Mutex<Gone>,
}

/// What those have lost that have gone, by their names.
type Gone = Vec<(&'static str, u64)>;

struct Attached {
    name: &'static str,
    interest: Interest,
    events: mpsc::Sender<Arc<Event>>,
    lost: AtomicU64,
    /// Of one that loses nothing: how many events may wait before what is observed waits for it.
    backlog: Option<usize>,
    /// Told when such a backlog has become shorter, or the observer has gone.
    shorter: Notify,
}

impl Attached {
    /// Whether what is observed has to wait.
    fn is_behind(&self) -> bool {
        let waiting = self.events.max_capacity() - self.events.capacity();
        self.backlog.is_some_and(|backlog| waiting >= backlog)
    }
}

/// The bit of `wanted` that says that an observer has attached that loses nothing.
const LOSSLESS: u64 = 1 << 63;

impl Observers {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What has been counted so far.
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// Has an observer told of what it is interested in from now on, until it drops. Up to `room`
    /// events wait for it; `name` is what its losses are counted under.
    ///
    /// # Panics
    ///
    /// If `room` is 0.
    pub fn attach(&self, name: &'static str, interest: Interest, room: usize) -> Observer {
        self.attach_with(name, interest, room, None)
    }

    /// As [`Observers::attach`], but nothing is lost: a machine or a replica goes on only once fewer
    /// than `backlog` events wait to be taken. So it is for what has to be complete, such as a
    /// recording, and slows down what it is slower than. More than `backlog` events wait where one
    /// batch of mutations makes more.
    ///
    /// # Panics
    ///
    /// If `backlog` is 0.
    pub fn attach_lossless(
        &self,
        name: &'static str,
        interest: Interest,
        backlog: usize,
    ) -> Observer {
        assert!(backlog > 0, "an observer that may never be told anything");
        self.attach_with(name, interest, Semaphore::MAX_PERMITS, Some(backlog))
    }

    fn attach_with(
        &self,
        name: &'static str,
        interest: Interest,
        room: usize,
        backlog: Option<usize>,
    ) -> Observer {
        let (events, received) = mpsc::channel(room);
        let attached = Arc::new(Attached {
            name,
            interest,
            events,
            lost: AtomicU64::new(0),
            backlog,
            shorter: Notify::new(),
        });
        self.change(&mut self.gone(), |list| list.push(Arc::clone(&attached)));
        Observer {
            attached,
            received,
            observers: self.clone(),
        }
    }

    /// How many events each observer that ever attached has lost, by its name.
    pub fn lost(&self) -> Vec<(&'static str, u64)> {
        let gone = self.gone();
        let mut lost = gone.clone();
        for attached in self.inner.attached.load().iter() {
            add(
                &mut lost,
                attached.name,
                attached.lost.load(Ordering::Relaxed),
            );
        }
        lost
    }

    /// Whether anybody wants any of this.
    #[inline]
    pub fn wants(&self, interest: Interest) -> bool {
        self.inner.wanted.load(Ordering::Relaxed) & interest.bits() != 0
    }

    /// Whether anybody who wants any of this has room for it.
    pub(crate) fn has_room(&self, interest: Interest) -> bool {
        let has_room =
            |one: &Arc<Attached>| one.interest.meets(interest) && one.events.capacity() > 0;
        self.wants(interest) && self.inner.attached.load().iter().any(has_room)
    }

    /// Waits until no observer that loses nothing is behind.
    pub(crate) async fn keep_up(&self) {
        while self.inner.wanted.load(Ordering::Relaxed) & LOSSLESS != 0 {
            let attached = self.inner.attached.load_full();
            let Some(behind) = attached.iter().find(|one| one.is_behind()) else {
                return;
            };
            let shorter = behind.shorter.notified();
            // It may have caught up, or gone, since.
            let is_there = |one| Arc::ptr_eq(one, behind);
            if behind.is_behind() && self.inner.attached.load().iter().any(is_there) {
                shorter.await;
            }
        }
    }

    /// Counts events that were not even made, as nobody who wants them had room.
    #[cold]
    pub(crate) fn lose(&self, interest: Interest, events: u64) {
        if !self.wants(interest) {
            return;
        }
        for attached in self.inner.attached.load().iter() {
            if attached.interest.meets(interest) {
                attached.lost.fetch_add(events, Ordering::Relaxed);
            }
        }
    }

    /// Tells whoever is interested, and has room, what `make` makes; it is called once at most. False
    /// if nobody was told.
    #[inline]
    pub fn tell(&self, interest: Interest, make: impl FnOnce() -> Event) -> bool {
        self.wants(interest) && self.tell_all(interest, make)
    }

    #[cold]
    fn tell_all(&self, interest: Interest, make: impl FnOnce() -> Event) -> bool {
        let mut make = Some(make);
        let mut event = None;
        for attached in self.inner.attached.load().iter() {
            if !attached.interest.meets(interest) {
                continue;
            }
            match attached.events.try_reserve() {
                Ok(permit) => {
                    if let Some(make) = make.take() {
                        event = Some(Arc::new(make()));
                    }
                    if let Some(event) = &event {
                        permit.send(Arc::clone(event));
                    }
                }
                Err(_) => {
                    attached.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        event.is_some()
    }

    #[cfg(feature = "replica")]
    pub(crate) fn tell_link(&self, side: Side, peer: String, change: LinkChange) {
        self.tell(Interest::LINKS, || {
            Event::Link(LinkEvent {
                at: SystemTime::now(),
                since: Instant::now(),
                side,
                peer,
                change,
            })
        });
    }

    /// One side of a hop of a write, if it is traced and anybody wants to know; then the write goes on
    /// within the hop's own span. Else it goes on within the span that it came with.
    #[cfg(feature = "replica")]
    pub(crate) fn hop(observers: Option<&Self>, kind: SpanKind, write: &mut Write) -> Option<Hop> {
        let observers = observers.filter(|observers| observers.wants(Interest::TRACES))?;
        let traced = Traced::within(write.trace?);
        write.trace = Some(traced.context);
        Some(Hop {
            observers: observers.clone(),
            traced,
            kind,
            began: SystemTime::now(),
            ended: false,
        })
    }

    fn change(&self, gone: &mut Gone, change: impl FnOnce(&mut Vec<Arc<Attached>>)) {
        // Who has `gone` is alone.
        let _ = gone;
        let mut list = Vec::clone(&self.inner.attached.load());
        change(&mut list);
        let wanted = list.iter().fold(0, |all, one| {
            let lossless = if one.backlog.is_some() { LOSSLESS } else { 0 };
            all | one.interest.bits() | lossless
        });
        self.inner.attached.store(Arc::new(list));
        self.inner.wanted.store(wanted, Ordering::Relaxed);
    }

    fn gone(&self) -> MutexGuard<'_, Gone> {
        let gone = self.inner.gone.lock();
        gone.unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(lost: &mut Vec<(&'static str, u64)>, name: &'static str, more: u64) {
    match lost.iter_mut().find(|(known, _)| *known == name) {
        Some((_, lost)) => *lost += more,
        None => lost.push((name, more)),
    }
}

impl PartialEq for Observers {
    /// Whether both are the same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Observers {}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers")
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// Gets the events that it is interested in, in order.
#[must_use = "what nobody takes is lost once its room is full"]
pub struct Observer {
    attached: Arc<Attached>,
    received: mpsc::Receiver<Arc<Event>>,
    observers: Observers,
}

impl Observer {
    /// Waits for the next event. It never ends: whatever is observed may come back.
    ///
    /// # Cancel safety
    ///
    /// No event is lost if it is dropped.
    pub async fn next(&mut self) -> Arc<Event> {
        match self.received.recv().await {
            Some(event) => {
                self.taken();
                event
            }
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        let event = self.received.try_recv().ok()?;
        self.taken();
        Some(event)
    }

    /// Lets what is observed go on, where it waits for this observer.
    fn taken(&self) {
        if self.attached.backlog.is_some() && !self.attached.is_behind() {
            self.attached.shorter.notify_waiters();
        }
    }

    /// How many events found no room so far.
    pub fn lost(&self) -> u64 {
        self.attached.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let mut gone = self.observers.gone();
        self.observers.change(&mut gone, |list| {
            list.retain(|one| !Arc::ptr_eq(one, &self.attached));
        });
        self.attached.shorter.notify_waiters();
        add(&mut gone, self.attached.name, self.lost());
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("name", &self.attached.name)
            .field("interest", &self.attached.interest)
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// One side of a hop of a traced write. Where it drops before its end, whoever waited has gone, or there
/// was no answer in time; what was done all the same has a parent.
#[cfg(feature = "replica")]
pub(crate) struct Hop {
    observers: Observers,
    traced: Traced,
    kind: SpanKind,
    began: SystemTime,
    ended: bool,
}

#[cfg(feature = "replica")]
impl Hop {
    /// There is an answer.
    pub(crate) fn end(mut self, written: &Written) {
        self.ended = true;
        let (position, error) = match written {
            Ok(receipts) => {
                let position = receipts.last().map(|receipt| receipt.position.to_string());
                (position, None)
            }
            Err(error) => (None, Some(error.to_string())),
        };
        self.tell(position, error);
    }

    fn tell(&self, position: Option<String>, error: Option<String>) {
        self.observers.tell(Interest::TRACES, || {
            let mut span = Span::ended(self.traced, self.kind, "mutate", self.began);
            let position = position.map(|position| ("machine.position", position));
            span.attributes.extend(position);
            span.error = error;
            Event::Span(span)
        });
    }
}

#[cfg(feature = "replica")]
impl Drop for Hop {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(None, Some("nobody waited for the answer".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(revision: u64) -> Event {
        let kind = crate::errors::ErrorKind::Added;
        Event::Error(ErrorEvent::now(crate::errors::MachineError::new(
            kind, "no", revision,
        )))
    }

    #[test]
    fn nobody_is_told_and_nothing_is_made_without_interest() {
        let observers = Observers::new();
        observers.tell(Interest::ERRORS, || unreachable!("nobody attached"));
        let mut links = observers.attach("links", Interest::LINKS, 4);
        observers.tell(Interest::ERRORS, || unreachable!("nobody wants errors"));
        assert!(links.try_next().is_none());
        drop(links);
        observers.tell(Interest::LINKS, || unreachable!("it has gone"));
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted_for_who_had_none() {
        let observers = Observers::new();
        let mut small = observers.attach("small", Interest::ERRORS, 1);
        let mut large = observers.attach("large", Interest::ERRORS, 8);
        for i in 0..3 {
            observers.tell(Interest::ERRORS, || error(i));
        }
        assert_eq!((small.lost(), large.lost()), (2, 0));
        assert_eq!(observers.lost(), [("small", 2), ("large", 0)]);
        assert!(small.try_next().is_some() && small.try_next().is_none());
        assert_eq!(std::iter::from_fn(|| large.try_next()).count(), 3);
        drop(small);
        observers.tell(Interest::ERRORS, || error(3));
        assert_eq!(observers.lost(), [("small", 2), ("large", 0)]);
        let again = observers.attach("small", Interest::ERRORS, 1);
        observers.tell(Interest::ERRORS, || error(4));
        observers.tell(Interest::ERRORS, || error(5));
        assert_eq!(again.lost(), 1);
        assert_eq!(observers.lost(), [("small", 3), ("large", 0)]);
    }
}
