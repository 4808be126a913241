//! What a debugger is told, and what a recording of it holds.

pub mod codec;
pub mod frame;
pub mod portable;
mod readable;
#[cfg(test)]
pub(crate) mod samples;
