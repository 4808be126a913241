//! Transitions of a machine alone: processor time of one random add of three states, with the auto
//! mutation that follows, ticks and digest; without handlers, and with some that do nothing. And of
//! one with a task, while many wait for what never comes.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};

use machine_runtime::observe::{Interest, Observers};
use machine_runtime::{
    EXCEPTION, Epoch, Handle, Machine, Mutation, Owner, Relation, States, ViewOptions, When,
};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::cpu;
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::states::{Published15k, Published148, Published1394};

mod handlers;

/// How many rounds a figure is the median of.
const ROUNDS: usize = 9;

/// How many futures wait.
const WAITERS: usize = 100_000;

/// How many mutations a handle sends at once: they share what sending and publishing cost.
const BATCH: usize = 1_000;

pub(crate) fn measure(report: &mut Report) {
    let calls = report.effort(100_000, 1_000_000);
    let mut figures = [const { Vec::new() }; 10];
    let mut masks = Masks::new::<Published148>();
    let mut small = Machine::new();
    let mut one = Machine::new().with(handlers::One);
    let mut all = Machine::new().with(handlers::All);
    let mut middle = Machine::new();
    let mut large = Machine::new();
    let mut alone = Owned::<Published148>::new(None);
    let mut awaited = Owned::<Published148>::new(None);
    let waiting = awaited.wait();
    let mut counted = Owned::<Published148>::new(Some(Observers::new()));
    let observers = Observers::new();
    // Nobody ever takes what it is told.
    let hangs = observers.attach("hangs", Interest::CHANGES | Interest::TRACES, 4096);
    let mut ignored = Owned::<Published148>::new(Some(observers));
    for round in 0..=ROUNDS {
        report.progress(&format!("core: round {round} of {ROUNDS}"));
        // All sizes in each round: what the machine is doing meanwhile hits them alike.
        let round_figures = [
            masks.time::<Published148>(&drawn::<Published148>(calls)),
            time(&mut small, &drawn::<Published148>(calls)),
            time(&mut one, &drawn::<Published148>(calls)),
            time(&mut all, &drawn::<Published148>(calls)),
            time(&mut middle, &drawn::<Published1394>(calls)),
            time(&mut large, &drawn::<Published15k>(calls)),
            alone.time(calls),
            awaited.time(calls),
            counted.time(calls),
            ignored.time(calls),
        ];
        // The first warms up.
        if round > 0 {
            for (list, figure) in figures.iter_mut().zip(round_figures) {
                list.push(figure);
            }
        }
    }
    awaited.check(waiting);
    drop(hangs);
    let [
        masks,
        small,
        one,
        all,
        middle,
        large,
        alone,
        awaited,
        counted,
        ignored,
    ] = figures.map(Samples::new);
    let floor = Baseline::new("bit masks alone", masks.median());
    let above = Baseline::new("core.add3.148", small.median());
    report.row("core.add3.148", "ns", small, floor);
    report.row("core.add3.148.one_handler", "ns", one, above.clone());
    report.row("core.add3.148.all_handlers", "ns", all, above.clone());
    report.row("core.add3.1394", "ns", middle, above.clone());
    report.row("core.add3.15k", "ns", large, above);
    let alone = Baseline::new("nobody waiting", alone.median());
    report.row("core.waiters.100k", "ns", awaited, alone.clone());
    let unseen = Baseline::new("not observed", alone.value);
    report.row("core.observed.metrics", "ns", counted, unseen.clone());
    report.row("core.observed.hung", "ns", ignored, unseen);
}

/// A machine with a task, on a runtime of this thread.
struct Owned<S: States> {
    handle: Handle<S>,
    runtime: Runtime,
    /// Runs the machine until it drops.
    _tasks: JoinSet<Machine<S>>,
    /// A state that no call brings up.
    never: S,
}

impl<S: States> Owned<S> {
    fn new(observers: Option<Observers>) -> Self {
        let runtime = Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime of one thread needs nothing from the system");
        let mut options = ViewOptions::default();
        options.observers = observers;
        let (handle, owner) = Owner::new(Machine::new(), Epoch(0), options);
        let mut tasks = JoinSet::new();
        tasks.spawn_on(owner.run(std::future::pending()), runtime.handle());
        let schema = S::schema();
        let added = |state: &S| {
            let index = state.index();
            (0..schema.len()).any(|other| {
                let added = schema.related(Relation::Add, other);
                added.iter().any(|added| *added as usize == index)
            })
        };
        let mut states = S::ALL.iter();
        let never = states.find(|state| !added(state) && !schema.is_auto(state.index()));
        Self {
            handle,
            runtime,
            _tasks: tasks,
            never: *never.expect("most states come when they are called"),
        }
    }

    /// Begins to wait, as tasks do: each is polled once.
    fn wait(&self) -> Vec<When> {
        let mut context = Context::from_waker(Waker::noop());
        let wait = |_| {
            let mut when = self.handle.view().when(self.never);
            let polled = pin!(&mut when).poll(&mut context);
            assert!(polled.is_pending(), "nothing has been called yet");
            when
        };
        (0..WAITERS).map(wait).collect()
    }

    /// # Panics
    ///
    /// If what they wait for came after all: then they were not idle.
    fn check(&self, waiting: Vec<When>) {
        assert_eq!(self.handle.view().tick(self.never), 0);
        drop(waiting);
    }

    /// The ns of one call, as in [`time`], with its part of what a batch of them costs.
    fn time(&mut self, calls: usize) -> f64 {
        let calls = drawn::<S>(calls).into_iter();
        let calls: Vec<_> = calls.filter(|call| !call.contains(&self.never)).collect();
        let exception = S::schema().find(EXCEPTION).and_then(S::from_index);
        let batch = |calls: &[[S; 3]]| -> Vec<Mutation<S>> {
            let adds = calls.iter().map(|call| Mutation::add(*call));
            adds.chain(exception.map(Mutation::remove)).collect()
        };
        let batches: Vec<_> = calls.chunks(BATCH).map(batch).collect();
        let handle = &self.handle;
        let start = cpu::of_thread();
        self.runtime.block_on(async {
            for batch in batches {
                let done = handle.mutate_all(batch).await;
                black_box(done.expect("the task runs as long as the handle is there"));
            }
        });
        (cpu::of_thread() - start) / count(&calls)
    }
}

/// Random calls of three states each, none of them `Exception`, drawn before the clock starts and
/// used once: a list that repeats is learnt by the processor.
fn drawn<S: States>(calls: usize) -> Vec<[S; 3]> {
    let mut random = fastrand::Rng::new();
    let exception = S::schema().find(EXCEPTION).unwrap_or(usize::MAX);
    let mut state = || loop {
        let state = S::ALL[random.usize(..S::ALL.len())];
        if state.index() != exception {
            return state;
        }
    };
    (0..calls).map(|_| [state(), state(), state()]).collect()
}

/// The ns of one call. Where it brings up `Exception`, the removal of that is part of it, as in all
/// random traffic.
fn time<S: States>(machine: &mut Machine<S>, calls: &[[S; 3]]) -> f64 {
    let exception = S::schema().find(EXCEPTION).and_then(S::from_index);
    let start = cpu::of_thread();
    for call in calls {
        // Whether it is accepted is part of what is random.
        let _ = black_box(machine.add(*call));
        if let Some(exception) = exception.filter(|state| machine.is_active(*state)) {
            let _ = black_box(machine.remove(exception));
        }
    }
    let spent = cpu::of_thread() - start;
    black_box(machine.digest());
    spent / count(calls)
}

#[expect(clippy::cast_precision_loss, reason = "a list that fits into memory")]
fn count<T>(list: &[T]) -> f64 {
    list.len() as f64
}

/// The floor: the same calls as bits that are set and cleared. No order, ticks, digest or auto
/// states, and nothing is taken back where a requirement lacks.
struct Masks {
    active: Vec<u64>,
    removes: Vec<Vec<u64>>,
    requires: Vec<Vec<u64>>,
}

impl Masks {
    fn new<S: States>() -> Self {
        let schema = S::schema();
        let words = schema.len().div_ceil(64);
        let masks = |relation| -> Vec<Vec<u64>> {
            let mask = |state| {
                let mut mask = vec![0; words];
                for related in schema.related(relation, state) {
                    let related = *related as usize;
                    mask[related / 64] |= 1 << (related % 64);
                }
                mask
            };
            (0..schema.len()).map(mask).collect()
        };
        Self {
            active: vec![0; words],
            removes: masks(Relation::Remove),
            requires: masks(Relation::Require),
        }
    }

    fn time<S: States>(&mut self, calls: &[[S; 3]]) -> f64 {
        let start = cpu::of_thread();
        for call in calls {
            for state in call {
                let index = state.index();
                let words = self.active.iter_mut();
                for (word, remove) in words.zip(&self.removes[index]) {
                    *word &= !remove;
                }
                self.active[index / 64] |= 1 << (index % 64);
            }
            let lacks = call.iter().any(|state| {
                let required = &self.requires[state.index()];
                self.active
                    .iter()
                    .zip(required)
                    .any(|(word, required)| required & !word != 0)
            });
            black_box(lacks);
        }
        (cpu::of_thread() - start) / count(calls)
    }
}
