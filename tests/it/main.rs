//! The program from the outside: one binary, a module per subject.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]
#![expect(clippy::print_stdout, reason = "a failed run has to tell its seed")]

// Help, mistakes, exit codes, settings.
mod cli;
// The dashboard: what is made, what is committed, how Grafana takes it.
mod dashboard;
// Real departures on a real machine.
mod feed;
// What nodes answer over HTTP.
mod http;
// What a replica tells a person.
mod narrator;
// Running the program, reading what it prints, asking its nodes.
mod support;
// Gates and delays: what the root's handlers refuse, and what they do.
mod tower;
// Whole trees, in one process and in one each.
mod tree;
// Many writers at once.
mod writes;
