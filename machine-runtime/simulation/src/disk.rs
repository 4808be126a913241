//! A disk that forgets what was not synced when the power goes.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// What a disk loses or keeps as a whole.
const SECTOR: usize = 512;

/// How a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wear {
    /// How long a sync takes at most, in milliseconds.
    pub slow: u64,
    /// Whether there is no room for a file to grow.
    pub full: bool,
}

/// A disk with one file. Cheap to clone: whoever opens it anew finds what is there.
#[derive(Clone)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    rng: fastrand::Rng,
    /// What is on the disk for good.
    synced: Vec<u8>,
    /// What was written since, in order.
    pending: Vec<Write>,
    /// What whoever reads sees.
    seen: Vec<u8>,
    wear: Wear,
    syncs: u64,
}

enum Write {
    Bytes(usize, Vec<u8>),
    Len(usize),
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            rng: fastrand::Rng::with_seed(seed),
            synced: Vec::new(),
            pending: Vec::new(),
            seen: Vec::new(),
            wear: Wear::default(),
            syncs: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Sets how it is from now on.
    pub fn wear(&self, wear: Wear) {
        self.lock().wear = wear;
    }

    /// How long the next sync takes, in milliseconds.
    pub fn next_sync(&self) -> u64 {
        let mut inner = self.lock();
        let slow = inner.wear.slow;
        inner.rng.u64(0..=slow)
    }

    /// How often it was synced.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The power goes: of what was not synced any part may be there, in any order.
    pub fn lose_power(&self) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        for write in std::mem::take(&mut inner.pending) {
            match (write, inner.rng.u8(0..3)) {
                (_, 0) => {}
                (Write::Bytes(offset, bytes), 1) => {
                    let sectors = inner.rng.usize(0..=bytes.len() / SECTOR);
                    let torn = &bytes[..sectors * SECTOR];
                    put(&mut inner.synced, offset, torn);
                }
                (Write::Bytes(offset, bytes), _) => put(&mut inner.synced, offset, &bytes),
                (Write::Len(len), _) => inner.synced.resize(len, 0),
            }
        }
        inner.seen.clone_from(&inner.synced);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes bytes; where the file is shorter, as it is where its new length was lost, it grows.
fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

fn usize_of(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize_of(offset)?;
        let inner = self.lock();
        let bytes = inner.seen.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize_of(len)?;
        let mut inner = self.lock();
        if inner.wear.full && len > inner.seen.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.seen.resize(len, 0);
        inner.pending.push(Write::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.syncs += 1;
        for write in inner.pending.drain(..) {
            match write {
                Write::Bytes(offset, bytes) => put(&mut inner.synced, offset, &bytes),
                Write::Len(len) => inner.synced.resize(len, 0),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize_of(offset)?;
        let mut inner = self.lock();
        // A file system that copies on write has no room for what it has already either.
        if inner.wear.full && inner.rng.u8(0..4) == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if offset + data.len() > inner.seen.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        inner.seen[offset..offset + data.len()].copy_from_slice(data);
        inner.pending.push(Write::Bytes(offset, data.to_vec()));
        Ok(())
    }
}
