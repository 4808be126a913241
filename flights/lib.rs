//! Flight statuses of an airport on a tree of replicated state machines.
//!
//! ```text
//! departures -> root            owns the machine
//!               ├─ rep-1        follows the root over tarpc
//!               │  ├─ rep-1-1   follows rep-1
//!               │  ├─ rep-1-2
//!               │  └─ rep-1-3
//!               └─ rep-2
//!                  ├─ rep-2-1
//!                  ├─ rep-2-2
//!                  └─ rep-2-3
//! ```
//!
//! Every node answers HTTP from its own memory: `curl localhost:18703/` prints the active states,
//! one a line.
//!
//! * [`states`] is the machine's shape and [`payloads`] what its states carry, [`tower`] decides at
//!   the root what relations cannot, [`narrator`] tells in words what a replica sees.
//! * [`feed`] is what moves it, [`root`] is the machine itself, [`traffic`] lets that flow into a root, [`tree`] is all nodes. What a
//!   node is, for these states as for any, is `machine-node`.
//! * [`cli`] is the command line, [`run`] what its subcommands do, [`dashboard`] and [`graph`] what two of
//!   them make, [`debug`] what one shows; [`certs`] makes certificates.

pub mod certs;
pub mod cli;
pub mod dashboard;
pub mod debug;
pub mod feed;
pub mod graph;
pub mod narrator;
pub mod payloads;
pub mod replay;
pub mod root;
pub mod run;
pub mod states;
pub mod tower;
pub mod traffic;
pub mod tree;
