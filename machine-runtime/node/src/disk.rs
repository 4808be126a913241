//! Where a root keeps its history, and how that goes.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use machine_runtime::durable::{
    Durability, Recovered, Store, StoreError, StoreOptions, StoreStats,
};
use machine_runtime::observe::{Histogram, HistogramRead};
use machine_runtime::{Batch, Journal, JournalError, Position, Schema};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// Bounds for what takes a sync of a disk.
static BOUNDS: [Duration; 15] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(10),
];

/// A history cannot be opened, or not be kept any more. The exit code tells it apart.
#[derive(Debug)]
pub struct Unkept(Box<dyn Error + Send + Sync>);

impl Unkept {
    /// Whether the history is there and cannot be gone on with as it is: damaged, or of another program or
    /// schema. Starting again does not help then.
    pub fn needs_a_person(&self) -> bool {
        let Self(error) = self;
        let store = error.downcast_ref::<StoreError>();
        matches!(
            store,
            Some(
                StoreError::Corrupt { .. }
                    | StoreError::Diverged { .. }
                    | StoreError::OtherSchema { .. }
                    | StoreError::NewerFormat { .. }
            )
        )
    }

    /// What a journal said.
    pub(crate) fn new(error: JournalError) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Unkept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        write!(f, "{error}")?;
        let store = error.downcast_ref::<StoreError>();
        let journal = error.downcast_ref::<JournalError>();
        // What the others mean is said with what to do.
        match store.or_else(|| journal?.downcast_ref()) {
            Some(StoreError::Locked { .. }) => {
                f.write_str("; end that one, or give this node a directory of its own")
            }
            Some(StoreError::Full { .. }) => f.write_str("; make room there, and start it again"),
            Some(StoreError::Io { .. } | StoreError::Database { .. }) => f.write_str(
                "; see that the directory can be written to and that the disk is well, and start it again: \
                 what was acknowledged is there",
            ),
            _ => Ok(()),
        }
    }
}

impl Error for Unkept {}

/// A history that has been opened, and waits for its root.
#[derive(Debug)]
pub struct Opened {
    pub(crate) kept: Kept<Store>,
    pub(crate) recovered: Recovered,
}

impl Opened {
    /// Opens the history of a machine with this schema in a folder, and begins one where there is none.
    ///
    /// # Errors
    ///
    /// [`Unkept`], as [`Store::open`].
    ///
    /// # Panics
    ///
    /// If opening it does.
    pub async fn open(
        dir: &Path,
        schema: &Arc<Schema>,
        durability: Durability,
    ) -> Result<Self, Unkept> {
        let mut options = StoreOptions::default();
        options.durability = durability;
        let (path, schema) = (dir.to_owned(), Arc::clone(schema));
        let opened = spawn_blocking(move || Store::open(&path, &schema, options)).await;
        let opened = opened.expect("opening a history does not panic");
        let (store, recovered) = opened.map_err(|error| Unkept(Box::new(error)))?;
        let disk = Disk::new(dir, durability, store.stats());
        let kept = Kept {
            journal: store,
            disk,
        };
        Ok(Self { kept, recovered })
    }

    /// What whoever runs the node has to know of it.
    pub fn notes(&self) -> &[String] {
        &self.recovered.notes
    }

    /// Where it stands, if it did not begin just now.
    pub fn position(&self) -> Option<Position> {
        self.recovered.position
    }

    /// How it goes, now and later.
    pub fn disk(&self) -> &Disk {
        &self.kept.disk
    }
}

/// How it goes with the history that a root keeps. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Disk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    durability: Durability,
    stats: StoreStats,
    times: Histogram,
    /// Since when it is at a batch.
    since: Mutex<Option<Instant>>,
}

impl Disk {
    fn new(dir: &Path, durability: Durability, stats: StoreStats) -> Self {
        Self {
            inner: Arc::new(Inner {
                dir: dir.to_owned(),
                durability,
                stats,
                times: Histogram::new(&BOUNDS),
                since: Mutex::default(),
            }),
        }
    }

    /// The folder that it is in.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// When something counts as kept.
    pub fn durability(&self) -> Durability {
        self.inner.durability
    }

    /// What the store says of itself.
    pub fn stats(&self) -> &StoreStats {
        &self.inner.stats
    }

    /// For how long the batch has been written that is written now.
    pub fn committing(&self) -> Option<Duration> {
        self.since().map(|since| since.elapsed())
    }

    /// Why nothing is kept at the moment, if that is so for longer than `patience` or for lack of room.
    pub fn why_stuck(&self, patience: Duration) -> Option<String> {
        if let Some(why) = self.inner.stats.waiting_for_room() {
            return Some(format!("writes wait for room on the disk: {why}"));
        }
        let committing = self.committing().filter(|time| *time > patience)?;
        let seconds = committing.as_secs_f64();
        Some(format!("the disk has been at one batch for {seconds:.1} s"))
    }

    /// How long it took to keep batches; of a root without a disk, nothing.
    pub(crate) fn times(disk: Option<&Self>) -> HistogramRead {
        match disk {
            Some(disk) => disk.inner.times.read(),
            None => Histogram::new(&BOUNDS).read(),
        }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        let since = self.inner.since.lock();
        since.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A journal whose work is timed.
#[derive(Debug)]
pub(crate) struct Kept<J> {
    journal: J,
    pub(crate) disk: Disk,
}

impl<J: Journal> Journal for Kept<J> {
    const KEEPS: bool = J::KEEPS;

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        let began = Instant::now();
        *self.disk.since() = Some(began);
        let kept = self.journal.commit(batch).await;
        *self.disk.since() = None;
        self.disk.inner.times.observe(began.elapsed());
        kept
    }

    fn wants_checkpoint(&self) -> bool {
        self.journal.wants_checkpoint()
    }

    async fn end(&mut self) -> Result<(), JournalError> {
        self.journal.end().await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use machine_runtime::durable::InMemoryBackend;
    use machine_runtime::{Machine, Owner, States as _, ViewOptions};
    use tokio::time::sleep;

    use super::*;
    use crate::fixture::Flights;
    use crate::shutdown::Tasks;
    use crate::vitals::Vitals;

    /// A disk that never answers.
    #[derive(Debug)]
    struct Hangs;

    impl Journal for Hangs {
        const KEEPS: bool = true;

        async fn commit(&mut self, _: Batch) -> Result<(), JournalError> {
            pending().await
        }

        fn wants_checkpoint(&self) -> bool {
            false
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_whose_disk_hangs_is_not_ready_and_no_restart_would_mend_it() {
        let options = StoreOptions::default();
        let opened = Store::on(InMemoryBackend::new(), Flights::schema(), options);
        let (store, recovered) = opened.unwrap();
        let disk = Disk::new(Path::new("x"), Durability::Sync, store.stats());
        let kept = Kept {
            journal: Hangs,
            disk: disk.clone(),
        };
        let machine = Machine::<Flights>::new();
        let (handle, owner) = Owner::durable(machine, recovered, kept, ViewOptions::default());
        let (tasks, vitals) = (Tasks::default(), Vitals::new(Some(disk.clone())));
        tasks.spawn_until_stopped(async move {
            let ended = owner.run_durable(pending()).await;
            assert!(ended.is_err());
        });
        let view = handle.view().untyped();
        vitals.watch(&handle.untyped(), &tasks);
        assert_eq!(vitals.why_not_ready(&view, None), None);
        tasks.spawn_until_stopped(async move {
            let _ = handle.add(Flights::Start).await;
        });
        sleep(view.stale_after()).await;
        assert_eq!(vitals.why_not_ready(&view, None), None);
        sleep(Duration::from_mins(2)).await;
        let why = vitals.why_not_ready(&view, None).unwrap();
        assert!(
            why.starts_with("the disk has been at one batch for 12"),
            "{why}"
        );
        assert!(disk.committing().unwrap() > Duration::from_mins(2));
        assert_eq!(vitals.why_dead(), None);
        tasks.stop();
    }
}
