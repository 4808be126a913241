//! Where log lines go: to standard error, or into the live status while that has the terminal.

use std::io::{self, Write};
use std::str::FromStr;

use anyhow::Context;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::status::Lines;

/// What is logged unless told otherwise.
pub const DEFAULT: &str = "warn";

/// Starts logging by a filter such as `info` or `warn,machine_runtime=debug`. Where `lines` is
/// given, they go there.
///
/// # Errors
///
/// If `filter` is none.
pub fn start(filter: &str, lines: Option<Lines>) -> anyhow::Result<()> {
    let targets = Targets::from_str(filter).with_context(|| {
        format!("`{filter}` is no log filter; try `info` or `warn,machine_runtime=debug`")
    })?;
    // tarpc logs as errors what a peer does and we tell in better words.
    let targets = if filter.contains("tarpc") {
        targets
    } else {
        targets.with_target("tarpc", LevelFilter::OFF)
    };
    let to_lines = lines.is_some();
    let layer = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(false);
    let writer = Writer { lines };
    let registry = tracing_subscriber::registry();
    let started = if to_lines {
        registry
            .with(layer.without_time().with_writer(writer))
            .with(targets)
            .try_init()
    } else {
        registry
            .with(layer.with_writer(writer))
            .with(targets)
            .try_init()
    };
    started.context("logging was already started")
}

#[derive(Clone)]
struct Writer {
    lines: Option<Lines>,
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Each call of `write` carries one whole event.
impl Write for Writer {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match &self.lines {
            Some(lines) => lines.push(String::from_utf8_lossy(event).trim_end().to_owned()),
            None => io::stderr().write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
