//! Schemas from elsewhere: nothing of them is believed before it was looked at.

use std::collections::BTreeSet;

use super::{Axis, EXCEPTION, Group, Lists, MAX_STATES, Parts, Relation, Schema, as_index};
use crate::debug::portable::{
    MAX_AXES, MAX_GROUPS, MAX_RELATED, PortableAxis, PortableGroup, PortableSchema,
};
use crate::tables::flag;

/// The flags that there are.
const FLAGS: u8 = flag::AUTO | flag::MULTI | flag::PAYLOAD | flag::RETAIN | flag::REDACT;

/// The most that the work of compiling relations may come to, in comparisons of two states.
const WORK: u64 = 1 << 31;

/// What travelled is no schema, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the schema `{name}` cannot be: {why}")]
pub struct InvalidSchema {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl PortableSchema {
    /// What travels of a schema.
    pub fn of(schema: &Schema) -> Self {
        let axes = schema.axes.iter().map(|axis| PortableAxis {
            name: axis.name.clone(),
            bounds: (axis.first, axis.last),
            values: (0..schema.len())
                .map(|state| axis.value(state).map(as_index))
                .collect(),
        });
        let groups = schema.groups.iter().map(|group| PortableGroup {
            name: group.name.clone(),
            exclusive: group.exclusive,
            axes: group.axes.iter().map(|axis| as_index(*axis)).collect(),
            families: group.members.iter().map(<[u32]>::to_vec).collect(),
        });
        Self {
            name: schema.name.clone(),
            states: (0..schema.len()).map(|i| schema.shape(i)).collect(),
            axes: axes.collect(),
            groups: groups.collect(),
        }
    }

    /// The schema itself, with the same fingerprint.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with it.
    pub fn to_schema(&self) -> Result<Schema, InvalidSchema> {
        self.parts()
            .map(Schema::from_parts)
            .map_err(|why| InvalidSchema {
                name: self.name.chars().take(64).collect(),
                why,
            })
    }

    fn parts(&self) -> Result<Parts, String> {
        let states = self.states.len();
        if states > MAX_STATES {
            return Err(format!(
                "it has {states} states, and {MAX_STATES} are the most"
            ));
        }
        let mut parts = Parts {
            name: self.name.clone(),
            ..Parts::default()
        };
        let mut known = BTreeSet::new();
        for state in &self.states {
            if !known.insert(state.name.as_str()) {
                return Err(format!("the state `{}` is there twice", state.name));
            }
            if state.flags & !FLAGS != 0 {
                return Err(format!("`{}` has unknown flags", state.name));
            }
            parts.names.push_str(&state.name);
            parts.name_ends.push(as_index(parts.names.len()));
            parts.flags.push(state.flags);
        }
        if !known.contains(EXCEPTION) {
            return Err(format!("it has no state `{EXCEPTION}`"));
        }
        self.check_work()?;
        for (i, state) in self.states.iter().enumerate() {
            for relation in Relation::ALL {
                let list = &state.relations[relation as usize];
                let of = || format!("`{relation}` of `{}`", state.name);
                check_list(list, states).map_err(|why| format!("{} {why}", of()))?;
                let itself = matches!(relation, Relation::Remove | Relation::After);
                if itself && list.contains(&as_index(i)) {
                    return Err(format!("{} names the state itself", of()));
                }
                parts.relations[relation as usize].push(list.iter().copied());
            }
        }
        if self.axes.len() > MAX_AXES {
            return Err(format!("it has more than {MAX_AXES} axes"));
        }
        for axis in &self.axes {
            parts.axes.push(self.axis(axis)?);
        }
        if self.groups.len() > MAX_GROUPS {
            return Err(format!("it has more than {MAX_GROUPS} groups"));
        }
        let mut known = BTreeSet::new();
        for group in &self.groups {
            if !known.insert(group.name.as_str()) {
                return Err(format!("the group `{}` is there twice", group.name));
            }
            parts.groups.push(self.group(group)?);
        }
        Ok(parts)
    }

    /// Checks that relations are compiled in a time that can be waited for.
    fn check_work(&self) -> Result<(), String> {
        let mut removed_by = vec![0_u64; self.states.len()];
        let (mut entries, mut work) = (0_usize, 0_u64);
        for list in self.states.iter().flat_map(|state| &state.relations) {
            entries += list.len();
        }
        if entries > MAX_RELATED {
            let most = "are the most";
            return Err(format!(
                "it has {entries} entries of relations, and {MAX_RELATED} {most}"
            ));
        }
        for state in &self.states {
            for list in &state.relations {
                let len = list.len() as u64;
                work += len * len.min(MAX_STATES as u64 / 64 + 1);
            }
            for other in &state.relations[Relation::Remove as usize] {
                if let Some(count) = removed_by.get_mut(*other as usize) {
                    *count += 1;
                }
            }
            for first in &state.relations[Relation::After as usize] {
                let first = self.states.get(*first as usize);
                let back = first.map_or(0, |first| first.relations[Relation::After as usize].len());
                let after = state.relations[Relation::After as usize].len();
                work += (back + after) as u64;
            }
        }
        let words = MAX_STATES as u64 / 64 + 1;
        for (state, by) in self.states.iter().zip(&removed_by) {
            let removes = state.relations[Relation::Remove as usize].len() as u64;
            work += removes.min(words) * (*by).min(words);
        }
        if work > WORK {
            return Err("its relations are too dense to be worked with".to_owned());
        }
        Ok(())
    }

    fn axis(&self, axis: &PortableAxis) -> Result<Axis, String> {
        let (name, (first, last)) = (&axis.name, axis.bounds);
        if first > last || last == u32::MAX {
            return Err(format!("the axis `{name}` runs from {first} to {last}"));
        }
        if axis.values.len() != self.states.len() {
            let (values, states) = (axis.values.len(), self.states.len());
            return Err(format!(
                "the axis `{name}` has {values} values for {states} states"
            ));
        }
        let beyond = |value: &&u32| !(first..=last).contains(*value);
        if let Some(value) = axis.values.iter().flatten().find(beyond) {
            return Err(format!("{value} is not on the axis `{name}`"));
        }
        Ok(Axis {
            name: name.clone(),
            first,
            last,
            values: axis
                .values
                .iter()
                .map(|value| value.unwrap_or(u32::MAX))
                .collect(),
        })
    }

    fn group(&self, group: &PortableGroup) -> Result<Group, String> {
        let name = &group.name;
        let mut sets = Some(1_usize);
        let mut places = Vec::with_capacity(group.axes.len().min(MAX_AXES));
        if group.axes.len() > MAX_AXES {
            return Err(format!("the group `{name}` has more than {MAX_AXES} axes"));
        }
        for place in &group.axes {
            let Some(axis) = self.axes.get(*place as usize) else {
                return Err(format!(
                    "the group `{name}` is along the unknown axis {place}"
                ));
            };
            let len = (axis.bounds.1 - axis.bounds.0) as usize + 1;
            sets = sets.and_then(|sets| sets.checked_mul(len));
            places.push(*place as usize);
        }
        if sets != Some(group.families.len()) {
            let (has, should) = (group.families.len(), sets.unwrap_or(usize::MAX));
            return Err(format!(
                "the group `{name}` has {has} sets instead of {should}"
            ));
        }
        let mut members = Lists::default();
        for family in &group.families {
            let checked = check_list(family, self.states.len());
            checked.map_err(|why| format!("the group `{name}` {why}"))?;
            members.push(family.iter().copied());
        }
        Ok(Group {
            name: name.clone(),
            exclusive: group.exclusive,
            axes: places,
            members,
        })
    }
}

/// Checks that states are known and named once.
fn check_list(list: &[u32], states: usize) -> Result<(), String> {
    if let Some(state) = list.iter().find(|state| **state as usize >= states) {
        return Err(format!("names state {state} of {states}"));
    }
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    match sorted.array_windows().find(|[one, next]| one == next) {
        Some([state, _]) => Err(format!("names state {state} twice")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
