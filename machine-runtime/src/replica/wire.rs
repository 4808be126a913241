//! The messages between a follower and its parent.
//!
//! Frames have a length prefix of three bytes and carry tarpc messages in postcard, which numbers
//! methods and variants and does not describe itself. Hence the rules of compatibility: `hello`
//! stays the first method for ever; methods and variants are appended, never reordered; the bodies
//! of `hello` and its answer are bytes whose meaning the protocol version decides.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::position::{Epoch, Position};
use crate::ring::Delta;
use crate::schema::{StateShape, as_index};
use crate::transition::Change;
use crate::view::Snapshot;

mod write;

pub(super) use write::{WriteAnswer, decode_write, encode_write, size};

/// The version of the protocol. A parent refuses any other.
pub const PROTOCOL: u16 = 1;

/// How many state descriptions a page of the schema holds.
pub(super) const SCHEMA_PAGE: u32 = 1024;

#[tarpc::service]
pub(super) trait Replication {
    /// Introduces a follower. The parent answers once it has something to show.
    async fn hello(protocol: u16, body: Vec<u8>) -> Result<Vec<u8>, Refusal>;

    /// What came after a position, as soon as there is anything.
    async fn watch(watch: Watch) -> News;

    /// A page of the parent's schema, for a follower that was refused to see why.
    async fn schema(from: u32) -> Vec<StateShape>;

    /// Runs mutations at the root, or passes them on to it. The deadline of the call is how long
    /// that may take, and some more; who no longer waits cancels the call.
    async fn mutate(write: Blob) -> WriteAnswer;
}

/// The body of `hello` in version 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The follower's schema.
    pub(super) fingerprint: u128,
    /// The follower's name.
    pub(super) node: String,
    /// Where to go on from.
    pub(super) position: Option<Position>,
}

/// The answer to `hello` in version 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    /// The parent's name.
    pub(super) node: String,
    /// How many links the parent is from the root.
    pub(super) tier: u32,
    /// What came after the follower's position.
    pub(super) news: News,
}

/// Why a parent does not serve a follower.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// The parent speaks another version of the protocol.
    Protocol(u16),
    /// The parent has another schema.
    Fingerprint(u128),
    /// The parent could not read the body of `hello`.
    Malformed,
    /// The parent has nothing to show yet.
    NotReady,
    /// The parent shuts down.
    Closing,
}

/// A question of a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Watch {
    /// What the follower has.
    pub(super) after: Position,
    /// Whether it wants each delta instead of their sum.
    pub(super) every: bool,
    /// Whether it wants a snapshot, as it could not use what it was sent.
    pub(super) resync: bool,
    /// For how long the parent may hold the question, in milliseconds.
    pub(super) hold_ms: u32,
}

/// An answer to a follower. `age_ms` is the parent's own age: how long ago, in milliseconds,
/// what it sends was last known to be the root's newest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// One delta, encoded.
    Delta { age_ms: u32, delta: Blob },
    /// Nothing new: a heartbeat. The follower is where the parent is.
    Idle { age_ms: u32 },
    /// A snapshot, encoded, and why.
    Snapshot {
        age_ms: u32,
        cause: SnapshotCause,
        snapshot: Blob,
    },
    /// Several deltas, each on top of the one before.
    Deltas { age_ms: u32, deltas: Vec<Blob> },
    /// The parent shuts down.
    Closing,
    /// Deltas, of which some are the work of mutations whose traces are kept: revisions, each with the
    /// trace, the span at the parent, and that of the root's transition.
    Traced {
        age_ms: u32,
        deltas: Vec<Blob>,
        traces: Vec<(u64, u128, u64, u64)>,
    },
}

/// Why a follower gets a snapshot instead of a delta.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum SnapshotCause {
    /// It has nothing yet.
    First,
    /// Its position is of another life of the root.
    Epoch,
    /// The deltas after its position are no longer held. The oldest revision to resume from is
    /// this.
    Compacted(u64),
    /// It asked for one.
    Asked,
}

/// Encoded bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Blob(#[serde(with = "serde_bytes")] pub(super) Vec<u8>);

/// Bytes that are no delta or snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed {0}")]
pub(super) struct Malformed(&'static str);

/// Reads and writes postcard's variable-length integers and byte strings one by one.
struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn take<T: Deserialize<'a>>(&mut self) -> Result<T, Malformed> {
        let (value, rest) =
            postcard::take_from_bytes(self.rest).map_err(|_malformed| Malformed(self.what))?;
        self.rest = rest;
        Ok(value)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed(self.what))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed(self.what))
        }
    }
}

fn put<T: Serialize>(bytes: Vec<u8>, value: T) -> Vec<u8> {
    postcard::to_extend(&value, bytes).expect("numbers and bytes can always be encoded")
}

/// Encodes a delta. Its base is implied by the question:
///
/// * the revision, less the base, at least 1;
/// * twice the number of changes, plus 1 if payloads follow;
/// * per change: twice the distance to the state before, plus 1 if a tick count other than 1
///   follows;
/// * the payloads: their number, and each as twice the distance to the state before, plus 1 if
///   bytes follow (else it was dropped);
/// * the digest, 8 bytes, little end first.
pub(super) fn encode_delta(delta: &Delta) -> Blob {
    let mut bytes = Vec::with_capacity(16 + 2 * delta.changes.len());
    bytes = put(bytes, delta.revision - delta.base);
    bytes = put(
        bytes,
        2 * delta.changes.len() as u64 + u64::from(!delta.payloads.is_empty()),
    );
    let mut before = 0;
    for change in &delta.changes {
        let gap = u64::from(change.state - before);
        before = change.state;
        bytes = put(bytes, 2 * gap + u64::from(change.ticks != 1));
        if change.ticks != 1 {
            bytes = put(bytes, change.ticks);
        }
    }
    if !delta.payloads.is_empty() {
        bytes = put(bytes, delta.payloads.len() as u64);
        let mut before = 0;
        for (state, payload) in &delta.payloads {
            let gap = u64::from(state - before);
            before = *state;
            bytes = put(bytes, 2 * gap + u64::from(payload.is_some()));
            if let Some(payload) = payload {
                bytes = put(bytes, &payload[..]);
            }
        }
    }
    bytes.extend_from_slice(&delta.digest.to_le_bytes());
    Blob(bytes)
}

/// Decodes a delta on top of revision `base`, of a schema of `states` states.
pub(super) fn decode_delta(blob: &Blob, base: u64, states: usize) -> Result<Delta, Malformed> {
    let mut reader = Reader {
        rest: &blob.0,
        what: "delta",
    };
    let malformed = Malformed("delta");
    let increment = reader.take()?;
    if increment == 0 {
        return Err(malformed);
    }
    let revision = base.checked_add(increment).ok_or(malformed)?;
    let head: u64 = reader.take()?;
    let mut changes = Vec::new();
    let mut place = Place::new(states, malformed);
    for _ in 0..head / 2 {
        let (state, more) = place.step(reader.take()?)?;
        let ticks = if more { reader.take()? } else { 1 };
        changes.push(Change { state, ticks });
    }
    let mut payloads = Vec::new();
    if head % 2 == 1 {
        let mut place = Place::new(states, malformed);
        for _ in 0..reader.take::<u64>()? {
            let (state, some) = place.step(reader.take()?)?;
            let payload: Option<&[u8]> = if some { Some(reader.take()?) } else { None };
            payloads.push((state, payload.map(Bytes::copy_from_slice)));
        }
    }
    let digest = u64::from_le_bytes(reader.fixed()?);
    reader.end()?;
    Ok(Delta {
        base,
        revision,
        digest,
        changes,
        payloads,
    })
}

/// Walks through states by their distances, upwards and each at most once.
struct Place {
    next: u64,
    before: u64,
    states: u64,
    malformed: Malformed,
}

impl Place {
    fn new(states: usize, malformed: Malformed) -> Self {
        Self {
            next: 0,
            before: 0,
            states: states as u64,
            malformed,
        }
    }

    /// The next state, and the flag that its distance carried.
    fn step(&mut self, code: u64) -> Result<(u32, bool), Malformed> {
        let state = self.before.checked_add(code / 2).ok_or(self.malformed)?;
        if state < self.next || state >= self.states {
            return Err(self.malformed);
        }
        self.before = state;
        self.next = state + 1;
        Ok((
            u32::try_from(state).map_err(|_large| self.malformed)?,
            code % 2 == 1,
        ))
    }
}

/// Encodes a snapshot: epoch (16 bytes), revision, all ticks, the retained payloads as in a
/// delta, the digest (8 bytes).
pub(super) fn encode_snapshot(snapshot: &Snapshot) -> Blob {
    let position = snapshot.position();
    let mut bytes = position.epoch.0.to_le_bytes().to_vec();
    bytes = put(bytes, position.revision);
    bytes = put(bytes, snapshot.ticks());
    bytes = put(bytes, snapshot.retained().len() as u64);
    for (state, payload) in snapshot.retained() {
        bytes = put(bytes, *state);
        bytes = put(bytes, &payload[..]);
    }
    bytes.extend_from_slice(&snapshot.digest().to_le_bytes());
    Blob(bytes)
}

/// Decodes a snapshot of a schema of `states` states. Its digest is as stated, not checked.
pub(super) fn decode_snapshot(blob: &Blob, states: usize) -> Result<Snapshot, Malformed> {
    let malformed = Malformed("snapshot");
    let mut reader = Reader {
        rest: &blob.0,
        what: "snapshot",
    };
    let epoch = Epoch(u128::from_le_bytes(reader.fixed()?));
    let revision = reader.take()?;
    let count: u64 = reader.take()?;
    if count != states as u64 {
        return Err(malformed);
    }
    let ticks = (0..states)
        .map(|_| reader.take())
        .collect::<Result<Vec<u64>, _>>()?;
    let mut retained = BTreeMap::new();
    for _ in 0..reader.take::<u64>()? {
        let state: u32 = reader.take()?;
        if state >= as_index(states) {
            return Err(malformed);
        }
        let payload: &[u8] = reader.take()?;
        retained.insert(state, Bytes::copy_from_slice(payload));
    }
    let digest = u64::from_le_bytes(reader.fixed()?);
    reader.end()?;
    Ok(Snapshot::new(
        Position { epoch, revision },
        digest,
        ticks,
        retained,
    ))
}

#[cfg(test)]
mod tests;
