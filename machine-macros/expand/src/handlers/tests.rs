//! What is generated, and that what is being typed passes through.

use std::str::FromStr;

use proc_macro2::TokenStream;

use super::expansion;
use crate::diagnostics::Errors;

fn expand(item: &str) -> (String, Vec<String>) {
    let mut errors = Errors::default();
    let item = TokenStream::from_str(item).unwrap();
    let tokens = expansion("crate::Flights".parse().unwrap(), item, &mut errors);
    (tokens.to_string(), errors.messages())
}

/// Whatever is no phase comes out as it went in.
#[track_caller]
fn check_kept(item: &str) {
    let dense = |text: &str| text.replace(' ', "");
    let (expansion, _) = expand(item);
    assert!(dense(&expansion).starts_with(&dense(item)), "{expansion}");
}

#[test]
fn items_pass_through() {
    check_kept(
        "impl A { #![allow(unused)] const A: B = B { c: 1 }; type T = (); m! { x } m!(y); }",
    );
    check_kept(
        "impl<T> A<T> where T: Fn() -> u8 { pub fn f<const N: usize>() -> B<{ N }> { } fn g() }",
    );
    check_kept("impl A { fn f(&self) { self. } fn }");
}

#[test]
fn mistakes_leave_the_block_usable() {
    let (expansion, errors) = expand("impl A { #[state(1)] #[exit] fn f(&self) {} }");
    assert_eq!(errors.len(), 2);
    assert!(
        expansion.starts_with("impl A { fn f (& self) { } }"),
        "{expansion}"
    );
    assert!(expansion.contains("Handlers"), "{expansion}");
}

/// What is generated, to be read. After a change that is meant: `UPDATE_EXPANSION=1 cargo test`.
#[test]
fn the_expansion_reads_like_this() {
    let (expansion, errors) = expand(
        "impl<T: Send + 'static> Tower<T> {
            #[enter(gate)]
            fn gate_is_free(&self, cx: &mut Negotiation<'_, Flights>, flight: usize, _gate: usize) -> bool {
                true
            }

            #[cfg(unix)]
            #[between(Calm, WEATHER => departed(flight))]
            fn may_depart(&self, flight: usize) -> Result<(), String> { Ok(()) }

            #[any_state]
            fn changed(&mut self) {}
        }",
    );
    assert!(errors.is_empty(), "{errors:?}");
    let expansion = prettyplease::unparse(&syn::parse_file(&expansion).unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/handlers/expansion.txt");
    if std::env::var_os("UPDATE_EXPANSION").is_some() {
        std::fs::write(path, &expansion).unwrap();
    }
    assert_eq!(expansion, std::fs::read_to_string(path).unwrap());
}
