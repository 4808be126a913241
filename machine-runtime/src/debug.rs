//! What a debugger is told, and what a recording of it holds.

pub mod codec;
pub mod file;
pub mod frame;
pub mod json;
pub mod link;
pub mod listen;
pub mod portable;
mod readable;
pub mod record;
pub mod recording;
pub mod replay;
#[cfg(test)]
pub(crate) mod samples;
pub mod subject;
mod teller;
