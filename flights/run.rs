//! What each subcommand does.

use std::time::Duration;

use anyhow::Context;
use machine_runtime::observe::Observers;
use machine_runtime::{Machine, States};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::cli::{
    Addr, GetArgs, MutateArgs, NodeArgs, NodeRef, ObserveArgs, SHIPPED, TopArgs, TreeArgs, Usage,
    VERSION,
};
use crate::narrator::narrate;
use crate::states::Flights;
use crate::tower::Tower;
use crate::traffic::{SERVES_ON, Traffic};
use crate::tree::Tree;
use machine_node::client;
use machine_node::debugging::Debugging;
use machine_node::node::{self, Node, NodeConfig, Origin, Sockets};
use machine_node::observe::ObserveConfig;
use machine_node::shutdown::{PATIENCE, Signals, Tasks, input_ends};
use machine_node::status::{Lines, Row};
use machine_node::telemetry::{Logs, Role};
use machine_node::terminal::Terminal;
use machine_node::top;
use machine_node::{health, log, systemd};

/// How soon after the first a second signal is the same one told twice: `timeout` and shells
/// signal a process and its group.
const REPEAT: Duration = Duration::from_millis(100);

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
        () = signals.next() => return end(&tasks, &mut signals).await,
    };
    let hints = curl_lines(&tree.rows());
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
                lines.push(format!("{}: http://{}/", row.name, row.http));
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
        lines.push(agreement(&rows));
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
    terminal
        .last(|| tree.rows(), &lines, &hints)
        .await
        .context("cannot write to standard output")?;
    end(&tasks, &mut signals).await?;
    ended
}

/// Runs one node until it is interrupted.
///
/// # Errors
///
/// If it cannot be started.
pub async fn node(args: NodeArgs, logs: Logs) -> anyhow::Result<()> {
    let parents: Vec<String> = args
        .parent
        .iter()
        .filter_map(|parent| Some(parent.0.as_ref()?.to_string()))
        .collect();
    check_node(&args, &parents)?;
    let feeds = args.feed.replay.is_some() || args.feed.random.is_some();
    let link = args.link.config(args.push_interval, args.parent_interval);
    let observe = reports(&args.observe)?;
    let traffic = Traffic::new(&args.feed)?;
    let mut signals = Signals::listen()?;
    let tasks = Tasks::default();
    let rpc = listen(&args.addr).await?;
    let http = match args.http_addr.and_then(|addr| addr.0) {
        Some(addr) => Some(listen(&addr).await?),
        None => None,
    };
    let name = args.name.filter(|name| !name.is_empty());
    let name = match name {
        Some(name) => name,
        None if parents.is_empty() => "root".to_owned(),
        None => args.addr.to_string(),
    };
    logs.push(&observe, Some(&name), &tasks)?;
    let debugging = Debugging::start(&program(), &args.debug.config(None), &logs, &tasks)?;
    let mut root = None;
    let origin = if parents.is_empty() {
        logs.add_node(&name, Role::Root);
        let (machine, observers) = (Machine::new().with(Tower), Observers::new());
        log::attach(&observers, Flights::schema(), &name, Role::Root, &tasks);
        let started = node::start_machine_with(machine, link.view(), &observers, &tasks);
        let root = root.insert(started.await?);
        if let Some(every) = observe.healthcheck {
            health::start(root, every, &tasks)?;
        }
        Origin::Machine(root.untyped(), observers)
    } else {
        logs.add_node(&name, Role::Replicant);
        Origin::Parents(Flights::schema().clone(), parents)
    };
    let mut config = NodeConfig::new(name, VERSION, origin, observe);
    config.link = link;
    config.exports = logs.exports();
    config.debugging = debugging;
    let lines = Lines::default();
    let followers = rpc.local_addr().context("a socket without an address")?;
    let node = Node::start(config, Sockets { rpc, http }, &tasks)?;
    systemd::tell(&node, &tasks);
    // Who narrates tells what a replay's own words would.
    let told = args.narrate || args.supervised;
    let row = node.row();
    lines.push(format!("{}: tarpc {followers}", row.name));
    if !row.http.is_empty() {
        lines.push(format!("{}: http://{}/", row.name, row.http));
    }
    if args.narrate {
        narrate(&node, &lines, String::new(), &tasks)?;
    }
    let life = async {
        if let Some(root) = root.filter(|_| feeds) {
            traffic.run(&root, &lines, !told).await?;
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    let mut terminal = Terminal::plain();
    let mut drains = false;
    let ended = tokio::select! {
        ended = life => ended,
        shown = terminal.show(Vec::new, &lines, &[]) => {
            shown.context("cannot write to standard output")
        }
        () = signals.next() => {
            drains = true;
            Ok(())
        }
        // The whole tree ends: there is nobody to send anywhere.
        () = input_ends(), if args.supervised => Ok(()),
        () = tasks.panicked() => Err(panicked()),
        error = tasks.failed() => Err(error),
    };
    if drains {
        tokio::select! {
            () = node.drain() => {}
            () = signals.next_after(REPEAT) => anyhow::bail!(INTERRUPTED),
        }
    }
    terminal
        .last(Vec::new, &lines, &[])
        .await
        .context("cannot write to standard output")?;
    end(&tasks, &mut signals).await?;
    ended
}

/// Whether a node can be what its flags say.
fn check_node(args: &NodeArgs, parents: &[String]) -> Result<(), Usage> {
    let config = args.link.config(args.push_interval, args.parent_interval);
    config
        .check(Flights::schema())
        .map_err(|error| Usage(error.to_string()))?;
    if parents.is_empty() {
        if config.select.is_some() {
            let why = "--select is for replicants: a root shows all that its machine has";
            return Err(Usage(why.to_owned()));
        }
        return Ok(());
    }
    let list = parents.join(", ");
    let feeds = args.feed.replay.is_some() || args.feed.random.is_some();
    if feeds {
        let why = "--replay and --random are for a root, whose states everybody else copies";
        return Err(Usage(format!("{why}; this node follows {list}")));
    }
    if args.state.state_dir.is_some() {
        let why =
            "--state-dir is for a root: the history of a replicant is its root's, which keeps it";
        return Err(Usage(format!("{why}; this node follows {list}")));
    }
    for (i, parent) in parents.iter().enumerate() {
        if parents[..i].contains(parent) {
            return Err(Usage(format!("--parent: {parent} is there twice")));
        }
    }
    Ok(())
}

/// Prints the active states of a node, or how some are.
///
/// # Errors
///
/// [`client::Unreachable`], or what the node said.
pub async fn get(args: GetArgs) -> anyhow::Result<()> {
    let from = &args.from;
    client::print_states(from.node.as_str(), &args.states, from.json).await
}

/// Prints the changes of a node.
///
/// # Errors
///
/// [`client::Unreachable`] at the first attempt, or what the node said.
pub async fn watch(from: NodeRef) -> anyhow::Result<()> {
    client::watch(from.node.as_str(), from.json).await
}

/// Shows how nodes do until it is interrupted, or once.
///
/// # Errors
///
/// As [`top::show`].
pub async fn top(args: TopArgs) -> anyhow::Result<()> {
    top::show(args.look(Terminal::new().is_live())).await
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
    client::mutate(args.by.node.as_str(), wanted, args.by.json).await
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

/// Stops all tasks; a second signal does not wait for them.
async fn end(tasks: &Tasks, signals: &mut Signals) -> anyhow::Result<()> {
    tokio::select! {
        left = tasks.finish(PATIENCE) => {
            anyhow::ensure!(left == 0, "{left} tasks did not end in time");
            Ok(())
        }
        () = signals.next_after(REPEAT) => anyhow::bail!(INTERRUPTED),
    }
}

fn panicked() -> anyhow::Error {
    anyhow::anyhow!("a part of the program failed, see above; this is a bug")
}

fn agreement(rows: &[Row]) -> String {
    let digests: Vec<_> = rows.iter().map(|row| row.digest).collect();
    match (
        rows[0].position,
        digests.iter().all(|digest| *digest == digests[0]),
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

fn curl_lines(rows: &[Row]) -> Vec<String> {
    let http = |i: usize| rows[i % rows.len()].http.clone();
    let flight = "group=Status&flight=1";
    vec![
        "try:".to_owned(),
        format!("  curl {}/", http(2)),
        format!("  curl '{}/v1/states?{flight}&payloads=1'", http(1)),
        format!("  curl -N {}/v1/events", http(rows.len() - 1)),
    ]
}
