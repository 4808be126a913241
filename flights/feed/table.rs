//! Reading the table: CSV in the format of nycflights13, plain or gzipped.
//!
//! A table is taken whole or not at all: a row that cannot be understood is an error that names
//! file, line and column, so that no row is lost silently.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::departure::Departure;

mod row;

use row::{COLUMNS, Row};

/// The day that comes with the program: 10 July 2013, with thunderstorms in the afternoon.
const DAY: &str = include_str!("../data/nyc-2013-07-10.csv");

/// The departures of a table, ordered by schedule and, within a minute, as in the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timetable {
    departures: Vec<Departure>,
}

impl Timetable {
    /// The day that comes with the program.
    #[expect(
        clippy::missing_panics_doc,
        reason = "a test reads the table that is built in"
    )]
    pub fn shipped() -> Self {
        Self::parse("nyc-2013-07-10.csv", DAY.as_bytes())
            .expect("a test reads the table that is built in")
    }

    /// Reads the table in the file at `path`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or as [`Timetable::parse`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, FeedError> {
        let file = path.as_ref().display().to_string();
        match File::open(path) {
            Ok(input) => Self::parse(&file, BufReader::new(input)),
            Err(source) => Err(FeedError::Read { file, source }),
        }
    }

    /// Reads the table in `input`, which errors call `file`.
    ///
    /// # Errors
    ///
    /// If the input cannot be read, lacks a column or every row, or has a row that cannot be
    /// understood.
    pub fn parse(file: &str, mut input: impl BufRead) -> Result<Self, FeedError> {
        const GZIP: [u8; 2] = [0x1f, 0x8b];
        let start = input.fill_buf().map_err(|source| FeedError::Read {
            file: file.to_owned(),
            source,
        })?;
        let mut departures = if start.starts_with(&GZIP) {
            departures(file, MultiGzDecoder::new(input))?
        } else {
            departures(file, input)?
        };
        departures.sort_by_key(Departure::scheduled);
        Ok(Self { departures })
    }

    /// The departures, ordered by schedule.
    pub fn departures(&self) -> &[Departure] {
        &self.departures
    }

    pub(super) fn into_departures(self) -> Vec<Departure> {
        self.departures
    }
}

fn departures(file: &str, input: impl Read) -> Result<Vec<Departure>, FeedError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(input);
    let headers = reader.headers().map_err(|err| from_csv(file, err))?.clone();
    if headers.iter().all(str::is_empty) {
        return Err(FeedError::Empty {
            file: file.to_owned(),
        });
    }
    let missing: Vec<_> = COLUMNS
        .into_iter()
        .filter(|column| !headers.iter().any(|name| name == *column))
        .collect();
    if !missing.is_empty() {
        return Err(FeedError::MissingColumns {
            file: file.to_owned(),
            columns: missing,
        });
    }

    let mut departures = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|err| from_csv(file, err))?
    {
        let line = record.position().map_or(0, csv::Position::line);
        let row: Row<'_> = record
            .deserialize(Some(&headers))
            .map_err(|err| from_csv(file, err))?;
        let departure = row.departure().map_err(|fault| FeedError::Value {
            file: file.to_owned(),
            line,
            column: fault.column,
            value: fault.value,
            problem: fault.problem,
        })?;
        departures.push(departure);
    }
    if departures.is_empty() {
        return Err(FeedError::NoRows {
            file: file.to_owned(),
        });
    }
    Ok(departures)
}

fn from_csv(file: &str, err: csv::Error) -> FeedError {
    let file = file.to_owned();
    let line = err.position().map_or(1, csv::Position::line);
    match err.into_kind() {
        csv::ErrorKind::Io(source) => FeedError::Read { file, source },
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => FeedError::Fields {
            file,
            line,
            found: len,
            expected: expected_len,
        },
        csv::ErrorKind::Utf8 { err, .. } => FeedError::NotText {
            file,
            line,
            field: err.field() + 1,
        },
        // The rest is serde's, which is asked for nothing but texts of columns that are there.
        other => FeedError::Read {
            file,
            source: io::Error::other(format!("{other:?}")),
        },
    }
}

/// Why a table cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The file cannot be opened or read.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{file} is empty, expected a header line with the columns {}", COLUMNS.join(","))]
    Empty {
        /// The file.
        file: String,
    },
    /// The header lacks columns.
    #[error(
        "{file}:1: the header has no column {}, expected the format of nycflights13 with the \
         columns {}", .columns.join(", "), COLUMNS.join(",")
    )]
    MissingColumns {
        /// The file.
        file: String,
        /// What is missing.
        columns: Vec<&'static str>,
    },
    /// There is a header and nothing else.
    #[error("{file} has a header line but no departures")]
    NoRows {
        /// The file.
        file: String,
    },
    /// A row is longer or shorter than the header.
    #[error("{file}:{line}: {found} fields, expected {expected} as in the header")]
    Fields {
        /// The file.
        file: String,
        /// The line of the row.
        line: u64,
        /// How many fields the row has.
        found: u64,
        /// How many fields the header has.
        expected: u64,
    },
    /// A field is no text.
    #[error("{file}:{line}: field {field} is not UTF-8")]
    NotText {
        /// The file.
        file: String,
        /// The line of the row.
        line: u64,
        /// The place of the field, from 1.
        field: usize,
    },
    /// A value cannot be understood, or contradicts another.
    #[error("{file}:{line}: {column} is `{value}`, {problem}")]
    Value {
        /// The file.
        file: String,
        /// The line of the row.
        line: u64,
        /// The column.
        column: &'static str,
        /// The value as it stands there.
        value: String,
        /// What is wrong with it or was expected.
        problem: String,
    },
}
