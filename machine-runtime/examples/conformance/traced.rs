//! The recorded cases with handlers: which ran, in which order, and what they put into the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use machine_runtime::{
    AskFn, Binder, DynState, Enqueued, Final, Handlers, Limits, Machine, Mutation, Negotiation, Op,
    Phase, TellFn, Verdict,
};
use serde::Deserialize;

use super::vectors::{Case, Step, build};

/// What a handler panics with that is to.
const INJECTED: &str = "injected";

/// How long an injected sleep takes, and how long a handler may.
const SLEEP: Duration = Duration::from_millis(60);
const TIMEOUT: Duration = Duration::from_millis(25);

/// What a case with handlers has besides.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Traced {
    #[serde(default)]
    bindings: Vec<Vec<String>>,
    #[serde(default)]
    inject: BTreeMap<String, String>,
    #[serde(default, rename = "do")]
    does: BTreeMap<String, Vec<Act>>,
}

/// A mutation that a handler makes.
#[derive(Clone, Debug, Deserialize)]
struct Act {
    op: String,
    states: Vec<String>,
    #[serde(default)]
    args: bool,
}

/// A recorded transition.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Tx {
    #[serde(rename = "type")]
    op: String,
    called: Vec<String>,
    #[serde(default)]
    auto: bool,
    accepted: bool,
    handlers: Vec<String>,
    #[serde(default)]
    queued: Vec<Queued>,
    ticks: Vec<u64>,
    /// Absent means index order.
    order: Option<Vec<usize>>,
}

/// What became of a mutation that a handler made.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct Queued {
    #[serde(rename = "in")]
    label: String,
    i: usize,
    result: String,
    tick: Option<u64>,
}

/// What handlers do, and what they did.
#[derive(Debug, Default)]
struct Book {
    states: Vec<String>,
    inject: BTreeMap<String, String>,
    does: BTreeMap<String, Vec<Act>>,
    fired: BTreeSet<String>,
    handlers: Vec<String>,
    queued: Vec<Queued>,
    clock: Duration,
}

type Shared = Arc<Mutex<Book>>;

/// One set of recorded handlers.
struct Recorder {
    book: Shared,
    labels: Vec<Label>,
}

struct Label {
    text: String,
    phase: Phase,
    states: [DynState; 2],
}

/// What a handler was injected with.
enum Order {
    Refuse,
    Panic,
    Nothing,
}

/// Both contexts, as far as they append.
trait Appends {
    fn make(&mut self, mutation: &Mutation<DynState>) -> Enqueued;
    fn add_error(&mut self) -> Enqueued;
}

macro_rules! appends {
    ($context:ident) => {
        impl Appends for $context<'_, DynState> {
            fn make(&mut self, mutation: &Mutation<DynState>) -> Enqueued {
                self.mutate(mutation).expect("payloads are taken by all")
            }

            fn add_error(&mut self) -> Enqueued {
                self.fail(INJECTED)
            }
        }
    };
}

appends!(Negotiation);
appends!(Final);

impl Recorder {
    fn run(&self, label: usize, cx: &mut dyn Appends) -> Order {
        let label = &self.labels[label].text;
        let (first, acts, states) = {
            let mut book = lock(&self.book);
            book.handlers.push(label.clone());
            let first = book.fired.insert(label.clone());
            let acts = book.does.get(label).filter(|_| first).cloned();
            (first, acts.unwrap_or_default(), book.states.clone())
        };
        for (i, act) in acts.iter().enumerate() {
            let enqueued = match act.mutation(&states) {
                None => cx.add_error(),
                Some(mutation) => cx.make(&mutation),
            };
            let (result, tick) = match enqueued {
                Enqueued::Queued(tick) => ("queued", Some(tick)),
                Enqueued::Merged(_) | Enqueued::Needless => ("executed", None),
                _ => ("canceled", None),
            };
            lock(&self.book).queued.push(Queued {
                label: label.clone(),
                i,
                result: result.to_owned(),
                tick,
            });
        }
        let mut book = lock(&self.book);
        match book.inject.get(label).map(String::as_str) {
            Some("false") => Order::Refuse,
            Some("panic") if first => Order::Panic,
            Some("sleep") => {
                book.clock += SLEEP;
                Order::Nothing
            }
            _ => Order::Nothing,
        }
    }
}

impl Act {
    /// None is an error to be added.
    fn mutation(&self, states: &[String]) -> Option<Mutation<DynState>> {
        let op = op(&self.op)?;
        let called: Vec<_> = self.states.iter().map(|name| at(states, name)).collect();
        let mutation = Mutation::new(op, called.clone());
        Some(match called.first().filter(|_| self.args) {
            Some(first) => mutation.with_payload(*first, "1"),
            None => mutation,
        })
    }
}

fn lock(book: &Shared) -> std::sync::MutexGuard<'_, Book> {
    // An injected panic comes after the lock is released.
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn op(name: &str) -> Option<Op> {
    [Op::Add, Op::Remove, Op::Set, Op::Toggle]
        .into_iter()
        .find(|op| op.name() == name)
}

fn at(states: &[String], name: &str) -> DynState {
    let index = states.iter().position(|state| state == name);
    let index = index.expect("a case names its own states");
    DynState(u32::try_from(index).expect("a case has few states"))
}

impl Handlers<DynState> for Recorder {
    fn bind(&self, binder: &mut Binder<Self, DynState>) {
        let ask: AskFn<Self, DynState> = |recorder, cx, label| match recorder.run(label[0], cx) {
            Order::Refuse => Verdict::Refuse(None),
            Order::Panic => resume_unwind(Box::new(INJECTED)),
            Order::Nothing => Verdict::Accept,
        };
        let tell: TellFn<Self, DynState> = |recorder, cx, label| {
            if matches!(recorder.run(label[0], cx), Order::Panic) {
                resume_unwind(Box::new(INJECTED))
            }
            ().into()
        };
        for (i, label) in self.labels.iter().enumerate() {
            let [state, other] = label.states;
            match label.phase {
                Phase::Exit => binder.exit(state, &[i], ask),
                Phase::Enter => binder.enter(state, &[i], ask),
                Phase::Stay => binder.stay(state, &[i], ask),
                Phase::Between => binder.between(state, other, &[i], ask),
                Phase::End => binder.end(state, &[i], tell),
                Phase::State => binder.state(state, &[i], tell),
                Phase::AnyEnter => binder.any_enter_at(&[i], ask),
                Phase::AnyState => binder.any_state_at(&[i], tell),
                other => panic!("no handler is recorded for {other}"),
            }
        }
    }
}

impl Traced {
    fn recorder(&self, set: usize, states: &[String], book: &Shared) -> Recorder {
        let known = all_labels(states);
        let all = self.bindings[set] == ["*"];
        let wanted: BTreeSet<&String> = self.bindings[set].iter().collect();
        let labels = known
            .into_iter()
            .filter(|label| all || wanted.contains(&label.text));
        let prefix = if set == 0 {
            String::new()
        } else {
            format!("{set}:")
        };
        let labels = labels.map(|label| Label {
            text: format!("{prefix}{}", label.text),
            ..label
        });
        Recorder {
            book: Arc::clone(book),
            labels: labels.collect(),
        }
    }

    fn machine(&self, case: &Case) -> Result<(Machine<DynState>, Shared), String> {
        let schema = build(&case.states, &case.schema).map_err(|error| error.to_string())?;
        let mut machine = Machine::with_schema(schema.into());
        let book = Arc::new(Mutex::new(Book {
            states: case.states.clone(),
            inject: self.inject.clone(),
            does: self.does.clone(),
            ..Book::default()
        }));
        for set in 0..self.bindings.len() {
            machine.bind(self.recorder(set, &case.states, &book));
        }
        let clock = Arc::clone(&book);
        machine.set_stopwatch(move || lock(&clock).clock);
        let mut limits = Limits::default();
        limits.timeout = TIMEOUT;
        machine.set_limits(limits);
        Ok((machine, book))
    }
}

/// Every name that a handler can have.
fn all_labels(states: &[String]) -> Vec<Label> {
    let mut labels = Vec::new();
    let mut label = |text: String, phase, states| {
        labels.push(Label {
            text,
            phase,
            states,
        });
    };
    for name in states {
        let state = at(states, name);
        for (suffix, phase) in [
            ("Exit", Phase::Exit),
            ("Enter", Phase::Enter),
            ("End", Phase::End),
            ("State", Phase::State),
        ] {
            label(format!("{name}{suffix}"), phase, [state; 2]);
        }
        for other in states {
            let phase = if name == other {
                Phase::Stay
            } else {
                Phase::Between
            };
            label(format!("{name}{other}"), phase, [state, at(states, other)]);
        }
    }
    label("AnyEnter".to_owned(), Phase::AnyEnter, [DynState(0); 2]);
    label("AnyState".to_owned(), Phase::AnyState, [DynState(0); 2]);
    labels
}

/// Runs a case twice, transition by transition and mutation by mutation, and says where it comes
/// out otherwise than recorded.
pub(crate) fn check(case: &Case, traced: &Traced, steps: &[Step]) -> Result<(), String> {
    let (mut stepped, book) = traced.machine(case)?;
    let (mut whole, _) = traced.machine(case)?;
    for (i, step) in steps.iter().enumerate() {
        let called: Vec<_> = step
            .called
            .iter()
            .map(|i| super::vectors::state(*i))
            .collect();
        let mutation = Mutation::new(step.op, called);
        let differs = |what: &str, expected: &dyn std::fmt::Debug, got: &dyn std::fmt::Debug| {
            let call = format!("{} {:?}", step.op, step.called);
            Err(format!(
                "step {i} ({call}): {what}: expected {expected:?}, got {got:?}"
            ))
        };
        let executed = whole.mutate(&mutation).is_executed();
        if executed != step.executed {
            return differs("executed", &step.executed, &executed);
        }
        stepped
            .enqueue(&mutation)
            .map_err(|reason| reason.to_string())?;
        let mut got = Vec::new();
        while stepped.step() {
            got.extend(transition(&stepped, &book, &case.states));
        }
        let expected = step.txs.as_deref().unwrap_or_default();
        for (number, expected) in expected.iter().enumerate() {
            if got.get(number) != Some(expected) {
                return differs(&format!("transition {number}"), expected, &got.get(number));
            }
        }
        if got.len() != expected.len() {
            return differs("transitions", &expected.len(), &got.len());
        }
        for machine in [&whole, &stepped] {
            if machine.ticks() != step.ticks {
                return differs("ticks", &step.ticks, &machine.ticks());
            }
            let order: Vec<_> = machine
                .active_list()
                .map(|state| state.0 as usize)
                .collect();
            if step
                .order
                .as_ref()
                .is_some_and(|expected| *expected != order)
            {
                return differs("order", &step.order, &order);
            }
            if let Some(tick) = step.queue_tick.filter(|tick| *tick != machine.queue_tick()) {
                return differs("queue tick", &tick, &machine.queue_tick());
            }
        }
    }
    Ok(())
}

/// The last transition of a machine, as it is recorded.
fn transition(machine: &Machine<DynState>, book: &Shared, states: &[String]) -> Option<Tx> {
    let last = machine.last_run().next()?;
    let (handlers, queued) = {
        let mut book = lock(book);
        (
            std::mem::take(&mut book.handlers),
            std::mem::take(&mut book.queued),
        )
    };
    let order: Vec<_> = machine
        .active_list()
        .map(|state| state.0 as usize)
        .collect();
    Some(Tx {
        op: last.op().name().to_owned(),
        called: last
            .called()
            .map(|state| states[state.0 as usize].clone())
            .collect(),
        auto: last.is_auto(),
        accepted: last.is_accepted(),
        handlers,
        queued,
        ticks: machine.ticks().to_vec(),
        order: (!order.is_sorted()).then_some(order),
    })
}
