//! Peers that do not do as they should, and that a follower has to cope with.

use std::collections::BTreeMap;

use machine_runtime::replica::Selection;
use machine_runtime::replica::tamper::{Moves, Told, refused};

use crate::net::{Hop, Passed, Tamper, Way};
use crate::talk::Talk;

/// What is wrong with a node that is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Now and then a delta or a snapshot does not lead to its digest: a tick, a payload or the digest is
    /// another.
    Digest,
    /// Now and then an answer is noise.
    Noise,
    /// Now and then an answer comes twice.
    Twice,
    /// Now and then it tells what it told before, to whomever.
    Replays,
    /// Now and then an answer never comes.
    Drops,
    /// Now and then an answer ends too early.
    Cuts,
    /// Questions are asked twice.
    Echoes,
    /// It speaks a version in which it refuses all others.
    Version,
}

impl Wrong {
    /// All that there is.
    pub const ALL: [Self; 8] = [
        Self::Digest,
        Self::Noise,
        Self::Twice,
        Self::Replays,
        Self::Drops,
        Self::Cuts,
        Self::Echoes,
        Self::Version,
    ];

    /// What does that to frames, of a schema of so many states.
    pub fn tamper(self, seed: u64, states: usize) -> Box<dyn Tamper> {
        Box::new(Peer {
            wrong: self,
            states,
            rng: fastrand::Rng::with_seed(seed),
            talks: BTreeMap::new(),
            before: Vec::new(),
        })
    }
}

struct Peer {
    wrong: Wrong,
    states: usize,
    rng: fastrand::Rng,
    talks: BTreeMap<Hop, Talk>,
    /// What it told before, and to whom: to those with which selection.
    before: Vec<(Option<u64>, Told)>,
}

/// How much that it told is remembered.
const BEFORE: usize = 16;

/// How old a replayed answer says that it is, in milliseconds.
const OLD: u32 = 3_600_000;

/// A version that nobody speaks.
const VERSION: u16 = 99;

/// Where in an answer its body begins: behind the number of the question.
fn body(frame: &[u8]) -> usize {
    frame.iter().take_while(|byte| **byte >= 0x80).count() + 1
}

impl Peer {
    fn asked(&mut self, hop: Hop, frame: Vec<u8>, now: bool, passed: &mut Passed) {
        let talk = self.talks.entry(hop).or_default();
        // What was under way when it went wrong is not followed.
        let _ = talk.asks(&frame);
        if self.wrong == Wrong::Echoes && now {
            passed.up.push(frame.clone());
        }
        passed.up.push(frame);
    }

    /// A delta or a snapshot that does not lead to its digest.
    fn damage(&mut self, told: &mut Told) {
        let bit = 1 << self.rng.u32(0..10);
        let kind = self.rng.u8(0..3);
        match told {
            Told::Deltas(deltas) if !deltas.is_empty() => {
                let which = self.rng.usize(0..deltas.len());
                let moves = &mut deltas[which];
                let change = moves.changes.first_mut().filter(|_| kind == 0);
                let payload = moves.payloads.iter_mut().filter(|_| kind == 1);
                let mut payload = payload.filter_map(|(_, payload)| payload.as_mut());
                if let Some((_, ticks)) = change {
                    *ticks ^= bit;
                } else if let Some(first) = payload.next().and_then(|payload| payload.first_mut()) {
                    *first ^= 1;
                } else {
                    moves.digest ^= u64::from(bit);
                }
            }
            Told::Snapshot(whole) => {
                let payload = whole.retained.values_mut().filter(|_| kind == 1);
                if kind == 0 {
                    // The first state is `Exception`, which may not travel; the first note always does.
                    whole.ticks[1] ^= u64::from(bit);
                } else if let Some(first) = payload
                    .into_iter()
                    .next()
                    .and_then(|payload| payload.first_mut())
                {
                    *first ^= 1;
                } else {
                    whole.digest ^= u64::from(bit);
                }
            }
            _ => {}
        }
    }

    /// Tells something else than was told, in a frame that is whole.
    fn retell(&mut self, hop: Hop, frame: Vec<u8>, now: bool) -> Vec<u8> {
        let talk = self.talks.entry(hop).or_default();
        let Some(answered) = talk.answers(&frame, self.states) else {
            return frame;
        };
        let selection = talk.selection.clone();
        let (mut answer, mut told) = (answered.answer, answered.told);
        if !matches!(told, Told::Deltas(_) | Told::Snapshot(_)) {
            return frame;
        }
        if self.wrong == Wrong::Digest {
            if now {
                self.damage(&mut told);
                answer.tell(&told, selection.as_ref());
            }
            return answer.frame();
        }
        let to = selection.as_ref().map(Selection::hash);
        let count = self.before.len();
        let before = (count > 0).then(|| self.before[self.rng.usize(0..count)].clone());
        if count > BEFORE {
            self.before.remove(0);
        }
        // A delta in which nothing moves fits everywhere: a digest does not cover the revision.
        let moves = |moves: &Moves| !moves.changes.is_empty() || !moves.payloads.is_empty();
        if !matches!(&told, Told::Deltas(deltas) if !deltas.iter().all(moves)) {
            self.before.push((to, told));
        }
        // Nor does it cover which states travel: what was told of some would be right for all of them.
        match before.filter(|(before, _)| now && *before == to) {
            Some((_, before)) => {
                answer.tell(&before, selection.as_ref());
                answer.set_age(OLD);
                answer.frame()
            }
            None => frame,
        }
    }
}

impl Tamper for Peer {
    fn pass(&mut self, hop: Hop, way: Way, mut frame: Vec<u8>, passed: &mut Passed) {
        let now = self.rng.u8(0..5) == 0;
        if way == Way::Up {
            return self.asked(hop, frame, now, passed);
        }
        let begins = body(&frame);
        match self.wrong {
            Wrong::Echoes => {}
            Wrong::Digest | Wrong::Replays => frame = self.retell(hop, frame, now),
            Wrong::Version => {
                let talk = self.talks.entry(hop).or_default();
                if let Some(answered) = talk.answers(&frame, self.states)
                    && answered.answer.is_welcome()
                {
                    frame = refused(answered.answer.id(), VERSION);
                }
            }
            _ if !now => {}
            Wrong::Noise => {
                for byte in &mut frame[begins..] {
                    *byte = self.rng.u8(..);
                }
            }
            Wrong::Twice => passed.down.push(frame.clone()),
            Wrong::Drops => return,
            Wrong::Cuts => frame.truncate(self.rng.usize(1..=frame.len())),
        }
        passed.down.push(frame);
    }
}
