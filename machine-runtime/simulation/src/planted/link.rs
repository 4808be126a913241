//! Bugs between nodes and their followers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use machine_runtime::Position;
use machine_runtime::replica::Selection;
use machine_runtime::replica::tamper::{
    Moves, Question, Said, Told, Whole, executed, payload_digest, tick_digest,
};

use super::LinkBug;
use crate::net::{Hop, Host, Passed, Tamper, Way};
use crate::talk::{Answered, Talk, position};

/// How many of its moments are remembered of each follower.
const MOMENTS: usize = 64;

/// Set in the number of a question that nobody asked.
const OURS: u64 = 1 << 40;

/// What a follower has, as it was made to believe.
#[derive(Clone, Debug)]
struct Has {
    ticks: Vec<u64>,
    retained: BTreeMap<u32, Vec<u8>>,
}

impl Has {
    fn of(whole: &Whole) -> Self {
        Self {
            ticks: whole.ticks.clone(),
            retained: whole.retained.clone(),
        }
    }

    fn apply(&mut self, moves: &Moves) {
        for (state, ticks) in &moves.changes {
            let tick = &mut self.ticks[*state as usize];
            *tick = tick.wrapping_add((*ticks).into());
        }
        for (state, payload) in &moves.payloads {
            match payload {
                Some(payload) => self.retained.insert(*state, payload.clone()),
                None => self.retained.remove(state),
            };
        }
    }

    fn digest(&self) -> u64 {
        let ticks = (0..).zip(&self.ticks);
        let ticks = ticks.map(|(state, tick)| tick_digest(state).wrapping_mul(*tick));
        let retained = self.retained.iter();
        let retained = retained.map(|(state, payload)| payload_digest(*state, payload));
        ticks.chain(retained).fold(0, u64::wrapping_add)
    }
}

/// Stands between all nodes and their followers.
pub(super) struct Between {
    bug: LinkBug,
    states: usize,
    rng: fastrand::Rng,
    talks: BTreeMap<Hop, Talk>,
    /// The moments that each follower may have, the last it was given last.
    has: BTreeMap<Host, VecDeque<(Position, Has)>>,
    /// The newest that a node told anybody.
    newest: BTreeMap<Host, Position>,
    /// The first snapshot that each follower took.
    first: BTreeMap<Host, Whole>,
    /// The questions of followers that resumed from the revision before their own.
    shifted: BTreeSet<(Hop, u64)>,
}

impl Between {
    pub(super) fn new(bug: LinkBug, seed: u64, states: usize) -> Self {
        Self {
            bug,
            states,
            rng: fastrand::Rng::with_seed(seed),
            talks: BTreeMap::new(),
            has: BTreeMap::new(),
            newest: BTreeMap::new(),
            first: BTreeMap::new(),
            shifted: BTreeSet::new(),
        }
    }

    fn up(&mut self, hop: Hop, frame: Vec<u8>, now: bool, passed: &mut Passed) {
        let talk = self.talks.entry(hop).or_default();
        let Some((mut question, said)) = talk.asks(&frame) else {
            passed.up.push(frame);
            return;
        };
        match (self.bug, &said) {
            (
                LinkBug::RingOffByOne,
                Said::Hello {
                    position: Some(at), ..
                },
            ) if at.revision > 0 => {
                self.shifted.insert((hop, question.id()));
                question.set_position(Position {
                    revision: at.revision - 1,
                    ..*at
                });
            }
            (LinkBug::WrongEpoch, _) => self.in_newest_epoch(hop, &mut question, &said),
            (LinkBug::AnswersItself, Said::Write(_)) if now => {
                if let Some(at) = self.newest.get(&hop.parent) {
                    passed.down.push(executed(question.id(), 1, *at));
                    return;
                }
            }
            (LinkBug::WritesTwice, Said::Write(bytes)) => {
                passed.up.push(frame);
                // A write begins with its key, and that with its length.
                let mut again = bytes.clone();
                if let Some(first) = again.get_mut(1) {
                    *first ^= 1;
                }
                let again_as = question.id() | OURS;
                question.set_id(again_as);
                question.set_write(again);
            }
            _ => {}
        }
        passed.up.push(question.frame());
    }

    /// Has a follower of an earlier life ask as one of the parent's.
    fn in_newest_epoch(&self, hop: Hop, question: &mut Question, said: &Said) {
        if let (Some(at), Some(newest)) = (position(said), self.newest.get(&hop.parent)) {
            question.set_position(Position {
                epoch: newest.epoch,
                ..at
            });
        }
    }

    fn down(&mut self, hop: Hop, frame: Vec<u8>, now: bool, passed: &mut Passed) {
        let talk = self.talks.entry(hop).or_default();
        let Some(answered) = talk.answers(&frame, self.states) else {
            if self.bug != LinkBug::WritesTwice {
                passed.down.push(frame);
            }
            return;
        };
        let selection = talk.selection.clone();
        let Answered {
            mut answer,
            asked,
            mut told,
        } = answered;
        let after = position(&asked);
        if self.bug == LinkBug::AgeIsZero {
            answer.set_age(0);
            passed.down.push(answer.frame());
            return;
        }
        match &mut told {
            Told::Deltas(deltas) => {
                let shifted = self.shifted.remove(&(hop, answer.id()));
                if shifted {
                    // They are those after the revision before.
                    for moves in deltas.iter_mut() {
                        moves.revision -= 1;
                    }
                    deltas.retain(|moves| Some(moves.revision) > after.map(|at| at.revision));
                }
                if now {
                    self.harm(deltas, selection.as_ref());
                }
                if !self.settle(hop, after, deltas) {
                    passed.down.push(frame);
                    return;
                }
            }
            Told::Snapshot(whole) => {
                self.replace(hop, whole);
                self.newest.insert(hop.parent, whole.position);
            }
            Told::Written(true) if self.bug == LinkBug::EarlyReceipt && now => {
                if let Some(at) = self.newest.get(&hop.parent).filter(|at| at.revision > 0) {
                    passed.down.push(executed(answer.id(), 1, *at));
                    return;
                }
            }
            _ => {}
        }
        if matches!(&told, Told::Deltas(deltas) if deltas.is_empty()) {
            told = Told::Idle;
        }
        answer.tell(&told, selection.as_ref());
        passed.down.push(answer.frame());
    }

    /// Does to deltas what is wrong with them.
    fn harm(&mut self, deltas: &mut Vec<Moves>, selection: Option<&Selection>) {
        let more = deltas.len() > 1;
        let Some(first) = deltas.first_mut() else {
            return;
        };
        match self.bug {
            LinkBug::SkipsDelta if more => {
                let skipped = deltas.remove(0);
                deltas[0].base = skipped.base;
            }
            LinkBug::SkipsDelta => {
                first.changes.clear();
                first.payloads.clear();
            }
            LinkBug::AppliesTwice => {
                for (_, ticks) in &mut first.changes {
                    *ticks *= 2;
                }
            }
            LinkBug::NeighbourTicks => {
                let travels = |state: u32| {
                    (state as usize) < self.states
                        && selection.is_none_or(|states| states.contains(state as usize))
                };
                let at = |place: usize| first.changes.get(place).map(|(state, _)| *state);
                let place = (0..first.changes.len()).find(|place| {
                    at(*place)
                        .is_some_and(|state| travels(state + 1) && at(place + 1) != Some(state + 1))
                });
                if let Some(place) = place {
                    first.changes[place].0 += 1;
                }
            }
            LinkBug::LosesPayload => first.payloads.retain(|(_, payload)| payload.is_none()),
            LinkBug::NoDigestCheck => {
                if let Some((_, ticks)) = first.changes.first_mut() {
                    *ticks += 2;
                }
            }
            LinkBug::RevisionOffByOne => {
                if let Some(last) = deltas.last_mut() {
                    last.revision += 1;
                }
            }
            LinkBug::WithholdsDeltas => deltas.clear(),
            _ => {}
        }
    }

    /// Makes the digests of deltas those of what the follower comes to; false if that is not known.
    fn settle(&mut self, hop: Hop, after: Option<Position>, deltas: &mut [Moves]) -> bool {
        let Some(after) = after else {
            return false;
        };
        let moments = self.has.entry(hop.follower).or_default();
        let base = moments.iter().rev().find(|(at, _)| *at == after);
        let Some((_, mut has)) = base.cloned() else {
            return false;
        };
        for moves in deltas.iter_mut() {
            has.apply(moves);
            moves.digest = has.digest();
            let at = Position {
                revision: moves.revision,
                ..after
            };
            if moments.len() == MOMENTS {
                moments.pop_front();
            }
            moments.push_back((at, has.clone()));
            let newest = self.newest.entry(hop.parent).or_insert(at);
            if at.epoch == newest.epoch {
                newest.revision = newest.revision.max(at.revision);
            }
        }
        true
    }

    /// Does to a snapshot what is wrong with it.
    fn replace(&mut self, hop: Hop, whole: &mut Whole) {
        let first = self
            .first
            .entry(hop.follower)
            .or_insert_with(|| whole.clone());
        if self.bug == LinkBug::OldSnapshot && first.position.epoch == whole.position.epoch {
            whole.ticks.clone_from(&first.ticks);
            whole.retained.clone_from(&first.retained);
        } else if first.position.epoch != whole.position.epoch {
            *first = whole.clone();
        }
        if self.bug == LinkBug::LosesPayloads {
            whole.retained.clear();
        }
        let has = Has::of(whole);
        whole.digest = has.digest();
        let moments = self.has.entry(hop.follower).or_default();
        if moments.len() == MOMENTS {
            moments.pop_front();
        }
        moments.push_back((whole.position, has));
    }
}

impl Tamper for Between {
    fn pass(&mut self, hop: Hop, way: Way, frame: Vec<u8>, passed: &mut Passed) {
        let now = self.rng.u8(0..4) == 0;
        match way {
            Way::Up => self.up(hop, frame, now, passed),
            Way::Down => self.down(hop, frame, now, passed),
        }
    }
}
