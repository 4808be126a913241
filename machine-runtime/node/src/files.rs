//! Files that a node goes by and that others write: certificates, keys, who may do what.
//!
//! Whoever reads such files notes what is in them first, and then has itself called whenever that changes:
//!
//! ```no_run
//! # fn example(tasks: &machine_node::shutdown::Tasks) -> anyhow::Result<()> {
//! use machine_node::files::Watch;
//!
//! let path = std::path::PathBuf::from("access.toml");
//! let watch = Watch::new("access", vec![path.clone()]);
//! let text = std::fs::read_to_string(&path)?;
//! // … what is made of it, and then:
//! let reloads = watch.run_on(tasks, move || {
//!     let text = std::fs::read_to_string(&path)?;
//!     // … swapped in whole, or an error and all stays as it was.
//!     Ok(())
//! });
//! # drop((text, reloads));
//! # Ok(())
//! # }
//! ```

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::shutdown::Tasks;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// For how long files that have changed have to be at rest before they are read.
const SETTLE: Duration = Duration::from_millis(50);

/// How long after files could not be used they are read again, though they are the same.
const AGAIN: Duration = Duration::from_mins(1);

/// For how many times that it is waited for.
const MOST_SETTLES: u32 = 10;

/// Files whose content was noted, to be looked at again. A file is what its path leads to, so one that is
/// renamed into place, and a link that is turned elsewhere, are changes as well.
#[derive(Debug)]
pub struct Watch {
    what: &'static str,
    paths: Vec<PathBuf>,
    content: u64,
    /// Since when what is there now cannot be used.
    failed: Option<Instant>,
    reloads: Reloads,
}

impl Watch {
    /// Notes what is in the files at `paths` now. `what` they are is said in logs and counted by.
    pub fn new(what: &'static str, paths: Vec<PathBuf>) -> Self {
        let content = content(&paths);
        Self {
            what,
            paths,
            content,
            failed: None,
            reloads: Reloads {
                what,
                counts: Arc::default(),
            },
        }
    }

    /// Looks at the files each second, and at `SIGHUP`, until `tasks` are stopped; whatever changed since
    /// they were noted has `on_change` called. It reads them itself, on a thread where that may take its
    /// time. An error is logged and counted, and `on_change` is called again once the files are others, at the
    /// next `SIGHUP`, and after a minute.
    pub fn run_on(
        self,
        tasks: &Tasks,
        on_change: impl FnMut() -> anyhow::Result<()> + Send + 'static,
    ) -> Reloads {
        let reloads = self.reloads.clone();
        let hangup = hangup();
        tasks.spawn_until_stopped(self.run(hangup, on_change));
        reloads
    }

    async fn run<F>(mut self, mut hangup: Option<Signal>, mut on_change: F)
    where
        F: FnMut() -> anyhow::Result<()> + Send + 'static,
    {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = look.tick() => false,
                () = next(&mut hangup) => true,
            };
            // Files that belong together are not written together: they have to come to rest.
            let mut content = self.read().await;
            let is_due = |failed: Instant| asked || failed.elapsed() >= AGAIN;
            if content == self.content && !self.failed.is_some_and(is_due) {
                continue;
            }
            for _ in 0..MOST_SETTLES {
                sleep(SETTLE).await;
                let before = content;
                content = self.read().await;
                if content == before {
                    break;
                }
            }
            self.content = content;
            let called = aside(move || (on_change(), on_change));
            let done;
            (done, on_change) = called.await;
            self.failed = done.is_err().then(Instant::now);
            self.tell(done);
        }
    }

    async fn read(&self) -> u64 {
        let paths = self.paths.clone();
        aside(move || content(&paths)).await
    }

    fn tell(&self, done: anyhow::Result<()>) {
        let what = self.what;
        self.reloads.count(done.is_ok());
        match done {
            Ok(()) => tracing::info!("the files of {what} have changed and hold from now on"),
            Err(error) => tracing::error!(
                "the files of {what} have changed and cannot be used, what was before holds: {error:#}"
            ),
        }
    }
}

/// Does `work` on a thread of its own: a file system may keep a reader waiting, and a node has one thread.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// How often files were read again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloads {
    what: &'static str,
    counts: Arc<[AtomicU64; 2]>,
}

impl Reloads {
    /// What the files are.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// How often they held from then on, and how often they could not be used.
    pub fn read(&self) -> [(&'static str, u64); 2] {
        let [done, failed] = &*self.counts;
        [("done", done), ("failed", failed)]
            .map(|(result, count)| (result, count.load(Ordering::Relaxed)))
    }

    fn count(&self, done: bool) {
        self.counts[usize::from(!done)].fetch_add(1, Ordering::Relaxed);
    }
}

/// Has `SIGHUP` end this process no more: a service manager sends it for a reload, which is no end where
/// no file is looked at either.
pub fn outlive_hangups() {
    // Once listened for it is never again what it was.
    drop(hangup());
}

/// Listens for `SIGHUP`, if the operating system lets us; files are looked at each second anyway.
fn hangup() -> Option<Signal> {
    let listening = signal(SignalKind::hangup());
    let listening = listening.inspect_err(|error| tracing::warn!(%error, "SIGHUP goes unheard"));
    listening.ok()
}

async fn next(hangup: &mut Option<Signal>) {
    match hangup {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// A hash of what is in the files and of who may do what with them, or of why it cannot be read.
fn content(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        let read = std::fs::metadata(path).and_then(|file| Ok((file.mode(), std::fs::read(path)?)));
        match read {
            Ok(read) => (0_u8, read).hash(&mut hasher),
            Err(error) => (1_u8, error.kind()).hash(&mut hasher),
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::time::timeout;

    use super::*;

    /// What the documentation says that it takes at most. Time stands still here while anything is done.
    const PROMISED: Duration = Duration::from_secs(2);

    async fn within_promised(told: &mut UnboundedReceiver<String>) -> String {
        let told = timeout(PROMISED, told.recv()).await;
        told.expect("it takes longer").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_and_one_that_cannot_be_used_is_counted() {
        let dir = std::env::temp_dir().join(format!("node-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (path, other) = (dir.join("a"), dir.join("b"));
        std::fs::write(&path, "1").unwrap();
        let watch = Watch::new("test", vec![path.clone(), other.clone()]);
        // What changes while it is read for the first time is not overlooked.
        std::fs::write(&path, "2").unwrap();
        let (tell, mut told) = unbounded_channel();
        let tasks = Tasks::default();
        let read = path.clone();
        let reloads = watch.run_on(&tasks, move || {
            let text = std::fs::read_to_string(&read)?;
            tell.send(text.clone()).unwrap();
            anyhow::ensure!(text != "bad", "it is bad");
            Ok(())
        });
        assert_eq!(within_promised(&mut told).await, "2");
        std::fs::write(&path, "bad").unwrap();
        assert_eq!(within_promised(&mut told).await, "bad");
        // It is not forgotten, and what kept us from reading it may have passed.
        assert!(timeout(AGAIN / 2, told.recv()).await.is_err());
        assert_eq!(timeout(AGAIN, told.recv()).await.unwrap().unwrap(), "bad");
        std::fs::write(&path, "3").unwrap();
        assert_eq!(within_promised(&mut told).await, "3");
        // A file that was not there is one as well.
        std::fs::write(&other, "").unwrap();
        assert_eq!(within_promised(&mut told).await, "3");
        sleep(2 * AGAIN).await;
        assert!(told.try_recv().is_err());
        assert_eq!(reloads.read(), [("done", 3), ("failed", 2)]);
        assert_eq!(tasks.finish(Duration::from_secs(5)).await, 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
