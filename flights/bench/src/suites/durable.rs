//! What it costs to keep a history: mutations that are acknowledged a second and how long one takes,
//! by one writer, by 64 and by 1,000 at once, in memory, on disk before it is acknowledged, and on
//! disk a little later. Beside it appends of as many bytes to a plain file, each synced.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use machine_node::random::RandomTraffic;
use machine_node::shutdown::Tasks;
use machine_runtime::durable::{Durability, Store, StoreOptions, StoreStats};
use machine_runtime::{
    Epoch, Handle, Key, Machine, Mutation, Owner, States, ViewOptions, WriteOptions,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::states::Published148;
use crate::suites::replication::one_thread;

const ROUNDS: usize = 5;

/// How many write at once.
const WRITERS: [u32; 3] = [1, 64, 1000];

/// How late what is kept may be on disk where that is not waited for.
const LATE: Duration = Duration::from_millis(100);

/// How many mutations are sent at once where a history is made.
const BATCH: usize = 1024;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    for writers in WRITERS {
        measure_writers(report, folder.path(), writers)?;
    }
    measure_recovery(report, folder.path())
}

/// How a history is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kept {
    InMemory,
    OnDisk(Durability),
}

fn measure_writers(report: &mut Report, folder: &Path, writers: u32) -> anyhow::Result<()> {
    let time = report.effort(Duration::from_millis(100), Duration::from_secs(1));
    let [mut memory, mut sync, mut relaxed] = [const { Vec::new() }; 3];
    let mut floor = Vec::new();
    for round in 1..=ROUNDS {
        report.progress(&format!(
            "durable: {writers} at once, round {round} of {ROUNDS}"
        ));
        let run = |kept| run(folder, kept, writers, time);
        memory.push(run(Kept::InMemory)?);
        let on_disk = run(Kept::OnDisk(Durability::Sync))?;
        floor.push(append_us(folder, on_disk.commit_bytes, time)?);
        sync.push(on_disk);
        relaxed.push(run(Kept::OnDisk(Durability::Relaxed(LATE)))?);
    }
    let of = |runs: &[Run], pick: fn(&Run) -> f64| Samples::new(runs.iter().map(pick));
    let rate = |run: &Run| run.rate;
    let p50 = |run: &Run| run.p50_us;
    let floor = Samples::new(floor).median();
    for (name, runs) in [("sync", &sync), ("relaxed", &relaxed)] {
        let beside = Baseline::new("in memory", of(&memory, rate).median());
        let name = format!("durable.{name}.{writers}");
        report.row(format!("{name}.rate"), "1/s", of(runs, rate), beside);
        let beside = Baseline::new("in memory", of(&memory, p50).median());
        report.row(format!("{name}.p50"), "us", of(runs, p50), beside);
    }
    let name = format!("durable.commit.{writers}");
    let beside = Baseline::new("synced append", floor);
    report.row(name, "us", of(&sync, |run| run.commit_us), beside);
    Ok(())
}

/// What writers came to in a time.
struct Run {
    /// Mutations a second.
    rate: f64,
    p50_us: f64,
    /// How long a commit took on average, from one to the next, and the bytes of its rows.
    commit_us: f64,
    commit_bytes: usize,
}

fn run(folder: &Path, kept: Kept, writers: u32, time: Duration) -> anyhow::Result<Run> {
    one_thread()?.block_on(async {
        let tasks = Tasks::default();
        let dir = TempDir::new_in(folder)?;
        let (root, stats) = start(dir.path(), kept, StoreOptions::default(), &tasks)?;
        let start = Instant::now();
        let mut all = JoinSet::new();
        for i in 0..writers {
            all.spawn(write(root.clone(), i, start + time));
        }
        let mut latencies = Vec::new();
        while let Some(ended) = all.join_next().await {
            latencies.extend(ended??);
        }
        let passed = start.elapsed().as_secs_f64();
        let count = f64::from(u32::try_from(latencies.len())?);
        let commits = u32::try_from(stats.commits())?.max(1);
        let commit_bytes = usize::try_from(stats.bytes())? / commits as usize;
        tasks.finish(Duration::from_secs(10)).await;
        Ok(Run {
            rate: count / passed,
            p50_us: Samples::new(latencies).median(),
            commit_us: passed * 1e6 / f64::from(commits),
            commit_bytes,
        })
    })
}

/// A root that keeps its history so, and how its store is doing.
fn start(
    dir: &Path,
    kept: Kept,
    mut options: StoreOptions,
    tasks: &Tasks,
) -> anyhow::Result<(Handle<Published148>, StoreStats)> {
    let view = ViewOptions::default();
    let Kept::OnDisk(durability) = kept else {
        let (root, owner) = Owner::new(Machine::new(), Epoch::random(), view);
        let stopped = tasks.stopped();
        tasks.spawn(async move {
            owner.run(stopped).await;
        });
        return Ok((root, StoreStats::default()));
    };
    options.durability = durability;
    let (store, recovered) = Store::open(dir, Published148::schema(), options)?;
    let stats = store.stats();
    let machine = recovered.machine::<Published148>();
    let (root, owner) = Owner::durable(machine, recovered, store, view);
    let stopped = tasks.stopped();
    tasks.spawn(async move {
        let ended = owner.run_durable(stopped).await;
        // Writers are told as well, and what they say is what is told.
        drop(ended);
    });
    Ok((root, stats))
}

/// Writes one mutation after the other, each with a key, and returns how long each took, in us.
async fn write(root: Handle<Published148>, i: u32, end: Instant) -> anyhow::Result<Vec<f64>> {
    let mut traffic = RandomTraffic::new(fastrand::u64(..));
    let mut latencies = Vec::new();
    while latencies.is_empty() || Instant::now() < end {
        let key = format!("{i}-{}", latencies.len());
        let options = WriteOptions::new().with_key(Key::new(key)?);
        let mutation: Mutation<Published148> = traffic.next(false);
        let start = Instant::now();
        // Whether it is accepted is part of what is random.
        let _ = root.mutate_with(mutation, options).await?;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

/// The floor of a commit: so many bytes at the end of a plain file, and on disk, in us.
fn append_us(folder: &Path, bytes: usize, time: Duration) -> anyhow::Result<f64> {
    let path = folder.join("plain");
    let mut file = File::create(&path)?;
    let bytes = vec![0x5a; bytes.max(1)];
    let start = Instant::now();
    let mut latencies = Vec::new();
    while latencies.is_empty() || start.elapsed() < time {
        let start = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
    }
    fs::remove_file(&path)?;
    Ok(Samples::new(latencies).median())
}

/// How long it takes to go on from a history without a checkpoint, and what that takes on disk.
fn measure_recovery(report: &mut Report, folder: &Path) -> anyhow::Result<()> {
    let count: u32 = report.effort(10_000, 100_000);
    let mut options = StoreOptions::default();
    options.checkpoint_bytes = u64::MAX;
    let (mut times, mut reads) = (Vec::new(), Vec::new());
    let (mut disk, mut rows) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        report.progress(&format!("durable: recovery, round {round} of {ROUNDS}"));
        let dir = TempDir::new_in(folder)?;
        let (transitions, bytes) = one_thread()?.block_on(history(dir.path(), options, count))?;
        let files = fs::read_dir(dir.path())?.collect::<Result<Vec<_>, _>>()?;
        let start = Instant::now();
        let sizes = files.iter().map(|file| Ok(fs::read(file.path())?.len()));
        let sizes = sizes.collect::<std::io::Result<Vec<_>>>()?;
        reads.push(start.elapsed().as_secs_f64() * 1e8 / transitions);
        let size: usize = sizes.iter().sum();
        disk.push(f64::from(u32::try_from(size)?) / transitions);
        rows.push(bytes / transitions);
        let start = Instant::now();
        let (store, recovered) = Store::open(dir.path(), Published148::schema(), options)?;
        let machine = recovered.machine::<Published148>();
        times.push(start.elapsed().as_secs_f64() * 1e8 / transitions);
        anyhow::ensure!(machine.revision() > 0, "there is no history");
        store.close()?;
    }
    let read = Baseline::new("the file read", Samples::new(reads).median());
    report.row("durable.recovery.100k", "ms", Samples::new(times), read);
    let rows = Baseline::new("rows alone", Samples::new(rows).median());
    report.row("durable.bytes", "B", Samples::new(disk), rows);
    Ok(())
}

/// Makes a history of some transitions, and says how many these were, and the bytes of their rows.
async fn history(dir: &Path, options: StoreOptions, count: u32) -> anyhow::Result<(f64, f64)> {
    let tasks = Tasks::default();
    let kept = Kept::OnDisk(Durability::Sync);
    let (root, stats) = start(dir, kept, options, &tasks)?;
    let mut traffic = RandomTraffic::new(fastrand::u64(..));
    let revision = || root.view().position().map_or(0, |at| at.revision);
    while revision() < count.into() {
        let batch = (0..BATCH).map(|_| traffic.next(false)).collect();
        let _ = root.mutate_all(batch).await?;
    }
    let revisions = f64::from(u32::try_from(revision())?);
    let left = tasks.finish(Duration::from_secs(10)).await;
    anyhow::ensure!(left == 0, "the root does not end");
    let bytes = u32::try_from(stats.bytes()).context("more bytes than can be counted")?;
    Ok((revisions, f64::from(bytes)))
}
