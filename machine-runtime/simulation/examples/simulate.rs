//! Runs the replication in simulated worlds, one for each seed.
//!
//! ```text
//! cargo run --release --example simulate -- --seeds 300
//! cargo run --release --example simulate -- --seed 4711 --trace
//! cargo run --release --example simulate -- --planted
//! ```
#![expect(
    clippy::print_stdout,
    reason = "it is a program, and its results are what it prints"
)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Parser;
use machine_simulation::checks::{Check, Failure};
use machine_simulation::planted::Planted;
use machine_simulation::run::{Report, run};
use machine_simulation::world::Plan;

/// Runs the replication in simulated worlds, one for each seed.
#[derive(Parser, Debug)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs for so many hours instead of a number of seeds.
    #[arg(long, conflicts_with = "seeds")]
    hours: Option<f64>,
    /// How many seeds run at a time; as many as there are processors unless told.
    #[arg(long)]
    threads: Option<usize>,
    /// Runs this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "from", "hours", "planted"])]
    seed: Option<u64>,
    /// Prints all that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Runs the planted bugs, each until it is caught.
    #[arg(long, conflicts_with_all = ["hours", "seeds", "plant"])]
    planted: bool,
    /// Runs each seed twice: it fails, too, if something else happens the second time.
    #[arg(long)]
    twice: bool,
    /// Plants this bug.
    #[arg(long)]
    plant: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let planted = match args.plant.as_deref().map(Planted::of_name) {
        Some(None) => {
            println!("there is no such bug; there are:");
            for bug in Planted::ALL {
                println!("  {}", bug.name());
            }
            return ExitCode::FAILURE;
        }
        planted => planted.flatten(),
    };
    let well = if let Some(seed) = args.seed {
        if args.trace {
            println!("{:#?}", Plan::of(seed));
        }
        let report = run(seed, planted, args.trace);
        tell(&report, planted, true);
        report.failure.is_none()
    } else if args.planted {
        all_planted(&args)
    } else {
        seeds(&args, planted)
    };
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs seeds, and says which of them failed.
fn seeds(args: &Args, planted: Option<Planted>) -> bool {
    let began = Instant::now();
    let end = args
        .hours
        .map(|hours| began + Duration::from_secs_f64(hours * 3600.0));
    let (mut count, mut failures, mut looks, mut slowest) = (0, 0, 0, (0, 0));
    let mut told = began;
    let last = if end.is_some() {
        u64::MAX
    } else {
        args.from + args.seeds
    };
    let panicked = each(args, args.from..last, planted, |report| {
        count += 1;
        looks += report.looks;
        slowest = slowest.max((report.healed.0, report.seed));
        if report.failure.is_some() {
            failures += 1;
            tell(report, planted, false);
        }
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            println!(
                "{count} seeds, {failures} failures, {:.0?}",
                began.elapsed()
            );
        }
        end.is_none_or(|end| Instant::now() < end)
    });
    println!(
        "{looks} looks at views, ages and receipts; the longest healing took {} ms (seed {}); {:.1?}",
        slowest.0,
        slowest.1,
        began.elapsed()
    );
    // A seed that has no end is a failure of its own.
    (count, failures) = (count + panicked, failures + panicked);
    println!("{count} seeds, {failures} failures");
    failures == 0 && count > 0
}

/// Runs seeds on some threads, and takes each report until that is no longer wanted. Returns how many seeds
/// have none, as the simulation itself panicked.
fn each(
    args: &Args,
    seeds: std::ops::Range<u64>,
    planted: Option<Planted>,
    mut take: impl FnMut(&Report) -> bool,
) -> u64 {
    let threads = args
        .threads
        .or_else(|| Some(std::thread::available_parallelism().ok()?.get()));
    let next = AtomicU64::new(seeds.start);
    let (enough, panicked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (sender, reports) = mpsc::channel();
        for _ in 0..threads.unwrap_or(1).max(1) {
            let (sender, next, enough, panicked) = (sender.clone(), &next, &enough, &panicked);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || enough.load(Ordering::Relaxed) {
                        return;
                    }
                    // Each on a thread of its own: what a thread keeps is of one seed only.
                    let alone = || std::thread::spawn(move || run(seed, planted, false)).join();
                    let Ok(mut report) = alone() else {
                        println!("seed {seed}: the simulation itself panicked");
                        panicked.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    if args.twice && alone().map(|again| again.hash).ok() != Some(report.hash) {
                        report.failure.get_or_insert(Failure {
                            check: Check::Replay,
                            at: report.took,
                            why: "something else happens in the second run".to_owned(),
                        });
                    }
                    if sender.send(report).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for report in reports {
            if !take(&report) {
                enough.store(true, Ordering::Relaxed);
            }
        }
    });
    panicked.into_inner()
}

/// Runs the planted bugs.
fn all_planted(args: &Args) -> bool {
    /// How many seeds a bug gets.
    const MOST: u64 = 400;
    /// How many seeds are run with what stands between and has no bug.
    const CLEAN: u64 = 40;
    let mut false_alarms = 0;
    let mut panicked = each(
        args,
        args.from..args.from + CLEAN,
        Some(Planted::Nothing),
        |report| {
            if report.failure.is_some() {
                false_alarms += 1;
                tell(report, Some(Planted::Nothing), false);
            }
            true
        },
    );
    println!(
        "{:<28} {false_alarms} false alarms in {CLEAN} seeds",
        Planted::Nothing.name()
    );
    let mut caught = 0;
    for bug in Planted::ALL {
        let mut found: Option<Report> = None;
        panicked += each(args, args.from..args.from + MOST, Some(bug), |report| {
            if report.failure.is_some() && found.as_ref().is_none_or(|f| f.seed > report.seed) {
                found = Some(report.clone());
            }
            found.is_none()
        });
        let name = bug.name();
        match found.and_then(|report| Some((report.seed, report.failure?))) {
            Some((seed, failure)) => {
                caught += 1;
                println!(
                    "{name:<28} caught by `{}` at seed {seed}: {}",
                    failure.check, failure.why
                );
            }
            None => println!("{name:<28} NOT caught in {MOST} seeds"),
        }
    }
    println!("{caught} of {} planted bugs caught", Planted::ALL.len());
    caught == Planted::ALL.len() && false_alarms == 0 && panicked == 0
}

/// Says how a seed went, with what was planted in it.
fn tell(report: &Report, planted: Option<Planted>, all: bool) {
    let seed = report.seed;
    let plant = planted.map_or_else(String::new, |bug| format!(" --plant {}", bug.name()));
    if all || report.failure.is_some() {
        for note in &report.notes {
            println!("  {note}");
        }
    }
    match &report.failure {
        Some(failure) => println!(
            "seed {seed} FAILED at {} ms: {}: {}\n  replay: --seed {seed}{plant} --trace (trace {:016x})",
            failure.at, failure.check, failure.why, report.hash
        ),
        None => println!(
            "seed {seed} ok: {} events, {} looks, {} writes, healed in {} of {} ms, trace {:016x}",
            report.events,
            report.looks,
            report.acknowledged,
            report.healed.0,
            report.healed.1,
            report.hash
        ),
    }
}
