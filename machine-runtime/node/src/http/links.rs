//! How a node is linked, as `/v1/links` shows it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use machine_runtime::durable::Durability;
use machine_runtime::replica::{Granularity, Link, LinkState, Resync, Served};
use serde::Serialize;
use serde::ser::Serializer;

use crate::disk::Disk;

use super::Site;
use super::render::{Selected, json_line};

impl Site {
    /// The links, as JSON.
    pub(super) fn links_page(&self) -> Bytes {
        let (config, view) = (&self.links.config, &self.view);
        let (deltas, bytes) = view.ring_size();
        let (oldest, most_deltas, most_bytes) = view.ring_bounds();
        let position = view.position();
        let down = &self.links.down;
        let served = down.served(position);
        json_line(&Body {
            node: &self.node.name,
            role: self.node.role,
            tier: view.tier(),
            position: position.map(|position| position.to_string()),
            draining: self.vitals.is_leaving(),
            upstream: self.links.up.as_ref().map(|link| self.upstream(link)),
            downstream: Downstream {
                push_interval_ms: Millis(config.push_interval),
                deltas: down.deltas(),
                snapshots: down.snapshots(),
                refused: down.refusals(),
                dropped: down.dropped(),
                denied: down.denials(),
                revoked: down.revoked(),
                followers: served.iter().map(Follower::new).collect(),
            },
            ring: Ring {
                deltas,
                bytes,
                most_deltas,
                most_bytes,
                oldest: position.map(|_| oldest),
            },
            store: self.vitals.disk().map(Kept::new),
        })
    }

    fn upstream<'a>(&'a self, link: &Link) -> Upstream<'a> {
        let config = &self.links.config;
        let (state, edge) = (link.state(), link.edge());
        let edge = edge.as_deref();
        let (name, why) = match &*state {
            LinkState::Following { .. } => ("following", None),
            LinkState::Refused { why } => ("refused", Some(why.clone())),
            LinkState::Connecting { error, .. } => ("connecting", error.clone()),
            _ => ("connecting", None),
        };
        let resyncs = Resync::ALL.map(|reason| (reason.name(), link.resyncs(reason)));
        let view = &self.view;
        Upstream {
            state: name,
            why,
            parent: link.parent().map(|parent| (*parent).clone()),
            index: edge.map(|edge| edge.index),
            parents: &self.links.parents,
            protocol: edge.map(|edge| edge.protocol),
            tier: edge.map(|edge| edge.tier),
            push_interval_ms: Millis(
                edge.map_or(config.parent_interval, |edge| edge.push_interval),
            ),
            heartbeat_ms: Millis(config.heartbeat),
            stale_after_ms: Millis(config.stale_after),
            prefer_every_ms: Millis(config.prefer_every),
            granularity: granularity(config.granularity),
            compress: edge.map_or(config.compress, |edge| edge.compress),
            max_frame: edge.map(|edge| edge.max_frame).or(config.max_frame),
            selection: view.selection().map(|selection| Selected {
                list: config.select.as_deref(),
                states: selection.len(),
            }),
            connects: link.connects(),
            moves: link.moves(),
            resyncs: resyncs.into(),
            deltas: link.deltas(),
            age_ms: u64::try_from(view.age().as_millis()).unwrap_or(u64::MAX),
            stale: view.is_stale(),
        }
    }
}

fn granularity(granularity: Granularity) -> &'static str {
    match granularity {
        Granularity::Every => "every",
        _ => "latest",
    }
}

#[derive(Serialize)]
struct Body<'a> {
    node: &'a str,
    role: &'static str,
    tier: Option<u32>,
    position: Option<String>,
    draining: bool,
    upstream: Option<Upstream<'a>>,
    downstream: Downstream<'a>,
    ring: Ring,
    store: Option<Kept<'a>>,
}

#[derive(Serialize)]
struct Upstream<'a> {
    state: &'static str,
    why: Option<String>,
    parent: Option<String>,
    index: Option<usize>,
    parents: &'a [String],
    protocol: Option<u16>,
    tier: Option<u32>,
    push_interval_ms: Millis,
    heartbeat_ms: Millis,
    stale_after_ms: Millis,
    prefer_every_ms: Millis,
    granularity: &'static str,
    compress: bool,
    max_frame: Option<usize>,
    selection: Option<Selected<'a>>,
    connects: u64,
    moves: u64,
    resyncs: BTreeMap<&'static str, u64>,
    deltas: u64,
    age_ms: u64,
    stale: bool,
}

#[derive(Serialize)]
struct Downstream<'a> {
    push_interval_ms: Millis,
    deltas: u64,
    snapshots: u64,
    refused: u64,
    dropped: u64,
    denied: u64,
    revoked: u64,
    followers: Vec<Follower<'a>>,
}

#[derive(Serialize)]
struct Follower<'a> {
    name: &'a str,
    /// Whom it was admitted as.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<&'a str>,
    position: Option<String>,
    lag: u64,
    protocol: u16,
    push_interval_ms: Millis,
    heartbeat_ms: Option<Millis>,
    granularity: &'static str,
    compress: bool,
    selection: Option<Selected<'a>>,
}

impl<'a> Follower<'a> {
    fn new(served: &'a Served) -> Self {
        let selection = served.selection.as_ref();
        Self {
            name: &served.name,
            who: served.who.as_deref(),
            position: served.position.map(|position| position.to_string()),
            lag: served.lag,
            protocol: served.protocol,
            push_interval_ms: Millis(served.push_interval),
            heartbeat_ms: served.heartbeat.map(Millis),
            granularity: granularity(served.granularity),
            compress: served.compress,
            selection: selection.map(|selection| Selected {
                list: None,
                states: selection.len(),
            }),
        }
    }
}

#[derive(Serialize)]
struct Ring {
    deltas: usize,
    bytes: usize,
    most_deltas: usize,
    most_bytes: usize,
    oldest: Option<u64>,
}

/// Where a root keeps its history.
#[derive(Serialize)]
struct Kept<'a> {
    dir: Cow<'a, str>,
    durability: &'static str,
    /// How much later than answered something may be on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    within_ms: Option<Millis>,
    position: Option<String>,
    commits: u64,
    written_bytes: u64,
    last_sync_ms: Millis,
    committing_ms: Option<Millis>,
    waiting_for_room: Option<String>,
}

impl<'a> Kept<'a> {
    fn new(disk: &'a Disk) -> Self {
        let stats = disk.stats();
        let (durability, within) = match disk.durability() {
            Durability::Relaxed(within) => ("relaxed", Some(within)),
            _ => ("sync", None),
        };
        Self {
            dir: disk.dir().to_string_lossy(),
            durability,
            within_ms: within.map(Millis),
            position: stats.position().map(|position| position.to_string()),
            commits: stats.commits(),
            written_bytes: stats.bytes(),
            last_sync_ms: Millis(stats.last_sync()),
            committing_ms: disk.committing().map(Millis),
            waiting_for_room: stats.waiting_for_room(),
        }
    }
}

/// A time in milliseconds: a whole number where it is one.
struct Millis(Duration);

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos().is_multiple_of(1_000_000) {
            let millis = u64::try_from(self.0.as_millis());
            serializer.serialize_u64(millis.unwrap_or(u64::MAX))
        } else {
            serializer.serialize_f64(self.0.as_secs_f64() * 1e3)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_where_they_can_be() {
        for (us, shown) in [(0, "0"), (1_000_000, "1000"), (250, "0.25"), (1500, "1.5")] {
            let millis = Millis(Duration::from_micros(us));
            assert_eq!(serde_json::to_string(&millis).unwrap(), shown);
        }
    }
}
