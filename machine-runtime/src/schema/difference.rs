//! Where two schemas differ first: what a refused handshake tells its users.

use std::fmt;

use super::{Relation, Schema};

/// One state as it counts in the fingerprint.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "replica", derive(serde::Serialize, serde::Deserialize))]
pub struct StateShape {
    /// The name.
    pub name: String,
    /// The flags, as in the tables of `states!`.
    pub flags: u8,
    /// Require, Add, Remove and After: state indices.
    pub relations: [Vec<u32>; 4],
}

/// The first difference between our schema and another.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Difference {
    /// One side has fewer states and is otherwise the same.
    Count {
        /// How many we have.
        ours: usize,
        /// How many they have.
        theirs: usize,
    },
    /// Another state has this index.
    Name {
        /// The index.
        index: usize,
        /// Our state.
        ours: String,
        /// Theirs.
        theirs: String,
    },
    /// A state is auto, multi or has a payload on one side only.
    Flags {
        /// The state.
        state: String,
    },
    /// A relation of a state differs.
    Relation {
        /// The state.
        state: String,
        /// The relation.
        relation: Relation,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { ours, theirs } => {
                write!(f, "we have {ours} states, they have {theirs}")
            }
            Self::Name {
                index,
                ours,
                theirs,
            } => {
                write!(f, "state {index} is `{ours}` here and `{theirs}` there")
            }
            Self::Flags { state } => {
                write!(f, "state `{state}` differs in auto, multi or payload")
            }
            Self::Relation { state, relation } => {
                write!(f, "state `{state}` differs in `{relation}`")
            }
        }
    }
}

impl Schema {
    /// What counts of state `index` in the fingerprint.
    ///
    /// # Panics
    ///
    /// If there is no such state.
    pub fn shape(&self, index: usize) -> StateShape {
        StateShape {
            name: self.name_of(index).to_owned(),
            flags: self.flags[index],
            relations: Relation::ALL.map(|relation| self.related(relation, index).to_vec()),
        }
    }

    /// The first difference at state `index`, given the same state of another schema.
    pub fn difference(&self, index: usize, theirs: &StateShape) -> Option<Difference> {
        let ours = self.shape(index);
        if ours.name != theirs.name {
            return Some(Difference::Name {
                index,
                ours: ours.name,
                theirs: theirs.name.clone(),
            });
        }
        if ours.flags != theirs.flags {
            return Some(Difference::Flags { state: ours.name });
        }
        Relation::ALL
            .into_iter()
            .find(|r| ours.relations[*r as usize] != theirs.relations[*r as usize])
            .map(|relation| Difference::Relation {
                state: ours.name,
                relation,
            })
    }
}
