//! Crashes at every moment.

use machine_runtime::durable::{Store, StoreError, StoreOptions};
use machine_runtime::{Checkpoint, Epoch, Key, Machine, WriteOptions};

use crate::disk::Disk;
use crate::root::{Root, random_mutation, schema};

fn options() -> StoreOptions {
    let mut options = StoreOptions::default();
    // Checkpoints, and what they make room for, come often.
    options.checkpoint_bytes = 250;
    options
}

/// What is the same whether mutations were refused in between or not.
fn told(checkpoint: &Checkpoint) -> Checkpoint {
    let mut told = checkpoint.clone();
    told.queue_tick = 1;
    told
}

/// All that the machine comes to, one mutation after the other.
fn expected(seed: u64, count: u64) -> Vec<Checkpoint> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut machine = Machine::with_schema(schema());
    let mut all = vec![told(&machine.checkpoint())];
    for _ in 0..count {
        let _ = machine.mutate(&random_mutation(&mut random));
        all.push(told(&machine.checkpoint()));
    }
    all
}

/// What a run came to.
struct Ran {
    /// How many mutations were answered.
    answered: usize,
    asked: usize,
    epoch: Option<Epoch>,
}

/// A root on `disk` up to its end, or to the end of its disk.
async fn run(disk: &Disk, seed: u64, count: u64) -> Ran {
    let mut ran = Ran {
        answered: 0,
        asked: 0,
        epoch: None,
    };
    let Ok(opened) = Store::on(disk.clone(), &schema(), options()) else {
        return ran;
    };
    let mut root = Root::start(opened);
    ran.epoch = Some(root.epoch);
    let mut random = fastrand::Rng::with_seed(seed);
    for i in 0..count {
        let mutation = random_mutation(&mut random);
        ran.asked += 1;
        let key = Key::new(i.to_le_bytes()).unwrap();
        let options = WriteOptions::new().with_key(key);
        if root.handle.mutate_with(mutation, options).await.is_err() {
            assert!(root.ended().await.is_err());
            return ran;
        }
        ran.answered += 1;
    }
    root.ask_to_stop();
    let _ = root.ended().await;
    ran
}

/// A store on what a crash left has all that was answered, and nothing that was not asked.
async fn check(bytes: Vec<u8>, ran: &Ran, expected: &[Checkpoint], seed: u64) {
    let (store, recovered) = match Store::on(Disk::of(bytes), &schema(), options()) {
        Ok(opened) => opened,
        Err(error) => panic!("after {} answers: {error}", ran.answered),
    };
    assert_eq!(recovered.notes, Vec::<String>::new());
    let now = told(&recovered.machine_with(schema()).checkpoint());
    let place = expected[ran.answered..=ran.asked]
        .iter()
        .position(|at| *at == now);
    assert!(
        place.is_some(),
        "{} of {} answered: {now:?}",
        ran.answered,
        ran.asked
    );
    if ran.answered > 0 {
        assert_eq!(Some(recovered.epoch), ran.epoch);
    }
    // What was answered is known by its key.
    let revision = now.revision;
    let root = Root::start((store, recovered));
    let mut random = fastrand::Rng::with_seed(seed);
    for i in 0..ran.answered as u64 {
        let key = Key::new(i.to_le_bytes()).unwrap();
        let options = WriteOptions::new().with_key(key);
        let again = root
            .handle
            .mutate_with(random_mutation(&mut random), options)
            .await;
        assert!(again.unwrap().position.revision <= revision);
    }
    assert_eq!(root.stop().await.revision, revision);
}

#[tokio::test]
async fn nothing_is_lost_or_made_up_wherever_the_power_fails() {
    let (seed, count) = (7, 10);
    let expected = expected(seed, count);
    let whole = Disk::default();
    assert_eq!(run(&whole, seed, count).await.answered, 10);
    for call in 1..=whole.calls() {
        let disk = Disk::default();
        disk.fail_at(call);
        let ran = run(&disk, seed, count).await;
        // All that was written is there if only the process ended, and some of it if the power failed.
        check(disk.bytes(), &ran, &expected, seed).await;
        let mut random = fastrand::Rng::with_seed(call);
        for _ in 0..2 {
            let bytes = disk.after_power_failed(&mut random);
            check(bytes, &ran, &expected, seed).await;
        }
    }
}

#[tokio::test]
async fn a_crash_while_a_crash_is_mended_loses_nothing_either() {
    let (seed, count) = (11, 8);
    let expected = expected(seed, count);
    let disk = Disk::default();
    // In the middle of a batch.
    disk.fail_at(120);
    let ran = run(&disk, seed, count).await;
    assert!(ran.answered > 0 && ran.answered < 8, "{}", ran.answered);
    let bytes = disk.after_power_failed(&mut fastrand::Rng::with_seed(1));
    for call in 1.. {
        let disk = Disk::of(bytes.clone());
        disk.fail_at(call);
        let opened = Store::on(disk.clone(), &schema(), options());
        let done = opened.is_ok();
        assert!(!matches!(opened, Err(StoreError::Corrupt { .. })));
        drop(opened);
        let left = disk.after_power_failed(&mut fastrand::Rng::with_seed(call));
        check(left, &ran, &expected, seed).await;
        if done {
            break;
        }
    }
}
