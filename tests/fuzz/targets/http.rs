//! The address and the headers of a GET, and the body of a mutation: each is understood or refused, always in
//! the same way, and what is refused says why.
//!
//! An input is a target, an `Accept` and an `If-None-Match`, a line each, and then a body.

#![no_main]

use std::str;

use flights::states::Flights;
use libfuzzer_sys::fuzz_target;
use machine_node::http::tamper::{read_mutation, read_query};
use machine_runtime::States as _;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(4, |byte| *byte == b'\n');
    let [target, accept, known, body] = [(); 4].map(|()| lines.next().unwrap_or_default());
    let schema = Flights::schema();
    if let [Ok(target), Ok(accept), Ok(known)] = [target, accept, known].map(str::from_utf8) {
        let read = || read_query(target, accept, known, schema);
        assert_eq!(read(), read());
    }
    let asked = read_mutation(body, schema);
    assert_eq!(asked, read_mutation(body, schema));
});
