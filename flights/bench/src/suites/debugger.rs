//! What a debugger holds of 1,000,000 transitions of 148 states: memory, and the time of whatever looks
//! at all of them, beside the same frames as a plain list; and how long a key press waits for its frame.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, ensure};
use machine_runtime::Schema;
use machine_runtime::debug::file;
use machine_runtime::debug::frame::{Body, Frame};
use machine_runtime::debug::recording::Recording;
use machine_runtime::debugger::store::{
    Filter, History, MachineId, ProcessId, Selection, Store, StoreLimits, StreamId, Visible,
};

use crate::report::{Baseline, Report};
use crate::samples::Samples;

mod keys;
mod told;

use told::Teller;

const ROUNDS: usize = 7;

/// A word in few payloads and no name.
const WORD: &str = "b17";

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let count = report.effort(100_000, 1_000_000);
    report.progress("debugger: a store");
    let before = resident()?;
    let (store, stored) = fill(count)?;
    let held = resident()? - before;
    report.progress("debugger: the same as a list");
    let before = resident()?;
    let start = Instant::now();
    let mut teller = Teller::new();
    // As the store was told it.
    teller.declared();
    let frames: Vec<Frame> = teller.frames(count).collect();
    let listed = start.elapsed().as_secs_f64();
    let plain = resident()? - before;
    let of_each = |sum: f64| sum / told::float(count);
    let floor = Baseline::new("a list of frames", of_each(plain));
    let held = Samples::new([of_each(held)]);
    report.row("debugger.store.bytes", "B", held, floor);
    // Making up the frames is part of both.
    let floor = Baseline::new("pushed to a list", of_each(listed * 1e9));
    let stored = Samples::new([of_each(stored * 1e9)]);
    report.row("debugger.store.apply", "ns", stored, floor);

    let history = store.machine(MachineId(0));
    let filter = Filter {
        hide_canceled: true,
        hide_auto: true,
        hide_empty: true,
        group: Some((20..40).collect()),
        ..Filter::default()
    };
    let plain = |frame: &Frame| is_shown(frame, history.schema());
    all(report, "filter", &store, &frames, &filter, &plain);
    let filter = Filter {
        text: Some(WORD.to_owned()),
        ..Filter::default()
    };
    let names = Names::new(history.schema());
    let plain = |frame: &Frame| names.is_found(frame);
    all(report, "search", &store, &frames, &filter, &plain);
    moment(report, history);
    open(report, &store)?;
    drop((store, frames));
    keys::measure(report)
}

/// Seconds to open a recording of all of it, beside reading its frames alone.
fn open(report: &mut Report, store: &Store) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("bench.amrec");
    let frames = store.export(ProcessId(0), &Selection::default());
    file::write(&path, file::Format::Binary, frames)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..report.effort(1, 3) {
        report.progress(&format!("debugger: open, round {}", round + 1));
        for (apply, figures) in [(true, &mut ours), (false, &mut theirs)] {
            let start = Instant::now();
            let mut recording = Recording::open(std::slice::from_ref(&path))?;
            let mut opened = Store::new(StoreLimits::default());
            let stream = opened.connect(&told::hello())?.stream;
            while let Some(recorded) = recording.next_frame()? {
                if apply {
                    opened.apply(stream, recorded.frame)?;
                }
            }
            figures.push(start.elapsed().as_secs_f64());
            let entries = opened.machines().first().map_or(0, History::len);
            let expected = usize::from(apply) * store.machine(MachineId(0)).len();
            ensure!(entries == expected, "{entries} entries of {expected}");
        }
    }
    let floor = Baseline::new("read and not held", Samples::new(theirs).median());
    let name = format!("debugger.open.{}", report.effort("100k", "1m"));
    report.row(name, "s", Samples::new(ours), floor);
    Ok(())
}

/// The store, and the seconds it took to fill.
fn fill(count: usize) -> anyhow::Result<(Store, f64)> {
    let mut store = Store::new(StoreLimits::default());
    let mut teller = Teller::new();
    let start = Instant::now();
    let stream: StreamId = store.connect(&told::hello())?.stream;
    store.apply(stream, teller.declared())?;
    for frame in teller.frames(count) {
        store.apply(stream, frame)?;
    }
    Ok((store, start.elapsed().as_secs_f64()))
}

/// One look at all entries, in ms, beside the same of a list.
fn all(
    report: &mut Report,
    name: &str,
    store: &Store,
    frames: &[Frame],
    filter: &Filter,
    plain: &dyn Fn(&Frame) -> bool,
) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        report.progress(&format!(
            "debugger: {name}, round {} of {ROUNDS}",
            round + 1
        ));
        let start = Instant::now();
        let visible = Visible::new(store, MachineId(0), filter.clone());
        ours.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let found = frames.iter().filter(|frame| plain(frame)).count();
        theirs.push(start.elapsed().as_secs_f64() * 1e3);
        assert_eq!(visible.len(), found, "both find the same");
    }
    let floor = Baseline::new("a list of frames", Samples::new(theirs).median());
    let name = format!("debugger.{name}.{}", report.effort("100k", "1m"));
    report.row(name, "ms", Samples::new(ours), floor);
}

/// What a jump to anywhere needs, in µs.
fn moment(report: &mut Report, history: &History) {
    let mut random = fastrand::Rng::with_seed(1);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..2_000 {
        let i = random.usize(history.range());
        let wall = history.wall(i);
        let start = Instant::now();
        let at = history.last_at(wall).unwrap_or(i);
        let moment = history.ticks_after(at);
        black_box(history.entry(at));
        ours.push(start.elapsed().as_secs_f64() * 1e6);
        let start = Instant::now();
        black_box(moment.ticks.clone());
        theirs.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let floor = Baseline::new("a copy of all ticks", Samples::new(theirs).median());
    report.row("debugger.moment", "µs", Samples::new(ours), floor);
}

fn is_shown(frame: &Frame, schema: &Schema) -> bool {
    let Body::Transition(told) = &frame.body else {
        return false;
    };
    let states = 20..40;
    debug_assert!(states.end <= schema.len(), "the group is of the schema");
    told.is_accepted()
        && told.cause != machine_runtime::Cause::Auto
        && !told.changes.is_empty()
        && (told
            .called
            .iter()
            .any(|state| states.contains(&(*state as usize)))
            || told
                .changes
                .iter()
                .any(|change| states.contains(&(change.state as usize))))
}

/// The names of states in lower case.
struct Names {
    names: Vec<String>,
}

impl Names {
    fn new(schema: &Schema) -> Self {
        let names = schema.names().map(str::to_lowercase);
        Self {
            names: names.collect(),
        }
    }

    fn is_found(&self, frame: &Frame) -> bool {
        let Body::Transition(told) = &frame.body else {
            return false;
        };
        let changed = told.changes.iter().map(|change| change.state);
        let mut named = told.called.iter().copied().chain(changed);
        let mut payloads = told.payloads.iter();
        named.any(|state| self.names[state as usize].contains(WORD))
            || payloads.any(|payload| {
                let text = payload.text.as_ref();
                text.is_some_and(|text| text.to_lowercase().contains(WORD))
            })
    }
}

/// The bytes of memory that this process has.
fn resident() -> anyhow::Result<f64> {
    let pages = fs::read_to_string("/proc/self/statm").context("no figures on memory")?;
    let pages = pages.split(' ').nth(1).context("no figure on memory")?;
    let pages: usize = pages.parse()?;
    Ok(told::float(pages * rustix::param::page_size()))
}
