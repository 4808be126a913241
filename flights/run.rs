//! What each subcommand does.

use std::time::Duration;

use anyhow::Context;
use machine_runtime::States;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::cli::{
    Addr, GetArgs, LimitArgs, MutateArgs, NodeRef, ObserveArgs, SHIPPED, SecurityArgs, TopArgs,
    TreeArgs, Usage, VERSION,
};
use crate::states::Flights;
use crate::traffic::{SERVES_ON, Traffic};
use crate::tree::Tree;
use machine_node::client;
use machine_node::disk::Unkept;
use machine_node::limits::Limits;
use machine_node::observe::ObserveConfig;
use machine_node::shutdown::{PATIENCE, Signals, Tasks};
use machine_node::status::{Lines, Row};
use machine_node::telemetry::Logs;
use machine_node::terminal::Terminal;
use machine_node::top;

mod node;
mod token;

pub use self::node::node;
pub use self::token::token;

/// How soon after the first a second signal is the same one told twice: `timeout` and shells
/// signal a process and its group.
const REPEAT: Duration = Duration::from_millis(100);

/// How long a root that keeps its history may take to end: its last batch may have to get to a slow disk.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// What is said to a second signal.
const INTERRUPTED: &str = "interrupted while ending";

/// Runs a whole tree until it is interrupted.
///
/// # Errors
///
/// If it cannot be started.
pub async fn tree(
    mut args: TreeArgs,
    logs: Logs,
    lines: Lines,
    started: Instant,
) -> anyhow::Result<()> {
    if args.feed.replay.is_none() && args.feed.random.is_none() {
        args.feed.replay = Some(SHIPPED.into());
    }
    // Read before anything is started, also where another process reads it again.
    let traffic = Traffic::new(&args.feed)?;
    let mut signals = Signals::listen()?;
    let mut terminal = Terminal::new();
    let tasks = Tasks::default();
    lines.set_title("starting".to_owned());
    // Random load in plain lines would be nothing but them.
    let narrates = terminal.is_live() || args.feed.replay.is_some();
    let tree = tokio::select! {
        tree = Tree::start(&args, narrates, &tasks, &logs, &lines) => tree?,
        () = signals.next() => return end(&tasks, &mut signals, PATIENCE).await,
    };
    let hints = curl_lines(&tree.rows(), &args.security);
    let redrawn = terminal.is_live();
    let life = async {
        tree.ready().await;
        let ready = format!(
            "{} nodes are ready, {} ms after the start",
            tree.rows().len(),
            started.elapsed().as_millis()
        );
        lines.push(ready);
        if !redrawn {
            let nodes = tree.rows();
            for row in &nodes {
                let scheme = scheme(&args.security);
                lines.push(format!("{}: {scheme}://{}/", row.name, row.http));
            }
            for hint in &hints {
                lines.push(hint.clone());
            }
        }
        if let Some(random) = args.feed.random {
            lines.set_title(format!("three random states every {random:?}"));
        }
        match &tree {
            Tree::Here(root, _) => traffic.run(root, &lines, false).await?,
            Tree::Processes(processes) => {
                if args.feed.random.is_none() {
                    lines.set_title("replaying, in a process each".to_owned());
                }
                processes.traffic_over().await;
                lines.set_title(SERVES_ON.to_owned());
            }
        }
        let rows = tree.converged().await;
        lines.push(agreement(&rows, args.link.select.is_some()));
        std::future::pending::<anyhow::Result<()>>().await
    };
    let ended = tokio::select! {
        ended = life => ended,
        shown = terminal.show(|| tree.rows(), &lines, &hints) => {
            shown.context("cannot write to standard output")
        }
        () = signals.next() => Ok(()),
        () = tasks.panicked() => Err(panicked()),
        error = tasks.failed() => Err(error),
    };
    let ended = tasks.take_failure().map_or(ended, Err);
    terminal
        .last(|| tree.rows(), &lines, &hints)
        .await
        .context("cannot write to standard output")?;
    let on_disk = args.state.state_dir.is_some();
    let patience = if on_disk { DISK_PATIENCE } else { PATIENCE };
    let over = end(&tasks, &mut signals, patience).await;
    // What keeps it from ending in order is what keeps it from going on.
    match tasks.take_failure().map_or(ended, Err) {
        Err(error) if error.is::<Unkept>() => Err(error),
        ended => over.and(ended),
    }
}

/// The limits of nodes, if they can be such.
pub(crate) fn limits(args: &LimitArgs) -> Result<Limits, Usage> {
    let limits = args.limits();
    let checked = limits.check();
    checked.map_err(|error| Usage(error.to_string()))?;
    Ok(limits)
}

/// Prints the active states of a node, or how some are.
///
/// # Errors
///
/// [`client::Unreachable`], or what the node said.
pub async fn get(args: GetArgs) -> anyhow::Result<()> {
    let from = &args.from;
    client::print_states(&from.target()?, &args.states, from.json).await
}

/// Prints the changes of a node.
///
/// # Errors
///
/// [`client::Unreachable`] at the first attempt, or what the node said.
pub async fn watch(from: NodeRef) -> anyhow::Result<()> {
    client::watch(&from.target()?, from.json).await
}

/// Prints how a node is linked.
///
/// # Errors
///
/// [`client::Unreachable`], or what the node said.
pub async fn links(from: NodeRef) -> anyhow::Result<()> {
    client::print_links(&from.target()?, from.json).await
}

/// Shows how nodes do until it is interrupted, or once.
///
/// # Errors
///
/// As [`top::show`].
pub async fn top(args: TopArgs) -> anyhow::Result<()> {
    top::show(args.look(Terminal::new().is_live())?).await
}

/// Has a node pass a mutation on to the root, and prints what came of it.
///
/// # Errors
///
/// As [`client::mutate`].
pub async fn mutate(args: MutateArgs) -> anyhow::Result<()> {
    let wanted = client::Wanted {
        op: args.op(),
        states: &args.states,
        payload: args.payload.as_deref(),
        key: args.key.as_deref(),
        within: args.timeout,
        trace: args.trace(),
    };
    client::mutate(&args.by.target()?, wanted, args.by.json).await
}

/// To whom the nodes report.
///
/// # Errors
///
/// [`Usage`] if that cannot be.
pub(crate) fn reports(args: &ObserveArgs) -> Result<ObserveConfig, Usage> {
    let config = args.config()?;
    let checked = config.check(Flights::schema());
    checked.map_err(|error| Usage(format!("{error:#}")))?;
    Ok(config)
}

/// What a debugger is told that runs here.
pub(crate) fn program() -> String {
    format!("flights {VERSION}")
}

async fn listen(addr: &Addr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(addr.as_str()).await;
    listener.with_context(|| format!("cannot listen on {addr}"))
}

/// Stops all tasks and waits for them, for `patience` at most; a second signal does not wait for them.
async fn end(tasks: &Tasks, signals: &mut Signals, patience: Duration) -> anyhow::Result<()> {
    tokio::select! {
        left = tasks.finish(patience) => {
            anyhow::ensure!(left == 0, "{left} tasks did not end in time");
            Ok(())
        }
        () = signals.next_after(REPEAT) => anyhow::bail!(INTERRUPTED),
    }
}

fn panicked() -> anyhow::Error {
    anyhow::anyhow!("a part of the program failed, see above; this is a bug")
}

/// Whether all nodes show the same. `selected`: the replicants follow some of the states only, and have a digest
/// of these.
fn agreement(rows: &[Row], selected: bool) -> String {
    let digests: Vec<_> = rows.iter().map(|row| row.digest).collect();
    let comparable = &digests[usize::from(selected).min(digests.len() - 1)..];
    match (
        rows[0].position,
        comparable.iter().all(|digest| *digest == comparable[0]),
    ) {
        (Some(position), true) => {
            let count = rows.len();
            format!(
                "all {count} nodes are at {position}, digest {:016x}",
                digests[0]
            )
        }
        (position, _) => format!("nodes disagree at {position:?}: {digests:016x?}"),
    }
}

/// How the address of a node's readers' side begins.
fn scheme(security: &SecurityArgs) -> &'static str {
    if security.has_tls() { "https" } else { "http" }
}

fn curl_lines(rows: &[Row], security: &SecurityArgs) -> Vec<String> {
    let start = if security.has_tls() { "https://" } else { "" };
    let http = |i: usize| format!("{start}{}", rows[i % rows.len()].http);
    let curl = match (&security.tls_ca, &security.tls_cert, &security.tls_key) {
        (Some(ca), Some(cert), Some(key)) => {
            let [ca, cert, key] = [ca, cert, key].map(|file| file.display());
            format!("curl --cacert {ca} --cert {cert} --key {key}")
        }
        _ => "curl".to_owned(),
    };
    let flight = "group=Status&flight=1";
    vec![
        "try:".to_owned(),
        format!("  {curl} {}/", http(2)),
        format!("  {curl} '{}/v1/states?{flight}&payloads=1'", http(1)),
        format!("  {curl} -N {}/v1/events", http(rows.len() - 1)),
    ]
}
