//! What stands in a file, whole or not.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, StorageBackend, TableDefinition,
    TableError,
};

use super::CACHE;
use super::backend::Look;
use super::format::{CHECKPOINTS, FORMAT_ROW, HEAD_ROW, HISTORY_ROW, JOURNAL, KEYS, META};

/// The rows of a table in order, and whether there may be others that cannot be read.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) rows: Vec<(u64, Vec<u8>)>,
    pub(super) broken: bool,
}

/// All rows of a file as they are.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) format: Option<Vec<u8>>,
    pub(super) history: Option<Vec<u8>>,
    pub(super) head: Option<Vec<u8>>,
    pub(super) checkpoints: Rows,
    pub(super) journal: Rows,
    pub(super) keys: Rows,
    /// Whether there is a file, and no table in it yet.
    pub(super) fresh: bool,
    /// What the database under it finds wrong with the file, if anything.
    pub(super) damage: Option<String>,
}

impl Survey {
    /// Looks at a disk, and leaves it as it is.
    ///
    /// # Errors
    ///
    /// If nothing can be read: what the database under it says.
    pub(super) fn of(disk: &Arc<dyn StorageBackend>) -> Result<Self, redb::Error> {
        // The database verifies all its pages if told so, and opens nothing then where one is damaged.
        // Without it trusts them all: what it reads may be anything, and it may panic over that.
        match open(disk, true) {
            Ok(database) => Ok(Self::read(&database)),
            Err(redb::Error::Io(error)) if !is_damage(&error) => Err(redb::Error::Io(error)),
            Err(error) => {
                let unverified = unless_panics(|| {
                    let database = open(disk, false).ok()?;
                    let survey = Self::read(&database);
                    leave(database);
                    Some(survey)
                });
                let mut survey = unverified
                    .flatten()
                    .ok_or_else(|| redb::Error::Corrupted(error.to_string()))?;
                survey.damage = Some(error.to_string());
                survey.fresh = false;
                Ok(survey)
            }
        }
    }

    fn read(database: &Database) -> Self {
        let Ok(read) = database.begin_read() else {
            return Self::default();
        };
        let named = |name| unless_panics(|| named(&read, name)).flatten();
        Self {
            format: named(FORMAT_ROW),
            history: named(HISTORY_ROW),
            head: named(HEAD_ROW),
            checkpoints: rows(&read, CHECKPOINTS),
            journal: rows(&read, JOURNAL),
            keys: rows(&read, KEYS),
            fresh: unless_panics(|| {
                read.list_tables()
                    .ok()
                    .map(|mut tables| tables.next().is_none())
            })
            .flatten()
            .unwrap_or_default(),
            damage: None,
        }
    }
}

fn open(disk: &Arc<dyn StorageBackend>, verified: bool) -> Result<Database, redb::Error> {
    let look = Look::at(disk, verified).map_err(redb::Error::Io)?;
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder.set_check_integrity_on_open(verified);
    Ok(builder.create_with_backend(look)?)
}

/// Whether it is not the disk that failed: the file is no database, or ends too early.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof
    )
}

fn named(read: &ReadTransaction, name: &str) -> Option<Vec<u8>> {
    let table = read.open_table(META).ok()?;
    let row = table.get_owned(name).ok()??;
    Some(row.value().to_vec())
}

/// All rows of a table that can be read, from both ends.
fn rows(read: &ReadTransaction, table: TableDefinition<'_, u64, &'static [u8]>) -> Rows {
    let mut all = Rows::default();
    let opened = unless_panics(|| match read.open_table(table) {
        Ok(table) => Some(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Some(None),
        Err(_) => None,
    });
    let table = match opened.flatten() {
        Some(Some(table)) => table,
        Some(None) => return all,
        None => {
            all.broken = true;
            return all;
        }
    };
    let mut next = Some(0);
    while let Some(from) = next {
        let row = unless_panics(|| {
            let mut range = table.range_owned(from..).ok()?;
            Some(match range.next() {
                None => None,
                Some(Ok((key, row))) => Some((key.value(), row.value().to_vec())),
                Some(Err(_)) => return None,
            })
        });
        match row.flatten() {
            None => {
                all.broken = true;
                break;
            }
            // One that goes back would never end.
            Some(Some((key, _))) if key < from => {
                all.broken = true;
                break;
            }
            Some(None) => break,
            Some(Some((key, row))) => {
                next = key.checked_add(1);
                all.rows.push((key, row));
            }
        }
    }
    if all.broken {
        from_behind(&table, &mut all);
    }
    all
}

/// Reads on from the last row, down to those that are known.
fn from_behind(table: &redb::ReadOnlyTable<u64, &'static [u8]>, all: &mut Rows) {
    let known = all.rows.last().map_or(0, |(key, _)| key + 1);
    let mut behind = Vec::new();
    let mut until = u64::MAX;
    while until > known {
        let row = unless_panics(|| {
            let mut range = table.range_owned(known..until).ok()?;
            let (key, row) = range.next_back()?.ok()?;
            Some((key.value(), row.value().to_vec()))
        });
        match row.flatten() {
            Some((key, row)) if key >= known && key < until => {
                until = key;
                behind.push((key, row));
            }
            _ => break,
        }
    }
    all.rows.extend(behind.into_iter().rev());
}

/// Closes a database that may be damaged. It would write what it knows of its pages, and can panic over that
/// where nothing can be caught; while a panic unwinds it does not.
fn leave(database: Database) {
    // This calls no hook: nobody is told of a panic.
    let _: Option<()> = unless_panics(move || {
        let _closed = database;
        std::panic::resume_unwind(Box::new(()))
    });
}

/// What a look at pages comes to that nobody has verified.
fn unless_panics<T>(look: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(look)).ok()
}
