//! The command: parses, sets up, runs, and maps what came of it to an exit code.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::CommandFactory;
use flights::cli::{Cli, Command, ObserveArgs, Open, TreeArgs, Usage};
use flights::{certs, dashboard, debug, graph, replay, run};
use machine_node::client::{Canceled, NoRoot, Unknown, Unreachable};
use machine_node::dashboard::push::Unreachable as NoGrafana;
use machine_node::disk::Unkept;
use machine_node::status::Lines;
use machine_node::telemetry;
use machine_node::terminal::Terminal;
use machine_node::tls::TlsError;
use machine_node::top::Nobody;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

/// Something went wrong.
const FAILURE: u8 = 1;

/// Wrong usage; clap exits with the same.
const USAGE: u8 = 2;

/// A node, the root behind it, or Grafana, could not be reached.
const UNREACHABLE: u8 = 3;

/// A mutation was canceled; what is printed says why.
const CANCELED: u8 = 4;

/// Whether a mutation was run is unknown.
const UNKNOWN: u8 = 5;

/// The history of a root cannot be opened, or not be kept any more.
const UNKEPT: u8 = 6;

/// The history of a root is there, and a person has to look at it.
const UNFIT: u8 = 7;

/// It would be open to strangers.
const OPEN: u8 = 8;

/// How long whoever reads standard error may take for an error.
const TELL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match try_main() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Canceled>() => ExitCode::from(CANCELED),
        Err(error) => {
            print_error(&error);
            let unkept = error.downcast_ref::<Unkept>();
            ExitCode::from(if is_unreachable(&error) {
                UNREACHABLE
            } else if error.is::<Unknown>() {
                UNKNOWN
            } else if unkept.is_some_and(Unkept::needs_a_person) {
                UNFIT
            } else if unkept.is_some() {
                UNKEPT
            } else if error.is::<Open>() {
                OPEN
            } else if error.is::<Usage>() || error.is::<TlsError>() {
                USAGE
            } else {
                FAILURE
            })
        }
    }
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    error.is::<Unreachable>()
        || error.is::<NoRoot>()
        || error.is::<Nobody>()
        || error.is::<NoGrafana>()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Tells an error, but does not wait for long for somebody who does not read it.
#[expect(clippy::print_stderr, reason = "the one place where an error is told")]
fn print_error(error: &anyhow::Error) {
    let text = format!("flights: {error:#}");
    let (sender, told) = mpsc::channel();
    thread::spawn(move || {
        eprintln!("{text}");
        // Nobody waits any more if that took too long.
        let _ = sender.send(());
    });
    let _ = told.recv_timeout(TELL);
}

fn try_main() -> anyhow::Result<()> {
    let started = Instant::now();
    load_env_file()?;
    let cli = Cli::read()?;
    let command = cli.command.unwrap_or(Command::Tree(cli.tree));
    let lines = Lines::default();
    let live = matches!(command, Command::Tree(_)) && Terminal::new().is_live();
    let (mut config, switches) = cli.log.config(reports(&command))?;
    config.loki &= !matches!(&command, Command::Tree(args) if args.processes);
    let logs = telemetry::start(&config, live.then(|| lines.clone()))?;
    // Dropped at the end, after all that logs.
    let _written = logs.clone();
    if !is_supervised() && matches!(command, Command::Tree(_) | Command::Node(_)) {
        switches.warn();
    }
    match command {
        Command::Tree(args) => {
            let args = TreeArgs {
                log: cli.log,
                ..args
            };
            on(several_threads()?, run::tree(args, logs, lines, started))
        }
        Command::Node(args) => on(one_thread()?, run::node(args, logs)),
        Command::Get(args) => on(one_thread()?, run::get(args)),
        Command::Watch(args) => on(one_thread()?, run::watch(args)),
        Command::Links(from) => on(one_thread()?, run::links(from)),
        Command::Mutate(args) => on(one_thread()?, run::mutate(args)),
        Command::Dashboard(args) => on(one_thread()?, dashboard::make(args)),
        Command::Graph(args) => on(one_thread()?, graph::draw(args)),
        Command::Debug(args) => on(several_threads()?, debug::show(args)),
        Command::Top(args) => on(one_thread()?, run::top(args)),
        Command::Certs(args) => certs::make(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Bench(args) => flights_bench::run(&args),
        Command::BenchPart(args) => flights_bench::part::run(args),
        Command::Token(args) => run::token(&args),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "flights", &mut script);
            Ok(io::stdout().write_all(&script)?)
        }
    }
}

/// `.env` fills in what the environment does not say. A node of a tree in processes has been told
/// everything by its supervisor.
fn load_env_file() -> anyhow::Result<()> {
    if is_supervised() {
        return Ok(());
    }
    match dotenvy::dotenv() {
        Err(error) if !error.not_found() => Err(error).context("cannot read .env"),
        _ => Ok(()),
    }
}

/// Whether another process of ours has started this one.
fn is_supervised() -> bool {
    std::env::args_os().any(|arg| arg == "--supervised")
}

/// To whom this process, or those that it starts, report what they do.
fn reports(command: &Command) -> Option<&ObserveArgs> {
    match command {
        Command::Tree(args) => Some(&args.observe),
        Command::Node(args) => Some(&args.observe),
        _ => None,
    }
}

/// A node is one loop of small tasks: a second thread would only make them wait for each other.
fn one_thread() -> anyhow::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn several_threads() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn on(runtime: Runtime, future: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let result = runtime.block_on(future);
    // Everything that was to end has ended or had its time.
    runtime.shutdown_timeout(Duration::from_millis(50));
    result
}
