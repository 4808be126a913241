//! A node of any tier: a machine or a replica of one, its followers' side and its readers' side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use machine_runtime::observe::Observers;
use machine_runtime::replica::{Follower, Link, LinkState, Source};
use machine_runtime::{
    DynState, Epoch, Handle, Machine, MutateError, Mutation, Owner, Schema, States, View,
    ViewOptions,
};
use tokio::join;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::debugging::{Debugging, Subject};
use crate::dial::Dial;
use crate::disk::{Disk, Opened, Unkept};
use crate::door::{Door, DoorLimits};
use crate::followers;
use crate::http::{Guard, Http};
use crate::limits::Limits;
use crate::links::{LinkConfig, Links};
use crate::log;
use crate::observe::{Exports, ObserveConfig, Observed};
use crate::otlp::{self, Otlp};
use crate::outbound;
use crate::push::Gateway;
use crate::security::Security;
use crate::shutdown::Tasks;
use crate::status::Row;
use crate::telemetry::Role;
use crate::tls::Tls;
use crate::vitals::Vitals;

/// What is wrong with a socket that does not say where it listens.
const NO_ADDRESS: &str = "a socket without an address";

/// What makes a node the one it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// The version of the program.
    pub version: &'static str,
    /// Where its states come from.
    pub origin: Origin,
    /// Where its history is kept, if it is a root that does.
    pub disk: Option<Disk>,
    /// How its links are.
    pub link: LinkConfig,
    /// How much of it strangers can take.
    pub limits: Limits,
    /// What keeps them out.
    pub security: Security,
    /// To whom it reports.
    pub observe: ObserveConfig,
    /// What the program's exporters have told: those of the log and of spans are of all its nodes.
    pub exports: Exports,
    /// Who is told everything that it does.
    pub debugging: Debugging,
}

impl NodeConfig {
    /// A node of this name, of a program of this `version`, which reports so. Its links are as they are
    /// unless told otherwise, and nobody is told everything.
    pub fn new(
        name: impl Into<String>,
        version: &'static str,
        origin: Origin,
        observe: ObserveConfig,
    ) -> Self {
        Self {
            name: name.into(),
            version,
            origin,
            disk: None,
            link: LinkConfig::default(),
            limits: Limits::default(),
            security: Security::default(),
            observe,
            exports: Exports::default(),
            debugging: Debugging::default(),
        }
    }
}

/// Where the states of a node come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// From a machine, of which this is a handle, and which tells these: the node is a root. Whoever
    /// started it has [attached](log::attach) the log before.
    Machine(Handle<DynState>, Observers),
    /// From one of the nodes at these tarpc addresses, which show states of this schema: the node is a
    /// replicant. It likes the first best.
    Parents(Arc<Schema>, Vec<String>),
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
    start_machine_with(machine, ViewOptions::default(), observers, tasks).await
}

/// As [`start_machine`], with a view that is like `options` but for its observers.
///
/// # Errors
///
/// As [`start_machine`].
pub async fn start_machine_with<S: States>(
    machine: Machine<S>,
    mut options: ViewOptions,
    observers: &Observers,
    tasks: &Tasks,
) -> anyhow::Result<Handle<S>> {
    options.observers = Some(observers.clone());
    let (handle, owner) = Owner::new(machine, Epoch::random(), options);
    let (stopped, held) = (tasks.stopped(), handle.clone());
    tasks.spawn(async move {
        owner.run(stopped).await;
        drop(held);
    });
    bring_up(&handle).await?;
    Ok(handle)
}

/// As [`start_machine_with`], of a machine that goes on where its history stands and keeps what it does.
/// `bind` gives it its handlers. If what it does cannot be kept any more, it ends, and `tasks` have
/// [failed](Tasks::failed).
///
/// # Errors
///
/// As [`start_machine`], or [`Unkept`].
pub async fn start_durable<S: States>(
    opened: Opened,
    bind: impl FnOnce(Machine<S>) -> Machine<S>,
    mut options: ViewOptions,
    observers: &Observers,
    tasks: &Tasks,
) -> anyhow::Result<Handle<S>> {
    let Opened { kept, recovered } = opened;
    options.observers = Some(observers.clone());
    let machine = bind(recovered.machine());
    let (handle, owner) = Owner::durable(machine, recovered, kept, options);
    let (stopped, held, failing) = (tasks.stopped(), handle.clone(), tasks.clone());
    let (over, ended) = oneshot::channel::<()>();
    tasks.spawn(async move {
        if let Err(error) = owner.run_durable(stopped).await {
            failing.fail(Unkept::new(error).into());
        }
        drop((held, over));
    });
    if let Err(error) = bring_up(&handle).await {
        if error.is::<MutateError>() {
            // It says nothing but ends.
            let _ = ended.await;
        }
        return Err(tasks.take_failure().unwrap_or(error));
    }
    Ok(handle)
}

/// Activates the states that say that a machine is up, as far as it has them and they are not active.
async fn bring_up<S: States>(handle: &Handle<S>) -> anyhow::Result<()> {
    let begin: Vec<S> = ["Start", "Ready"]
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter(|state| !handle.view().is_active(*state))
        .collect();
    if begin.is_empty() {
        return Ok(());
    }
    let receipt = handle.mutate(Mutation::add(begin)).await?;
    let started = receipt.outcome.is_executed();
    anyhow::ensure!(started, "the machine refuses to start");
    Ok(())
}

/// What a node listens on. The caller has bound them.
#[derive(Debug)]
pub struct Sockets {
    /// For followers.
    pub rpc: TcpListener,
    /// For readers.
    pub http: Option<TcpListener>,
}

/// Sends a node's traces to a collector, if one is told.
fn trace(
    reports: &Observed,
    origin: &otlp::Origin<'_>,
    view: &View<DynState>,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    if let Some(collector) = &reports.config.otlp {
        let (schema, exports) = (Arc::clone(view.schema()), reports.exports.clone());
        let otlp = Otlp::new(collector, origin, schema, &reports.observers, exports)?;
        tasks.spawn(otlp.run(tasks.stopped()));
    }
    Ok(())
}

/// What is at both ports of a node.
struct Doors<'a> {
    limits: &'a Limits,
    tls: Option<Tls>,
    vitals: &'a Vitals,
    tasks: &'a Tasks,
}

impl Doors<'_> {
    fn open_to_followers(&self, listener: TcpListener, source: &Source, http: &Http) {
        let limits = DoorLimits::of_followers(self.limits);
        let stats = http.followers().clone();
        let door = Door::new(listener, "followers", limits, self.tls.clone(), stats);
        let served = followers::serve(source.clone(), door, self.tasks.stopped());
        self.vitals
            .keep("the side for followers", self.tasks, served);
    }

    fn open_to_readers(&self, listener: TcpListener, http: &Http) -> anyhow::Result<SocketAddr> {
        let addr = listener.local_addr().context(NO_ADDRESS)?;
        let (limits, stats) = (DoorLimits::of_readers(self.limits), http.readers().clone());
        let door = Door::new(listener, "readers", limits, self.tls.clone(), stats);
        let (http, stopped) = (http.clone(), self.tasks.stopped());
        self.vitals
            .keep("the side for readers", self.tasks, async move {
                http.serve(door, stopped).await;
            });
        Ok(addr)
    }
}

/// A running node.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    handle: Handle<DynState>,
    link: Option<Link>,
    http: Http,
    http_addr: Option<SocketAddr>,
    vitals: Vitals,
    source: Source,
    drain_within: Duration,
}

impl Node {
    /// Starts a node; its tasks are among `tasks`.
    ///
    /// # Errors
    ///
    /// If a socket has no address, the links cannot be as they are to be, or as [`ObserveConfig::check`].
    pub fn start(config: NodeConfig, sockets: Sockets, tasks: &Tasks) -> anyhow::Result<Self> {
        let followers = sockets.rpc.local_addr();
        let followers = followers.context(NO_ADDRESS)?.to_string();
        let (name, debugging) = (&config.name, &config.debugging);
        let vitals = Vitals::new(config.disk);
        let tls = &config.security.tls;
        let (handle, up, parents, observers) = match config.origin {
            Origin::Machine(handle, observers) => {
                let schema = handle.view().schema();
                config.link.check(schema)?;
                config.observe.check(schema)?;
                let subject = Subject::root(name, &handle, &observers).with_addr(followers);
                debugging.add(&subject);
                vitals.watch(&handle, tasks);
                (handle, None, Vec::new(), observers)
            }
            Origin::Parents(schema, parents) => {
                anyhow::ensure!(!parents.is_empty(), "a replicant has a parent");
                config.link.check(&schema)?;
                config.observe.check(&schema)?;
                let observers = Observers::new();
                let mut options = config.link.follower(name, &schema)?;
                options.token = config.security.token;
                options.view.observers = Some(observers.clone());
                log::attach(&observers, &schema, name, Role::Replicant, tasks);
                let (_, follower) = Follower::new::<DynState>(schema, options);
                let (handle, link) = (follower.handle(), follower.link().clone());
                let first = parents.first().cloned().unwrap_or_default();
                let subject = Subject::replicant(name, &first, &handle, &observers);
                debugging.add(&subject.with_addr(followers));
                let dialled = parents.iter().map(|addr| Dial::new(addr, tls.clone()));
                let follow = follower.run(dialled.collect(), tasks.stopped());
                vitals.keep("the side that follows", tasks, follow);
                (handle, Some(link), parents, observers)
            }
        };
        let gateway = Gateway::new(&config.observe, name)?;
        let mut observed = Observed::new(config.observe, observers);
        observed.exports = config.exports.of_node();
        observed.tls.clone_from(tls);
        observed.reloads = config.security.reloads;
        let reports = observed.clone();
        let access = config.security.access.of_node(name);
        let options = config.limits.bound(config.link.source(name));
        let mut source = Source::new(handle.view(), options).with_writes(&handle);
        if !access.is_open() {
            source = source.with_admission(Arc::new(access.clone()));
        }
        let links = Links {
            config: config.link,
            parents,
            up,
            down: source.stats().clone(),
        };
        let (link, drain_within) = (links.up.clone(), links.config.drain_within);
        let guard = Guard {
            access,
            origins: config.security.origins,
            limits: config.limits.clone(),
        };
        let http = Http::new(
            name,
            config.version,
            &handle,
            links,
            vitals.clone(),
            observed,
            guard,
        )?;
        if let Some(gateway) = gateway {
            let (http, client) = (http.clone(), outbound::client()?);
            let exports = reports.exports.clone();
            let push = gateway.push(client, move || http.metrics(), exports, tasks.stopped());
            tasks.spawn(push);
        }
        let origin = otlp::Origin {
            service: &reports.config.service,
            node: name,
            version: config.version,
            role: if link.is_some() { "replicant" } else { "root" },
        };
        trace(&reports, &origin, handle.view(), tasks)?;
        let doors = Doors {
            limits: &config.limits,
            tls: tls.clone(),
            vitals: &vitals,
            tasks,
        };
        doors.open_to_followers(sockets.rpc, &source, &http);
        let readers = |listener| doors.open_to_readers(listener, &http);
        let http_addr = sockets.http.map(readers).transpose()?;
        Ok(Self {
            name: config.name,
            handle,
            link,
            http,
            http_addr,
            vitals,
            source,
            drain_within,
        })
    }

    /// Sends everybody elsewhere before the node is stopped: it is not ready any more, followers go to
    /// another parent if they have one, event streams and waiting requests end, new mutations are refused,
    /// and those under way end. Takes [`LinkConfig::drain_within`] at most.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the node leaves all the same, and nobody waits for it.
    pub async fn drain(&self) {
        self.vitals.leave();
        let within = self.drain_within;
        // What has not ended by then is not waited for.
        let _ = join!(
            self.source.drain(within),
            timeout(within, self.http.no_writing())
        );
    }

    /// How the node is.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Why the node is not ready, if it is not.
    pub fn why_not_ready(&self) -> Option<String> {
        self.http.why_not_ready()
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
