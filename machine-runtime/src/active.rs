//! Which states are active, and in which order.
//!
//! The order of the active list decides later results (rules R1, R8), so it is kept exactly. For
//! a list that rule R10 has sorted, it is: the states without a sort key in an order of their own
//! (a linked list here), then those with one by key (a bitset over keys here). Where After puts
//! states in an order, the linked list holds them all.

use crate::relations::{Compiled, KEYLESS, WordMask};
use crate::set::ones;

/// A state's place in the linked list.
#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    /// The order of members by number, to compare two without a walk.
    stamp: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Active {
    bits: Vec<u64>,
    keyed: Vec<u64>,
    /// The linked list; the last element stands for both of its ends.
    links: Vec<Link>,
    /// The stamps of the next one at either end.
    front: i64,
    back: i64,
}

impl Active {
    pub(crate) fn new(c: &Compiled) -> Self {
        let n = c.len();
        let end = crate::schema::as_index(n);
        let alone = Link {
            prev: end,
            next: end,
            stamp: 0,
        };
        Self {
            bits: vec![0; n.div_ceil(64)],
            keyed: vec![0; c.by_key().len().div_ceil(64)],
            links: vec![alone; n + 1],
            front: -1,
            back: 0,
        }
    }

    pub(crate) fn bits(&self) -> &[u64] {
        &self.bits
    }

    #[inline]
    pub(crate) fn contains(&self, state: u32) -> bool {
        self.bits[state as usize / 64] >> (state % 64) & 1 == 1
    }

    /// Sets the bit of `state` and leaves the order alone.
    #[inline]
    pub(crate) fn set_bit(&mut self, state: u32) {
        self.bits[state as usize / 64] |= 1 << (state % 64);
    }

    /// Clears the bit of `state` and leaves the order alone.
    #[inline]
    pub(crate) fn clear_bit(&mut self, state: u32) {
        self.bits[state as usize / 64] &= !(1 << (state % 64));
    }

    /// Clears the bits of `entry` and leaves the order alone.
    #[inline]
    pub(crate) fn clear(&mut self, entry: WordMask) {
        self.bits[entry.word as usize] &= !entry.mask;
    }

    /// The active ones of `entry`.
    #[inline]
    pub(crate) fn hits(&self, entry: WordMask) -> u64 {
        self.bits[entry.word as usize] & entry.mask
    }

    /// The first active state of `masks`.
    #[inline]
    pub(crate) fn any(&self, masks: &[WordMask]) -> Option<u32> {
        masks
            .iter()
            .find_map(|entry| entry.first(self.hits(*entry)))
    }

    /// The first inactive state of `masks`.
    #[inline]
    pub(crate) fn lacks(&self, masks: &[WordMask]) -> Option<u32> {
        masks
            .iter()
            .find_map(|entry| entry.first(entry.mask & !self.hits(*entry)))
    }

    /// Puts `state` at the front of the order.
    #[inline]
    pub(crate) fn push_front(&mut self, c: &Compiled, state: u32) {
        if let Some(key) = key(c, state) {
            self.keyed[key as usize / 64] |= 1 << (key % 64);
        } else {
            let end = self.end();
            let stamp = self.front;
            self.front -= 1;
            self.link(end, state, self.links[end as usize].next, stamp);
        }
    }

    /// Puts `state` behind the others that have no key.
    #[inline]
    pub(crate) fn push_back(&mut self, c: &Compiled, state: u32) {
        if let Some(key) = key(c, state) {
            self.keyed[key as usize / 64] |= 1 << (key % 64);
        } else {
            let end = self.end();
            let stamp = self.back;
            self.back += 1;
            self.link(self.links[end as usize].prev, state, end, stamp);
        }
    }

    /// Takes `state` out of the order.
    #[inline]
    pub(crate) fn unlink(&mut self, c: &Compiled, state: u32) {
        if let Some(key) = key(c, state) {
            self.keyed[key as usize / 64] &= !(1 << (key % 64));
        } else {
            let Link { prev, next, .. } = self.links[state as usize];
            self.links[prev as usize].next = next;
            self.links[next as usize].prev = prev;
        }
    }

    /// The active list, in order.
    pub(crate) fn order<'a>(&'a self, c: &'a Compiled) -> impl Iterator<Item = u32> + 'a {
        let end = self.end();
        let listed = std::iter::successors(Some(self.links[end as usize].next), move |state| {
            Some(self.links[*state as usize].next)
        })
        .take_while(move |state| *state != end);
        listed.chain(ones(&self.keyed).map(|key| c.by_key()[key]))
    }

    /// Where an active state stands in the order, to be compared with others.
    pub(crate) fn rank(&self, c: &Compiled, state: u32) -> (u32, i64) {
        match key(c, state) {
            Some(key) => (key + 1, 0),
            None => (0, self.links[state as usize].stamp),
        }
    }

    /// Makes `list` the order; the bits are left alone.
    pub(crate) fn set_order(&mut self, c: &Compiled, list: &[u32]) {
        let end = self.end();
        self.links[end as usize].next = end;
        self.links[end as usize].prev = end;
        self.keyed.fill(0);
        (self.front, self.back) = (-1, 0);
        for state in list {
            self.push_back(c, *state);
        }
    }

    fn end(&self) -> u32 {
        crate::schema::as_index(self.links.len() - 1)
    }

    #[inline]
    fn link(&mut self, prev: u32, state: u32, next: u32, stamp: i64) {
        self.links[prev as usize].next = state;
        self.links[state as usize] = Link { prev, next, stamp };
        self.links[next as usize].prev = state;
    }
}

#[inline]
fn key(c: &Compiled, state: u32) -> Option<u32> {
    let key = c.place(state);
    (key != KEYLESS).then_some(key)
}

/// Calls `f` with every state of `bits`, the word of `entry`.
#[inline]
pub(crate) fn each(entry: WordMask, mut bits: u64, mut f: impl FnMut(u32)) {
    while bits != 0 {
        f(entry.word * 64 + bits.trailing_zeros());
        bits &= bits - 1;
    }
}
