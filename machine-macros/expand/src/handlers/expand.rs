//! Methods to bindings.
//!
//! Every name that may be wrong is written at the user's token, and once, so that the compiler says
//! what it knows where it helps: misspelt states and loop variables at the names, types of
//! parameters and what is returned at the types.

use proc_macro2::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::Path;

use crate::diagnostics::At;

use super::block::Block;
use super::mark::{Argument, Mark, Target};
use super::method::Method;

/// The implementations of `Handlers` and, without negotiation, of `Reactions`.
pub(crate) fn impls(block: &Block, states: &Path, methods: &[Method]) -> TokenStream {
    let (generics, _, bounds) = block.generics.split_for_impl();
    let of = &block.of;
    let conditions: Vec<_> = block
        .attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .collect();
    let binder = local("binder", Span::call_site());
    let bindings = methods
        .iter()
        .map(|method| bindings(method, states, &binder));
    let mut impls = quote! {
        #(#conditions)*
        #[automatically_derived]
        #[allow(deprecated)]
        impl #generics ::machine_runtime::__private::Handlers<#states> for #of #bounds {
            fn bind(&self, #binder: &mut ::machine_runtime::__private::Binder<Self, #states>) {
                #(#bindings)*
            }
        }
    };
    if let Some(unless) = unless_asking(methods) {
        impls.extend(quote! {
            #(#conditions)*
            #unless
            #[automatically_derived]
            impl #generics ::machine_runtime::__private::Reactions<#states> for #of #bounds {}
        });
    }
    impls
}

/// The condition under which no method negotiates; `None` if one always does.
fn unless_asking(methods: &[Method]) -> Option<TokenStream> {
    let mut conditions = Vec::new();
    for method in methods.iter().filter(|method| method.asks) {
        if method.conditions.is_empty() {
            return None;
        }
        let all = method.conditions.iter().map(|condition| {
            let list = condition.meta.require_list();
            list.map(|list| list.tokens.clone()).unwrap_or_default()
        });
        conditions.push(quote!(all(#(#all),*)));
    }
    Some(if conditions.is_empty() {
        TokenStream::new()
    } else {
        quote!(#[cfg(not(any(#(#conditions),*)))])
    })
}

/// Binds `method`, once for every round of its loop variables.
fn bindings(method: &Method, states: &Path, binder: &Ident) -> TokenStream {
    let variables = &method.signature.variables;
    let handler = handler(method);
    let values: Vec<Ident> = (variables.iter())
        .map(|variable| local(&variable.name, Span::call_site()))
        .collect();
    let binds = method
        .bindings
        .iter()
        .map(|mark| bind(mark, states, binder, &values, &handler));
    let mut tokens = quote!(#(#binds)*);
    if !variables.is_empty() {
        let each = variables.iter().map(|variable| {
            let function = format_ident!("__each_{}", variable.name, span = variable.span);
            let states = respan(states, variable.span);
            quote_spanned!(variable.span=> #states::#function())
        });
        let count = Literal::usize_unsuffixed(variables.len());
        let start = variables[0].span;
        let nested = quote_spanned!(start=> ::machine_runtime::__private::nested([#(#each),*]));
        let all = local("EACH", Span::call_site());
        for (place, value) in values.iter().enumerate().rev() {
            let place = Literal::usize_unsuffixed(place);
            tokens = quote!(for #value in #all[#place].values() { #tokens });
        }
        tokens = quote! {
            const #all: [::machine_runtime::__private::Each; #count] = #nested;
            #tokens
        };
    }
    let conditions = &method.conditions;
    quote!(#(#conditions)* { #tokens })
}

/// Binds a method in one phase.
fn bind(
    mark: &Mark,
    states: &Path,
    binder: &Ident,
    values: &[Ident],
    handler: &TokenStream,
) -> TokenStream {
    let phase = Ident::new(mark.phase.name(), Span::call_site());
    let function = quote!(::machine_runtime::__private::Binder::<Self, #states>::#phase);
    if mark.phase.is_any() {
        return quote!(#function(#binder, #handler););
    }
    let (before, after) = (
        local("states", Span::call_site()),
        local("after", Span::call_site()),
    );
    let mut lists = list(&before, &mark.targets, states, values);
    let mut arguments = quote!(::machine_runtime::__private::once(#before),);
    if !mark.after.is_empty() {
        lists.extend(list(&after, &mark.after, states, values));
        arguments.extend(quote!(::machine_runtime::__private::once(#after),));
    }
    quote! {
        #lists
        #function(#binder, #arguments &[#(#values),*], #handler);
    }
}

/// Declares `name` as the list of the states that `targets` stand for.
fn list(name: &Ident, targets: &[Target], states: &Path, values: &[Ident]) -> TokenStream {
    let append = targets.iter().map(|target| {
        let span = target.name.span();
        let (of, ident) = (respan(states, span), &target.name);
        let call = target.is_accessor().then(|| match &target.arguments {
            None => quote_spanned!(span=> (#(#values),*)),
            Some(arguments) => {
                let arguments = arguments.iter().map(|argument| match argument {
                    Argument::Variable(variable) => local(&variable.to_string(), variable.span())
                        .into_token_stream(),
                    Argument::Number(number) => number.to_token_stream(),
                });
                quote_spanned!(span=> (#(#arguments),*))
            }
        });
        quote!(::machine_runtime::__private::IntoStates::<#states>::append_to(#of::#ident #call, &mut #name);)
    });
    quote! {
        let mut #name: ::machine_runtime::__private::StateList<#states> =
            ::machine_runtime::__private::StateList::new();
        #(#append)*
    }
}

/// The function that a binder takes: it captures nothing, so loop variables come by place.
fn handler(method: &Method) -> TokenStream {
    let signature = &method.signature;
    let name = &signature.name;
    let returns = signature.returns.unwrap_or_else(|| name.span().into());
    let (this, cx, at) = (
        local("this", Span::call_site()),
        local("cx", Span::call_site()),
        local("at", Span::call_site()),
    );
    let mut arguments = quote!(#this,);
    if let Some(context) = &signature.context {
        arguments.extend([TokenTree::from(local("cx", context.at.start))]);
        arguments.extend(quote!(,));
    }
    for (place, variable) in signature.variables.iter().enumerate() {
        let place = Literal::usize_unsuffixed(place);
        let At { start, .. } = variable.at;
        let at = local("at", start);
        arguments.extend(quote_spanned!(located(start)=> #at[#place],));
    }
    // What is returned is judged as a whole: from the first token of its type to the last.
    let mut call = Group::new(Delimiter::Parenthesis, arguments);
    call.set_span(located(returns.end));
    let mut called = name.clone();
    called.set_span(name.span().located_at(returns.start));
    let path = quote_spanned!(located(returns.start)=> Self::#called);
    let convert = if method.asks {
        quote!(::machine_runtime::__private::Answer::verdict)
    } else {
        quote!(::machine_runtime::__private::Ending::finished)
    };
    quote!(|#this, #cx, #at| #convert(#path #call))
}

/// A name of the expansion's own: no name of the user's is the same.
fn local(name: &str, span: Span) -> Ident {
    format_ident!("__{}", name, span = located(span))
}

/// The place of `span`, for what the expansion says there.
fn located(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}

/// The user's `path`, as if it stood at `span`: what is said of it then stands there, too.
fn respan(path: &Path, span: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter();
    tokens
        .map(|mut token| {
            token.set_span(token.span().located_at(span));
            token
        })
        .collect()
}
