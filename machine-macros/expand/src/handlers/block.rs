//! An `impl` block, its items as the tokens they are: only what the bindings need is read, so that
//! whatever the compiler takes, and what is being typed, passes through.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::discouraged::Speculative;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Generics, Token, Type, braced, token};

use crate::diagnostics::{self as say, At};

pub(crate) struct Block {
    pub(crate) attributes: Vec<Attribute>,
    /// The first token of `impl`.
    pub(crate) start: At,
    pub(crate) generics: Generics,
    pub(crate) of: Type,
    /// Where it says that it implements a trait.
    pub(crate) of_trait: Option<At>,
    /// What stands before the braces.
    header: TokenStream,
    braces: token::Brace,
    inner: Vec<Attribute>,
    pub(crate) items: Vec<Item>,
}

/// Something in the block.
pub(crate) struct Item {
    pub(crate) attributes: Vec<Attribute>,
    /// What follows the attributes.
    pub(crate) tokens: TokenStream,
}

impl Block {
    pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Self> {
        Parser::parse2(Self::read, tokens)
    }

    fn read(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let ahead = input.fork();
        while !ahead.is_empty() && !ahead.peek(token::Brace) {
            ahead.parse::<TokenTree>()?;
        }
        let mut header = TokenStream::new();
        let written = input.fork();
        while written.cursor() != ahead.cursor() {
            header.extend([written.parse::<TokenTree>()?]);
        }
        let form = |error: syn::Error| syn::Error::new(error.span(), say::NOT_IMPL);
        let _unsafety: Option<Token![unsafe]> = input.parse()?;
        let keyword: Token![impl] = input.parse().map_err(form)?;
        let mut generics: Generics = input.parse()?;
        let not: Option<Token![!]> = input.parse()?;
        let mut of: Type = input.parse()?;
        let mut of_trait = not.map(|not| At::from(not.span));
        if let Some(word) = input.parse::<Option<Token![for]>>()? {
            of_trait = Some(word.span.into());
            of = input.parse()?;
        }
        generics.where_clause = input.parse()?;
        if !input.peek(token::Brace) {
            return Err(input.error(say::NOT_IMPL));
        }
        input.advance_to(&ahead);
        let content;
        let braces = braced!(content in input);
        let inner = content.call(Attribute::parse_inner)?;
        let mut items = Vec::new();
        while !content.is_empty() {
            items.push(Item::read(&content)?);
        }
        Ok(Self {
            attributes,
            start: keyword.span.into(),
            generics,
            of,
            of_trait,
            header,
            braces,
            inner,
            items,
        })
    }

    /// The block with what its items have become.
    pub(crate) fn to_tokens(&self) -> TokenStream {
        let Self {
            attributes, header, ..
        } = self;
        let mut tokens = quote!(#(#attributes)* #header);
        self.braces.surround(&mut tokens, |tokens| {
            for attribute in &self.inner {
                attribute.to_tokens(tokens);
            }
            for item in &self.items {
                let Item {
                    attributes,
                    tokens: rest,
                } = item;
                tokens.extend(quote!(#(#attributes)* #rest));
            }
        });
        tokens
    }
}

impl Item {
    /// Reads up to the semicolon, or the braces of a function or macro.
    fn read(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let mut tokens = TokenStream::new();
        let (mut function, mut value) = (false, false);
        // Braces within `< >` belong to a type; the bracket of `->` closes nothing.
        let (mut depth, mut arrow) = (0_usize, false);
        while !input.is_empty() {
            let token: TokenTree = input.parse()?;
            let mut end = false;
            let after_dash = std::mem::take(&mut arrow);
            match &token {
                TokenTree::Ident(ident) => function |= *ident == "fn",
                TokenTree::Punct(punct) => match punct.as_char() {
                    ';' => end = true,
                    '=' if !function => value = true,
                    '-' => arrow = true,
                    '<' => depth += 1,
                    '>' if !after_dash => depth = depth.saturating_sub(1),
                    _ => {}
                },
                TokenTree::Group(group) => {
                    end = group.delimiter() == Delimiter::Brace
                        && !value
                        && (depth == 0 || !function);
                }
                TokenTree::Literal(_) => {}
            }
            tokens.extend([token]);
            if end {
                break;
            }
        }
        Ok(Self { attributes, tokens })
    }
}
