//! Rows of a history changed and sealed anew, as no fault of a disk would; for fuzzing, no stable API.

use redb::{Builder, ReadableTable, StorageBackend, WriteTransaction};

use super::format::{
    CHECKPOINTS, FORMAT_ROW, HEAD_ROW, HISTORY_ROW, HeadRow, JOURNAL, KEYS, META, checksum, seal,
    unseal,
};

/// How many bytes stand behind a row: what comes before it, and its seal.
const BEHIND: usize = 16;

/// A row of a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
    /// The last batch.
    Batch,
    /// The newest checkpoint.
    Checkpoint,
    /// The last writes with keys.
    Keys,
    /// Which history it is.
    History,
    /// Where it ends.
    Head,
    /// The version of the format.
    Format,
}

impl Row {
    /// All rows.
    pub const ALL: [Self; 6] = [
        Self::Batch,
        Self::Checkpoint,
        Self::Keys,
        Self::History,
        Self::Head,
        Self::Format,
    ];
}

/// Changes a row of the history on `disk`, which is whole; what is sealed with it is made to fit. None if
/// there is no such row.
pub fn change(
    disk: impl StorageBackend,
    row: Row,
    change: impl FnOnce(&mut Vec<u8>),
) -> Option<()> {
    let database = Builder::new().create_with_backend(disk).ok()?;
    let write = database.begin_write().ok()?;
    match row {
        Row::Batch => {
            let mut table = write.open_table(JOURNAL).ok()?;
            let (number, bytes) = last(&table)?;
            let (bytes, seal) = resealed(&number.to_le_bytes(), bytes, change)?;
            table.insert(number, &bytes[..]).ok()?;
            drop(table);
            end_with(&write, seal)?;
        }
        Row::Checkpoint => {
            let mut table = write.open_table(CHECKPOINTS).ok()?;
            let (number, bytes) = last(&table)?;
            let (bytes, _) = resealed(&number.to_le_bytes(), bytes, change)?;
            table.insert(number, &bytes[..]).ok()?;
        }
        Row::Keys => {
            let mut table = write.open_table(KEYS).ok()?;
            let (number, bytes) = last(&table)?;
            let (bytes, _) = resealed(&number.to_le_bytes(), bytes, change)?;
            table.insert(number, &bytes[..]).ok()?;
        }
        Row::History | Row::Head | Row::Format => {
            let name = match row {
                Row::History => HISTORY_ROW,
                Row::Head => HEAD_ROW,
                _ => FORMAT_ROW,
            };
            let mut table = write.open_table(META).ok()?;
            let bytes = table.get(name).ok()??.value().to_vec();
            let (bytes, _) = resealed(name.as_bytes(), bytes, change)?;
            table.insert(name, &bytes[..]).ok()?;
        }
    }
    write.commit().ok()
}

fn last(table: &impl ReadableTable<u64, &'static [u8]>) -> Option<(u64, Vec<u8>)> {
    let (number, bytes) = table.last().ok()??;
    Some((number.value(), bytes.value().to_vec()))
}

fn resealed(
    key: &[u8],
    mut bytes: Vec<u8>,
    change: impl FnOnce(&mut Vec<u8>),
) -> Option<(Vec<u8>, u64)> {
    let behind = bytes.split_off(bytes.len().checked_sub(BEHIND)?);
    change(&mut bytes);
    bytes.extend_from_slice(&behind[..BEHIND / 2]);
    let seal = checksum(key, &bytes);
    bytes.extend_from_slice(&seal.to_le_bytes());
    Some((bytes, seal))
}

/// Has the history end with the batch of this seal.
fn end_with(write: &WriteTransaction, last: u64) -> Option<()> {
    let mut table = write.open_table(META).ok()?;
    let bytes = table.get(HEAD_ROW).ok()??.value().to_vec();
    let head = unseal::<HeadRow>(HEAD_ROW.as_bytes(), &bytes)?.row;
    let head = HeadRow { seal: last, ..head };
    let (bytes, _) = seal(HEAD_ROW.as_bytes(), 0, &head).ok()?;
    table.insert(HEAD_ROW, &bytes[..]).ok()?;
    Some(())
}
