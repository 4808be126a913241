//! A parent with many followers, of which some read slowly and some not at all: whether its memory
//! stays as it is while it is written to without a pause, and what a follower costs.
//!
//! The parent is a process, its followers are another, with a connection each. The same is measured
//! with one follower, and with all of them reading.

pub(crate) mod clients;
mod floor;
mod marks;
pub(crate) mod parent;

use std::time::{Duration, Instant};

use tempfile::TempDir;

use self::clients::Seen;
use self::parent::Done;
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::talk::Talk;
use crate::{BenchArgs, Suite};

/// How long it may take until all are let in.
const PATIENCE: Duration = Duration::from_mins(1);

/// The pause between two writes where what a delta costs is measured.
const PACE_MS: u32 = 50;

/// What a parent keeps at most of a follower that keeps to the protocol, in kB: as
/// `docs/replication.md` has it, 40 KiB and two answers of the published states.
const BOUND_KB: f64 = 44.0;

/// How many followers there are, and for how long.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Crowd {
    followers: usize,
    stalled: usize,
    slow: usize,
    time: Duration,
}

impl Crowd {
    /// What `args` ask for.
    ///
    /// # Errors
    ///
    /// If that is no time, or not one follower would read.
    pub(crate) fn new(args: &BenchArgs) -> anyhow::Result<Self> {
        let minutes = match args.minutes {
            Some(minutes) => minutes,
            None if args.quick => 1.0 / 6.0,
            None if args.suite == Suite::All => 1.0,
            None => 5.0,
        };
        let followers = args
            .followers
            .unwrap_or(if args.quick { 100 } else { 1000 });
        let stalled = args.stalled.unwrap_or(followers / 10);
        let slow = stalled / 2;
        anyhow::ensure!(followers > stalled + slow, "no follower is left that reads");
        let time = Duration::try_from_secs_f64(minutes * 60.0)?;
        anyhow::ensure!(time >= Duration::from_secs(3), "--minutes is too short");
        Ok(Self {
            followers,
            stalled,
            slow,
            time,
        })
    }

    fn one(self) -> Self {
        Self {
            followers: 1,
            stalled: 0,
            slow: 0,
            time: self.time / 5,
        }
    }

    fn all_reading(self) -> Self {
        Self {
            stalled: 0,
            slow: 0,
            time: self.time / 5,
            ..self
        }
    }
}

pub(crate) fn measure(report: &mut Report, crowd: &Crowd) -> anyhow::Result<()> {
    let one = Run::measure(report, "one follower", crowd.one())?;
    let reading = Run::measure(report, "all read", crowd.all_reading())?;
    let crowded = Run::measure(report, "some stalled", *crowd)?;
    report.progress("followers: bare echo");
    let echoes = (0..3).map(|_| floor::echo_us(crowd.followers));
    let echo = Samples::new(echoes.collect::<anyhow::Result<Vec<_>>>()?).median();
    let followers = f64::from(u32::try_from(crowd.followers)?);

    let resident = Baseline::new("one follower", one.settled().median());
    report.row("followers.rss", "MB", crowded.settled(), resident);
    let drift = Samples::new([crowded.drift_mb()]);
    let resident = Baseline::new("resident memory", crowded.settled().median());
    report.row("followers.rss.drift", "MB", drift, resident);
    let more = |run: &Run| (run.settled().max() - one.settled().median()) * 1e3 / followers;
    let kept = Samples::new([more(&crowded)]);
    report.row(
        "followers.bytes",
        "kB",
        kept,
        Baseline::new("the bound", BOUND_KB),
    );
    let kept = Samples::new([more(&reading)]);
    report.row(
        "followers.bytes.all_read",
        "kB",
        kept,
        Baseline::new("the bound", BOUND_KB),
    );
    for (name, run) in [("followers.delta", &crowded), ("followers.one.delta", &one)] {
        let cost = Samples::new([run.delta_us]);
        report.row(
            format!("{name}.cpu"),
            "us",
            cost,
            Baseline::new("bare TCP echo", echo),
        );
    }
    let bytes = Samples::new([crowded.delta_bytes]);
    let alone = Baseline::new("one follower", one.delta_bytes);
    report.row("followers.delta.bytes", "B", bytes, alone);
    for (place, name) in [(0, "followers.lag.p50"), (1, "followers.lag.p99")] {
        let lags = |run: &Run| Samples::new(run.moments.iter().map(|moment| moment.lag_ms[place]));
        let reading = Baseline::new("all read", lags(&reading).median());
        report.row(name, "ms", lags(&crowded), reading);
    }
    let rates = |run: &Run| Samples::new(run.moments.iter().map(|moment| moment.rate));
    let alone = Baseline::new("one follower", rates(&one).median());
    report.row("followers.rate", "1/s", rates(&crowded), alone);
    crowded.tell(report);
    Ok(())
}

/// What was seen at one time while the parent was saturated.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Duration,
    resident_mb: f64,
    followers: usize,
    /// Revisions a second.
    rate: f64,
    deltas: u64,
    snapshots: u64,
    lag_ms: [f64; 2],
}

/// A parent with its followers, from start to end.
struct Run {
    crowd: Crowd,
    /// Resident before anybody followed.
    alone_mb: f64,
    /// The processor time of a delta that one mutation led to, all in all.
    delta_us: f64,
    delta_bytes: f64,
    moments: Vec<Moment>,
}

impl Run {
    fn measure(report: &Report, what: &str, crowd: Crowd) -> anyhow::Result<Self> {
        let progress = |step: &str| report.progress(&format!("followers: {what}, {step}"));
        progress("start");
        let folder = TempDir::new()?;
        let marks = folder.path().join("marks");
        let marks = marks.to_string_lossy();
        let mut parent = Talk::start(["parent", "--marks", &marks])?;
        let started: Done = parent.ask("rest")?;
        let alone_mb = parent.resident_mb()?;
        let addr = started.addr.to_string();
        let healthy = crowd.followers - crowd.stalled - crowd.slow;
        let mut clients = Talk::start([
            "clients",
            "--parent",
            &addr,
            "--marks",
            &marks,
            "--healthy",
            &healthy.to_string(),
            "--slow",
            &crowd.slow.to_string(),
            "--stalled",
            &crowd.stalled.to_string(),
        ])?;
        let start = Instant::now();
        loop {
            let seen: Seen = clients.ask("seen")?;
            if seen.following == crowd.followers {
                break;
            }
            let in_time = start.elapsed() < PATIENCE;
            anyhow::ensure!(in_time, "{} of {crowd:?} were let in", seen.following);
            crate::pause(Duration::from_millis(100));
        }
        progress("a delta");
        let _: Done = parent.ask(&format!("every {PACE_MS}"))?;
        crate::pause(Duration::from_secs(1));
        let before: Done = parent.ask("stats")?;
        let cpu = parent.cpu()?;
        crate::pause(report.effort(Duration::from_secs(2), Duration::from_secs(10)));
        let after: Done = parent.ask("stats")?;
        let cpu = parent.cpu()?.saturating_sub(cpu);
        let deltas = u32::try_from(after.deltas - before.deltas)?;
        let bytes = u32::try_from(after.bytes_out - before.bytes_out)?;
        anyhow::ensure!(deltas > 0, "no delta was sent");
        let mut run = Self {
            crowd,
            alone_mb,
            delta_us: cpu.as_secs_f64() * 1e6 / f64::from(deltas),
            delta_bytes: f64::from(bytes) / f64::from(deltas),
            moments: Vec::new(),
        };
        progress("saturated");
        run.saturate(&mut parent, &mut clients)?;
        Ok(run)
    }

    fn saturate(&mut self, parent: &mut Talk, clients: &mut Talk) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut last: Done = parent.ask("saturate")?;
        // What was shown before is not looked at.
        let mut seen: Seen = clients.ask("seen")?;
        let step = (self.crowd.time / 10).min(Duration::from_secs(10));
        let mut looked = Instant::now();
        while start.elapsed() < self.crowd.time {
            crate::pause(step);
            let done: Done = parent.ask("stats")?;
            let passed = looked.elapsed().as_secs_f64();
            looked = Instant::now();
            let now: Seen = clients.ask("seen")?;
            let revisions = u32::try_from(done.revision - last.revision)?;
            self.moments.push(Moment {
                at: start.elapsed(),
                resident_mb: parent.resident_mb()?,
                followers: done.followers,
                rate: f64::from(revisions) / passed,
                deltas: now.deltas - seen.deltas,
                snapshots: now.snapshots - seen.snapshots,
                lag_ms: now
                    .lag_ms
                    .ok_or_else(|| anyhow::anyhow!("nothing was shown"))?,
            });
            (last, seen) = (done, now);
        }
        Ok(())
    }

    /// Resident memory once buffers have grown: after a fifth of the time.
    fn settled(&self) -> Samples {
        Samples::new(self.late().iter().map(|moment| moment.resident_mb))
    }

    fn late(&self) -> &[Moment] {
        &self.moments[self.moments.len() / 5..]
    }

    /// How much more is resident in the last third than in the first, once settled.
    fn drift_mb(&self) -> f64 {
        let late = self.late();
        let third = late.len().div_ceil(3);
        let median =
            |part: &[Moment]| Samples::new(part.iter().map(|moment| moment.resident_mb)).median();
        median(&late[late.len() - third..]) - median(&late[..third])
    }

    fn tell(&self, report: &mut Report) {
        let Crowd {
            followers,
            stalled,
            slow,
            ..
        } = self.crowd;
        report.note(format!(
            "\n{followers} followers, {stalled} of them do not read, {slow} read slowly; \
             {:.1} MB are resident before they come",
            self.alone_mb
        ));
        report.note(
            "  time s   resident MB   followers   revisions/s    deltas   snapshots   lag ms p50      p99",
        );
        for moment in &self.moments {
            report.note(format!(
                "{:8.0} {:13.2} {:11} {:13.0} {:9} {:11} {:12.1} {:8.1}",
                moment.at.as_secs_f64(),
                moment.resident_mb,
                moment.followers,
                moment.rate,
                moment.deltas,
                moment.snapshots,
                moment.lag_ms[0],
                moment.lag_ms[1],
            ));
        }
        let settled = self.settled();
        report.note(format!(
            "settled: {:.2} to {:.2} MB",
            settled.min(),
            settled.max()
        ));
    }
}
