//! A schema from what travels of it.

use crate::debug::portable::{PortableAxis, PortableGroup, PortableSchema};
use crate::schema::{EXCEPTION, Relation, Schema, StateDef, as_index};
use crate::tables::flag;

use super::Malformed;

pub(super) fn schema_of(portable: &PortableSchema) -> Result<Schema, Malformed> {
    let wrong = |why: String| Malformed::Schema(why);
    let states = &portable.states;
    if !states.iter().any(|state| state.name == EXCEPTION) {
        return Err(wrong(format!("it has no state {EXCEPTION}")));
    }
    let name = |state: &u32| {
        let found = states.get(*state as usize);
        found
            .map(|state| state.name.clone())
            .ok_or_else(|| wrong(format!("state {state} is named, of {}", states.len())))
    };
    let mut builder = Schema::builder(portable.name.clone());
    for state in states {
        let mut def = StateDef::new(state.name.clone());
        let flags = [
            (flag::AUTO, StateDef::auto as fn(StateDef) -> StateDef),
            (flag::MULTI, StateDef::multi),
            (flag::PAYLOAD, StateDef::payload),
            (flag::REDACT, StateDef::redact),
            (flag::RETAIN, StateDef::retain),
        ];
        for (flag, with) in flags {
            if state.flags & flag != 0 {
                def = with(def);
            }
        }
        for relation in Relation::ALL {
            let related: Result<Vec<String>, _> = state.relations[relation as usize]
                .iter()
                .map(name)
                .collect();
            def = def.relate(relation, related?);
        }
        builder = builder.state(def);
    }
    for group in &portable.groups {
        let members: Result<Vec<String>, _> = group.families.iter().flatten().map(name).collect();
        builder = builder.group(group.name.clone(), members?);
    }
    builder.build().map_err(|error| wrong(error.to_string()))
}

impl PortableSchema {
    /// What travels of a schema.
    pub(super) fn of(schema: &Schema) -> Self {
        let groups = schema.groups().iter().map(|group| PortableGroup {
            name: group.name().to_owned(),
            exclusive: group.is_exclusive(),
            axes: group.axes().iter().map(|axis| as_index(*axis)).collect(),
            families: (0..group.family_len())
                .map(|family| group.members(family).to_vec())
                .collect(),
        });
        let axes = schema.axes().iter().map(|axis| {
            let (first, last) = axis.bounds();
            PortableAxis {
                name: axis.name().to_owned(),
                bounds: (as_index(first), as_index(last)),
            }
        });
        Self {
            name: schema.name().to_owned(),
            states: (0..schema.len()).map(|i| schema.shape(i)).collect(),
            axes: axes.collect(),
            groups: groups.collect(),
        }
    }
}
