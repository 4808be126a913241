//! What can be measured: each fills the rows of one subject.

pub(crate) mod codegen;
pub(crate) mod core;
pub(crate) mod crash;
pub(crate) mod debugger;
pub(crate) mod durable;
pub(crate) mod followers;
pub(crate) mod http;
pub(crate) mod observe;
pub(crate) mod published;
pub(crate) mod replication;
pub(crate) mod security;
pub(crate) mod strangers;
