//! What has to hold, looked at whenever something is shown or answered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use machine_runtime::{Batch, DynState, Epoch, Machine, Position, View};
use tokio::sync::Notify;

use crate::log::Log;
use crate::net::Host;

/// What has to hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Check {
    /// What a node shows is a moment of the root's history.
    History,
    /// A node never goes back.
    Forwards,
    /// What was acknowledged or shown is never lost.
    Kept,
    /// What was acknowledged happened once, and where the receipt says.
    Once,
    /// What is shown is no older than its age says.
    Age,
    /// Once all is well, all nodes come to show what the root does, in time.
    Converge,
    /// Whoever wrote finds what it wrote, where the view has come to the position.
    ReadYourWrites,
    /// Nothing grows without bound.
    Bounded,
    /// Nothing panics.
    Panic,
    /// A seed leads to the same in every run.
    Replay,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::History => "history",
            Self::Forwards => "forwards",
            Self::Kept => "kept",
            Self::Once => "once",
            Self::Age => "age",
            Self::Converge => "converge",
            Self::ReadYourWrites => "read your writes",
            Self::Bounded => "bounded",
            Self::Panic => "panic",
            Self::Replay => "replay",
        })
    }
}

/// What did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What.
    pub check: Check,
    /// When, in milliseconds.
    pub at: u64,
    /// In words.
    pub why: String,
}

/// A place in all there ever was: the life of the root, counted from 0, and the revision in it.
type Spot = (usize, u64);

/// Everything at one position.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Moment {
    digest: u64,
    ticks: Vec<u64>,
    retained: BTreeMap<u32, Bytes>,
}

/// A life of the root.
struct Life {
    epoch: Epoch,
    moments: BTreeMap<u64, Moment>,
    /// The revisions at which each number that was written came in.
    effects: BTreeMap<u64, Vec<u64>>,
    /// The furthest that anybody was told of.
    told: u64,
}

impl Life {
    /// Where the history ends, if it is known at all.
    fn end(&self) -> u64 {
        self.moments.last_key_value().map_or(0, |(end, _)| *end)
    }
}

struct Inner {
    lives: Vec<Life>,
    /// What the root came to show, and when.
    shown: Vec<(u64, Spot)>,
    failure: Option<Failure>,
    /// How many states at the beginning of the schema keep numbers.
    notes: usize,
    looks: u64,
}

/// Looks at everything. Cheap to clone.
#[derive(Clone)]
pub struct Checks {
    inner: Arc<Mutex<Inner>>,
    failed: Arc<Notify>,
    log: Log,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks").finish_non_exhaustive()
    }
}

/// Where a node that runs has been.
#[derive(Debug, Default)]
pub struct Been(BTreeMap<usize, u64>);

impl Checks {
    /// Nothing has happened yet. The states from 1 to `notes` keep the numbers that clients write.
    pub fn new(notes: usize, log: Log) -> Self {
        let inner = Inner {
            lives: Vec::new(),
            shown: Vec::new(),
            failure: None,
            notes,
            looks: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            failed: Arc::new(Notify::new()),
            log,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What did not hold first.
    pub fn failure(&self) -> Option<Failure> {
        self.lock().failure.clone()
    }

    /// Waits until something does not hold.
    pub async fn failed(&self) {
        self.failed.notified().await;
    }

    /// How often something was looked at.
    pub fn looks(&self) -> u64 {
        self.lock().looks
    }

    /// Says that something does not hold.
    pub fn fail(&self, check: Check, why: impl Into<String>) {
        self.fail_in(&mut self.lock(), check, why.into());
    }

    fn fail_in(&self, inner: &mut Inner, check: Check, why: String) {
        let at = self.log.now();
        let failure = Failure { check, at, why };
        // Of those of one millisecond, which come in no order, it is always the same.
        let place = |failure: &Failure| (failure.at, failure.check, failure.why.clone());
        let known = inner.failure.as_ref();
        if known.is_none_or(|known| place(&failure) < place(known)) {
            inner.failure = Some(failure);
            self.failed.notify_one();
        }
    }

    /// The root begins, or goes on with what its disk had: `machine` at a position. `lossy`: what it had
    /// last may be lost.
    pub fn begin(&self, epoch: Epoch, machine: &Machine<DynState>, durable: bool, lossy: bool) {
        let checkpoint = machine.checkpoint();
        let revision = checkpoint.revision;
        let now = Moment {
            digest: machine.digest(),
            ticks: checkpoint.ticks,
            retained: checkpoint.retained,
        };
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut failed = None;
        if let Some(life) = inner.lives.iter_mut().find(|life| life.epoch == epoch) {
            let end = life.end();
            match life.moments.get(&revision) {
                _ if revision < life.told => {
                    let told = life.told;
                    let why = format!("the root is back at {revision}, and had told of {told}");
                    failed = Some((Check::Kept, why));
                }
                Some(moment) if *moment == now => {}
                Some(_) => {
                    let why = format!("the root is back at {revision} with other states");
                    failed = Some((Check::Kept, why));
                }
                None => {
                    let why = format!("the root is back at {revision}, its history ended at {end}");
                    failed = Some((Check::Kept, why));
                }
            }
            life.moments.split_off(&(revision + 1));
            for at in life.effects.values_mut() {
                at.retain(|at| *at <= revision);
            }
        } else {
            let mut life = Life {
                epoch,
                moments: BTreeMap::new(),
                effects: BTreeMap::new(),
                told: revision,
            };
            if let Some(before) = inner.lives.last().filter(|_| durable) {
                if !lossy {
                    let why = "the root begins a new life, though nothing may be lost".to_owned();
                    failed = Some((Check::Kept, why));
                } else if before.moments.get(&revision) != Some(&now) {
                    let why = format!("the root goes on from {revision}, which never was");
                    failed = Some((Check::Kept, why));
                }
                for (number, at) in &before.effects {
                    let kept: Vec<_> = at.iter().copied().filter(|at| *at <= revision).collect();
                    if !kept.is_empty() {
                        life.effects.insert(*number, kept);
                    }
                }
            }
            life.moments.insert(revision, now);
            inner.lives.push(life);
        }
        if let Some((check, why)) = failed {
            self.fail_in(inner, check, why);
        }
    }

    /// The root's machine has moved, and nobody knows yet.
    pub fn moved(&self, batch: &Batch) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let notes = inner.notes;
        let Some(life) = inner
            .lives
            .iter_mut()
            .find(|life| life.epoch == batch.epoch())
        else {
            let why = format!(
                "the root moves in the life {}, which never began",
                batch.epoch()
            );
            return self.fail_in(inner, Check::History, why);
        };
        let mut twice = None;
        for moves in batch.moves() {
            let Some((_, last)) = life.moments.last_key_value() else {
                return;
            };
            let mut moment = last.clone();
            moment.digest = moves.digest;
            for (state, ticks) in moves.ticks() {
                moment.ticks[state] += ticks;
            }
            let revision = moves.position.revision;
            for (state, payload) in moves.payloads() {
                match payload {
                    Some(payload) => {
                        if (1..=notes).contains(&(*state as usize)) {
                            let number = number(payload);
                            let at = life.effects.entry(number).or_default();
                            at.push(revision);
                            if at.len() > 1 {
                                twice = Some(format!("write {number} happened at {at:?}"));
                            }
                        }
                        moment.retained.insert(*state, payload.clone());
                    }
                    None => {
                        moment.retained.remove(state);
                    }
                }
            }
            life.moments.insert(revision, moment);
        }
        if let Some(why) = twice {
            self.fail_in(inner, Check::Once, why);
        }
    }

    /// The root has come to show something.
    pub fn root_shows(&self, position: Position) {
        let mut inner = self.lock();
        let now = self.log.now();
        let life = inner
            .lives
            .iter()
            .position(|life| life.epoch == position.epoch);
        if let Some(life) = life {
            let spot = (life, position.revision);
            inner.lives[life].told = inner.lives[life].told.max(position.revision);
            inner.shown.push((now, spot));
        }
    }

    /// A node has come to show something.
    pub fn shows(&self, host: Host, view: &View<DynState>, been: &mut Been) {
        let Some(snapshot) = view.snapshot() else {
            return;
        };
        let mut inner = self.lock();
        inner.looks += 1;
        let position = snapshot.position();
        let revision = position.revision;
        let life = inner
            .lives
            .iter()
            .position(|life| life.epoch == position.epoch);
        let Some(life) = life else {
            let why = format!("n{host} shows {position}, of a life that never was");
            return self.fail_in(&mut inner, Check::History, why);
        };
        let selection = view.selection();
        let has = |state: usize| selection.as_ref().is_none_or(|has| has.contains(state));
        let why = match inner.lives[life].moments.get(&revision) {
            None => Some("which never was".to_owned()),
            Some(moment) => {
                let ticks = moment.ticks.iter().enumerate();
                let ticks = ticks.map(|(state, tick)| if has(state) { *tick } else { 0 });
                let retained = moment.retained.iter();
                let retained = retained.filter(|(state, _)| has(**state as usize));
                let mut other = ticks.zip(snapshot.ticks()).enumerate();
                if let Some((state, (was, shown))) = other.find(|(_, (was, shown))| was != *shown) {
                    Some(format!(
                        "with tick {shown} of state {state}, which was {was}"
                    ))
                } else if !retained.eq(snapshot.retained()) {
                    Some("with other payloads".to_owned())
                } else if selection.is_none() && moment.digest != snapshot.digest() {
                    Some("with another digest".to_owned())
                } else {
                    None
                }
            }
        };
        if let Some(why) = why {
            let all = "all states".to_owned();
            let of = selection.map_or(all, |selection| format!("{} states", selection.len()));
            let why = format!("n{host} shows {of} of revision {revision} of life {life}, {why}");
            return self.fail_in(&mut inner, Check::History, why);
        }
        let before = been.0.insert(life, revision);
        if let Some(before) = before.filter(|before| *before > revision) {
            let why = format!("n{host} goes from revision {before} back to {revision}");
            self.fail_in(&mut inner, Check::Forwards, why);
        }
    }

    /// Looks whether a view is as new as it says, give or take `slack` milliseconds.
    pub fn age(&self, host: Host, view: &View<DynState>, slack: u64) {
        let Some(position) = view.position() else {
            return;
        };
        let now = self.log.now();
        let age = u64::try_from(view.age().as_millis()).unwrap_or(u64::MAX);
        let Some(then) = now.checked_sub(age.saturating_add(slack)) else {
            return;
        };
        let mut inner = self.lock();
        inner.looks += 1;
        let count = inner.shown.partition_point(|(at, _)| *at <= then);
        let Some((at, spot)) = count.checked_sub(1).map(|last| inner.shown[last]) else {
            return;
        };
        let life = inner
            .lives
            .iter()
            .position(|life| life.epoch == position.epoch);
        let shows = (life.unwrap_or(0), position.revision);
        if shows < spot {
            let why = format!(
                "n{host} says that it is {age} ms old and shows {shows:?}, but the root showed {spot:?} \
                 {} ms ago",
                now - at
            );
            self.fail_in(&mut inner, Check::Age, why);
        }
    }

    /// A write of a number was acknowledged as executed.
    pub fn acknowledged(&self, number: u64, position: Position) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.looks += 1;
        let life = inner
            .lives
            .iter_mut()
            .find(|life| life.epoch == position.epoch);
        let Some(life) = life else {
            let why =
                format!("write {number} is said to be at {position}, of a life that never was");
            return self.fail_in(inner, Check::Once, why);
        };
        life.told = life.told.max(position.revision);
        let at = life.effects.get(&number).map_or(&[][..], Vec::as_slice);
        // The receipt says where the machine stood after what the write led to, and the next had not begun.
        let [at] = at else {
            let why = format!("write {number} is acknowledged and happened at {at:?}");
            return self.fail_in(inner, Check::Once, why);
        };
        let next = life
            .effects
            .values()
            .flatten()
            .filter(|next| *next > at)
            .min();
        let ends = next.is_none_or(|next| *next > position.revision);
        if position.revision < *at || !ends {
            let why = format!(
                "write {number} is said to be at {}, and happened at {at}",
                position.revision
            );
            self.fail_in(inner, Check::Once, why);
        }
    }

    /// Looks once more whether what was acknowledged is there; what a life lost with the root's memory may
    /// be gone with it.
    pub fn still_there(&self, acknowledged: &[(u64, Position)]) {
        let mut inner = self.lock();
        let mut why = None;
        for (number, position) in acknowledged {
            let life = inner.lives.iter().find(|life| life.epoch == position.epoch);
            let at = life.and_then(|life| life.effects.get(number));
            if at.is_none_or(|at| at.len() != 1) {
                why = Some(format!(
                    "write {number} was acknowledged at {position}, and happened at {at:?}"
                ));
                break;
            }
        }
        if let Some(why) = why {
            self.fail_in(&mut inner, Check::Kept, why);
        }
    }
}

/// The number that a payload carries.
pub fn number(payload: &[u8]) -> u64 {
    let text = std::str::from_utf8(payload).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}
