//! Roots that keep their history.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use machine_runtime::durable::{Recovered, Store, StoreOptions, StoreStats};
use machine_runtime::{
    Checkpoint, DynState, Epoch, Handle, JournalError, Machine, Mutation, Owner, Schema, StateDef,
    ViewOptions,
};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Ten lights of three colours each; `Off` comes by itself, and the others keep a note.
pub(crate) fn schema() -> Arc<Schema> {
    let mut builder = Schema::builder("Lights");
    for light in 1..=10 {
        let colours = ["Red", "Green", "Off"].map(|colour| format!("Light{light}{colour}"));
        for (i, colour) in colours.iter().enumerate() {
            let others = colours.iter().filter(|other| *other != colour);
            let state = StateDef::new(colour).remove(others.cloned());
            builder = builder.state(if i == 2 { state.auto() } else { state.retain() });
        }
    }
    builder.build().unwrap().into()
}

pub(crate) fn state(name: &str) -> DynState {
    DynState(u32::try_from(schema().find(name).unwrap()).unwrap())
}

/// A mutation of one light or several, with a note now and then.
pub(crate) fn random_mutation(random: &mut fastrand::Rng) -> Mutation<DynState> {
    let states: Vec<_> = (0..random.usize(1..4))
        .map(|_| DynState(random.u32(1..=30)))
        .collect();
    let first = states[0];
    let mutation = match random.u8(0..6) {
        0 => Mutation::remove(states),
        1 => Mutation::set(states),
        2 => Mutation::toggle(states),
        _ => Mutation::add(states),
    };
    let takes_note = (first.0 - 1) % 3 != 2;
    if takes_note && random.bool() {
        let note = format!("\"{}\"", random.u32(..));
        return mutation.with_payload(first, note);
    }
    mutation
}

/// A directory that is gone once it drops.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("machine-durable-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("history.redb")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A root that runs.
pub(crate) struct Root {
    pub(crate) handle: Handle<DynState>,
    pub(crate) epoch: Epoch,
    pub(crate) notes: Vec<String>,
    pub(crate) stats: StoreStats,
    stop: Option<oneshot::Sender<()>>,
    task: JoinSet<Result<Machine<DynState>, JournalError>>,
}

impl Root {
    pub(crate) fn open(dir: &Dir) -> Self {
        Self::open_with(dir, StoreOptions::default())
    }

    pub(crate) fn open_with(dir: &Dir, options: StoreOptions) -> Self {
        Self::start(Store::open(&dir.0, &schema(), options).unwrap())
    }

    pub(crate) fn start((store, recovered): (Store, Recovered)) -> Self {
        let machine = recovered.machine_with(schema());
        Self::start_with((store, recovered), machine)
    }

    pub(crate) fn start_with(
        (store, recovered): (Store, Recovered),
        machine: Machine<DynState>,
    ) -> Self {
        let (epoch, notes, stats) = (recovered.epoch, recovered.notes.clone(), store.stats());
        let (handle, owner) = Owner::durable(machine, recovered, store, ViewOptions::default());
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(owner.run_durable(async move {
            let _ = stopped.await;
        }));
        Self {
            handle,
            epoch,
            notes,
            stats,
            stop: Some(stop),
            task,
        }
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&mut self) {
        self.stop = None;
    }

    /// How it ended.
    pub(crate) async fn ended(&mut self) -> Result<Checkpoint, JournalError> {
        let ended = self.task.join_next().await.unwrap().unwrap();
        ended.map(|machine| machine.checkpoint())
    }

    pub(crate) async fn stop(mut self) -> Checkpoint {
        self.ask_to_stop();
        self.ended().await.unwrap()
    }
}
