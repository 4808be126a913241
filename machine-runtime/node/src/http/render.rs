//! Bodies: one moment as text and as JSON.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use machine_runtime::replica::Selection;
use machine_runtime::{Schema, Snapshot};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::Node;
use super::query::Query;

/// What a body is made from.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) node: &'a Node,
    pub(super) tier: Option<u32>,
    pub(super) schema: &'a Schema,
    pub(super) now: &'a Snapshot,
    /// The states that the node follows, if not all; it knows nothing of the others.
    pub(super) selection: Option<&'a Selection>,
    /// How that was written.
    pub(super) list: Option<&'a str>,
}

impl Scene<'_> {
    fn knows(&self, state: usize) -> bool {
        self.selection.is_none_or(|known| known.contains(state))
    }
}

/// All active states, one a line.
pub(super) fn text(scene: Scene<'_>) -> Bytes {
    lines(scene, scene.now.active())
}

/// The active states among those that `query` asks for, one a line.
pub(super) fn narrow_text(scene: Scene<'_>, query: &Query) -> Bytes {
    let states = query.states(scene.schema);
    lines(
        scene,
        states
            .into_iter()
            .filter(|state| scene.now.is_active(*state)),
    )
}

fn lines(scene: Scene<'_>, states: impl Iterator<Item = usize>) -> Bytes {
    let mut text = String::new();
    for state in states {
        text.push_str(scene.schema.name_of(state));
        text.push('\n');
    }
    text.into()
}

/// The active states and whose they are.
pub(super) fn json(scene: Scene<'_>) -> Bytes {
    json_line(&States::new(scene, None, None, None))
}

/// The same for what `query` asks for, with the details that it asks for.
pub(super) fn narrow_json(scene: Scene<'_>, query: &Query) -> Bytes {
    let narrow = query.is_narrow().then(|| query.states(scene.schema));
    let states = narrow.as_deref();
    let ticks = query.ticks.then_some(Ticks { scene, states });
    let payloads = query.payloads.then_some(Payloads { scene, states });
    json_line(&States::new(scene, states, ticks, payloads))
}

/// Whether one state is active, and what is known of it.
pub(super) fn state(scene: Scene<'_>, index: usize) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        state: &'a str,
        active: bool,
        tick: u64,
        payload: Option<Payload<'a>>,
    }
    json_line(&Body {
        state: scene.schema.name_of(index),
        active: scene.now.is_active(index),
        tick: scene.now.ticks()[index],
        payload: retained(scene.now, index),
    })
}

/// A value as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> Bytes {
    let mut body = serde_json::to_vec(value).expect("what is shown has string keys only");
    body.push(b'\n');
    body.into()
}

#[derive(Serialize)]
struct States<'a> {
    node: &'a str,
    role: &'static str,
    tier: Option<u32>,
    epoch: String,
    revision: u64,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    selection: Option<Selected<'a>>,
    active: Active<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticks: Option<Ticks<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payloads: Option<Payloads<'a>>,
}

impl<'a> States<'a> {
    fn new(
        scene: Scene<'a>,
        states: Option<&'a [usize]>,
        ticks: Option<Ticks<'a>>,
        payloads: Option<Payloads<'a>>,
    ) -> Self {
        let position = scene.now.position();
        Self {
            node: &scene.node.name,
            role: scene.node.role,
            tier: scene.tier,
            epoch: position.epoch.to_string(),
            revision: position.revision,
            digest: format!("{:016x}", scene.now.digest()),
            selection: scene.selection.map(|selection| Selected {
                list: scene.list,
                states: selection.len(),
            }),
            active: Active { scene, states },
            ticks,
            payloads,
        }
    }
}

/// The states that are followed, or that travel over a link, where these are not all.
#[derive(Serialize)]
pub(super) struct Selected<'a> {
    /// The list that the node was given, where it is this node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) list: Option<&'a str>,
    pub(super) states: usize,
}

/// The names of the active states, of `states` or of all.
struct Active<'a> {
    scene: Scene<'a>,
    states: Option<&'a [usize]>,
}

impl Serialize for Active<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Scene { schema, now, .. } = self.scene;
        match self.states {
            None => serializer.collect_seq(now.active().map(|state| schema.name_of(state))),
            Some(states) => {
                let active = states.iter().filter(|state| now.is_active(**state));
                serializer.collect_seq(active.map(|state| schema.name_of(*state)))
            }
        }
    }
}

/// The ticks by name.
struct Ticks<'a> {
    scene: Scene<'a>,
    states: Option<&'a [usize]>,
}

impl Serialize for Ticks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Scene { schema, now, .. } = self.scene;
        let tick = |state: usize| (schema.name_of(state), now.ticks()[state]);
        // A tick of 0 would say that a state has never been active.
        let knows = |state: &usize| self.scene.knows(*state);
        match self.states {
            None => serializer.collect_map((0..schema.len()).filter(knows).map(tick)),
            Some(states) => serializer.collect_map(states.iter().copied().filter(knows).map(tick)),
        }
    }
}

/// The retained payloads by name, of the states that have one.
struct Payloads<'a> {
    scene: Scene<'a>,
    states: Option<&'a [usize]>,
}

impl Serialize for Payloads<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Scene { schema, now, .. } = self.scene;
        let mut map = serializer.serialize_map(None)?;
        match self.states {
            None => {
                for (state, payload) in now.retained() {
                    map.serialize_entry(schema.name_of(*state as usize), &Payload(payload))?;
                }
            }
            Some(states) => {
                for state in states {
                    if let Some(payload) = retained(now, *state) {
                        map.serialize_entry(schema.name_of(*state), &payload)?;
                    }
                }
            }
        }
        map.end()
    }
}

fn retained(now: &Snapshot, state: usize) -> Option<Payload<'_>> {
    let payload = now.retained().get(&u32::try_from(state).ok()?)?;
    Some(Payload(payload))
}

/// Bytes whose meaning only the machine's user knows: shown as JSON if they are that, else as a
/// string if they are text, else in base64.
struct Payload<'a>(&'a [u8]);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(json) = serde_json::from_slice::<&RawValue>(self.0) {
            return json.serialize(serializer);
        }
        if let Ok(text) = str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        serializer.collect_map([("base64", STANDARD.encode(self.0))])
    }
}

impl fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene")
            .field("node", self.node)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_shown_as_what_it_looks_like() {
        for (payload, shown) in [
            (
                &br#"{"carrier":"UA","flight":1545}"#[..],
                r#"{"carrier":"UA","flight":1545}"#,
            ),
            (b" 12345678901234567890123 ", "12345678901234567890123"),
            (b"UA 1545", r#""UA 1545""#),
            (b"", r#""""#),
            (b"\"UA\"", r#""UA""#),
            (&[0, 0xff], r#"{"base64":"AP8="}"#),
        ] {
            assert_eq!(serde_json::to_string(&Payload(payload)).unwrap(), shown);
        }
    }
}
