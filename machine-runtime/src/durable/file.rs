//! The file and its directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::error::StoreError;

/// The name of the file in its directory.
pub(super) const NAME: &str = "history.redb";

/// The name of a file beside it that asks for a new epoch.
const NEW_EPOCH: &str = "new-epoch";

/// Where a history is, or was.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In the file of this path.
    File(PathBuf),
    /// On a disk of somebody else's.
    Disk,
}

impl Place {
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Disk => "the disk".to_owned(),
        }
    }
}

/// Whether a new epoch is asked for, as where the file was restored from a copy that is older than what
/// followers have.
pub(super) fn asks_for_epoch(path: &Path) -> bool {
    path.with_file_name(NEW_EPOCH).exists()
}

/// The new epoch has begun.
pub(super) fn has_epoch(path: &Path) -> Result<(), StoreError> {
    let asked = path.with_file_name(NEW_EPOCH);
    let of = |error| StoreError::io(asked.display().to_string(), error);
    fs::remove_file(&asked).map_err(of)
}

/// Opens the file in `dir`, and makes both where they are not there.
pub(super) fn open(dir: &Path) -> Result<(PathBuf, Arc<dyn StorageBackend>), StoreError> {
    let path = dir.join(NAME);
    let of = |error| StoreError::io(path.display().to_string(), error);
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let file = match options.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(of)?;
            let file = options.create(true).truncate(false).open(&path);
            let file = file.map_err(of)?;
            // That the file is there has to last as what is in it does.
            sync_dir(dir).map_err(of)?;
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_dir(parent).map_err(of)?;
            }
            file
        }
        opened => opened.map_err(of)?,
    };
    let disk = backend(&path, file)?;
    Ok((path, disk))
}

/// Locks a file: whoever else opens it is refused.
fn backend(path: &Path, file: File) -> Result<Arc<dyn StorageBackend>, StoreError> {
    let place = path.display().to_string();
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked { place }),
        Err(fs::TryLockError::Error(error)) => return Err(StoreError::io(place, error)),
    }
    let backend = FileBackend::new(file).map_err(|error| StoreError::of(&place, error))?;
    Ok(Arc::new(backend))
}

/// Makes an empty file beside the one at `path`, to be [moved](replace) to its place.
pub(super) fn beside(path: &Path) -> Result<(PathBuf, Arc<dyn StorageBackend>), StoreError> {
    let new = path.with_extension("redb.new");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = options
        .open(&new)
        .map_err(|error| StoreError::io(new.display().to_string(), error))?;
    let disk = backend(&new, file)?;
    Ok((new, disk))
}

/// Moves the file at `path` aside, where it stays, and `new` to its place. Returns where it is now.
pub(super) fn replace(path: &Path, new: &Path) -> Result<PathBuf, StoreError> {
    let of = |error| StoreError::io(path.display().to_string(), error);
    let mut aside = path.with_extension("redb.damaged");
    let mut number = 1;
    while aside.exists() {
        number += 1;
        aside = path.with_extension(format!("redb.damaged-{number}"));
    }
    // At no moment is there no history under the name: a crash in between leaves the damaged one.
    fs::hard_link(path, &aside).map_err(of)?;
    fs::rename(new, path).map_err(of)?;
    if let Some(dir) = path.parent() {
        sync_dir(dir).map_err(of)?;
    }
    Ok(aside)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
