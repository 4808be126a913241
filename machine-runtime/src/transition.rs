//! One transition: from the active states and a mutation to new ticks, or to a refusal.
//!
//! Two roads lead to the same result. The general one follows rules R5 to R10 on lists and costs
//! time in proportion to the active states. The fast one follows only what the mutation changes;
//! it stands on what holds of every list that the general one leaves (see [`Status::clean`]), and
//! hands over whenever it cannot be sure. Tests hold both against a third, slow reading of the
//! rules, order included.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::active::Active;
use crate::checkpoint::Checkpoint;
use crate::mutation::{Op, Reason};
use crate::relations::Compiled;
use crate::schema::as_index;
use crate::set::ones;

mod fast;
mod general;
mod log;
mod negotiate;

pub use log::Times;
pub(crate) use log::{Change, End, Log, Record, Run};
pub(crate) use negotiate::{Answer, Ask, Bound, Negotiator, Pair, Plan, Stage};

/// What a machine is at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    active: Active,
    ticks: Vec<u64>,
    digest: u64,
    revision: u64,
    retained: BTreeMap<u32, Bytes>,
    /// Whether the fast road may be taken: no active state removes another or lacks a
    /// requirement, and no After relation gives an order.
    clean: bool,
    /// Active multi states with an Add relation: they add anew in every transition (rule R6).
    adders: Vec<u32>,
    /// Per auto state: how many active states remove it.
    removers: Vec<u32>,
    candidates: Candidates,
    /// Marks of states within one transition; all clear between transitions.
    marks: Vec<u64>,
    on: Vec<u32>,
    off: Vec<u32>,
    kept: Vec<u32>,
    lists: general::Lists,
    /// What the transition under way comes to for handlers.
    pub(crate) plan: Plan,
    /// Where the log stood when it began.
    start: log::Mark,
    pub(crate) log: Log,
}

/// A mutation as the core sees it: indices, no repeats, no toggle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) op: Op,
    pub(crate) called: &'a [u32],
    pub(crate) auto: bool,
    pub(crate) payloads: &'a [(u32, Bytes)],
}

/// How the fast road ended.
enum Fast {
    /// The transition is done.
    Done,
    /// It is refused; nothing was changed.
    Refused(Reason<u32>),
    /// Nothing was changed, and the general road has to decide.
    Unsure,
}

impl Status {
    pub(crate) fn new(c: &Compiled) -> Self {
        let n = c.len();
        let mut status = Self {
            active: Active::new(c),
            ticks: vec![0; n],
            digest: 0,
            revision: 0,
            retained: BTreeMap::new(),
            clean: !c.after_live(),
            adders: Vec::new(),
            removers: vec![0; n],
            candidates: Candidates::new(n),
            marks: vec![0; n.div_ceil(64)],
            on: Vec::new(),
            off: Vec::new(),
            kept: Vec::new(),
            lists: general::Lists::default(),
            plan: Plan::default(),
            start: log::Mark::default(),
            log: Log::default(),
        };
        for state in (0..as_index(n)).filter(|state| c.is_auto(*state)) {
            status.candidates.insert(state);
        }
        status
    }

    /// A machine of which nothing but the ticks is known: its active list is in index order, sorted
    /// (rule R10). Good for [`Status::check`] only.
    #[cfg(feature = "tokio")]
    pub(crate) fn of_ticks(c: &Compiled, ticks: &[u64]) -> Self {
        let mut status = Self::new(c);
        status.ticks.copy_from_slice(ticks);
        let list = Self::likely_order(c, ticks);
        for state in &list {
            status.active.set_bit(*state);
        }
        status.active.set_order(c, &list);
        status
    }

    /// The active states by their ticks in index order, sorted (rule R10): an active list as good as any
    /// where the real one is not known.
    pub(crate) fn likely_order(c: &Compiled, ticks: &[u64]) -> Vec<u32> {
        let mut list: Vec<u32> = (0..as_index(ticks.len()))
            .filter(|state| ticks[*state as usize] % 2 == 1)
            .collect();
        general::sort(c, &mut list);
        list
    }

    /// A machine as it was at a checkpoint, which has to be one of its schema.
    pub(crate) fn restored(c: &Compiled, checkpoint: &Checkpoint) -> Self {
        let mut status = Self::new(c);
        for state in &checkpoint.order {
            status.active.set_bit(*state);
            status.activate(c, *state);
        }
        status.log.clear();
        status.active.set_order(c, &checkpoint.order);
        status.ticks.clone_from(&checkpoint.ticks);
        status.revision = checkpoint.revision;
        status.retained.clone_from(&checkpoint.retained);
        let ticks = (0..).zip(&status.ticks);
        let of_ticks = ticks.map(|(state, ticks)| c.factor(state).wrapping_mul(*ticks));
        let retained = status.retained.iter();
        let of_payloads = retained.map(|(state, payload)| payload_digest(*state, payload));
        status.digest = of_ticks.chain(of_payloads).fold(0, u64::wrapping_add);
        status.check_clean(c);
        status
    }

    /// The same status without what only transitions need and what was logged.
    pub(crate) fn fork(&self) -> Self {
        Self {
            active: self.active.clone(),
            ticks: self.ticks.clone(),
            digest: self.digest,
            revision: self.revision,
            retained: self.retained.clone(),
            clean: self.clean,
            adders: self.adders.clone(),
            removers: self.removers.clone(),
            candidates: self.candidates.clone(),
            marks: vec![0; self.marks.len()],
            on: Vec::new(),
            off: Vec::new(),
            kept: Vec::new(),
            lists: general::Lists::default(),
            plan: Plan::default(),
            start: log::Mark::default(),
            log: Log::default(),
        }
    }

    pub(crate) fn active(&self) -> &Active {
        &self.active
    }

    pub(crate) fn ticks(&self) -> &[u64] {
        &self.ticks
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn retained(&self) -> &BTreeMap<u32, Bytes> {
        &self.retained
    }

    /// Runs one transition up to its final handlers. Says why where it is refused. To be followed
    /// by [`Status::close`].
    #[inline]
    pub(crate) fn run(
        &mut self,
        c: &Compiled,
        request: Request<'_>,
        negotiator: Option<Negotiator<'_>>,
    ) -> Result<(), Reason<u32>> {
        self.start = self.log.mark();
        let mut talk = negotiator;
        if talk.is_some() {
            self.plan.clear();
        }
        let fast = match request.op {
            _ if !self.clean => Fast::Unsure,
            // What the first resolution of an auto mutation comes to is of interest to those who
            // are asked only.
            Op::Add if request.auto => match &talk {
                Some(negotiator) if negotiator.bound.asks() => Fast::Unsure,
                _ => self.fast_auto(c, request, &mut talk),
            },
            Op::Add => self.fast_add(c, request, request.called, &mut talk),
            Op::Remove => self.fast_remove(c, request, &mut talk),
            Op::Set | Op::Toggle => Fast::Unsure,
        };
        let result = match fast {
            Fast::Done => Ok(()),
            Fast::Refused(reason) => Err(reason),
            Fast::Unsure => self.general(c, request, &mut talk, false),
        };
        if self.log.changes.len() > self.start.changes {
            self.revision += 1;
            if !(self.retained.is_empty() && request.payloads.is_empty()) {
                self.keep_payloads(c, request);
            }
        }
        result
    }

    /// Whether `request` would be accepted: by relations, unless it calls a multi state (rule
    /// R32), and by handlers.
    pub(crate) fn check(
        &mut self,
        c: &Compiled,
        request: Request<'_>,
        negotiator: Option<Negotiator<'_>>,
    ) -> Result<(), Reason<u32>> {
        self.plan.clear();
        let mut talk = negotiator;
        self.general(c, request, &mut talk, true)
    }

    /// What the transition under way has changed.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.log.changes[self.start.changes..]
    }

    /// Logs the transition that [`Status::run`] began.
    #[inline]
    pub(crate) fn close(&mut self, request: Request<'_>, end: End<'_>) {
        let at = (self.revision, self.digest);
        self.log.close(request, end, at, self.start);
    }

    /// Takes out states that began in the transition under way but whose handlers did not run
    /// (rules R26, R27). The order of the others stays as it is.
    #[cold]
    pub(crate) fn take_out(&mut self, c: &Compiled, states: &[u32]) {
        for state in states
            .iter()
            .filter(|state| self.active.contains(**state))
            .copied()
            .collect::<Vec<_>>()
        {
            self.active.clear_bit(state);
            self.active.unlink(c, state);
            let new = self.log.changes.len();
            self.deactivate_cold(c, state);
            self.log.changes.truncate(new);
            let changes = &mut self.log.changes[self.start.changes..];
            let change = changes.iter_mut().find(|change| change.state == state);
            change.expect("a state that began has ticked").ticks += 1;
            if let Some(old) = self.retained.remove(&state) {
                self.digest = self.digest.wrapping_sub(payload_digest(state, &old));
                self.log.payload(state, None);
            }
        }
        self.check_clean(c);
    }

    /// The auto states to try next, in index order (rule R19), into `list`.
    pub(crate) fn candidates(&self, list: &mut Vec<u32>) {
        list.clear();
        list.extend(self.candidates.iter());
    }

    pub(crate) fn has_candidates(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// Rule R12 for a state that was inactive. The active bits are already the new ones.
    #[inline]
    fn activate(&mut self, c: &Compiled, state: u32) {
        self.tick(c, state, 1);
        if c.has_add(state) && c.is_multi(state) {
            self.adders.push(state);
        }
        for auto in c.auto_removed(state) {
            self.removers[*auto as usize] += 1;
            self.candidates.remove(*auto);
        }
        if c.is_auto(state) {
            self.candidates.remove(state);
        }
    }

    /// Rule R12 for a state that was active. The active bits are already the new ones.
    #[inline]
    fn deactivate(&mut self, c: &Compiled, state: u32) {
        self.tick(c, state, 1);
        if c.has_add(state) && c.is_multi(state) {
            self.adders.retain(|adder| *adder != state);
        }
        for auto in c.auto_removed(state) {
            self.removers[*auto as usize] -= 1;
            self.consider(*auto);
        }
        if c.is_auto(state) {
            self.consider(state);
        }
    }

    #[inline(never)]
    fn deactivate_cold(&mut self, c: &Compiled, state: u32) {
        self.deactivate(c, state);
    }

    /// Makes an auto state a candidate if it is one.
    fn consider(&mut self, auto: u32) {
        if self.removers[auto as usize] == 0 && !self.active.contains(auto) {
            self.candidates.insert(auto);
        }
    }

    #[inline]
    fn tick(&mut self, c: &Compiled, state: u32, ticks: u32) {
        self.ticks[state as usize] += u64::from(ticks);
        self.digest = self
            .digest
            .wrapping_add(c.factor(state).wrapping_mul(u64::from(ticks)));
        self.log.changes.push(Change { state, ticks });
    }

    /// A called state that this transition activated keeps the payload if it retains; one that
    /// ended loses its own.
    fn keep_payloads(&mut self, c: &Compiled, request: Request<'_>) {
        let start = self.start.changes;
        for i in start..self.log.changes.len() {
            let state = self.log.changes[i].state;
            if !c.is_retained(state) {
                continue;
            }
            let payload = request.payloads.iter().find(|(of, _)| *of == state);
            let old = match payload {
                Some((_, payload)) if self.active.contains(state) => {
                    self.digest = self.digest.wrapping_add(payload_digest(state, payload));
                    self.log.payload(state, Some(payload.clone()));
                    self.retained.insert(state, payload.clone())
                }
                _ => {
                    let old = self.retained.remove(&state);
                    if old.is_some() {
                        self.log.payload(state, None);
                    }
                    old
                }
            };
            if let Some(old) = old {
                self.digest = self.digest.wrapping_sub(payload_digest(state, &old));
            }
        }
    }

    /// Looks anew whether the fast road may be taken.
    fn check_clean(&mut self, c: &Compiled) {
        self.clean = !c.after_live()
            && ones(self.active.bits()).map(as_index).all(|state| {
                self.active.any(c.removed_by(state)).is_none()
                    && self.active.lacks(c.require(state)).is_none()
            });
    }

    fn mark(&mut self, state: u32) {
        self.marks[state as usize / 64] |= 1 << (state % 64);
    }

    fn unmark(&mut self, state: u32) {
        self.marks[state as usize / 64] &= !(1 << (state % 64));
    }

    fn is_marked(&self, state: u32) -> bool {
        self.marks[state as usize / 64] >> (state % 64) & 1 == 1
    }
}

/// What a retained payload adds to the digest.
pub(crate) fn payload_digest(state: u32, payload: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(payload, u64::from(state) + 1)
}

/// The auto states that are inactive and that no active state removes.
#[derive(Clone, Debug)]
struct Candidates {
    words: Vec<u64>,
    /// Which words are not zero.
    summary: Vec<u64>,
}

impl Candidates {
    fn new(states: usize) -> Self {
        let words = states.div_ceil(64);
        Self {
            words: vec![0; words],
            summary: vec![0; words.div_ceil(64)],
        }
    }

    fn insert(&mut self, state: u32) {
        let word = state as usize / 64;
        self.words[word] |= 1 << (state % 64);
        self.summary[word / 64] |= 1 << (word % 64);
    }

    fn remove(&mut self, state: u32) {
        let word = state as usize / 64;
        self.words[word] &= !(1 << (state % 64));
        if self.words[word] == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
    }

    fn is_empty(&self) -> bool {
        self.summary.iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        ones(&self.summary).flat_map(|word| {
            ones(&self.words[word..=word]).map(move |bit| as_index(word * 64 + bit))
        })
    }
}
