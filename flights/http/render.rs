//! Bodies: each representation is written once per position and shared.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use machine_runtime::{DynState, Position, Relation, Schema, Snapshot, View};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use warp::http::header::HeaderValue;

use super::negotiate::Format;
use super::query::Query;

/// A body and what goes with it.
#[derive(Clone, Debug)]
pub(super) struct Rendered {
    pub(super) position: Position,
    pub(super) position_header: HeaderValue,
    pub(super) tag: HeaderValue,
    pub(super) body: Bytes,
    tier: Option<u32>,
}

/// The newest body of each representation.
#[derive(Debug, Default)]
pub(super) struct Cache {
    bodies: [ArcSwapOption<Rendered>; Format::ALL.len()],
    schema: std::sync::OnceLock<Bytes>,
}

impl Cache {
    /// What everybody is shown, if the view shows anything. Whoever comes first after a change
    /// writes it; two who come at once both do, which is cheaper than waiting for each other.
    pub(super) fn body(
        &self,
        node: &str,
        view: &View<DynState>,
        format: Format,
    ) -> Option<Arc<Rendered>> {
        let position = view.position()?;
        let place = &self.bodies[format as usize];
        let cached = place.load();
        if let Some(cached) = cached.as_ref()
            && cached.position == position
            && cached.tier == view.tier()
        {
            return Some(Arc::clone(cached));
        }
        let snapshot = view.snapshot()?;
        let body = match format {
            Format::Text | Format::Html => text(view.schema(), &snapshot),
            Format::Json => json(&States::new(node, view, &snapshot, None)),
        };
        let rendered = Arc::new(Rendered::new(&snapshot, view.tier(), body, format.suffix()));
        place.store(Some(Arc::clone(&rendered)));
        Some(rendered)
    }

    /// The schema, which never changes.
    pub(super) fn schema(&self, schema: &Schema) -> Bytes {
        let body = self.schema.get_or_init(|| json(&SchemaBody(schema)).into());
        body.clone()
    }
}

impl Rendered {
    pub(super) fn new(
        snapshot: &Snapshot,
        tier: Option<u32>,
        body: impl Into<Bytes>,
        suffix: &str,
    ) -> Self {
        let position = snapshot.position();
        let header = |text: String| {
            HeaderValue::try_from(text).unwrap_or_else(|_control| HeaderValue::from_static(""))
        };
        Self {
            position,
            position_header: header(position.to_string()),
            tag: header(format!("\"{position}-{suffix}\"")),
            body: body.into(),
            tier,
        }
    }
}

/// A value as JSON. What is written here has strings as keys and cannot fail.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn text(schema: &Schema, snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for state in snapshot.active() {
        text.push_str(schema.name_of(state));
        text.push('\n');
    }
    text
}

/// The body of `/v1/states`.
pub(super) struct States<'a> {
    node: &'a str,
    tier: Option<u32>,
    schema: &'a Schema,
    snapshot: &'a Snapshot,
    query: Option<&'a Query>,
    members: Option<Vec<u32>>,
}

impl<'a> States<'a> {
    pub(super) fn new(
        node: &'a str,
        view: &'a View<DynState>,
        snapshot: &'a Snapshot,
        query: Option<&'a Query>,
    ) -> Self {
        let schema = view.schema();
        Self {
            node,
            tier: view.tier(),
            schema,
            snapshot,
            query,
            members: query.and_then(|query| query.selection.members(schema)),
        }
    }

    fn selects(&self, state: usize) -> bool {
        let members = self.members.as_deref();
        let Some(query) = self.query else { return true };
        query.selection.has(self.schema, members, state)
    }
}

impl Serialize for States<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let position = self.snapshot.position();
        let role = if self.tier == Some(0) {
            "root"
        } else {
            "replicant"
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("node", self.node)?;
        map.serialize_entry("role", role)?;
        map.serialize_entry("tier", &self.tier)?;
        map.serialize_entry("epoch", &position.epoch.to_string())?;
        map.serialize_entry("revision", &position.revision)?;
        map.serialize_entry("digest", &format!("{:016x}", self.snapshot.digest()))?;
        let active = || {
            let active = self.snapshot.active().filter(|state| self.selects(*state));
            active.map(|state| self.schema.name_of(state))
        };
        map.serialize_entry("active", &Seq(active))?;
        if self.query.is_some_and(|query| query.ticks) {
            let ticks = self.snapshot.ticks().iter().enumerate();
            let ticks = ticks.filter(|(state, _)| self.selects(*state));
            let ticks = || {
                ticks
                    .clone()
                    .map(|(state, tick)| (self.schema.name_of(state), tick))
            };
            map.serialize_entry("ticks", &Map(ticks))?;
        }
        if self.query.is_some_and(|query| query.payloads) {
            let payloads = self.snapshot.retained().iter();
            let payloads = payloads.filter(|(state, _)| self.selects(**state as usize));
            let payloads = || {
                payloads
                    .clone()
                    .map(|(state, bytes)| (self.schema.name_of(*state as usize), payload(bytes)))
            };
            map.serialize_entry("payloads", &Map(payloads))?;
        }
        map.end()
    }
}

/// A payload as JSON: itself if it is JSON, a string if it is text, else `{"base64":…}`.
pub(super) fn payload(bytes: &[u8]) -> serde_json::Value {
    use base64::Engine as _;
    serde_json::from_slice(bytes).unwrap_or_else(|_no_json| match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_binary) => {
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            serde_json::json!({ "base64": text })
        }
    })
}

/// The body of `/v1/schema`.
struct SchemaBody<'a>(&'a Schema);

impl Serialize for SchemaBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let schema = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("fingerprint", &schema.fingerprint().to_string())?;
        map.serialize_entry("counts", &Map(|| schema.counts()))?;
        map.serialize_entry(
            "states",
            &Seq(|| (0..schema.len()).map(|i| StateBody(schema, i))),
        )?;
        let groups = || {
            schema.groups().iter().map(|group| {
                let members = group.all_members().iter();
                let members: Vec<_> = members.map(|i| schema.name_of(*i as usize)).collect();
                (group.name(), members)
            })
        };
        map.serialize_entry("groups", &Map(groups))?;
        map.end()
    }
}

struct StateBody<'a>(&'a Schema, usize);

impl Serialize for StateBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(schema, index) = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", schema.name_of(index))?;
        map.serialize_entry("auto", &schema.is_auto(index))?;
        map.serialize_entry("multi", &schema.is_multi(index))?;
        for relation in Relation::ALL {
            let related = schema.related(relation, index).iter();
            let names = || related.clone().map(|i| schema.name_of(*i as usize));
            map.serialize_entry(relation.name(), &Seq(names))?;
        }
        map.end()
    }
}

/// An array of what an iterator gives.
pub(super) struct Seq<F>(pub(super) F);

impl<F, I> Serialize for Seq<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for item in (self.0)() {
            seq.serialize_element(&item)?;
        }
        seq.end()
    }
}

/// An object of the pairs that an iterator gives, in their order.
struct Map<F>(F);

impl<F, I, K, V> Serialize for Map<F>
where
    F: Fn() -> I,
    I: Iterator<Item = (K, V)>,
    K: Serialize,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map((self.0)())
    }
}
