//! `flights debug`: the debugger of nodes, live or recorded.

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, anyhow};
use clap::Args;
use clap::builder::FalseyValueParser;
use machine_node::shutdown::Signals;
use machine_runtime::debugger::open::{self, OpenError, Options};
use machine_runtime::debugger::ui::Palette;

use crate::cli::{Addr, Usage, check_listeners, size};

/// Where it listens: nodes of this computer find it there unless they are told.
const LISTEN: &str = "127.0.0.1:6831";

/// Options of `flights debug`.
#[derive(Args, Clone, Debug)]
pub struct DebuggerArgs {
    /// Recordings to open: files, and folders of them; they are read on while they are written. Without
    /// any the debugger listens for nodes
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// The address to listen on; nodes dial it with `--debug-addr`
    #[arg(long, default_value = LISTEN, value_name = "HOST:PORT", conflicts_with = "paths")]
    pub listen: Addr,

    /// Also shows it to browsers, at this address: to read only, as many as like
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "frame")]
    pub http: Option<Addr>,

    /// Listens beyond this computer all the same, in plain text: whoever is on the way can read all that
    /// nodes tell
    #[arg(long, env = "TST_INSECURE_PLAINTEXT", value_parser = FalseyValueParser::new(),
        hide_env_values = true)]
    pub insecure_plaintext: bool,

    /// Colours: `auto`, `light`, `dark` or `mono`
    #[arg(long, default_value = "auto")]
    pub theme: Palette,

    /// Leaves the mouse to the terminal, so that it selects text
    #[arg(long)]
    pub no_mouse: bool,

    /// How much of what nodes told is held, such as `512m`; beyond it the oldest goes
    #[arg(long, default_value = "1g", value_name = "SIZE", value_parser = size)]
    pub memory: u64,

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
/// [`Open`](crate::cli::Open) if it would be open to strangers; [`Usage`] where there is no terminal or no such recording; if the address is taken, or a recording is
/// damaged and a screen of the rest was printed.
pub async fn show(args: DebuggerArgs) -> anyhow::Result<()> {
    if !args.insecure_plaintext {
        let listen = args.paths.is_empty().then_some(("--listen", &args.listen));
        let http = args.http.as_ref().map(|addr| ("--http", addr));
        check_listeners(listen.into_iter().chain(http))?;
    }
    let options = Options {
        listen: args.listen.to_string(),
        paths: args.paths,
        palette: args.theme,
        mouse: !args.no_mouse,
        memory: usize::try_from(args.memory).unwrap_or(usize::MAX),
        http: args.http.map(|addr| addr.to_string()),
    };
    if let Some(Area(width, height)) = args.frame {
        let printed = open::frame(&options, (width, height), &args.keys).map_err(usage)?;
        io::stdout().write_all(printed.screen.as_bytes())?;
        return printed.trouble.map_or(Ok(()), |why| Err(anyhow!(why)));
    }
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    open::run(options, async { signals.next().await })
        .await
        .map_err(usage)
}

/// What was asked for wrongly has the exit code of a wrong flag.
fn usage(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::NoTerminal | OpenError::Keys(_) | OpenError::Recording(_) => {
            Usage(error.to_string()).into()
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_has_a_width_and_a_height() {
        assert_eq!("120x40".parse(), Ok(Area(120, 40)));
        for wrong in ["", "120", "0x1", "1x", "9999x1"] {
            assert!(wrong.parse::<Area>().is_err(), "{wrong}");
        }
    }
}
