//! Which states travel over a link.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::schema::{Group, Schema, similar};
use crate::set::ones;
use crate::state::UnknownState;

/// States of a schema that travel over a link; those that are not among them do not, nor do their
/// clocks. Cheap to clone.
///
/// Written as a list with commas, of which each part adds states:
///
/// * `Flight1OnTime`, a state;
/// * `Flight*OnTime`, all states of a template: each `*` stands for a number;
/// * `group=Status`, a group; of one declared in loops all its sets, or one (`group=Flight3Status`);
/// * `flight=3`, the states declared for a value of a loop variable.
#[derive(Clone, PartialEq, Eq)]
pub struct Selection {
    inner: Arc<Inner>,
}

#[derive(PartialEq, Eq)]
struct Inner {
    /// A bit for each state of the schema.
    words: Box<[u64]>,
    states: usize,
    len: usize,
}

/// A list that selects nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSelection {
    /// The schema has no such state.
    #[error(transparent)]
    UnknownState(#[from] UnknownState),
    /// The schema has no such group.
    #[error("unknown group `{name}`{}", hint(.similar.as_ref()))]
    UnknownGroup {
        /// The name as given.
        name: String,
        /// The group that it resembles most, if it does.
        similar: Option<String>,
    },
    /// It is neither a group nor a loop variable of the schema.
    #[error("`{name}=` is not known: there is group={}", choice(.known))]
    UnknownKind {
        /// What stands before the `=`.
        name: String,
        /// The loop variables of the schema.
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
    /// No state has a name like this.
    #[error("no state has a name like `{0}`, in which each * is a number")]
    NoTemplate(String),
    /// The list is empty.
    #[error("nothing is selected")]
    Nothing,
}

fn hint(similar: Option<&String>) -> String {
    similar.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

fn choice(axes: &[String]) -> String {
    axes.iter()
        .fold(String::new(), |all, axis| all + ", " + axis + "=")
}

impl Selection {
    /// The states with these indices; those that `schema` does not have are left out.
    pub fn of(schema: &Schema, states: impl IntoIterator<Item = usize>) -> Self {
        let mut words = vec![0; schema.len().div_ceil(64)];
        for state in states.into_iter().filter(|state| *state < schema.len()) {
            words[state / 64] |= 1 << (state % 64);
        }
        Self::new(words, schema.len())
    }

    /// What a list says.
    ///
    /// # Errors
    ///
    /// If a part of it is not known, or it is empty.
    pub fn parse(schema: &Schema, list: &str) -> Result<Self, InvalidSelection> {
        let mut states = Vec::new();
        for part in list
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            match part.split_once('=') {
                Some(("group", name)) => states.extend(of_group(schema, name)?),
                Some((axis, value)) => states.extend(of_value(schema, axis, value)?),
                None if part.contains('*') => {
                    let before = states.len();
                    let names = schema.names().enumerate();
                    states.extend(names.filter(|(_, name)| fits(part, name)).map(|(i, _)| i));
                    if states.len() == before {
                        return Err(InvalidSelection::NoTemplate(part.to_owned()));
                    }
                }
                None => states.push(schema.find_or_suggest(part)?),
            }
        }
        if states.is_empty() {
            return Err(InvalidSelection::Nothing);
        }
        Ok(Self::of(schema, states))
    }

    fn new(words: Vec<u64>, states: usize) -> Self {
        let len = words.iter().map(|word| word.count_ones() as usize).sum();
        Self {
            inner: Arc::new(Inner {
                words: words.into(),
                states,
                len,
            }),
        }
    }

    /// The selection whose bits these are, the lowest state first, eight to a byte.
    ///
    /// Returns None if there are too many or too few for `states` states, or one of a state that there
    /// is not.
    pub(crate) fn from_bytes(bytes: &[u8], states: usize) -> Option<Self> {
        if bytes.len() != states.div_ceil(8) {
            return None;
        }
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let selection = Self::new(words.collect(), states);
        let beyond = ones(&selection.inner.words).any(|state| state >= states);
        (!beyond).then_some(selection)
    }

    /// Its bits, the lowest state first, eight to a byte.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .inner
            .words
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        bytes.truncate(self.inner.states.div_ceil(8));
        bytes
    }

    /// Whether the state with this index is selected.
    pub fn contains(&self, state: usize) -> bool {
        let word = self.inner.words.get(state / 64);
        word.is_some_and(|word| word & (1 << (state % 64)) != 0)
    }

    /// The selected states, by index and in order.
    pub fn states(&self) -> impl Iterator<Item = usize> + '_ {
        ones(&self.inner.words)
    }

    /// How many states are selected.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty one is of no use to anybody"
    )]
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Whether all states of the schema are.
    pub fn is_all(&self) -> bool {
        self.inner.len == self.inner.states
    }

    /// What both select.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let pairs = self.inner.words.iter().zip(&other.inner.words);
        Self::new(pairs.map(|(a, b)| a & b).collect(), self.inner.states)
    }

    /// Names it in handshakes: two sides that select the same states have the same.
    pub fn hash(&self) -> u64 {
        xxh3_64(&self.to_bytes())
    }
}

/// How many states of how many.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} states", self.inner.len, self.inner.states)
    }
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selection({self})")
    }
}

fn of_group(schema: &Schema, name: &str) -> Result<Vec<usize>, InvalidSelection> {
    let Some((group, values)) = schema.find_group(name) else {
        let names = schema.groups().iter().map(Group::name);
        return Err(InvalidSelection::UnknownGroup {
            name: name.to_owned(),
            similar: similar(name, names).map(str::to_owned),
        });
    };
    let members = schema.groups()[group].all_members().iter();
    let members = members.map(|state| *state as usize).filter(|state| {
        let mut values = values.iter();
        values.all(|(axis, value)| schema.axes()[*axis].value(*state) == Some(*value))
    });
    Ok(members.collect())
}

fn of_value(schema: &Schema, axis: &str, value: &str) -> Result<Vec<usize>, InvalidSelection> {
    let known = schema.axes();
    let Some(found) = known.iter().find(|known| known.name() == axis) else {
        return Err(InvalidSelection::UnknownKind {
            name: axis.to_owned(),
            known: known.iter().map(|axis| axis.name().to_owned()).collect(),
        });
    };
    let (first, last) = found.bounds();
    let number = value.trim().parse().ok();
    let number = number.filter(|number| (first..=last).contains(number));
    let number = number.ok_or_else(|| InvalidSelection::NoValue {
        axis: axis.to_owned(),
        first,
        last,
    })?;
    let states = 0..schema.len();
    Ok(states
        .filter(|state| found.value(*state) == Some(number))
        .collect())
}

/// Whether `name` is `template` with a number for each `*`.
fn fits(template: &str, name: &str) -> bool {
    let mut parts = template.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    for part in parts {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        // A part that begins with a digit cannot follow a number, which takes all of them.
        let Some(after) = rest[digits..].strip_prefix(part).filter(|_| digits > 0) else {
            return false;
        };
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::StateDef;

    fn schema() -> Schema {
        let names = ["Flight1OnTime", "Flight2OnTime", "Flight1Late", "Ready"];
        let builder = names.iter().fold(Schema::builder("Some"), |builder, name| {
            builder.state(StateDef::new(*name))
        });
        builder.group("Late", ["Flight1Late"]).build().unwrap()
    }

    fn names(list: &str) -> Vec<String> {
        let schema = schema();
        let selection = Selection::parse(&schema, list).unwrap();
        let names = selection.states().map(|state| schema.name_of(state));
        names.map(str::to_owned).collect()
    }

    #[test]
    fn states_templates_and_groups_add_up() {
        assert_eq!(names("Ready"), ["Ready"]);
        assert_eq!(names("Flight*OnTime"), ["Flight1OnTime", "Flight2OnTime"]);
        assert_eq!(names(" Ready , group=Late,"), ["Flight1Late", "Ready"]);
        assert_eq!(names("group=Late"), ["Flight1Late"]);
    }

    #[test]
    fn what_is_not_known_is_refused_and_says_what_is() {
        let refused = |list: &str| Selection::parse(&schema(), list).unwrap_err().to_string();
        assert!(refused("Redy").contains("Ready"));
        assert!(refused("group=Lat").contains("did you mean `Late`?"));
        assert!(refused("Flight*Gone").contains("each * is a number"));
        assert!(refused("flight=1").contains("there is group="));
        assert_eq!(refused(" , "), "nothing is selected");
    }

    #[test]
    fn its_bytes_are_its_bits_and_nothing_beyond_the_schema() {
        let schema = schema();
        let selection = Selection::parse(&schema, "Flight1Late,Ready").unwrap();
        let states = schema.len();
        let bytes = selection.to_bytes();
        assert_eq!(bytes.len(), states.div_ceil(8));
        let read = Selection::from_bytes(&bytes, states).unwrap();
        assert_eq!((&read, read.hash()), (&selection, selection.hash()));
        assert!(Selection::from_bytes(&[0xff], states).is_none());
        assert!(Selection::from_bytes(&[0; 2], states).is_none());
    }

    #[test]
    fn what_both_select_is_left() {
        let schema = schema();
        let on_time = Selection::parse(&schema, "Flight*OnTime").unwrap();
        let first = Selection::parse(&schema, "Flight1OnTime,Ready").unwrap();
        let both = on_time.and(&first);
        assert_eq!(both.states().collect::<Vec<_>>(), [1]);
        assert!(both.contains(1) && !both.contains(4));
        assert!(!both.is_all());
        assert_eq!(both.to_string(), format!("1 of {} states", schema.len()));
    }
}
