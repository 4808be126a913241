//! A root of this machine: in memory, or with a history that outlives it.

use std::time::Duration;

use machine_node::disk::{Disk, Opened};
use machine_node::log;
use machine_node::node::{start_durable, start_machine_with};
use machine_node::shutdown::Tasks;
use machine_node::status::Lines;
use machine_node::telemetry::Role;
use machine_runtime::observe::Observers;
use machine_runtime::{Handle, Machine, States, ViewOptions};
use tokio::time::sleep;

use crate::cli::StateArgs;
use crate::states::Flights;
use crate::tower::Tower;

/// A root's machine, which runs.
#[derive(Debug)]
pub struct Root {
    /// Sends it mutations.
    pub handle: Handle<Flights>,
    /// Who observes it.
    pub observers: Observers,
    /// Where its history is kept, if it is.
    pub disk: Option<Disk>,
}

impl Root {
    /// Starts the machine of the node called `name`, or has it go on where its history stands; what is to
    /// be known of that is among `lines` and in the log.
    ///
    /// # Errors
    ///
    /// [`Unkept`](machine_node::disk::Unkept) if the history cannot be opened or kept, or if the machine
    /// refuses to become ready.
    pub async fn start(
        name: &str,
        state: &StateArgs,
        view: ViewOptions,
        tasks: &Tasks,
        lines: &Lines,
    ) -> anyhow::Result<Self> {
        let opened = match state.kept() {
            Some((dir, durability)) => {
                Some(Opened::open(dir, Flights::schema(), durability).await?)
            }
            None => None,
        };
        let observers = Observers::new();
        log::attach(&observers, Flights::schema(), name, Role::Root, tasks);
        let Some(opened) = opened else {
            let machine = Machine::new().with(Tower);
            return Ok(Self {
                handle: start_machine_with(machine, view, &observers, tasks).await?,
                observers,
                disk: None,
            });
        };
        for note in opened.notes() {
            tracing::warn!(node = name, "{note}");
            lines.push(format!("{name}: {note}"));
        }
        if let Some(position) = opened.position() {
            lines.push(format!("{name}: goes on from {position}"));
        }
        let disk = Some(opened.disk().clone());
        let bind = |machine: Machine<Flights>| machine.with(Tower);
        let handle = start_durable(opened, bind, view, &observers, tasks).await?;
        wait_again(&handle, tasks);
        Ok(Self {
            handle,
            observers,
            disk,
        })
    }
}

/// Waits for the estimates of flights that are delayed already, as the [`Tower`] is told of what begins only.
/// How much of that time is over is not known: a flight may be overdue by so much too late.
fn wait_again(root: &Handle<Flights>, tasks: &Tasks) {
    let view = root.view();
    for flight in Flights::flights() {
        let (delayed, overdue) = (Flights::delayed(flight), Flights::overdue(flight));
        if !view.is_active(delayed) || view.is_active(overdue) {
            continue;
        }
        let estimate = view.payload(Flights::delayed_payload(flight));
        let Some(in_ms) = estimate.ok().flatten().and_then(|estimate| estimate.in_ms) else {
            continue;
        };
        let (root, context) = (root.clone(), view.context(delayed));
        tasks.spawn_until_stopped(async move {
            let wait = context.run(sleep(Duration::from_millis(in_ms)));
            if wait.await.is_ok() {
                // If the machine has ended, so has the wait.
                let _ = root.add(overdue).await;
            }
        });
    }
}
