//! A history on a disk on which bytes have changed: it is refused, or what comes back is what the history was at
//! some point of it, and opens again as the same. Rows that were changed and sealed anew, as no fault would,
//! may say anything that a history can, and break nothing either.
//!
//! An input is a list of changes to the file of a history that is always the same: kind, place and length, and
//! the bytes that are put there.

#![no_main]

use std::collections::HashSet;
use std::future::pending;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use libfuzzer_sys::fuzz_target;
use machine_runtime::durable::tamper::{self, Row};
use machine_runtime::durable::{Recovered, StorageBackend, Store, StoreOptions};
use machine_runtime::{
    DynState, Epoch, Key, Machine, Mutation, Owner, Schema, StateDef, ViewOptions, WriteOptions,
};

/// How many mutations the history has.
const MUTATIONS: u32 = 24;

/// How many states its machine has, the first of which is `Exception`.
const STATES: u32 = 10;

/// A history, and the moments of it by revision and digest.
struct History {
    schema: Arc<Schema>,
    bytes: Vec<u8>,
    moments: HashSet<(u64, u64)>,
}

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

fuzz_target!(init: {
    // Recovery catches panics of the database on damaged pages; those that it does not catch end the process.
    std::panic::set_hook(Box::new(|_| {}));
}, |input: &[u8]| {
    let history = &*HISTORY;
    let mut bytes = history.bytes.clone();
    let (mut is_damaged, mut is_sealed) = (false, false);
    let mut rest = input;
    while let Some(([kind, len, place @ ..], more)) = rest.split_first_chunk::<5>() {
        let place = place.iter().fold(0, |place, byte| place << 8 | usize::from(*byte));
        let (data, more) = more.split_at(usize::from(*len).min(more.len()));
        rest = more;
        match usize::from(*kind % 16) {
            row @ ..6 if !is_damaged => {
                is_sealed = true;
                let disk = Disk::of(bytes.clone());
                let changed = tamper::change(disk.clone(), Row::ALL[row], |row| overlay(row, place, data));
                if changed.is_some() {
                    bytes = disk.bytes();
                }
            }
            15 => {
                is_damaged = true;
                bytes.truncate(place % bytes.len() + 1);
            }
            _ => {
                is_damaged = true;
                let place = place % bytes.len();
                for (byte, new) in bytes[place..].iter_mut().zip(data) {
                    *byte = *new;
                }
            }
        }
    }
    let disk = Disk::of(bytes);
    let Ok((store, recovered)) = Store::on(disk.clone(), &history.schema, options()) else {
        assert!(is_damaged || is_sealed, "a whole history was refused");
        return;
    };
    let moment = history.moment(&recovered);
    if !is_sealed {
        assert!(moment.0 == 0 || history.moments.contains(&moment), "{moment:?} never was");
    }
    drop(store);
    let again = match Store::on(disk, &history.schema, options()) {
        Ok((_, again)) => again,
        // A forged row may contradict what was made of it.
        Err(_) if is_sealed => return,
        Err(error) => panic!("what was opened once does not open again: {error}"),
    };
    assert_eq!(history.moment(&again), moment);
});

/// Writes `data` over what is at `place`, or cuts everything off behind it if there is none.
fn overlay(row: &mut Vec<u8>, place: usize, data: &[u8]) {
    let place = place % (row.len() + 1);
    if data.is_empty() {
        row.truncate(place);
    } else {
        row.resize(row.len().max(place + data.len()), 0);
        row[place..place + data.len()].copy_from_slice(data);
    }
}

fn options() -> StoreOptions {
    let mut options = StoreOptions::default();
    options.checkpoint_bytes = 400;
    options
}

impl History {
    fn make() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("it has a loop").block_on(Self::run())
    }

    async fn run() -> Self {
        let states = (1..STATES).map(|i| match i % 3 {
            0 => StateDef::new(format!("Light{i}"))
                .auto()
                .remove([format!("Light{}", i - 1)]),
            1 => StateDef::new(format!("Light{i}")).retain(),
            _ => StateDef::new(format!("Light{i}")).require([format!("Light{}", i - 1)]),
        });
        let builder = states.fold(
            Schema::builder("Lights"),
            machine_runtime::SchemaBuilder::state,
        );
        let schema: Arc<Schema> = builder.build().expect("it is sound").into();
        let disk = Disk::of(Vec::new());
        let mut options = options();
        options.new_epoch = Some(Epoch(7));
        let (store, recovered) = Store::on(disk.clone(), &schema, options).expect("it is empty");
        let machine = recovered.machine_with(Arc::clone(&schema));
        let (handle, owner) = Owner::durable(machine, recovered, store, ViewOptions::default());
        let mut moments = HashSet::new();
        let writes = async {
            for i in 0..MUTATIONS {
                let state = DynState(1 + (i * i + 3 * i) % (STATES - 1));
                let mut mutation = Mutation::toggle([state]);
                if state.0 % 3 == 1 {
                    mutation = Mutation::add([state]).with_payload(state, format!("\"{i}\""));
                }
                let options =
                    WriteOptions::new().with_key(Key::new(i.to_le_bytes()).expect("it is short"));
                let _ = handle
                    .mutate_with(mutation, options)
                    .await
                    .expect("it is taken");
                let now = handle.checkpoint().await.expect("it runs").checkpoint;
                let machine = Machine::restore_with(Arc::clone(&schema), &now);
                let machine = machine.expect("it is its own");
                moments.insert((machine.revision(), machine.digest()));
            }
        };
        tokio::select! {
            () = writes => {}
            _ = owner.run_durable(pending()) => unreachable!("nobody stops it"),
        }
        let bytes = disk.bytes();
        Self {
            schema,
            bytes,
            moments,
        }
    }

    fn moment(&self, recovered: &Recovered) -> (u64, u64) {
        let machine = recovered.machine_with(Arc::clone(&self.schema));
        (machine.revision(), machine.digest())
    }
}

/// A disk in memory. Clones are of the same.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Vec<u8>>>);

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }

    fn state(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("nobody panics with it")
    }

    fn bytes(&self) -> Vec<u8> {
        self.state().clone()
    }
}

/// A place on a disk.
fn at(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (start, state) = (at(offset)?, self.state());
        let end = start
            .checked_add(out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(state.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > 1 << 28 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.state().resize(at(len)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (start, mut state) = (at(offset)?, self.state());
        let end = start.checked_add(data.len()).filter(|end| *end <= 1 << 28);
        let end = end.ok_or(io::ErrorKind::StorageFull)?;
        if state.len() < end {
            state.resize(end, 0);
        }
        state[start..end].copy_from_slice(data);
        Ok(())
    }
}
