//! `flights bench`: what a tree of replicated machines costs, each figure beside a floor that was
//! measured in the same run.
//!
//! * [`BenchArgs`] and [`run`] are the subcommand; `suites` are what it can measure.
//! * `report` is the table and the JSON, `samples` medians and spreads, `cpu` processor time.
//! * `states` are the published states in fixed sizes, whatever `states.toml` says.
//! * [`part`] is what the processes do that a suite starts; `load` asks them over HTTP.

mod cpu;
mod load;
pub mod part;
mod report;
mod samples;
pub mod states;
mod suites;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};

use self::report::Report;
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

    /// Measures for less than a minute: less exact, and without what has to be compiled for long
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
    /// Compiling large machines, and edits of `states.toml`
    Codegen,
    /// All of these
    All,
    /// The original's benchmark: small nodes behind a load balancer
    Published,
}

/// Measures what `args` ask for; the table goes to standard output, progress to standard error.
///
/// # Errors
///
/// If something cannot be measured here, or the figures cannot be written.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    // Opened first: nobody should wait for minutes to be told that it cannot be written.
    let json = args.json.as_ref().map(|path| {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok((path, file))
    });
    let json = json.transpose()?;
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
    io::stdout().write_all(report.table().as_bytes())?;
    if let Some((path, mut file)) = json {
        let written = file.write_all(report.json()?.as_bytes());
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    measured
}

/// Lets this thread rest, which nobody waits for.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread of a benchmark may block"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
