//! `flights bench`: what a tree of replicated machines costs, each figure beside a floor that was
//! measured in the same run.
//!
//! * [`BenchArgs`] and [`run`] are the subcommand; `suites` are what it can measure.
//! * `report` is the table and the JSON, `samples` medians and spreads, `cpu` processor time.
//! * `states` are the published states in fixed sizes, whatever `states.toml` says.
//! * [`part`] is what the processes do that a suite starts; `load` asks them over HTTP, `talk` over
//!   their standard input.

mod cpu;
mod load;
pub mod part;
mod report;
mod samples;
pub mod states;
mod suites;
mod talk;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};

use self::report::Report;
use self::suites::crash::Proof;
use self::suites::followers::Crowd;
use self::suites::published::Balancer;

/// Options of `flights bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_value = "all")]
    pub suite: Suite,

    /// Writes the figures as JSON as well: a list of objects with `name`, `value`, `unit`,
    /// `baseline`, `baseline_value`, `ratio`, `min`, `max` and `samples`
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Measures for about two minutes: less exact, and without what has to be compiled for long
    #[arg(long)]
    pub quick: bool,

    /// The source tree to compile a copy of, in its target folder, for `codegen` [default: the
    /// working directory, or what it is in]
    #[arg(long, value_name = "DIR")]
    pub source: Option<PathBuf>,

    /// The load balancer for `published`: a program called caddy or nginx [default: what the path
    /// has of them]
    #[arg(long, value_name = "FILE")]
    pub balancer: Option<PathBuf>,

    /// How many followers a parent has, for `followers` [default: 1000, quick: 100]
    #[arg(long, value_name = "N")]
    pub followers: Option<usize>,

    /// How many of these do not read, for `followers`; as many again read slowly, by halves
    /// [default: a tenth]
    #[arg(long, value_name = "N")]
    pub stalled: Option<usize>,

    /// For how long their parent is saturated, for `followers` [default: 5, of `all` 1, quick: a
    /// sixth]
    #[arg(long, value_name = "MINUTES")]
    pub minutes: Option<f64>,

    /// How often a root is killed, for `crash` [default: 200, quick: 5]
    #[arg(long, value_name = "N")]
    pub kills: Option<u32>,

    /// How many write to it, for `crash` [default: 10000, quick: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub writers: Option<u32>,

    /// Has that root acknowledge what is not on disk yet, so that `crash` has to fail
    #[arg(long)]
    pub relaxed: bool,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Suite {
    /// Transitions of a machine alone
    Core,
    /// Requests to a replicant
    Http,
    /// The tree: latency, throughput, bytes, memory, start
    Replication,
    /// What it costs to keep strangers out: TLS, and to ask everybody who they are
    Security,
    /// What it costs to keep a history on disk
    Durable,
    /// A parent with a thousand followers, of which a hundred do not read
    Followers,
    /// What it costs to be observed
    Observe,
    /// What a debugger holds, and how soon it finds things there
    Debugger,
    /// What readers notice while strangers attack their node
    Strangers,
    /// Compiling large machines, and edits of `states.toml`
    Codegen,
    /// All of these
    All,
    /// No figures: whether a root that is killed while it is written to loses or doubles anything
    Crash,
    /// The original's benchmark: small nodes behind a load balancer
    Published,
}

/// Measures what `args` ask for; the table goes to standard output, progress to standard error.
///
/// # Errors
///
/// If something cannot be measured here, or the figures cannot be written.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    // What is lacking is told first: nobody should wait for minutes to learn it.
    let json = args.json.as_deref().map(JsonFile::open).transpose()?;
    if args.suite == Suite::Crash {
        let line = Proof::new(args).run(&Report::new(args.quick))?;
        return Ok(writeln!(io::stdout(), "{line}")?);
    }
    let is = |suite| args.suite == suite || (args.suite == Suite::All && suite != Suite::Published);
    let source = is(Suite::Codegen).then(|| suites::codegen::find_source(args.source.as_deref()));
    let source = source.transpose()?;
    let balancer = is(Suite::Published).then(|| Balancer::find(args.balancer.as_deref()));
    let balancer = balancer.transpose()?;
    let mut report = Report::new(args.quick);
    let measured = (|| {
        if is(Suite::Core) {
            suites::core::measure(&mut report);
        }
        if is(Suite::Http) {
            suites::http::measure(&mut report)?;
        }
        if is(Suite::Replication) {
            suites::replication::measure(&mut report)?;
        }
        if is(Suite::Security) {
            suites::security::measure(&mut report)?;
        }
        if is(Suite::Durable) {
            suites::durable::measure(&mut report)?;
        }
        if is(Suite::Followers) {
            suites::followers::measure(&mut report, &Crowd::new(args)?)?;
        }
        if is(Suite::Observe) {
            suites::observe::measure(&mut report)?;
        }
        if is(Suite::Debugger) {
            suites::debugger::measure(&mut report)?;
        }
        if is(Suite::Strangers) {
            suites::strangers::measure(&mut report)?;
        }
        if let Some(source) = &source {
            suites::codegen::measure(&mut report, source)?;
        }
        if let Some(balancer) = &balancer {
            suites::published::measure(&mut report, balancer)?;
        }
        Ok(())
    })();
    // What was measured is shown, whatever came after it.
    report.done();
    if let Some(json) = json {
        json.write(&report.json()?)?;
    }
    let shown = io::stdout().write_all(report.table().as_bytes());
    measured.and_then(|()| Ok(shown?))
}

/// Where the figures go. What is there is kept until there are new ones.
struct JsonFile<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> JsonFile<'a> {
    fn open(path: &'a Path) -> anyhow::Result<Self> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file })
    }

    fn write(mut self, text: &str) -> anyhow::Result<()> {
        // A pipe has no length to set.
        let _ = self.file.set_len(0);
        let written = self.file.write_all(text.as_bytes());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Lets this thread rest, which nobody waits for.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread of a benchmark may block"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
