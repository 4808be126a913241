//! What is logged, and where it goes: to standard error, or into the live status while that has the
//! terminal, and to a Loki as well where there is one.

use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::debugging::Debugging;
use crate::observe::ObserveConfig;
use crate::outbound::Exports;
use crate::shutdown::Tasks;
use crate::status::Lines;
use stderr::Stderr;

mod debug;
pub(crate) mod levels;
mod line;
mod loki;
mod stderr;
mod switches;

pub use levels::{DEFAULT, Filter, FilterError};
pub use loki::{InvalidLoki, LokiAddr};
pub use switches::Switches;

/// How a program logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Which lines are logged.
    pub filter: Filter,
    /// What a line looks like.
    pub format: Format,
    /// Whether they are collected for a Loki, see [`Logs::push`].
    pub loki: bool,
}

/// What a logged line looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// As people read it.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl Format {
    /// The format's name in flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    /// Nothing is text.
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "" | "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("it is text or json".to_owned()),
        }
    }
}

/// Starts logging. Where `lines` is given, lines go there.
///
/// # Errors
///
/// If it was started before.
pub fn start(config: &LogConfig, lines: Option<Lines>) -> anyhow::Result<Logs> {
    let writer = match lines {
        Some(lines) => Writer::Status(lines),
        None => Writer::Stderr(Stderr::start().context("cannot start logging")?),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer.clone());
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        Format::Json => lines.event_format(line::Json).boxed(),
        Format::Text => {
            // In the live status a line has little room.
            let time = matches!(writer, Writer::Stderr(_));
            lines.event_format(line::Text { time }).boxed()
        }
    };
    let mut layers = vec![lines.with_filter(config.filter.targets()).boxed()];
    let exports = Exports::default();
    let loki = config.loki.then(|| {
        let (layer, loki) = loki::new(&exports);
        layers.push(
            layer
                .with_filter(config.filter.for_loki().targets())
                .boxed(),
        );
        loki
    });
    let told = debug::Told::default();
    let collector = debug::Collector(told.clone());
    layers.push(collector.with_filter(config.filter.targets()).boxed());
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .context("logging was already started")?;
    Ok(Logs {
        _end: Arc::new(End(writer.clone())),
        writer,
        format: config.format,
        loki,
        told,
        exports,
    })
}

/// Text for people as the program logs it, to a writer of a test's.
#[cfg(test)]
pub(crate) fn text<W>(writer: W) -> impl Layer<Registry>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_ansi(false);
    let lines = lines.with_writer(writer);
    lines.event_format(line::Text { time: true })
}

/// Where logged lines go. Cheap to clone; when the last clone is dropped, what was logged is written,
/// or has had its time.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    _end: Arc<End>,
    writer: Writer,
    format: Format,
    loki: Option<loki::Loki>,
    told: debug::Told,
    exports: Exports,
}

impl Logs {
    /// Says that lines of a node of this name are a root's, or a replicant's.
    pub fn add_node(&self, name: &str, role: Role) {
        if let Some(loki) = &self.loki {
            loki.add_node(name, role);
        }
    }

    /// Passes on what is logged from now on.
    pub(crate) fn debug(&self, debugging: &Debugging) {
        self.told.set(debugging);
    }

    /// What of them was sent: for all nodes of the program, whose other exporters count there as well.
    pub fn exports(&self) -> Exports {
        self.exports.clone()
    }

    /// Begins to send what was logged, and what will be, to the Loki of `config`, if it has one. The
    /// task is among `tasks`. Lines that name no node are those of `node`, where the program is one.
    ///
    /// # Errors
    ///
    /// If the address is none, or nothing can be sent at all.
    pub fn push(
        &self,
        config: &ObserveConfig,
        node: Option<&str>,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        if let (Some(loki), Some(addr)) = (&self.loki, &config.loki) {
            loki.push(&addr.parse()?, &config.service, node, tasks)?;
        }
        Ok(())
    }

    /// Passes on a line that another process of ours has logged, as it is. Returns whether that is to
    /// be done with it: lines for people are told in other ways.
    pub(crate) fn pass_on(&self, line: &str) -> bool {
        let json = self.format == Format::Json && line.starts_with('{');
        // Nobody is left to be told that nobody reads standard error.
        json && self
            .writer
            .clone()
            .write_all(format!("{line}\n").as_bytes())
            .is_ok()
    }
}

/// What a node is to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It owns the machine.
    Root,
    /// It follows another node.
    Replicant,
}

impl Role {
    /// The role's name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Replicant => "replicant",
        }
    }
}

/// Where a line is written.
#[derive(Clone, Debug, Default)]
enum Writer {
    /// Nowhere.
    #[default]
    Nobody,
    /// Into the live status.
    Status(Lines),
    /// To standard error, in time.
    Stderr(Stderr),
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
        match self {
            Self::Nobody => {}
            Self::Status(lines) => lines.push(String::from_utf8_lossy(event).trim_end().to_owned()),
            Self::Stderr(stderr) => stderr.push(event),
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end of logging: what waits is given a little time to be written.
#[derive(Debug, Default)]
struct End(Writer);

impl Drop for End {
    fn drop(&mut self) {
        if let Writer::Stderr(stderr) = &self.0 {
            stderr.finish();
        }
    }
}
