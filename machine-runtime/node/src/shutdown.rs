//! Stopping: who is told, who is waited for, and for how long.

use std::future::Future;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks may take to end once they are told to.
pub const PATIENCE: Duration = Duration::from_millis(700);

/// The tasks of a program, which are told to stop together and waited for.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    panicked: CancellationToken,
    failed: CancellationToken,
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Tasks {
    /// Runs `task` beside the others. It should end soon after [`Tasks::stopped`] resolves.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = self.tracker.spawn(task);
        let panicked = self.panicked.clone();
        self.tracker.spawn(async move {
            if task.await.is_err() {
                panicked.cancel();
            }
        });
    }

    /// Notes that the program cannot go on, and why. The first reason counts.
    pub fn fail(&self, error: anyhow::Error) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.failed.cancel();
    }

    /// Why the program cannot go on, if a task has said so and nobody has taken it yet.
    pub fn take_failure(&self) -> Option<anyhow::Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Resolves with the reason once a task has said that the program cannot go on. One who waits gets it.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the reason is there for the next one.
    pub async fn failed(&self) -> anyhow::Error {
        self.failed.cancelled().await;
        match self.take_failure() {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Resolves once a task has panicked: without it the program is not whole.
    pub fn panicked(&self) -> impl Future<Output = ()> + Send + 'static {
        self.panicked.clone().cancelled_owned()
    }

    /// Runs `task` until it ends or everybody is told to stop; then it is dropped.
    pub fn spawn_until_stopped<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopped = self.stopped();
        self.spawn(async move {
            tokio::select! {
                () = stopped => {}
                () = task => {}
            }
        });
    }

    /// Resolves once everybody is told to stop.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// Whether everybody is told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells everybody to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Tells everybody to stop and waits until all have, for `patience` at most. Returns how
    /// many tasks did not end.
    pub async fn finish(&self, patience: Duration) -> usize {
        self.stop();
        self.tracker.close();
        // Whether it timed out shows in what is left.
        let _ = tokio::time::timeout(patience, self.tracker.wait()).await;
        self.tracker.len()
    }
}

/// The signals that ask a program to stop.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on, instead of dying of them.
    ///
    /// # Errors
    ///
    /// If the operating system does not let us.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one that does not come within `pause` from now.
    pub async fn next_after(&mut self, pause: Duration) {
        let end = tokio::time::Instant::now() + pause;
        loop {
            self.next().await;
            if tokio::time::Instant::now() >= end {
                return;
            }
        }
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    ///
    /// A signal that comes while nobody waits is seen by the next call.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits for the end of standard input, on a thread that the runtime does not wait for.
pub async fn input_ends() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
        // Nobody may be waiting any more.
        let _ = ended.send(());
    });
    // An error is an end as well.
    let _ = end.await;
}
