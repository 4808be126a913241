//! From the tokens of a call to those of its expansion.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use crate::accessors::accessors;
use crate::attributes::{Marks, Payload};
use crate::carrier::{self, Call};
use crate::check::check;
use crate::counts::{self, Read, Resolved};
use crate::diagnostics::Errors;
use crate::expand::expand;
use crate::fallback;
use crate::input::{Input, Item, Name, Piece, State};
use crate::names::Names;
use crate::resolve::resolve;
use crate::template::{Set, Template};

/// The only place where errors become tokens.
pub(crate) fn run(tokens: TokenStream, read: &Read<'_>) -> TokenStream {
    let mut errors = Errors::default();
    let expansion = expansion(tokens, read, &mut errors);
    let mut output = errors.to_tokens();
    output.extend(expansion);
    output
}

/// Expands a call as far as its mistakes allow.
pub(crate) fn expansion(
    tokens: TokenStream,
    read: &Read<'_>,
    errors: &mut Errors,
) -> Option<TokenStream> {
    let call = Call::parse(tokens)
        .map_err(|error| errors.push(error))
        .ok()?;
    let input = Input::parse(call.original.clone(), errors)?;
    if let Some(question) = call.ask(&input) {
        // What is wrong is told when all sets are there.
        *errors = Errors::default();
        return Some(question);
    }
    let counts = counts::resolve(&input.counts, &counts::used(&input.items), read, errors);
    let bodies: Vec<Vec<Item>> = call
        .sets
        .iter()
        .map(|set| Item::inherited(set.body.clone()))
        .collect();
    let of_counts = errors.len();
    let sets = sets(&input, &counts, &call, &bodies);
    let exception = exception(input.name.span());

    let mut template = Template::build(&input.name, &exception, &sets, errors);
    let names = Names::collect(&mut template, errors);
    let mut model = resolve(&input.name, &template, &names, errors);
    check(&template, &model, errors);
    let mut unnamed = Errors::default();
    let accessors = accessors(&input, &template, &model, &names, &mut unnamed);
    if errors.is_empty() {
        *errors = unnamed;
    }

    let mut body = input.body.clone();
    if !errors.is_empty() {
        fallback::without_relations(&mut model);
        // With other counts the template is as it should be, and heirs can make do with it.
        if errors.len() > of_counts {
            body = fallback::body(&template, &model);
        }
    }
    let mut expansion = expand(&input, &counts, &template, &model, &accessors);
    expansion.extend(carrier::carrier(&input, &counts, &body, &call.sets));
    Some(expansion)
}

fn sets<'a>(
    input: &'a Input,
    counts: &'a Resolved,
    call: &'a Call,
    bodies: &'a [Vec<Item>],
) -> Vec<Set<'a>> {
    let mut sets = vec![Set {
        items: &input.items,
        counts,
        inherited: None,
    }];
    sets.extend(call.sets.iter().zip(bodies).map(|(set, items)| {
        let path = input
            .bases
            .get(set.base)
            .and_then(|path| path.segments.last());
        let span = path.map_or_else(Span::call_site, |segment| segment.ident.span());
        Set {
            items,
            counts: &set.counts,
            inherited: Some((&set.name, span)),
        }
    }));
    sets
}

/// The state that every machine begins with (rule R3).
fn exception(span: Span) -> State {
    let docs = vec![syn::LitStr::new(
        " An error occurred; left only by an explicit removal.",
        span,
    )];
    let name = Name {
        pieces: vec![Piece::Text("Exception".to_owned())],
        at: Ident::new("Exception", span).span().into(),
    };
    State {
        name,
        marks: Marks {
            docs,
            multi: true,
            payload: Some(Payload {
                of: quote!(::machine_runtime::__private::MachineError),
                retain: true,
                redact: false,
            }),
            ..Marks::default()
        },
    }
}

#[cfg(test)]
mod tests;
