//! A node of any tier: a machine or a replica of one, its followers' side and its readers' side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use machine_runtime::observe::Observers;
use machine_runtime::replica::{
    Follower, FollowerOptions, Link, LinkState, Source, SourceOptions, Tcp,
};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Schema, States, View, ViewOptions,
};
use tokio::net::TcpListener;

use crate::debugging::{Debugging, Subject};
use crate::http::Http;
use crate::log;
use crate::observe::{Exports, ObserveConfig, Observed};
use crate::otlp::{self, Otlp};
use crate::outbound;
use crate::push::Gateway;
use crate::shutdown::Tasks;
use crate::status::Row;
use crate::telemetry::Role;

/// What makes a node the one it is.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// The version of the program.
    pub version: &'static str,
    /// Where its states come from.
    pub origin: Origin,
    /// The least time between two pushes to a follower.
    pub push_interval: Duration,
    /// To whom it reports.
    pub observe: ObserveConfig,
    /// What the program's exporters have told: those of the log and of spans are of all its nodes.
    pub exports: Exports,
    /// Who is told everything that it does.
    pub debugging: Debugging,
}

/// Where the states of a node come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// From a machine, of which this is a handle, and which tells these: the node is a root. Whoever
    /// started it has [attached](log::attach) the log before.
    Machine(Handle<DynState>, Observers),
    /// From the node at this tarpc address, which shows states of this schema.
    Parent(Arc<Schema>, String),
}

/// Starts `machine` for a root to show, and brings it up where it has states for that. It tells
/// `observers` from the start, and runs until `tasks` are stopped, whether anybody holds its handle or
/// not.
///
/// # Errors
///
/// If it ended or refused to become ready.
pub async fn start_machine<S: States>(
    machine: Machine<S>,
    observers: &Observers,
    tasks: &Tasks,
) -> anyhow::Result<Handle<S>> {
    let mut options = ViewOptions::default();
    options.observers = Some(observers.clone());
    let (handle, owner) = Owner::new(machine, Epoch::random(), options);
    let (stopped, held) = (tasks.stopped(), handle.clone());
    tasks.spawn(async move {
        owner.run(stopped).await;
        drop(held);
    });
    let begin: Vec<S> = ["Start", "Ready"]
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    if !begin.is_empty() {
        let receipt = handle.mutate(Mutation::add(begin)).await?;
        let started = receipt.outcome.is_executed();
        anyhow::ensure!(started, "the machine refuses to start");
    }
    Ok(handle)
}

/// What a node listens on. The caller has bound them.
#[derive(Debug)]
pub struct Sockets {
    /// For followers.
    pub rpc: TcpListener,
    /// For readers.
    pub http: Option<TcpListener>,
}

/// A running node.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    handle: Handle<DynState>,
    link: Option<Link>,
    http: Http,
    http_addr: Option<SocketAddr>,
}

impl Node {
    /// Starts a node; its tasks are among `tasks`.
    ///
    /// # Errors
    ///
    /// If a socket has no address, or as [`ObserveConfig::check`].
    pub fn start(config: NodeConfig, sockets: Sockets, tasks: &Tasks) -> anyhow::Result<Self> {
        let followers = sockets.rpc.local_addr();
        let followers = followers
            .context("a socket without an address")?
            .to_string();
        let (name, debugging) = (&config.name, &config.debugging);
        let (handle, link, observers) = match config.origin {
            Origin::Machine(handle, observers) => {
                config.observe.check(handle.view().schema())?;
                let subject = Subject::root(name, &handle, &observers).with_addr(followers);
                debugging.add(&subject);
                (handle, None, observers)
            }
            Origin::Parent(schema, addr) => {
                config.observe.check(&schema)?;
                let observers = Observers::new();
                let mut options = FollowerOptions::new(&config.name);
                options.view.observers = Some(observers.clone());
                log::attach(&observers, &schema, &config.name, Role::Replicant, tasks);
                let (_, follower) = Follower::new::<DynState>(schema, options);
                let (handle, link) = (follower.handle(), follower.link().clone());
                let subject = Subject::replicant(name, &addr, &handle, &observers);
                debugging.add(&subject.with_addr(followers));
                tasks.spawn(follower.run(vec![Tcp { addr }], tasks.stopped()));
                (handle, Some(link), observers)
            }
        };
        let gateway = Gateway::new(&config.observe, &config.name)?;
        let mut observed = Observed::new(config.observe, observers);
        observed.exports = config.exports.of_node();
        let reports = observed.clone();
        let mut options = SourceOptions::new(&config.name);
        options.push_interval = config.push_interval;
        let source = Source::new(handle.view(), options).with_writes(&handle);
        let http = Http::new(
            &config.name,
            config.version,
            &handle,
            link.clone(),
            source.stats().clone(),
            observed,
        )?;
        if let Some(gateway) = gateway {
            let (http, client) = (http.clone(), outbound::client()?);
            let exports = reports.exports.clone();
            let push = gateway.push(client, move || http.metrics(), exports, tasks.stopped());
            tasks.spawn(push);
        }
        if let Some(collector) = &reports.config.otlp {
            let origin = otlp::Origin {
                service: &reports.config.service,
                node: &config.name,
                version: config.version,
                role: if link.is_some() { "replicant" } else { "root" },
            };
            let schema = Arc::clone(handle.view().schema());
            let (observers, exports) = (&reports.observers, reports.exports.clone());
            let otlp = Otlp::new(collector, &origin, schema, observers, exports)?;
            tasks.spawn(otlp.run(tasks.stopped()));
        }
        let stopped = tasks.stopped();
        tasks.spawn(async move { source.serve(sockets.rpc, stopped).await });
        let mut http_addr = None;
        if let Some(listener) = sockets.http {
            http_addr = Some(
                listener
                    .local_addr()
                    .context("a socket without an address")?,
            );
            let (http, stopped) = (http.clone(), tasks.stopped());
            tasks.spawn(async move { http.serve(listener, stopped).await });
        }
        Ok(Self {
            name: config.name,
            handle,
            link,
            http,
            http_addr,
        })
    }

    /// What the node shows.
    pub fn view(&self) -> &View<DynState> {
        self.handle.view()
    }

    /// Sends mutations to the root, from wherever the node is.
    pub fn handle(&self) -> &Handle<DynState> {
        &self.handle
    }

    /// What the node's `/metrics` show.
    pub fn metrics(&self) -> String {
        self.http.metrics()
    }

    /// How the node is.
    pub fn row(&self) -> Row {
        let view = self.view();
        let snapshot = view.snapshot();
        let note = match self.link.as_ref().map(Link::state).as_deref() {
            None | Some(LinkState::Following { .. }) => String::new(),
            Some(state) => state.to_string(),
        };
        Row {
            name: self.name.clone(),
            tier: view.tier(),
            http: self
                .http_addr
                .map(|addr| addr.to_string())
                .unwrap_or_default(),
            position: snapshot.as_ref().map(|snapshot| snapshot.position()),
            digest: snapshot.as_ref().map_or(0, |snapshot| snapshot.digest()),
            age: view.age(),
            stale: view.is_stale(),
            requests: self.http.requests(),
            note,
        }
    }
}
