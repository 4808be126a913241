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

use crate::http::{Http, Traces};
use crate::observe::ObserveConfig;
use crate::otlp::{self, Otlp};
use crate::outbound::Exports;
use crate::shutdown::Tasks;
use crate::status::Row;

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
    /// Who is told of what happens at the node; those of its machine, where it has one.
    pub observers: Observers,
}

/// Where the states of a node come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// From a machine, of which this is a handle: the node is a root.
    Machine(Handle<DynState>),
    /// From the node at this tarpc address, which shows states of this schema.
    Parent(Arc<Schema>, String),
}

/// Starts `machine` for a root to show, and brings it up where it has states for that. It runs
/// until `tasks` are stopped, whether anybody holds its handle or not.
///
/// # Errors
///
/// If it ended or refused to become ready.
pub async fn start_machine<S: States>(
    machine: Machine<S>,
    tasks: &Tasks,
) -> anyhow::Result<Handle<S>> {
    start(machine, ViewOptions::default(), tasks).await
}

/// Starts `machine` as [`start_machine`] does, and tells `observers` of it.
///
/// # Errors
///
/// As there.
pub async fn start_observed<S: States>(
    machine: Machine<S>,
    observers: &Observers,
    tasks: &Tasks,
) -> anyhow::Result<Handle<S>> {
    let mut view = ViewOptions::default();
    view.observers = Some(observers.clone());
    start(machine, view, tasks).await
}

async fn start<S: States>(
    machine: Machine<S>,
    view: ViewOptions,
    tasks: &Tasks,
) -> anyhow::Result<Handle<S>> {
    let (handle, owner) = Owner::new(machine, Epoch::random(), view);
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
    /// If a socket has no address, or there is no telling those that it reports to.
    pub fn start(config: NodeConfig, sockets: Sockets, tasks: &Tasks) -> anyhow::Result<Self> {
        let (handle, link) = match config.origin {
            Origin::Machine(handle) => (handle, None),
            Origin::Parent(schema, addr) => {
                let mut options = FollowerOptions::new(&config.name);
                options.view.observers = Some(config.observers.clone());
                let (_, follower) = Follower::new::<DynState>(schema, options);
                let (handle, link) = (follower.handle(), follower.link().clone());
                tasks.spawn(follower.run(Tcp { addr }, tasks.stopped()));
                (handle, Some(link))
            }
        };
        let mut options = SourceOptions::new(&config.name);
        options.push_interval = config.push_interval;
        let source = Source::new(handle.view(), options).with_writes(&handle);
        let http = Http::new(
            &config.name,
            config.version,
            &handle,
            link.clone(),
            source.stats().clone(),
            Traces::new(&config.observers, config.observe.trace_ratio),
        );
        if let Some(collector) = &config.observe.otlp {
            let origin = otlp::Origin {
                service: &config.observe.service,
                node: &config.name,
                version: config.version,
                role: if link.is_some() { "replicant" } else { "root" },
            };
            let schema = Arc::clone(handle.view().schema());
            let otlp = Otlp::new(
                collector,
                &origin,
                schema,
                &config.observers,
                Exports::default(),
            )?;
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
