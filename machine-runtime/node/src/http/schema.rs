//! The schema as JSON.

use bytes::Bytes;
use machine_runtime::{Relation, Schema};
use serde::Serialize;
use serde::ser::Serializer;

use super::render::json_line;

/// The whole schema as JSON.
pub(super) fn json(schema: &Schema) -> Bytes {
    json_line(&Body {
        fingerprint: schema.fingerprint().to_string(),
        counts: Counts(schema),
        states: States(schema),
        groups: Groups(schema),
    })
}

#[derive(Serialize)]
struct Body<'a> {
    fingerprint: String,
    counts: Counts<'a>,
    states: States<'a>,
    groups: Groups<'a>,
}

struct Counts<'a>(&'a Schema);

impl Serialize for Counts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.counts())
    }
}

struct States<'a>(&'a Schema);

impl Serialize for States<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct State<'a> {
            name: &'a str,
            auto: bool,
            multi: bool,
            require: Names<'a>,
            add: Names<'a>,
            remove: Names<'a>,
            after: Names<'a>,
        }
        let schema = self.0;
        serializer.collect_seq((0..schema.len()).map(|i| {
            let related = |relation| Names {
                schema,
                states: schema.related(relation, i),
            };
            State {
                name: schema.name_of(i),
                auto: schema.is_auto(i),
                multi: schema.is_multi(i),
                require: related(Relation::Require),
                add: related(Relation::Add),
                remove: related(Relation::Remove),
                after: related(Relation::After),
            }
        }))
    }
}

struct Groups<'a>(&'a Schema);

impl Serialize for Groups<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let schema = self.0;
        let sets = schema.groups().iter().flat_map(|group| {
            (0..group.family_len()).map(move |set| {
                (
                    schema.set_name(group, set),
                    Names {
                        schema,
                        states: group.members(set),
                    },
                )
            })
        });
        serializer.collect_map(sets)
    }
}

struct Names<'a> {
    schema: &'a Schema,
    states: &'a [u32],
}

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = self
            .states
            .iter()
            .map(|state| self.schema.name_of(*state as usize));
        serializer.collect_seq(names)
    }
}
