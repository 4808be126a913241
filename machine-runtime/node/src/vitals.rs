//! Whether a node is alive, whether it is ready, and whether it is leaving.
//!
//! * *Alive*: its parts turn. Where one does not, a restart helps, and nothing else does.
//! * *Ready*: what it shows is fresh, and what is sent to it gets on. A restart would not help.
//! * *Leaving*: it has been told to stop, and sends everybody elsewhere.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use machine_runtime::replica::{Link, LinkState};
use machine_runtime::{DynState, Handle, View};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::shutdown::Tasks;

/// How often a machine is asked whether it still answers.
const ASK: Duration = Duration::from_secs(1);

/// How long it may take: longer than a handler may, and everything that waits before.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How a node is. Cheap to clone; all clones are of the same node.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    leaving: CancellationToken,
    disk: Option<Disk>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The parts that have ended though nobody told them to.
    ended: Vec<&'static str>,
    /// Since when the machine owes an answer.
    asked: Option<Instant>,
}

impl Vitals {
    /// Of a node that keeps its history, if it is a root that does.
    pub fn new(disk: Option<Disk>) -> Self {
        let inner = Inner {
            disk,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Where the node keeps its history, if it does.
    pub fn disk(&self) -> Option<&Disk> {
        self.inner.disk.as_ref()
    }

    /// Has the node leave: it is not ready any more, and whoever waits on it is sent away.
    pub(crate) fn leave(&self) {
        self.inner.leaving.cancel();
    }

    /// Ends once the node leaves.
    pub(crate) fn leaving(&self) -> &CancellationToken {
        &self.inner.leaving
    }

    /// Whether the node leaves.
    pub fn is_leaving(&self) -> bool {
        self.inner.leaving.is_cancelled()
    }

    /// Runs a part of the node among `tasks`. The node is dead if it ends before they are told to stop.
    pub(crate) fn keep<F>(&self, part: &'static str, tasks: &Tasks, run: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let kept = Part {
            vitals: self.clone(),
            name: part,
            tasks: tasks.clone(),
        };
        tasks.spawn(async move {
            run.await;
            drop(kept);
        });
    }

    /// Asks the machine of `handle` every now and then whether it still answers, until `tasks` are stopped.
    pub(crate) fn watch(&self, handle: &Handle<DynState>, tasks: &Tasks) {
        let (vitals, handle) = (self.clone(), handle.clone());
        tasks.spawn_until_stopped(async move {
            loop {
                vitals.seen().asked = Some(Instant::now());
                // Anything that it has to take its turn for.
                let _ = handle.errors().await;
                vitals.seen().asked = None;
                sleep(ASK).await;
            }
        });
    }

    /// Why the node is not alive, if it is not: what a restart would mend.
    pub fn why_dead(&self) -> Option<String> {
        let seen = self.seen();
        if let Some(part) = seen.ended.first() {
            return Some(format!("{part} has ended"));
        }
        let waited = seen.asked?.elapsed();
        // One that waits for its disk would wait for it after a restart too.
        if self.disk().is_some_and(|disk| disk.committing().is_some()) {
            return None;
        }
        (waited > ANSWER_WITHIN).then(|| {
            let seconds = waited.as_secs();
            format!("the machine has not answered for {seconds} s")
        })
    }

    /// Why the node that shows `view` is not ready, if it is not.
    pub fn why_not_ready(&self, view: &View<DynState>, link: Option<&Link>) -> Option<String> {
        if self.is_leaving() {
            return Some("the node is about to stop".to_owned());
        }
        let state = link.map(Link::state);
        let Some(state) = state.as_deref() else {
            if view.position().is_none() {
                return Some("nothing to show yet: the machine has not started".to_owned());
            }
            let disk = self.disk();
            return disk.and_then(|disk| disk.why_stuck(view.stale_after()));
        };
        if view.position().is_none() {
            return Some(format!("nothing to show yet: {state}"));
        }
        if view.is_stale() {
            let seconds = view.age().as_secs_f64();
            return Some(format!("no news of the root for {seconds:.1} s: {state}"));
        }
        // It may still be fresh, and will not be for long.
        matches!(state, LinkState::Refused { .. }).then(|| state.to_string())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // What is under it is whole at any time.
        self.inner
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a node while it runs.
struct Part {
    vitals: Vitals,
    name: &'static str,
    tasks: Tasks,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.tasks.is_stopping() {
            self.vitals.seen().ended.push(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use machine_runtime::observe::Observers;
    use machine_runtime::{Epoch, Machine, Owner, ViewOptions};

    use super::*;
    use crate::fixture::Flights;
    use crate::node::start_machine;

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_answers_is_alive() {
        let (tasks, vitals) = (Tasks::default(), Vitals::default());
        let machine = Machine::<Flights>::new();
        let handle = start_machine(machine, &Observers::new(), &tasks).await;
        vitals.watch(&handle.unwrap().untyped(), &tasks);
        sleep(10 * ANSWER_WITHIN).await;
        assert_eq!(vitals.why_dead(), None);
        tasks.stop();
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_does_not_answer_is_dead_after_a_while() {
        let (tasks, vitals) = (Tasks::default(), Vitals::default());
        let machine = Machine::<Flights>::new();
        let (handle, _never_run) = Owner::new(machine, Epoch(1), ViewOptions::default());
        vitals.watch(&handle.untyped(), &tasks);
        sleep(ANSWER_WITHIN).await;
        assert_eq!(vitals.why_dead(), None);
        sleep(2 * ASK).await;
        let why = "the machine has not answered for 32 s";
        assert_eq!(vitals.why_dead().as_deref(), Some(why));
        tasks.stop();
    }

    #[tokio::test]
    async fn a_part_may_end_once_all_are_told_to() {
        let (tasks, vitals) = (Tasks::default(), Vitals::default());
        vitals.keep("one part", &tasks, tasks.stopped());
        assert_eq!(tasks.finish(Duration::from_mins(1)).await, 0);
        assert_eq!(vitals.why_dead(), None);
        let tasks = Tasks::default();
        vitals.keep("another part", &tasks, async {});
        while vitals.why_dead().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(vitals.why_dead().unwrap(), "another part has ended");
    }
}
