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
//! * [`states`] is the machine's shape, [`feed`] and [`random`] what moves it, [`traffic`] lets
//!   that flow into a root.
//! * [`node`] is a node of any tier, [`http`] its readers' side, [`tree`] all nodes, [`processes`]
//!   each in a process of its own.
//! * [`cli`] is the command line, [`run`] what its subcommands do; [`status`] and [`terminal`]
//!   show how it goes, [`client`] asks nodes over HTTP.

pub mod cli;
pub mod client;
pub mod feed;
pub mod http;
pub mod node;
pub mod processes;
pub mod random;
pub mod run;
pub mod shutdown;
pub mod states;
pub mod status;
pub mod telemetry;
pub mod terminal;
pub mod traffic;
pub mod tree;
