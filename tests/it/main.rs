//! The program from the outside: one binary, a module per subject.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

// Real departures on a real machine.
mod feed;
