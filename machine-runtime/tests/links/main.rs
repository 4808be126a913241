//! What holds on a link, and where a follower goes when its parent fails.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod ages;
mod nodes;
mod parents;
mod terms;
