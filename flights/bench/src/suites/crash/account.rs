//! What came of all writes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use machine_runtime::Position;

use super::writers::Ack;
use super::{Shared, Start, TOLD};

/// How many writes were acknowledged, and what is wrong with them.
#[derive(Debug)]
pub(super) struct Account {
    acknowledged: usize,
    /// Acknowledged writes that are not there, or not where they were said to be.
    lost: u64,
    /// Revisions that no write was told of, though all writes have been acknowledged.
    doubled: u64,
    steps_back: u64,
    retries: u64,
    events: u64,
    snapshots: BTreeMap<String, u64>,
    told: Vec<String>,
}

impl Account {
    pub(super) fn new(
        shared: &Shared,
        acks: Vec<Ack>,
        (end, ticks): (Position, u64),
        snapshots: BTreeMap<String, u64>,
    ) -> Self {
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let told = shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut account = Self {
            acknowledged: acks.len(),
            lost: 0,
            doubled: 0,
            steps_back: load(&shared.steps_back),
            retries: load(&shared.retries),
            events: load(&shared.events),
            snapshots,
            told: told.clone(),
        };
        drop(told);
        account.settle(shared.start, acks, end, ticks);
        account
    }

    /// Holds what was acknowledged against what is there. From `start` on all that happened are writes,
    /// and each of them is one revision in which its state ticked twice.
    fn settle(&mut self, start: Start, acks: Vec<Ack>, end: Position, ticks: u64) {
        if end.epoch != start.position.epoch {
            self.tell(format!("{} became {}", start.position.epoch, end.epoch));
            self.steps_back += 1;
        }
        let mut revisions: BTreeMap<u64, Ack> = BTreeMap::new();
        for ack in acks {
            let Position { epoch, revision } = ack.position;
            let there = start.position.revision + 1..=end.revision;
            if epoch != end.epoch || !there.contains(&revision) {
                self.lost += 1;
                self.tell(format!("{ack:?} is not there, the history ends at {end}"));
            } else if let Some(other) = revisions.insert(revision, ack) {
                self.lost += 1;
                self.tell(format!("{ack:?} and {other:?} are the same revision"));
            }
        }
        let happened = end.revision.saturating_sub(start.position.revision);
        self.doubled = happened.saturating_sub(revisions.len() as u64);
        let missing = start.position.revision + 1..=end.revision;
        let missing = missing.filter(|revision| !revisions.contains_key(revision));
        for revision in missing.take(TOLD) {
            self.tell(format!("nobody was told of revision {revision}"));
        }
        let ticked = ticks.saturating_sub(start.ticks);
        if ticked != 2 * happened {
            self.tell(format!("{ticked} ticks in {happened} revisions"));
            self.doubled = self.doubled.max((ticked / 2).abs_diff(happened)).max(1);
        }
    }

    fn tell(&mut self, what: String) {
        if self.told.len() < 2 * TOLD {
            self.told.push(what);
        }
    }

    /// Whether all is as it has to be.
    pub(super) fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.steps_back == 0 && self.told.is_empty()
    }

    /// What is wrong, a line each.
    pub(super) fn told(&self) -> String {
        let mut told = String::new();
        for line in &self.told {
            told.push_str("\n  ");
            told.push_str(line);
        }
        told
    }

    /// What else there is to know of the run.
    pub(super) fn beside(&self) -> String {
        format!(
            "{} answers were asked for again, {} positions were shown to readers; snapshots in place of \
             what followers of the root missed, by reason: {:?}",
            self.retries, self.events, self.snapshots
        )
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged, {} lost, {} doubled, {} steps back",
            self.acknowledged, self.lost, self.doubled, self.steps_back
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine_runtime::Epoch;

    fn at(revision: u64) -> Position {
        Position {
            epoch: Epoch(7),
            revision,
        }
    }

    fn ack(writer: u32, revision: u64) -> Ack {
        Ack {
            writer,
            write: 0,
            position: at(revision),
        }
    }

    /// What a history from revision 10 on that ends like this comes to.
    fn settled(acks: &[Ack], end: Position, ticks: u64) -> String {
        let start = Start {
            position: at(10),
            ticks: 1,
        };
        let mut account = Account {
            acknowledged: acks.len(),
            lost: 0,
            doubled: 0,
            steps_back: 0,
            retries: 0,
            events: 0,
            snapshots: BTreeMap::new(),
            told: Vec::new(),
        };
        account.settle(start, acks.to_vec(), end, ticks);
        let text = account.to_string();
        assert_eq!(
            account.is_clean(),
            text.ends_with("0 lost, 0 doubled, 0 steps back")
        );
        text
    }

    #[test]
    fn writes_and_revisions_are_the_same() {
        let all = [ack(1, 12), ack(2, 11)];
        let clean = "2 acknowledged, 0 lost, 0 doubled, 0 steps back";
        assert_eq!(settled(&all, at(12), 5), clean);
        let lost = "2 acknowledged, 1 lost, 0 doubled, 0 steps back";
        assert_eq!(settled(&all, at(11), 3), lost);
        let twice = [ack(1, 11), ack(2, 11)];
        assert_eq!(settled(&twice, at(11), 3), lost);
        let doubled = "2 acknowledged, 0 lost, 1 doubled, 0 steps back";
        assert_eq!(settled(&all, at(13), 7), doubled);
        assert_eq!(settled(&all, at(12), 7), doubled);
        let other = Position {
            epoch: Epoch(8),
            revision: 12,
        };
        let begun_anew = "2 acknowledged, 2 lost, 2 doubled, 1 steps back";
        assert_eq!(settled(&all, other, 5), begun_anew);
    }
}
