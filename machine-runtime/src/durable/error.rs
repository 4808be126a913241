//! Why a store cannot be opened, or does not take a batch.

use std::io;

use crate::position::Position;

/// Why a [`Store`](super::Store) cannot be opened, or does not take a batch. `place` is its file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it open.
    #[error("{place}: another process has it open")]
    Locked {
        /// The file.
        place: String,
    },
    /// The disk is full, or the file may not become larger.
    #[error("{place}: there is no room: {error}")]
    Full {
        /// The file.
        place: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// The operating system could not read or write it.
    #[error("{place}: {error}")]
    Io {
        /// The file.
        place: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// It is the history of a machine with another schema.
    #[error(
        "{place}: it is the history of the schema {found}, and this is {expected}; a changed schema begins a \
         new history: move the file away, or run the program that wrote it"
    )]
    OtherSchema {
        /// The file.
        place: String,
        /// Name and fingerprint of its schema.
        found: String,
        /// Name and fingerprint of the schema that it was opened with.
        expected: String,
    },
    /// A later version of the program wrote it.
    #[error(
        "{place}: it has format {found}, and this program knows formats up to {known}; run the later program"
    )]
    NewerFormat {
        /// The file.
        place: String,
        /// Its format.
        found: u32,
        /// The latest format that is known.
        known: u32,
    },
    /// It is damaged where nothing can be cut without losing what came later.
    #[error(
        "{place}: {what}; {whole}. Restore the file from a copy, or move it away and begin a new epoch"
    )]
    Corrupt {
        /// The file.
        place: String,
        /// What is damaged: the table, and the row or the positions.
        what: String,
        /// What is still whole.
        whole: String,
    },
    /// What it holds is whole, and this program does not come to the same when it does it once more.
    #[error(
        "{place}: what led to {position} was written as a machine did it, and this program comes to something \
         else: {why}. Run the program that wrote it, or move the file away and begin a new epoch"
    )]
    Diverged {
        /// The file.
        place: String,
        /// Where that is.
        position: Position,
        /// What is different.
        why: String,
    },
    /// The database under it failed.
    #[error("{place}: {error}")]
    Database {
        /// The file.
        place: String,
        /// How.
        error: Box<redb::Error>,
    },
}

impl StoreError {
    /// Whether there is no room on the disk, which heals when some is made.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    pub(super) fn of(place: &str, error: impl Into<redb::Error>) -> Self {
        let place = place.to_owned();
        match error.into() {
            redb::Error::Io(error) => Self::io(place, error),
            redb::Error::DatabaseAlreadyOpen => Self::Locked { place },
            error => Self::Database {
                place,
                error: Box::new(error),
            },
        }
    }

    pub(super) fn io(place: impl Into<String>, error: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let place = place.into();
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::Full { place, error },
            _ => Self::Io { place, error },
        }
    }
}
