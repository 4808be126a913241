//! The phases: attributes that say when a method runs, and at which states.

use proc_macro2::{Ident, Span, TokenTree};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Attribute, LitInt, Meta, Token, parenthesized, token};

use crate::diagnostics::{self as say, Errors};

/// The phases in the order in which they run; the first [`ASKED`] negotiate.
const PHASES: [&str; 8] = [
    "exit",
    "enter",
    "stay",
    "between",
    "any_enter",
    "end",
    "state",
    "any_state",
];

const ASKED: usize = 5;

/// Attributes of the compiler that a method may have, however much they resemble a phase.
const PASSED: [&str; 16] = [
    "doc",
    "cfg",
    "cfg_attr",
    "allow",
    "expect",
    "warn",
    "deny",
    "forbid",
    "inline",
    "cold",
    "must_use",
    "deprecated",
    "track_caller",
    "test",
    "instrument",
    "rustfmt",
];

/// When a method runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phase(usize);

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        PHASES[self.0]
    }

    /// Whether it negotiates.
    pub(crate) fn asks(self) -> bool {
        self.0 < ASKED
    }

    /// Whether it is bound to no state.
    pub(crate) fn is_any(self) -> bool {
        self.name().starts_with("any_")
    }

    fn is_between(self) -> bool {
        self.name() == "between"
    }
}

/// An attribute that binds its method.
pub(crate) struct Mark {
    pub(crate) phase: Phase,
    pub(crate) span: Span,
    pub(crate) targets: Vec<Target>,
    /// The right side of `=>`.
    pub(crate) after: Vec<Target>,
}

/// One or more states by a name of the enum's.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) name: Ident,
    /// What the accessor is called with, where that is written.
    pub(crate) arguments: Option<Vec<Argument>>,
}

#[derive(Clone)]
pub(crate) enum Argument {
    Variable(Ident),
    Number(LitInt),
}

impl Target {
    /// Whether it is a function of loop variables: only those begin with a small letter.
    pub(crate) fn is_accessor(&self) -> bool {
        let name = self.name.unraw().to_string();
        name.starts_with(|first: char| first.is_lowercase() || first == '_')
    }

    /// Whether it stands for other states with another value of the loop variable `name`.
    pub(crate) fn depends_on(&self, name: &str) -> bool {
        self.is_accessor()
            && self.arguments.as_ref().is_none_or(|arguments| {
                arguments.iter().any(
                    |argument| matches!(argument, Argument::Variable(variable) if variable == name),
                )
            })
    }

    fn read(input: ParseStream<'_>) -> syn::Result<Self> {
        let form = |span: Span| syn::Error::new(span, say::TARGET_FORM);
        let name = input
            .call(Ident::parse_any)
            .map_err(|error| form(error.span()))?;
        if input.peek(Token![::]) {
            return Err(syn::Error::new(name.span(), say::TARGET_PATH));
        }
        if input.peek(token::Brace) {
            return Err(form(name.span()));
        }
        let mut arguments = None;
        if input.peek(token::Paren) {
            let content;
            parenthesized!(content in input);
            let mut list = Vec::new();
            while !content.is_empty() {
                list.push(if content.peek(LitInt) {
                    Argument::Number(content.parse()?)
                } else {
                    let variable = content.parse::<Ident>();
                    Argument::Variable(variable.map_err(|error| form(error.span()))?)
                });
                if !content.is_empty() {
                    content
                        .parse::<Token![,]>()
                        .map_err(|error| form(error.span()))?;
                }
            }
            arguments = Some(list);
        }
        let target = Self { name, arguments };
        if target.arguments.is_some() && !target.is_accessor() {
            let message = say::variant_arguments(&target.name.to_string());
            return Err(syn::Error::new(target.name.span(), message));
        }
        Ok(target)
    }
}

/// Takes the phases out of `attributes`; those with mistakes are reported instead.
pub(crate) fn take(attributes: &mut Vec<Attribute>, errors: &mut Errors) -> Vec<Mark> {
    let mut marks = Vec::new();
    attributes.retain(|attribute| {
        let Some(ident) = attribute.path().get_ident() else {
            return true;
        };
        let name = ident.to_string();
        if let Some(phase) = PHASES.iter().position(|phase| *phase == name) {
            marks.extend(Mark::read(Phase(phase), ident.span(), attribute, errors));
            return false;
        }
        let known = PASSED.contains(&name.as_str());
        match say::similar(&name, PHASES).filter(|_| !known) {
            Some(phase) => {
                errors.at(ident.span(), say::unknown_phase(&name, phase));
                false
            }
            None => true,
        }
    });
    marks
}

impl Mark {
    fn read(phase: Phase, span: Span, attribute: &Attribute, errors: &mut Errors) -> Option<Self> {
        let mut mark = Self {
            phase,
            span,
            targets: Vec::new(),
            after: Vec::new(),
        };
        if phase.is_any() {
            if !matches!(attribute.meta, Meta::Path(_)) {
                errors.at(span, say::any_arguments(phase.name()));
            }
            return Some(mark);
        }
        let empty = || {
            if phase.is_between() {
                say::BETWEEN_FORM.to_owned()
            } else {
                say::phase_empty(phase.name())
            }
        };
        let Meta::List(list) = &attribute.meta else {
            errors.at(span, empty());
            return None;
        };
        let before = errors.len();
        let read = |input: ParseStream<'_>| {
            mark.targets = targets(input, errors);
            if let Some(arrow) = input.parse::<Option<Token![=>]>>()? {
                if !phase.is_between() {
                    let span = arrow.spans[0];
                    return Err(syn::Error::new(span, say::arrow(phase.name())));
                }
                mark.after = targets(input, errors);
            } else if phase.is_between() && errors.len() == before {
                return Err(syn::Error::new(span, say::BETWEEN_FORM));
            }
            if input.is_empty() {
                Ok(())
            } else {
                Err(input.error(say::TARGET_FORM))
            }
        };
        if let Err(error) = list.parse_args_with(read) {
            errors.push(error);
        }
        if errors.len() == before
            && (mark.targets.is_empty() || phase.is_between() && mark.after.is_empty())
        {
            errors.at(span, empty());
        }
        (errors.len() == before).then_some(mark)
    }
}

/// Names with commas between them, up to `=>`.
fn targets(input: ParseStream<'_>, errors: &mut Errors) -> Vec<Target> {
    let mut targets = Vec::new();
    while !input.is_empty() && !input.peek(Token![=>]) {
        match Target::read(input) {
            Ok(target) => {
                targets.push(target);
                let comma = input.parse::<Option<Token![,]>>();
                let end = input.is_empty() || input.peek(Token![=>]);
                if matches!(comma, Ok(None)) && !end {
                    errors.at(input.span(), say::COMMA);
                    skip(input);
                }
            }
            Err(error) => {
                errors.push(error);
                skip(input);
            }
        }
    }
    targets
}

/// Goes on behind the next comma, or at `=>`.
fn skip(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![=>]) {
        match input.parse::<TokenTree>() {
            Ok(TokenTree::Punct(punct)) if punct.as_char() == ',' => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
