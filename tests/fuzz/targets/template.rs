//! A template of states, the text of its `states.toml`, and blocks of handlers: whatever they are, they become
//! code or errors, and the same ones each time.
//!
//! An input is a template, and behind a line of dashes what the file of counts says. One that begins
//! with `impl` is a block of handlers.

#![no_main]

use std::str::FromStr as _;

use libfuzzer_sys::fuzz_target;
use proc_macro2::TokenStream;

/// What stands between a template and its counts.
const LINE: &str = "\n---\n";

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (template, counts) = text.split_once(LINE).unwrap_or((text, "[counts]\n"));
    let Ok(tokens) = TokenStream::from_str(template) else {
        return;
    };
    if template.starts_with("impl") {
        let arguments = TokenStream::from_str(counts).unwrap_or_default();
        let block = machine_expand::handlers(arguments, tokens);
        assert!(!block.is_empty());
        return;
    }
    let expand = || machine_expand::states_with(tokens.clone(), counts).to_string();
    let expansion = expand();
    assert!(!expansion.is_empty(), "code, or what is wrong");
    assert_eq!(expansion, expand());
});
