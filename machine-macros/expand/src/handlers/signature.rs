//! The signature of a method, as far as a binding needs it.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, GenericParam, Generics, ReturnType, Token, Type, Visibility, parenthesized};

use crate::diagnostics::{self as say, At, Errors};

pub(crate) struct Signature {
    pub(crate) name: Ident,
    pub(crate) receiver: Option<Receiver>,
    pub(crate) context: Option<Context>,
    pub(crate) variables: Vec<Variable>,
    /// The type that is returned, if one is written.
    pub(crate) returns: Option<At>,
}

#[derive(Clone, Copy)]
pub(crate) struct Receiver {
    pub(crate) at: At,
    pub(crate) kind: ReceiverKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiverKind {
    Shared,
    Mutable,
    Other,
}

/// The context of the transition.
pub(crate) struct Context {
    pub(crate) at: At,
    /// The last segment of the type behind the reference.
    pub(crate) of: Option<Ident>,
}

/// A loop variable.
pub(crate) struct Variable {
    /// The parameter's name without the underscores it begins with.
    pub(crate) name: String,
    pub(crate) span: Span,
    /// Where its type stands.
    pub(crate) at: At,
}

impl Signature {
    /// Reads the signature that a method begins with, and reports what a handler cannot have.
    pub(crate) fn parse(tokens: TokenStream, phase: Span, errors: &mut Errors) -> Option<Self> {
        let read = |input: ParseStream<'_>| Self::read(input, phase, errors);
        match Parser::parse2(read, tokens) {
            Ok(signature) => signature,
            Err(error) => {
                errors.push(error);
                None
            }
        }
    }

    fn read(input: ParseStream<'_>, phase: Span, errors: &mut Errors) -> syn::Result<Option<Self>> {
        let _visibility: Visibility = input.parse()?;
        while !input.is_empty() && !input.peek(Token![fn]) {
            let token: TokenTree = input.parse()?;
            match &token {
                TokenTree::Ident(word) if *word == "async" => {
                    errors.at(word.span(), say::HANDLER_ASYNC);
                }
                TokenTree::Ident(word) if *word == "unsafe" => {
                    errors.at(word.span(), say::HANDLER_UNSAFE);
                }
                _ => {}
            }
        }
        if input.parse::<Option<Token![fn]>>()?.is_none() {
            errors.at(phase, say::NOT_METHOD);
            return Ok(None);
        }
        let name = input.call(Ident::parse_any)?;
        let generics: Generics = input.parse()?;
        for parameter in &generics.params {
            if let GenericParam::Type(_) | GenericParam::Const(_) = parameter {
                errors.at(stretch(parameter), say::HANDLER_GENERIC);
            }
        }
        let content;
        parenthesized!(content in input);
        let mut signature = Self {
            name,
            receiver: None,
            context: None,
            variables: Vec::new(),
            returns: None,
        };
        let mut first = true;
        while !content.is_empty() {
            signature.parameter(&content, first, errors)?;
            first = false;
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        if let ReturnType::Type(_, returned) = input.parse()? {
            signature.returns = Some(stretch(&returned));
        }
        // The bounds and the body are the compiler's.
        input.parse::<TokenStream>()?;
        Ok(Some(signature))
    }

    fn parameter(
        &mut self,
        input: ParseStream<'_>,
        first: bool,
        errors: &mut Errors,
    ) -> syn::Result<()> {
        input.call(Attribute::parse_outer)?;
        if first && let Some(receiver) = receiver(input)? {
            self.receiver = Some(receiver);
            return Ok(());
        }
        let pattern = pattern(input)?;
        input.parse::<Token![:]>()?;
        let of: Type = input.parse()?;
        let at = stretch(&of);
        let (target, by_reference) = match &of {
            Type::Reference(reference) => (&*reference.elem, true),
            other => (other, false),
        };
        let last = last_segment(target);
        let is = |name: &str| last.as_ref().is_some_and(|last| last == name);
        let context = is("Negotiation") || is("Final") || is("Ongoing");
        if context || by_reference && !is("usize") {
            if !by_reference {
                let name = last.as_ref().map_or_else(String::new, Ident::to_string);
                errors.at(at, say::context_by_value(&name));
            } else if self.context.is_some() || !self.variables.is_empty() {
                errors.at(at, say::CONTEXT_FIRST);
            }
            self.context = Some(Context { at, of: last });
            return Ok(());
        }
        let ident = match pattern {
            Ok(ident) => ident,
            Err(pattern) => {
                errors.at(pattern, say::PARAMETER_PATTERN);
                return Ok(());
            }
        };
        let written = ident.unraw().to_string();
        let name = written.trim_start_matches('_').to_owned();
        if name.is_empty() {
            errors.at(ident.span(), say::PARAMETER_PATTERN);
            return Ok(());
        }
        if by_reference || !is("usize") {
            let shown = of.to_token_stream().to_string();
            errors.at(at, say::variable_type(&name, &shown));
        }
        if self.variables.iter().any(|known| known.name == name) {
            errors.at(ident.span(), say::variable_twice(&name));
            return Ok(());
        }
        self.variables.push(Variable {
            name,
            span: ident.span(),
            at,
        });
        Ok(())
    }
}

/// Reads `self` in any form.
fn receiver(input: ParseStream<'_>) -> syn::Result<Option<Receiver>> {
    let ahead = input.fork();
    let reference: Option<Token![&]> = ahead.parse()?;
    let _lifetime: Option<syn::Lifetime> = ahead.parse()?;
    let mutable: Option<Token![mut]> = ahead.parse()?;
    if !ahead.peek(Token![self]) {
        return Ok(None);
    }
    let start = input.span();
    if reference.is_some() {
        input.parse::<Token![&]>()?;
        input.parse::<Option<syn::Lifetime>>()?;
    }
    input.parse::<Option<Token![mut]>>()?;
    let word: Token![self] = input.parse()?;
    let mut at = At::new(start, word.span);
    let mut kind = match (reference.is_some(), mutable.is_some()) {
        (true, true) => ReceiverKind::Mutable,
        (true, false) => ReceiverKind::Shared,
        (false, _) => ReceiverKind::Other,
    };
    if input.parse::<Option<Token![:]>>()?.is_some() {
        let of: Type = input.parse()?;
        at.end = stretch(&of).end;
        kind = match &of {
            Type::Reference(of) if of.mutability.is_some() => ReceiverKind::Mutable,
            Type::Reference(_) => ReceiverKind::Shared,
            _ => ReceiverKind::Other,
        };
    }
    Ok(Some(Receiver { at, kind }))
}

/// Reads what stands before the colon: a name, or where something else is.
fn pattern(input: ParseStream<'_>) -> syn::Result<Result<Ident, At>> {
    let mut at = At::from(input.span());
    input.parse::<Option<Token![mut]>>()?;
    let name = input.fork().call(Ident::parse_any).ok();
    let mut tokens = 0_usize;
    let colon = || input.peek(Token![:]) && !input.peek(Token![::]);
    while !input.is_empty() && !colon() {
        let token: TokenTree = input.parse()?;
        at.end = token.span();
        tokens += 1;
    }
    Ok(name.filter(|_| tokens == 1).ok_or(at))
}

fn last_segment(of: &Type) -> Option<Ident> {
    match of {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.clone()),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// From the first token to the last.
fn stretch(tokens: impl ToTokens) -> At {
    let mut spans = tokens
        .into_token_stream()
        .into_iter()
        .map(|token| match token {
            TokenTree::Group(group) => (group.span_open(), group.span_close()),
            token => (token.span(), token.span()),
        });
    let (start, mut end) = spans
        .next()
        .unwrap_or_else(|| (Span::call_site(), Span::call_site()));
    if let Some((_, last)) = spans.last() {
        end = last;
    }
    At::new(start, end)
}
