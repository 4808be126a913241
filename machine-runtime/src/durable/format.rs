//! What stands in the file: rows of postcard, each sealed with a checksum.

use bytes::Bytes;
use redb::TableDefinition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::checkpoint::{Checkpoint, WaitingMutation};
use crate::handlers::Cause;
use crate::journal::{Batch, Done, Keyed};
use crate::mutation::{Op, Outcome, Reason};
use crate::position::{Epoch, Position};
use crate::transition::Change;
use crate::write::{Key, Receipt};

/// The version of the format.
pub(super) const FORMAT: u32 = 1;

/// Rows of few bytes by name: `format`, `history` and `head`.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// The batches by number, from 1.
pub(super) const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
/// The machine after the batch of this number.
pub(super) const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
/// The writes with keys of batches that are no longer in the journal, by the last of these.
pub(super) const KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("keys");

/// The rows of [`META`].
pub(super) const FORMAT_ROW: &str = "format";
pub(super) const HISTORY_ROW: &str = "history";
pub(super) const HEAD_ROW: &str = "head";

/// Which history it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct HistoryRow {
    pub(super) epoch: u128,
    pub(super) schema: String,
    pub(super) fingerprint: u128,
    pub(super) states: u32,
    /// Whether batches may have been told of that were not synced, as it was not closed since.
    pub(super) relaxed: bool,
}

/// Where the history ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct HeadRow {
    /// The number of the last batch.
    pub(super) batch: u64,
    pub(super) revision: u64,
    pub(super) queue_tick: u64,
    /// The seal of the last batch.
    pub(super) seal: u64,
}

/// A batch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct BatchRow {
    /// Whether the history does not follow from the batch before: the checkpoint of this batch is where it
    /// goes on, and what followers resume from begins.
    pub(super) anew: bool,
    done: Vec<DoneRow>,
    keyed: Vec<KeyedRow>,
    pub(super) queue_tick: u64,
    pub(super) revision: u64,
    pub(super) digest: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct DoneRow {
    op: Op,
    cause: Cause,
    called: Vec<u32>,
    /// 0 for none.
    queue_tick: u64,
    left_out: Vec<u32>,
    canceled: Option<Reason<u32>>,
    changes: Vec<(u32, u32)>,
    payloads: Vec<(u32, Option<Vec<u8>>)>,
    revision: u64,
    digest: u64,
}

/// The writes with keys of some batches.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct KeysRow(pub(super) Vec<KeyedRow>);

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct KeyedRow {
    key: Vec<u8>,
    content: u128,
    /// Each with the revision that shows its effect.
    receipts: Vec<(Outcome<u32>, u64)>,
}

/// A machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct CheckpointRow {
    /// The seal of the batch that it was taken after.
    pub(super) seal: u64,
    revision: u64,
    queue_tick: u64,
    ticks: Vec<u64>,
    order: Vec<u32>,
    queue: Vec<WaitingRow>,
    retained: Vec<(u32, Vec<u8>)>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct WaitingRow {
    op: Op,
    called: Vec<u32>,
    payloads: Vec<(u32, Vec<u8>)>,
    cause: Cause,
    is_error: bool,
}

/// A row's bytes with its seal: a checksum of its key, of the row and of `before`, which is for a batch
/// the seal of the one before and for others 0.
pub(super) fn seal(
    key: &[u8],
    before: u64,
    row: &impl Serialize,
) -> Result<(Vec<u8>, u64), postcard::Error> {
    let mut bytes = postcard::to_stdvec(row)?;
    bytes.extend_from_slice(&before.to_le_bytes());
    let seal = checksum(key, &bytes);
    bytes.extend_from_slice(&seal.to_le_bytes());
    Ok((bytes, seal))
}

/// A row that is whole.
pub(super) struct Sealed<T> {
    pub(super) row: T,
    pub(super) before: u64,
    pub(super) seal: u64,
}

/// The row that [`seal`] made. None if it is any other.
pub(super) fn unseal<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Option<Sealed<T>> {
    let (sealed, seal) = bytes.split_last_chunk()?;
    let seal = u64::from_le_bytes(*seal);
    if checksum(key, sealed) != seal {
        return None;
    }
    let (row, before) = sealed.split_last_chunk()?;
    Some(Sealed {
        row: postcard::from_bytes(row).ok()?,
        before: u64::from_le_bytes(*before),
        seal,
    })
}

pub(super) fn checksum(key: &[u8], sealed: &[u8]) -> u64 {
    xxh3_64_with_seed(sealed, xxh3_64(key))
}

impl BatchRow {
    pub(super) fn of(batch: &Batch) -> Self {
        Self {
            anew: batch.anew,
            done: batch.done.iter().map(DoneRow::of).collect(),
            keyed: batch.keyed.iter().map(KeyedRow::of).collect(),
            queue_tick: batch.queue_tick,
            revision: batch.end.0,
            digest: batch.end.1,
        }
    }

    pub(super) fn take_keyed(&mut self) -> Vec<KeyedRow> {
        std::mem::take(&mut self.keyed)
    }

    pub(super) fn into_done(self) -> impl Iterator<Item = Done> {
        self.done.into_iter().map(DoneRow::into_done)
    }
}

impl DoneRow {
    fn of(done: &Done) -> Self {
        let changes = done.changes.iter();
        let payloads = done.payloads.iter();
        Self {
            op: done.op,
            cause: done.cause,
            called: done.called.to_vec(),
            queue_tick: done.queue_tick.unwrap_or_default(),
            left_out: done.left_out.clone(),
            canceled: done.canceled.clone(),
            changes: changes.map(|change| (change.state, change.ticks)).collect(),
            payloads: payloads
                .map(|(state, payload)| (*state, payload.as_ref().map(|bytes| bytes.to_vec())))
                .collect(),
            revision: done.revision,
            digest: done.digest,
        }
    }

    fn into_done(self) -> Done {
        let changes = self.changes.into_iter();
        let payloads = self.payloads.into_iter();
        Done {
            op: self.op,
            cause: self.cause,
            called: self.called.into(),
            queue_tick: (self.queue_tick != 0).then_some(self.queue_tick),
            left_out: self.left_out,
            canceled: self.canceled,
            changes: changes
                .map(|(state, ticks)| Change { state, ticks })
                .collect(),
            payloads: payloads
                .map(|(state, payload)| (state, payload.map(Bytes::from)))
                .collect(),
            revision: self.revision,
            digest: self.digest,
        }
    }
}

impl KeysRow {
    /// For how much it counts among those that a root remembers.
    pub(super) fn weight(&self) -> usize {
        let weights = self.0.iter();
        weights.map(|keyed| keyed.receipts.len().max(1)).sum()
    }
}

impl KeyedRow {
    fn of(keyed: &Keyed) -> Self {
        let receipts = keyed.receipts.iter();
        Self {
            key: keyed.key.as_bytes().to_vec(),
            content: keyed.content,
            receipts: receipts
                .map(|receipt| (receipt.outcome.clone(), receipt.position.revision))
                .collect(),
        }
    }

    /// What came of the write, in terms of the life that the root is in now. None if it is no key.
    pub(super) fn into_keyed(self, epoch: Epoch) -> Option<Keyed> {
        let receipts = self
            .receipts
            .into_iter()
            .map(|(outcome, revision)| Receipt {
                outcome,
                position: Position { epoch, revision },
            });
        Some(Keyed {
            key: Key::new(self.key).ok()?,
            content: self.content,
            receipts: receipts.collect(),
        })
    }
}

impl CheckpointRow {
    pub(super) fn of(checkpoint: &Checkpoint, seal: u64) -> Self {
        let queue = checkpoint.queue.iter().map(|waiting| WaitingRow {
            op: waiting.op,
            called: waiting.called.clone(),
            payloads: bytes_of(waiting.payloads.iter().map(|(state, bytes)| (state, bytes))),
            cause: waiting.cause,
            is_error: waiting.is_error,
        });
        Self {
            seal,
            revision: checkpoint.revision,
            queue_tick: checkpoint.queue_tick,
            ticks: checkpoint.ticks.clone(),
            order: checkpoint.order.clone(),
            queue: queue.collect(),
            retained: bytes_of(checkpoint.retained.iter()),
        }
    }

    pub(super) fn into_checkpoint(self) -> Checkpoint {
        let payloads = |of: Vec<(u32, Vec<u8>)>| {
            let payloads = of.into_iter();
            payloads.map(|(state, bytes)| (state, Bytes::from(bytes)))
        };
        let queue = self.queue.into_iter().map(|waiting| WaitingMutation {
            op: waiting.op,
            called: waiting.called,
            payloads: payloads(waiting.payloads).collect(),
            cause: waiting.cause,
            is_error: waiting.is_error,
        });
        Checkpoint {
            revision: self.revision,
            ticks: self.ticks,
            order: self.order,
            queue_tick: self.queue_tick,
            queue: queue.collect(),
            retained: payloads(self.retained).collect(),
        }
    }
}

fn bytes_of<'a>(payloads: impl Iterator<Item = (&'a u32, &'a Bytes)>) -> Vec<(u32, Vec<u8>)> {
    payloads
        .map(|(state, bytes)| (*state, bytes.to_vec()))
        .collect()
}
