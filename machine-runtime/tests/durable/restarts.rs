//! Restarts, and what followers and writers see of them.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machine_runtime::durable::{Durability, InMemoryBackend, Store, StoreError, StoreOptions};
use machine_runtime::replica::{Connect, Follower, FollowerOptions, Resync, Source, SourceOptions};
use machine_runtime::{
    Binder, DynState, Finished, Handlers, Key, Machine, Mutation, Outcome, Position, TellFn, View,
    WriteOptions,
};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use crate::disk::Disk;
use crate::root::{Dir, Root, random_mutation, schema, state};

/// The way to a root, or to whichever is in its place.
#[derive(Clone, Default)]
struct Way(Arc<Mutex<(Option<Source>, JoinSet<()>)>>);

impl Way {
    fn lead_to(&self, view: &View<DynState>) {
        self.0.lock().unwrap().0 = Some(Source::new(view, SourceOptions::new("root")));
    }

    fn cut(&self) {
        *self.0.lock().unwrap() = (None, JoinSet::new());
    }
}

impl Connect for Way {
    type Io = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        let mut way = self.0.lock().unwrap();
        let source = way.0.clone().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = tokio::io::duplex(1 << 16);
        way.1
            .spawn(async move { source.serve_connection(far).await });
        Ok(near)
    }
}

async fn reach(view: &View<DynState>, position: Position) {
    let mut positions = view.positions();
    let there = |now: &Option<Position>| now.is_some_and(|now| now.has_reached(position));
    positions.wait_for(there).await.unwrap();
}

#[tokio::test]
async fn followers_resume_over_a_restart_without_a_snapshot() {
    let dir = Dir::new();
    let way = Way::default();
    let mut tasks = JoinSet::new();
    let (view, follower) = Follower::new::<DynState>(schema(), FollowerOptions::new("child"));
    let link = follower.link().clone();
    tasks.spawn(follower.run(vec![way.clone()], std::future::pending()));
    let mut random = fastrand::Rng::with_seed(1);
    let mut options = StoreOptions::default();
    options.checkpoint_bytes = 2000;
    for life in 0..4 {
        let root = Root::open_with(&dir, options);
        way.lead_to(root.handle.view());
        for _ in 0..20 {
            let _ = root
                .handle
                .mutate(random_mutation(&mut random))
                .await
                .unwrap();
        }
        let last = root.handle.view().position().unwrap();
        reach(&view, last).await;
        assert_eq!(
            view.snapshot().unwrap().digest(),
            root.handle.view().snapshot().unwrap().digest()
        );
        assert_eq!(link.connects(), life + 1);
        // It misses the last of them.
        way.cut();
        for _ in 0..20 {
            let _ = root
                .handle
                .mutate(random_mutation(&mut random))
                .await
                .unwrap();
        }
        root.stop().await;
    }
    let resyncs: u64 = Resync::ALL.iter().map(|why| link.resyncs(*why)).sum();
    assert_eq!((resyncs, link.resyncs(Resync::First)), (1, 1));
}

#[tokio::test]
async fn a_new_epoch_begins_where_it_is_asked_for() {
    let dir = Dir::new();
    let root = Root::open(&dir);
    let epoch = root.epoch;
    let _ = root.handle.add(state("Light1Red")).await.unwrap();
    let before = root.stop().await;
    std::fs::write(dir.0.join("new-epoch"), "").unwrap();
    let root = Root::open(&dir);
    let begun = root.epoch;
    assert_ne!(begun, epoch);
    assert_eq!(root.stop().await, before);
    let root = Root::open(&dir);
    assert_eq!((root.epoch, &root.notes[..]), (begun, &[][..]));
    // Followers resume from where it began.
    let _ = root.handle.add(state("Light2Red")).await.unwrap();
    assert_eq!(root.handle.view().ring_size().0, 1);
}

#[tokio::test]
async fn a_history_that_begins_is_a_new_epoch_that_is_not_asked_for_again() {
    let dir = Dir::new();
    std::fs::create_dir_all(&dir.0).unwrap();
    let asked = dir.0.join("new-epoch");
    std::fs::write(&asked, "").unwrap();
    let root = Root::open(&dir);
    let begun = root.epoch;
    assert!(!asked.exists());
    root.stop().await;
    assert_eq!(Root::open(&dir).epoch, begun);
}

#[tokio::test]
async fn two_processes_do_not_share_a_directory() {
    let dir = Dir::new();
    let (store, _) = Store::open(&dir.0, &schema(), StoreOptions::default()).unwrap();
    // A lock belongs to whoever opened the file, so it is as good as another process.
    let second = Store::open(&dir.0, &schema(), StoreOptions::default());
    let error = second.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(
        error
            .to_string()
            .ends_with("history.redb: another process has it open")
    );
    drop(store);
    Store::open(&dir.0, &schema(), StoreOptions::default()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for() {
    let disk = Disk::default();
    let mut root =
        Root::start(Store::on(disk.clone(), &schema(), StoreOptions::default()).unwrap());
    let (red, green) = (state("Light1Red"), state("Light1Green"));
    let first = root.handle.add(red).await.unwrap();
    disk.set_room(Some(0));
    let key = WriteOptions::new().with_key(Key::new("k").unwrap());
    let late = key.clone().with_time(Duration::from_secs(5));
    let write = root.handle.mutate_with(Mutation::add(green), late).await;
    assert!(write.unwrap_err().may_have_run());
    // Reads go on where it was.
    assert_eq!(root.handle.view().position(), Some(first.position));
    assert!(root.handle.view().is_active(red));
    let waiting = root.stats.waiting_for_room().unwrap();
    assert!(waiting.contains("no room"), "{waiting}");
    disk.set_room(None);
    let again = root
        .handle
        .mutate_with(Mutation::add(green), key)
        .await
        .unwrap();
    assert_eq!(again.position.revision, first.position.revision + 1);
    assert_eq!(again.outcome, Outcome::Executed);
    assert_eq!(root.stats.waiting_for_room(), None);
    assert_eq!(root.stats.position(), Some(again.position));

    // One that is to stop waits for a while, and nobody is told what is not kept.
    disk.set_room(Some(0));
    let handle = root.handle.clone();
    let mut writer = JoinSet::new();
    writer.spawn(async move { handle.add(red).await });
    while root.stats.waiting_for_room().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    root.ask_to_stop();
    assert!(root.ended().await.is_err());
    let lost = writer.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(lost.may_have_run());
    let disk = Disk::of(disk.bytes());
    let root = Root::start(Store::on(disk, &schema(), StoreOptions::default()).unwrap());
    assert_eq!(root.handle.view().position(), Some(again.position));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_in_the_middle_of_a_batch_loses_none() {
    let disk = Disk::default();
    let mut options = StoreOptions::default();
    options.checkpoint_bytes = 300;
    let root = Root::start(Store::on(disk.clone(), &schema(), options).unwrap());
    let mut random = fastrand::Rng::with_seed(9);
    let mut machine = Machine::with_schema(schema());
    for _ in 0..60 {
        let len = disk.bytes().len() as u64;
        disk.set_room(Some(random.u64(..=len)));
        let mutation = random_mutation(&mut random);
        let expected = machine.mutate(&mutation);
        let mut writer = JoinSet::new();
        let handle = root.handle.clone();
        writer.spawn(async move { handle.mutate(mutation).await });
        tokio::time::sleep(Duration::from_secs(3)).await;
        disk.set_room(None);
        let receipt = writer.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(receipt.outcome, expected);
    }
    let opened = Store::on(Disk::of(disk.bytes()), &schema(), options).unwrap();
    let mut expected = machine.checkpoint();
    // The last may have been refused.
    expected.queue_tick = 0;
    let mut now = opened.1.machine_with(schema()).checkpoint();
    now.queue_tick = 0;
    assert_eq!((now, opened.1.notes), (expected, Vec::new()));
}

#[tokio::test]
async fn a_disk_that_fails_ends_the_root_and_nothing_of_the_batch_is_told() {
    let disk = Disk::default();
    let mut root =
        Root::start(Store::on(disk.clone(), &schema(), StoreOptions::default()).unwrap());
    let first = root.handle.add(state("Light1Red")).await.unwrap();
    let view = root.handle.view().clone();
    disk.fail_at(0);
    let lost = root.handle.add(state("Light2Red")).await.unwrap_err();
    assert!(lost.may_have_run());
    let error = root.ended().await.unwrap_err();
    assert!(error.downcast_ref::<StoreError>().is_some());
    assert_eq!(view.position(), Some(first.position));
    let later = root.handle.add(state("Light2Red")).await.unwrap_err();
    assert!(!later.may_have_run());
}

#[tokio::test(start_paused = true)]
async fn relaxed_is_on_disk_after_a_while_and_begins_anew_after_a_crash() {
    let mut options = StoreOptions::default();
    options.durability = Durability::Relaxed(Duration::from_secs(1));
    let disk = Disk::default();
    let root = Root::start(Store::on(disk.clone(), &schema(), options).unwrap());
    let calls = disk.calls();
    let first = root.handle.add(state("Light1Red")).await.unwrap().position;
    assert_eq!((disk.calls(), root.stats.commits()), (calls, 0));
    // Also while nothing else happens.
    while root.stats.commits() == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(root.stats.position(), Some(first));
    let second = root.handle.add(state("Light2Red")).await.unwrap().position;
    // A crash: the second is lost, so those who have seen it must not be told that nothing is.
    let crashed = Disk::of(disk.bytes());
    let again = Root::start(Store::on(crashed.clone(), &schema(), options).unwrap());
    assert_ne!(again.epoch, root.epoch);
    assert!(
        again.notes[0].contains("not closed in order"),
        "{:?}",
        again.notes
    );
    let position = again.handle.view().position().unwrap();
    assert_eq!(
        (position.epoch, position.revision),
        (again.epoch, first.revision)
    );
    // An end in order: nothing is lost, and the epoch goes on.
    let stopped = root.stop().await;
    assert_eq!(stopped.revision, second.revision);
    let opened = Store::on(Disk::of(disk.bytes()), &schema(), options).unwrap();
    assert_eq!(opened.1.position, Some(second));
    assert_eq!(opened.1.notes, Vec::<String>::new());
    // So it does where the next life is not relaxed.
    let epoch = again.epoch;
    again.stop().await;
    let opened = Store::on(
        Disk::of(crashed.bytes()),
        &schema(),
        StoreOptions::default(),
    );
    assert_eq!(opened.unwrap().1.epoch, epoch);
}

#[tokio::test]
async fn a_file_stays_as_small_as_its_checkpoints() {
    let dir = Dir::new();
    let mut options = StoreOptions::default();
    options.checkpoint_bytes = 10_000;
    let root = Root::open_with(&dir, options);
    let mut random = fastrand::Rng::with_seed(2);
    let mut longest = 0;
    for i in 0..300 {
        let mutations = (0..10).map(|_| random_mutation(&mut random)).collect();
        for receipt in root.handle.mutate_all(mutations).await.unwrap() {
            let _ = receipt;
        }
        let len = std::fs::metadata(dir.file()).unwrap().len();
        if i == 100 {
            longest = len;
        }
        assert!(i <= 100 || len <= longest, "{i}: {len}");
    }
    assert!(root.stats.bytes() > 10 * options.checkpoint_bytes);
    root.stop().await;
}

/// Adds `Light2Red` after `Light1Red`, and fails over `Light3Red`.
struct Chain;

impl Handlers<DynState> for Chain {
    fn bind(&self, binder: &mut Binder<Self, DynState>) {
        let append: TellFn<Self, DynState> = |_, cx, _| {
            cx.add(state("Light2Red"));
            Finished::from(())
        };
        let fail: TellFn<Self, DynState> = |_, _, _| panic!("it fails");
        binder.state(state("Light1Red"), &[], append);
        binder.state(state("Light3Red"), &[], fail);
    }
}

#[tokio::test]
async fn what_handlers_do_is_kept_and_not_done_again() {
    let disk = Disk::default();
    let (store, recovered) = Store::on(disk.clone(), &schema(), StoreOptions::default()).unwrap();
    let machine = recovered.machine_with(schema()).with(Chain);
    let root = Root::start_with((store, recovered), machine);
    let _ = root.handle.add(state("Light1Red")).await.unwrap();
    // The ticks have changed all the same.
    let failed = root.handle.add(state("Light3Red")).await.unwrap();
    assert!(!failed.outcome.is_executed());
    let now = root.handle.checkpoint().await.unwrap();
    assert!(root.handle.view().is_active(state("Light2Red")));
    assert!(now.position.revision >= 5, "{now:?}");
    let (store, recovered) =
        Store::on(Disk::of(disk.bytes()), &schema(), StoreOptions::default()).unwrap();
    assert_eq!(recovered.position, Some(now.position));
    let machine = recovered.machine_with(schema()).with(Chain);
    let root = Root::start_with((store, recovered), machine);
    assert_eq!(
        root.handle.checkpoint().await.unwrap().checkpoint,
        now.checkpoint
    );
}

#[tokio::test]
async fn a_machine_that_did_something_before_goes_on_from_there() {
    let disk = Disk::default();
    let (store, recovered) = Store::on(disk.clone(), &schema(), StoreOptions::default()).unwrap();
    let mut machine = recovered.machine_with(schema());
    assert!(machine.add(state("Light4Red")).is_executed());
    let root = Root::start_with((store, recovered), machine);
    let last = root.handle.add(state("Light5Red")).await.unwrap().position;
    let stopped = root.stop().await;
    let (_, recovered) = Store::on(disk, &schema(), StoreOptions::default()).unwrap();
    assert_eq!(recovered.position, Some(last));
    assert_eq!(recovered.machine_with(schema()).checkpoint(), stopped);
}

#[tokio::test]
async fn reads_commit_nothing() {
    let root =
        Root::start(Store::on(InMemoryBackend::new(), &schema(), StoreOptions::default()).unwrap());
    assert!(
        root.handle
            .can(Mutation::add(state("Light1Red")))
            .await
            .unwrap()
            .is_executed()
    );
    let _ = root.handle.checkpoint().await.unwrap();
    assert!(root.handle.errors().await.is_empty());
    assert_eq!(root.stats.commits(), 0);
    let _ = root.handle.add(state("Light1Red")).await.unwrap();
    assert_eq!(root.stats.commits(), 1);
}
