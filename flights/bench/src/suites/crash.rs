//! A durable root that is killed again and again while it is written to: whether all that was
//! acknowledged is there afterwards, once, and nobody was ever shown less than before.
//!
//! The root, two nodes that follow it and three that follow those are processes. Writers post to the
//! nodes of the lowest tier, each over a connection that it keeps, with a key for each write, and
//! again with the same key where there was no answer. All of them write the same: each write takes
//! the root on by one revision. So the positions that writers were given have to be the revisions
//! that there are, each once.

mod account;
mod observers;
mod tree;
mod writers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use machine_runtime::Position;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::account::Account;
use self::tree::{Root, Tree};
use self::writers::{Writer, post};
use crate::BenchArgs;
use crate::report::Report;
use crate::suites::replication::one_thread;
use crate::talk::raise_files;

/// How long anything may take before it counts as not done at all.
const PATIENCE: Duration = Duration::from_mins(2);

/// How many writes a second all writers try for together. A root remembers its last 65,536 keys, and
/// whoever has no answer asks again within some seconds.
const RATE: u32 = 4000;

/// How many readers of events each node of the lowest tier has.
const OBSERVERS: usize = 3;

/// How many violations are told one by one.
const TOLD: usize = 20;

/// How often the root is killed, and how many write meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Proof {
    kills: u32,
    writers: u32,
    /// Whether the root is to acknowledge what is not on disk.
    relaxed: bool,
}

impl Proof {
    pub(crate) fn new(args: &BenchArgs) -> Self {
        Self {
            kills: args.kills.unwrap_or(if args.quick { 5 } else { 200 }),
            writers: args
                .writers
                .unwrap_or(if args.quick { 200 } else { 10_000 }),
            relaxed: args.relaxed,
        }
    }

    /// Kills, and says what came of it in one line.
    ///
    /// # Errors
    ///
    /// If anything was lost, doubled or taken back, or the tree did not get so far.
    pub(crate) fn run(self, report: &Report) -> anyhow::Result<String> {
        raise_files();
        let account = one_thread()?.block_on(self.kill(report))?;
        report.done();
        report.progress(&account.beside());
        let line = format!("{} kills, {account}", self.kills);
        anyhow::ensure!(account.is_clean(), "{line}{}", account.told());
        Ok(line)
    }

    async fn kill(self, report: &Report) -> anyhow::Result<Account> {
        report.progress("crash: start");
        let mut tree = Tree::start(self.relaxed).await?;
        let leaves = tree.leaves();
        let before = begin(&leaves[0]).await?;
        let shared = Arc::new(Shared::new(self.writers, before));
        let mut observers = JoinSet::new();
        for leaf in &leaves {
            for _ in 0..OBSERVERS {
                observers.spawn(observers::observe(leaf.clone(), Arc::clone(&shared)));
            }
        }
        let mut writers = JoinSet::new();
        for i in 0..self.writers {
            let leaf = leaves[i as usize % leaves.len()].clone();
            let writer = Writer::new(i, leaf, Arc::clone(&shared));
            writers.spawn(writer.run());
        }
        let (killed, seen) = (tree.root, Arc::clone(&shared));
        let (tell, told) = tokio::sync::oneshot::channel();
        // On a thread of its own, as it waits for processes to end.
        thread::spawn(move || {
            let root = self.kill_often(killed, &seen);
            // Whoever waits may have given up.
            let _ = tell.send(root);
        });
        let watched = async {
            let mut known = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let kills = shared.kills.load(Ordering::Relaxed);
                let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
                if kills != known {
                    known = kills;
                    let all = self.kills;
                    report.progress(&format!(
                        "crash: {kills} of {all} kills, {acknowledged} acknowledged"
                    ));
                }
            }
        };
        tree.root = tokio::select! {
            root = told => root.context("the killer failed")??,
            () = watched => unreachable!("it watches for ever"),
        };
        report.progress("crash: the last writes");
        shared.stop.send_replace(Stop::Writing);
        let ended = timeout(PATIENCE, shared.all_idle(self.writers)).await;
        let idle = shared.idle.load(Ordering::Relaxed);
        ended.with_context(|| format!("{idle} writers have all their answers"))?;
        // Once more, while nobody writes: what was acknowledged last has to be there.
        report.progress("crash: all keys once more");
        tree.root.kill()?;
        tree.root.start()?;
        shared.stop.send_replace(Stop::Everything);
        let acks = timeout(PATIENCE, writers.join_all()).await;
        let acks = acks.context("the writers do not get their last answers once more")?;
        let acks: Vec<_> = acks.into_iter().flatten().collect();
        let newest = acks.iter().map(|ack| ack.position.revision).max();
        // Where something was taken back already it may never be there.
        if shared.steps_back.load(Ordering::Relaxed) == 0 {
            for leaf in &leaves {
                tree::reach(leaf, newest.context("nobody wrote")?).await?;
            }
        }
        observers.shutdown().await;
        let resyncs = tree.resyncs().await?;
        let (position, ticks) = tree.root.end().await?;
        Ok(Account::new(&shared, acks, (position, ticks), resyncs))
    }

    /// Kills the root while it is written to, and one time in five while it comes up.
    fn kill_often(self, mut root: Root, shared: &Shared) -> anyhow::Result<Root> {
        let enough = u64::from(self.writers / 100).max(1);
        for kill in 1..=self.kills {
            if kill > 1 && fastrand::u8(0..5) == 0 {
                crate::pause(Duration::from_micros(fastrand::u64(0..50_000)));
            } else {
                let before = shared.acknowledged.load(Ordering::Relaxed);
                let start = std::time::Instant::now();
                while shared.acknowledged.load(Ordering::Relaxed) < before + enough {
                    root.lives()?;
                    let waited = start.elapsed();
                    anyhow::ensure!(
                        waited < PATIENCE,
                        "nothing is acknowledged after kill {kill}"
                    );
                    crate::pause(Duration::from_millis(1));
                }
                crate::pause(Duration::from_micros(fastrand::u64(0..200_000)));
            }
            root.lives()?;
            root.kill()?;
            root.start()?;
            shared.kills.store(kill, Ordering::Relaxed);
        }
        Ok(root)
    }
}

/// Brings up what all writers write, so that from then on each write is one revision, and returns
/// where that stands.
async fn begin(leaf: &str) -> anyhow::Result<Start> {
    let answer = post(leaf, "begin").await?;
    let ticks = tree::ticks(leaf, answer.revision).await?;
    Ok(Start {
        position: answer,
        ticks,
    })
}

/// Where the writers began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Start {
    position: Position,
    /// Of the state that they write.
    ticks: u64,
}

/// What writers are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    /// To go on.
    No,
    /// To finish what they have begun.
    Writing,
    /// To ask for their last write once more, and end.
    Everything,
}

/// What all have in common.
struct Shared {
    start: Start,
    acknowledged: AtomicU64,
    retries: AtomicU64,
    kills: AtomicU32,
    events: AtomicU64,
    idle: AtomicU64,
    stop: watch::Sender<Stop>,
    /// The pause of a writer between two writes, on average.
    pause: Duration,
    /// Positions that were shown or answered after later ones, or of another epoch.
    steps_back: AtomicU64,
    told: Mutex<Vec<String>>,
}

impl Shared {
    fn new(writers: u32, start: Start) -> Self {
        Self {
            start,
            acknowledged: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            kills: AtomicU32::new(0),
            events: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            stop: watch::channel(Stop::No).0,
            pause: Duration::from_secs(1) * writers / RATE,
            steps_back: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    /// Notes something that must not be.
    fn tell(&self, what: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD {
            told.push(what);
        }
    }

    /// Notes that somebody was shown a position behind `before`.
    fn step_back(&self, who: &str, before: Position, now: Position) {
        self.steps_back.fetch_add(1, Ordering::Relaxed);
        self.tell(format!("{who} was shown {now} after {before}"));
    }

    /// Waits until all writers have done what they had begun.
    async fn all_idle(&self, writers: u32) {
        while self.idle.load(Ordering::Relaxed) < u64::from(writers) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
