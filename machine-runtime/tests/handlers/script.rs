//! Handlers made of closures, on schemas made at run time.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machine_runtime::{
    AskFn, Binder, DynState, Final, Finished, Handlers, IntoStates, Limits, Machine, Negotiation,
    Phase, Schema, SchemaBuilder, StateDef, StateList, TellFn, Verdict,
};

type Ask = Box<dyn Fn(&mut Negotiation<'_, DynState>) -> Verdict + Send>;
type Tell = Box<dyn FnMut(&mut Final<'_, DynState>) -> Finished + Send>;

/// A set of handlers.
#[derive(Default)]
pub(crate) struct Script {
    asks: Vec<(Phase, [StateList<DynState>; 2], Ask)>,
    tells: Vec<(Phase, StateList<DynState>, Tell)>,
}

impl Handlers<DynState> for Script {
    fn bind(&self, binder: &mut Binder<Self, DynState>) {
        let ask: AskFn<Self, DynState> = |script, cx, at| (script.asks[at[0]].2)(cx);
        let tell: TellFn<Self, DynState> = |script, cx, at| (script.tells[at[0]].2)(cx);
        for (i, (phase, [states, others], _)) in self.asks.iter().enumerate() {
            let (states, others) = (states.clone(), others.clone());
            match phase {
                Phase::Exit => binder.exit(states, &[i], ask),
                Phase::Enter => binder.enter(states, &[i], ask),
                Phase::Stay => binder.stay(states, &[i], ask),
                Phase::Between => binder.between(states, others, &[i], ask),
                Phase::AnyEnter => binder.any_enter_at(&[i], ask),
                phase => panic!("{phase} asks nobody"),
            }
        }
        for (i, (phase, states, _)) in self.tells.iter().enumerate() {
            match phase {
                Phase::End => binder.end(states.clone(), &[i], tell),
                Phase::State => binder.state(states.clone(), &[i], tell),
                Phase::AnyState => binder.any_state_at(&[i], tell),
                phase => panic!("{phase} tells nobody"),
            }
        }
    }
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A negotiation handler of `states` in `phase`.
    pub(crate) fn ask<V: Into<Verdict>>(
        mut self,
        phase: Phase,
        states: impl IntoStates<DynState>,
        ask: impl Fn(&mut Negotiation<'_, DynState>) -> V + Send + 'static,
    ) -> Self {
        let ask = Box::new(move |cx: &mut Negotiation<'_, _>| ask(cx).into());
        self.asks
            .push((phase, [list(states), StateList::new()], ask));
        self
    }

    pub(crate) fn between<V: Into<Verdict>>(
        mut self,
        before: impl IntoStates<DynState>,
        after: impl IntoStates<DynState>,
        ask: impl Fn(&mut Negotiation<'_, DynState>) -> V + Send + 'static,
    ) -> Self {
        let ask = Box::new(move |cx: &mut Negotiation<'_, _>| ask(cx).into());
        let states = [list(before), list(after)];
        self.asks.push((Phase::Between, states, ask));
        self
    }

    /// A final handler of `states` in `phase`.
    pub(crate) fn tell<F: Into<Finished>>(
        mut self,
        phase: Phase,
        states: impl IntoStates<DynState>,
        mut tell: impl FnMut(&mut Final<'_, DynState>) -> F + Send + 'static,
    ) -> Self {
        let tell = Box::new(move |cx: &mut Final<'_, _>| tell(cx).into());
        self.tells.push((phase, list(states), tell));
        self
    }

    /// Every handler there can be; each notes that it runs, and accepts.
    pub(crate) fn tracer(schema: &Schema, log: &Log) -> Self {
        let note = |text: String| {
            let log = log.clone();
            move || log.note(text.as_str())
        };
        let states = || {
            (0..)
                .zip(schema.names())
                .map(|(i, name)| (DynState(i), name))
        };
        let mut script = Self::new();
        for (state, name) in states() {
            for phase in [Phase::Exit, Phase::Enter, Phase::Stay] {
                let note = note(format!("{phase} {name}"));
                script = script.ask(phase, state, move |_| {
                    note();
                    true
                });
            }
            for phase in [Phase::End, Phase::State] {
                let note = note(format!("{phase} {name}"));
                script = script.tell(phase, state, move |_| note());
            }
            for (other, after) in states() {
                let note = note(format!("{name}-{after}"));
                script = script.between(state, other, move |_| {
                    note();
                    true
                });
            }
        }
        let [enter, state] =
            [Phase::AnyEnter, Phase::AnyState].map(|phase| note(phase.to_string()));
        script
            .ask(Phase::AnyEnter, [], move |_| {
                enter();
                true
            })
            .tell(Phase::AnyState, [], move |_| state())
    }
}

fn list(states: impl IntoStates<DynState>) -> StateList<DynState> {
    let mut list = StateList::new();
    states.append_to(&mut list);
    list
}

/// What handlers noted, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    /// What was noted since this was last asked.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A clock that moves when it is told to.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    /// Lends the clock to `machine`: 25 ms are too long, 10 s are far too long, and the machine
    /// recovers for 3 s.
    pub(crate) fn lend(&self, machine: &mut Machine<DynState>) {
        let millis = Arc::clone(&self.0);
        machine.set_stopwatch(move || Duration::from_millis(millis.load(Ordering::Relaxed)));
        let mut limits = Limits::default();
        limits.timeout = Duration::from_millis(25);
        machine.set_limits(limits);
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

/// Panics without a word to the terminal.
pub(crate) fn boom<T>() -> T {
    resume_unwind(Box::new("boom"))
}

pub(crate) fn machine(states: impl IntoIterator<Item = StateDef>) -> Machine<DynState> {
    let schema = states
        .into_iter()
        .fold(Schema::builder("Test"), SchemaBuilder::state);
    Machine::with_schema(schema.build().unwrap().into())
}

/// The same machine twice: one takes the fast road where it can, the other never does, as an After
/// relation gives an order.
pub(crate) fn roads<const N: usize>(states: [StateDef; N]) -> [Machine<DynState>; 2] {
    let detour = [StateDef::new("Y").after(["Z"]), StateDef::new("Z")];
    [
        machine(states.clone()),
        machine(states.into_iter().chain(detour)),
    ]
}
