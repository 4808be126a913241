//! One node of any tier.

use anyhow::Context;
use machine_node::debugging::Debugging;
use machine_node::disk::{Disk, Unkept};
use machine_node::links::LinkConfig;
use machine_node::node::{Node, NodeConfig, Origin, Sockets};
use machine_node::observe::ObserveConfig;
use machine_node::shutdown::{PATIENCE, Signals, Tasks, input_ends};
use machine_node::status::Lines;
use machine_node::telemetry::{Logs, Role};
use machine_node::terminal::Terminal;
use machine_node::{descriptors, health, systemd};
use machine_runtime::{Handle, States};

use super::{
    DISK_PATIENCE, INTERRUPTED, REPEAT, end, limits, listen, panicked, program, reports, scheme,
};
use crate::cli::{NodeArgs, Open, Usage, VERSION};
use crate::narrator::narrate;
use crate::root::Root;
use crate::states::Flights;
use crate::traffic::Traffic;

/// Runs one node until it is interrupted.
///
/// # Errors
///
/// If it cannot be started, or cannot go on.
pub async fn node(args: NodeArgs, logs: Logs) -> anyhow::Result<()> {
    let parents = parents(&args);
    let link = check(&args, &parents)?;
    let mut limits = limits(&args.limits)?;
    check_security(&args, &parents)?;
    let observe = reports(&args.observe)?;
    let traffic = Traffic::new(&args.feed)?;
    let mut signals = Signals::listen()?;
    let tasks = Tasks::default();
    let security = args.security.start(&tasks)?;
    systemd::outlive_reloads();
    let http_addr = args.http_addr.as_ref().and_then(|addr| addr.0.as_ref());
    let sockets = Sockets {
        rpc: listen(&args.addr).await?,
        http: match http_addr {
            Some(addr) => Some(listen(addr).await?),
            None => None,
        },
    };
    let name = name(&args, &parents);
    logs.push(&observe, Some(&name), &tasks)?;
    let debugging = Debugging::start(&program(), &args.debug.config(None), &logs, &tasks)?;
    descriptors::fit(&mut limits, descriptors::raise(), 1);
    let lines = Lines::default();
    let origin = tokio::select! {
        origin = origin(&args, parents, &name, &link, &observe, &logs, &tasks, &lines) => origin?,
        // A disk may have to be waited for.
        () = signals.next() => return end(&tasks, &mut signals, PATIENCE).await,
    };
    let patience = origin.disk.as_ref().map_or(PATIENCE, |_| DISK_PATIENCE);
    let mut config = NodeConfig::new(name, VERSION, origin.of, observe);
    config.disk = origin.disk;
    config.link = link;
    config.limits = limits;
    config.exports = logs.exports();
    config.debugging = debugging;
    config.security = security;
    let followers = sockets.rpc.local_addr();
    let followers = followers.context("a socket without an address")?;
    let node = Node::start(config, sockets, &tasks)?;
    systemd::tell(&node, &tasks);
    // Who narrates tells what a replay's own words would.
    let told = args.narrate || args.supervised;
    let row = node.row();
    lines.push(format!("{}: tarpc {followers}", row.name));
    if !row.http.is_empty() {
        let scheme = scheme(&args.security);
        lines.push(format!("{}: {scheme}://{}/", row.name, row.http));
    }
    if args.narrate {
        narrate(&node, &lines, String::new(), &tasks)?;
    }
    let life = async {
        if let Some(root) = origin.feeds {
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
    // Whoever was waiting for the machine may have been told first that it is no more.
    let ended = tasks.take_failure().map_or(ended, Err);
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
    let over = end(&tasks, &mut signals, patience).await;
    // What keeps it from ending in order is what keeps it from going on.
    let ended = tasks.take_failure().map_or(ended, Err);
    match ended {
        Err(error) if error.is::<Unkept>() => Err(error),
        ended => over.and(ended),
    }
}

/// The nodes that it is to follow, the best first.
fn parents(args: &NodeArgs) -> Vec<String> {
    let parents = args.parent.iter().filter_map(|parent| parent.0.as_ref());
    parents.map(ToString::to_string).collect()
}

/// What it is called.
fn name(args: &NodeArgs, parents: &[String]) -> String {
    match &args.name {
        Some(name) if !name.is_empty() => name.clone(),
        _ if parents.is_empty() => "root".to_owned(),
        _ => args.addr.to_string(),
    }
}

/// Where the states of a node come from, and what belongs to that.
struct Source {
    of: Origin,
    disk: Option<Disk>,
    /// The root that is to have traffic.
    feeds: Option<Handle<Flights>>,
}

#[expect(
    clippy::too_many_arguments,
    reason = "there is one caller, and each is another thing"
)]
async fn origin(
    args: &NodeArgs,
    parents: Vec<String>,
    name: &str,
    link: &LinkConfig,
    observe: &ObserveConfig,
    logs: &Logs,
    tasks: &Tasks,
    lines: &Lines,
) -> anyhow::Result<Source> {
    if !parents.is_empty() {
        logs.add_node(name, Role::Replicant);
        return Ok(Source {
            of: Origin::Parents(Flights::schema().clone(), parents),
            disk: None,
            feeds: None,
        });
    }
    logs.add_node(name, Role::Root);
    let root = Root::start(name, &args.state, link.view(), tasks, lines).await?;
    if let Some(every) = observe.healthcheck {
        health::start(&root.handle, every, tasks)?;
    }
    let of = Origin::Machine(root.handle.untyped(), root.observers);
    Ok(Source {
        of,
        disk: root.disk,
        feeds: Some(root.handle).filter(|_| feeds(args)),
    })
}

/// Whether something is to flow through it.
fn feeds(args: &NodeArgs) -> bool {
    args.feed.replay.is_some() || args.feed.random.is_some()
}

/// Whether it would be open to strangers.
fn check_security(args: &NodeArgs, parents: &[String]) -> Result<(), Open> {
    let http = args.http_addr.as_ref().and_then(|addr| addr.0.as_ref());
    let http = http.map(|addr| ("--http-addr", addr.as_str()));
    let parents = parents.iter().map(|parent| ("--parent", parent.as_str()));
    let uses = std::iter::once(("--addr", args.addr.as_str()));
    let debugger = args.debug.config(None).addr;
    let debugger = debugger.as_deref().map(|addr| ("--debug-addr", addr));
    args.security
        .check(uses.chain(http).chain(parents), debugger)
}

/// How the links of a node are, if it can be what its flags say.
fn check(args: &NodeArgs, parents: &[String]) -> Result<LinkConfig, Usage> {
    let link = args.link.config(args.push_interval, args.parent_interval);
    let checked = link.check(Flights::schema());
    checked.map_err(|error| Usage(error.to_string()))?;
    if parents.is_empty() {
        if link.select.is_some() {
            let why = "--select is for replicants: a root shows all that its machine has";
            return Err(Usage(why.to_owned()));
        }
        return Ok(link);
    }
    let list = parents.join(", ");
    if feeds(args) {
        let why = "--replay and --random are for a root, whose states everybody else copies";
        return Err(Usage(format!("{why}; this node follows {list}")));
    }
    if args.state.state_dir.is_some() {
        let why = "--state-dir is for a root, which keeps the history of all that follow it";
        return Err(Usage(format!("{why}; this node follows {list}")));
    }
    for (i, parent) in parents.iter().enumerate() {
        if parents[..i].contains(parent) {
            return Err(Usage(format!("--parent: {parent} is there twice")));
        }
    }
    Ok(link)
}
