//! The counts that loops run to: written inline, or in a file like `states.toml`.
//!
//! Spans cannot point into a file that the compiler does not read, so a message about the file
//! carries the place, the line and a caret, and is anchored at the path in the template.

use std::ops::Range;

use proc_macro2::Ident;
use syn::LitStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostics::{self as say, Errors};
use crate::input::{Counts, Item, Last, Members};
use crate::model::MAX_STATES;

/// The counts of one template, in order of first use.
#[derive(Default)]
pub(crate) struct Resolved {
    pub(crate) values: Vec<(String, u32)>,
    /// The file to watch, where there is one that can be read.
    pub(crate) file: Option<LitStr>,
    /// Whether no value had to be made up after a mistake.
    pub(crate) complete: bool,
}

impl Resolved {
    pub(crate) fn value(&self, name: &str) -> Option<u32> {
        self.values
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }
}

/// The counts that `items` name, each where it is named first.
pub(crate) fn used(items: &[Item]) -> Vec<&Ident> {
    fn collect<'a>(items: &'a [Item], into: &mut Vec<&'a Ident>) {
        for item in items {
            match item {
                Item::Loop(looped) => {
                    if let Some((_, Last::Count(count))) = &looped.range
                        && !into.contains(&count)
                    {
                        into.push(count);
                    }
                    collect(&looped.body, into);
                }
                Item::Group(group) => {
                    if let Members::Declared(items) = &group.members {
                        collect(items, into);
                    }
                }
                Item::State(_) => {}
            }
        }
    }
    let mut idents = Vec::new();
    collect(items, &mut idents);
    idents
}

/// What the file that a path names says, or why that is not known.
pub(crate) type Read<'a> = dyn Fn(&LitStr) -> Result<String, String> + 'a;

/// Finds the value of every count in `used`. A mistake is reported and the count taken as 1.
pub(crate) fn resolve(
    counts: &Counts,
    used: &[&Ident],
    read: &Read<'_>,
    errors: &mut Errors,
) -> Resolved {
    let before = errors.len();
    let mut resolved = Resolved::default();
    let (given, place) = match counts {
        Counts::Nowhere => (Some(Vec::new()), String::new()),
        Counts::Inline(counts) => (Some(inline(counts, used, errors)), "`counts`".to_owned()),
        Counts::File { path, shared } => {
            let text = read(path).map_err(|message| errors.at(path.span(), message));
            resolved.file = text.is_ok().then(|| path.clone());
            let file = text.ok().map(|text| File { path, text });
            let given = file.and_then(|file| file.counts(used, *shared, errors));
            (given, format!("`{}`", path.value()))
        }
    };
    for ident in used {
        let name = ident.to_string();
        let found = given.iter().flatten().find(|(known, _)| *known == name);
        if found.is_none() && given.is_some() {
            let candidate = say::similar(
                &name,
                given.iter().flatten().map(|(known, _)| known.as_str()),
            );
            errors.at(
                ident.span(),
                match counts {
                    Counts::Nowhere => say::no_counts(&name),
                    _ => say::count_missing(&name, &place, candidate),
                },
            );
        }
        resolved
            .values
            .push((name, found.and_then(|(_, value)| *value).unwrap_or(1)));
    }
    resolved.complete = errors.len() == before;
    errors.counts_made_up |= !resolved.complete;
    resolved
}

/// Names and values; no value where it has been reported.
type Given = Vec<(String, Option<u32>)>;

fn inline(counts: &[(Ident, Option<syn::LitInt>)], used: &[&Ident], errors: &mut Errors) -> Given {
    let mut given = Given::new();
    for (ident, literal) in counts {
        let name = ident.to_string();
        if given.iter().any(|(known, _)| *known == name) {
            errors.at(ident.span(), say::count_twice(&name));
            continue;
        }
        if !used.contains(&ident) {
            errors.at(
                ident.span(),
                say::count_unused(&name, unmet(&name, used, counts).as_deref()),
            );
        }
        let value = literal.as_ref().and_then(|literal| {
            let value = checked(&name, literal.base10_parse().ok(), literal.base10_digits());
            value
                .map_err(|message| errors.at(literal.span(), message))
                .ok()
        });
        given.push((name, value));
    }
    given
}

/// The count used but not given that `name` was most likely meant to be.
fn unmet(name: &str, used: &[&Ident], given: &[(Ident, Option<syn::LitInt>)]) -> Option<String> {
    let unmet: Vec<String> = used
        .iter()
        .filter(|ident| !given.iter().any(|(known, _)| known == **ident))
        .map(ToString::to_string)
        .collect();
    say::similar(name, unmet.iter().map(String::as_str)).map(str::to_owned)
}

fn checked(name: &str, value: Option<i64>, text: &str) -> Result<u32, String> {
    match value {
        Some(value) if value < 1 => Err(say::count_small(name, text)),
        Some(value) => u32::try_from(value)
            .ok()
            .filter(|value| *value as usize <= MAX_STATES)
            .ok_or_else(|| say::count_large(name, text)),
        None if text.starts_with('-') => Err(say::count_small(name, text)),
        None => Err(say::count_large(name, text)),
    }
}

/// The text of the file at `path`, which is relative to the file that the literal stands in.
pub(crate) fn read(path: &LitStr) -> Result<String, String> {
    let file = proc_macro::is_available()
        .then(|| path.span().unwrap().local_file())
        .flatten();
    let file = file.ok_or_else(|| say::FILE_UNKNOWN.to_owned())?;
    std::fs::read_to_string(file.with_file_name(path.value()))
        .map_err(|error| say::file_unreadable(&path.value(), &error))
}

struct File<'a> {
    path: &'a LitStr,
    text: String,
}

impl File<'_> {
    /// The counts in the file; `None` if it cannot be read as TOML.
    fn counts(&self, used: &[&Ident], shared: bool, errors: &mut Errors) -> Option<Given> {
        let mut found = Vec::new();
        let counts = parse(&self.text, used, shared, &mut found);
        found.sort_by_key(|(span, _): &(Range<usize>, String)| span.start);
        for (span, message) in found {
            errors.at(
                self.path.span(),
                located(&self.path.value(), &self.text, &span, &message),
            );
        }
        counts
    }
}

/// Reads `text`; mistakes go into `found` with their place.
fn parse(
    text: &str,
    used: &[&Ident],
    shared: bool,
    found: &mut Vec<(Range<usize>, String)>,
) -> Option<Given> {
    let (table, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        found.extend(
            syntax
                .iter()
                .map(|error| (error.span().unwrap_or(0..0), error.message().to_owned())),
        );
        return None;
    }
    let mut given = None;
    for (key, value) in table.get_ref() {
        let name = key.get_ref().as_ref();
        if name != "counts" {
            let candidate = say::similar(name, ["counts"]);
            found.push((key.span(), say::key_unknown(name, candidate)));
        } else if let DeValue::Table(counts) = value.get_ref() {
            given = Some(table_counts(counts, used, shared, found));
        } else {
            found.push((key.span(), say::COUNTS_TABLE_KIND.to_owned()));
            return None;
        }
    }
    if given.is_none() {
        found.push((0..0, say::COUNTS_TABLE_MISSING.to_owned()));
    }
    given
}

fn table_counts(
    counts: &DeTable<'_>,
    used: &[&Ident],
    shared: bool,
    found: &mut Vec<(Range<usize>, String)>,
) -> Given {
    let used: Vec<String> = used.iter().map(ToString::to_string).collect();
    let mut given = Given::new();
    for (key, value) in counts {
        let name = key.get_ref().as_ref();
        if !shared && !used.iter().any(|used| used == name) {
            let unmet = used
                .iter()
                .map(String::as_str)
                .filter(|used| !counts.contains_key(*used));
            found.push((
                key.span(),
                say::count_unused_in_file(name, say::similar(name, unmet)),
            ));
        }
        let value = count(name, value).map_err(|message| found.push((value.span(), message)));
        given.push((name.to_owned(), value.ok()));
    }
    given
}

fn count(name: &str, value: &Spanned<DeValue<'_>>) -> Result<u32, String> {
    match value.get_ref() {
        DeValue::Integer(integer) => {
            let value = i64::from_str_radix(integer.as_str(), integer.radix());
            checked(name, value.ok(), integer.as_str())
        }
        other => Err(say::count_kind(name, &format!("a {}", other.type_str()))),
    }
}

/// `message` with its place in the file, the line and a caret.
fn located(path: &str, text: &str, span: &Range<usize>, message: &str) -> String {
    let start = span.start.min(text.len());
    let before = text.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let number = before.matches('\n').count() + 1;
    let line = text
        .get(line_start..)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default();
    let lead = before.get(line_start..).unwrap_or_default();
    let column = lead.chars().count() + 1;
    let blank: String = lead
        .chars()
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let marked = text
        .get(start..span.end)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default();
    let carets = "^".repeat(marked.chars().count().max(1));
    let margin = " ".repeat(number.to_string().len());
    format!(
        "{path}:{number}:{column}: {message}\n{margin} |\n{number} | {line}\n{margin} | {blank}{carets}"
    )
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let used = ["flights", "gates"].map(|name| Ident::new(name, Span::call_site()));
        let mut found = Vec::new();
        parse(text, &used.each_ref(), false, &mut found);
        let told: Vec<String> = found
            .iter()
            .map(|(span, message)| located("s.toml", text, span, message))
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_good_file_says_nothing() {
        check("[counts]\nflights = 10\ngates = 0x5\n", &[]);
        check("counts = { flights = 1_0, gates = 5 }", &[]);
    }

    #[test]
    fn values_are_positive_integers() {
        check(
            "[counts]\nflights = 0\ngates = \"five\"",
            &[
                "s.toml:2:11: count `flights` is 0: it must be at least 1\n  |\n2 | flights = 0\n  |           ^",
                "s.toml:3:9: count `gates` is a string: it must be an integer, at least 1\n  |\n3 | gates = \"five\"\n  |         ^^^^^^",
            ],
        );
        check(
            "[counts]\nflights = -3\ngates = 70000",
            &[
                "s.toml:2:11: count `flights` is -3: it must be at least 1\n  |\n2 | flights = -3\n  |           ^^",
                "s.toml:3:9: count `gates` is 70000: a machine has at most 65534 states\n  |\n3 | gates = 70000\n  |         ^^^^^",
            ],
        );
    }

    #[test]
    fn keys_are_known() {
        check(
            "[count]\nflights = 1",
            &[
                "s.toml:1:2: unknown key `count`, did you mean `counts`?\n  |\n1 | [count]\n  |  ^^^^^",
                "s.toml:1:1: the table `[counts]` is missing: it holds the counts, like `flights = 10`\n  |\n1 | [count]\n  | ^",
            ],
        );
        check(
            "[counts]\nflight = 1\ngates = 2",
            &[
                "s.toml:2:1: count `flight` is used by no loop, did you mean `flights`?\n  |\n2 | flight = 1\n  | ^^^^^^",
            ],
        );
    }

    #[test]
    fn syntax_errors_have_a_place() {
        let text = "[counts]\nflights = \ngates = 5";
        let mut found = Vec::new();
        assert!(parse(text, &[], false, &mut found).is_none());
        assert!(located("s.toml", text, &found[0].0, &found[0].1).starts_with("s.toml:2:"));
    }
}
