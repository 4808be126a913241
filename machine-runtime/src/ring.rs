//! The recent deltas of a view: what a follower resumes from.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::position::{Epoch, Position};
#[cfg(feature = "replica")]
use crate::relations::factor;
#[cfg(feature = "replica")]
use crate::selection::Selection;
use crate::transition::{Change, payload_digest};

/// How many deltas a node keeps unless told otherwise.
pub const RING_DELTAS: usize = 4096;

/// How many bytes of deltas a node keeps unless told otherwise.
pub const RING_BYTES: usize = 1 << 20;

/// What moved between two revisions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Delta {
    /// The revision that it applies to.
    pub(crate) base: u64,
    /// The revision that it leads to.
    pub(crate) revision: u64,
    /// The digest of what it leads to.
    pub(crate) digest: u64,
    /// The states that ticked, in index order, each once.
    pub(crate) changes: Vec<Change>,
    /// The retained payloads that were set or dropped, in index order, each state once.
    pub(crate) payloads: Vec<(u32, Option<Bytes>)>,
}

impl Delta {
    /// Sums what happened to each state. To be done once the ring is free again.
    pub(crate) fn tidy(mut self) -> Self {
        self.changes = summed(self.changes);
        // The last word on a payload counts; a stable sort keeps it last.
        self.payloads.sort_by_key(|(state, _)| *state);
        self.payloads.reverse();
        self.payloads.dedup_by_key(|(state, _)| *state);
        self.payloads.reverse();
        self
    }
}

/// Each state once, in index order, with all its ticks.
pub(crate) fn summed(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_unstable_by_key(|change| change.state);
    changes.dedup_by(|next, kept| {
        let same = next.state == kept.state;
        if same {
            // Of one that counts further than numbers go the digest is wrong, too.
            kept.ticks = kept.ticks.wrapping_add(next.ticks);
        }
        same
    });
    changes
}

/// What a ring has to say to a follower at some revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Since {
    /// The follower has everything.
    Current,
    /// What it lacks.
    Deltas(Vec<Delta>),
    /// The follower has more than the ring: it came from a node that is ahead of this one.
    Ahead,
    /// The revision is not, or no longer, one to resume from; this is the oldest that is.
    Compacted { oldest: u64 },
    /// The position is of another epoch.
    OtherEpoch,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    revision: u64,
    digest: u64,
    /// How many changes and payloads were ever appended, this entry's included.
    changes: u64,
    payloads: u64,
}

/// A retained payload that was set or dropped.
#[derive(Clone, Debug)]
struct Retained {
    state: u32,
    payload: Option<Bytes>,
    /// By how much that moved the digest.
    #[cfg_attr(
        not(feature = "replica"),
        expect(dead_code, reason = "links carry selections, and nothing else does")
    )]
    moved: u64,
}

/// A bounded log of deltas, oldest first.
#[derive(Debug)]
pub(crate) struct Ring {
    epoch: Epoch,
    /// The revision before the oldest entry, and what was dropped up to it.
    base: Entry,
    entries: VecDeque<Entry>,
    changes: VecDeque<Change>,
    payloads: VecDeque<Retained>,
    payload_bytes: usize,
    /// What each retained payload of the newest revision is of the digest.
    retained: BTreeMap<u32, u64>,
    most_deltas: usize,
    most_bytes: usize,
}

impl Ring {
    pub(crate) fn new(most_deltas: usize, most_bytes: usize) -> Self {
        Self {
            epoch: Epoch(0),
            base: Entry {
                revision: 0,
                digest: 0,
                changes: 0,
                payloads: 0,
            },
            entries: VecDeque::new(),
            changes: VecDeque::new(),
            payloads: VecDeque::new(),
            payload_bytes: 0,
            retained: BTreeMap::new(),
            most_deltas,
            most_bytes,
        }
    }

    /// Forgets everything; the next delta applies to `position`, where these payloads are retained.
    pub(crate) fn reset(&mut self, position: Position, retained: &BTreeMap<u32, Bytes>) {
        *self = Self::new(self.most_deltas, self.most_bytes);
        self.epoch = position.epoch;
        self.base.revision = position.revision;
        let retained = retained.iter();
        self.retained = retained
            .map(|(state, payload)| (*state, payload_digest(*state, payload)))
            .collect();
    }

    /// The oldest revision to resume from, and how much the ring holds at most.
    pub(crate) fn bounds(&self) -> (u64, usize, usize) {
        (self.base.revision, self.most_deltas, self.most_bytes)
    }

    /// How many deltas there are, and the bytes they take.
    pub(crate) fn size(&self) -> (usize, usize) {
        let bytes = self.entries.len() * size_of::<Entry>()
            + self.changes.len() * size_of::<Change>()
            + self.payloads.len() * size_of::<Retained>()
            + self.payload_bytes;
        (self.entries.len(), bytes)
    }

    /// Appends what led from the newest revision to `revision`.
    pub(crate) fn push(
        &mut self,
        (revision, digest): (u64, u64),
        changes: &[Change],
        payloads: &[(u32, Option<Bytes>)],
    ) {
        self.changes.extend(changes);
        for (state, payload) in payloads {
            let after = payload.as_ref().map(|new| payload_digest(*state, new));
            let before = match after {
                Some(after) => self.retained.insert(*state, after),
                None => self.retained.remove(state),
            };
            self.payload_bytes += payload.as_ref().map_or(0, Bytes::len);
            self.payloads.push_back(Retained {
                state: *state,
                payload: payload.clone(),
                moved: after.unwrap_or(0).wrapping_sub(before.unwrap_or(0)),
            });
        }
        self.entries.push_back(Entry {
            revision,
            digest,
            changes: self.base.changes + self.changes.len() as u64,
            payloads: self.base.payloads + self.payloads.len() as u64,
        });
        while self.entries.len() > self.most_deltas || self.size().1 > self.most_bytes {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else {
            return;
        };
        let range = |end: u64, start: u64| {
            usize::try_from(end - start).expect("what the ring holds can be counted")
        };
        self.changes
            .drain(..range(oldest.changes, self.base.changes));
        let payloads = self
            .payloads
            .drain(..range(oldest.payloads, self.base.payloads));
        let bytes = payloads.map(|retained| retained.payload.map_or(0, |payload| payload.len()));
        self.payload_bytes -= bytes.sum::<usize>();
        self.base = oldest;
    }

    /// What led from `after` to the newest revision: as one delta, or with `every` as the deltas
    /// there are, at most `most` of them.
    pub(crate) fn since(&self, after: Position, every: bool, most: usize) -> Since {
        if after.epoch != self.epoch {
            return Since::OtherEpoch;
        }
        let after = after.revision;
        let newest = self.entries.back().unwrap_or(&self.base);
        if after >= newest.revision {
            return if after == newest.revision {
                Since::Current
            } else {
                Since::Ahead
            };
        }
        let Some(start) = self.entries_up_to(after) else {
            return Since::Compacted {
                oldest: self.base.revision,
            };
        };
        if every {
            let end = self.entries.len().min(start + most);
            Since::Deltas((start..end).map(|i| self.delta(i, i)).collect())
        } else {
            Since::Deltas(vec![self.delta(start, self.entries.len() - 1)])
        }
    }

    /// As [`Ring::since`], of nothing but the selected states, and up to the revision of `now`, of which
    /// it also says the digest of these.
    #[cfg(feature = "replica")]
    pub(crate) fn since_of(
        &self,
        after: Position,
        every: bool,
        most: usize,
        selection: &Selection,
        now: (u64, u64),
    ) -> Since {
        if after.epoch != self.epoch {
            return Since::OtherEpoch;
        }
        let (until, mut digest) = now;
        if after.revision == until {
            return Since::Current;
        }
        let newest = self.entries.back().unwrap_or(&self.base);
        if after.revision > until {
            // It may well be ahead of `now` and not of the ring.
            return if after.revision > newest.revision {
                Since::Ahead
            } else {
                Since::Current
            };
        }
        let ends = self
            .entries_up_to(after.revision)
            .zip(self.entries_up_to(until));
        let Some((start, end)) = ends else {
            return Since::Compacted {
                oldest: self.base.revision,
            };
        };
        let places: Vec<(usize, usize)> = if every {
            (start..end).map(|i| (i, i)).collect()
        } else {
            vec![(start, end - 1)]
        };
        // Digests are known from behind; only of the first deltas more is wanted.
        let mut deltas = Vec::new();
        for (place, (first, last)) in places.iter().enumerate().rev() {
            if place < most {
                let mut delta = self.delta(*first, *last);
                delta.digest = digest;
                delta
                    .changes
                    .retain(|change| selection.contains(change.state as usize));
                delta
                    .payloads
                    .retain(|(state, _)| selection.contains(*state as usize));
                deltas.push(delta);
            }
            digest = digest.wrapping_sub(self.moved(*first, *last, selection));
        }
        deltas.reverse();
        Since::Deltas(deltas)
    }

    /// By how much the entries from `first` to `last` move the digest of the selected states.
    #[cfg(feature = "replica")]
    fn moved(&self, first: usize, last: usize, selection: &Selection) -> u64 {
        let changes = self.changes_of(first, last);
        let changes = changes.filter(|change| selection.contains(change.state as usize));
        let ticks = changes
            .map(|change| factor(change.state as usize).wrapping_mul(u64::from(change.ticks)));
        let payloads = self.payloads_of(first, last);
        let payloads = payloads.filter(|retained| selection.contains(retained.state as usize));
        let payloads = payloads.map(|retained| retained.moved);
        ticks.chain(payloads).fold(0, u64::wrapping_add)
    }

    /// What moved from `after` to `until`, change by change, if both are revisions to resume
    /// from.
    pub(crate) fn between(&self, after: Position, until: u64) -> Option<Vec<Change>> {
        if after.epoch != self.epoch || after.revision >= until {
            return None;
        }
        let end = |revision| {
            let entries = self.entries_up_to(revision)?;
            Some(if entries == 0 {
                self.base.changes
            } else {
                self.entries[entries - 1].changes
            })
        };
        let changes = self.place(end(after.revision)?)..self.place(end(until)?);
        Some(self.changes.range(changes).copied().collect())
    }

    /// Where in `changes` the change is that was the `count`th ever.
    fn place(&self, count: u64) -> usize {
        usize::try_from(count - self.base.changes).expect("what the ring holds can be counted")
    }

    /// How many entries lead up to `revision`, if it is where one of them ends or the base.
    fn entries_up_to(&self, revision: u64) -> Option<usize> {
        if revision == self.base.revision {
            return Some(0);
        }
        self.entries
            .binary_search_by_key(&revision, |entry| entry.revision)
            .ok()
            .map(|i| i + 1)
    }

    /// What the entries from `first` to `last` come to, not summed yet.
    fn delta(&self, first: usize, last: usize) -> Delta {
        let Entry {
            revision, digest, ..
        } = self.entries[last];
        let payloads = self.payloads_of(first, last);
        Delta {
            base: self.before(first).revision,
            revision,
            digest,
            changes: self.changes_of(first, last).copied().collect(),
            payloads: payloads
                .map(|retained| (retained.state, retained.payload.clone()))
                .collect(),
        }
    }

    /// The entry before that at `first`.
    fn before(&self, first: usize) -> Entry {
        if first == 0 {
            self.base
        } else {
            self.entries[first - 1]
        }
    }

    /// The changes of the entries from `first` to `last`.
    fn changes_of(&self, first: usize, last: usize) -> impl Iterator<Item = &Change> {
        let places = self.place(self.before(first).changes)..self.place(self.entries[last].changes);
        self.changes.range(places)
    }

    /// The payloads of the entries from `first` to `last`.
    fn payloads_of(&self, first: usize, last: usize) -> impl Iterator<Item = &Retained> {
        let place = |count: u64| {
            usize::try_from(count - self.base.payloads).expect("what the ring holds is few")
        };
        let places = place(self.before(first).payloads)..place(self.entries[last].payloads);
        self.payloads.range(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(state: u32, ticks: u32) -> Change {
        Change { state, ticks }
    }

    fn at(revision: u64) -> Position {
        Position {
            epoch: Epoch(0),
            revision,
        }
    }

    fn ring(most_deltas: usize) -> Ring {
        let mut ring = Ring::new(most_deltas, RING_BYTES);
        for i in 1..=4 {
            let changes = [change(9, 1), change(u32::try_from(i).unwrap(), 1)];
            let payload = [(7, Some(Bytes::from("x")))];
            ring.push((i, i * 10), &changes, if i == 2 { &payload } else { &[] });
        }
        ring
    }

    #[test]
    fn what_piled_up_is_one_delta() {
        let Since::Deltas(deltas) = ring(10).since(at(1), false, 10) else {
            panic!()
        };
        let expected = Delta {
            base: 1,
            revision: 4,
            digest: 40,
            changes: vec![change(2, 1), change(3, 1), change(4, 1), change(9, 3)],
            payloads: vec![(7, Some("x".into()))],
        };
        let deltas: Vec<_> = deltas.into_iter().map(Delta::tidy).collect();
        assert_eq!(deltas, [expected]);
    }

    #[test]
    fn every_delta_comes_alone_and_in_order() {
        let Since::Deltas(deltas) = ring(10).since(at(0), true, 3) else {
            panic!()
        };
        let spans: Vec<_> = deltas
            .iter()
            .map(|delta| (delta.base, delta.revision))
            .collect();
        assert_eq!(spans, [(0, 1), (1, 2), (2, 3)]);
    }

    #[test]
    fn a_full_ring_forgets_the_oldest_and_says_so() {
        let ring = ring(2);
        assert_eq!(ring.since(at(1), false, 10), Since::Compacted { oldest: 2 });
        assert!(matches!(ring.since(at(2), false, 10), Since::Deltas(_)));
        assert_eq!(ring.since(at(4), false, 10), Since::Current);
        assert_eq!(ring.size().0, 2);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut ring = Ring::new(1000, 2000);
        for i in 1..=100 {
            let payload = (1, Some(Bytes::from(vec![0; 100])));
            ring.push((i, 0), &[change(1, 1)], &[payload]);
            assert!(ring.size().1 <= 2000);
        }
        assert!(ring.size().0 > 5);
    }

    #[test]
    fn nothing_resumes_inside_a_coalesced_delta() {
        let mut ring = Ring::new(10, RING_BYTES);
        ring.push((5, 0), &[change(1, 1)], &[]);
        assert_eq!(ring.since(at(3), false, 10), Since::Compacted { oldest: 0 });
        assert_eq!(ring.since(at(6), false, 10), Since::Ahead);
    }

    #[test]
    fn the_last_word_on_a_payload_counts() {
        let mut ring = Ring::new(10, RING_BYTES);
        ring.push((1, 0), &[change(1, 1)], &[(1, Some("x".into()))]);
        ring.push((2, 0), &[change(1, 1)], &[(1, None)]);
        let Since::Deltas(deltas) = ring.since(at(0), false, 10) else {
            panic!()
        };
        let deltas: Vec<_> = deltas.into_iter().map(Delta::tidy).collect();
        assert_eq!(deltas[0].payloads, [(1, None)]);
    }

    #[test]
    fn what_moved_between_two_revisions_is_told_while_both_are_held() {
        let moved = Some(vec![change(2, 1), change(3, 1), change(9, 2)]);
        assert_eq!(ring(10).between(at(1), 3).map(summed), moved);
        assert_eq!(ring(10).between(at(3), 3), None);
        assert_eq!(ring(10).between(at(1), 7), None);
        assert_eq!(ring(2).between(at(1), 3), None);
    }

    #[cfg(feature = "replica")]
    #[test]
    fn of_selected_states_digests_are_those_of_what_travels() {
        let builder = (0..8).fold(crate::Schema::builder("Eight"), |builder, i| {
            builder.state(crate::StateDef::new(format!("S{i}")))
        });
        let schema = builder.build().unwrap();
        let selection = Selection::of(&schema, [1, 3]);
        let mut ring = Ring::new(10, RING_BYTES);
        ring.reset(at(0), &[(1, Bytes::from("old"))].into());
        let kept = Some(Bytes::from("new"));
        ring.push(
            (1, 0),
            &[change(1, 1), change(2, 1)],
            &[(1, kept.clone()), (2, kept)],
        );
        ring.push((2, 0), &[change(2, 1)], &[(2, None)]);
        ring.push((3, 0), &[change(3, 2)], &[(1, None)]);
        ring.push((4, 0), &[change(5, 1)], &[]);
        let old = payload_digest(1, b"old");
        let first = 100_u64.wrapping_add(old);
        let second = (first.wrapping_sub(old))
            .wrapping_add(factor(1))
            .wrapping_add(payload_digest(1, b"new"));
        let last = second
            .wrapping_sub(payload_digest(1, b"new"))
            .wrapping_add(factor(3).wrapping_mul(2));
        let since = |after, every| ring.since_of(at(after), every, 10, &selection, (3, last));
        let Since::Deltas(each) = since(0, true) else {
            panic!()
        };
        let digests: Vec<_> = each.iter().map(|delta| delta.digest).collect();
        assert_eq!(digests, [second, second, last]);
        assert_eq!(each[1].changes, []);
        let Since::Deltas(sum) = since(0, false) else {
            panic!()
        };
        assert_eq!((sum[0].revision, sum[0].digest), (3, last));
        assert_eq!(sum[0].changes, [change(1, 1), change(3, 2)]);
        assert_eq!(since(3, false), Since::Current);
        assert_eq!(
            since(4, false),
            Since::Current,
            "ahead of what is shown, not of the ring"
        );
        assert_eq!(since(5, false), Since::Ahead);
    }

    #[test]
    fn another_epoch_has_no_deltas_here() {
        let after = Position {
            epoch: Epoch(1),
            revision: 2,
        };
        assert_eq!(ring(10).since(after, false, 10), Since::OtherEpoch);
    }
}
