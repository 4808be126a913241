//! Files that are not what was written.

use std::sync::Arc;

use machine_runtime::durable::{Store, StoreError, StoreOptions};
use machine_runtime::{Checkpoint, Epoch, Key, Schema, StateDef, WriteOptions};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::disk::Disk;
use crate::root::{Dir, Root, random_mutation, schema, state};

type Numbered = TableDefinition<'static, u64, &'static [u8]>;

const JOURNAL: Numbered = TableDefinition::new("journal");
const CHECKPOINTS: Numbered = TableDefinition::new("checkpoints");
const KEYS: Numbered = TableDefinition::new("keys");
/// Where in the file it stands which of the last two commits counts.
const PRIMARY_BIT: usize = 72;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// A history of some batches with keys, of which the first are no longer in the journal.
async fn history(dir: &Dir) -> (Epoch, Vec<Checkpoint>) {
    let mut options = StoreOptions::default();
    options.checkpoint_bytes = 500;
    let root = Root::open_with(dir, options);
    let mut random = fastrand::Rng::with_seed(3);
    let mut all = Vec::new();
    for i in 0..30_u32 {
        let options = WriteOptions::new().with_key(Key::new(i.to_le_bytes()).unwrap());
        let write = root
            .handle
            .mutate_with(random_mutation(&mut random), options);
        let _ = write.await.unwrap();
        all.push(root.handle.checkpoint().await.unwrap().checkpoint);
    }
    let epoch = root.epoch;
    root.stop().await;
    (epoch, all)
}

/// What is in the file of such a history while the root still runs.
async fn running() -> (Epoch, Vec<Checkpoint>, Vec<u8>) {
    let disk = Disk::default();
    let mut options = StoreOptions::default();
    options.checkpoint_bytes = 500;
    let root = Root::start(Store::on(disk.clone(), &schema(), options).unwrap());
    let mut random = fastrand::Rng::with_seed(3);
    let mut all = Vec::new();
    for _ in 0..30 {
        let _ = root
            .handle
            .mutate(random_mutation(&mut random))
            .await
            .unwrap();
        all.push(root.handle.checkpoint().await.unwrap().checkpoint);
    }
    (root.epoch, all, disk.bytes())
}

fn numbers(dir: &Dir, table: Numbered) -> Vec<u64> {
    let database = Database::open(dir.file()).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(table).unwrap();
    let rows = table.iter().unwrap();
    rows.map(|row| row.unwrap().0.value()).collect()
}

/// Changes a row, as nothing but a faulty memory would: what the database adds is right.
fn spoil(dir: &Dir, table: Numbered, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let database = Database::open(dir.file()).unwrap();
    let write = database.begin_write().unwrap();
    let mut open = write.open_table(table).unwrap();
    let mut row = open.get(number).unwrap().unwrap().value().to_vec();
    change(&mut row);
    open.insert(number, &row[..]).unwrap();
    drop(open);
    write.commit().unwrap();
}

fn flip(row: &mut [u8]) {
    let middle = row.len() / 2;
    row[middle] ^= 1;
}

fn remove(dir: &Dir, table: Numbered, number: u64) {
    let database = Database::open(dir.file()).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(table).unwrap().remove(number).unwrap();
    write.commit().unwrap();
}

fn refused(dir: &Dir) -> String {
    let bytes = std::fs::read(dir.file()).unwrap();
    let error = Store::open(&dir.0, &schema(), StoreOptions::default()).unwrap_err();
    // It is left as it is.
    assert!(std::fs::read(dir.file()).unwrap() == bytes);
    error.to_string()
}

#[tokio::test]
async fn damaged_last_rows_are_cut_and_a_new_epoch_begins() {
    for (rows, gone) in [(1, false), (2, false), (1, true)] {
        let dir = Dir::new();
        let (epoch, all) = history(&dir).await;
        let journal = numbers(&dir, JOURNAL);
        let newest = *numbers(&dir, CHECKPOINTS).last().unwrap();
        for number in journal.iter().rev().take(rows) {
            assert!(*number > newest, "no checkpoint is behind what is cut");
            if gone {
                remove(&dir, JOURNAL, *number);
            } else {
                spoil(&dir, JOURNAL, *number, |row| flip(row));
            }
        }
        let root = Root::open(&dir);
        let now = root.handle.checkpoint().await.unwrap().checkpoint;
        assert_eq!(now, all[all.len() - 1 - rows]);
        assert_ne!(root.epoch, epoch);
        let notes = root.notes.join("\n");
        let at = |rows: usize| format!("{epoch}.{}", all[all.len() - 1 - rows].revision);
        for part in [
            at(rows),
            at(0),
            root.epoch.to_string(),
            "history.redb.damaged".to_owned(),
        ] {
            assert!(notes.contains(&part), "{part} in {notes}");
        }
        // The file as it was stays, and the new one is as good as any.
        assert!(dir.file().with_extension("redb.damaged").exists());
        let epoch = root.epoch;
        let _ = root.handle.add(state("Light1Red")).await.unwrap();
        let now = root.stop().await;
        let root = Root::open(&dir);
        assert_eq!((root.epoch, &root.notes[..]), (epoch, &[][..]));
        assert_eq!(root.stop().await, now);
    }
}

fn row(dir: &Dir, number: u64) -> Vec<u8> {
    let database = Database::open(dir.file()).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(JOURNAL).unwrap();
    table.get(number).unwrap().unwrap().value().to_vec()
}

/// The same with a disk that gives back other bytes than were written: the database finds it first, and
/// says nothing of rows.
#[tokio::test]
async fn a_damaged_page_is_told_by_its_rows() {
    let dir = Dir::new();
    let (epoch, all) = history(&dir).await;
    let journal = numbers(&dir, JOURNAL);
    let copy = std::fs::read(dir.file()).unwrap();
    for (i, number) in journal.iter().enumerate() {
        let row = row(&dir, *number);
        let mut bytes = copy.clone();
        // Pages that are no longer used have it, too.
        for place in 0..bytes.len() - row.len() {
            if bytes[place..].starts_with(&row) {
                bytes[place + row.len() / 2] ^= 1;
            }
        }
        std::fs::write(dir.file(), &bytes).unwrap();
        if i + 1 < journal.len() {
            let error = refused(&dir);
            assert!(
                error.contains(&format!("table journal, row {number} ")),
                "{error}"
            );
        } else {
            let root = Root::open(&dir);
            let now = root.handle.checkpoint().await.unwrap().checkpoint;
            assert_eq!(now, all[all.len() - 2]);
            assert_ne!(root.epoch, epoch);
            root.stop().await;
        }
        std::fs::write(dir.file(), &copy).unwrap();
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_refused_with_its_place() {
    let dir = Dir::new();
    let (epoch, all) = history(&dir).await;
    let journal = numbers(&dir, JOURNAL);
    let copy = std::fs::read(dir.file()).unwrap();
    for number in &journal[..journal.len() - 1] {
        for gone in [false, true] {
            if gone {
                remove(&dir, JOURNAL, *number);
            } else {
                spoil(&dir, JOURNAL, *number, |row| flip(row));
            }
            let error = refused(&dir);
            let whole = usize::try_from(*number).unwrap().checked_sub(2);
            let whole = whole.map_or(0, |place| all[place].revision);
            for part in [
                "history.redb".to_owned(),
                format!("table journal, row {number} "),
                format!("whole up to {epoch}.{whole}"),
                "Restore the file from a copy, or move it away".to_owned(),
            ] {
                assert!(error.contains(&part), "{part} in {error}");
            }
            std::fs::write(dir.file(), &copy).unwrap();
        }
    }
    for number in numbers(&dir, KEYS) {
        spoil(&dir, KEYS, number, |row| flip(row));
        let error = refused(&dir);
        assert!(
            error.contains(&format!("table keys, row {number} ")),
            "{error}"
        );
        std::fs::write(dir.file(), &copy).unwrap();
    }
}

#[tokio::test]
async fn one_checkpoint_is_enough() {
    let dir = Dir::new();
    let (epoch, all) = history(&dir).await;
    let copy = std::fs::read(dir.file()).unwrap();
    let checkpoints = numbers(&dir, CHECKPOINTS);
    assert_eq!(checkpoints.len(), 2);
    for number in &checkpoints {
        spoil(&dir, CHECKPOINTS, *number, |row| flip(row));
        let root = Root::open(&dir);
        assert_eq!(root.epoch, epoch);
        assert!(
            root.notes
                .concat()
                .contains(&format!("row {number} is damaged"))
        );
        // What came of every write is known still.
        let mut random = fastrand::Rng::with_seed(3);
        for i in 0..30_u32 {
            let options = WriteOptions::new().with_key(Key::new(i.to_le_bytes()).unwrap());
            let write = root
                .handle
                .mutate_with(random_mutation(&mut random), options);
            let _ = write.await.unwrap();
        }
        assert_eq!(Some(&root.stop().await), all.last());
        std::fs::write(dir.file(), &copy).unwrap();
    }
    for number in &checkpoints {
        spoil(&dir, CHECKPOINTS, *number, |row| flip(row));
    }
    assert!(refused(&dir).contains("table checkpoints: none is whole"));
}

#[tokio::test]
async fn damaged_rows_of_what_it_is_are_refused() {
    let dir = Dir::new();
    history(&dir).await;
    let copy = std::fs::read(dir.file()).unwrap();
    for name in ["format", "history", "head"] {
        for gone in [false, true] {
            {
                let database = Database::open(dir.file()).unwrap();
                let write = database.begin_write().unwrap();
                let mut table = write.open_table(META).unwrap();
                let mut row = table.remove(name).unwrap().unwrap().value().to_vec();
                flip(&mut row);
                if !gone {
                    table.insert(name, &row[..]).unwrap();
                }
                drop(table);
                write.commit().unwrap();
            }
            let error = refused(&dir);
            assert!(
                error.contains(&format!("table meta, row {name} ")),
                "{error}"
            );
            std::fs::write(dir.file(), &copy).unwrap();
        }
    }
}

#[tokio::test]
async fn a_later_format_and_another_schema_are_refused() {
    let dir = Dir::new();
    Root::open(&dir).stop().await;
    let other: Arc<Schema> = Schema::builder("Doors")
        .state(StateDef::new("Open"))
        .build()
        .unwrap()
        .into();
    let error = Store::open(&dir.0, &other, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::OtherSchema { .. }));
    let error = error.to_string();
    for schema in [&*schema(), &*other] {
        let name = format!("{} {}", schema.name(), schema.fingerprint());
        assert!(error.contains(&name), "{error}");
    }
    {
        let database = Database::open(dir.file()).unwrap();
        let write = database.begin_write().unwrap();
        // A row is its postcard, the seal before it and its own.
        let mut row = vec![2];
        row.extend([0; 8]);
        let seed = xxhash_rust::xxh3::xxh3_64(b"format");
        let seal = xxhash_rust::xxh3::xxh3_64_with_seed(&row, seed);
        row.extend(seal.to_le_bytes());
        write
            .open_table(META)
            .unwrap()
            .insert("format", &row[..])
            .unwrap();
        write.commit().unwrap();
    }
    let error = Store::open(&dir.0, &schema(), StoreOptions::default()).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::NewerFormat {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

/// Whatever is flipped or cut off in the file: it is refused, or nothing is lost, or what is lost is said.
#[tokio::test]
async fn a_damaged_file_is_never_taken_for_a_whole_one() {
    let (epoch, all, bytes) = running().await;
    let mut random = fastrand::Rng::with_seed(5);
    let mut damaged: Vec<Vec<u8>> = Vec::new();
    let header = 0..320;
    let others = (0..400)
        .map(|_| random.usize(..bytes.len()))
        .collect::<Vec<_>>();
    // The one bit that says which of the two last commits counts has no checksum: a file in which it is
    // another was whole a commit ago.
    for bit in (0..8 * 64).filter(|bit| *bit != PRIMARY_BIT) {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        damaged.push(changed);
    }
    for place in header
        .filter(|place| *place != PRIMARY_BIT / 8)
        .chain(others)
    {
        let mut changed = bytes.clone();
        changed[place] ^= 1 << random.u8(..8);
        damaged.push(changed);
    }
    for _ in 0..40 {
        let mut changed = bytes.clone();
        changed.truncate(random.usize(1..bytes.len()));
        damaged.push(changed);
        // A page or a part of it reads as zero.
        let mut changed = bytes.clone();
        let page = random.usize(..bytes.len() / 4096) * 4096;
        changed[page + random.usize(..4096)..page + 4096].fill(0);
        damaged.push(changed);
    }
    let (mut refused, mut whole) = (0, 0);
    for (i, changed) in damaged.into_iter().enumerate() {
        match Store::on(Disk::of(changed), &schema(), StoreOptions::default()) {
            Err(error) => {
                assert!(error.to_string().contains("Restore the file"), "{error}");
                refused += 1;
            }
            Ok((_, recovered)) => {
                let now = recovered.machine_with(schema()).checkpoint();
                if Some(&now) == all.last() {
                    whole += 1;
                } else {
                    assert!(all.contains(&now), "{i}: {:?}", recovered.notes);
                    assert!(!recovered.notes.is_empty(), "{i}");
                    assert_ne!(recovered.epoch, epoch);
                }
            }
        }
    }
    assert!(refused > 100 && whole > 100, "{refused} {whole}");
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .unwrap();
    kib * 1024
}

/// A number of a page says how much memory it takes, too. Where the file is damaged, it is not believed.
#[tokio::test]
async fn a_damaged_page_number_costs_no_memory() {
    const SMALLEST: usize = 4096;
    const GIB: u8 = 18 << 3;
    let dir = Dir::new();
    let _ = history(&dir).await;
    let bytes = std::fs::read(dir.file()).unwrap();
    let pages = u64::try_from(bytes.len() / SMALLEST).unwrap();
    let places = (SMALLEST..bytes.len() - 8).filter(|place| {
        let number = u64::from_le_bytes(*bytes[*place..].first_chunk().unwrap());
        (1..pages).contains(&number)
    });
    let places: Vec<_> = places.collect();
    assert!(places.len() > 20, "there are no pages: {}", bytes.len());
    for place in places {
        let mut changed = bytes.clone();
        changed[place + 7] |= GIB;
        let opened = Store::on(Disk::of(changed), &schema(), StoreOptions::default());
        assert!(
            peak_memory() < 1 << 30,
            "{place} of {}: {:?}",
            bytes.len(),
            opened.err()
        );
    }
}
