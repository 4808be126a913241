//! What of a file can be gone on with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::checkpoint::Checkpoint;
use crate::journal::Keyed;
use crate::position::{Epoch, Position};
use crate::schema::Schema;

use super::error::StoreError;
use super::format::{
    BatchRow, CheckpointRow, FORMAT, FORMAT_ROW, HEAD_ROW, HISTORY_ROW, HeadRow, HistoryRow,
    KeyedRow, KeysRow, Sealed, unseal,
};
use super::recovered::{Base, Moved};
use super::replay::{Difference, Replay};
use super::survey::Survey;

/// A history that can be gone on with.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) history: HistoryRow,
    /// Where what is whole ends.
    pub(super) head: HeadRow,
    pub(super) restored: Checkpoint,
    pub(super) digest: u64,
    pub(super) base: Base,
    pub(super) deltas: Vec<Moved>,
    pub(super) keys: Vec<KeyedRow>,
    /// The numbers of the checkpoints that are whole, the oldest first.
    pub(super) checkpoints: Vec<u64>,
    /// How many bytes of batches there are since the newest of them.
    pub(super) bytes: u64,
    /// For how much each row of keys counts, by its number.
    pub(super) keys_rows: Vec<(u64, usize)>,
    /// What was cut, in words; the file has to be written anew then.
    pub(super) cut: Option<String>,
    /// What is damaged without anything being lost; the file has to be written anew then.
    pub(super) mended: Option<String>,
}

/// Judges the rows of the file at `place`.
pub(super) fn judge(
    place: &str,
    survey: &Survey,
    schema: &Arc<Schema>,
) -> Result<Verdict, StoreError> {
    Judge { place, survey }.judge(schema)
}

struct Judge<'a> {
    place: &'a str,
    survey: &'a Survey,
}

/// The batches that are whole, and what is wrong with those that follow.
struct Batches {
    rows: BTreeMap<u64, BatchRow>,
    bytes: BTreeMap<u64, u64>,
    /// The seal of the last.
    seal: u64,
    /// The first that is not whole.
    bad: Option<u64>,
}

impl Judge<'_> {
    fn judge(&self, schema: &Arc<Schema>) -> Result<Verdict, StoreError> {
        let (history, head) = self.meta(schema)?;
        let (checkpoints, bad_checkpoint) = self.checkpoints()?;
        let keys = self.keys()?;
        let moved = keys.last().map_or(0, |(number, _)| *number);
        let mut batches = self.batches(moved, &checkpoints, head)?;
        let epoch = Epoch(history.epoch);
        let replayed = self.replay(schema, &checkpoints, &batches, epoch)?;
        let end = replayed.checkpoint();
        let cut = self.cut(&batches, &checkpoints, epoch, (end.revision, head))?;
        let mut keyed: Vec<KeyedRow> = Vec::new();
        let mut keys_rows = Vec::new();
        for (number, row) in keys {
            keys_rows.push((number, row.weight()));
            keyed.extend(row.0);
        }
        for row in batches.rows.values_mut() {
            keyed.extend(row.take_keyed());
        }
        let newest = checkpoints
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        let since = batches.bytes.range(newest + 1..);
        Ok(Verdict {
            history,
            head: HeadRow {
                batch: batches.bad.map_or(head.batch, |bad| bad - 1),
                revision: end.revision,
                queue_tick: end.queue_tick,
                seal: batches.seal,
            },
            digest: replayed.digest(),
            base: replayed.base,
            deltas: replayed.deltas,
            restored: end,
            keys: keyed,
            bytes: since.map(|(_, bytes)| bytes).sum(),
            checkpoints: checkpoints.into_keys().collect(),
            keys_rows,
            cut,
            mended: bad_checkpoint.or_else(|| self.survey.damage.clone()),
        })
    }

    /// Which history it is, and where it ends.
    fn meta(&self, schema: &Schema) -> Result<(HistoryRow, HeadRow), StoreError> {
        let format: u32 = self.meta_row(FORMAT_ROW, self.survey.format.as_deref())?;
        if format > FORMAT {
            return Err(StoreError::NewerFormat {
                place: self.place.to_owned(),
                found: format,
                known: FORMAT,
            });
        }
        let history: HistoryRow = self.meta_row(HISTORY_ROW, self.survey.history.as_deref())?;
        if history.fingerprint != schema.fingerprint().0 {
            return Err(StoreError::OtherSchema {
                place: self.place.to_owned(),
                found: format!("{} {:032x}", history.schema, history.fingerprint),
                expected: format!("{} {}", schema.name(), schema.fingerprint()),
            });
        }
        Ok((
            history,
            self.meta_row(HEAD_ROW, self.survey.head.as_deref())?,
        ))
    }

    fn meta_row<T: DeserializeOwned>(
        &self,
        name: &str,
        bytes: Option<&[u8]>,
    ) -> Result<T, StoreError> {
        let sealed = bytes.and_then(|bytes| unseal(name.as_bytes(), bytes));
        sealed.map(|sealed| sealed.row).ok_or_else(|| {
            self.corrupt(
                &format!("table meta, row {name} is damaged or not there"),
                None,
            )
        })
    }

    /// The checkpoints that are whole, at least one, and what is wrong with the others.
    fn checkpoints(&self) -> Result<(BTreeMap<u64, CheckpointRow>, Option<String>), StoreError> {
        let mut whole = BTreeMap::new();
        let mut bad = None;
        for (number, bytes) in &self.survey.checkpoints.rows {
            match unseal(&number.to_le_bytes(), bytes) {
                Some(sealed) => {
                    whole.insert(*number, sealed.row);
                }
                None => bad = Some(format!("the checkpoint after row {number} is damaged")),
            }
        }
        if self.survey.checkpoints.broken {
            bad = Some("table checkpoints is damaged".to_owned());
        }
        if whole.is_empty() {
            return Err(self.corrupt("table checkpoints: none is whole", None));
        }
        Ok((whole, bad))
    }

    /// The batches that are not in the table of keys, as far as they follow from each other and from the
    /// checkpoints.
    fn batches(
        &self,
        moved: u64,
        checkpoints: &BTreeMap<u64, CheckpointRow>,
        head: HeadRow,
    ) -> Result<Batches, StoreError> {
        let mut batches = Batches {
            rows: BTreeMap::new(),
            bytes: BTreeMap::new(),
            seal: checkpoints.get(&moved).map_or(0, |row| row.seal),
            bad: None,
        };
        let known = checkpoints.contains_key(&moved);
        let rows: BTreeMap<u64, &[u8]> = self.raw();
        for number in moved + 1..=head.batch {
            let bytes = rows.get(&number).copied().unwrap_or_default();
            let sealed = unseal::<BatchRow>(&number.to_le_bytes(), bytes);
            let follows = |sealed: &Sealed<BatchRow>| {
                let first = number == moved + 1 && !known;
                let taken = checkpoints.get(&number);
                (first || sealed.before == batches.seal)
                    && taken.is_none_or(|row| row.seal == sealed.seal)
            };
            let Some(sealed) = sealed.filter(follows) else {
                batches.bad = Some(number);
                return Ok(batches);
            };
            if sealed.row.anew && !checkpoints.contains_key(&number) {
                let what = format!(
                    "the checkpoint after row {number}, at which the history goes on, is damaged"
                );
                return Err(self.corrupt(&what, None));
            }
            batches.seal = sealed.seal;
            batches.bytes.insert(number, bytes.len() as u64);
            batches.rows.insert(number, sealed.row);
        }
        if batches.seal != head.seal && head.batch > 0 {
            return Err(self.corrupt("table meta, row head is not that of the last batch", None));
        }
        Ok(batches)
    }

    fn raw(&self) -> BTreeMap<u64, &[u8]> {
        let rows = self.survey.journal.rows.iter();
        rows.map(|(number, bytes)| (*number, &bytes[..])).collect()
    }

    /// What is cut if a batch is not whole, in words.
    ///
    /// # Errors
    ///
    /// If anything behind it is.
    fn cut(
        &self,
        batches: &Batches,
        checkpoints: &BTreeMap<u64, CheckpointRow>,
        epoch: Epoch,
        (revision, head): (u64, HeadRow),
    ) -> Result<Option<String>, StoreError> {
        let Some(bad) = batches.bad else {
            return Ok(None);
        };
        let at = |revision| Position { epoch, revision };
        let (whole, end) = (at(revision), at(head.revision));
        let rows = self.raw();
        let good = rows
            .range(bad + 1..)
            .find(|(number, bytes)| unseal::<BatchRow>(&number.to_le_bytes(), bytes).is_some());
        let behind = match (good, checkpoints.range(bad..).next()) {
            (Some((number, _)), _) => Some(format!("row {number} behind it")),
            (None, Some((number, _))) => Some(format!("the checkpoint after row {number}")),
            (None, None) => None,
        };
        if let Some(behind) = behind {
            let what = format!(
                "table journal, row {bad} is damaged or not there, and {behind} is whole: something is \
                 missing between {whole} and {end}"
            );
            return Err(self.corrupt(&what, Some(whole)));
        }
        let bytes: usize = rows.range(bad..).map(|(_, bytes)| bytes.len()).sum();
        Ok(Some(format!(
            "rows {bad} to {} of table journal are damaged, {bytes} bytes with nothing whole behind them: \
             they were cut, and the history ends at {whole} instead of {end}",
            head.batch
        )))
    }

    /// The rows of the keys, all of which have to be whole: a write whose key was forgotten would run
    /// twice.
    fn keys(&self) -> Result<Vec<(u64, KeysRow)>, StoreError> {
        if self.survey.keys.broken {
            return Err(self.corrupt("table keys is damaged", None));
        }
        let rows = self.survey.keys.rows.iter().map(|(number, bytes)| {
            let sealed = unseal(&number.to_le_bytes(), bytes);
            let what = || self.corrupt(&format!("table keys, row {number} is damaged"), None);
            sealed.map(|sealed| (*number, sealed.row)).ok_or_else(what)
        });
        rows.collect()
    }

    fn replay(
        &self,
        schema: &Arc<Schema>,
        checkpoints: &BTreeMap<u64, CheckpointRow>,
        batches: &Batches,
        epoch: Epoch,
    ) -> Result<Replay, StoreError> {
        let diverged = |difference: Difference| StoreError::Diverged {
            place: self.place.to_owned(),
            position: Position {
                epoch,
                revision: difference.revision,
            },
            why: difference.why,
        };
        let whole = checkpoints.iter();
        let whole = whole.map(|(number, row)| (*number, row.clone().into_checkpoint()));
        let checkpoints: BTreeMap<u64, Checkpoint> = whole.collect();
        let (mut replay, first) = match checkpoints.first_key_value() {
            Some((number, start)) => (Replay::new(schema, start).map_err(diverged)?, number + 1),
            None => return Err(self.corrupt("table checkpoints: none is whole", None)),
        };
        for (number, row) in batches.rows.range(first..) {
            let replayed = replay.batch(row.clone(), checkpoints.get(number));
            replayed.map_err(diverged)?;
        }
        Ok(replay)
    }

    /// What is damaged, and up to where the history is whole if that is known.
    fn corrupt(&self, what: &str, whole: Option<Position>) -> StoreError {
        let damage = self.survey.damage.as_ref();
        let damage = damage.map_or_else(String::new, |damage| format!(" ({damage})"));
        StoreError::Corrupt {
            place: self.place.to_owned(),
            what: format!("{what}{damage}"),
            whole: whole.map_or_else(
                || "nothing can be said of what is whole".to_owned(),
                |position| format!("it is whole up to {position}"),
            ),
        }
    }
}

/// What came of writes with keys, as an owner has it.
pub(super) fn keyed(rows: Vec<KeyedRow>, epoch: Epoch) -> Vec<Keyed> {
    rows.into_iter()
        .filter_map(|row| row.into_keyed(epoch))
        .collect()
}
