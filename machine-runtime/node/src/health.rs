//! The pulse of a root: `Heartbeat` and `Healthcheck` tick by themselves, so that whoever watches them
//! sees that mutations get through.

use std::time::Duration;

use anyhow::Context;
use machine_runtime::{DynState, Handle, Mutation, State};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::shutdown::Tasks;

/// What is added, and removed again where it would not tick otherwise.
const STATES: [&str; 2] = ["Heartbeat", "Healthcheck"];

/// Adds `Heartbeat` and `Healthcheck` to the machine of `handle` every so often, from `every` from now
/// until `tasks` are stopped. Each is called alone, so that adding it lets no auto state begin (rule
/// R29). A multi state ticks whenever it is added and stays; another is removed again, which is a
/// mutation like any.
///
/// # Errors
///
/// If the machine has no such states.
pub fn start<S: State>(handle: &Handle<S>, every: Duration, tasks: &Tasks) -> anyhow::Result<()> {
    let handle = handle.untyped();
    let beat = beat(&handle)?;
    tasks.spawn_until_stopped(async move {
        let mut period = interval_at(Instant::now() + every, every);
        // A machine that was busy is not asked in a burst.
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            if handle.mutate_all(beat.clone()).await.is_err() {
                // The machine has ended.
                return;
            }
        }
    });
    Ok(())
}

fn beat(handle: &Handle<DynState>) -> anyhow::Result<Vec<Mutation<DynState>>> {
    let schema = handle.view().schema();
    let mut beat = Vec::new();
    for name in STATES {
        let index = schema.find(name).with_context(|| {
            format!(
                "`{}` has no state `{name}`, which --healthcheck is to activate; inherit `Basic`",
                schema.name()
            )
        })?;
        let state = DynState(u32::try_from(index).context("a state without an index")?);
        beat.push(Mutation::add(state));
        if !schema.is_multi(index) {
            beat.push(Mutation::remove(state));
        }
    }
    Ok(beat)
}

#[cfg(test)]
mod tests {
    use machine_runtime::observe::Observers;
    use machine_runtime::{Basic, Epoch, Machine, Owner, States, ViewOptions, states};

    use super::*;
    use crate::node::start_machine;

    states! {
        /// A state that waits for its chance.
        pub enum Patient: Basic {
            #[auto]
            Waits,
        }
    }

    states! {
        /// Nothing that beats.
        pub enum Still {
            Stone,
        }
    }

    /// A machine that nothing has happened to yet, so that its auto state still waits.
    fn fresh<S: States>(tasks: &Tasks) -> Handle<S> {
        let (handle, owner) =
            Owner::new(Machine::<S>::new(), Epoch::random(), ViewOptions::default());
        let (stopped, held) = (tasks.stopped(), handle.clone());
        tasks.spawn(async move {
            owner.run(stopped).await;
            drop(held);
        });
        handle
    }

    #[tokio::test(start_paused = true)]
    async fn both_tick_by_themselves() {
        let tasks = Tasks::default();
        let handle = start_machine(Machine::<Patient>::new(), &Observers::new(), &tasks)
            .await
            .unwrap();
        start(&handle, Duration::from_secs(5), &tasks).unwrap();
        let began = Instant::now();
        let both = [(Patient::Heartbeat, 4), (Patient::Healthcheck, 3)];
        handle.view().when_time(both).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        assert!(!handle.view().is_active(Patient::Heartbeat));
        assert_eq!(tasks.finish(Duration::from_secs(1)).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn adding_them_lets_no_auto_state_begin() {
        let tasks = Tasks::default();
        let handle = fresh::<Patient>(&tasks);
        let adds = beat(&handle.untyped()).unwrap();
        let adds = adds
            .into_iter()
            .filter(|m| m.op() == machine_runtime::Op::Add);
        let receipts = handle.untyped().mutate_all(adds.collect()).await.unwrap();
        assert!(receipts.iter().all(|receipt| receipt.outcome.is_executed()));
        let view = handle.view();
        assert!(view.is_active(Patient::Heartbeat) && view.is_active(Patient::Healthcheck));
        assert!(!view.is_active(Patient::Waits));
        // Anything else does.
        let receipt = handle.add(Patient::Start).await.unwrap();
        assert!(receipt.outcome.is_executed());
        assert!(handle.view().is_active(Patient::Waits));
        assert_eq!(tasks.finish(Duration::from_secs(1)).await, 0);
    }

    #[tokio::test]
    async fn a_machine_without_them_is_told() {
        let tasks = Tasks::default();
        let handle = fresh::<Still>(&tasks);
        let error = start(&handle, Duration::from_secs(5), &tasks).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("`Still` has no state `Heartbeat`"),
            "{error}"
        );
        assert_eq!(tasks.finish(Duration::from_secs(1)).await, 0);
    }
}
