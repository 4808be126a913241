//! Indexed access: what the generated functions and constants are called, and their code.
//!
//! Names come from the template. Where two would be the same, the lesser gets a longer one: states
//! before loops before groups before inverses before payloads.

use std::collections::BTreeMap;

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;

use crate::diagnostics::{self as say, At, Errors};
use crate::input::{Input, Piece};
use crate::model::Model;
use crate::names::Names;
use crate::template::{Listing, Template};

/// Functions that every generated enum has, itself or by a trait.
const TAKEN: [&str; 26] = [
    "index",
    "from_index",
    "name",
    "schema",
    "clone",
    "clone_from",
    "cmp",
    "partial_cmp",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "hash",
    "fmt",
    "max",
    "min",
    "clamp",
    "to_string",
    "to_owned",
    "into",
    "from",
    "from_str",
    "serialize",
    "deserialize",
];

/// What is to be named.
#[derive(Clone, Copy)]
enum Kind {
    State(usize),
    Loop(usize),
    Group(usize),
    Inverse(usize),
    Payload(usize),
}

impl Kind {
    fn describe(self, template: &Template<'_>) -> String {
        match self {
            Self::State(line) => {
                format!("the state `{}`", template.lines[line].state.name.pattern())
            }
            Self::Payload(line) => {
                let pattern = template.lines[line].state.name.pattern();
                format!("the payload of `{pattern}`")
            }
            Self::Loop(axis) | Self::Inverse(axis) => {
                format!("the loop variable `{}`", template.axes[axis].name)
            }
            Self::Group(group) => format!("the group `{}`", template.groups[group].name),
        }
    }
}

/// Something that gets a generated name.
struct Wish {
    kind: Kind,
    /// The names it may get, the best first.
    names: Vec<String>,
    at: At,
}

/// The functions and constants of the enum.
pub(crate) struct Accessors {
    /// Those that use the helpers of the expansion.
    pub(crate) indexed: TokenStream,
    /// Those that name types of the user's, so that they belong where nothing else is in scope.
    pub(crate) payloads: TokenStream,
}

/// Names and writes the functions and constants of the enum.
pub(crate) fn accessors(
    input: &Input,
    template: &Template<'_>,
    model: &Model,
    names: &Names,
    errors: &mut Errors,
) -> Accessors {
    let mut taken: BTreeMap<String, Option<(u32, u32)>> = TAKEN
        .iter()
        .map(|name| ((*name).to_owned(), None))
        .collect();
    let mut accessors = Accessors {
        indexed: (0..template.axes.len())
            .map(|axis| each(template, axis))
            .collect(),
        payloads: TokenStream::new(),
    };
    let mut states: BTreeMap<usize, Ident> = BTreeMap::new();
    for mut wish in wishes(template, names) {
        if let Kind::Payload(line) = wish.kind
            && let Some(state) = states.get(&line)
        {
            // It is called after the function that its state got.
            wish.names = payload_names(&state.unraw().to_string());
        }
        // Loops over one count share its function.
        let range = match wish.kind {
            Kind::Loop(axis) => Some((template.axes[axis].first, template.axes[axis].last)),
            Kind::State(_) | Kind::Group(_) | Kind::Inverse(_) | Kind::Payload(_) => None,
        };
        if range.is_some() && taken.get(&wish.names[0]) == Some(&range) {
            continue;
        }
        let free = wish
            .names
            .iter()
            .find(|name| !taken.contains_key(*name) && identifier(name).is_some());
        let Some((name, ident)) = free.and_then(|name| Some((name, identifier(name)?))) else {
            errors.at(
                wish.at,
                say::accessor_taken(&wish.names[0], &wish.kind.describe(template)),
            );
            continue;
        };
        taken.insert(name.clone(), range);
        let writer = Writer {
            input,
            template,
            model,
        };
        let written = match wish.kind {
            Kind::State(line) => writer.state(&ident, line),
            Kind::Loop(axis) => writer.range(&ident, axis),
            Kind::Group(group) => writer.group(&ident, group),
            Kind::Inverse(axis) => writer.inverse(&ident, axis),
            Kind::Payload(line) => {
                let written = writer.payload(&ident, line, states.get(&line));
                accessors.payloads.extend(written);
                continue;
            }
        };
        accessors.indexed.extend(written);
        if let Kind::State(line) = wish.kind {
            states.insert(line, ident);
        }
    }
    accessors
}

/// The range of a loop variable for `handlers`, which knows the variable's name and no more.
fn each(template: &Template<'_>, id: usize) -> TokenStream {
    let axis = &template.axes[id];
    let ident = format_ident!("__each_{}", axis.name.trim_start_matches("r#"));
    let first = Literal::usize_unsuffixed(axis.first as usize);
    let last = Literal::usize_unsuffixed(axis.last as usize);
    let place = Literal::usize_unsuffixed(if template.nests_in_one_order() { id } else { 0 });
    quote! {
        #[doc(hidden)]
        #[must_use]
        pub const fn #ident() -> ::machine_runtime::__private::Each {
            ::machine_runtime::__private::Each { first: #first, last: #last, place: #place }
        }
    }
}

fn payload_names(state: &str) -> Vec<String> {
    vec![format!("{state}_payload"), format!("{state}_payload_of")]
}

/// Everything that gets a name, the most important first.
fn wishes(template: &Template<'_>, names: &Names) -> Vec<Wish> {
    let mut wishes = Vec::new();
    let indexed = template
        .lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.path.is_empty() && !line.dropped);
    let shorts: Vec<(usize, String, String)> = indexed
        .map(|(id, line)| {
            let pieces = &line.state.name.pieces;
            (
                id,
                snake(&letters(without_prefix(pieces))),
                snake(&letters(pieces)),
            )
        })
        .collect();
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, short, _) in &shorts {
        *uses.entry(short).or_default() += 1;
    }
    for (line, short, long) in &shorts {
        let mut names = vec![long.clone(), format!("{long}_state")];
        if uses[short.as_str()] == 1 {
            names.insert(0, short.clone());
        }
        wishes.push(Wish {
            kind: Kind::State(*line),
            names,
            at: template.lines[*line].at,
        });
    }
    for (id, axis) in template.axes.iter().enumerate() {
        let name = axis
            .count
            .clone()
            .unwrap_or_else(|| format!("{}s", axis.name));
        let names = vec![
            name.clone(),
            format!("{name}_range"),
            format!("{}_range", axis.name),
        ];
        wishes.push(Wish {
            kind: Kind::Loop(id),
            names,
            at: axis.at,
        });
    }
    for (id, group) in template.groups.iter().enumerate() {
        let name = snake(&group.name);
        let mut wanted = vec![name.clone(), format!("{name}_group")];
        if group.path.is_empty() {
            wanted = wanted.iter().map(|name| name.to_uppercase()).collect();
            wanted.retain(|name| {
                name != "ALL" && name != "COUNT" && names.find(template, name).is_none()
            });
            wanted.push(format!("{}_GROUP", name.to_uppercase()));
        }
        wishes.push(Wish {
            kind: Kind::Group(id),
            names: wanted,
            at: group.at,
        });
    }
    for (id, axis) in template.axes.iter().enumerate() {
        let names = vec![axis.name.clone(), format!("{}_index", axis.name)];
        wishes.push(Wish {
            kind: Kind::Inverse(id),
            names,
            at: axis.at,
        });
    }
    for (id, line) in template.lines.iter().enumerate() {
        if line.state.marks.payload.is_some() && !line.dropped {
            wishes.push(Wish {
                kind: Kind::Payload(id),
                names: payload_names(&snake(&letters(&line.state.name.pieces))),
                at: line.at,
            });
        }
    }
    wishes
}

/// The name without the loops it begins with: `Flight{flight}Gate{gate}` is a gate.
fn without_prefix(pieces: &[Piece]) -> &[Piece] {
    let mut rest = pieces;
    while let [Piece::Text(_), Piece::Variable(_), after @ ..] = rest
        && after.iter().any(|piece| matches!(piece, Piece::Text(_)))
    {
        rest = after;
    }
    rest
}

fn letters(pieces: &[Piece]) -> String {
    let texts = pieces.iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(text.as_str()),
        Piece::Variable(_) => None,
    });
    texts.collect()
}

/// `GoToGate` to `go_to_gate`.
fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (i, letter) in letters.iter().enumerate() {
        let after_lower = i > 0 && !letters[i - 1].is_uppercase() && letters[i - 1] != '_';
        let before_lower = i > 0
            && letters[i - 1].is_uppercase()
            && letters.get(i + 1).is_some_and(|c| c.is_lowercase());
        if letter.is_uppercase() && (after_lower || before_lower) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// `name` as a Rust name, raw if it is a keyword.
fn identifier(name: &str) -> Option<Ident> {
    syn::parse_str(name)
        .or_else(|_| syn::parse_str(&format!("r#{name}")))
        .ok()
}

struct Writer<'w, 'a> {
    input: &'w Input,
    template: &'w Template<'a>,
    model: &'w Model,
}

impl Writer<'_, '_> {
    /// The parameters and the index of what starts at `start` in the loops of `path`.
    fn place(&self, path: &[usize], start: usize) -> (TokenStream, TokenStream) {
        let place = self.template.place_of(path, start);
        let base = Literal::usize_unsuffixed(place.base);
        let (mut parameters, mut index) = (TokenStream::new(), quote!(#base));
        for step in &place.steps {
            let axis = &self.template.axes[step.axis];
            let name = &axis.name;
            let variable = format_ident!("{name}");
            let first = Literal::usize_unsuffixed(axis.first as usize);
            let last = Literal::usize_unsuffixed(axis.last as usize);
            let stride = Literal::usize_unsuffixed(step.stride);
            parameters.extend(quote!(#variable: usize,));
            index.extend(quote!(+ __position(#name, #variable, #first, #last) * #stride));
        }
        (parameters, index)
    }

    /// The documentation of a function with the loop variables of `path` as parameters.
    fn docs(&self, summary: &str, path: &[usize]) -> String {
        let ranges: Vec<String> = path
            .iter()
            .map(|id| &self.template.axes[self.template.loops[*id].axis])
            .map(|axis| format!("`{}` is not in `{}..={}`", axis.name, axis.first, axis.last))
            .collect();
        format!("{summary}\n\n# Panics\n\nIf {}.", ranges.join(" or "))
    }

    fn state(&self, ident: &Ident, line: usize) -> TokenStream {
        let line = &self.template.lines[line];
        let (parameters, index) = self.place(&line.path, line.start);
        let docs = self.docs(
            &format!("The state `{}`.", line.state.name.pattern()),
            &line.path,
        );
        quote! {
            #[doc = #docs]
            #[must_use]
            #[track_caller]
            pub fn #ident(#parameters) -> Self { __all::<()>()[#index] }
        }
    }

    /// The state of a line, called by the name it got, together with the type of its payload.
    fn payload(&self, ident: &Ident, line: usize, state: Option<&Ident>) -> TokenStream {
        let line = &self.template.lines[line];
        let Some(payload) = &line.state.marks.payload else {
            return TokenStream::new();
        };
        let of = &payload.of;
        let pattern = line.state.name.pattern();
        let summary = format!("The state `{pattern}` with the type of its payload.");
        let Some(state) = state else {
            if !line.path.is_empty() {
                // Its function got no name, which has been reported.
                return TokenStream::new();
            }
            let variant = format_ident!("{pattern}");
            return quote! {
                #[doc = #summary]
                #[must_use]
                pub const fn #ident() -> ::machine_runtime::__private::PayloadOf<Self, #of> {
                    ::machine_runtime::__private::PayloadOf::new(Self::#variant)
                }
            };
        };
        let docs = self.docs(&summary, &line.path);
        let variables: Vec<Ident> = self
            .template
            .variables(&line.path)
            .map(|name| format_ident!("{name}"))
            .collect();
        quote! {
            #[doc = #docs]
            #[must_use]
            #[track_caller]
            pub fn #ident(#(#variables: ::core::primitive::usize),*)
                -> ::machine_runtime::__private::PayloadOf<Self, #of>
            {
                ::machine_runtime::__private::PayloadOf::new(Self::#state(#(#variables),*))
            }
        }
    }

    fn range(&self, ident: &Ident, axis: usize) -> TokenStream {
        let axis = &self.template.axes[axis];
        let first = Literal::usize_unsuffixed(axis.first as usize);
        let last = Literal::usize_unsuffixed(axis.last as usize);
        let docs = format!(
            "Every value of `{}` in the template: {}..={}.",
            axis.name, axis.first, axis.last
        );
        quote! {
            #[doc = #docs]
            #[must_use]
            pub const fn #ident() -> ::core::ops::RangeInclusive<usize> {
                ::core::ops::RangeInclusive::new(#first, #last)
            }
        }
    }

    fn group(&self, ident: &Ident, id: usize) -> TokenStream {
        let group = &self.template.groups[id];
        let lists = &self.model.groups[id];
        let name = &self.input.name;
        let mut summary: Vec<String> = group
            .docs
            .iter()
            .map(|line| line.value().trim().to_owned())
            .collect();
        if summary.is_empty() {
            let removing = if group.exclusive {
                ", of which one at most is active"
            } else {
                ""
            };
            summary.push(format!(
                "The states of the group `{}`{removing}.",
                group.name
            ));
        }
        let mut summary = summary.join("\n");
        for variable in self.template.variables(&group.path) {
            summary = summary.replace(&format!("{{{variable}}}"), &format!("`{variable}`"));
        }
        if group.path.is_empty() {
            let mut words = vec![0_u64; self.model.len().div_ceil(64)];
            for state in lists.items.iter().map(|state| *state as usize) {
                words[state / 64] |= 1 << (state % 64);
            }
            let words = words.into_iter().map(Literal::u64_unsuffixed);
            return quote! {
                #[doc = #summary]
                pub const #ident: ::machine_runtime::__private::StateSet<#name> =
                    ::machine_runtime::__private::StateSet::from_words([#(#words),*]);
            };
        }
        let docs = self.docs(&summary, &group.path);
        let body = match group.members {
            Listing::Run { start, len } => {
                let (_, index) = self.place(&group.path, start);
                let len = Literal::usize_unsuffixed(len);
                quote! {
                    let start = #index;
                    &__all::<()>()[start..start + #len]
                }
            }
            Listing::Names(_) => {
                let len = lists.ends.first().copied().unwrap_or_default() as usize;
                let round = self.round(&group.path);
                let members = crate::expand::states(
                    name,
                    self.model,
                    lists.items.iter().map(|state| *state as usize),
                );
                let len = Literal::usize_unsuffixed(len);
                quote! {
                    const MEMBERS: &[#name] = &[#members];
                    let start = (#round) * #len;
                    &MEMBERS[start..start + #len]
                }
            }
        };
        let (parameters, _) = self.place(&group.path, 0);
        quote! {
            #[doc = #docs]
            #[must_use]
            #[track_caller]
            pub fn #ident(#parameters) -> &'static [Self] { #body }
        }
    }

    /// Which round of the loops in `path` it is, the innermost counting fastest.
    fn round(&self, path: &[usize]) -> TokenStream {
        let mut round = quote!(0);
        for id in path {
            let axis = &self.template.axes[self.template.loops[*id].axis];
            let name = &axis.name;
            let variable = format_ident!("{name}");
            let first = Literal::usize_unsuffixed(axis.first as usize);
            let last = Literal::usize_unsuffixed(axis.last as usize);
            let rounds = Literal::usize_unsuffixed((axis.last - axis.first) as usize + 1);
            round = quote!((#round) * #rounds + __position(#name, #variable, #first, #last));
        }
        round
    }

    fn inverse(&self, ident: &Ident, axis: usize) -> TokenStream {
        let name = &self.template.axes[axis].name;
        let index = Literal::usize_unsuffixed(axis);
        let docs = format!(
            "The `{name}` that the state belongs to; `None` for a state outside the loops over `{name}`."
        );
        quote! {
            #[doc = #docs]
            #[must_use]
            pub fn #ident(self) -> ::core::option::Option<usize> { __value(#index, self.index()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::snake;

    #[test]
    fn snake_case_splits_words() {
        let names = ["GoToGate", "OnTime", "HTTPServer", "Gate", "Err4Foo", "A"];
        assert_eq!(
            names.map(snake),
            [
                "go_to_gate",
                "on_time",
                "http_server",
                "gate",
                "err4_foo",
                "a"
            ]
        );
    }
}
