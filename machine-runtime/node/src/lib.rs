//! A node of a replicated machine, for the states of any schema, and what a program around it
//! needs.
//!
//! * [`node`] is a node of any tier: a root that shows a machine, or a replicant that follows
//!   another node; [`http`] is its readers' side.
//! * [`places`] says which nodes a tree has, [`processes`] runs nodes in processes of their own and
//!   starts those again that end.
//! * [`client`] asks nodes over HTTP, [`random`] is traffic for a root.
//! * [`observe`] says to whom a node reports, [`metrics`] which metrics it has,
//!   [`dashboard`] makes pictures and alerts of these.
//! * [`shutdown`], [`telemetry`], [`status`] and [`terminal`] are how a program of nodes ends,
//!   logs, and shows how it goes.

pub mod client;
pub mod dashboard;
pub mod http;
pub mod metrics;
pub mod node;
pub mod observe;
mod outbound;
pub mod places;
pub mod processes;
pub mod random;
pub mod shutdown;
pub mod status;
pub mod telemetry;
pub mod terminal;

#[cfg(test)]
mod fixture;
