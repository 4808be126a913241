//! Writing files, on a thread that may wait for the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::RecordOptions;
use crate::debug::file::{Format, Writer};

/// How many names are tried for a new file: those of the same second may be taken.
const NAMES: u64 = 1000;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Command {
    /// What comes next goes into another file.
    Next,
    /// This is appended.
    Block(Vec<u8>),
}

/// Why no more is written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// It could not be.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is a mistake in here, or no thread.
    #[error("the thread that writes is not there any more")]
    Panicked,
}

/// How far writing has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How many files were complete, as it was told by [`Command::Next`].
    complete: AtomicU64,
    /// The length of the one behind those.
    len: AtomicU64,
}

impl Progress {
    /// The length of the file behind so many, as far as it was written.
    pub(super) fn len_behind(&self, complete: u64) -> u64 {
        if self.complete.load(Ordering::Acquire) == complete {
            self.len.load(Ordering::Relaxed)
        } else {
            0
        }
    }
}

/// The files of one node.
#[derive(Debug)]
pub(super) struct Writing {
    dir: PathBuf,
    /// How the names of all files of the node begin.
    stem: String,
    format: Format,
    keep: usize,
    count: u64,
    progress: Arc<Progress>,
}

impl Writing {
    pub(super) fn new(node: &str, options: &RecordOptions, progress: Arc<Progress>) -> Self {
        Self {
            dir: options.dir.clone(),
            stem: file_stem(node),
            format: options.format,
            keep: options.keep,
            count: 0,
            progress,
        }
    }

    /// Writes until there is no more, or it cannot.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), WriteError> {
        let mut open: Option<(PathBuf, Writer)> = None;
        while let Some(command) = commands.blocking_recv() {
            match command {
                Command::Next => {
                    open = None;
                    // Here, behind the blocks of the file that is complete now.
                    self.progress.len.store(0, Ordering::Relaxed);
                    self.progress.complete.fetch_add(1, Ordering::Release);
                }
                Command::Block(block) => {
                    let (path, writer) = match &mut open {
                        Some(open) => open,
                        None => open.insert(self.create()?),
                    };
                    let len = writer.append(&block).map_err(|error| WriteError::Io {
                        path: path.clone(),
                        error,
                    })?;
                    self.progress.len.store(len, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(PathBuf, Writer), WriteError> {
        let now = stamp(SystemTime::now());
        let mut tries = 0;
        loop {
            self.count += 1;
            tries += 1;
            let (stem, count, end) = (&self.stem, self.count, self.format.extension());
            let path = self.dir.join(format!("{stem}-{now}-{count:04}.{end}"));
            match Writer::create(&path) {
                Ok(writer) => {
                    self.prune(&path);
                    return Ok((path, writer));
                }
                // Another process has a node of the same name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < NAMES => {}
                Err(error) => return Err(WriteError::Io { path, error }),
            }
        }
    }

    /// Removes the oldest files of the node that are too many.
    fn prune(&self, newest: &Path) {
        if self.keep == 0 {
            return;
        }
        let Ok(files) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let files = files.filter_map(|file| Some(file.ok()?.path()));
        let mut ours: Vec<_> = files.filter(|path| self.is_ours(path)).collect();
        ours.sort();
        let many = ours.len().saturating_sub(self.keep);
        for path in ours.iter().take(many).filter(|path| *path != newest) {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!("an old recording stays: {}: {error}", path.display());
            }
        }
    }

    /// Whether it is a recording of the node, by its name.
    fn is_ours(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        let rest = name.and_then(|name| name.strip_prefix(&self.stem));
        let rest = rest.and_then(|rest| rest.strip_prefix('-'));
        let rest = rest.and_then(|rest| rest.strip_suffix(self.format.extension()));
        let rest = rest.and_then(|rest| rest.strip_suffix('.'));
        let Some((time, count)) = rest.and_then(|rest| rest.split_once('-')) else {
            return false;
        };
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (day, clock) = time.split_once('T').unwrap_or_default();
        let clock = clock.strip_suffix('Z').unwrap_or_default();
        (day.len(), clock.len()) == (8, 6) && [day, clock, count].into_iter().all(is_digits)
    }
}

/// A name that any file system takes, of a node's name.
fn file_stem(node: &str) -> String {
    let tidy = |c: char| {
        let is_fine = c.is_ascii_alphanumeric() || "._-".contains(c);
        if is_fine { c } else { '_' }
    };
    let stem: String = node.chars().take(100).map(tidy).collect();
    let stem = stem.trim_start_matches('.');
    if stem.is_empty() { "node" } else { stem }.to_owned()
}

/// A time in UTC, such as `20260131T235959Z`.
fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.unwrap_or(Duration::ZERO).as_secs();
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut day) = (1970, days);
    loop {
        let len = 365 + u64::from(is_leap(year));
        if day < len {
            break;
        }
        day -= len;
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for len in months {
        if day < len {
            break;
        }
        day -= len;
        month += 1;
    }
    let day = day + 1;
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, is) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_735_689_600, "20250101T000000Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(stamp(time), is);
        }
    }

    #[test]
    fn files_are_known_by_their_names() {
        assert_eq!(file_stem("[::]:19701"), "_____19701");
        assert_eq!(
            (file_stem(".."), file_stem("rep-1")),
            ("node".into(), "rep-1".into())
        );
        let options = RecordOptions::new("dir");
        let writing = Writing::new("rep-1", &options, Arc::default());
        for (name, is_ours) in [
            ("rep-1-20250101T000000Z-0001.amrec", true),
            ("rep-1-20250101T000000Z-12345.amrec", true),
            ("rep-1-2-20250101T000000Z-0001.amrec", false),
            ("rep-10-20250101T000000Z-0001.amrec", false),
            ("rep-1-20250101T000000Z-0001.jsonl.gz", false),
            ("rep-1-20250101T000000Z-.amrec", false),
            ("rep-1-notes.amrec", false),
        ] {
            assert_eq!(
                writing.is_ours(&Path::new("dir").join(name)),
                is_ours,
                "{name}"
            );
        }
    }
}
