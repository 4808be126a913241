//! Which states a diagram shows.

use super::family;
use crate::schema::{Group, Relation, Schema, as_index, similar};
use crate::state::UnknownState;

/// Which states a diagram shows: those of a group, of one value of a loop variable, around a state.
/// What is said together narrows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    group: Option<usize>,
    values: Vec<(usize, usize)>,
    around: Vec<u32>,
}

/// What cannot be selected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The schema has no such group.
    #[error("unknown group `{name}`{}", hint(.similar.as_ref()))]
    UnknownGroup {
        /// The name as given.
        name: String,
        /// The group that it resembles most, if it does.
        similar: Option<String>,
    },
    /// The schema has no such loop variable.
    #[error("unknown loop variable `{name}`{}", choice(.known))]
    UnknownAxis {
        /// The name as given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The loop variable has no such value.
    #[error("`{axis}` is a number from {first} to {last}")]
    NoValue {
        /// The variable.
        axis: String,
        /// Its first value.
        first: usize,
        /// Its last.
        last: usize,
    },
    /// The schema has no such state.
    #[error(transparent)]
    UnknownState(#[from] UnknownState),
    /// No state is all that was asked for.
    #[error("no state is all of what was asked for")]
    Nothing,
}

fn hint(similar: Option<&String>) -> String {
    similar.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

fn choice(names: &[String]) -> String {
    match names {
        [] => ": this schema has none".to_owned(),
        names => format!(": there is {}", names.join(", ")),
    }
}

/// A state that is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shown {
    pub(super) state: u32,
    pub(super) neighbour: bool,
}

impl Selection {
    /// All states.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only the states of this group; of a group declared in loops, of all its sets (`Status`) or of
    /// one (`Flight3Status`).
    ///
    /// # Errors
    ///
    /// If there is no such group.
    pub fn group(mut self, schema: &Schema, name: &str) -> Result<Self, SelectError> {
        let (group, values) = schema.find_group(name).ok_or_else(|| {
            let names = schema.groups().iter().map(Group::name);
            SelectError::UnknownGroup {
                name: name.to_owned(),
                similar: similar(name, names).map(str::to_owned),
            }
        })?;
        self.group = Some(group);
        self.values.extend(values);
        Ok(self)
    }

    /// Only the states that were declared for this value of a loop variable.
    ///
    /// # Errors
    ///
    /// If there is no such variable, or it has no such value.
    pub fn value(mut self, schema: &Schema, axis: &str, value: &str) -> Result<Self, SelectError> {
        let known = schema.axes();
        let place = known.iter().position(|known| known.name() == axis);
        let place = place.ok_or_else(|| SelectError::UnknownAxis {
            name: axis.to_owned(),
            known: known.iter().map(|axis| axis.name().to_owned()).collect(),
        })?;
        let (first, last) = known[place].bounds();
        let number = value.parse().ok();
        let number = number.filter(|number| (first..=last).contains(number));
        let number = number.ok_or_else(|| SelectError::NoValue {
            axis: axis.to_owned(),
            first,
            last,
        })?;
        self.values.push((place, number));
        Ok(self)
    }

    /// Only this state, the others that are said so, and those that have relations with them.
    ///
    /// # Errors
    ///
    /// If there is no such state.
    pub fn around(mut self, schema: &Schema, name: &str) -> Result<Self, SelectError> {
        let state = schema.find_or_suggest(name)?;
        self.around.push(as_index(state));
        Ok(self)
    }

    /// The states that it was said to be around.
    pub fn centres(&self) -> &[u32] {
        &self.around
    }

    /// The selected states in index order.
    pub(super) fn states(&self, schema: &Schema) -> Vec<Shown> {
        let mut wanted = vec![self.group.is_none(); schema.len()];
        for state in self
            .group
            .iter()
            .flat_map(|group| schema.groups()[*group].all_members())
        {
            wanted[*state as usize] = true;
        }
        for (axis, value) in &self.values {
            for (state, wanted) in wanted.iter_mut().enumerate() {
                *wanted &= schema.axes()[*axis].value(state) == Some(*value);
            }
        }
        let mut centre = vec![true; schema.len()];
        if !self.around.is_empty() {
            centre.fill(false);
            for state in &self.around {
                centre[*state as usize] = true;
            }
            let near = self.near(schema, &centre);
            for (wanted, near) in wanted.iter_mut().zip(near) {
                *wanted &= near;
            }
        }
        let states = (0..).zip(wanted).zip(centre);
        states
            .filter(|((_, wanted), _)| *wanted)
            .map(|((state, _), centre)| Shown {
                state,
                neighbour: !centre,
            })
            .collect()
    }

    /// Whether each state is a centre or has a relation with one. That all others of a set remove a
    /// state is said by the set.
    fn near(&self, schema: &Schema, centre: &[bool]) -> Vec<bool> {
        let mut near = centre.to_vec();
        for relation in Relation::ALL {
            for state in &self.around {
                for other in schema.related(relation, *state as usize) {
                    near[*other as usize] = true;
                }
            }
            for (state, near) in near.iter_mut().enumerate() {
                let mut related = schema.related(relation, state).iter();
                *near |= related.any(|other| centre[*other as usize]);
            }
        }
        near
    }

    /// What it says, in words; nothing where it is all.
    pub(super) fn words(&self, schema: &Schema) -> String {
        let mut words: Vec<String> = Vec::new();
        if !self.around.is_empty() {
            let names = self.around.iter().take(3);
            let names: Vec<_> = names.map(|state| schema.name_of(*state as usize)).collect();
            let more = if self.around.len() > names.len() {
                " and others"
            } else {
                ""
            };
            words.push(format!("around {}{more}", names.join(", ")));
        }
        if let Some(group) = self.group {
            words.push(schema.groups()[group].name().to_owned());
        }
        for (axis, value) in &self.values {
            words.push(family::value(&schema.axes()[*axis], *value));
        }
        words.join(", ")
    }
}
