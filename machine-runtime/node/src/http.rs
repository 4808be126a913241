//! A node over HTTP: what it shows, and mutations on their way to the root. The contract is
//! `docs/http.md`.
//!
//! A request becomes a `Call` in `routes`, the only place that knows warp's filters; `answer`
//! makes the response. The bodies that everybody asks for are `pages`, rendered once per
//! position; what a query narrows is rendered for it, a `graph` is drawn on a thread of its own. A mutation is an `ask` that `write` sends to
//! the root. `server` owns sockets, `connection` is one of a reader, `client` is how much each of them takes.
//! Nothing here knows what the states mean.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use machine_runtime::{DynState, Handle, State, UnknownState, View};

use crate::access::Access;
use crate::door::{Door, DoorStats};
use crate::limits::{Limit, Limited, Limits};
use crate::links::Links;
use crate::observe::Observed;
use crate::vitals::Vitals;

mod accept;
mod answer;
mod ask;
mod client;
mod connection;
mod cors;
mod etag;
mod events;
mod graph;
mod links;
mod metrics;
mod pages;
mod permit;
mod problem;
mod query;
mod render;
mod routes;
mod schema;
mod server;
mod similar;
#[cfg(feature = "tamper")]
#[doc(hidden)]
pub mod tamper;
mod traces;
mod traffic;
mod wait;
mod write;

use self::client::{Client, Clients, Share, Taken};
pub use self::cors::{Origin, Origins, WrongOrigin};
use self::graph::Drawers;
use self::metrics::{Format, Metrics};
use self::pages::Pages;
use self::problem::Problem;
pub(crate) use self::similar::similar;
pub use self::traces::Traces;
use self::traffic::{Gauge, Inside, Traffic};

/// Answers readers from what a view shows. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    site: Arc<Site>,
}

/// What every request has in common.
struct Site {
    node: Node,
    view: View<DynState>,
    handle: Handle<DynState>,
    links: Links,
    vitals: Vitals,
    pages: Pages,
    drawers: Drawers,
    traffic: Arc<Traffic>,
    limits: Limits,
    limited: Limited,
    clients: Clients,
    traces: Traces,
    metrics: Metrics,
    access: Access,
    origins: Origins,
}

/// Who may ask a node for what, and for how much. By default everybody for everything.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Who may do what.
    pub access: Access,
    /// Whose pages may read from within a browser.
    pub origins: Origins,
    /// How much of it each may take.
    pub limits: Limits,
}

impl Site {
    /// Counts a limit that a client has come to.
    fn limit(&self, limit: Limit) -> Problem {
        self.limited.count(limit);
        Problem::limited(limit, &self.limits)
    }

    /// Has the whole node have one more of something, of which it has at most so many.
    fn enter(&self, gauge: Gauge, most: usize, limit: Limit) -> Result<Inside, Problem> {
        let inside = self.traffic.try_enter(gauge, most);
        inside.ok_or_else(|| self.limit(limit))
    }

    /// Has a client take one more of something.
    fn take(&self, client: &Client, share: Share) -> Result<Taken, Problem> {
        let taken = self.clients.take(client, share, &self.limits);
        taken.map_err(|limit| self.limit(limit))
    }
}

/// Who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    name: String,
    version: &'static str,
    role: &'static str,
}

impl Http {
    /// The HTTP side of the node called `name`, of a program of this `version`, which shows the view
    /// of `handle` and sends it mutations. A node without a link to a parent is a root. Once `vitals` say
    /// that it leaves, nobody waits here any more.
    ///
    /// # Errors
    ///
    /// If a state that is to have a metric of its own is none.
    pub fn new<S: State>(
        name: &str,
        version: &'static str,
        handle: &Handle<S>,
        links: Links,
        vitals: Vitals,
        observed: Observed,
        guard: Guard,
    ) -> Result<Self, UnknownState> {
        let Guard {
            access,
            origins,
            limits,
        } = guard;
        let traces = Traces::new(&observed.observers, observed.config.trace_ratio);
        let role = if links.up.is_some() {
            "replicant"
        } else {
            "root"
        };
        let node = Node {
            name: name.to_owned(),
            version,
            role,
        };
        let handle = handle.untyped();
        let view = handle.view().clone();
        let traffic = Arc::new(Traffic::default());
        let limited = Limited::default();
        let counts = (&traffic, &limited, access.denials());
        let metrics = Metrics::new(&node, &handle, &links, &vitals, counts, observed)?;
        let pages = Pages::default();
        Ok(Self {
            site: Arc::new(Site {
                node,
                view,
                handle,
                links,
                vitals,
                pages,
                drawers: Drawers::default(),
                traffic,
                limits,
                limited,
                clients: Clients::default(),
                traces,
                metrics,
                access,
                origins,
            }),
        })
    }

    /// Answers whoever comes in at `door` until `stop` resolves; then nobody new is let in,
    /// who waits is told so, and it returns once the last answers are written. Dropping it drops
    /// all connections.
    pub async fn serve(&self, door: Door, stop: impl Future<Output = ()>) {
        server::serve(&self.site, door, stop).await;
    }

    /// Counts who is not let in, of readers.
    pub fn readers(&self) -> &DoorStats {
        &self.site.traffic.readers
    }

    /// Counts who is not let in, of followers.
    pub fn followers(&self) -> &DoorStats {
        &self.site.traffic.followers
    }

    /// What `/metrics` shows in the classic format.
    pub(crate) fn metrics(&self) -> String {
        self.site.metrics.render(Format::Classic)
    }

    /// Why the node is not ready, if it is not.
    pub(crate) fn why_not_ready(&self) -> Option<String> {
        self.site.why_not_ready()
    }

    /// Waits until no mutation is under way.
    pub(crate) async fn no_writing(&self) {
        self.site.traffic.no_writing().await;
    }

    /// How many requests were answered.
    pub fn requests(&self) -> u64 {
        self.site.traffic.requests()
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("node", &self.site.node)
            .finish_non_exhaustive()
    }
}

/// A root that nobody follows.
#[cfg(test)]
fn of_root<S: State>(handle: &Handle<S>) -> Http {
    let config = crate::observe::ObserveConfig::new("test");
    let observed = Observed::new(config, machine_runtime::observe::Observers::new());
    Http::new(
        "root",
        "1.0.0",
        handle,
        Links::default(),
        Vitals::default(),
        observed,
        Guard::default(),
    )
    .unwrap()
}
