//! A node of a replicated machine, for the states of any schema, and what a program around it
//! needs.
//!
//! * [`node`] is a node of any tier: a root that shows a machine, or a replicant that follows
//!   another node; [`http`] is its readers' side.
//! * [`places`] says which nodes a tree has, [`processes`] runs nodes in processes of their own and
//!   starts those again that end.
//! * [`client`] asks nodes over HTTP, [`top`] shows how they do, [`random`] is traffic for a root.
//! * [`links`] says how a node is linked, [`vitals`] how it is, [`disk`] where a root keeps its history.
//! * [`security`] says what keeps strangers out: [`tls`] around each [`stream`] and [`access`], who may do what, by
//!   files that are read again when they change ([`files`]). [`door`] is who is let in at a port, [`dial`] how a
//!   parent is reached. [`limits`] says how much of a node strangers can take, [`descriptors`] how many files
//!   there are for it.
//! * [`observe`] says to whom a node reports, [`metrics`] which metrics it has, [`log`] what of it is
//!   logged; `otlp` sends traces. [`health`] is a root's pulse, and [`dashboard`] makes pictures and
//!   alerts of metrics.
//! * [`debugging`] tells a debugger everything, and records it.
//! * [`shutdown`], [`telemetry`], [`status`] and [`terminal`] are how a program of nodes ends,
//!   logs, and shows how it goes; [`systemd`] tells a service manager.

pub mod access;
pub mod client;
pub mod dashboard;
pub mod debugging;
pub mod descriptors;
pub mod dial;
pub mod disk;
pub mod door;
pub mod files;
mod followers;
pub mod health;
pub mod http;
pub mod limits;
pub mod links;
pub mod log;
pub mod metrics;
pub mod node;
pub mod observe;
mod otlp;
mod outbound;
pub mod places;
pub mod processes;
mod push;
pub mod random;
pub mod security;
pub mod shutdown;
pub mod status;
pub mod stream;
pub mod systemd;
pub mod telemetry;
pub mod terminal;
pub mod tls;
pub mod top;
pub mod vitals;

#[cfg(test)]
mod fixture;
