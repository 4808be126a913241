//! The attribute macro `handlers`: an `impl` block whose methods are bound to states.
//!
//! `block` reads the block as far as it must and keeps the rest as it is, `mark` and `signature`
//! read a method, `method` checks what they say together, `expand` writes the bindings. Which
//! states there are is not known here: names are left to the compiler, at the user's tokens.

use proc_macro2::TokenStream;
use syn::Path;
use syn::parse::{ParseStream, Parser};

use crate::diagnostics::{self as say, Errors};

use block::Block;
use method::Method;

mod block;
mod expand;
mod mark;
mod method;
mod signature;

/// The only place where errors become tokens.
pub(crate) fn run(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let expansion = expansion(arguments, item, &mut errors);
    let mut output = errors.to_tokens();
    output.extend(expansion);
    output
}

/// The block without phases, and its bindings as far as mistakes allow.
fn expansion(arguments: TokenStream, item: TokenStream, errors: &mut Errors) -> TokenStream {
    let states = states(arguments).map_err(|error| errors.push(error)).ok();
    let mut block = match Block::parse(item.clone()) {
        Ok(block) => block,
        Err(error) => {
            errors.push(error);
            return item;
        }
    };
    let methods: Vec<Method> = block
        .items
        .iter_mut()
        .filter_map(|item| Method::take(item, errors))
        .collect();
    let mut expansion = block.to_tokens();
    if let Some(trait_at) = block.of_trait {
        errors.at(trait_at, say::HANDLERS_OF_TRAIT);
        return expansion;
    }
    if methods.is_empty() && errors.is_empty() {
        errors.at(block.start, say::NO_HANDLER);
    }
    if let Some(states) = states {
        expansion.extend(expand::impls(&block, &states, &methods));
    }
    expansion
}

/// The enum that the attribute names.
fn states(arguments: TokenStream) -> syn::Result<Path> {
    let read = |input: ParseStream<'_>| {
        let path = input.call(Path::parse_mod_style)?;
        if input.is_empty() {
            Ok(path)
        } else {
            Err(input.error(say::HANDLERS_FORM))
        }
    };
    Parser::parse2(read, arguments)
        .map_err(|error| syn::Error::new(error.span(), say::HANDLERS_FORM))
}

#[cfg(test)]
mod tests;
