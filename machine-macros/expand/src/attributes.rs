//! The attributes of states and groups.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::parse::ParseStream;
use syn::{Attribute, Expr, ExprLit, Lit, LitStr, Meta, Token, Type};

use crate::diagnostics::{self as say, Errors};
use crate::input::{Name, names};

/// The relations, in the order of the emitted tables.
pub(crate) const RELATIONS: [&str; 4] = ["require", "add", "remove", "after"];
pub(crate) const REQUIRE: usize = 0;
pub(crate) const ADD: usize = 1;
pub(crate) const REMOVE: usize = 2;
pub(crate) const AFTER: usize = 3;

const ALL: [&str; 8] = [
    "require",
    "add",
    "remove",
    "after",
    "auto",
    "multi",
    "payload",
    "require_cycle",
];

/// What the attributes of a state say.
#[derive(Default)]
pub(crate) struct Marks {
    pub(crate) docs: Vec<LitStr>,
    pub(crate) relations: [Vec<Name>; 4],
    pub(crate) auto: bool,
    pub(crate) multi: bool,
    pub(crate) payload: Option<Payload>,
    /// Where the state says that its require cycle is meant.
    pub(crate) require_cycle: Option<Span>,
}

/// `#[payload(Type)]`, with `retain` and `redact` behind it or not.
pub(crate) struct Payload {
    /// The type.
    pub(crate) of: TokenStream,
    pub(crate) retain: bool,
    pub(crate) redact: bool,
}

/// Reads the attributes of a state.
pub(crate) fn of_state(attributes: &[Attribute], errors: &mut Errors) -> Marks {
    let mut marks = Marks::default();
    for attribute in attributes {
        let name = name(attribute);
        if name == "doc" {
            marks.docs.extend(doc(attribute, errors));
        } else if let Some(relation) = RELATIONS.iter().position(|relation| *relation == name) {
            marks.relations[relation].extend(targets(attribute, &name, errors));
        } else if name == "payload" {
            let before = marks.payload.take();
            once(before.is_some(), attribute, &name, errors);
            marks.payload = payload(attribute, errors);
        } else if name == "auto" {
            once(marks.auto, attribute, &name, errors);
            marks.auto = bare(attribute, &name, errors);
        } else if name == "multi" {
            once(marks.multi, attribute, &name, errors);
            marks.multi = bare(attribute, &name, errors);
        } else if name == "require_cycle" {
            once(marks.require_cycle.is_some(), attribute, &name, errors);
            bare(attribute, &name, errors);
            marks.require_cycle = Some(span(attribute));
        } else {
            errors.at(
                span(attribute),
                say::unknown_attribute(&name, say::similar(&name, ALL)),
            );
        }
    }
    marks
}

/// Reads the attributes of a group: its documentation.
pub(crate) fn of_group(attributes: &[Attribute], errors: &mut Errors) -> Vec<LitStr> {
    let mut docs = Vec::new();
    for attribute in attributes {
        let name = name(attribute);
        if name == "doc" {
            docs.extend(doc(attribute, errors));
        } else {
            errors.at(span(attribute), say::group_attribute(&name));
        }
    }
    docs
}

fn name(attribute: &Attribute) -> String {
    let segments = &attribute.path().segments;
    segments
        .iter()
        .map(|segment| segment.ident.to_string())
        .collect::<Vec<_>>()
        .join("::")
}

fn span(attribute: &Attribute) -> Span {
    attribute
        .path()
        .segments
        .first()
        .map_or_else(Span::call_site, |segment| segment.ident.span())
}

fn once(before: bool, attribute: &Attribute, name: &str, errors: &mut Errors) {
    if before {
        errors.at(span(attribute), say::repeated_attribute(name));
    }
}

fn bare(attribute: &Attribute, name: &str, errors: &mut Errors) -> bool {
    if !matches!(attribute.meta, Meta::Path(_)) {
        errors.at(span(attribute), say::bare_attribute(name));
    }
    true
}

fn doc(attribute: &Attribute, errors: &mut Errors) -> Option<LitStr> {
    if let Meta::NameValue(meta) = &attribute.meta
        && let Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) = &meta.value
    {
        return Some(text.clone());
    }
    errors.at(span(attribute), say::DOC_FORM);
    None
}

fn targets(attribute: &Attribute, name: &str, errors: &mut Errors) -> Vec<Name> {
    let Meta::List(list) = &attribute.meta else {
        errors.at(span(attribute), say::list_attribute(name));
        return Vec::new();
    };
    if list.tokens.is_empty() {
        errors.at(span(attribute), say::list_attribute(name));
    }
    match list.parse_args_with(|input: ParseStream<'_>| Ok(names(input, errors))) {
        Ok(names) => names,
        Err(error) => {
            errors.push(error);
            Vec::new()
        }
    }
}

fn payload(attribute: &Attribute, errors: &mut Errors) -> Option<Payload> {
    let form = |error: syn::Error| syn::Error::new(error.span(), say::PAYLOAD_FORM);
    let read = |input: ParseStream<'_>| {
        let of = input.parse::<Type>().map_err(form)?.into_token_stream();
        let (mut retain, mut redact) = (false, false);
        while !input.is_empty() {
            input.parse::<Token![,]>().map_err(form)?;
            if input.is_empty() {
                break;
            }
            let word: syn::Ident = input.parse().map_err(form)?;
            let flag = match word.to_string().as_str() {
                "retain" => &mut retain,
                "redact" => &mut redact,
                _ => return Err(syn::Error::new(word.span(), say::PAYLOAD_FORM)),
            };
            if std::mem::replace(flag, true) {
                let message = say::repeated_attribute(&word.to_string());
                return Err(syn::Error::new(word.span(), message));
            }
        }
        Ok(Payload { of, retain, redact })
    };
    let parsed = match &attribute.meta {
        Meta::List(list) => list.parse_args_with(read),
        Meta::Path(_) | Meta::NameValue(_) => {
            Err(syn::Error::new(span(attribute), say::PAYLOAD_FORM))
        }
    };
    parsed.map_err(|error| errors.push(error)).ok()
}
