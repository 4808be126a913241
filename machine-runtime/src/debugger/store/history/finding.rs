//! Entries by time, by position and by what happened in them.

use std::ops::Range;

use crate::debug::frame::{Body, Key};
use crate::position::{Epoch, Position};

use super::super::chunk::Chunk;
use super::super::flags::Flags;
use super::super::visible::Visible;
use super::{History, Moment, NOWHERE};

impl History {
    /// The last entry at or before `wall`, by the order in which entries were told: one whose wall
    /// clock had stepped back counts as of the latest time told before it, so that times never
    /// decrease with the index. `None` if all are later.
    pub fn last_at(&self, wall: u64) -> Option<usize> {
        let after = self
            .chunks
            .partition_point(|chunk| first_wall(chunk) <= wall);
        let chunk = &self.chunks[after.checked_sub(1)?];
        let mut found = chunk.start;
        for place in 0..chunk.len() {
            if chunk.wall(place) > wall {
                break;
            }
            found = chunk.start + place;
        }
        Some(found)
    }

    /// The first entry at or behind `position`: of the same epoch, and with at least its revision.
    /// `None` if none is held, or if it was forgotten.
    pub fn first_at(&self, position: Position) -> Option<usize> {
        self.segments.iter().enumerate().find_map(|(n, segment)| {
            if segment.epoch != position.epoch {
                return None;
            }
            let end = self.segments.get(n + 1).map_or(self.end, |next| next.start);
            let range = segment.start.max(self.forgotten)..end;
            let first = self.first_in(range.clone(), position.revision);
            if first >= range.end {
                return None;
            }
            let goes_on = first == self.forgotten && segment.start < first;
            Some(
                (!goes_on || self.find(first).0.bases.revision < position.revision)
                    .then_some(first),
            )
        })?
    }

    /// The first of `range`, which is of one segment, with at least `revision`; else its end.
    fn first_in(&self, range: Range<usize>, revision: u64) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.position(middle).revision < revision {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The first entry that left the machine at exactly `position`. `None` if none is held.
    pub fn index_of(&self, position: Position) -> Option<usize> {
        let first = self.first_at(position)?;
        (self.position(first) == position).then_some(first)
    }

    /// The next entry behind `from` (before it, unless `forward`) in which `state` ticked, of those
    /// that `visible` shows if it is given.
    pub fn next_change(
        &self,
        state: u32,
        from: usize,
        forward: bool,
        visible: Option<&Visible>,
    ) -> Option<usize> {
        let changes = |chunk: &Chunk, place: usize| {
            let mut found = false;
            let i = chunk.start + place;
            let flags = chunk.flags(place);
            if flags.contains(Flags::KEY) {
                found = self.by_key(i, state).is_some();
            } else if flags.contains(Flags::CHANGED) {
                chunk.scan(place, |_| {}, |other, _| found |= other == state);
            }
            found && visible.is_none_or(|visible| visible.contains(i))
        };
        if forward {
            let from = (from + 1).max(self.forgotten);
            let mut chunks = self.chunks_from(from);
            chunks.find_map(|chunk| {
                if !chunk.has_changed(state) {
                    return None;
                }
                let first = from.saturating_sub(chunk.start);
                let place = (first..chunk.len()).find(|place| changes(chunk, *place))?;
                Some(chunk.start + place)
            })
        } else {
            let mut chunks = self.chunks.iter().rev();
            chunks.find_map(|chunk| {
                if chunk.start >= from || !chunk.has_changed(state) {
                    return None;
                }
                let places = (0..chunk.len().min(from - chunk.start)).rev();
                let place = places.into_iter().find(|place| changes(chunk, *place))?;
                Some(chunk.start + place)
            })
        }
    }

    /// The ticks of `state` before and after entry `i`, if it is a key that brought it to another one
    /// than what was told before: what did so was lost. The first entry of all changes nothing.
    fn by_key(&self, i: usize, state: u32) -> Option<(u64, u64)> {
        let of = |moment: &Moment| moment.ticks.get(state as usize).copied();
        let before = of(&self.ticks_before(i))?;
        let after = of(&self.ticks_after(i))?;
        (i > 0 && before != after).then_some((before, after))
    }

    /// Whether `state` began or ended in entry `i`.
    pub fn has_turned(&self, i: usize, state: u32) -> bool {
        if self.flags(i).contains(Flags::KEY) {
            let ticks = self.by_key(i, state);
            return ticks.is_some_and(|(before, after)| before % 2 != after % 2);
        }
        let mut ticks = 0;
        self.changes(i, |other, by| {
            if other == state {
                ticks += by;
            }
        });
        ticks % 2 == 1
    }

    /// The nearest key at or before entry `i` that knows the order of the active list.
    pub fn key_before(&self, i: usize) -> Option<(usize, Box<Key>)> {
        let mut chunks = self.chunks.iter().rev();
        chunks.find_map(|chunk| {
            if chunk.start > i || !chunk.any.contains(Flags::KEY) {
                return None;
            }
            let places = 0..chunk.len().min(i + 1 - chunk.start);
            places.rev().find_map(|place| {
                if !chunk.flags(place).contains(Flags::KEY) {
                    return None;
                }
                let Body::Key(key) = chunk.entry(place, NOWHERE.epoch).2 else {
                    return None;
                };
                let active = key.ticks.iter().any(|tick| tick % 2 == 1);
                let is_known = !key.order.is_empty() || !active;
                is_known.then_some((chunk.start + place, key))
            })
        })
    }

    /// Whether something of an epoch is held.
    pub(in super::super) fn has_epoch(&self, epoch: Epoch) -> bool {
        self.segments.iter().any(|segment| segment.epoch == epoch)
    }

    /// The last entry of an epoch.
    pub(in super::super) fn last_of(&self, epoch: Epoch) -> Option<usize> {
        let place = self
            .segments
            .iter()
            .rposition(|segment| segment.epoch == epoch)?;
        let next = self.segments.get(place + 1);
        let end = next.map_or(self.end, |next| next.start);
        end.checked_sub(1).filter(|i| self.range().contains(i))
    }

    /// The chunks that name `trace`.
    pub(in super::super) fn with_trace(&self, trace: u128) -> impl Iterator<Item = usize> {
        let chunks = self
            .chunks
            .iter()
            .filter(move |chunk| chunk.has_trace(trace));
        chunks.flat_map(move |chunk| {
            let places = 0..chunk.len();
            let of = move |place: &usize| chunk.trace(*place).is_some_and(|t| t.trace == trace);
            places.filter(of).map(|place| chunk.start + place)
        })
    }
}

/// From when on a chunk counts: see [`History::last_at`].
fn first_wall(chunk: &Chunk) -> u64 {
    chunk.latest_before.max(chunk.bases.wall)
}
