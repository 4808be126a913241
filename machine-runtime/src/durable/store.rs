//! A history on disk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::{StorageBackend, TableHandle};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use crate::journal::{Batch, Journal, JournalError};
use crate::machine::Machine;
use crate::position::Epoch;
use crate::schema::Schema;

use super::backend::is_blank;
use super::error::StoreError;
use super::file::{self, Place};
use super::format::{CHECKPOINTS, CheckpointRow, HeadRow, HistoryRow, JOURNAL, KEYS, seal};
use super::inner::{Inner, unwritable};
use super::recovered::{Base, Recovered};
use super::stats::StoreStats;
use super::survey::Survey;
use super::verdict::{Verdict, judge, keyed};

/// After how many bytes of batches there is a checkpoint unless told otherwise.
pub const CHECKPOINT_BYTES: u64 = 4 << 20;

/// How long to wait for room on a full disk before it is tried again, at first and at most.
const PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// When a batch is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Once it is on disk.
    #[default]
    Sync,
    /// At once; it is on disk so much later at most. What is not when the process ends out of order is lost,
    /// so the next one begins a new epoch.
    Relaxed(Duration),
}

/// How a [`Store`] keeps a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// When a batch is kept.
    pub durability: Durability,
    /// After how many bytes of batches there is a checkpoint. The file takes some ten times as much, with
    /// room for what is written while other things are not yet deleted, and three checkpoints.
    pub checkpoint_bytes: u64,
    /// The epoch that a history begins with, or goes on in where some of it was lost: a random one unless
    /// told. Nobody may have seen it before.
    pub new_epoch: Option<Epoch>,
}

impl StoreOptions {
    fn new_epoch(&self) -> Epoch {
        self.new_epoch.unwrap_or_else(Epoch::random)
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            checkpoint_bytes: CHECKPOINT_BYTES,
            new_epoch: None,
        }
    }
}

/// A history on disk, see the [module](crate::durable).
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    stats: StoreStats,
    options: StoreOptions,
    wants_checkpoint: bool,
    /// Writes what is late.
    late: JoinSet<()>,
    /// Whether it is about to.
    timed: Arc<AtomicBool>,
}

impl Store {
    /// Opens the history in a directory, and begins one where there is none. If there is a file `new-epoch`
    /// in it, the history goes on in a new epoch, and that file goes: for what was restored from a copy.
    ///
    /// # Errors
    ///
    /// If another process has it open, it cannot be read, is damaged where nothing can be cut, or is not that
    /// of a machine with this schema. It is left as it is then.
    pub fn open(
        dir: &Path,
        schema: &Arc<Schema>,
        options: StoreOptions,
    ) -> Result<(Self, Recovered), StoreError> {
        let (path, disk) = file::open(dir)?;
        Self::open_at(&Place::File(path), disk, schema, options)
    }

    /// As [`Store::open`], on a disk of the caller's, such as a simulated one.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn on(
        backend: impl StorageBackend,
        schema: &Arc<Schema>,
        options: StoreOptions,
    ) -> Result<(Self, Recovered), StoreError> {
        Self::open_at(&Place::Disk, Arc::new(backend), schema, options)
    }

    fn open_at(
        place: &Place,
        disk: Arc<dyn StorageBackend>,
        schema: &Arc<Schema>,
        options: StoreOptions,
    ) -> Result<(Self, Recovered), StoreError> {
        let name = place.name();
        let of = |error| StoreError::io(&*name, error);
        if is_blank(&*disk).map_err(of)? {
            disk.set_len(0).map_err(of)?;
            return Self::begin_at(place, disk, schema, options);
        }
        let survey = Survey::of(&disk).map_err(|error| unreadable(&name, error))?;
        if survey.fresh {
            return Self::begin_at(place, disk, schema, options);
        }
        let verdict = judge(&name, &survey, schema)?;
        Self::go_on((place, disk), options, &survey, verdict)
    }

    /// Begins a history. A new epoch that was asked for begins with it.
    fn begin_at(
        place: &Place,
        disk: Arc<dyn StorageBackend>,
        schema: &Arc<Schema>,
        options: StoreOptions,
    ) -> Result<(Self, Recovered), StoreError> {
        let begun = Self::begin(place.name(), disk, schema, options)?;
        if let Place::File(path) = place
            && file::asks_for_epoch(path)
        {
            file::has_epoch(path)?;
        }
        Ok(begun)
    }

    /// Goes on with what a disk has.
    fn go_on(
        (place, disk): (&Place, Arc<dyn StorageBackend>),
        options: StoreOptions,
        survey: &Survey,
        verdict: Verdict,
    ) -> Result<(Self, Recovered), StoreError> {
        let mut notes = Vec::new();
        let rewritten = verdict.cut.is_some() || verdict.mended.is_some();
        let (mut inner, beside) = if rewritten {
            rewrite(place, disk, options, survey, &verdict)?
        } else {
            let inner = Inner::new((place.name(), disk), options, &verdict);
            (inner, None)
        };
        if verdict.history.relaxed {
            notes.push(
                "it was not closed in order while batches were told of before they were on disk: the \
                 last of them may be lost"
                    .to_owned(),
            );
        }
        notes.extend(verdict.cut.clone());
        if let Some(mended) = verdict.mended {
            notes.push(format!("what is damaged was left out: {mended}"));
        }
        let relaxed = options.durability != Durability::Sync;
        let mut epoch = Epoch(verdict.history.epoch);
        let (mut base, mut deltas) = (verdict.base, verdict.deltas);
        let asked = match place {
            Place::File(path) => Some(path).filter(|path| file::asks_for_epoch(path)),
            Place::Disk => None,
        };
        if verdict.cut.is_some() || verdict.history.relaxed || asked.is_some() {
            epoch = options.new_epoch();
            notes.push(format!("it goes on in a new epoch, {epoch}"));
            (base, deltas) = (Base::of(&verdict.restored), Vec::new());
            inner.begin_epoch(epoch, (&verdict.restored, verdict.digest), relaxed)?;
        } else {
            inner.set_relaxed(relaxed)?;
        }
        if let (Place::File(path), Some(new)) = (place, beside) {
            let aside = file::replace(path, &new)?;
            notes.push(format!("the file as it was is {}", aside.display()));
        }
        if let Some(path) = asked {
            file::has_epoch(path)?;
        }
        let recovered = Recovered {
            epoch,
            position: Some(inner.position()),
            notes,
            restored: verdict.restored,
            base,
            deltas,
            keys: keyed(verdict.keys, epoch),
        };
        Ok((Self::of(inner), recovered))
    }

    /// Begins a history on an empty disk.
    fn begin(
        name: String,
        disk: Arc<dyn StorageBackend>,
        schema: &Arc<Schema>,
        options: StoreOptions,
    ) -> Result<(Self, Recovered), StoreError> {
        let epoch = options.new_epoch();
        let restored = Machine::with_schema(Arc::clone(schema)).checkpoint();
        let verdict = Verdict {
            history: HistoryRow {
                epoch: epoch.0,
                schema: schema.name().to_owned(),
                fingerprint: schema.fingerprint().0,
                states: crate::schema::as_index(schema.len()),
                relaxed: options.durability != Durability::Sync,
            },
            head: HeadRow {
                queue_tick: restored.queue_tick,
                ..HeadRow::default()
            },
            restored,
            digest: 0,
            base: Base::default(),
            deltas: Vec::new(),
            keys: Vec::new(),
            checkpoints: vec![0],
            bytes: 0,
            keys_rows: Vec::new(),
            cut: None,
            mended: None,
        };
        let mut inner = Inner::new((name, disk), options, &verdict);
        inner.write_all(|write| {
            let row = CheckpointRow::of(&verdict.restored, 0);
            let (row, _) = seal(&0_u64.to_le_bytes(), 0, &row).map_err(unwritable)?;
            write.open_table(CHECKPOINTS)?.insert(0, &row[..])?;
            write.open_table(JOURNAL)?;
            write.open_table(KEYS)?;
            Ok(())
        })?;
        let recovered = Recovered {
            epoch,
            position: None,
            notes: Vec::new(),
            restored: verdict.restored,
            base: Base::default(),
            deltas: Vec::new(),
            keys: Vec::new(),
        };
        Ok((Self::of(inner), recovered))
    }

    fn of(inner: Inner) -> Self {
        let stats = inner.stats.clone();
        stats.now().position = Some(inner.position());
        Self {
            options: inner.options,
            wants_checkpoint: inner.wants_checkpoint(),
            inner: Arc::new(Mutex::new(inner)),
            stats,
            late: JoinSet::new(),
            timed: Arc::default(),
        }
    }

    /// Keeps a batch, and blocks the thread until it is. A batch that there is no room for can be tried
    /// again.
    ///
    /// # Errors
    ///
    /// If it is not kept, see [`StoreError::is_full`].
    pub fn commit_now(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut inner = lock(&self.inner);
        let committed = inner.commit(batch);
        self.wants_checkpoint = inner.wants_checkpoint();
        committed
    }

    /// Writes what is not on disk yet, notes that this was an end in order, and closes the file. Blocks
    /// the thread.
    ///
    /// # Errors
    ///
    /// If it could not.
    pub fn close(self) -> Result<(), StoreError> {
        lock(&self.inner).close()
    }

    /// How it is doing, now and later.
    pub fn stats(&self) -> StoreStats {
        self.stats.clone()
    }

    /// Writes what is pending, and waits for room where there is none.
    async fn flush(inner: &Arc<Mutex<Inner>>, stats: &StoreStats) -> Result<(), StoreError> {
        let [mut pause, most] = PAUSE;
        loop {
            let flushed = blocking(inner, Inner::flush).await;
            match flushed {
                Err(error) if error.is_full() => {
                    let waiting = error.to_string();
                    let mut now = stats.now();
                    if now.waiting_for_room.is_none() {
                        tracing::error!(error = %waiting, "writes wait for room on the disk");
                    }
                    now.waiting_for_room = Some(waiting);
                }
                flushed => {
                    if stats.now().waiting_for_room.take().is_some() && flushed.is_ok() {
                        tracing::info!("there is room on the disk, and writes go on");
                    }
                    return flushed;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    /// Sees to it that what is pending is written in time.
    fn write_late(&mut self, within: Duration) {
        while self.late.try_join_next().is_some() {}
        if self.timed.swap(true, Ordering::AcqRel) {
            return;
        }
        let (inner, stats) = (Arc::clone(&self.inner), self.stats.clone());
        let timed = Arc::clone(&self.timed);
        self.late.spawn(async move {
            loop {
                sleep(within).await;
                let flushed = Self::flush(&inner, &stats).await;
                let mut inner = lock(&inner);
                let failed = flushed.is_err();
                if let Err(error) = flushed {
                    inner.fail(error);
                }
                // Whatever came while it was written is waited for, too. Under the lock: what comes later
                // finds that nobody does.
                if failed || !inner.is_late() {
                    timed.store(false, Ordering::Release);
                    return;
                }
            }
        });
    }
}

impl Journal for Store {
    const KEEPS: bool = true;

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        let durability = self.options.durability;
        let append = move |inner: &mut Inner| {
            inner.append(&batch)?;
            // One trip to a thread that may block is enough where there is room.
            let flushed = match durability {
                Durability::Sync => inner.flush(),
                Durability::Relaxed(_) => Ok(()),
            };
            match flushed {
                Err(error) if !error.is_full() => Err(error),
                _ => Ok((inner.is_due() && inner.is_late(), inner.wants_checkpoint())),
            }
        };
        let appended = match durability {
            Durability::Relaxed(_) => here(&self.inner, append),
            Durability::Sync => Err(append),
        };
        let appended = match appended {
            Ok(appended) => appended,
            Err(append) => blocking(&self.inner, append).await,
        };
        let (due, wants_checkpoint) = appended.map_err(JournalError::new)?;
        self.wants_checkpoint = wants_checkpoint;
        if due {
            let flushed = Self::flush(&self.inner, &self.stats).await;
            flushed.map_err(JournalError::new)?;
        } else if let Durability::Relaxed(within) = durability {
            self.write_late(within);
        }
        Ok(())
    }

    fn wants_checkpoint(&self) -> bool {
        self.wants_checkpoint
    }

    async fn end(&mut self) -> Result<(), JournalError> {
        self.late.shutdown().await;
        let closed = blocking(&self.inner, Inner::close).await;
        closed.map_err(JournalError::new)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Writes all that is whole to another file, and returns that; on a disk of somebody else's to the disk
/// itself.
fn rewrite(
    place: &Place,
    disk: Arc<dyn StorageBackend>,
    options: StoreOptions,
    survey: &Survey,
    verdict: &Verdict,
) -> Result<(Inner, Option<PathBuf>), StoreError> {
    let name = place.name();
    let (disk, new) = match place {
        Place::File(path) => {
            let (new, disk) = file::beside(path)?;
            (disk, Some(new))
        }
        Place::Disk => {
            let emptied = disk.set_len(0);
            emptied.map_err(|error| StoreError::io(&*name, error))?;
            (disk, None)
        }
    };
    let mut inner = Inner::new((name, disk), options, verdict);
    inner.write_all(|write| {
        let whole = |number: u64| number <= verdict.head.batch;
        let tables = [
            (JOURNAL, &survey.journal),
            (CHECKPOINTS, &survey.checkpoints),
            (KEYS, &survey.keys),
        ];
        for (definition, rows) in tables {
            let mut table = write.open_table(definition)?;
            for (number, bytes) in rows.rows.iter().filter(|(number, _)| whole(*number)) {
                if definition.name() == CHECKPOINTS.name() && !verdict.checkpoints.contains(number)
                {
                    continue;
                }
                table.insert(number, &bytes[..])?;
            }
        }
        Ok(())
    })?;
    Ok((inner, new))
}

/// A file of which nothing can be read.
fn unreadable(place: &str, error: redb::Error) -> StoreError {
    match StoreError::of(place, error) {
        StoreError::Database { place, error } => StoreError::Corrupt {
            place,
            what: error.to_string(),
            whole: "none of it can be read".to_owned(),
        },
        error => error,
    }
}

/// Does something with a store at once, if no other thread does.
fn here<T, F: FnOnce(&mut Inner) -> T>(inner: &Mutex<Inner>, work: F) -> Result<T, F> {
    match inner.try_lock() {
        Ok(mut inner) => Ok(work(&mut inner)),
        Err(_taken) => Err(work),
    }
}

/// Does something with a store on a thread that may block.
async fn blocking<T: Send + 'static>(
    inner: &Arc<Mutex<Inner>>,
    work: impl FnOnce(&mut Inner) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let held = Arc::clone(inner);
    let done = spawn_blocking(move || work(&mut lock(&held))).await;
    done.unwrap_or_else(|error| {
        // The runtime ends, or the database panicked.
        let error = std::io::Error::other(error);
        let error = StoreError::io(lock(inner).place.clone(), error);
        lock(inner).fail(StoreError::io(
            error.to_string(),
            std::io::ErrorKind::Other.into(),
        ));
        Err(error)
    })
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    // If the database panicked, its batch was not kept, and it refuses all later ones.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}
