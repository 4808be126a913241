//! What the program tells a debugger, what it records, and what `replay` says of that.

mod flags;
mod link;
mod recorded;
