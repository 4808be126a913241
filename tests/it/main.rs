//! The program from the outside: one binary, a module per subject.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]
#![expect(clippy::print_stdout, reason = "a failed run has to tell its seed")]

// Who may do what, and what must be nowhere.
mod access;
// Help, mistakes, exit codes, settings.
mod cli;
// A durable root that is killed while it is written to.
mod crash;
// The dashboard: what is made, what is committed, how Grafana takes it.
mod dashboard;
// Reading what `/metrics` has, strictly.
mod exposition;
// Who is told everything, and what is recorded.
mod debugger;
// Real departures on a real machine.
mod feed;
// Strangers who take all that they can get, and what others notice of it.
mod floods;
// Diagrams: what is drawn, and what cannot be.
mod graph;
// Nodes on hosts of their own, and what happens to hosts and wires.
mod hosts;
// What nodes answer over HTTP.
mod http;
// What a request or a client can be too much of, and how it is told.
mod limits;
// How nodes are linked: on which terms, by what other way, over restarts, and how they leave.
mod links;
// What is logged, and what a Loki is sent of it.
mod logs;
// Metrics: for those who ask, and for a Pushgateway.
mod metrics;
// What a replica tells a person.
mod narrator;
// Nodes under a real Prometheus.
mod prometheus;
// Running the program, reading what it prints, asking its nodes.
mod support;
// How nodes do, at a glance.
mod top;
// Gates and delays: what the root's handlers refuse, and what they do.
mod tower;
// What an OpenTelemetry collector is told of mutations.
mod traces;
// Nodes that speak TLS, and what keeps strangers out.
mod tls;
// Whole trees, in one process and in one each.
mod tree;
// How nodes are run by systemd.
mod units;
// Many writers at once.
mod writes;
