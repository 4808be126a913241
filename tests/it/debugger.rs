//! What the program tells a debugger, what it records, and what `replay` and `debug` say of that.

mod browser;
mod flags;
mod link;
mod recorded;
mod screen;
mod terminal;
mod walk;
