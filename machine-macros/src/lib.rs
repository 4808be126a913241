//! The `states!` macro. Use it through `machine_runtime::states`.

mod accessors;
mod attributes;
mod carrier;
mod check;
mod counts;
mod diagnostics;
mod expand;
mod fallback;
mod input;
mod model;
mod names;
mod pipeline;
mod resolve;
mod template;

/// Docs follow.
#[proc_macro]
pub fn states(tokens: proc_macro::TokenStream) -> proc_macro::TokenStream {
    pipeline::run(tokens.into()).into()
}
