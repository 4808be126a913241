//! What a debugger is told, and what a recording of it holds.

pub mod frame;
pub mod portable;
