//! Subscriptions: who waits for states is told after the recorded step, and not before.

use std::future::pending;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use machine_runtime::{
    DynState, Epoch, Handle, Machine, Mutation, Owner, Receipt, ViewOptions, When,
};
use serde::{Deserialize, Deserializer};
use tokio::task::JoinSet;

use super::vectors::{Case, StateRef, Step, build, state};

/// A subscription, made after the step `after` and found closed after the step `closes`; -1 is
/// before the first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    after: i64,
    #[serde(rename = "type")]
    kind: Kind,
    states: Vec<StateRef>,
    #[serde(default)]
    times: Vec<u64>,
    #[serde(default)]
    ticks: u64,
    closes: Option<i64>,
    #[serde(default, deserialize_with = "Strict::deserialize")]
    strict: Strict,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    When,
    WhenNot,
    WhenTime,
    WhenTicks,
}

/// What a machine without the oracle's peculiarity does.
#[derive(Debug, Default)]
enum Strict {
    /// The same.
    #[default]
    Same,
    Closes(Option<i64>),
}

impl Strict {
    fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Option::deserialize(from).map(Self::Closes)
    }
}

impl Subscription {
    fn expected(&self) -> Option<i64> {
        match self.strict {
            Strict::Same => self.closes,
            Strict::Closes(step) => step,
        }
    }

    fn begin(&self, case: &Case, handle: &Handle<DynState>) -> Result<When, String> {
        let states: Vec<DynState> = case.indices(&self.states)?.into_iter().map(state).collect();
        let view = handle.view();
        Ok(match self.kind {
            Kind::When => view.when(states),
            Kind::WhenNot => view.when_not(states),
            Kind::WhenTime if states.len() == self.times.len() => {
                view.when_time(states.into_iter().zip(self.times.iter().copied()))
            }
            Kind::WhenTicks if states.len() == 1 => view.when_ticks(states[0], self.ticks),
            Kind::WhenTime | Kind::WhenTicks => {
                return Err("needs one time a state, or one state".to_owned());
            }
        })
    }
}

/// Runs the steps of a case on a machine with a task, and looks after each who was told.
pub(super) fn check(case: &Case, steps: &[Step]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(run(case, steps))
}

async fn run(case: &Case, steps: &[Step]) -> Result<(), String> {
    let schema = build(&case.states, &case.schema);
    let schema = schema.map_err(|error| format!("the schema is refused: {error}"))?;
    let machine = Machine::with_schema(schema.into());
    let (handle, owner) = Owner::new(machine, Epoch(0), ViewOptions::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        owner.run(pending()).await;
    });
    let mut waiting = Vec::new();
    for (i, step) in (-1..).zip([None].into_iter().chain(steps.iter().map(Some))) {
        if let Some(step) = step {
            mutate(&handle, step)
                .await
                .map_err(|what| format!("step {i}: {what}"))?;
            look(i, &mut waiting)?;
        }
        for subscription in case.subs.iter().filter(|s| s.after == i) {
            waiting.push((subscription, subscription.begin(case, &handle)?));
        }
        look(i, &mut waiting)?;
    }
    let missed = waiting.iter().find(|(s, _)| s.expected().is_some());
    missed.map_or(Ok(()), |(subscription, _)| {
        Err(format!("{subscription:?} is not closed"))
    })
}

async fn mutate(handle: &Handle<DynState>, step: &Step) -> Result<(), String> {
    let called: Vec<DynState> = step.called.iter().map(|index| state(*index)).collect();
    let receipt = handle.mutate(Mutation::new(step.op, called)).await;
    let Receipt { outcome, .. } = receipt.map_err(|error| error.to_string())?;
    let now = handle.view().snapshot().ok_or("nothing is published")?;
    if (outcome.is_executed(), now.ticks()) == (step.executed, &step.ticks[..]) {
        return Ok(());
    }
    let expected = (step.executed, &step.ticks);
    Err(format!(
        "expected {expected:?}, got {outcome:?}, {:?}",
        now.ticks()
    ))
}

/// Takes out who was told, which has to be now.
fn look(now: i64, waiting: &mut Vec<(&Subscription, When)>) -> Result<(), String> {
    let mut context = Context::from_waker(Waker::noop());
    let mut wrong = None;
    waiting.retain_mut(|(subscription, when)| {
        let told = pin!(when).poll(&mut context);
        let due = subscription.expected() == Some(now);
        if told == Poll::Ready(Ok(())) && due {
            return false;
        }
        if told.is_ready() || due {
            wrong = Some(format!("{subscription:?} after step {now}: {told:?}"));
        }
        true
    });
    wrong.map_or(Ok(()), Err)
}
