//! The writing side of a store.

use std::collections::VecDeque;
use std::sync::Arc;

use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableError,
    WriteTransaction,
};
use serde::Serialize;
use tokio::time::Instant;

use crate::checkpoint::Checkpoint;
use crate::journal::Batch;
use crate::keys::KEYS as REMEMBERED;
use crate::position::{Epoch, Position};

use super::CACHE;
use super::backend::Disk;
use super::error::StoreError;
use super::format::{
    BatchRow, CHECKPOINTS, CheckpointRow, FORMAT, FORMAT_ROW, HEAD_ROW, HISTORY_ROW, HeadRow,
    HistoryRow, JOURNAL, KEYS, KeysRow, META, seal, unseal,
};
use super::stats::StoreStats;
use super::store::{Durability, StoreOptions};
use super::verdict::Verdict;

/// The writing side of a store.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) place: String,
    pub(super) options: StoreOptions,
    pub(super) stats: StoreStats,
    disk: Arc<dyn StorageBackend>,
    /// None after an error: the database refuses all then until it is opened anew.
    database: Option<Database>,
    history: HistoryRow,
    /// Whether the file does not say so yet.
    history_changed: bool,
    head: HeadRow,
    /// The bytes of batches since the newest checkpoint.
    bytes: u64,
    /// What is in the file of what makes room.
    kept: Kept,
    /// What is not in the file yet, in order, and since when.
    pending: Vec<Pending>,
    since: Option<Instant>,
    /// What a flush in the background ended with.
    failed: Option<StoreError>,
}

/// What is in the file of what makes room.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// The numbers of the checkpoints, the oldest first.
    checkpoints: VecDeque<u64>,
    /// The numbers of the rows of keys, and for how much each counts.
    keys: VecDeque<(u64, usize)>,
}

/// A batch that is not in the file yet.
#[derive(Debug)]
struct Pending {
    row: Vec<u8>,
    checkpoint: Option<Vec<u8>>,
    /// Where the history ends with it, and where it ended before.
    head: HeadRow,
    before: HeadRow,
    /// The bytes since the newest checkpoint before it.
    bytes: u64,
}

impl Inner {
    /// A history on a disk that has it as `verdict` says.
    pub(super) fn new(
        (place, disk): (String, Arc<dyn StorageBackend>),
        options: StoreOptions,
        verdict: &Verdict,
    ) -> Self {
        Self {
            place,
            options,
            stats: StoreStats::default(),
            disk,
            database: None,
            history: verdict.history.clone(),
            history_changed: false,
            head: verdict.head,
            bytes: verdict.bytes,
            kept: Kept {
                checkpoints: verdict.checkpoints.iter().copied().collect(),
                keys: verdict.keys_rows.iter().copied().collect(),
            },
            pending: Vec::new(),
            since: None,
            failed: None,
        }
    }

    /// Whether so much was written since the last checkpoint that there is to be another.
    pub(super) fn wants_checkpoint(&self) -> bool {
        self.bytes >= self.options.checkpoint_bytes
    }

    /// Whether something may have been told of that is not in the file.
    pub(super) fn is_late(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn position(&self) -> Position {
        Position {
            epoch: Epoch(self.history.epoch),
            revision: self.head.revision,
        }
    }

    /// Keeps a batch; one that failed can be tried again.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.append(batch)?;
        if !self.is_due() {
            return Ok(());
        }
        let flushed = self.flush();
        if flushed.is_err()
            && let Some(last) = self.pending.pop()
        {
            (self.head, self.bytes) = (last.before, last.bytes);
        }
        flushed
    }

    /// Adds a batch to what is to be in the file.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let number = self.head.batch + 1;
        let key = number.to_le_bytes();
        let of = |error| StoreError::of(&self.place, unwritable(error));
        let (row, sealed) = seal(&key, self.head.seal, &BatchRow::of(batch)).map_err(of)?;
        let checkpoint = batch.checkpoint.as_ref();
        let checkpoint = checkpoint.map(|at| seal(&key, 0, &CheckpointRow::of(at, sealed)));
        let checkpoint = checkpoint.transpose().map_err(of)?.map(|(row, _)| row);
        let head = HeadRow {
            batch: number,
            revision: batch.end.0,
            queue_tick: batch.queue_tick,
            seal: sealed,
        };
        let (before, bytes) = (self.head, self.bytes);
        self.head = head;
        self.bytes = match checkpoint {
            Some(_) => 0,
            None => bytes + row.len() as u64,
        };
        self.pending.push(Pending {
            row,
            checkpoint,
            head,
            before,
            bytes,
        });
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Whether what is pending has to be written now.
    pub(super) fn is_due(&self) -> bool {
        match self.options.durability {
            Durability::Sync => true,
            Durability::Relaxed(within) => {
                let bytes: usize = self.pending.iter().map(|pending| pending.row.len()).sum();
                let late = self.since.is_some_and(|since| since.elapsed() >= within);
                late || bytes as u64 >= self.options.checkpoint_bytes
            }
        }
    }

    /// Writes and syncs what is pending.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        if let Some(head) = self.reopen()? {
            // What failed may be there all the same.
            let kept = self.pending.iter().position(|pending| pending.head == head);
            if let Some(last) = kept {
                let kept: Vec<_> = self.pending.drain(..=last).collect();
                self.count(&kept);
                self.survey_kept()?;
            }
        }
        if self.pending.is_empty() && !self.history_changed {
            self.since = None;
            return Ok(());
        }
        let history = self.history_changed.then(|| self.history.clone());
        let pending = std::mem::take(&mut self.pending);
        let mut kept = self.kept.clone();
        let written = self.write(|write| {
            for batch in &pending {
                let number = batch.head.batch;
                write.open_table(JOURNAL)?.insert(number, &batch.row[..])?;
                if let Some(row) = &batch.checkpoint {
                    kept.checkpoint(write, number, row)?;
                }
            }
            if let Some(last) = pending.last() {
                meta(write, HEAD_ROW, &last.head)?;
            }
            history.map_or(Ok(()), |history| meta(write, HISTORY_ROW, &history))
        });
        match written {
            Ok(()) => {
                self.count(&pending);
                self.kept = kept;
                self.since = None;
                self.history_changed = false;
                Ok(())
            }
            Err(error) => {
                self.pending = pending;
                Err(error)
            }
        }
    }

    /// Counts batches that are in the file now.
    fn count(&self, batches: &[Pending]) {
        let checkpoints = batches.iter().filter_map(|batch| batch.checkpoint.as_ref());
        let bytes = batches.iter().map(|batch| &batch.row).chain(checkpoints);
        let bytes: usize = bytes.map(Vec::len).sum();
        let mut stats = self.stats.now();
        stats.commits += batches.len() as u64;
        stats.bytes += bytes as u64;
        if let Some(last) = batches.last() {
            stats.position = Some(Position {
                epoch: Epoch(self.history.epoch),
                revision: last.head.revision,
            });
        }
    }

    /// Remembers what a flush in the background ended with: the next batch is told.
    pub(super) fn fail(&mut self, error: StoreError) {
        self.failed.get_or_insert(error);
    }

    /// Begins a new life where the history ends.
    pub(super) fn begin_epoch(
        &mut self,
        epoch: Epoch,
        (restored, digest): (&Checkpoint, u64),
        relaxed: bool,
    ) -> Result<(), StoreError> {
        self.history.epoch = epoch.0;
        self.history.relaxed = relaxed;
        self.history_changed = true;
        let mut batch = Batch::new(epoch);
        batch.anew = true;
        batch.queue_tick = restored.queue_tick;
        batch.end = (restored.revision, digest);
        batch.checkpoint = Some(restored.clone());
        self.append(&batch)?;
        self.flush()
    }

    /// Notes whether batches may be told of before they are in the file.
    pub(super) fn set_relaxed(&mut self, relaxed: bool) -> Result<(), StoreError> {
        if self.history.relaxed != relaxed {
            self.history.relaxed = relaxed;
            self.history_changed = true;
        }
        self.flush()
    }

    /// Writes a whole history to an empty disk.
    pub(super) fn write_all(
        &mut self,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        self.reopen()?;
        let (history, head) = (self.history.clone(), self.head);
        self.write(|write| {
            fill(write)?;
            meta(write, FORMAT_ROW, &FORMAT)?;
            meta(write, HISTORY_ROW, &history)?;
            meta(write, HEAD_ROW, &head)
        })
    }

    /// Writes what is pending, notes that this was an end in order, and closes the file.
    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        self.set_relaxed(false)?;
        match self.database.take() {
            Some(database) => {
                let closed = database.close();
                closed.map_err(|error| StoreError::of(&self.place, error))
            }
            None => Ok(()),
        }
    }

    /// One transaction, synced.
    fn write(
        &mut self,
        rows: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let written: Result<(), redb::Error> = (|| {
            let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let mut write = database.begin_write()?;
            // In two steps: what is damaged in the last commit was damaged later, and is not just one that
            // was under way. With the state of the allocator: a file can be opened without its other pages
            // being looked at, to see which of them are whole.
            write.set_two_phase_commit(true);
            write.set_quick_repair(true);
            rows(&write)?;
            write.commit()?;
            Ok(())
        })();
        match written {
            Ok(()) => {
                self.stats.now().last_sync = began.elapsed();
                Ok(())
            }
            Err(error) => {
                self.database = None;
                Err(StoreError::of(&self.place, error))
            }
        }
    }

    /// Opens the database if it is not, and returns where it ends then.
    fn reopen(&mut self) -> Result<Option<HeadRow>, StoreError> {
        if self.database.is_some() {
            return Ok(None);
        }
        self.open()?;
        let head = self.database.as_ref().map(read_head).transpose();
        let head = head
            .map_err(|error| StoreError::of(&self.place, error))?
            .flatten();
        Ok(head)
    }

    fn open(&mut self) -> Result<(), StoreError> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE);
        let opened = builder.create_with_backend(Disk(Arc::clone(&self.disk)));
        self.database = Some(opened.map_err(|error| StoreError::of(&self.place, error))?);
        Ok(())
    }

    /// Looks anew what is in the file of what makes room.
    fn survey_kept(&mut self) -> Result<(), StoreError> {
        if let Some(database) = &self.database {
            let kept = Kept::of(database);
            self.kept = kept.map_err(|error| StoreError::of(&self.place, error))?;
        }
        Ok(())
    }
}

impl Kept {
    fn of(database: &Database) -> Result<Self, redb::Error> {
        let read = database.begin_read()?;
        let mut kept = Self::default();
        for row in read.open_table(CHECKPOINTS)?.iter()? {
            kept.checkpoints.push_back(row?.0.value());
        }
        for row in read.open_table(KEYS)?.iter()? {
            let (number, bytes) = row?;
            let number = number.value();
            let sealed = unseal::<KeysRow>(&number.to_le_bytes(), bytes.value());
            let sealed = sealed.ok_or_else(|| damaged("keys", number))?;
            kept.keys.push_back((number, sealed.row.weight()));
        }
        Ok(kept)
    }

    /// Writes a checkpoint after the batch `number`. Of the older ones the newest stays. The batches up to that
    /// go, and what came of their writes with keys makes one row.
    fn checkpoint(
        &mut self,
        write: &WriteTransaction,
        number: u64,
        row: &[u8],
    ) -> Result<(), redb::Error> {
        let mut table = write.open_table(CHECKPOINTS)?;
        table.insert(number, row)?;
        self.checkpoints.push_back(number);
        while self.checkpoints.len() > 2 {
            if let Some(oldest) = self.checkpoints.pop_front() {
                table.remove(oldest)?;
            }
        }
        let oldest = self.checkpoints.front().copied().unwrap_or_default();
        if oldest > self.keys.back().map_or(0, |(number, _)| *number) {
            self.move_keys(write, oldest)?;
        }
        Ok(())
    }

    /// Deletes the batches up to `last`, and keeps what came of their writes with keys.
    fn move_keys(&mut self, write: &WriteTransaction, last: u64) -> Result<(), redb::Error> {
        let mut journal = write.open_table(JOURNAL)?;
        let mut keys = KeysRow::default();
        for batch in journal.range(..=last)? {
            let (number, bytes) = batch?;
            let number = number.value();
            let sealed = unseal::<BatchRow>(&number.to_le_bytes(), bytes.value());
            let mut sealed = sealed.ok_or_else(|| damaged("journal", number))?;
            keys.0.extend(sealed.row.take_keyed());
        }
        journal.retain_in(..=last, |_, _| false)?;
        let mut table = write.open_table(KEYS)?;
        let (row, _) = seal(&last.to_le_bytes(), 0, &keys).map_err(unwritable)?;
        table.insert(last, &row[..])?;
        self.keys.push_back((last, keys.weight()));
        let mut weight: usize = self.keys.iter().map(|(_, weight)| weight).sum();
        while let Some((number, of_it)) = self.keys.front().copied()
            && number != last
            && (of_it == 0 || weight - of_it >= REMEMBERED)
        {
            table.remove(number)?;
            self.keys.pop_front();
            weight -= of_it;
        }
        Ok(())
    }
}

fn meta(write: &WriteTransaction, name: &str, row: &impl Serialize) -> Result<(), redb::Error> {
    let (row, _) = seal(name.as_bytes(), 0, row).map_err(unwritable)?;
    write.open_table(META)?.insert(name, &row[..])?;
    Ok(())
}

fn read_head(database: &Database) -> Result<Option<HeadRow>, redb::Error> {
    let table = match database.begin_read()?.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let row = table.get_owned(HEAD_ROW)?;
    let sealed = row.and_then(|row| unseal(HEAD_ROW.as_bytes(), row.value()));
    Ok(sealed.map(|sealed| sealed.row))
}

fn damaged(table: &str, row: u64) -> redb::Error {
    redb::Error::Corrupted(format!("table {table}, row {row} is damaged"))
}

pub(super) fn unwritable(error: postcard::Error) -> redb::Error {
    redb::Error::Io(std::io::Error::other(error))
}
