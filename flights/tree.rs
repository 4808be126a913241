//! A whole tree on this computer: which nodes there are, in one process or in one each.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use machine_node::client::Target;
use machine_node::debugging::{DEFAULT_ADDR, DebugConfig, Debugging};
use machine_node::links::LinkConfig;
use machine_node::node::{Node, NodeConfig, Origin, Sockets};
use machine_node::observe::ObserveConfig;
use machine_node::places::{Place, parents, places};
use machine_node::processes::{NodeProcess, Processes};
use machine_node::security::Security;
use machine_node::shutdown::Tasks;
use machine_node::status::{Lines, Row};
use machine_node::telemetry::{Logs, Role};
use machine_node::{descriptors, health};
use machine_runtime::{Handle, States};
use tokio::net::TcpListener;

use crate::cli::{
    DEBUG_ADDR, HTTP_PORT, RPC_PORT, TreeArgs, Usage, VERSION, limit_args, link_args, record_args,
};
use crate::narrator::narrate;
use crate::root::Root;
use crate::run::{limits, program, reports};
use crate::states::Flights;
use crate::traffic::OVER;

/// A running tree.
#[derive(Debug)]
pub enum Tree {
    /// All nodes are in this process, and the machine that the root shows.
    Here(Handle<Flights>, Vec<Node>),
    /// Each node is a process of its own.
    Processes(Processes),
}

impl Tree {
    /// Starts the tree that `args` describe. `narrates`: whether its first leaf tells what happens.
    ///
    /// # Errors
    ///
    /// If a port that was asked for is taken, or a process cannot be started.
    pub async fn start(
        args: &TreeArgs,
        narrates: bool,
        tasks: &Tasks,
        logs: &Logs,
        lines: &Lines,
    ) -> anyhow::Result<Self> {
        let observe = reports(&args.observe)?;
        let debug = args.debug.config(Some(DEFAULT_ADDR));
        let places = places(&args.fanout).map_err(|error| Usage(format!("--fanout: {error}")))?;
        let link = |place: &Place| link(args, place.tier);
        let tiers = places.iter().map(|place| place.tier).max().unwrap_or(0);
        check_links(args, tiers)?;
        let mut limits = limits(&args.limits)?;
        // Nodes listen on loopback.
        let debugger = debug.addr.as_deref().map(|addr| ("--debug-addr", addr));
        args.security.check([], debugger)?;
        // Where nodes are processes it is they who have it, and we ask them by it.
        let security = args.security.start(tasks)?;
        let deepest = places.iter().map(|place| place.tier).max();
        let first_leaf = places.iter().position(|place| Some(place.tier) == deepest);
        let narrator = first_leaf.filter(|_| narrates);
        let mut sockets = Vec::new();
        for i in 0..places.len() {
            let rpc = bind(args.rpc_port, RPC_PORT, i, "--rpc-port").await?;
            let http = bind(args.http_port, HTTP_PORT, i, "--http-port").await?;
            sockets.push((rpc, http));
        }
        let addrs = sockets
            .iter()
            .map(|(rpc, http)| Ok((rpc.local_addr()?, http.local_addr()?)))
            .collect::<io::Result<Vec<_>>>()?;
        let parents_of = |place: usize| -> Vec<String> {
            let parents = parents(&places, place).into_iter();
            parents.map(|parent| addrs[parent].0.to_string()).collect()
        };
        if args.processes {
            // Each process binds its own; what is free now is so in a moment as well.
            drop(sockets);
            let nodes = (0..)
                .zip(places.iter().zip(&addrs))
                .map(|(i, (place, (rpc, http)))| {
                    let parents = &parents_of(i);
                    NodeProcess {
                        name: place.name.clone(),
                        tier: place.tier,
                        http: target(*http, &security),
                        args: [
                            node_args(place, parents, *rpc, *http, narrator == Some(i), args),
                            link_args(&link(place)),
                            limit_args(&limits),
                            report_args(&observe),
                            record_args(&debug),
                            args.security.args(),
                        ]
                        .concat(),
                        on_disk: parents.is_empty() && args.state.state_dir.is_some(),
                    }
                });
            let processes = Processes::start(
                nodes.collect(),
                &environment(args, &observe, &debug),
                logs,
                Some(OVER),
                tasks,
                lines,
            )?;
            return Ok(Self::Processes(processes));
        }
        logs.push(&observe, None, tasks)?;
        descriptors::fit(&mut limits, descriptors::raise(), places.len());
        let debugging = Debugging::start(&program(), &debug, logs, tasks)?;
        let view = link(&places[0]).view();
        let root = Root::start(&places[0].name, &args.state, view, tasks, lines).await?;
        if let Some(every) = observe.healthcheck {
            health::start(&root.handle, every, tasks)?;
        }
        let mut nodes = Vec::new();
        for (i, (place, (rpc, http))) in places.iter().zip(sockets).enumerate() {
            let role = place.parent.map_or(Role::Root, |_| Role::Replicant);
            logs.add_node(&place.name, role);
            let origin = match place.parent {
                None => Origin::Machine(root.handle.untyped(), root.observers.clone()),
                Some(_) => Origin::Parents(Flights::schema().clone(), parents_of(i)),
            };
            let mut config = NodeConfig::new(&place.name, VERSION, origin, observe.clone());
            config.disk = root.disk.clone().filter(|_| place.parent.is_none());
            config.link = link(place);
            config.limits = limits.clone();
            config.exports = logs.exports();
            config.debugging = debugging.clone();
            config.security = security.clone();
            let http = Some(http);
            let node = Node::start(config, Sockets { rpc, http }, tasks)?;
            if narrator == Some(i) {
                narrate(&node, lines, format!("{}: ", place.name), tasks)?;
            }
            nodes.push(node);
        }
        Ok(Self::Here(root.handle, nodes))
    }

    /// How the nodes are, the root first. Each follows its parent.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = match self {
            Self::Here(_, nodes) => nodes.iter().map(Node::row).collect(),
            Self::Processes(processes) => processes.rows(),
        };
        // Children under their parents; the names sort that way.
        rows.sort_by_key(|row: &Row| {
            let numbers = row.name.split('-').skip(1);
            numbers
                .map(|number| number.parse().unwrap_or(0))
                .collect::<Vec<u32>>()
        });
        rows
    }

    /// Waits until every node has something to show.
    pub async fn ready(&self) {
        self.until(|rows| rows.iter().all(|row| row.position.is_some()))
            .await;
    }

    /// Waits until all nodes are at one position, and returns how they are then.
    pub async fn converged(&self) -> Vec<Row> {
        self.until(|rows| {
            let newest = rows[0].position;
            newest.is_some() && rows.iter().all(|row| row.position == newest)
        })
        .await
    }

    fn until(&self, done: impl Fn(&[Row]) -> bool) -> impl Future<Output = Vec<Row>> {
        let look = Duration::from_millis(2);
        async move {
            loop {
                let rows = self.rows();
                if done(&rows) {
                    return rows;
                }
                tokio::time::sleep(look).await;
            }
        }
    }
}

/// A node at `http`, as whoever started it asks it.
fn target(http: SocketAddr, security: &Security) -> Target {
    let target = Target::new(http.to_string()).with_token(security.token.token());
    match &security.tls {
        Some(tls) => target.with_tls(tls.clone()),
        None => target,
    }
}

/// How the links of a node of this tier are.
fn link(args: &TreeArgs, tier: u32) -> LinkConfig {
    let of_tier = |tier: u32| {
        let times = &args.push_interval;
        let time = times.get(tier as usize).or(times.last());
        time.copied().unwrap_or_default()
    };
    // Who follows a node of another tier than its own parent's asks for what it is used to.
    let parent = tier.checked_sub(1).map(of_tier).unwrap_or_default();
    let mut config = args.link.config(of_tier(tier), parent);
    if tier == 0 {
        // A root has what its machine has.
        config.select = None;
    }
    config
}

/// Whether links of a tree of so many tiers below the root can be as `args` have them.
fn check_links(args: &TreeArgs, tiers: u32) -> Result<(), Usage> {
    let times = args.push_interval.len();
    if times > (tiers as usize).max(1) {
        let why = format!("--push-interval: {times} times for {tiers} tiers of followers");
        return Err(Usage(why));
    }
    let config = link(args, tiers);
    let checked = config.check(Flights::schema());
    checked.map_err(|error| Usage(error.to_string()))
}

/// The command line of one node of the tree.
fn node_args(
    place: &Place,
    parents: &[String],
    rpc: SocketAddr,
    http: SocketAddr,
    narrates: bool,
    args: &TreeArgs,
) -> Vec<OsString> {
    let mut list: Vec<OsString> = vec!["node".into(), "--supervised".into()];
    if narrates {
        list.push("--narrate".into());
    }
    let mut flag = |name: &str, value: OsString| list.extend([name.into(), value]);
    flag("--name", place.name.clone().into());
    flag("--addr", rpc.to_string().into());
    flag("--http-addr", http.to_string().into());
    if parents.is_empty() {
        if let Some(file) = &args.feed.replay {
            flag("--replay", file.into());
        }
        if let Some(period) = args.feed.random {
            flag(
                "--random",
                humantime::format_duration(period).to_string().into(),
            );
        }
        flag("--speed", args.feed.speed.to_string().into());
        flag("--seed", args.feed.seed.to_string().into());
        list.extend(args.state.args());
    } else {
        flag("--parent", parents.join(",").into());
    }
    list
}

/// The flags of a node that reports so. All that have a value are there: what the environment says has
/// been read already. No server is among them: its address may have a password, and arguments can be
/// read by others.
fn report_args(config: &ObserveConfig) -> Vec<OsString> {
    let time = |time| humantime::format_duration(time).to_string();
    let mut list: Vec<OsString> = Vec::new();
    let mut flag = |name: &str, value: String| list.push(format!("--{name}={value}").into());
    flag("service", config.service.clone());
    flag("push-every", time(config.push_every));
    flag("trace-ratio", config.trace_ratio.to_string());
    flag(
        "healthcheck",
        config.healthcheck.map_or_else(|| "0".to_owned(), time),
    );
    if !config.state_metrics.is_empty() {
        flag("state-metrics", config.state_metrics.join(","));
    }
    if config.compat {
        list.push("--compat-metrics".into());
    }
    list
}

/// What the environment of a node of the tree says where it is a process: what is logged, and where
/// reports go, as that may have a password. What else says where was read already.
fn environment(
    args: &TreeArgs,
    observe: &ObserveConfig,
    debug: &DebugConfig,
) -> Vec<(&'static str, Option<String>)> {
    let mut list = Vec::from(args.log.environment());
    let otlp = observe.otlp.as_ref().map(|otlp| otlp.url.clone());
    let debugger = debug.addr.clone().unwrap_or_else(|| "0".to_owned());
    list.extend([
        (DEBUG_ADDR, Some(debugger)),
        ("LOKI_ADDR", observe.loki.clone()),
        ("AM_LOKI_ADDR", None),
        ("PUSH_GATEWAY_URL", observe.push_gateway.clone()),
        ("AM_PROM_PUSH_URL", None),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", otlp),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", None),
    ]);
    list
}

/// Listens on the port that was asked for, or on the usual one, or on a free one where that is
/// taken.
async fn bind(
    asked: Option<u16>,
    usual: u16,
    offset: usize,
    flag: &str,
) -> anyhow::Result<TcpListener> {
    let offset = u16::try_from(offset).context("too many nodes for the ports there are")?;
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Some(first) = asked {
        let port = match first {
            0 => 0,
            first => first
                .checked_add(offset)
                .ok_or_else(|| Usage(format!("{flag}: there is no port {first} + {offset}")))?,
        };
        return TcpListener::bind(local(port))
            .await
            .with_context(|| format!("cannot listen on {}, choose another {flag}", local(port)));
    }
    match TcpListener::bind(local(usual + offset)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind(local(0))
            .await
            .context("there is no free port"),
        Err(error) => {
            Err(error).with_context(|| format!("cannot listen on {}", local(usual + offset)))
        }
    }
}
