//! The schema as JSON, and what the sets of a group's family are called.

use bytes::Bytes;
use machine_runtime::{Group, Relation, Schema};
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

/// What set `set` of a group's family is called: `Flight3Status` for `Status` in the loop over
/// `flight`.
fn set_name(schema: &Schema, group: &Group, set: usize) -> String {
    let mut rest = set;
    let mut values = Vec::new();
    // The last loop variable counts fastest.
    for axis in group.axes().iter().rev() {
        let (first, last) = schema.axes()[*axis].bounds();
        let len = last - first + 1;
        values.push(first + rest % len);
        rest /= len;
    }
    let mut name = String::new();
    for (axis, value) in group.axes().iter().zip(values.iter().rev()) {
        name.push_str(&camel(schema.axes()[*axis].name()));
        name.push_str(&value.to_string());
    }
    name.push_str(group.name());
    name
}

/// The loop variables, as places among the schema's, and their values, if `name` is what a set
/// of this group's family is called.
pub(super) fn indexed_set(
    schema: &Schema,
    group: &Group,
    name: &str,
) -> Option<Vec<(usize, usize)>> {
    let mut rest = name.strip_suffix(group.name())?;
    let mut values = Vec::new();
    for place in group.axes() {
        let axis = &schema.axes()[*place];
        rest = rest.strip_prefix(camel(axis.name()).as_str())?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let (first, last) = axis.bounds();
        let value = number
            .parse()
            .ok()
            .filter(|value| (first..=last).contains(value))?;
        if number.starts_with('0') && digits > 1 {
            return None;
        }
        values.push((*place, value));
        rest = after;
    }
    rest.is_empty().then_some(values)
}

/// `boarding_gate` as `BoardingGate`.
fn camel(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .chain(letters)
    });
    words.flatten().collect()
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
                    set_name(schema, group, set),
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

#[cfg(test)]
mod tests {
    use machine_runtime::States as _;

    use super::*;
    use crate::fixture::Flights;

    #[test]
    fn every_set_is_found_by_its_name() {
        let schema = Flights::schema();
        for group in schema.groups() {
            for set in 0..group.family_len() {
                let name = set_name(schema, group, set);
                let values = indexed_set(schema, group, &name).unwrap();
                for state in group.members(set) {
                    for (axis, value) in &values {
                        let declared = schema.axes()[*axis].value(*state as usize);
                        assert_eq!(declared, Some(*value), "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn loop_variables_are_written_as_states_are() {
        assert_eq!(camel("flight"), "Flight");
        assert_eq!(camel("boarding_gate"), "BoardingGate");
    }
}
