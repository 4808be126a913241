//! The messages between a follower and its parent.
//!
//! Frames have a length prefix of three bytes and carry tarpc messages in postcard, which numbers
//! methods and variants and does not describe itself. Hence the rules of compatibility:
//!
//! * `hello` stays the first method for ever, and its arguments the version and a body of bytes whose
//!   meaning the version decides. What a reader finds behind a body that it knows it leaves.
//! * Methods and variants are appended, never reordered, and used only between sides that agreed on a
//!   version that has them.
//! * A node serves followers of its own version and of the one before, and follows parents of either: a
//!   follower that is refused for its version says hello again in the parent's, if it speaks that.
//!
//! The bytes of each version that is spoken are recorded in tests.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::position::{Epoch, Position};
use crate::ring::Delta;
use crate::schema::{StateShape, as_index};
use crate::selection::Selection;
use crate::transition::Change;
use crate::view::Snapshot;

mod hello;
mod pack;
mod write;

pub(super) use hello::{Hello, Terms, Welcome, Wishes};
pub(super) use pack::{pack, unpack};
pub(super) use write::{WriteAnswer, decode_write, encode_write, size};

/// The version of the protocol.
pub const PROTOCOL: u16 = 2;

/// The oldest version that is spoken besides.
pub const OLDEST_PROTOCOL: u16 = 1;

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

    /// As `mutate`, with the time that it may take in milliseconds. From version 2 on.
    async fn write(write: Blob, within_ms: u32) -> WriteAnswer;

    /// How the parent does, for a follower that chooses between some. From version 2 on.
    async fn probe() -> Probe;

    /// Shows the follower's token before it probes; `hello` shows it again. Whether it is admitted. Only who
    /// has a token asks so.
    async fn show(token: Secret) -> bool;
}

/// A token on its way. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// How a node does that could be a parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Probe {
    /// What it shows, unless it has nothing to give, or shuts down.
    pub(super) position: Option<Position>,
    /// How long ago, in milliseconds, that was last known to be the root's newest.
    pub(super) age_ms: u32,
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
    /// The parent shows none of the states that the follower selects. From version 2 on.
    NothingSelected,
    /// The parent has as many followers as it takes. From version 2 on; one of version 1 is told that the
    /// parent closes.
    Full,
    /// The parent does not admit the follower: whether it knows who that is. From version 2 on.
    Denied(bool),
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
    /// Nothing that is to be told now: a heartbeat. The follower has all that the parent has, or what it has was
    /// the root's newest so long ago.
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
    /// Any other of these, encoded and compressed. From version 2 on, and only to who wants it so.
    Packed(Blob),
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
    /// It has other states than it is given now.
    Selection,
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

/// Decodes a delta on top of revision `base`, of a schema of `states` states, of which only those that are
/// selected travel.
pub(super) fn decode_delta(
    blob: &Blob,
    base: u64,
    states: usize,
    selection: Option<&Selection>,
) -> Result<Delta, Malformed> {
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
    if let Some(selection) = selection {
        let ticked = changes.iter().map(|change| change.state);
        let mut moved = ticked.chain(payloads.iter().map(|(state, _)| *state));
        if moved.any(|state| !selection.contains(state as usize)) {
            return Err(malformed);
        }
    }
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

/// Encodes a snapshot: epoch (16 bytes), revision, the ticks, the retained payloads as in a
/// delta, the digest (8 bytes). Of a selection only its states are there, and `digest` is theirs.
pub(super) fn encode_snapshot(
    snapshot: &Snapshot,
    digest: u64,
    selection: Option<&Selection>,
) -> Blob {
    let position = snapshot.position();
    let selected = |state: usize| selection.is_none_or(|selection| selection.contains(state));
    let mut bytes = position.epoch.0.to_le_bytes().to_vec();
    bytes = put(bytes, position.revision);
    match selection {
        None => bytes = put(bytes, snapshot.ticks()),
        Some(selection) => {
            let ticks: Vec<u64> = selection
                .states()
                .map(|state| snapshot.ticks()[state])
                .collect();
            bytes = put(bytes, ticks);
        }
    }
    let retained = snapshot.retained().iter();
    let retained: Vec<_> = retained
        .filter(|(state, _)| selected(**state as usize))
        .collect();
    bytes = put(bytes, retained.len() as u64);
    for (state, payload) in retained {
        bytes = put(bytes, *state);
        bytes = put(bytes, &payload[..]);
    }
    bytes.extend_from_slice(&digest.to_le_bytes());
    Blob(bytes)
}

/// Decodes a snapshot of a schema of `states` states, of which only those that are selected travel. Its
/// digest is as stated, not checked.
pub(super) fn decode_snapshot(
    blob: &Blob,
    states: usize,
    selection: Option<&Selection>,
) -> Result<Snapshot, Malformed> {
    let malformed = Malformed("snapshot");
    let mut reader = Reader {
        rest: &blob.0,
        what: "snapshot",
    };
    let selected = |state: usize| selection.is_none_or(|selection| selection.contains(state));
    let epoch = Epoch(u128::from_le_bytes(reader.fixed()?));
    let revision = reader.take()?;
    let count: u64 = reader.take()?;
    if count != selection.map_or(states, Selection::len) as u64 {
        return Err(malformed);
    }
    let ticks = (0..states).map(|state| {
        if selected(state) {
            reader.take()
        } else {
            Ok(0)
        }
    });
    let ticks = ticks.collect::<Result<Vec<u64>, _>>()?;
    let mut retained = BTreeMap::new();
    for _ in 0..reader.take::<u64>()? {
        let state: u32 = reader.take()?;
        if state >= as_index(states) || !selected(state as usize) {
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
