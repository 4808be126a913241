//! A root whose history outlives its process.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use machine_runtime::durable::{Durability, Store, StoreError, StoreOptions, StoreStats};
use machine_runtime::{
    Checkpoint, DynState, Epoch, Handle, JournalError, Key, Machine, Mutation, Owner, Position,
    Schema, StateDef, ViewOptions, WriteOptions,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Ten lights of three colours each; `Off` comes by itself, and the others keep a note.
fn schema() -> Arc<Schema> {
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

/// A directory that is gone once it drops.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("machine-durable-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A root that runs.
struct Root {
    handle: Handle<DynState>,
    epoch: Epoch,
    notes: Vec<String>,
    stats: StoreStats,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Machine<DynState>, JournalError>>,
}

impl Root {
    fn open(dir: &Dir) -> Self {
        Self::open_with(dir, StoreOptions::default())
    }

    fn open_with(dir: &Dir, options: StoreOptions) -> Self {
        let opened = Store::open(&dir.0, &schema(), options).unwrap();
        Self::start(opened, |machine| machine)
    }

    fn start(
        (store, recovered): (Store, machine_runtime::durable::Recovered),
        bind: impl FnOnce(Machine<DynState>) -> Machine<DynState>,
    ) -> Self {
        let machine = bind(recovered.machine_with(schema()));
        let (epoch, notes, stats) = (recovered.epoch, recovered.notes.clone(), store.stats());
        let (handle, owner) = Owner::durable(machine, recovered, store, ViewOptions::default());
        let (stop, stopped) = oneshot::channel();
        let mut tasks = tokio::task::JoinSet::new();
        let run = owner.run_durable(async move {
            let _ = stopped.await;
        });
        tasks.spawn(run);
        let task = tokio::runtime::Handle::current()
            .spawn(async move { tasks.join_next().await.unwrap().unwrap() });
        Self {
            handle,
            epoch,
            notes,
            stats,
            stop,
            task,
        }
    }

    async fn stop(self) -> Checkpoint {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap().checkpoint()
    }
}

fn state(name: &str) -> DynState {
    DynState(u32::try_from(schema().find(name).unwrap()).unwrap())
}

#[tokio::test]
async fn a_restart_goes_on_where_the_root_was() {
    let dir = Dir::new();
    let root = Root::open(&dir);
    let (red, green) = (state("Light1Red"), state("Light2Green"));
    let noted = Mutation::add([green, red]).with_payload(green, "\"B2\"");
    let keyed = WriteOptions::new().with_key(Key::new("k1").unwrap());
    let receipt = root
        .handle
        .mutate_with(noted.clone(), keyed.clone())
        .await
        .unwrap();
    let _ = root.handle.add(state("Light3Red")).await.unwrap();
    // It is refused, and takes a queue tick all the same.
    let both = Mutation::add([state("Light3Red"), DynState(1)]).with_payload(red, "1");
    let _ = root.handle.mutate(both).await.unwrap();
    let epoch = root.epoch;
    let before = root.stop().await;

    let root = Root::open(&dir);
    assert_eq!((root.epoch, &root.notes[..]), (epoch, &[][..]));
    let now = root.handle.checkpoint().await.unwrap();
    assert_eq!(now.checkpoint, before);
    let revision = before.revision;
    assert_eq!(
        root.handle.view().position(),
        Some(Position { epoch, revision })
    );
    // The write is known, so it is answered as before and does not run.
    let again = root.handle.mutate_with(noted, keyed.clone()).await.unwrap();
    assert_eq!(again, receipt);
    let other = root.handle.mutate_with(Mutation::remove(red), keyed).await;
    assert!(other.is_err(), "{other:?}");
    assert_eq!(root.stop().await, before);
}
