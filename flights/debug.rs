//! `flights debug`: the debugger of nodes, live or recorded.

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use machine_node::shutdown::Signals;
use machine_runtime::debugger::open::{self, OpenError, Options};
use machine_runtime::debugger::ui::Palette;

use crate::cli::{Addr, Usage};

/// Where nodes find a debugger unless they are told.
pub const DEBUG_ADDR: &str = "127.0.0.1:6831";

/// Options of `flights debug`.
#[derive(Args, Clone, Debug)]
pub struct DebugArgs {
    /// Recordings to open: files, and folders of them; they are read on while they are written. Without
    /// any the debugger listens for nodes
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// The address to listen on; nodes dial it with `--debug-addr`
    #[arg(long, default_value = DEBUG_ADDR, value_name = "HOST:PORT", conflicts_with = "paths")]
    pub listen: Addr,

    /// Colours: `auto`, `light`, `dark` or `mono`
    #[arg(long, default_value = "auto")]
    pub theme: Palette,

    /// Leaves the mouse to the terminal, so that it selects text
    #[arg(long)]
    pub no_mouse: bool,

    /// How much of what nodes told is held, such as `512MiB`; beyond it the oldest goes
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub memory: Size,

    /// Prints the screen once as text, this wide and high, and ends: for scripts
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    pub frame: Option<Area>,

    /// Keys that are pressed before, such as `4:rev 12<enter>`
    #[arg(
        long,
        requires = "frame",
        default_value = "",
        hide_default_value = true
    )]
    pub keys: String,
}

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size(pub usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
        let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            unit => return Err(format!("`{unit}` is no unit, which is KiB, MiB or GiB")),
        };
        let number = digits.parse::<usize>();
        let number = number.map_err(|_wrong| format!("`{digits}` is no number"))?;
        let size = number.checked_mul(1 << shift).ok_or("it is too much")?;
        if size < LEAST {
            return Err("it is 16MiB at least".to_owned());
        }
        Ok(Self(size))
    }
}

/// With less, a large schema alone would find no room.
const LEAST: usize = 16 << 20;

/// Columns and rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area(pub u16, pub u16);

impl FromStr for Area {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size, which is 1x1 to 500x300, such as 120x40");
        let (width, height) = text.split_once('x').ok_or_else(wrong)?;
        let area = Self(
            width.parse().map_err(|_wrong| wrong())?,
            height.parse().map_err(|_wrong| wrong())?,
        );
        let fits = (1..=500).contains(&area.0) && (1..=300).contains(&area.1);
        fits.then_some(area).ok_or_else(wrong)
    }
}

/// Shows the debugger until somebody leaves it, or prints one screen of it.
///
/// # Errors
///
/// [`Usage`] where there is no terminal; if the address is taken, or a recording cannot be opened.
pub async fn show(args: DebugArgs) -> anyhow::Result<()> {
    let options = Options {
        listen: args.listen.to_string(),
        paths: args.paths,
        palette: args.theme,
        mouse: !args.no_mouse,
        memory: args.memory.0,
    };
    if let Some(Area(width, height)) = args.frame {
        let screen = open::frame(&options, (width, height), &args.keys).map_err(usage)?;
        return Ok(io::stdout().write_all(screen.as_bytes())?);
    }
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    open::run(options, async { signals.next().await })
        .await
        .map_err(usage)
}

/// What was asked for wrongly has the exit code of a wrong flag.
fn usage(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::NoTerminal | OpenError::Keys(_) => Usage(error.to_string()).into(),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!("1GiB".parse(), Ok(Size(1 << 30)));
        assert_eq!("512m".parse(), Ok(Size(512 << 20)));
        for wrong in ["", "x", "1", "1TiB", "99999999999999GiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        assert_eq!("120x40".parse(), Ok(Area(120, 40)));
        for wrong in ["", "120", "0x1", "1x", "9999x1"] {
            assert!(wrong.parse::<Area>().is_err(), "{wrong}");
        }
    }
}
