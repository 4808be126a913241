//! What Prometheus may want to know, collected when it asks.
//!
//! Which metrics there are is in [`crate::metrics`]; here is where their values come from. Whatever
//! the labels of a metric can be is there from the start, at 0: what is not there yet cannot be told
//! from what is never asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use machine_runtime::durable::StoreStats;
use machine_runtime::observe::{HandlerKind, HistogramRead, Refused, Side, Stats, TransitionKind};
use machine_runtime::replica::{Link, LinkState, Resync, SourceStats};
use machine_runtime::{DynState, ErrorKind, Handle, Snapshot, UnknownState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use crate::access::Denials;
use crate::disk::Disk;
use crate::door::{DoorStats, Shut};
use crate::limits::{Limit, Limited};
use crate::links::Links;
use crate::metrics::{self as catalogue, COMMON, Metric, PREFIX};
use crate::observe::{ObserveConfig, Observed};
use crate::outbound::Exporter;
use crate::vitals::Vitals;

use super::Node;
use super::traffic::{Gauge, Traffic};

use self::compat::Compat;
use self::lines::{classic, with_exemplars};
use self::writer::Writer;

mod compat;
mod lines;
mod writer;

/// The observers that there may be, so that what they lost is there before they lose anything.
const OBSERVERS: [&str; 3] = ["log", "otlp", "debug"];

/// The most followers that are told apart.
const MOST_FOLLOWERS: usize = 64;

/// How metrics are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// Prometheus's text format 0.0.4, which every tool reads.
    Classic,
    /// `OpenMetrics` 1.0.
    Open,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics of a node.
#[derive(Debug)]
pub(super) struct Metrics {
    labels: [String; COMMON.len()],
    figures: Arc<Figures>,
    compat: Option<Compat>,
}

impl Metrics {
    /// # Errors
    ///
    /// If a state that is to have a series of its own is none.
    pub(super) fn new(
        node: &Node,
        handle: &Handle<DynState>,
        links: &Links,
        vitals: &Vitals,
        (traffic, limited, denials): (&Arc<Traffic>, &Limited, &Denials),
        observed: Observed,
    ) -> Result<Self, UnknownState> {
        let config = &observed.config;
        let service = config.service.clone();
        let watched = config.watched(handle.view().schema())?;
        let compat = config.compat.then(|| Compat::new(&node.name));
        let figures = Figures {
            node: node.clone(),
            started: SystemTime::now(),
            handle: handle.clone(),
            link: links.up.clone(),
            source: links.down.clone(),
            vitals: vitals.clone(),
            traffic: Arc::clone(traffic),
            denials: denials.clone(),
            limited: limited.clone(),
            watched,
            observed,
        };
        Ok(Self {
            labels: [service, node.name.clone(), node.role.to_owned()],
            figures: Arc::new(figures),
            compat,
        })
    }

    pub(super) fn render(&self, format: Format) -> String {
        let labels = COMMON.into_iter().map(Cow::Borrowed);
        let labels = labels.zip(self.labels.iter().cloned().map(Cow::Owned));
        let mut registry = Registry::with_prefix_and_labels(PREFIX, labels);
        // What takes long is read once: the exemplars have to be those of the counts.
        let timings: Arc<[Timing]> = self.figures.timings().into();
        registry.register_collector(Box::new(Now {
            figures: Arc::clone(&self.figures),
            timings: Arc::clone(&timings),
        }));
        let mut open = String::new();
        text::encode_registry(&mut open, &registry).expect("a string takes all that is written");
        if let Some(compat) = &self.compat {
            compat.write(&self.figures, &mut open);
        }
        match format {
            Format::Open => {
                let exemplars = timings.iter().flat_map(|timing| &timing.read.exemplars);
                with_exemplars(&open, exemplars.map(Option::as_ref)) + "# EOF\n"
            }
            Format::Classic => classic(&open),
        }
    }
}

impl ObserveConfig {
    /// The states that have a series of their own, as indices.
    ///
    /// # Errors
    ///
    /// If one of them is none.
    pub(crate) fn watched(
        &self,
        schema: &machine_runtime::Schema,
    ) -> Result<Vec<usize>, UnknownState> {
        if self.state_metrics.iter().any(|name| name == "*") {
            return Ok((0..schema.len()).collect());
        }
        let names = self.state_metrics.iter().filter(|name| !name.is_empty());
        let found = names.map(|name| schema.find_or_suggest(name));
        let mut watched = found.collect::<Result<Vec<_>, _>>()?;
        watched.sort_unstable();
        watched.dedup();
        Ok(watched)
    }
}

/// Where the figures come from.
struct Figures {
    node: Node,
    started: SystemTime,
    handle: Handle<DynState>,
    link: Option<Link>,
    source: SourceStats,
    vitals: Vitals,
    traffic: Arc<Traffic>,
    denials: Denials,
    limited: Limited,
    watched: Vec<usize>,
    observed: Observed,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// How long something takes, as it is at the moment.
#[derive(Debug)]
struct Timing {
    metric: &'static Metric,
    /// The value of its own label, if it has one.
    label: Option<&'static str>,
    read: HistogramRead,
}

/// The files that may be read again.
const WATCHED: [&str; 3] = ["access", "tls", "token"];

/// The figures when they are asked for.
#[derive(Debug)]
struct Now {
    figures: Arc<Figures>,
    timings: Arc<[Timing]>,
}

impl Collector for Now {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (figures, mut out) = (&self.figures, Writer::new(encoder));
        let out = &mut out;
        let snapshot = figures.handle.view().snapshot();
        figures.write_node(out)?;
        figures.write_states(snapshot.as_deref(), out)?;
        if figures.link.is_none() {
            figures.write_machine(&self.timings, out)?;
        }
        let refusals = Refused::ALL.map(|why| ([why.name()], figures.stats().refused(why)));
        out.each(&catalogue::QUEUE_REFUSALS, refusals)?;
        if figures.link.is_none() {
            figures.write_disk(&self.timings, out)?;
        }
        figures.write_freshness(snapshot.as_deref(), out)?;
        figures.write_links(out)?;
        figures.write_traffic(&self.timings, out)?;
        figures.write_security(out)?;
        figures.write_reports(out)
    }
}

impl Figures {
    fn stats(&self) -> &Stats {
        self.observed.observers.stats()
    }

    /// How far followers are behind what is shown, by name; of those that share one, that which is
    /// furthest behind.
    fn lags(&self) -> BTreeMap<String, u64> {
        let newest = self.handle.view().position();
        let mut lags = BTreeMap::new();
        for served in self.source.served(newest) {
            let known: &mut u64 = lags.entry(served.name).or_default();
            *known = served.lag.max(*known);
        }
        lags
    }

    /// All that is timed here, in the order of the catalogue.
    fn timings(&self) -> Vec<Timing> {
        let timing = |metric, label, read| Timing {
            metric,
            label,
            read,
        };
        let mut timings = Vec::new();
        if self.link.is_none() {
            let transitions = self.stats().transition_time().read();
            timings.push(timing(&catalogue::TRANSITION_SECONDS, None, transitions));
            timings.extend(HandlerKind::ALL.map(|kind| {
                let read = self.stats().handler_time(kind).read();
                timing(&catalogue::HANDLER_SECONDS, Some(kind.name()), read)
            }));
            let commits = Disk::times(self.vitals.disk());
            timings.push(timing(&catalogue::STORE_COMMIT_SECONDS, None, commits));
        }
        let routes = self.traffic.timings();
        timings.extend(
            routes.map(|(route, read)| timing(&catalogue::HTTP_SECONDS, Some(route), read)),
        );
        timings
    }

    fn write_node(&self, out: &mut Writer<'_>) -> fmt::Result {
        out.each(&catalogue::BUILD_INFO, [([self.node.version], 1)])?;
        let parent = self.link.as_ref().and_then(Link::parent);
        let parent = parent.as_deref().map_or("", String::as_str);
        out.each(&catalogue::NODE_INFO, [([parent], 1)])?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        out.real(&catalogue::START_TIME, started.as_secs_f64())
    }

    /// What is shown. Before there is anything most of it is not there.
    fn write_states(&self, now: Option<&Snapshot>, out: &mut Writer<'_>) -> fmt::Result {
        let schema = self.handle.view().schema();
        out.one(&catalogue::STATES, schema.len() as u64)?;
        if let Some(now) = now {
            let active = now.active().count() as u64;
            out.one(&catalogue::STATES_ACTIVE, active)?;
            let exception = schema.find("Exception");
            let exception = exception.is_some_and(|exception| now.is_active(exception));
            out.one(&catalogue::EXCEPTION, u64::from(exception))?;
        }
        let ticks = [("on", self.stats().began()), ("off", self.stats().ended())];
        out.each(&catalogue::TICKS, ticks.map(|(kind, n)| ([kind], n)))?;
        if let Some(now) = now {
            // Of what a node does not follow it knows nothing.
            let selection = self.handle.view().selection();
            let selection = selection.as_ref();
            let watched = self.watched.iter();
            let watched = watched.filter(|state| selection.is_none_or(|all| all.contains(**state)));
            let active = |&state: &usize| {
                let name = schema.name_of(state);
                ([name], u64::from(now.is_active(state)))
            };
            out.each(&catalogue::STATE_ACTIVE, watched.map(active))?;
        }
        Ok(())
    }

    fn write_machine(&self, timings: &[Timing], out: &mut Writer<'_>) -> fmt::Result {
        let stats = self.stats();
        let results = [("executed", true), ("canceled", false)];
        let transitions = TransitionKind::ALL.into_iter().flat_map(|kind| {
            results.map(|(name, executed)| ([kind.name(), name], stats.transitions(kind, executed)))
        });
        out.each(&catalogue::TRANSITIONS, transitions)?;
        let cancellations = stats.cancellations();
        let cancellations = cancellations.map(|(reason, count)| ([reason], count));
        out.each(&catalogue::CANCELLATIONS, cancellations)?;
        out.timings(&catalogue::TRANSITION_SECONDS, timings)?;
        out.timings(&catalogue::HANDLER_SECONDS, timings)?;
        let errors = ErrorKind::ALL.map(|kind| ([kind.name()], stats.errors(kind)));
        out.each(&catalogue::ERRORS, errors)?;
        let (waiting, limit) = self.handle.queued().unwrap_or_default();
        out.one(&catalogue::QUEUE_DEPTH, waiting as u64)?;
        out.one(&catalogue::QUEUE_LIMIT, limit as u64)
    }

    fn write_disk(&self, timings: &[Timing], out: &mut Writer<'_>) -> fmt::Result {
        let disk = self.vitals.disk();
        let stats = disk.map(Disk::stats);
        out.one(
            &catalogue::STORE_COMMITS,
            stats.map_or(0, StoreStats::commits),
        )?;
        out.timings(&catalogue::STORE_COMMIT_SECONDS, timings)?;
        let committing = disk.and_then(Disk::committing).unwrap_or_default();
        out.real(&catalogue::STORE_COMMITTING, committing.as_secs_f64())?;
        let waits = stats.is_some_and(|stats| stats.waiting_for_room().is_some());
        out.one(&catalogue::STORE_WAITING, waits.into())?;
        let written = stats.map_or(0, StoreStats::bytes);
        out.one(&catalogue::STORE_WRITTEN_BYTES, written)
    }

    fn write_freshness(&self, now: Option<&Snapshot>, out: &mut Writer<'_>) -> fmt::Result {
        let view = self.handle.view();
        if let Some(now) = now {
            out.one(&catalogue::REVISION, now.position().revision)?;
        }
        if let Some(tier) = view.tier() {
            out.one(&catalogue::TIER, tier.into())?;
        }
        let age = view.age();
        out.real(&catalogue::LAG_SECONDS, age.as_secs_f64())?;
        out.one(&catalogue::STALE, view.is_stale().into())?;
        out.one(&catalogue::DRAINING, self.vitals.is_leaving().into())
    }

    fn write_links(&self, out: &mut Writer<'_>) -> fmt::Result {
        let (link, source) = (self.link.as_ref(), &self.source);
        let resyncs = |link: &Link| Resync::ALL.map(|why| ([why.name()], link.resyncs(why)));
        if let Some(link) = link {
            let following = matches!(*link.state(), LinkState::Following { .. });
            out.one(&catalogue::LINK_UP, following.into())?;
            out.one(&catalogue::CONNECTS, link.connects())?;
            out.one(&catalogue::PARENT_MOVES, link.moves())?;
            out.each(&catalogue::RESYNCS, resyncs(link))?;
        }
        let both = |up: Option<u64>, down| {
            [
                ([Side::Up.name()], up.unwrap_or(0)),
                ([Side::Down.name()], down),
            ]
        };
        let deltas = both(link.map(Link::deltas), source.deltas());
        out.each(&catalogue::DELTAS, deltas)?;
        let taken = link.map(|link| resyncs(link).iter().map(|(_, count)| count).sum());
        out.each(&catalogue::SNAPSHOTS, both(taken, source.snapshots()))?;
        let stats = self.stats();
        let bytes = Side::ALL.map(|side| ([side.name()], stats.bytes_in(side)));
        out.each(&catalogue::LINK_RECEIVED_BYTES, bytes)?;
        let bytes = Side::ALL.map(|side| ([side.name()], stats.bytes_out(side)));
        out.each(&catalogue::LINK_SENT_BYTES, bytes)?;
        out.one(&catalogue::FOLLOWERS, source.followers() as u64)?;
        let lags = self.lags();
        let lags = lags.iter().map(|(name, lag)| ([name.as_str()], *lag));
        out.each(&catalogue::FOLLOWER_LAG, lags.take(MOST_FOLLOWERS))?;
        out.one(&catalogue::FOLLOWERS_REFUSED, source.refusals())?;
        out.one(&catalogue::FOLLOWERS_DROPPED, source.dropped())?;
        let (deltas, bytes) = self.handle.view().ring_size();
        out.one(&catalogue::RING_DELTAS, deltas as u64)?;
        out.one(&catalogue::RING_BYTES, bytes as u64)
    }

    fn write_traffic(&self, timings: &[Timing], out: &mut Writer<'_>) -> fmt::Result {
        let traffic = &self.traffic;
        let answers = traffic.answers().map(|(route, status, count)| {
            let status = status.to_string();
            ([Cow::Borrowed(route), Cow::Owned(status)], count)
        });
        out.each(&catalogue::HTTP_REQUESTS, answers)?;
        out.timings(&catalogue::HTTP_SECONDS, timings)?;
        for (metric, gauge) in [
            (&catalogue::HTTP_CONNECTIONS, Gauge::Connections),
            (&catalogue::HTTP_EVENT_STREAMS, Gauge::Streams),
            (&catalogue::HTTP_WAITING, Gauge::Waiting),
            (&catalogue::HTTP_WRITING, Gauge::Writing),
        ] {
            out.one(metric, traffic.gauge(gauge))?;
        }
        let denied = self.denials.read();
        let denied = denied.map(|(what, why, count)| ([what.name(), why.name()], count));
        out.each(&catalogue::DENIED, denied)?;
        let limited = Limit::ALL.map(|limit| {
            let count = match limit {
                Limit::Followers => self.source.full(),
                Limit::Hello => self.source.no_hello(),
                Limit::Garbage => self.source.garbage(),
                limit => self.limited.of(limit),
            };
            ([limit.name()], count)
        });
        out.each(&catalogue::LIMITED, limited)?;
        let shut = |door: &DoorStats| Shut::ALL.map(|why| ([why.name()], door.shut(why)));
        out.each(&catalogue::HTTP_CONNECTIONS_REFUSED, shut(&traffic.readers))?;
        out.each(
            &catalogue::FOLLOWER_CONNECTIONS_REFUSED,
            shut(&traffic.followers),
        )
    }

    fn write_security(&self, out: &mut Writer<'_>) -> fmt::Result {
        if let Some(tls) = &self.observed.tls {
            let left = tls.expires().duration_since(SystemTime::now());
            out.real(&catalogue::TLS_LEFT, left.unwrap_or_default().as_secs_f64())?;
        }
        let mut reloads = BTreeMap::from(WATCHED.map(|file| (file, [("done", 0), ("failed", 0)])));
        let read = self.observed.reloads.iter();
        reloads.extend(read.map(|reloads| (reloads.what(), reloads.read())));
        let reloads = reloads
            .into_iter()
            .flat_map(|(file, counts)| counts.map(|(result, count)| ([file, result], count)));
        out.each(&catalogue::RELOADS, reloads)
    }

    fn write_reports(&self, out: &mut Writer<'_>) -> fmt::Result {
        let mut lost = BTreeMap::from(OBSERVERS.map(|name| (name, 0)));
        lost.extend(self.observed.observers.lost());
        let lost = lost.into_iter().map(|(name, count)| ([name], count));
        out.each(&catalogue::OBSERVER_DROPPED, lost)?;
        let exported = Exporter::ALL.into_iter().flat_map(|exporter| {
            let counts = self.observed.exports.of(exporter).read();
            counts.map(|(result, count)| ([exporter.name(), result], count))
        });
        out.each(&catalogue::EXPORTED, exported)
    }
}

#[cfg(test)]
mod tests;
