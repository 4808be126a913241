//! A root whose history outlives its process.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

#[path = "durable/crashes.rs"]
mod crashes;
#[path = "durable/damage.rs"]
mod damage;
#[path = "durable/disk.rs"]
mod disk;
#[path = "durable/restarts.rs"]
mod restarts;
#[path = "durable/root.rs"]
mod root;

use machine_runtime::{Key, Mutation, Position, WriteOptions};

use crate::root::{Dir, Root, state};

#[tokio::test]
async fn a_restart_goes_on_where_the_root_was() {
    let dir = Dir::new();
    let root = Root::open(&dir);
    let (red, green) = (state("Light1Red"), state("Light2Green"));
    let noted = Mutation::add([green, red]).with_payload(green, "\"B2\"");
    let keyed = WriteOptions::new().with_key(Key::new("k1").unwrap());
    let write = root.handle.mutate_with(noted.clone(), keyed.clone());
    let receipt = write.await.unwrap();
    let _ = root.handle.add(state("Light3Red")).await.unwrap();
    // It is refused, and takes a queue tick all the same.
    let unwanted = Mutation::add(state("Light3Off")).with_payload(red, "1");
    let refused = root.handle.mutate(unwanted).await.unwrap();
    assert!(!refused.outcome.is_executed());
    let epoch = root.epoch;
    let before = root.stop().await;

    let root = Root::open(&dir);
    assert_eq!((root.epoch, &root.notes[..]), (epoch, &[][..]));
    let now = root.handle.checkpoint().await.unwrap();
    assert_eq!(now.checkpoint, before);
    let revision = before.revision;
    let position = Position { epoch, revision };
    assert_eq!(root.handle.view().position(), Some(position));
    // The write is known, so it is answered as before and does not run.
    let again = root.handle.mutate_with(noted, keyed.clone()).await;
    assert_eq!(again.unwrap(), receipt);
    let other = root.handle.mutate_with(Mutation::remove(red), keyed).await;
    assert!(other.is_err(), "{other:?}");
    assert_eq!(root.stop().await, before);
}
