//! `flights token`.
#![expect(clippy::print_stderr, reason = "standard output is for the token")]

use std::io::{self, Write};

use anyhow::Context;
use machine_node::access::{ANONYMOUS, token};

use crate::cli::{TokenArgs, Usage};

/// Makes a token, and says what is to stand in the file of who may do what.
///
/// # Errors
///
/// If there are no random numbers to be had, or the file is there or cannot be written.
pub fn token(args: &TokenArgs) -> anyhow::Result<()> {
    let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_control);
    if !is_name(&args.name) || args.name.chars().count() > 64 || args.name == ANONYMOUS {
        let why = "a client's name has 1 to 64 printable characters, and is not `anonymous`";
        return Err(Usage(why.to_owned()).into());
    }
    let made = token::make()?;
    if let Some(file) = &args.out {
        let written = token::write(&made, file);
        written.with_context(|| format!("cannot write {}", file.display()))?;
    } else {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", made.secret())?;
        out.flush()?;
    }
    if let Some(entry) = token::entry(&args.name, &made) {
        eprint!("{entry}");
    }
    Ok(())
}
