//! A schema as it travels, for those who have no tables of it at compile time.

use serde::{Deserialize, Serialize};

use crate::schema::StateShape;
pub use crate::schema::portable::InvalidSchema;

/// The most axes that a schema from elsewhere may have.
pub const MAX_AXES: usize = 64;

/// The most groups that a schema from elsewhere may have.
pub const MAX_GROUPS: usize = 4096;

/// The most entries of relations, of all states together, that a schema from elsewhere may have.
pub const MAX_RELATED: usize = 1 << 21;

/// All that a schema is made of. States are indices.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PortableSchema {
    /// Its name.
    pub name: String,
    /// Its states in index order, with flags and relations.
    pub states: Vec<StateShape>,
    /// Its axes, such as flights from 1 to 40.
    pub axes: Vec<PortableAxis>,
    /// Its groups.
    pub groups: Vec<PortableGroup>,
}

/// An axis that families of states are declared along.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortableAxis {
    /// Its name.
    pub name: String,
    /// Its first and last value.
    pub bounds: (u32, u32),
    /// Its value where each state was declared, if that was along it.
    pub values: Vec<Option<u32>>,
}

/// A group of states.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortableGroup {
    /// Its name.
    pub name: String,
    /// Whether at most one of each family's states is active.
    pub exclusive: bool,
    /// The axes that its families are counted along, as places in [`PortableSchema::axes`].
    pub axes: Vec<u32>,
    /// The states of each family; one family where there are no axes.
    pub families: Vec<Vec<u32>>,
}
