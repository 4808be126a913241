//! Families: states whose names differ in numbers only, such as the same state of every flight.

use crate::schema::{Axis, Schema};

/// What stands in a family's key for a number. No name has it that is worth a family.
const HOLE: char = '\u{0}';

/// The name of a state as that of one of a family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// The name with holes where the numbers are.
    pub(super) key: String,
    /// The numbers, in order of the holes.
    pub(super) numbers: Vec<usize>,
}

/// What state `state` is in its family. Numbers of loops count; where a state was declared in none, as
/// in a schema that is made at run time, all numbers of its name do.
pub(super) fn member(schema: &Schema, state: usize) -> Member {
    let name = schema.name_of(state);
    let runs = numbers(name);
    let values = schema.axes().iter();
    let values: Vec<(&Axis, usize)> = values
        .filter_map(|axis| Some((axis, axis.value(state)?)))
        .collect();
    let mut holes = Vec::new();
    if values.is_empty() {
        holes = runs;
    } else {
        for (axis, value) in values {
            let word = axis.word();
            let free = |run: &&Run| run.value == value && !holes.contains(*run);
            let named = runs.iter().filter(free);
            let named = named.clone().find(|run| name[..run.start].ends_with(&word));
            if let Some(run) = named.or_else(|| runs.iter().find(free)) {
                holes.push(*run);
            }
        }
        holes.sort_by_key(|run| run.start);
    }
    let mut key = String::with_capacity(name.len());
    let mut done = 0;
    for hole in &holes {
        key.push_str(&name[done..hole.start]);
        key.push(HOLE);
        done = hole.end;
    }
    key.push_str(&name[done..]);
    Member {
        key,
        numbers: holes.iter().map(|hole| hole.value).collect(),
    }
}

/// A number within a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    start: usize,
    end: usize,
    value: usize,
}

/// The numbers of a name, but for those that are written in an unusual way.
fn numbers(name: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let bytes = name.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let len = bytes[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let end = start + len;
        let is_plain = len == 1 || (len > 1 && bytes[start] != b'0');
        if is_plain && let Ok(value) = name[start..end].parse() {
            runs.push(Run { start, end, value });
        }
        start = end.max(start + 1);
    }
    runs
}

/// The name that stands for all members of a family.
pub(super) fn name<'a>(key: &str, members: &(impl Iterator<Item = &'a [usize]> + Clone)) -> String {
    let mut name = String::new();
    let mut hole = 0;
    for letter in key.chars() {
        if letter == HOLE {
            name.push_str(&range(
                members
                    .clone()
                    .filter_map(|numbers| numbers.get(hole).copied()),
            ));
            hole += 1;
        } else {
            name.push(letter);
        }
    }
    name
}

/// Numbers as one writes them, from the least to the greatest.
pub(super) fn range(numbers: impl Iterator<Item = usize> + Clone) -> String {
    let least = numbers.clone().min().unwrap_or_default();
    let most = numbers.max().unwrap_or_default();
    if least == most {
        least.to_string()
    } else {
        format!("{least}…{most}")
    }
}

/// A loop variable and its value in words.
pub(super) fn value(axis: &Axis, value: usize) -> String {
    format!("{} {value}", axis.name().replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateDef;

    #[test]
    fn numbers_are_found_as_they_are_usually_written() {
        let found = |name| {
            let runs = numbers(name).into_iter();
            runs.map(|run| run.value).collect::<Vec<_>>()
        };
        assert_eq!(found("Flight12Gate0"), [12, 0]);
        assert_eq!(found("7"), [7]);
        assert_eq!(found("A01B99999999999999999999999é5"), [5]);
        assert!(found("").is_empty());
    }

    #[test]
    fn without_loops_all_numbers_are_holes() {
        let schema = Schema::builder("S").state(StateDef::new("A1B2"));
        let schema = schema.build().unwrap();
        let found = member(&schema, schema.find("A1B2").unwrap());
        assert_eq!(found.numbers, [1, 2]);
        let members = [[1, 2], [3, 2]];
        let name = name(&found.key, &members.iter().map(<[usize; 2]>::as_slice));
        assert_eq!(name, "A1…3B2");
    }
}
