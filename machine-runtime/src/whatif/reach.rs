//! Which states have a say in whether one is active, and what it cannot do without.

use crate::machine::Machine;
use crate::mutation::Op;
use crate::schema::{Relation, Schema, as_index};
use crate::state::DynState;

/// How many needs are looked at; what is left out costs tries.
const MOST_NEEDS: usize = 16;

/// The states that have a say in whether one, or any of some, is active: what it requires, what removes it, what adds it,
/// what it has to stand before or behind, and whoever has a say in those.
pub(super) struct Reach {
    /// The nearest first, the states themselves at the front.
    pub(super) near: Vec<u32>,
    /// Where a state stands in `near`, if it does.
    place: Vec<Option<usize>>,
    added_by: Vec<Vec<u32>>,
    required: Vec<u32>,
}

impl Reach {
    pub(super) fn of(schema: &Schema, states: &[u32]) -> Self {
        let count = schema.len();
        let reversed = |relation| {
            let mut reversed = vec![Vec::new(); count];
            for from in 0..count {
                for to in schema.related(relation, from) {
                    reversed[*to as usize].push(as_index(from));
                }
            }
            reversed
        };
        let (added_by, removed_by) = (reversed(Relation::Add), reversed(Relation::Remove));
        let before = reversed(Relation::After);
        let near = closure(count, states, |state| {
            let index = state as usize;
            let has_say = [
                schema.related(Relation::Require, index),
                &removed_by[index],
                &added_by[index],
                schema.related(Relation::After, index),
                &before[index],
            ];
            has_say.concat()
        });
        let mut place = vec![None; count];
        for (i, state) in near.iter().enumerate() {
            place[*state as usize] = Some(i);
        }
        let required = closure(count, states, |state| {
            schema.related(Relation::Require, state as usize).to_vec()
        });
        Self {
            near,
            place,
            added_by,
            required,
        }
    }

    pub(super) fn has(&self, state: u32) -> bool {
        self.place[state as usize].is_some()
    }

    /// What has to be called so that the state is active afterwards: itself and all that it requires can
    /// only come from what is called, unless it is there or comes by itself.
    pub(super) fn needs(&self, machine: &Machine<DynState>, op: Op) -> Needs {
        let schema = machine.schema();
        let mut needs = Vec::new();
        for state in &self.required {
            let sources = closure(schema.len(), &[*state], |state| {
                self.added_by[state as usize].clone()
            });
            let stays = |source: &u32| {
                let is_multi = schema.is_multi(*source as usize);
                let adds = is_multi || source == state;
                op != Op::Set && adds && machine.is_active(DynState(*source))
            };
            let comes = |source: &u32| schema.is_auto(*source as usize);
            if !sources.iter().any(|source| stays(source) || comes(source)) {
                let places = sources.iter().map(|source| self.place[*source as usize]);
                let places: Option<Vec<usize>> = places.collect();
                let mut places = places.expect("what adds a state in reach is in reach");
                places.sort_unstable();
                needs.push(places);
            }
            if needs.len() == MOST_NEEDS {
                break;
            }
        }
        // The one that leaves least choice first.
        needs.sort_by_key(Vec::len);
        Needs(needs)
    }
}

/// Lists of places in reach: of each at least one has to be called.
#[derive(Default)]
pub(super) struct Needs(Vec<Vec<usize>>);

impl Needs {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, need: usize) -> &[usize] {
        &self.0[need]
    }

    /// Those that none of `called` meets.
    pub(super) fn open(&self, called: &[usize]) -> Vec<usize> {
        let is_met =
            |need: &Vec<usize>| called.iter().any(|place| need.binary_search(place).is_ok());
        let open = self.0.iter().enumerate().filter(|(_, need)| !is_met(need));
        open.map(|(i, _)| i).collect()
    }

    /// The places that meet all of `needs`.
    pub(super) fn all<'a>(&'a self, needs: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        let first = needs.first().map_or(&[][..], |first| self.of(*first));
        let meets = |place: &usize| {
            let mut others = needs.iter().skip(1);
            others.all(|need| self.of(*need).binary_search(place).is_ok())
        };
        first.iter().copied().filter(meets)
    }
}

/// What `next` leads to from these states on, the nearest first.
fn closure(count: usize, from: &[u32], mut next: impl FnMut(u32) -> Vec<u32>) -> Vec<u32> {
    let mut seen = vec![false; count];
    let is_new =
        |seen: &mut Vec<bool>, state: u32| !std::mem::replace(&mut seen[state as usize], true);
    let mut list = Vec::new();
    for state in from {
        if is_new(&mut seen, *state) {
            list.push(*state);
        }
    }
    let mut i = 0;
    while i < list.len() {
        for other in next(list[i]) {
            if is_new(&mut seen, other) {
                list.push(other);
            }
        }
        i += 1;
    }
    list
}
