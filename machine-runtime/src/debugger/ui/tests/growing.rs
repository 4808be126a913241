//! Nothing that is typed makes it panic while entries come, and go as there is no room for them.

use super::super::super::store::{Selection, StreamId};
use super::*;
use crate::debug::frame::{Body, Frame};

/// A store that is nearly full, and tells on by itself.
struct Growing {
    store: Store,
    sample: Vec<Frame>,
    stream: StreamId,
    round: u64,
}

impl Growing {
    fn new() -> Self {
        let sample = sample::store();
        let all = Selection::default();
        let process = sample.processes()[0].id();
        let frames: Vec<_> = sample.export(process, &all).collect();
        let mut store = Store::new(StoreLimits { bytes: 60_000 });
        let hello = sample.processes()[0].hello().clone();
        let stream = store.connect(&hello).unwrap().stream;
        let growing = Self {
            store,
            sample: frames,
            stream,
            round: 0,
        };
        growing.grown()
    }

    fn grown(mut self) -> Self {
        let mut store = std::mem::take(&mut self.store);
        while store.machines().first().is_none_or(|one| one.start() == 0) {
            self.grow(&mut store);
        }
        self.store = store;
        self
    }

    /// Everything again, later and with other numbers.
    fn grow(&mut self, store: &mut Store) {
        self.round += 1;
        for frame in &self.sample {
            let mut frame = frame.clone();
            let is_declared = matches!(frame.body, Body::Hello(_) | Body::Machine(_));
            if !is_declared {
                frame.number += self.round * 1_000;
                frame.wall += self.round * 10_000_000;
            }
            store.apply(self.stream, frame).unwrap();
        }
    }
}

#[test]
fn whatever_is_typed_while_entries_come_and_go_it_goes_on() {
    let mut rng = fastrand::Rng::with_seed(9);
    let lines = [
        ":rev 3<enter>",
        ":n 1<enter>",
        ":s Heartbeat<enter>",
        ":s ErrGate<enter>",
        "<home>",
        "<end>",
        "<left>",
        "<right>",
        "d",
        "D<esc>",
        "bhere<enter>",
        "B<enter>",
        "B<down><enter>",
        "!",
        "y",
        "n",
        "p",
        "x",
        "X",
        "T",
        "f<down><space><esc>",
        "/gate<enter>",
        "/<c-u><enter>",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "m",
        "<tab>",
        "<enter>",
        "<down>",
        "<esc>",
        "t<c-u>add ErrGate<enter>",
        "z",
        "<space>",
        "w",
        "g",
        "s",
        "v",
        "+",
        "-",
    ];
    for _ in 0..6 {
        let mut growing = Growing::new();
        let store = std::mem::take(&mut growing.store);
        assert!(store.machines()[0].start() > 0);
        let mut app = app(store, (rng.u16(20..160), rng.u16(8..60)));
        let mut late = Vec::new();
        let began = app.store.read().unwrap().machines()[0].start();
        for _ in 0..150 {
            for key in parse_keys(lines[rng.usize(..lines.len())]).unwrap() {
                let effects = app.update(Message::Key(key));
                // Jobs run when what they are about may be forgotten.
                let jobs = effects.into_iter();
                late.extend(jobs.filter_map(|effect| match effect {
                    Effect::Run(id, job) => Some((id, job)),
                    _ => None,
                }));
            }
            if rng.bool() {
                let shared = Arc::clone(&app.store);
                for _ in 0..20 {
                    growing.grow(&mut shared.write().unwrap());
                }
                if rng.bool() {
                    app.update(Message::Told);
                }
            }
            if rng.u8(..3) == 0 {
                for (id, job) in std::mem::take(&mut late) {
                    let shared = Arc::clone(&app.store);
                    let done = done(job, &shared);
                    app.update(Message::Done(id, done));
                }
                app.update(Message::Tick);
            }
            if rng.u8(..4) == 0 {
                screen(&app);
            }
        }
        assert!(app.store.read().unwrap().machines()[0].start() > began);
    }
}
