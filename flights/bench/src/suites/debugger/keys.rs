//! From a key press to a drawn frame: the debugger's own screen, over a store of a tree whose root has made
//! 1,000,000 transitions of 148 states, beside a frame of that size without anything on it.
//!
//! What the screen hands to another thread it does not wait for. The frame that shows what came of that is
//! a frame like any other here.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use anyhow::ensure;
use machine_runtime::debugger::store::{Store, StoreLimits, StreamId};
use machine_runtime::debugger::ui::{
    App, Effect, Message, Palette, Shared, Source, Theme, parse_keys,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::report::{Baseline, Report};
use crate::samples::Samples;

use super::told::{self, RARE, Tree};

/// Columns and rows of a large screen.
const SIZE: (u16, u16) = (250, 80);

const ROUNDS: usize = 5;

/// One key press in so many finds that this many mutations were told meanwhile.
const TOLD_EVERY: u16 = 10;
const TOLD: usize = 200;

/// What a person does, as keys, and how often.
const DONE: [(u32, &str); 44] = [
    (12, "l"),
    (12, "h"),
    (6, "]"),
    (6, "["),
    (6, "}"),
    (6, "{"),
    (2, "g"),
    (2, "G"),
    (8, "n"),
    (8, "p"),
    (6, "x"),
    (6, "X"),
    (2, "T"),
    (2, "T "),
    (2, "  "),
    (1, ">"),
    (1, "<lt>"),
    (2, "<tab>"),
    (2, "<backtab>"),
    (2, "1jj<enter>"),
    (2, "2jjj<enter>"),
    (1, "2*"),
    (1, "2a"),
    (2, "2/delayed<enter><esc>"),
    (2, "3+++"),
    (2, "3--"),
    (1, "30"),
    (2, "4jj<enter>"),
    (2, "5kk"),
    (1, "5+"),
    (1, "5-"),
    (2, "6rjj"),
    (2, "6<pgup><pgdn>"),
    (2, "7jj<enter>"),
    (2, "8jj"),
    (1, "8tGateUnknown<esc>"),
    (2, "9vv"),
    (2, "z"),
    (2, "mM"),
    (2, "dD<esc>"),
    (1, "bhere<enter>B<esc>"),
    (1, "?<pgdn><esc>"),
    (2, "f<space><esc>"),
    (1, "y"),
];

/// What needs a number, and how often: of a revision, of a state, of a row.
const CHOSEN: [(u32, &str); 4] = [
    (4, ":rev #<enter>"),
    (2, ":s Flight@Delayed<enter>"),
    (2, "f%<space><esc>"),
    (2, ":n #<enter>"),
];

/// Searches the text of all transitions, and gives that up.
const SEARCH: (u32, &str) = (2, "3/b17<enter>nplh3/<c-u><enter>");

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    report.progress("debugger: a store of a tree");
    let mut told = Told::new(report.effort(100_000, 1_000_000))?;
    let presses = report.effort(500, 3_000);
    let mut figures = [const { Vec::new() }; 3];
    let mut slowest = (0.0, String::new());
    let rounds = report.effort(2, ROUNDS);
    for round in 0..rounds {
        report.progress(&format!("debugger: keys, round {} of {rounds}", round + 1));
        // Of different keys in each round, the same in each run.
        let frames = press(&mut told, round as u64, presses)?;
        if let Some(last) = frames.iter().max_by(|a, b| a.0.total_cmp(&b.0))
            && last.0 > slowest.0
        {
            slowest = last.clone();
        }
        let frames = Samples::new(frames.into_iter().map(|(ms, _)| ms));
        for (figures, q) in figures.iter_mut().zip([0.5, 0.99, 1.0]) {
            figures.push(frames.quantile(q));
        }
    }
    let empty = empty_frame(presses);
    for (name, figures) in ["p50", "p99", "max"].into_iter().zip(figures) {
        let floor = Baseline::new("an empty frame", empty);
        let name = format!("debugger.key.{name}");
        report.row(name, "ms", Samples::new(figures), floor);
    }
    report.note(format!(
        "debugger.key: the slowest was {} of {}",
        slowest.1, rounds
    ));
    Ok(())
}

/// A store that is told more and more.
struct Told {
    shared: Shared,
    tree: Tree,
    stream: StreamId,
}

impl Told {
    fn new(transitions: u64) -> anyhow::Result<Self> {
        let mut store = Store::new(StoreLimits::default());
        let stream = store.connect(&told::hello())?.stream;
        let mut tree = Tree::new();
        for frame in tree.declared() {
            store.apply(stream, frame)?;
        }
        while tree.transitions() < transitions {
            for frame in tree.run() {
                store.apply(stream, frame)?;
            }
        }
        let root = &store.machines()[0];
        ensure!(root.len() as u64 >= transitions, "not all of it is held");
        Ok(Self {
            shared: Arc::new(RwLock::new(store)),
            tree,
            stream,
        })
    }

    fn more(&mut self) -> anyhow::Result<()> {
        let mut store = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TOLD {
            for frame in self.tree.run() {
                store.apply(self.stream, frame)?;
            }
        }
        Ok(())
    }
}

/// Presses that many keys and says of each frame how many ms it took, and which key it was for.
fn press(told: &mut Told, seed: u64, presses: usize) -> anyhow::Result<Vec<(f64, String)>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let source = Source::Listening("127.0.0.1:6831".to_owned());
    let theme = Theme::new(Palette::default(), true);
    let mut app = App::new(Arc::clone(&told.shared), source, theme);
    let mut terminal = Terminal::new(TestBackend::new(SIZE.0, SIZE.1))?;
    app.update(Message::Resize(SIZE.0, SIZE.1));
    terminal.draw(|frame| app.draw(frame))?;
    let mut frames = Vec::with_capacity(presses);
    let mut script = format!(":s {}<enter>", RARE.name());
    while frames.len() < presses {
        for (place, key) in parse_keys(&script)?.into_iter().enumerate() {
            let what = || format!("key {place} of `{script}`");
            let is_told = random.u16(..TOLD_EVERY) == 0;
            if is_told {
                told.more()?;
            }
            let start = Instant::now();
            if is_told {
                app.update(Message::Told);
            }
            let mut effects = app.update(Message::Key(key));
            terminal.draw(|frame| app.draw(frame))?;
            frames.push((start.elapsed().as_secs_f64() * 1e3, what()));
            while let Some(effect) = effects.pop() {
                let Effect::Run(id, job) = effect else {
                    continue;
                };
                let done = job.run(&told.shared, &|| false);
                let start = Instant::now();
                effects.extend(app.update(Message::Done(id, done)));
                terminal.draw(|frame| app.draw(frame))?;
                frames.push((
                    start.elapsed().as_secs_f64() * 1e3,
                    format!("what came of {}", what()),
                ));
            }
        }
        script = next(&mut random, told.tree.transitions());
    }
    Ok(frames)
}

/// What the person does next.
fn next(random: &mut fastrand::Rng, transitions: u64) -> String {
    let all = || DONE.iter().chain(&CHOSEN).chain([&SEARCH]);
    let weights: u32 = all().map(|(weight, _)| weight).sum();
    let mut drawn = random.u32(..weights);
    for (weight, keys) in all() {
        if drawn < *weight {
            let number = random.u64(..transitions).to_string();
            let flight = random.u8(1..=10).to_string();
            let rows = "j".repeat(random.usize(..8));
            let keys = keys.replace('#', &number).replace('@', &flight);
            return keys.replace('%', &rows);
        }
        drawn -= weight;
    }
    unreachable!("less than all weights together")
}

/// How many ms it takes to draw nothing.
fn empty_frame(times: usize) -> f64 {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(SIZE.0, SIZE.1));
    let times = (0..times).map(|_| {
        let start = Instant::now();
        let Ok(_) = terminal.draw(|_frame| {});
        start.elapsed().as_secs_f64() * 1e3
    });
    Samples::new(times).median()
}
