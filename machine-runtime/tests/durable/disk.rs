//! A disk that loses what was not synced.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use machine_runtime::durable::StorageBackend;

/// The unit that a disk writes at once.
const SECTOR: usize = 512;

/// A disk in memory. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    now: Vec<u8>,
    /// What is not synced, in order.
    unsynced: Vec<Op>,
    calls: u64,
    /// From which call on everything fails.
    fails_at: Option<u64>,
    /// How many bytes there is room for.
    room: Option<u64>,
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Op {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => bytes.resize(*len, 0),
            Self::Write(at, data) => {
                let end = at + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(data);
            }
        }
    }
}

impl Disk {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.state().now.clone_from(&bytes);
        disk.state().synced = bytes;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// How often it was written to or synced.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// It fails from this call on.
    pub(crate) fn fail_at(&self, call: u64) {
        self.state().fails_at = Some(call);
    }

    /// There is room for so many bytes.
    pub(crate) fn set_room(&self, room: Option<u64>) {
        self.state().room = room;
    }

    /// What is on it if its power fails now: all that is synced, and of the rest what `random` says,
    /// sector by sector.
    pub(crate) fn after_power_failed(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let state = self.state();
        let mut bytes = state.synced.clone();
        for op in &state.unsynced {
            match op {
                Op::SetLen(_) if random.bool() => op.apply(&mut bytes),
                Op::SetLen(_) => {}
                Op::Write(at, data) => {
                    for (i, sector) in data.chunks(SECTOR).enumerate() {
                        if random.bool() {
                            Op::Write(at + i * SECTOR, sector.to_vec()).apply(&mut bytes);
                        }
                    }
                }
            }
        }
        bytes
    }

    /// What is on it if its process is killed now.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().now.clone()
    }

    fn change(&self, op: Option<Op>) -> io::Result<()> {
        let mut state = self.state();
        state.calls += 1;
        if state.fails_at.is_some_and(|at| state.calls >= at) {
            return Err(io::Error::other("the power failed"));
        }
        let Some(op) = op else {
            let State { synced, now, .. } = &mut *state;
            synced.clone_from(now);
            state.unsynced.clear();
            return Ok(());
        };
        if let (Some(room), Op::Write(at, data)) = (state.room, &op)
            && (at + data.len()) as u64 > room
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        op.apply(&mut state.now);
        state.unsynced.push(op);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let state = self.state();
        let bytes = state.now.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Some(Op::SetLen(usize::try_from(len).unwrap())))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(None)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Some(Op::Write(
            usize::try_from(offset).unwrap(),
            data.to_vec(),
        )))
    }
}
