//! The keys of the last writes, and what came of these.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use xxhash_rust::xxh3::Xxh3Default;

use crate::mutation::Op;
use crate::queue::Waiting;
use crate::write::{Key, Receipt};

/// How many mutations with keys a root remembers: the last of them. A key that is older is taken
/// for a new one.
pub const KEYS: usize = 65_536;

/// What a root remembers of writes with keys.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: HashMap<Key, Known>,
    /// The oldest first.
    order: VecDeque<Key>,
    /// How many receipts there are in all; what bounds the memory.
    receipts: usize,
}

#[derive(Debug)]
struct Known {
    /// The hash of the mutations.
    content: u128,
    receipts: Vec<Receipt<u32>>,
}

/// A key that names other mutations already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reused;

impl Keys {
    /// What came of the write of this key, if it is known.
    ///
    /// # Errors
    ///
    /// If that was another write.
    pub(crate) fn receipts(
        &self,
        key: &Key,
        content: u128,
    ) -> Result<Option<&[Receipt<u32>]>, Reused> {
        match self.known.get(key) {
            None => Ok(None),
            Some(known) if known.content == content => Ok(Some(&known.receipts)),
            Some(_) => Err(Reused),
        }
    }

    /// Remembers what came of a write, and forgets the oldest where there are too many.
    pub(crate) fn remember(&mut self, key: Key, content: u128, receipts: Vec<Receipt<u32>>) {
        let Entry::Vacant(place) = self.known.entry(key.clone()) else {
            return;
        };
        self.receipts += receipts.len().max(1);
        place.insert(Known { content, receipts });
        self.order.push_back(key);
        while self.receipts > KEYS {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            if let Some(forgotten) = self.known.remove(&oldest) {
                self.receipts -= forgotten.receipts.len().max(1);
            }
        }
    }
}

/// A hash that tells mutations apart.
pub(crate) fn content(calls: &[Waiting]) -> u128 {
    let mut hash = Xxh3Default::new();
    for call in calls {
        let op = match call.op {
            Op::Add => 0_u32,
            Op::Remove => 1,
            Op::Set => 2,
            Op::Toggle => 3,
        };
        let called = crate::schema::as_index(call.called.len());
        let payloads = crate::schema::as_index(call.payloads.len());
        for number in [op, called, payloads].iter().chain(&call.called) {
            hash.update(&number.to_le_bytes());
        }
        for (state, payload) in &call.payloads {
            hash.update(&state.to_le_bytes());
            hash.update(&crate::schema::as_index(payload.len()).to_le_bytes());
            hash.update(payload);
        }
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::{Outcome, Payloads};
    use crate::position::{Epoch, Position};

    fn receipts(count: usize) -> Vec<Receipt<u32>> {
        let position = Position {
            epoch: Epoch(1),
            revision: 1,
        };
        let outcome = Outcome::Executed;
        vec![Receipt { outcome, position }; count]
    }

    fn key(i: usize) -> Key {
        Key::new(i.to_le_bytes()).unwrap()
    }

    #[test]
    fn a_key_stands_for_one_write() {
        let mut keys = Keys::default();
        assert_eq!(keys.receipts(&key(1), 7), Ok(None));
        keys.remember(key(1), 7, receipts(2));
        assert_eq!(keys.receipts(&key(1), 7), Ok(Some(&receipts(2)[..])));
        assert_eq!(keys.receipts(&key(1), 8), Err(Reused));
        assert_eq!(keys.receipts(&key(2), 8), Ok(None));
    }

    #[test]
    fn the_oldest_are_forgotten_first_and_long_writes_count_for_more() {
        let mut keys = Keys::default();
        for i in 0..KEYS {
            keys.remember(key(i), 7, receipts(1));
        }
        assert!(keys.receipts(&key(0), 7).unwrap().is_some());
        keys.remember(key(KEYS), 7, receipts(100));
        assert_eq!(keys.receipts(&key(99), 7), Ok(None));
        assert!(keys.receipts(&key(100), 7).unwrap().is_some());
        assert_eq!((keys.known.len(), keys.order.len()), (KEYS - 99, KEYS - 99));
    }

    #[test]
    fn what_is_asked_for_makes_the_hash() {
        let call = |op, called: &[u32], payload: &'static str| Waiting {
            cause: crate::handlers::Cause::Call,
            is_error: false,
            op,
            called: called.iter().copied().collect(),
            payloads: if payload.is_empty() {
                Payloads::new()
            } else {
                [(called[0], payload.into())].into_iter().collect()
            },
        };
        let calls = [
            vec![call(Op::Add, &[1, 2], "")],
            vec![call(Op::Set, &[1, 2], "")],
            vec![call(Op::Add, &[2, 1], "")],
            vec![call(Op::Add, &[1], ""), call(Op::Add, &[2], "")],
            vec![call(Op::Add, &[1, 2], "x")],
            vec![call(Op::Add, &[1, 2], "y")],
            vec![],
        ];
        let hashes: std::collections::BTreeSet<_> = calls.iter().map(|c| content(c)).collect();
        assert_eq!(hashes.len(), calls.len());
    }
}
