//! A set of states: one bit each, in index order.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{BitAnd, BitOr, Sub};

use crate::state::{State, Words};

/// A set of the states of one schema.
///
/// ```
/// use machine_runtime::{DynState, StateSet};
///
/// let a: StateSet<DynState> = [DynState(1), DynState(70)].into_iter().collect();
/// let b = StateSet::from(DynState(70));
/// assert!(a.contains(DynState(70)) && a.contains_all(&b));
/// assert_eq!((a - &b).iter().collect::<Vec<_>>(), [DynState(1)]);
/// ```
pub struct StateSet<S: State> {
    words: S::Words,
}

impl<S: State> StateSet<S> {
    /// The set without a state.
    pub const EMPTY: Self = Self {
        words: S::Words::EMPTY,
    };

    /// The set whose bits are `words`, 64 states a word, the lowest bit first.
    pub const fn from_words(words: S::Words) -> Self {
        Self { words }
    }

    /// The bits, 64 states a word, the lowest bit first.
    pub fn words(&self) -> &[u64] {
        self.words.words()
    }

    /// Whether `state` is a member.
    pub fn contains(&self, state: S) -> bool {
        let index = state.index();
        self.words()
            .get(index / 64)
            .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Whether every member of `other` is a member.
    pub fn contains_all(&self, other: &Self) -> bool {
        (0..other.words().len()).all(|i| other.words()[i] & !self.word(i) == 0)
    }

    /// Whether some member of `other` is a member.
    pub fn contains_any(&self, other: &Self) -> bool {
        (0..other.words().len()).any(|i| other.words()[i] & self.word(i) != 0)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.words().iter().all(|word| *word == 0)
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.words()
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Makes `state` a member; says whether it was none before.
    pub fn insert(&mut self, state: S) -> bool {
        let index = state.index();
        let word = &mut self.words.words_mut(index / 64 + 1)[index / 64];
        let before = *word;
        *word |= 1 << (index % 64);
        *word != before
    }

    /// Takes `state` out; says whether it was a member.
    pub fn remove(&mut self, state: S) -> bool {
        let was = self.contains(state);
        if was {
            let index = state.index();
            self.words.words_mut(index / 64 + 1)[index / 64] &= !(1 << (index % 64));
        }
        was
    }

    /// The members in index order.
    pub fn iter(&self) -> impl Iterator<Item = S> + '_ {
        ones(self.words()).filter_map(S::from_index)
    }

    fn word(&self, i: usize) -> u64 {
        self.words().get(i).copied().unwrap_or(0)
    }

    fn combine(mut self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let len = self.words().len().max(other.words().len());
        let words = self.words.words_mut(len);
        for (i, word) in words.iter_mut().enumerate() {
            *word = op(*word, other.word(i));
        }
        self
    }
}

/// The positions of the set bits of `words`, lowest first.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(i, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                i * 64 + bit
            })
        })
    })
}

impl<S: State> Clone for StateSet<S> {
    fn clone(&self) -> Self {
        Self {
            words: self.words.clone(),
        }
    }
}

impl<S: State> PartialEq for StateSet<S> {
    fn eq(&self, other: &Self) -> bool {
        self.contains_all(other) && other.contains_all(self)
    }
}

impl<S: State> Eq for StateSet<S> {}

impl<S: State> Hash for StateSet<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for i in ones(self.words()) {
            i.hash(state);
        }
    }
}

impl<S: State> Default for StateSet<S> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<S: State> fmt::Debug for StateSet<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<S: State> From<S> for StateSet<S> {
    fn from(state: S) -> Self {
        [state].into_iter().collect()
    }
}

impl<S: State> FromIterator<S> for StateSet<S> {
    fn from_iter<I: IntoIterator<Item = S>>(states: I) -> Self {
        let mut set = Self::EMPTY;
        set.extend(states);
        set
    }
}

impl<S: State> Extend<S> for StateSet<S> {
    fn extend<I: IntoIterator<Item = S>>(&mut self, states: I) {
        for state in states {
            self.insert(state);
        }
    }
}

impl<S: State> BitOr<&Self> for StateSet<S> {
    type Output = Self;

    fn bitor(self, other: &Self) -> Self {
        self.combine(other, |a, b| a | b)
    }
}

impl<S: State> BitAnd<&Self> for StateSet<S> {
    type Output = Self;

    fn bitand(self, other: &Self) -> Self {
        self.combine(other, |a, b| a & b)
    }
}

impl<S: State> Sub<&Self> for StateSet<S> {
    type Output = Self;

    fn sub(self, other: &Self) -> Self {
        self.combine(other, |a, b| a & !b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(states: &[u32]) -> StateSet<DynState> {
        states.iter().copied().map(DynState).collect()
    }

    use crate::state::DynState;

    #[test]
    fn members_come_in_index_order() {
        assert_eq!(
            set(&[130, 3, 64]).iter().collect::<Vec<_>>(),
            [3, 64, 130].map(DynState)
        );
    }

    #[test]
    fn sets_of_other_lengths_compare_by_members() {
        let mut long = set(&[1, 200]);
        assert!(long.remove(DynState(200)) && !long.remove(DynState(200)));
        assert_eq!(long, set(&[1]));
        assert_eq!(long.len(), 1);
    }

    #[test]
    fn algebra_spans_lengths() {
        assert_eq!(set(&[1]) | &set(&[200]), set(&[1, 200]));
        assert_eq!(set(&[1, 200]) & &set(&[200]), set(&[200]));
        assert_eq!(set(&[1, 200]) - &set(&[1]), set(&[200]));
        assert!(set(&[1, 200]).contains_any(&set(&[200])) && !set(&[1]).contains_any(&set(&[200])));
        assert!(set(&[]).is_empty());
    }
}
