//! Random frames: the store says of them what a list of them says.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::told::{Teller, hello, schema};
use super::*;
use crate::debug::frame::Transition;
use crate::handlers::Cause;
use crate::mutation::Reason;
use crate::position::Position;

/// A frame and what was true after it.
struct Told {
    frame: Frame,
    ticks: Vec<u64>,
    revision: u64,
    is_sure: bool,
}

struct Model {
    told: Vec<Told>,
    store: Store,
    stream: StreamId,
}

impl Model {
    fn new(states: usize, frames: usize, seed: u64, limits: StoreLimits) -> Self {
        let mut teller = Teller::new(schema(states, &mut Rng::with_seed(seed)), seed);
        let mut store = Store::new(limits);
        let stream = store.connect(&hello(9)).unwrap().stream;
        store.apply(stream, teller.declared("root", None)).unwrap();
        let mut told = Vec::new();
        let (mut ticks, mut revision, mut is_sure) = (vec![0; states], 0, false);
        for frame in teller.frames(frames) {
            match &frame.body {
                Body::Key(key) => {
                    (ticks, revision) = (key.ticks.clone(), key.position.revision);
                    is_sure = true;
                }
                Body::Transition(told) => {
                    for change in &told.changes {
                        ticks[change.state as usize] += change.ticks;
                    }
                    revision = told.revision;
                }
                _ => is_sure = false,
            }
            store.apply(stream, frame.clone()).unwrap();
            told.push(Told {
                frame,
                ticks: ticks.clone(),
                revision,
                is_sure,
            });
        }
        Self {
            told,
            store,
            stream,
        }
    }

    fn history(&self) -> &History {
        self.store.machine(MachineId(0))
    }

    fn transition(&self, i: usize) -> Option<&Transition> {
        match &self.told[i].frame.body {
            Body::Transition(told) => Some(told),
            _ => None,
        }
    }

    fn check_entries(&self) {
        let history = self.history();
        assert_eq!(history.end(), self.told.len());
        assert!(!history.is_empty());
        for i in history.range() {
            let Told {
                frame,
                ticks,
                revision,
                is_sure,
            } = &self.told[i];
            let entry = history.entry(i);
            assert_eq!(entry.body, frame.body, "{i}");
            let stamps = (entry.number, entry.wall, entry.mono);
            assert_eq!(stamps, (frame.number, frame.wall, frame.mono));
            assert_eq!(
                (entry.wall, entry.flags),
                (history.wall(i), history.flags(i))
            );
            let moment = history.ticks_after(i);
            assert_eq!((&moment.ticks, moment.is_sure), (ticks, *is_sure), "{i}");
            assert_eq!(entry.position.revision, *revision, "{i}");
            assert_eq!(moment.position, entry.position);
            if i > history.start() {
                assert_eq!(history.ticks_before(i).ticks, self.told[i - 1].ticks);
            }
            if let Some(told) = self.transition(i) {
                assert_eq!(entry.flags.contains(Flags::ACCEPTED), told.is_accepted());
                assert_eq!(history.cause(i), Some(told.cause));
                assert_eq!(history.trace(i), told.trace);
            }
        }
        assert_eq!(history.now().ticks, self.told.last().unwrap().ticks);
    }

    fn check_times(&self) {
        let history = self.history();
        let (mut latest, mut latests) = (0, Vec::new());
        for told in &self.told {
            latest = latest.max(told.frame.wall);
            latests.push(latest);
        }
        for told in &self.told {
            for wall in [told.frame.wall - 1, told.frame.wall, told.frame.wall + 1] {
                let naive = history.range().rfind(|i| latests[*i] <= wall);
                assert_eq!(history.last_at(wall), naive);
            }
        }
        assert_eq!(history.last_at(u64::MAX), history.last());
    }

    fn check_positions(&self) {
        let history = self.history();
        let most = self.told.last().unwrap().revision;
        for revision in 0..most + 2 {
            let position = Position {
                epoch: told::EPOCH,
                revision,
            };
            let of = |exact: bool| {
                history.range().find(|i| {
                    let ours = self.told[*i].revision;
                    ours == revision || (!exact && ours > revision)
                })
            };
            let start = history.start();
            // What was behind it is not known any more to have been the first.
            let is_known = start == 0 || self.told[start - 1].revision < revision;
            if !is_known {
                assert_eq!(history.first_at(position), None, "{revision}");
                continue;
            }
            assert_eq!(history.first_at(position), of(false), "{revision}");
            let exact = of(true).filter(|i| Some(*i) == of(false));
            assert_eq!(history.index_of(position), exact);
        }
        let elsewhere = Position {
            epoch: Epoch(1),
            revision: 0,
        };
        assert_eq!(history.first_at(elsewhere), None);
    }

    fn passes(&self, i: usize, filter: &Filter) -> bool {
        let schema = self.history().schema();
        let Some(told) = self.transition(i) else {
            let lost = matches!(self.told[i].frame.body, Body::Dropped(_));
            return lost || (filter.group.is_none() && filter.text.is_none());
        };
        let health = |state: &u32| [1, 2].contains(state);
        let named = || {
            let changed = told.changes.iter().map(|change| change.state);
            told.called.iter().copied().chain(changed)
        };
        let hidden = (filter.hide_canceled && told.canceled.is_some())
            || (filter.hide_auto && told.cause == Cause::Auto)
            || (filter.hide_queued && (told.waiting.0 > 0 || told.cause == Cause::Handler))
            || (filter.hide_empty && told.canceled.is_none() && told.changes.is_empty())
            || (filter.hide_health && told.called.iter().all(health));
        let in_group = |group: &BTreeSet<u32>| named().any(|state| group.contains(&state));
        if hidden || !filter.group.as_ref().is_none_or(in_group) {
            return false;
        }
        let name = |state: u32| schema.name_of(state as usize).to_owned();
        let mut texts: Vec<String> = named().map(name).collect();
        for run in &told.handlers {
            texts.push(run.phase.name().to_owned());
            texts.extend(run.state.map(name));
        }
        texts.extend(told.left_out.iter().copied().map(name));
        for payload in &told.payloads {
            texts.push(name(payload.state));
            texts.extend(payload.text.clone());
        }
        if let Some(reason) = &told.canceled {
            texts.push(reason.code().to_owned());
            chunk::states_of(reason, |state| texts.push(name(state)));
            if let Reason::Refused(refusal) = reason {
                texts.push(refusal.phase.name().to_owned());
                texts.extend(refusal.why.as_ref().map(|why| why.clone().into_owned()));
            }
        }
        let text = filter.text.as_deref().unwrap_or("");
        text.split_whitespace().all(|word| {
            let word = word.to_lowercase();
            texts.iter().any(|text| text.to_lowercase().contains(&word))
        })
    }

    fn check_filters(&self, rng: &mut Rng) {
        let states = u32::try_from(self.history().schema().len()).unwrap();
        let words = [
            "gate",
            "GATE taken",
            "über",
            "flight7b",
            "blocked",
            "boarding delay",
            "25",
            "enter",
            "Heart",
            "zz",
            "a",
            "state gate",
            "",
        ];
        for _ in 0..24 {
            let filter = Filter {
                hide_canceled: rng.bool(),
                hide_auto: rng.bool(),
                hide_queued: rng.bool(),
                hide_empty: rng.bool(),
                hide_health: rng.bool(),
                group: rng
                    .bool()
                    .then(|| (0..3).map(|_| rng.u32(..states)).collect()),
                machines: None,
                text: rng
                    .bool()
                    .then(|| words[rng.usize(..words.len())].to_owned()),
            };
            let no_text = filter.text.as_ref().is_some_and(String::is_empty);
            let mut naive = filter.clone();
            if no_text {
                naive.text = None;
            }
            let visible = Visible::new(&self.store, MachineId(0), filter.clone());
            let history = self.history();
            let expected: Vec<usize> = history
                .range()
                .filter(|i| self.passes(*i, &naive))
                .collect();
            assert_eq!(visible.iter().collect::<Vec<_>>(), expected, "{filter:?}");
            self.check_hidden(&visible, &naive);
            self.check_next(&visible, rng.u32(..states));
        }
    }

    fn check_hidden(&self, visible: &Visible, filter: &Filter) {
        let count = |only: &dyn Fn(&mut Filter)| {
            let mut one = Filter::default();
            only(&mut one);
            let range = self.history().range();
            range.filter(|i| !self.passes(*i, &one)).count()
        };
        let expected = Hidden {
            canceled: count(&|one| one.hide_canceled = true),
            auto: count(&|one| one.hide_auto = true),
            queued: count(&|one| one.hide_queued = true),
            empty: count(&|one| one.hide_empty = true),
            health: count(&|one| one.hide_health = true),
            group: count(&|one| one.group.clone_from(&filter.group)),
            text: count(&|one| one.text.clone_from(&filter.text)),
        };
        assert_eq!(visible.hidden(), expected);
    }

    fn check_next(&self, visible: &Visible, state: u32) {
        let history = self.history();
        let changes = |i: &usize| match &self.told[*i].frame.body {
            Body::Transition(told) => told.changes.iter().any(|change| change.state == state),
            // What was lost before it.
            Body::Key(key) => {
                let before = i.checked_sub(1).map(|i| self.told[i].ticks[state as usize]);
                before.is_some_and(|before| before != key.ticks[state as usize])
            }
            _ => false,
        };
        for from in history.range().step_by(97) {
            for filter in [None, Some(visible)] {
                let shown = |i: &usize| filter.is_none_or(|visible| visible.contains(*i));
                let ahead = (from + 1..history.end()).find(|i| changes(i) && shown(i));
                let behind = (history.start()..from).rfind(|i| changes(i) && shown(i));
                assert_eq!(history.next_change(state, from, true, filter), ahead);
                assert_eq!(history.next_change(state, from, false, filter), behind);
            }
        }
    }
}

#[test]
fn entries_read_as_they_were_told() {
    for seed in 0..3 {
        let model = Model::new(40, 3_000, seed, StoreLimits::default());
        model.check_entries();
        model.check_times();
        model.check_positions();
    }
}

#[test]
fn filters_compose_as_a_look_at_each_frame_says() {
    for seed in 0..3 {
        let model = Model::new(30, 2_500, seed, StoreLimits::default());
        model.check_filters(&mut Rng::with_seed(seed));
    }
}

#[test]
fn the_oldest_go_when_there_is_no_more_room_and_the_rest_stays_as_it_was() {
    let limits = StoreLimits { bytes: 150_000 };
    let model = Model::new(40, 12_000, 5, limits);
    assert!(model.store.bytes() <= limits.bytes);
    assert!(model.history().start() > 0 && model.history().len() > 500);
    model.check_entries();
    model.check_times();
    model.check_positions();
    model.check_filters(&mut Rng::with_seed(1));
}

#[test]
fn what_is_visible_grows_and_shrinks_with_the_store() {
    let limits = StoreLimits { bytes: 150_000 };
    let mut model = Model::new(40, 3_000, 6, limits);
    let filter = Filter {
        hide_canceled: true,
        text: Some("gate".to_owned()),
        ..Filter::default()
    };
    let mut visible = Visible::new(&model.store, MachineId(0), filter.clone());
    let mut teller = Teller::new(schema(40, &mut Rng::with_seed(6)), 77);
    teller.number = model.told.last().unwrap().frame.number;
    for (n, frame) in teller.frames(6_000).into_iter().enumerate() {
        model.store.apply(model.stream, frame).unwrap();
        if n % 500 == 0 {
            visible.update(&model.store);
            let anew = Visible::new(&model.store, MachineId(0), filter.clone());
            assert!(visible.iter().eq(anew.iter()));
            assert_eq!(visible.hidden(), anew.hidden());
        }
    }
    assert!(model.history().start() > 3_000);
}

#[test]
fn an_export_is_applied_as_what_was_told() {
    let model = Model::new(30, 3_000, 8, StoreLimits::default());
    let mut copy = Store::new(StoreLimits::default());
    let stream = copy.connect(&hello(9)).unwrap().stream;
    for frame in model.store.export(ProcessId(0), &Selection::default()) {
        copy.apply(stream, frame).unwrap();
    }
    let (ours, theirs) = (model.history(), copy.machine(MachineId(0)));
    assert_eq!(theirs.end(), ours.end());
    for i in ours.range() {
        assert_eq!(theirs.entry(i), ours.entry(i));
    }
}

#[test]
fn a_filtered_export_has_the_ticks_of_what_is_left() {
    let model = Model::new(30, 3_000, 9, StoreLimits::default());
    let filter = Filter {
        hide_auto: true,
        text: Some("gate".to_owned()),
        ..Filter::default()
    };
    let selection = Selection {
        filter: filter.clone(),
        ..Selection::default()
    };
    let mut copy = Store::new(StoreLimits::default());
    let stream = copy.connect(&hello(9)).unwrap().stream;
    for frame in model.store.export(ProcessId(0), &selection) {
        copy.apply(stream, frame).unwrap();
    }
    let (ours, theirs) = (model.history(), copy.machine(MachineId(0)));
    let visible = Visible::new(&model.store, MachineId(0), filter);
    let mut shown = visible.iter();
    let mut transitions = 0;
    for i in theirs
        .range()
        .filter(|i| !theirs.flags(*i).contains(Flags::KEY))
    {
        let j = shown.next().unwrap();
        assert_eq!(theirs.entry(i).body, ours.entry(j).body);
        if theirs.flags(i).is_transition() && !ours.flags(j).contains(Flags::UNSURE) {
            transitions += 1;
            assert_eq!(theirs.ticks_after(i), ours.ticks_after(j));
        }
    }
    assert!(transitions > 100 && shown.next().is_none());
    // No key has another frame's number, and where an order is known it is the right one.
    let mut numbers = BTreeSet::new();
    let mut orders = 0;
    for frame in model.store.export(ProcessId(0), &selection) {
        assert!(frame.number == 0 || numbers.insert(frame.number));
        if let Body::Key(key) = frame.body
            && frame.number == 0
            && !key.order.is_empty()
        {
            orders += 1;
            let active = key.ticks.iter().filter(|tick| **tick % 2 == 1).count();
            assert_eq!(active, key.order.len());
        }
    }
    assert!(orders > 10);
}
