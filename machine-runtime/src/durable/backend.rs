//! What a database stands on: a disk that outlives it, and a look at it that leaves it as it is.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use super::pages::{self, PAGE};

/// A disk that is not closed with the database on it: another one is opened on it after an error.
#[derive(Clone, Debug)]
pub(super) struct Disk(pub(super) Arc<dyn StorageBackend>);

type Locked = Result<bool, BackendError>;

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked {
        self.0.query_lock_range(start, end)
    }
}

/// Whether no database was ever made on a disk: one that is about to be has a page of its own first, and
/// nothing else until that has its magic number.
pub(super) fn is_blank(disk: &dyn StorageBackend) -> io::Result<bool> {
    const MAGIC: usize = 4;
    let len = disk.len()?;
    let mut page = vec![0; usize_of(PAGE)?];
    for start in (0..len).step_by(usize_of(PAGE)?) {
        let page = &mut page[..usize_of(PAGE.min(len - start))?];
        disk.read(start, page)?;
        let blank = if start == 0 {
            page.len().min(MAGIC)
        } else {
            page.len()
        };
        if page[..blank].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A disk as it is, on which nothing is written: what is, stays in memory.
#[derive(Debug)]
pub(super) struct Look {
    disk: Arc<dyn StorageBackend>,
    /// Whether pages are what the database makes sure of itself.
    verified: bool,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// How much of the disk still shows.
    shows: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Look {
    /// Without `verified`, page numbers that no page has are made harmless.
    pub(super) fn at(disk: &Arc<dyn StorageBackend>, verified: bool) -> io::Result<Self> {
        let len = disk.len()?;
        Ok(Self {
            disk: Arc::clone(disk),
            verified,
            written: Mutex::new(Written {
                len,
                shows: len,
                pages: BTreeMap::new(),
            }),
        })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        // Nothing panics half way through a change of it.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    fn page(&self, number: u64, disk: &dyn StorageBackend) -> io::Result<Box<[u8]>> {
        if let Some(page) = self.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; usize_of(PAGE)?].into_boxed_slice();
        let start = number * PAGE;
        let end = (start + PAGE).min(self.shows);
        if start < end {
            disk.read(start, &mut page[..usize_of(end - start)?])?;
        }
        Ok(page)
    }

    fn check(&self, offset: u64, len: usize) -> io::Result<()> {
        let end = offset.checked_add(len as u64);
        if end.is_some_and(|end| end <= self.len) {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// The parts of pages that bytes from `offset` on take: the page, where in it, and where in the bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = io::Result<(u64, usize, usize, usize)>> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let part = usize_of(at % PAGE).and_then(|place| {
            let count = (usize_of(PAGE)? - place).min(len - done);
            Ok((at / PAGE, place, done, count))
        });
        done += part.as_ref().map_or(len - done, |(_, _, _, count)| *count);
        Some(part)
    })
}

fn usize_of(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

impl StorageBackend for Look {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        written.check(offset, out.len())?;
        if written.pages.is_empty() && offset + out.len() as u64 <= written.shows {
            self.disk.read(offset, out)?;
        } else {
            for part in parts(offset, out.len()) {
                let (number, place, done, count) = part?;
                let page = written.page(number, &*self.disk)?;
                out[done..done + count].copy_from_slice(&page[place..place + count]);
            }
        }
        if !self.verified {
            pages::disarm(out, offset, written.len);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        if len < written.len {
            // The rest of the last page is zero if it ever grows again.
            let last = len / PAGE;
            let mut page = written.page(last, &*self.disk)?;
            page[usize_of(len % PAGE)?..].fill(0);
            written.pages.split_off(&last);
            written.pages.insert(last, page);
            written.shows = written.shows.min(len);
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        written.check(offset, data.len())?;
        for part in parts(offset, data.len()) {
            let (number, place, done, count) = part?;
            let mut page = written.page(number, &*self.disk)?;
            page[place..place + count].copy_from_slice(&data[done..done + count]);
            written.pages.insert(number, page);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn a_look_shows_what_is_written_and_leaves_the_disk_alone() {
        let disk = InMemoryBackend::new();
        disk.set_len(10_000).unwrap();
        disk.write(4000, &[1; 200]).unwrap();
        let disk: Arc<dyn StorageBackend> = Arc::new(disk);
        let look = Look::at(&disk, true).unwrap();
        look.write(4090, &[2; 10]).unwrap();
        let mut bytes = [0; 110];
        look.read(3995, &mut bytes).unwrap();
        assert_eq!(bytes[..5], [0; 5]);
        assert_eq!(bytes[5..95], [1; 90]);
        assert_eq!(bytes[95..105], [2; 10]);
        assert_eq!(bytes[105..], [1; 5]);
        look.set_len(4095).unwrap();
        look.set_len(9000).unwrap();
        look.read(4090, &mut bytes).unwrap();
        assert_eq!(bytes[..5], [2; 5]);
        assert_eq!(bytes[5..], [0; 105]);
        assert!(look.read(8950, &mut bytes).is_err());
        disk.read(4000, &mut bytes).unwrap();
        assert_eq!(bytes, [1; 110]);
        assert_eq!(disk.len().unwrap(), 10_000);
    }
}
