//! Telling a debugger, and recording: from nodes to what is read of them.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod debugger;
mod fixtures;
mod link;
mod link_peers;
mod record;
