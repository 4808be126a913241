//! Tokens to the syntax tree of a template: what is written, without knowing what it means.
//!
//! A mistake in one state does not end the parse: it goes into the error list and reading goes on
//! behind the next comma.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::discouraged::Speculative;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, LitInt, LitStr, Token, Visibility, braced, parenthesized, token};

use crate::attributes::{self, Marks};
use crate::diagnostics::{self as say, At, Errors};

/// One call of `states!`.
pub(crate) struct Input {
    pub(crate) counts: Counts,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) name: Ident,
    pub(crate) bases: Vec<syn::Path>,
    /// The template as it was written, for those who inherit it.
    pub(crate) body: TokenStream,
    pub(crate) items: Vec<Item>,
}

/// Where the counts come from.
pub(crate) enum Counts {
    Nowhere,
    /// Name and value; a value that is no literal number has been reported.
    Inline(Vec<(Ident, Option<LitInt>)>),
    File {
        path: LitStr,
        shared: bool,
    },
}

pub(crate) enum Item {
    State(State),
    Group(Group),
    Loop(Loop),
}

pub(crate) struct State {
    pub(crate) name: Name,
    pub(crate) marks: Marks,
}

pub(crate) struct Group {
    pub(crate) name: Ident,
    pub(crate) docs: Vec<LitStr>,
    pub(crate) exclusive: bool,
    pub(crate) members: Members,
}

pub(crate) enum Members {
    /// `{ … }`: declared here.
    Declared(Vec<Item>),
    /// `( … )`: declared elsewhere.
    Listed(Vec<Name>),
}

pub(crate) struct Loop {
    pub(crate) variable: Ident,
    /// `None` where the range could not be read, which has been reported.
    pub(crate) range: Option<(u32, Last)>,
    pub(crate) body: Vec<Item>,
}

/// The upper end of a loop.
pub(crate) enum Last {
    Number(u32),
    Count(Ident),
}

/// The name of a state, or a reference to a state or a group.
#[derive(Clone)]
pub(crate) struct Name {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) at: At,
}

#[derive(Clone)]
pub(crate) enum Piece {
    Text(String),
    Variable(Ident),
}

impl Name {
    /// The name as it is written.
    pub(crate) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => pattern.push_str(text),
                Piece::Variable(variable) => {
                    pattern.push('{');
                    pattern.push_str(&variable.to_string());
                    pattern.push('}');
                }
            }
        }
        pattern
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = &Ident> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(variable) => Some(variable),
            Piece::Text(_) => None,
        })
    }

    /// Reads a name; a gap ends it, so that a forgotten comma is told as such.
    pub(crate) fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let first = input.call(Ident::parse_any)?;
        let mut at = At::from(first.span());
        let mut pieces = vec![Piece::Text(first.unraw().to_string())];
        loop {
            if input.peek(token::Brace) {
                let content;
                let braces = braced!(content in input);
                let variable = content
                    .call(Ident::parse_any)
                    .ok()
                    .filter(|_| content.is_empty());
                let Some(variable) = variable else {
                    content.parse::<TokenStream>()?;
                    return Err(syn::Error::new(braces.span.join(), say::INTERPOLATION));
                };
                at.end = braces.span.close();
                pieces.push(Piece::Variable(variable));
            } else if (input.peek(Ident::peek_any) || input.peek(syn::Lit))
                && touches(at.end, input.span())
            {
                let piece: TokenTree = input.parse()?;
                let text = piece.to_string();
                if !text.chars().all(|c| c.is_alphanumeric() || c == '_') {
                    return Err(syn::Error::new(piece.span(), say::PIECE));
                }
                at.end = piece.span();
                match pieces.last_mut() {
                    Some(Piece::Text(before)) => before.push_str(&text),
                    _ => pieces.push(Piece::Text(text)),
                }
            } else {
                return Ok(Self { pieces, at });
            }
        }
    }
}

/// Whether nothing stands between two tokens, as far as the compiler tells where they are.
fn touches(left: Span, right: Span) -> bool {
    if !proc_macro::is_available() {
        return true;
    }
    let (left, right) = (left.unwrap().end(), right.unwrap().start());
    left.line() == right.line() && left.column() == right.column()
}

impl Input {
    /// Reads a call. `None` when there is no enum to speak of; the reason is in `errors`.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Option<Self> {
        let parser = |input: ParseStream<'_>| Self::read(input, errors);
        match Parser::parse2(parser, tokens) {
            Ok(input) => Some(input),
            Err(error) => {
                errors.push(error);
                None
            }
        }
    }

    fn read(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Self> {
        let counts = Counts::read(input, errors);
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if !input.peek(Token![enum]) {
            return Err(input.error(say::ENUM_FORM));
        }
        input.parse::<Token![enum]>()?;
        let name: Ident = input
            .parse()
            .map_err(|error| syn::Error::new(error.span(), say::ENUM_FORM))?;
        let bases = bases(input)?;
        if !input.peek(token::Brace) {
            return Err(input.error(say::ENUM_FORM));
        }
        let content;
        braced!(content in input);
        let body = content.fork().parse()?;
        let items = Item::read_all(&content, errors);
        if !input.is_empty() {
            errors.at(input.span(), say::TRAILING);
            input.parse::<TokenStream>()?;
        }
        Ok(Self {
            counts,
            attributes,
            visibility,
            name,
            bases,
            body,
            items,
        })
    }
}

fn bases(input: ParseStream<'_>) -> syn::Result<Vec<syn::Path>> {
    let mut bases = Vec::new();
    if input.parse::<Option<Token![:]>>()?.is_some() {
        loop {
            let path = input.call(syn::Path::parse_mod_style);
            bases.push(path.map_err(|error| syn::Error::new(error.span(), say::NO_BASE))?);
            if input.parse::<Option<Token![+]>>()?.is_none() {
                break;
            }
        }
    }
    Ok(bases)
}

impl Counts {
    fn read(input: ParseStream<'_>, errors: &mut Errors) -> Self {
        let keyword = |name: &str| {
            input
                .cursor()
                .ident()
                .is_some_and(|(ident, _)| ident == name)
        };
        if !keyword("counts") && !keyword("shared") {
            return Self::Nowhere;
        }
        let shared = keyword("shared");
        match Self::read_inner(input, shared, errors) {
            Ok(counts) => counts,
            Err(error) => {
                errors.push(error);
                while !input.is_empty() && !input.peek(Token![;]) && !input.peek(Token![enum]) {
                    let _skipped = input.parse::<TokenTree>();
                }
                let _end = input.parse::<Token![;]>();
                Self::Inline(Vec::new())
            }
        }
    }

    fn read_inner(input: ParseStream<'_>, shared: bool, errors: &mut Errors) -> syn::Result<Self> {
        let form = |error: syn::Error| syn::Error::new(error.span(), say::COUNTS_FORM);
        if shared {
            input.parse::<Ident>()?;
        }
        input.parse::<Ident>().map_err(form)?;
        input.parse::<Token![=]>().map_err(form)?;
        if input.peek(token::Brace) && !shared {
            let content;
            braced!(content in input);
            let mut counts = Vec::new();
            while !content.is_empty() {
                let name: Ident = content.parse().map_err(form)?;
                content.parse::<Token![=]>().map_err(form)?;
                counts.push((name.clone(), inline_value(&name, &content, errors)));
                if !content.is_empty() {
                    content.parse::<Token![,]>().map_err(form)?;
                }
            }
            input.parse::<Option<Token![;]>>()?;
            return Ok(Self::Inline(counts));
        }
        let path = input.parse().map_err(form)?;
        input.parse::<Token![;]>().map_err(form)?;
        Ok(Self::File { path, shared })
    }
}

/// A literal integer; anything else up to the comma is reported.
fn inline_value(name: &Ident, input: ParseStream<'_>, errors: &mut Errors) -> Option<LitInt> {
    if input.peek(LitInt) {
        return input.parse().ok();
    }
    let mut start = input.span();
    let mut text = String::new();
    let mut first = true;
    while !input.is_empty() && !input.peek(Token![,]) {
        let Ok(token) = input.parse::<TokenTree>() else {
            break;
        };
        if std::mem::take(&mut first) {
            start = token.span();
        }
        text.push_str(&token.to_string());
    }
    let message = match text.strip_prefix('-').map(str::parse::<u64>) {
        Some(Ok(_)) => say::count_small(&name.to_string(), &text),
        _ => say::count_kind(&name.to_string(), &format!("`{text}`")),
    };
    errors.at(start, message);
    None
}

impl Item {
    /// The items of an inherited template; mistakes in it have been reported where it stands.
    pub(crate) fn inherited(body: TokenStream) -> Vec<Self> {
        let mut reported = Errors::default();
        let parser = |input: ParseStream<'_>| Ok(Self::read_all(input, &mut reported));
        Parser::parse2(parser, body).unwrap_or_default()
    }

    fn read_all(input: ParseStream<'_>, errors: &mut Errors) -> Vec<Self> {
        let mut items = Vec::new();
        while !input.is_empty() {
            match Self::read(input, errors) {
                Ok(item) => items.push(item),
                Err(error) => {
                    errors.push(error);
                    skip(input);
                }
            }
        }
        items
    }

    fn read(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        if input.peek(Token![for]) {
            if let Some(attribute) = attributes.first() {
                errors.at(attribute.pound_token.span, say::LOOP_ATTRIBUTE);
            }
            return Ok(Self::Loop(Loop::read(input, errors)?));
        }
        if !input.peek(Ident::peek_any) {
            return Err(input.error(say::ITEM_FORM));
        }
        let fork = input.fork();
        let keyword = fork.call(Ident::parse_any)?;
        if keyword == "exclusive" || keyword == "group" {
            input.advance_to(&fork);
            return Ok(Self::Group(Group::read(
                &keyword,
                &attributes,
                input,
                errors,
            )?));
        }
        let name = Name::parse(input)?;
        let marks = attributes::of_state(&attributes, errors);
        comma(input, errors);
        Ok(Self::State(State { name, marks }))
    }
}

impl Group {
    fn read(
        keyword: &Ident,
        attributes: &[Attribute],
        input: ParseStream<'_>,
        errors: &mut Errors,
    ) -> syn::Result<Self> {
        let docs = attributes::of_group(attributes, errors);
        let name: Ident = if input.peek(token::Brace) || input.peek(token::Paren) {
            errors.at(keyword.span(), say::GROUP_NAME);
            Ident::new("Unnamed", keyword.span())
        } else {
            input
                .parse()
                .map_err(|error| syn::Error::new(error.span(), say::GROUP_NAME))?
        };
        let content;
        let members = if input.peek(token::Brace) {
            braced!(content in input);
            Members::Declared(Item::read_all(&content, errors))
        } else if input.peek(token::Paren) {
            parenthesized!(content in input);
            Members::Listed(names(&content, errors))
        } else {
            return Err(input.error(say::GROUP_FORM));
        };
        let _comma = input.parse::<Option<Token![,]>>();
        Ok(Self {
            exclusive: keyword == "exclusive",
            name,
            docs,
            members,
        })
    }
}

impl Loop {
    fn read(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Self> {
        let keyword: Token![for] = input.parse()?;
        let variable = input.parse::<Ident>();
        let range = range(input);
        while !input.is_empty() && !input.peek(token::Brace) {
            input.parse::<TokenTree>()?;
        }
        if !input.peek(token::Brace) {
            return Err(syn::Error::new(keyword.span, say::RANGE_FORM));
        }
        let content;
        braced!(content in input);
        let body = Item::read_all(&content, errors);
        let _comma = input.parse::<Option<Token![,]>>();
        let Ok(variable) = variable else {
            return Err(syn::Error::new(keyword.span, say::RANGE_FORM));
        };
        let range = range.map_err(|error| errors.push(error)).ok();
        Ok(Self {
            variable,
            range,
            body,
        })
    }
}

fn range(input: ParseStream<'_>) -> syn::Result<(u32, Last)> {
    let form = |error: syn::Error| syn::Error::new(error.span(), say::RANGE_FORM);
    input.parse::<Token![in]>().map_err(form)?;
    let first = input.parse::<LitInt>().map_err(form)?;
    if input.peek(Token![..]) && !input.peek(Token![..=]) {
        return Err(input.error(say::RANGE_OPEN));
    }
    input.parse::<Token![..=]>().map_err(form)?;
    let value = first.base10_parse::<u32>()?;
    let last = if input.peek(syn::Ident) {
        Last::Count(input.parse()?)
    } else {
        Last::Number(input.parse::<LitInt>().map_err(form)?.base10_parse()?)
    };
    if !input.peek(token::Brace) {
        return Err(input.error(say::RANGE_FORM));
    }
    if matches!(last, Last::Number(last) if last < value) {
        return Err(syn::Error::new(first.span(), say::RANGE_EMPTY));
    }
    Ok((value, last))
}

/// Names with commas between them.
pub(crate) fn names(input: ParseStream<'_>, errors: &mut Errors) -> Vec<Name> {
    let mut names = Vec::new();
    while !input.is_empty() {
        match Name::parse(input) {
            Ok(name) => {
                names.push(name);
                comma(input, errors);
            }
            Err(error) => {
                errors.push(error);
                skip(input);
            }
        }
    }
    names
}

fn comma(input: ParseStream<'_>, errors: &mut Errors) {
    if !input.is_empty() && input.parse::<Token![,]>().is_err() {
        errors.at(input.span(), say::COMMA);
    }
}

/// Goes on behind the next comma, or before what clearly begins an item.
fn skip(input: ParseStream<'_>) {
    while !input.is_empty() {
        let Ok(token) = input.parse::<TokenTree>() else {
            return;
        };
        let comma = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ',');
        let group = input
            .cursor()
            .ident()
            .is_some_and(|(ident, _)| ident == "exclusive" || ident == "group");
        if comma || group || input.peek(Token![for]) || input.peek(Token![#]) {
            return;
        }
    }
}
