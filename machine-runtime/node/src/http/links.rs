//! How a node is linked, as `/v1/links` shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use machine_runtime::replica::{Granularity, Link, LinkState, Resync};
use serde::Serialize;
use serde::ser::Serializer;

use super::Site;
use super::render::json_line;

impl Site {
    /// The links, as JSON.
    pub(super) fn links_page(&self) -> Bytes {
        let (config, view) = (&self.links.config, &self.view);
        let (deltas, bytes) = view.ring_size();
        json_line(&Body {
            node: &self.node.name,
            role: self.node.role,
            tier: view.tier(),
            position: view.position().map(|position| position.to_string()),
            draining: self.vitals.is_leaving(),
            upstream: self.links.up.as_ref().map(|link| self.upstream(link)),
            downstream: Downstream {
                push_interval_ms: Millis(config.push_interval),
                deltas: self.links.down.deltas(),
                snapshots: self.links.down.snapshots(),
                refusals: self.links.down.refusals(),
                followers: self.followers(),
            },
            ring: Ring {
                deltas,
                bytes,
                most_deltas: config.ring_deltas,
                most_bytes: config.ring_bytes,
            },
        })
    }

    fn upstream<'a>(&'a self, link: &Link) -> Upstream<'a> {
        let config = &self.links.config;
        let state = link.state();
        let (name, why) = match &*state {
            LinkState::Connecting { error, .. } => ("connecting", error.clone()),
            LinkState::Following { .. } => ("following", None),
            LinkState::Refused { why } => ("refused", Some(why.clone())),
            _ => ("unknown", None),
        };
        let resyncs = Resync::ALL.map(|reason| (reason.name(), link.resyncs(reason)));
        Upstream {
            state: name,
            why,
            parent: link.parent().map(|parent| (*parent).clone()),
            parents: &self.links.parents,
            heartbeat_ms: Millis(config.heartbeat),
            stale_after_ms: Millis(config.stale_after),
            granularity: granularity(config.granularity),
            connects: link.connects(),
            resyncs: resyncs.into(),
            deltas: link.deltas(),
            age_ms: u64::try_from(self.view.age().as_millis()).unwrap_or(u64::MAX),
            stale: self.view.is_stale(),
        }
    }

    fn followers(&self) -> Vec<Follower> {
        let newest = self.view.position();
        let lags = newest.map_or_else(Vec::new, |newest| self.links.down.lags(newest));
        lags.into_iter()
            .map(|(name, lag)| Follower { name, lag })
            .collect()
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
    downstream: Downstream,
    ring: Ring,
}

#[derive(Serialize)]
struct Upstream<'a> {
    state: &'static str,
    why: Option<String>,
    parent: Option<String>,
    parents: &'a [String],
    heartbeat_ms: Millis,
    stale_after_ms: Millis,
    granularity: &'static str,
    connects: u64,
    resyncs: BTreeMap<&'static str, u64>,
    deltas: u64,
    age_ms: u64,
    stale: bool,
}

#[derive(Serialize)]
struct Downstream {
    push_interval_ms: Millis,
    deltas: u64,
    snapshots: u64,
    refusals: u64,
    followers: Vec<Follower>,
}

#[derive(Serialize)]
struct Follower {
    name: String,
    lag: u64,
}

#[derive(Serialize)]
struct Ring {
    deltas: usize,
    bytes: usize,
    most_deltas: usize,
    most_bytes: usize,
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
