//! The relations of a schema in the form that a transition reads: bit masks in both directions.
//!
//! Costs follow the number of relation entries, never the number of states squared.

use crate::schema::{Lists, as_index};
use crate::tables::flag;

/// No sort key: the state neither requires nor is required (rule R10).
pub(crate) const KEYLESS: u32 = u32::MAX;

/// The states of one word of a bitset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WordMask {
    pub(crate) word: u32,
    pub(crate) mask: u64,
}

impl WordMask {
    /// The first state of `bits`, some of the word's.
    #[inline]
    pub(crate) fn first(self, bits: u64) -> Option<u32> {
        (bits != 0).then(|| self.word * 64 + bits.trailing_zeros())
    }
}

/// What a transition reads of one state; list fields are where its part of a pool starts.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    factor: u64,
    key: u32,
    place: u32,
    flags: u8,
    has_add: bool,
    one_way: bool,
    remove: u32,
    removed_by: u32,
    require: u32,
    required_by: u32,
    add: u32,
    auto_removed: u32,
}

/// Everything that a machine derives once from a schema's flags and relations.
#[derive(Debug)]
pub(crate) struct Compiled {
    rows: Vec<Row>,
    remove: Vec<WordMask>,
    removed_by: Vec<WordMask>,
    require: Vec<WordMask>,
    required_by: Vec<u32>,
    add: Vec<u32>,
    auto_removed: Vec<u32>,
    after: Lists,
    by_key: Vec<u32>,
    after_live: bool,
    require_cycle: Option<u32>,
}

impl Compiled {
    pub(crate) fn new(flags: &[u8], [require, add, remove, after]: &[Lists; 4]) -> Self {
        let removed_by = remove.reversed();
        let required_by = require.reversed();
        let (by_key, require_cycle) = match require_order(require) {
            Ok(order) => (order, None),
            Err(state) => (Vec::new(), Some(state)),
        };
        let mut compiled = Self {
            rows: Vec::with_capacity(flags.len() + 1),
            remove: Vec::new(),
            removed_by: Vec::new(),
            require: Vec::new(),
            required_by: Vec::new(),
            add: Vec::new(),
            auto_removed: Vec::new(),
            after: after.clone(),
            by_key,
            after_live: false,
            require_cycle,
        };
        for (i, flags) in flags.iter().enumerate() {
            let row = compiled.row_here(i, *flags, !add.of(i).is_empty());
            compiled.rows.push(row);
            push_masks(&mut compiled.remove, remove.of(i));
            push_masks(&mut compiled.removed_by, removed_by.of(i));
            push_masks(&mut compiled.require, require.of(i));
            compiled.required_by.extend(required_by.of(i));
            compiled.add.extend(add.of(i));
        }
        let end = compiled.row_here(flags.len(), 0, false);
        compiled.rows.push(end);

        for i in 0..flags.len() {
            compiled.rows[i].auto_removed = as_index(compiled.auto_removed.len());
            let autos = remove
                .of(i)
                .iter()
                .filter(|r| flags[**r as usize] & flag::AUTO != 0);
            compiled.auto_removed.extend(autos);
        }
        compiled.rows[flags.len()].auto_removed = as_index(compiled.auto_removed.len());
        for (key, state) in (0..).zip(&compiled.by_key) {
            compiled.rows[*state as usize].key = key;
        }
        compiled.after_live = (0..as_index(flags.len())).any(|later| {
            let mut firsts = after.of(later as usize).iter();
            firsts.any(|first| compiled.comes_after(later, *first))
        });
        for state in 0..as_index(flags.len()) {
            let mut removers = compiled.removed_by(state).iter();
            let one_way = removers.any(|by| {
                let mut back = compiled.remove(state).iter();
                !back.any(|entry| entry.word == by.word && by.mask & !entry.mask == 0)
            });
            let row = &mut compiled.rows[state as usize];
            row.one_way = one_way;
            if !compiled.after_live {
                row.place = row.key;
            }
        }
        compiled
    }

    fn row_here(&self, index: usize, flags: u8, has_add: bool) -> Row {
        Row {
            factor: factor(index),
            key: KEYLESS,
            place: KEYLESS,
            flags,
            has_add,
            one_way: false,
            remove: as_index(self.remove.len()),
            removed_by: as_index(self.removed_by.len()),
            require: as_index(self.require.len()),
            required_by: as_index(self.required_by.len()),
            add: as_index(self.add.len()),
            auto_removed: 0,
        }
    }

    /// The number of states.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() - 1
    }

    /// What a tick of `state` adds to the digest.
    #[inline]
    pub(crate) fn factor(&self, state: u32) -> u64 {
        self.rows[state as usize].factor
    }

    #[inline]
    pub(crate) fn is_auto(&self, state: u32) -> bool {
        self.rows[state as usize].flags & flag::AUTO != 0
    }

    #[inline]
    pub(crate) fn is_multi(&self, state: u32) -> bool {
        self.rows[state as usize].flags & flag::MULTI != 0
    }

    #[inline]
    pub(crate) fn is_retained(&self, state: u32) -> bool {
        self.rows[state as usize].flags & flag::RETAIN != 0
    }

    /// Whether the state adds others.
    #[inline]
    pub(crate) fn has_add(&self, state: u32) -> bool {
        self.rows[state as usize].has_add
    }

    /// The state's place among those that require or are required, [`KEYLESS`] elsewhere.
    #[inline]
    pub(crate) fn key(&self, state: u32) -> u32 {
        self.rows[state as usize].key
    }

    /// The states with a key, by key.
    pub(crate) fn by_key(&self) -> &[u32] {
        &self.by_key
    }

    /// Where the active list keeps the state: by key, or elsewhere if [`KEYLESS`].
    #[inline]
    pub(crate) fn place(&self, state: u32) -> u32 {
        self.rows[state as usize].place
    }

    /// Whether some state removes this one and is not removed by it.
    #[inline]
    pub(crate) fn has_one_way_removers(&self, state: u32) -> bool {
        self.rows[state as usize].one_way
    }

    #[inline]
    pub(crate) fn remove(&self, state: u32) -> &[WordMask] {
        &self.remove[self.part(state, |row| row.remove)]
    }

    #[inline]
    pub(crate) fn removed_by(&self, state: u32) -> &[WordMask] {
        &self.removed_by[self.part(state, |row| row.removed_by)]
    }

    #[inline]
    pub(crate) fn require(&self, state: u32) -> &[WordMask] {
        &self.require[self.part(state, |row| row.require)]
    }

    #[inline]
    pub(crate) fn required_by(&self, state: u32) -> &[u32] {
        &self.required_by[self.part(state, |row| row.required_by)]
    }

    #[inline]
    pub(crate) fn add(&self, state: u32) -> &[u32] {
        &self.add[self.part(state, |row| row.add)]
    }

    /// The auto states that this one removes.
    #[inline]
    pub(crate) fn auto_removed(&self, state: u32) -> &[u32] {
        &self.auto_removed[self.part(state, |row| row.auto_removed)]
    }

    /// Whether any two states have to stand in an order that After gives them.
    #[inline]
    pub(crate) fn after_live(&self) -> bool {
        self.after_live
    }

    /// A state that requires itself, through others or directly.
    pub(crate) fn require_cycle(&self) -> Option<u32> {
        self.require_cycle
    }

    /// Whether `later` has to move in front of nothing but behind `first` (rule R10): it lists
    /// `first` in After and is not listed there in turn.
    pub(crate) fn comes_after(&self, later: u32, first: u32) -> bool {
        self.after.of(later as usize).contains(&first)
            && !self.after.of(first as usize).contains(&later)
    }

    #[inline]
    fn part(&self, state: u32, start: impl Fn(&Row) -> u32) -> std::ops::Range<usize> {
        let rows = &self.rows[state as usize..][..2];
        start(&rows[0]) as usize..start(&rows[1]) as usize
    }
}

/// The sequence of a depth-first walk along Require (rule R10), or a state on a cycle.
fn require_order(require: &Lists) -> Result<Vec<u32>, u32> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; require.len()];
    let mut order = Vec::new();
    // A stack of its own: chains of requirements may be as long as the schema.
    let mut path: Vec<(u32, usize)> = Vec::new();
    for start in 0..require.len() {
        if require.of(start).is_empty() || marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        path.push((as_index(start), 0));
        while let Some((state, place)) = path.last_mut() {
            let state = *state;
            match require.of(state as usize).get(*place) {
                None => {
                    marks[state as usize] = Mark::Done;
                    order.push(state);
                    path.pop();
                }
                Some(next) => {
                    *place += 1;
                    match marks[*next as usize] {
                        Mark::New => {
                            marks[*next as usize] = Mark::Open;
                            path.push((*next, 0));
                        }
                        Mark::Open => return Err(*next),
                        Mark::Done => {}
                    }
                }
            }
        }
    }
    Ok(order)
}

fn push_masks(pool: &mut Vec<WordMask>, states: &[u32]) {
    let start = pool.len();
    for state in states {
        let (word, mask) = (state / 64, 1 << (state % 64));
        match pool[start..].iter_mut().find(|entry| entry.word == word) {
            Some(entry) => entry.mask |= mask,
            None => pool.push(WordMask { word, mask }),
        }
    }
}

/// The digest's odd factor of a state: the finaliser of `SplitMix64` over its index.
pub(crate) fn factor(index: usize) -> u64 {
    let mut x = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)) | 1
}
