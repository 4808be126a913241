//! The sink of errors, and the wording of every message.
//!
//! Messages are built here and nowhere else, so that they can be read in one place: each names the
//! mistake and says what would be right.

use std::collections::BTreeSet;
use std::fmt::Display;

use proc_macro2::{Ident, Span, TokenStream};

/// A stretch of source: the first and the last token of what a message is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) start: Span,
    pub(crate) end: Span,
}

impl At {
    pub(crate) fn new(start: Span, end: Span) -> Self {
        Self { start, end }
    }
}

impl From<Span> for At {
    fn from(span: Span) -> Self {
        Self::new(span, span)
    }
}

/// Everything found wrong so far, in the order in which it was found.
#[derive(Default)]
pub(crate) struct Errors {
    list: Vec<syn::Error>,
    /// Whether a count had to be made up, so that a state may be missing for no fault of its own.
    pub(crate) counts_made_up: bool,
    reported: BTreeSet<(Topic, usize)>,
}

/// What an error may be told about only once per line of the template.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Topic {
    Contradiction,
    Dead,
    Target,
}

impl Errors {
    pub(crate) fn push(&mut self, error: syn::Error) {
        self.list.push(error);
    }

    pub(crate) fn at(&mut self, at: impl Into<At>, message: impl Display) {
        let At { start, end } = at.into();
        let mut ends = TokenStream::new();
        ends.extend(
            [Ident::new("start", start), Ident::new("end", end)].map(proc_macro2::TokenTree::from),
        );
        self.push(syn::Error::new_spanned(ends, message));
    }

    /// Whether `topic` comes up for the first time at the template line `line`.
    pub(crate) fn first(&mut self, topic: Topic, line: usize) -> bool {
        self.reported.insert((topic, line))
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether `name`, which does not exist, might do so with the right counts.
    pub(crate) fn uncertain(&self, name: &str) -> bool {
        self.counts_made_up && name.contains(|c: char| c.is_ascii_digit())
    }

    /// One `compile_error!` each.
    pub(crate) fn to_tokens(&self) -> TokenStream {
        self.list.iter().map(syn::Error::to_compile_error).collect()
    }

    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.list.iter().map(ToString::to_string).collect()
    }
}

/// The candidate that `name` was most likely meant to be.
pub(crate) fn similar<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (name.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The number of bytes to insert, take out, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(!a[i - 1].eq_ignore_ascii_case(&b[j - 1]));
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

// The header.

pub(crate) const COUNTS_FORM: &str =
    "expected `counts = \"states.toml\";` or `counts = { flights = 10, gates = 5 };`";
pub(crate) const ENUM_FORM: &str = "expected `enum Name { … }` or `enum Name: Basic + Other { … }`";
pub(crate) const NO_BASE: &str =
    "expected a set to inherit after `:`, like `: Basic + StateSource`";
pub(crate) const TRAILING: &str = "`states!` takes one enum: nothing may follow it";
pub(crate) const CARRIER: &str = "this macro hands a set of states on to another `states!`; inherit it there with `enum Name: Set { … }`";

// The template.

pub(crate) const ITEM_FORM: &str = "expected a state, `exclusive Name { … }`, `group Name { … }` or `for variable in 1..=count { … }`";
pub(crate) const GROUP_NAME: &str = "a group needs a name: `exclusive Name { … }`";
pub(crate) const GROUP_FORM: &str =
    "expected the members: `{ … }` declares them, `( … )` lists states declared elsewhere";
pub(crate) const RANGE_FORM: &str =
    "expected `for variable in 1..=count { … }`: a number, `..=`, a count or a number";
pub(crate) const RANGE_OPEN: &str = "write `..=`: the last value counts too";
pub(crate) const RANGE_EMPTY: &str = "this loop never runs: its last value is below its first";
pub(crate) const LOOP_ATTRIBUTE: &str = "attributes belong on states and groups, not on a loop";
pub(crate) const INTERPOLATION: &str =
    "expected one loop variable in the braces, like `Flight{flight}`";
pub(crate) const PIECE: &str = "expected letters, digits or `{variable}` in a name";
pub(crate) const COMMA: &str = "expected `,` between states";
pub(crate) const DOC_FORM: &str = "expected a doc comment or `#[doc = \"…\"]`";
pub(crate) const PAYLOAD_FORM: &str =
    "expected `#[payload(Type)]`, or with `retain`, `redact` or both behind the type";
pub(crate) const EXCEPTION: &str =
    "`Exception` is part of every machine: always first, multi and without relations; leave it out";

pub(crate) fn unknown_attribute(name: &str, candidate: Option<&str>) -> String {
    match candidate {
        Some(candidate) => format!("unknown attribute `{name}`, did you mean `{candidate}`?"),
        None => format!(
            "unknown attribute `{name}`: a state takes `require`, `add`, `remove`, `after`, `auto`, `multi`, \
             `payload`, `require_cycle` and doc comments"
        ),
    }
}

pub(crate) fn group_attribute(name: &str) -> String {
    format!("`{name}` belongs on a state: a group takes doc comments only")
}

pub(crate) fn bare_attribute(name: &str) -> String {
    format!("`{name}` takes no arguments: write `#[{name}]`")
}

pub(crate) fn list_attribute(name: &str) -> String {
    format!("`{name}` takes states or groups: write `#[{name}(State, Group)]`")
}

pub(crate) fn repeated_attribute(name: &str) -> String {
    format!("`{name}` is given twice: once is enough")
}

// Counts.

pub(crate) fn count_missing(name: &str, place: &str, candidate: Option<&str>) -> String {
    match candidate {
        Some(candidate) => format!("count `{name}` is not in {place}, did you mean `{candidate}`?"),
        None => format!(
            "count `{name}` is not in {place}: add `{name} = 1` there, or use a number here"
        ),
    }
}

pub(crate) fn no_counts(name: &str) -> String {
    format!(
        "count `{name}` comes from nowhere: begin with `counts = \"states.toml\";` or `counts = {{ {name} = 1 }};`"
    )
}

pub(crate) fn count_twice(name: &str) -> String {
    format!("count `{name}` is given twice")
}

pub(crate) fn count_unused(name: &str, candidate: Option<&str>) -> String {
    match candidate {
        Some(candidate) => {
            format!("count `{name}` is used by no loop, did you mean `{candidate}`?")
        }
        None => format!("count `{name}` is used by no loop: take it out"),
    }
}

pub(crate) fn count_unused_in_file(name: &str, candidate: Option<&str>) -> String {
    match candidate {
        Some(_) => count_unused(name, candidate),
        None => format!(
            "{}, or write `shared counts = …;` if another template uses it",
            count_unused(name, None)
        ),
    }
}

pub(crate) fn count_kind(name: &str, kind: &str) -> String {
    format!("count `{name}` is {kind}: it must be an integer, at least 1")
}

pub(crate) fn count_small(name: &str, value: &str) -> String {
    format!("count `{name}` is {value}: it must be at least 1")
}

pub(crate) fn count_large(name: &str, value: &str) -> String {
    format!(
        "count `{name}` is {value}: a machine has at most {} states",
        crate::model::MAX_STATES
    )
}

pub(crate) fn key_unknown(key: &str, candidate: Option<&str>) -> String {
    match candidate {
        Some(candidate) => format!("unknown key `{key}`, did you mean `{candidate}`?"),
        None => format!("unknown key `{key}`: the file holds one table, `[counts]`"),
    }
}

pub(crate) const COUNTS_TABLE_MISSING: &str =
    "the table `[counts]` is missing: it holds the counts, like `flights = 10`";
pub(crate) const COUNTS_TABLE_KIND: &str =
    "`counts` must be a table: write `[counts]` and one count per line";

pub(crate) fn file_unreadable(path: &str, error: &std::io::Error) -> String {
    format!("cannot read `{path}`: {error}; the path is relative to this source file")
}

pub(crate) const FILE_UNKNOWN: &str = "the compiler does not say which file this is, so the path leads nowhere: write the counts inline, `counts = { flights = 10 };`";

// Names.

pub(crate) fn duplicate(what: &str, name: &str, first: &str) -> String {
    format!("duplicate {what}: `{name}` is already {first}")
}

pub(crate) fn keyword(name: &str) -> String {
    format!("`{name}` is a word of Rust and cannot name a state: take another name")
}

pub(crate) fn variable_unknown(name: &str, candidate: Option<&str>) -> String {
    match candidate {
        Some(candidate) => {
            format!("`{name}` is no variable of a loop around this, did you mean `{candidate}`?")
        }
        None => format!(
            "`{name}` is no variable of a loop around this: write `for {name} in 1..=count {{ … }}`"
        ),
    }
}

pub(crate) fn variable_unused(name: &str, variable: &str) -> String {
    format!(
        "every `{variable}` would declare `{name}` again: put `{{{variable}}}` into the name, or move it out of the loop"
    )
}

pub(crate) fn variable_shadowed(name: &str) -> String {
    format!("`{name}` is already the variable of a loop around this one: take another name")
}

pub(crate) fn variable_ranges(name: &str, here: (u32, u32), there: (u32, u32)) -> String {
    format!(
        "`{name}` runs over {}..={} here but over {}..={} in another loop: one name, one range",
        here.0, here.1, there.0, there.1
    )
}

pub(crate) fn count_differs(name: &str, here: u32, there: u32) -> String {
    format!(
        "count `{name}` is {here} here but {there} in an inherited set: give one of them another name"
    )
}

pub(crate) fn target_unknown(name: &str, list: &str, candidate: Option<&str>) -> String {
    match candidate {
        Some(candidate) => {
            format!("unknown state or group `{name}` in `{list}`, did you mean `{candidate}`?")
        }
        None => format!("unknown state or group `{name}` in `{list}`: declare it, or take it out"),
    }
}

pub(crate) fn target_out_of_range(
    name: &str,
    list: &str,
    pattern: &str,
    ranges: &[(&str, u32, u32)],
) -> String {
    let ranges: Vec<String> = ranges
        .iter()
        .map(|(name, first, last)| format!("`{name}` from {first} to {last}"))
        .collect();
    format!(
        "unknown state `{name}` in `{list}`: `{pattern}` has {}",
        ranges.join(" and ")
    )
}

pub(crate) fn group_out_of_scope(name: &str, variable: &str) -> String {
    format!(
        "there is one group `{name}` for each `{variable}`: name it inside `for {variable} in … {{ }}`, or list its states"
    )
}

pub(crate) fn group_below(name: &str) -> String {
    format!("group `{name}` is listed further down: move it above this one")
}

pub(crate) fn accessor_taken(name: &str, what: &str) -> String {
    format!(
        "{what} would get the generated name `{name}`, which is taken or no Rust name: call it something else"
    )
}

// Sizes.

pub(crate) fn too_many_states(name: &str, states: usize) -> String {
    format!(
        "`{name}` has {states} states: at most {} are possible; lower a count",
        crate::model::MAX_STATES
    )
}

pub(crate) fn too_many_relations(name: &str) -> String {
    format!(
        "`{name}` has more than {} relations: split its largest exclusive group",
        crate::model::MAX_RELATIONS
    )
}

pub(crate) fn too_many_variables() -> String {
    "at most 255 loop variables are possible: use the same name for loops over the same range"
        .to_owned()
}

// Relations.

pub(crate) fn contradiction(state: &str, target: &str, group: Option<&str>) -> String {
    match group {
        Some(group) => format!(
            "`{state}` requires `{target}`, but both are members of the exclusive group `{group}`: \
             it could never be active; drop the requirement or move one of them out of the group"
        ),
        None => format!(
            "`{state}` requires `{target}` and also removes it: it could never be active; keep one of the two"
        ),
    }
}

pub(crate) fn dead(state: &str, killer: &str, victim: &str, group: Option<&str>) -> String {
    let needs = "its requirements, followed through, include";
    match group {
        Some(group) => format!(
            "`{state}` can never be active: {needs} both `{killer}` and `{victim}`, \
             members of the exclusive group `{group}`"
        ),
        None if victim == state => {
            format!("`{state}` can never be active: {needs} `{killer}`, which removes it")
        }
        None if killer == state => {
            format!("`{state}` can never be active: {needs} `{victim}`, which it removes")
        }
        None => format!(
            "`{state}` can never be active: {needs} `{killer}` and `{victim}`, and the one removes the other"
        ),
    }
}

pub(crate) fn cycle(path: &[&str]) -> String {
    let shown = path
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(" -> ");
    format!(
        "require cycle: {shown}; none can become active without the others. \
         Drop a requirement or, if they are meant to come and go together, mark each of them `#[require_cycle]`"
    )
}

pub(crate) fn no_cycle(state: &str) -> String {
    format!("`{state}` is in no require cycle: take `#[require_cycle]` away")
}

// Handlers.

pub(crate) const HANDLERS_FORM: &str =
    "name the enum of states that the methods are bound to: `#[handlers(Flights)]`";
pub(crate) const NOT_IMPL: &str =
    "`handlers` goes on a block of methods: `#[handlers(Flights)] impl Tower { … }`";
pub(crate) const HANDLERS_OF_TRAIT: &str = "`handlers` goes on a type's own methods: write `impl Tower { … }`, and leave traits to blocks without it";
pub(crate) const NO_HANDLER: &str = "no method is bound to a state: mark one with `#[exit(…)]`, `#[enter(…)]`, `#[stay(…)]`, \
     `#[between(… => …)]`, `#[any_enter]`, `#[end(…)]`, `#[state(…)]` or `#[any_state]`";
pub(crate) const NOT_METHOD: &str = "a phase goes on a method";
pub(crate) const TARGET_FORM: &str = "expected names as code has them: an accessor like `gate`, a state like `Exception` or a group like `WEATHER`";
pub(crate) const TARGET_PATH: &str =
    "write the name alone, like `Exception`: the enum stands in `#[handlers(…)]`";
pub(crate) const BETWEEN_FORM: &str =
    "`between` takes the states before and those after: write `#[between(scheduled => departed)]`";
pub(crate) const HANDLER_ASYNC: &str = "a handler cannot be `async`: a transition waits for nothing; append mutations when the work is done";
pub(crate) const HANDLER_UNSAFE: &str = "a handler cannot be `unsafe`: the machine calls it";
pub(crate) const HANDLER_GENERIC: &str = "a handler has no parameters for types or numbers: nothing could say what they are; put them on the `impl`";
pub(crate) const CONTEXT_FIRST: &str =
    "the context comes first and once: `&self, cx: &mut …, flight: usize`";
pub(crate) const PARAMETER_PATTERN: &str =
    "a loop variable is found by its name: write it plainly, like `flight: usize`";

pub(crate) fn unknown_phase(name: &str, candidate: &str) -> String {
    format!("unknown phase `{name}`, did you mean `{candidate}`?")
}

pub(crate) fn phase_empty(phase: &str) -> String {
    format!("`{phase}` takes states: write `#[{phase}(gate, Exception, WEATHER)]`")
}

pub(crate) fn any_arguments(phase: &str) -> String {
    let single = phase.trim_start_matches("any_");
    format!(
        "`{phase}` runs once a transition and takes no states: write `#[{phase}]`, or `#[{single}(…)]` for some states"
    )
}

pub(crate) fn any_variable(phase: &str, variable: &str) -> String {
    format!("`{phase}` runs once a transition, not for each `{variable}`: take the parameter away")
}

pub(crate) fn arrow(phase: &str) -> String {
    format!("`{phase}` takes no `=>`: pairs of states belong in `between`")
}

pub(crate) fn variant_arguments(name: &str) -> String {
    format!("`{name}` is no function: write `{name}`, or the accessor, which has small letters")
}

pub(crate) fn phases_mixed(asked: &str, told: &str) -> String {
    format!(
        "`{asked}` asks and may refuse, `{told}` tells what has happened: a method does one of the two; split it"
    )
}

pub(crate) fn no_receiver(name: &str, wanted: &str) -> String {
    format!("a handler belongs to a value: write `fn {name}({wanted}, …)`")
}

pub(crate) fn receiver_by_value(asks: bool) -> String {
    let wanted = if asks { "`&self`" } else { "`&mut self`" };
    format!("a handler runs many times and cannot take the value away: use {wanted}")
}

pub(crate) fn receiver_mutable(phase: &str) -> String {
    format!(
        "`{phase}` changes nothing, as it may be asked in a dry run or refused by another: use `&self`, \
         and note things in `state` or `end`"
    )
}

pub(crate) fn context_kind(phase: &str, wrong: &str, right: &str) -> String {
    format!("`{phase}` has no `{wrong}`: take `&mut {right}<'_, …>`")
}

pub(crate) fn context_by_value(name: &str) -> String {
    format!("the context is lent: take `&mut {name}<'_, …>`")
}

pub(crate) fn variable_type(name: &str, given: &str) -> String {
    format!("the loop variable `{name}` is a `usize`, not `{given}`")
}

pub(crate) fn variable_twice(name: &str) -> String {
    format!("the loop variable `{name}` is taken twice: once is enough")
}

pub(crate) fn argument_unknown(name: &str, candidate: Option<&str>) -> String {
    match candidate {
        Some(candidate) => {
            format!("`{name}` is no parameter of the method, did you mean `{candidate}`?")
        }
        None => format!("`{name}` is no parameter of the method: add `{name}: usize`"),
    }
}

pub(crate) fn variable_idle(target: &str, variable: &str, accessor: bool) -> String {
    let same = format!(
        "`{target}` is the same for every `{variable}`, so that the method would run once for each of them"
    );
    if accessor {
        format!("{same}: give it `{variable}`, or bind it in a method without this parameter")
    } else {
        format!(
            "{same}: bind it in a method without `{variable}`, where a loop over all values can be written"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[track_caller]
    fn check(name: &str, candidates: &[&str], expected: Option<&str>) {
        assert_eq!(similar(name, candidates.iter().copied()), expected);
    }

    #[test]
    fn a_typo_finds_its_candidate() {
        check(
            "Flight{flight}Departd",
            &["Flight{flight}Departed", "Flight{flight}Arrived"],
            Some("Flight{flight}Departed"),
        );
        check("flihgts", &["gates", "flights"], Some("flights"));
        check("start", &["Start"], Some("Start"));
    }

    #[test]
    fn what_resembles_nothing_gets_no_candidate() {
        check("Moon", &["Flight", "Gate"], None);
        check("A", &["Boarding"], None);
    }
}
