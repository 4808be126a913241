//! Recording: each node of a process into files of its own, nothing left out.
//!
//! A file begins with who tells, the machine, and all there is of it; then comes each transition. Where
//! frames cannot be written, recording stops, and the node goes on.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::file::Format;
use super::frame::{Body, Line, PROCESS};
use super::link::LINES;
use super::subject::{Subject, cut};
use super::teller::{Clocks, Teller, interest};
use files::{Files, Stopped};

mod files;
mod writer;

/// How many events of a machine may wait to be written before the machine waits for them.
const BACKLOG: usize = 8192;

/// How long a machine may take to end when recording does.
const LAST: Duration = Duration::from_millis(300);

/// Where recordings go, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecordOptions {
    /// The folder. It is made if it is missing.
    pub dir: PathBuf,
    /// What files are made of.
    pub format: Format,
    /// How many bytes a file has about, until there is another.
    pub size: u64,
    /// After what time there is another.
    pub every: Duration,
    /// How many files of each node are kept; 0 keeps all.
    pub keep: usize,
    /// How often what there is so far is written.
    pub flush: Duration,
}

impl RecordOptions {
    /// Binary files of 64 MiB or an hour in `dir`, all of which are kept.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            format: Format::Binary,
            size: 64 << 20,
            every: Duration::from_hours(1),
            keep: 0,
            flush: Duration::from_secs(1),
        }
    }
}

/// Records the nodes of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    program: String,
    options: RecordOptions,
    clocks: Clocks,
    known: Mutex<Known>,
    added: Notify,
    /// How many nodes are recorded.
    on: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    new: Vec<(Subject, Waiting)>,
    lines: BTreeMap<String, Lines>,
    /// The node that gets lines of none.
    first: Option<String>,
}

/// Where lines of one node go.
#[derive(Clone, Debug)]
struct Lines {
    to: mpsc::Sender<Line>,
    lost: Arc<AtomicU64>,
}

/// The lines of one node that are to be recorded.
#[derive(Debug)]
struct Waiting {
    lines: mpsc::Receiver<Line>,
    /// How many found no room, as far as that was not recorded.
    lost: Arc<AtomicU64>,
}

impl Waiting {
    /// Records a line, and how many were lost up to now.
    async fn push(&self, line: Line, clocks: Clocks, files: &mut Files) -> Result<(), Stopped> {
        let now = clocks.now();
        files.push(now, PROCESS, Body::Log(line)).await?;
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            files.push(now, PROCESS, Body::Dropped(lost)).await?;
        }
        Ok(())
    }
}

impl Recorder {
    /// For a program that says of itself what and which version it is.
    ///
    /// # Errors
    ///
    /// If there is no such folder and it cannot be made.
    pub fn new(program: impl Into<String>, options: RecordOptions) -> io::Result<Self> {
        std::fs::create_dir_all(&options.dir)?;
        Ok(Self {
            shared: Arc::new(Shared {
                program: program.into(),
                options,
                clocks: Clocks::new(),
                known: Mutex::default(),
                added: Notify::new(),
                on: AtomicUsize::new(0),
            }),
        })
    }

    /// Records a node from now on.
    pub fn add(&self, subject: Subject) {
        let (to, lines) = mpsc::channel(LINES);
        let lost = Arc::<AtomicU64>::default();
        let waiting = Waiting {
            lines,
            lost: Arc::clone(&lost),
        };
        let mut known = self.shared.known();
        let name = subject.name().to_owned();
        known.first.get_or_insert_with(|| name.clone());
        known.lines.insert(name, Lines { to, lost });
        known.new.push((subject, waiting));
        drop(known);
        self.shared.added.notify_one();
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.shared.on.load(Ordering::Relaxed) > 0
    }

    /// Records a line that was logged, of the node of this name if it is of one. It never waits: what
    /// finds no room is left out and counted.
    pub fn log(&self, node: Option<&str>, line: Line) {
        if !self.is_on() {
            return;
        }
        let known = self.shared.known();
        let first = known.first.as_deref();
        let of = node
            .filter(|node| known.lines.contains_key(*node))
            .or(first);
        let Some(lines) = of.and_then(|of| known.lines.get(of)).cloned() else {
            return;
        };
        drop(known);
        let text = cut(line.text);
        if lines.to.try_send(Line { text, ..line }).is_err() {
            lines.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records until `stop` resolves, and then what comes until the nodes have ended.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let (stopping, _) = watch::channel(false);
        let mut nodes = JoinSet::new();
        loop {
            let new = std::mem::take(&mut self.shared.known().new);
            for (subject, waiting) in new {
                let shared = Arc::clone(&self.shared);
                shared.on.fetch_add(1, Ordering::Relaxed);
                nodes.spawn(record(shared, subject, waiting, stopping.subscribe()));
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.shared.added.notified() => {}
                Some(ended) = nodes.join_next() => note(ended),
            }
        }
        stopping.send_replace(true);
        while let Some(ended) = nodes.join_next().await {
            note(ended);
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Only an exhausted memory could panic under it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says so if a node is not recorded any more as there is a mistake in here.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a node is not recorded any more: {error}");
    }
}

/// Counts a node as recorded until it drops.
struct On(Arc<Shared>);

impl Drop for On {
    fn drop(&mut self) {
        self.0.on.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn record(
    shared: Arc<Shared>,
    subject: Subject,
    waiting: Waiting,
    stopping: watch::Receiver<bool>,
) {
    let on = On(Arc::clone(&shared));
    let name = subject.name().to_owned();
    let mut files = Files::start(&shared.program, &subject, &shared.options, shared.clocks);
    let recorded = record_all(&shared, subject, waiting, stopping, &mut files).await;
    drop(on);
    let ended = files.end().await;
    if let Err(error) = ended {
        let node = name.as_str();
        tracing::error!(node, "recording has stopped, and the node goes on: {error}");
    } else if recorded.is_err() {
        let node = name.as_str();
        tracing::error!(node, "recording has stopped, and the node goes on");
    }
}

async fn record_all(
    shared: &Shared,
    subject: Subject,
    mut waiting: Waiting,
    mut stopping: watch::Receiver<bool>,
    files: &mut Files,
) -> Result<(), Stopped> {
    let clocks = shared.clocks;
    let observer = subject
        .observers()
        .attach_lossless("recorder", interest(), BACKLOG);
    let mut positions = subject.handle().view().positions();
    let mut teller = Teller::new(subject, observer, clocks, usize::MAX);
    let mut flush = interval(shared.options.flush);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What the node tells while it ends is recorded as well, for a while.
    let mut end = None;
    loop {
        tokio::select! {
            (at, body) = teller.next() => files.push(at, 1, body).await?,
            Some(line) = waiting.lines.recv() => waiting.push(line, clocks, files).await?,
            _ = flush.tick() => {
                files.flush().await?;
                if files.is_next_due() {
                    teller.want_key();
                }
            }
            () = async { drop(stopping.wait_for(|stopping| *stopping).await) }, if end.is_none() => {
                end = Some(Instant::now() + LAST);
            }
            // Once it is closed there is nothing more to come.
            changed = positions.changed(), if end.is_some() => if changed.is_err() {
                break;
            },
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
        }
    }
    while let Ok(line) = waiting.lines.try_recv() {
        waiting.push(line, clocks, files).await?;
    }
    for (at, body) in teller.rest() {
        files.push(at, 1, body).await?;
    }
    files.push(clocks.now(), 1, Body::Gone).await
}
