//! Model to tokens: an enum, its tables, and impls without any control flow of their own.
//!
//! What is emitted is chosen for the compiler's sake, at tens of thousands of states: names are one
//! string, numbers are byte strings, nothing is matched on, and `Debug` is not derived (its
//! derivation takes memory quadratic in the number of variants).

use std::str::FromStr;

use proc_macro2::{Ident, Literal, Punct, Spacing, TokenStream, TokenTree};
use quote::quote;
use syn::LitStr;

use crate::accessors::Accessors;
use crate::counts::Resolved;
use crate::input::Input;
use crate::model::{Lists, Model};
use crate::template::{Line, Template};

/// The expansion; `accessors` go into the enum's impl.
pub(crate) fn expand(
    input: &Input,
    counts: &Resolved,
    template: &Template<'_>,
    model: &Model,
    accessors: &Accessors,
) -> TokenStream {
    let name = &input.name;
    let Accessors { indexed, payloads } = accessors;
    let enumeration = enumeration(input, template, model);
    let tables = tables(name, template, model);
    let all = states(name, model, 0..model.len());
    let count = Literal::usize_unsuffixed(model.len());
    let words = Literal::usize_unsuffixed(model.len().div_ceil(64));
    let watched = counts.file.iter();
    let values = values(name);
    let helpers = (!template.axes.is_empty()).then(helpers);
    quote! {
        #enumeration
        const _: () = {
            #[allow(unused_imports)]
            use ::core::primitive::{bool, str, u8, u16, u32, u64, usize};
            #(const _: &[u8] = ::core::include_bytes!(#watched);)*
            static TABLES: ::machine_runtime::__private::Tables = #tables;
            static SCHEMA: ::machine_runtime::__private::SchemaCell =
                ::machine_runtime::__private::SchemaCell::new(&TABLES);
            #helpers
            #values

            // Generic, so that the compiler does not evaluate the array while it only checks: it
            // would look for each element among all variants.
            #[allow(clippy::extra_unused_type_parameters)]
            const fn __all<T>() -> &'static [#name; #count] { &[#all] }

            #[allow(dead_code)]
            impl #name {
                /// Every state, in index order.
                pub const ALL: &'static [Self; #count] = __all::<()>();

                /// The number of states.
                pub const COUNT: usize = #count;

                /// The state's place in the index order: its bit in every set and on the wire.
                #[must_use]
                pub const fn index(self) -> usize { self as usize }

                /// The state at `index`; `None` from [`COUNT`](Self::COUNT) on.
                #[must_use]
                pub const fn from_index(index: usize) -> ::core::option::Option<Self> {
                    if index < #count {
                        ::core::option::Option::Some(__all::<()>()[index])
                    } else {
                        ::core::option::Option::None
                    }
                }

                /// The state's name.
                #[must_use]
                pub fn name(self) -> &'static str { SCHEMA.get().name_of(self as usize) }

                #indexed
            }

            impl ::machine_runtime::__private::State for #name {
                type Words = [u64; #words];

                fn index(self) -> usize { self as usize }

                fn from_index(index: usize) -> ::core::option::Option<Self> { #name::from_index(index) }
            }

            impl ::machine_runtime::__private::States for #name {
                const ALL: &'static [Self] = __all::<()>();

                fn schema() -> &'static ::std::sync::Arc<::machine_runtime::__private::Schema> { SCHEMA.get() }
            }

            impl ::core::fmt::Debug for #name {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.write_str(self.name())
                }
            }

            impl ::core::fmt::Display for #name {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.pad(self.name())
                }
            }

            impl ::core::str::FromStr for #name {
                type Err = ::machine_runtime::__private::UnknownState;

                fn from_str(name: &str) -> ::core::result::Result<Self, Self::Err> {
                    SCHEMA.get().find_or_suggest(name).map(|index| __all::<()>()[index])
                }
            }

            ::machine_runtime::__private::impl_serde!(#name);
        };

        #[allow(dead_code)]
        impl #name { #payloads }
    }
}

/// What could be derived as well, were it not for the copy of all variants that each derivation takes.
fn values(name: &Ident) -> TokenStream {
    quote! {
        impl ::core::cmp::Eq for #name {}

        impl ::core::cmp::PartialOrd for #name {
            fn partial_cmp(&self, other: &Self) -> ::core::option::Option<::core::cmp::Ordering> {
                ::core::option::Option::Some(::core::cmp::Ord::cmp(self, other))
            }
        }

        impl ::core::cmp::Ord for #name {
            fn cmp(&self, other: &Self) -> ::core::cmp::Ordering {
                ::core::cmp::Ord::cmp(&(*self as u16), &(*other as u16))
            }
        }

        impl ::core::hash::Hash for #name {
            fn hash<H: ::core::hash::Hasher>(&self, state: &mut H) {
                ::core::hash::Hash::hash(&(*self as u16), state);
            }
        }
    }
}

/// What indexed access shares.
fn helpers() -> TokenStream {
    quote! {
        #[allow(dead_code)]
        #[track_caller]
        fn __position(variable: &str, value: usize, first: usize, last: usize) -> usize {
            ::core::assert!(value >= first && value <= last, "{variable} {value} is not in {first}..={last}");
            value - first
        }

        #[allow(dead_code)]
        fn __value(axis: usize, state: usize) -> ::core::option::Option<usize> {
            let bytes = TABLES.axes[axis].values.as_chunks::<4>().0[state];
            match u32::from_le_bytes(bytes) {
                u32::MAX => ::core::option::Option::None,
                value => ::core::option::Option::Some(value as usize),
            }
        }
    }
}

fn enumeration(input: &Input, template: &Template<'_>, model: &Model) -> TokenStream {
    let Input {
        attributes,
        visibility,
        name,
        ..
    } = input;
    let docs: Vec<Docs> = template
        .lines
        .iter()
        .map(|line| Docs::of(line, template, name))
        .collect();
    let mut variants = TokenStream::new();
    let mut states = model.lines.iter().enumerate();
    template.unroll(|_, values| {
        let Some((state, line)) = states.next() else {
            return;
        };
        let line = *line as usize;
        let span = template.lines[line].at.start;
        variants.extend(docs[line].write(template, values));
        variants.extend([
            TokenTree::Ident(Ident::new(model.name(state), span)),
            TokenTree::Punct(Punct::new(',', Spacing::Alone)),
        ]);
    });
    quote! {
        #(#attributes)*
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::cmp::PartialEq)]
        #[repr(u16)]
        #visibility enum #name { #variants }
    }
}

/// The documentation of the variants that come from one line.
enum Docs {
    Same(TokenStream),
    /// With loop variables in it.
    Each(String),
}

impl Docs {
    fn of(line: &Line<'_>, template: &Template<'_>, name: &Ident) -> Self {
        let written = &line.state.marks.docs;
        let text = written
            .iter()
            .map(LitStr::value)
            .collect::<Vec<_>>()
            .join("\n");
        let used = |variable: &str| text.contains(&format!("{{{variable}}}"));
        if template.variables(&line.path).any(used) {
            return Self::Each(text);
        }
        if !written.is_empty() {
            return Self::Same(comment(&text));
        }
        let group = line
            .groups
            .last()
            .map(|group| &template.groups[*group].name);
        let text = match (line.inherited, group) {
            (_, Some(group)) => format!("One of the group `{group}`."),
            (Some(set), None) => format!("Inherited from `{set}`."),
            (None, None) => format!("A state of `{name}`."),
        };
        Self::Same(comment(&format!(" {text}")))
    }

    fn write(&self, template: &Template<'_>, values: &[u32]) -> TokenStream {
        match self {
            Self::Same(tokens) => tokens.clone(),
            Self::Each(text) => {
                let mut text = text.clone();
                for (axis, value) in template
                    .axes
                    .iter()
                    .zip(values)
                    .filter(|(_, value)| **value != u32::MAX)
                {
                    text = text.replace(&format!("{{{}}}", axis.name), &value.to_string());
                }
                comment(&text)
            }
        }
    }
}

/// A doc comment, as a comment where it can be: the compiler keeps an attribute in ten times the memory.
fn comment(text: &str) -> TokenStream {
    let lines = format!("///{}\n", text.replace('\n', "\n///"));
    let plain = !text.contains('\r') && !text.lines().any(|line| line.starts_with('/'));
    TokenStream::from_str(&lines)
        .ok()
        .filter(|_| plain)
        .unwrap_or_else(|| quote!(#[doc = #text]))
}

/// `Name::A, Name::B, …`: the compiler's own lexer makes the tokens, several times as fast.
pub(crate) fn states(
    name: &Ident,
    model: &Model,
    states: impl IntoIterator<Item = usize>,
) -> TokenStream {
    let name = name.to_string();
    let mut text = String::new();
    for state in states {
        text.push_str(&name);
        text.push_str("::");
        text.push_str(model.name(state));
        text.push(',');
    }
    TokenStream::from_str(&text).unwrap_or_default()
}

fn tables(name: &Ident, template: &Template<'_>, model: &Model) -> TokenStream {
    let name = name.to_string();
    let names = &model.names;
    let name_ends = bytes(&model.name_ends);
    let flags = Literal::byte_string(&model.flags);
    let relations = model.relations.iter().map(lists);
    let groups = template.groups.iter().zip(&model.groups).map(|(group, members)| {
        let name = &group.name;
        let exclusive = group.exclusive;
        let axes: Vec<u8> =
            group.path.iter().filter_map(|id| u8::try_from(template.loops[*id].axis).ok()).collect();
        let axes = Literal::byte_string(&axes);
        let members = lists(members);
        quote!(::machine_runtime::__private::Group { name: #name, exclusive: #exclusive, axes: #axes, members: #members })
    });
    let axes = template.axes.iter().zip(&model.axes).map(|(axis, values)| {
        let name = &axis.name;
        let (first, last) = (Literal::u32_unsuffixed(axis.first), Literal::u32_unsuffixed(axis.last));
        let values = bytes(values);
        quote!(::machine_runtime::__private::Axis { name: #name, first: #first, last: #last, values: #values })
    });
    let counts = template.counts.iter().map(|(name, value)| {
        let value = Literal::u32_unsuffixed(*value);
        quote!((#name, #value))
    });
    quote! {
        ::machine_runtime::__private::Tables {
            name: #name,
            names: #names,
            name_ends: #name_ends,
            flags: #flags,
            relations: [#(#relations),*],
            groups: &[#(#groups),*],
            axes: &[#(#axes),*],
            counts: &[#(#counts),*],
        }
    }
}

fn lists(lists: &Lists) -> TokenStream {
    let (ends, items) = (bytes(&lists.ends), bytes(&lists.items));
    quote!(::machine_runtime::__private::Lists { ends: #ends, items: #items })
}

/// Numbers as a byte string, four bytes each, the lowest first.
fn bytes(numbers: &[u32]) -> Literal {
    let mut bytes = Vec::with_capacity(numbers.len() * 4);
    for number in numbers {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    Literal::byte_string(&bytes)
}
