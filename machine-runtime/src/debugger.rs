//! A debugger for any machine: it listens for nodes or opens recordings, and shows them at one time.

pub mod open;
pub mod store;
pub mod ui;
pub mod web;
mod words;
