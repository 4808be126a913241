//! Replication: a root, replicas that follow it, replicas that follow those.
//!
//! A follower dials its parent and asks for what came after its position; the parent holds the
//! question until it has an answer (a long poll) or a heartbeat is due. So a slow follower costs
//! its parent one pending question: what piles up meanwhile is one delta. The parent keeps no
//! state of a follower between questions, and any [`View`](crate::View) can be served, a
//! replica's too.
//!
//! * [`Source`] answers: one per node, over any number of connections.
//! * [`Follower`] asks, and writes the answers into its own view.
//!
//! Writes go the other way over the same connections, each a call of its own: a
//! [`Handle`](crate::Handle) of a replica ([`Follower::handle`]) sends them to the parent, and a
//! source that has been given a handle ([`Source::with_writes`]) takes them and passes them on, up to
//! the root. What was on a link that broke is sent again, with the same key, which the root runs
//! once.
//!
//! A follower has one parent or a list of them: of those that serve the life of the root that it shows it
//! takes the first, leaves one that is itself cut off or says nothing, and goes on from its position at
//! the next. A link can carry a [`Selection`] of the states; then it does so for everybody behind it.
//!
//! Whom a source admits, and which states those may change, an [`Admission`] says; without one it is everybody
//! and all.
//!
//! What goes over the wire, and how it may change, is in `wire`.

mod admission;
mod caller;
mod codec;
mod connect;
mod follower;
mod link;
mod seldom;
mod source;
#[cfg(feature = "wire")]
#[doc(hidden)]
pub mod tamper;
mod uplink;
mod wire;

pub use crate::selection::{InvalidSelection, Selection};
pub use admission::{Admission, Bearer, Changes, Credentials, Denied, Forbidden, Grant, Token};
pub use codec::largest_snapshot;
pub use connect::{Connect, Tcp};
pub use follower::{Follower, FollowerOptions, Granularity, PREFER_EVERY};
pub use link::{Edge, Link, LinkState, Resync};
pub use seldom::Seldom;
pub use source::{FOLLOWERS, HELLO_WITHIN, IDLE, Served, Source, SourceOptions, SourceStats};
pub use uplink::UPLINK;
pub(crate) use uplink::Uplink;
pub use wire::{OLDEST_PROTOCOL, PROTOCOL};
