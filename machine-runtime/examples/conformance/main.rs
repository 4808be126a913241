//! Compares the machine with recorded behaviour, file by file:
//! `cargo run --release -p machine-runtime --example conformance -- DIR`.
//!
//! The exit code is 0 if everything agrees, 1 if a case disagrees, and 2 if a file cannot be
//! read, is of a kind that is not supported yet, or if there is none.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use machine_runtime::{DynState, Machine};

mod subs;
mod traced;
mod vectors;

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        let _ = writeln!(
            out,
            "usage: conformance DIR, a folder with <name>.jsonl.gz files"
        );
        return ExitCode::from(2);
    };
    match vectors::check_folder::<Machine<DynState>>(Path::new(&folder), &mut out) {
        Ok(verdict) => ExitCode::from(verdict as u8),
        // Nobody reads the report any more.
        Err(_) => ExitCode::from(2),
    }
}
