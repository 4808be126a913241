//! Schemas made at run time, for tools and tests.

use std::collections::BTreeMap;

use super::{EXCEPTION, Group, Lists, MAX_STATES, Parts, Relation, Schema, as_index, similar};
use crate::tables::flag;

/// One state of a [`SchemaBuilder`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateDef {
    name: String,
    flags: u8,
    relations: [Vec<String>; 4],
}

impl StateDef {
    /// A state without flags and relations.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            flags: 0,
            relations: Default::default(),
        }
    }

    /// The machine tries the state by itself after every change (rule R19).
    #[must_use]
    pub fn auto(self) -> Self {
        self.with(flag::AUTO)
    }

    /// Calling the state while it is active ticks it again (rule R12).
    #[must_use]
    pub fn multi(self) -> Self {
        self.with(flag::MULTI)
    }

    /// A mutation that calls the state may carry a payload for it.
    #[must_use]
    pub fn payload(self) -> Self {
        self.with(flag::PAYLOAD)
    }

    /// The payload of the state is kept out of logs.
    #[must_use]
    pub fn redact(self) -> Self {
        self.with(flag::PAYLOAD | flag::REDACT)
    }

    /// The payload that activated the state is kept while it is active.
    #[must_use]
    pub fn retain(self) -> Self {
        self.with(flag::PAYLOAD | flag::RETAIN)
    }

    /// Appends to the state's list of `relation`.
    #[must_use]
    pub fn relate<N: Into<String>>(
        mut self,
        relation: Relation,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.relations[relation as usize].extend(names.into_iter().map(Into::into));
        self
    }

    /// Appends to the states that this one cannot be active without.
    #[must_use]
    pub fn require<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.relate(Relation::Require, names)
    }

    /// Appends to the states that this one tries to activate.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "it is named as the relation is"
    )]
    pub fn add<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.relate(Relation::Add, names)
    }

    /// Appends to the states that this one deactivates and blocks.
    #[must_use]
    pub fn remove<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.relate(Relation::Remove, names)
    }

    /// Appends to the states that this one comes after.
    #[must_use]
    pub fn after<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.relate(Relation::After, names)
    }

    fn with(mut self, flag: u8) -> Self {
        self.flags |= flag;
        self
    }
}

/// Why a schema could not be built.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Two states share a name.
    #[error("state `{name}` is declared twice")]
    DuplicateState {
        /// The name.
        name: String,
    },
    /// Two groups share a name.
    #[error("group `{name}` is declared twice")]
    DuplicateGroup {
        /// The name.
        name: String,
    },
    /// A relation, a group or the order names a state that is not declared.
    #[error("{place} names the unknown state `{name}`{}", hint(.similar.as_ref()))]
    UnknownState {
        /// Where the name stands.
        place: String,
        /// The name.
        name: String,
        /// The declared state that it resembles most, if any does.
        similar: Option<String>,
    },
    /// The order leaves out a state.
    #[error("the order lacks the state `{name}`")]
    NotInOrder {
        /// The state.
        name: String,
    },
    /// A state requires what it removes, so it could never be active.
    #[error("state `{state}` both requires and removes `{other}`")]
    Contradiction {
        /// The state.
        state: String,
        /// What it requires and removes.
        other: String,
    },
    /// There are more states than [`MAX_STATES`].
    #[error("{count} states, at most {MAX_STATES} are possible")]
    TooManyStates {
        /// How many there are.
        count: usize,
    },
}

fn hint(similar: Option<&String>) -> String {
    similar.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

/// Collects states and relations by name and builds a [`Schema`].
///
/// ```
/// use machine_runtime::{Schema, StateDef};
///
/// let schema = Schema::builder("Door")
///     .state(StateDef::new("Open").remove(["Locked"]))
///     .state(StateDef::new("Locked").require(["Shut"]))
///     .state(StateDef::new("Shut").remove(["Open"]))
///     .build()?;
/// assert_eq!(schema.names().collect::<Vec<_>>(), ["Exception", "Open", "Locked", "Shut"]);
/// # Ok::<(), machine_runtime::SchemaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SchemaBuilder {
    name: String,
    states: Vec<StateDef>,
    order: Option<Vec<String>>,
    groups: Vec<(String, Vec<String>)>,
}

impl SchemaBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            states: Vec::new(),
            order: None,
            groups: Vec::new(),
        }
    }

    /// Declares a state. The index order is that of the declarations, with `Exception` first
    /// where none is declared (rule R3).
    #[must_use]
    pub fn state(mut self, state: StateDef) -> Self {
        self.states.push(state);
        self
    }

    /// Fixes the index order: every state, `Exception` included; repeats collapse (rule R3).
    #[must_use]
    pub fn order<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.order = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Names a group of states.
    #[must_use]
    pub fn group<N: Into<String>>(
        mut self,
        name: impl Into<String>,
        members: impl IntoIterator<Item = N>,
    ) -> Self {
        self.groups
            .push((name.into(), members.into_iter().map(Into::into).collect()));
        self
    }

    /// Checks and sanitises (rule R2) what was declared.
    ///
    /// References to `Exception` in Add, Remove and After mean nothing where it is not declared,
    /// and are dropped.
    ///
    /// # Errors
    ///
    /// See [`SchemaError`].
    pub fn build(mut self) -> Result<Schema, SchemaError> {
        let supplied = !self.states.iter().any(|state| state.name == EXCEPTION);
        if supplied {
            self.states.insert(0, StateDef::new(EXCEPTION).multi());
        }
        if self.states.len() > MAX_STATES {
            return Err(SchemaError::TooManyStates {
                count: self.states.len(),
            });
        }
        let states = ordered(self.states, self.order.as_deref())?;
        let index: BTreeMap<&str, u32> = (0..)
            .zip(&states)
            .map(|(i, state)| (state.name.as_str(), i))
            .collect();
        let find = |name: &str, place: &dyn Fn() -> String| {
            index
                .get(name)
                .copied()
                .ok_or_else(|| SchemaError::UnknownState {
                    place: place(),
                    name: name.to_owned(),
                    similar: similar(name, index.keys().copied()).map(str::to_owned),
                })
        };

        let mut parts = Parts {
            name: self.name,
            ..Parts::default()
        };
        for state in &states {
            let relations = sanitised(state, supplied)?;
            parts.names.push_str(&state.name);
            parts.name_ends.push(as_index(parts.names.len()));
            parts.flags.push(state.flags);
            for relation in Relation::ALL {
                let place = || format!("`{relation}` of state `{}`", state.name);
                let list: Result<Vec<u32>, _> = relations[relation as usize]
                    .iter()
                    .map(|name| find(name, &place))
                    .collect();
                parts.relations[relation as usize].push(list?);
            }
        }
        for (name, members) in &self.groups {
            if parts.groups.iter().any(|group| group.name == *name) {
                return Err(SchemaError::DuplicateGroup { name: name.clone() });
            }
            let place = || format!("group `{name}`");
            let members: Result<Vec<u32>, _> =
                members.iter().map(|name| find(name, &place)).collect();
            let mut lists = Lists::default();
            lists.push(members?);
            parts.groups.push(Group {
                name: name.clone(),
                exclusive: false,
                axes: Vec::new(),
                members: lists,
            });
        }
        Ok(Schema::from_parts(parts))
    }
}

fn ordered(states: Vec<StateDef>, order: Option<&[String]>) -> Result<Vec<StateDef>, SchemaError> {
    let names: Vec<String> = states.iter().map(|state| state.name.clone()).collect();
    let mut by_name = BTreeMap::new();
    for state in states {
        if let Some(first) = by_name.insert(state.name.clone(), state) {
            return Err(SchemaError::DuplicateState { name: first.name });
        }
    }
    let mut sorted = Vec::with_capacity(names.len());
    for name in order.unwrap_or(&names) {
        match by_name.remove(name) {
            Some(state) => sorted.push(state),
            None if names.contains(name) => {}
            None => {
                return Err(SchemaError::UnknownState {
                    place: "the order".to_owned(),
                    name: name.clone(),
                    similar: similar(name, names.iter().map(String::as_str)).map(str::to_owned),
                });
            }
        }
    }
    match by_name.into_keys().next() {
        Some(name) => Err(SchemaError::NotInOrder { name }),
        None => Ok(sorted),
    }
}

/// Rule R2, in its order; `supplied`: the user wrote no `Exception`.
fn sanitised(state: &StateDef, supplied: bool) -> Result<[Vec<String>; 4], SchemaError> {
    let [require, mut add, mut remove, mut after] = state.relations.clone();
    remove.retain(|name| *name != state.name && !add.contains(name));
    after.retain(|name| *name != state.name);
    if supplied {
        for list in [&mut add, &mut remove, &mut after] {
            list.retain(|name| name != EXCEPTION);
        }
    }
    if let Some(other) = require.iter().find(|name| remove.contains(name)) {
        return Err(SchemaError::Contradiction {
            state: state.name.clone(),
            other: other.clone(),
        });
    }
    Ok([require, add, remove, after].map(unique))
}

fn unique(mut list: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|name| seen.insert(name.clone()));
    list
}
