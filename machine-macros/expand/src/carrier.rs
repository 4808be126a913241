//! Inheriting: how the template of one `states!` reaches another.
//!
//! A macro sees only the tokens it is given, so every enum comes with a macro of the same name, its
//! *carrier*, that hands the enum's sets on. A call that inherits first asks its carriers, one after
//! the other, and is then expanded with what they answered:
//!
//! ```text
//! states! { enum Flights: Basic { … } }
//! Basic!  { @inherit 0 { } { enum Flights: Basic { … } } }
//! states! { @set { Basic { } { … } } @inherit 0 { } { enum Flights: Basic { … } } }
//! ```

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{ParseStream, Parser};
use syn::{LitInt, Token, Visibility, braced};

use crate::counts::Resolved;
use crate::diagnostics as say;
use crate::input::Input;

/// A call of `states!` with the sets that carriers have answered so far.
pub(crate) struct Call {
    /// The call as the user wrote it.
    pub(crate) original: TokenStream,
    pub(crate) sets: Vec<Inherited>,
    /// How many of the sets that the call names have been asked.
    asked: usize,
}

/// An inherited set.
pub(crate) struct Inherited {
    /// Which of the sets that the call names brought it.
    pub(crate) base: usize,
    pub(crate) name: String,
    pub(crate) counts: Resolved,
    pub(crate) body: TokenStream,
    /// All of the above, to be handed on.
    tokens: TokenStream,
}

impl Call {
    pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Self> {
        let mut ahead = tokens.clone().into_iter();
        let marked = matches!(ahead.next(), Some(proc_macro2::TokenTree::Punct(punct)) if punct.as_char() == '@');
        if marked {
            Parser::parse2(Self::parse_answer, tokens)
                .map_err(|error| syn::Error::new(error.span(), say::CARRIER))
        } else {
            Ok(Self {
                original: tokens,
                sets: Vec::new(),
                asked: 0,
            })
        }
    }

    fn parse_answer(input: ParseStream<'_>) -> syn::Result<Self> {
        let (answer, known, original);
        input.parse::<Token![@]>()?;
        input.parse::<Ident>()?;
        braced!(answer in input);
        input.parse::<Token![@]>()?;
        input.parse::<Ident>()?;
        let base: usize = input.parse::<LitInt>()?.base10_parse()?;
        braced!(known in input);
        braced!(original in input);
        let mut sets = Vec::new();
        while !known.is_empty() {
            let base = known.parse::<LitInt>()?.base10_parse()?;
            sets.push(Inherited::parse(base, &known)?);
        }
        while !answer.is_empty() {
            let set = Inherited::parse(base, &answer)?;
            if !sets.iter().any(|known| known.is(&set)) {
                sets.push(set);
            }
        }
        Ok(Self {
            original: original.parse()?,
            sets,
            asked: base + 1,
        })
    }

    /// The question to the next carrier, if not all have been asked.
    pub(crate) fn ask(&self, input: &Input) -> Option<TokenStream> {
        let path = input.bases.get(self.asked)?;
        let base = Literal::usize_unsuffixed(self.asked);
        let original = &self.original;
        let known = self.sets.iter().map(|set| {
            let base = Literal::usize_unsuffixed(set.base);
            let tokens = &set.tokens;
            quote!(#base #tokens)
        });
        Some(quote!(#path! { @inherit #base { #(#known)* } { #original } }))
    }
}

impl Inherited {
    fn parse(base: usize, input: ParseStream<'_>) -> syn::Result<Self> {
        let (given, template);
        let name: Ident = input.parse()?;
        braced!(given in input);
        braced!(template in input);
        let mut counts = Resolved {
            complete: true,
            ..Resolved::default()
        };
        while !given.is_empty() {
            let count: Ident = given.parse()?;
            counts
                .values
                .push((count.to_string(), given.parse::<LitInt>()?.base10_parse()?));
        }
        let body: TokenStream = template.parse()?;
        let tokens = set(&name, &counts, &body);
        Ok(Self {
            base,
            name: name.to_string(),
            counts,
            body,
            tokens,
        })
    }

    /// Whether both are the same set, reached on two ways.
    fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.tokens.to_string() == other.tokens.to_string()
    }
}

fn set(name: &Ident, counts: &Resolved, body: &TokenStream) -> TokenStream {
    let counts = counts.values.iter().map(|(name, value)| {
        let (name, value) = (format_ident!("{name}"), Literal::u32_unsuffixed(*value));
        quote!(#name #value)
    });
    quote!(#name { #(#counts)* } { #body })
}

/// The carrier of an enum: a macro under the enum's name.
pub(crate) fn carrier(
    input: &Input,
    counts: &Resolved,
    body: &TokenStream,
    sets: &[Inherited],
) -> TokenStream {
    let own = set(&input.name, counts, body);
    let inherited = sets.iter().map(|set| &set.tokens);
    let sets = quote!(#own #(#inherited)*);
    let name = &input.name;
    let place = format!("{} {} {sets}", place(name.span()), place(Span::call_site()));
    let hidden = format_ident!("__states_{name}_{:016x}", digest(&place));
    let visibility = &input.visibility;
    let export = matches!(visibility, Visibility::Public(_)).then(|| quote!(#[macro_export]));
    quote! {
        #[doc(hidden)]
        #[allow(unused_macros, non_local_definitions)]
        #export
        macro_rules! #hidden {
            ($($call:tt)*) => { ::machine_runtime::states! { @set { #sets } $($call)* } };
        }
        #[doc(hidden)]
        #[allow(unused_imports, unreachable_pub)]
        #visibility use #hidden as #name;
    }
}

/// Where a span starts, as far as the compiler tells.
fn place(span: Span) -> String {
    if !proc_macro::is_available() {
        return String::new();
    }
    let span = span.unwrap();
    format!("{}:{}:{}", span.file(), span.line(), span.column())
}

/// FNV-1a: tells the carriers of enums of the same name apart, within a crate.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
