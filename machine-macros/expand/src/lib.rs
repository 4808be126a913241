//! What the macros of `machine-macros` do, as functions of tokens.
//!
//! A call of `states!` goes through these modules, one after the other: `carrier` (which sets are inherited),
//! `input` and `attributes` (what is written), `counts`, `template` and `names` (which states there
//! are, and where), `resolve` and `check` (what their relations are, and whether they can be), and
//! `expand` with `accessors`, or `fallback` beside errors. `handlers` has modules of its own.
//! `diagnostics` has every message.

extern crate proc_macro;

use proc_macro2::TokenStream;

mod accessors;
mod attributes;
mod carrier;
mod check;
mod counts;
mod diagnostics;
mod expand;
mod fallback;
mod handlers;
mod input;
mod model;
mod names;
mod pipeline;
mod resolve;
mod template;

/// What a call of `states!` with these tokens becomes. Mistakes become calls of `compile_error!`.
///
/// A file of counts is looked for beside the file that the call stands in, which only the compiler knows.
pub fn states(tokens: TokenStream) -> TokenStream {
    pipeline::run(tokens, &counts::read)
}

/// As [`states`], of a template whose file of counts, wherever it says that is, reads `counts`.
pub fn states_with(tokens: TokenStream, counts: &str) -> TokenStream {
    pipeline::run(tokens, &|_| Ok(counts.to_owned()))
}

/// What an `impl` block under the attribute `handlers` with these arguments becomes.
pub fn handlers(arguments: TokenStream, block: TokenStream) -> TokenStream {
    handlers::run(arguments, block)
}
