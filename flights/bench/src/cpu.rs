//! Processor time, which says what an operation costs whatever else the machine is doing.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The processor time of this thread so far, in ns.
pub(crate) fn of_thread() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "52 bits of ns are 52 days")]
    let ns = time.tv_sec as f64 * 1e9 + time.tv_nsec as f64;
    ns
}

/// The processor time of the living threads of a process so far.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut ns = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        let stat = task?.path().join("schedstat");
        let text =
            fs::read_to_string(&stat).with_context(|| format!("cannot read {}", stat.display()))?;
        let spent = text.split(' ').next().unwrap_or_default();
        ns += spent
            .parse::<u64>()
            .context("schedstat begins with a number")?;
    }
    Ok(Duration::from_nanos(ns))
}

/// The resident memory of a process in MB.
pub(crate) fn resident_mb(pid: u32) -> anyhow::Result<f64> {
    let status = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&status).with_context(|| format!("cannot read {status}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: f64 = kib.context("status has no VmRSS")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Which processor something runs on, where there are several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The first processor: what is measured.
    Measured,
    /// The second: what loads it.
    Load,
}

/// The first two processors that this program may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus(Option<(usize, usize)>);

impl Cpus {
    /// As they are for this thread now.
    pub(crate) fn allowed() -> Self {
        let Ok(allowed) = sched_getaffinity(None) else {
            return Self(None);
        };
        let mut there_are = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        Self(there_are.next().zip(there_are.next()))
    }

    /// Keeps this thread, and what it starts from now on, on one processor, so that what is
    /// measured and what loads it do not take turns. Without a second one nothing is kept.
    pub(crate) fn pin(self, side: Side) {
        let Some((measured, load)) = self.0 else {
            return;
        };
        let mut one = CpuSet::new();
        one.set(match side {
            Side::Measured => measured,
            Side::Load => load,
        });
        // Where that is not allowed, the figures are only noisier.
        let _ = sched_setaffinity(None, &one);
    }
}
