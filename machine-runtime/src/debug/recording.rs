//! Reading recordings: files, or folders of them, also while they are written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::GzDecoder;

use super::codec::{self, CodecError, PREAMBLE, check_preamble};
use super::file::{Format, MAX_BLOCK};
use super::frame::Frame;
use super::json::JsonLines;

/// Why a recording cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// There is no such file or folder, or it cannot be read.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A folder without a recording.
    #[error("{}: no recording in it, whose name would end with .amrec or .jsonl.gz", .path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// What is in a block of a file is damaged.
    #[error("{}: damaged in the block at byte {block}: {why}", .path.display())]
    Block {
        /// The file.
        path: PathBuf,
        /// Where its block begins.
        block: u64,
        /// What is wrong.
        why: String,
    },
    /// A frame is none.
    #[error("{}: in the block at byte {block}, at its byte {at}: {error}", .path.display())]
    Frame {
        /// The file.
        path: PathBuf,
        /// Where the block begins.
        block: u64,
        /// Where in it, after decompression, the frame begins.
        at: u64,
        /// What is wrong.
        error: CodecError,
    },
    /// A line is none.
    #[error("{}: line {line}: {error}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        error: CodecError,
    },
    /// A file ends within a block: it is still written, or whoever wrote it was cut off.
    #[error("{}: ends within the block at byte {block}, {len} bytes of it are there", .path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Where the block begins.
        block: u64,
        /// How many bytes of it there are.
        len: u64,
    },
}

/// A frame of a recording, and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Recorded {
    /// The file.
    pub file: Arc<Path>,
    /// The frame.
    pub frame: Frame,
}

/// Frames of files in the order of their names, which is that of time for each node.
#[derive(Debug)]
pub struct Recording {
    paths: Vec<PathBuf>,
    known: BTreeSet<PathBuf>,
    files: Vec<RecordedFile>,
    /// Which of them is read; those before were read to the end that they had then.
    place: usize,
    ready: std::vec::IntoIter<Frame>,
}

impl Recording {
    /// The recording of these files and folders.
    ///
    /// # Errors
    ///
    /// If one is not there, or there is nothing in a folder.
    pub fn open<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Self, RecordingError> {
        let mut recording = Self {
            paths: paths
                .into_iter()
                .map(|path| path.as_ref().to_owned())
                .collect(),
            known: BTreeSet::new(),
            files: Vec::new(),
            place: 0,
            ready: Vec::new().into_iter(),
        };
        recording.look(true)?;
        Ok(recording)
    }

    /// The next frame; none at the end of what is there so far, after which more may come: what was
    /// written since, and new files.
    ///
    /// # Errors
    ///
    /// Where a file is damaged. What comes behind that in it is not read; the next call goes on with the
    /// next file.
    pub fn next_frame(&mut self) -> Result<Option<Recorded>, RecordingError> {
        let mut looked = false;
        loop {
            if let Some(frame) = self.ready.next() {
                let file = Arc::clone(&self.files[self.place].path);
                return Ok(Some(Recorded { file, frame }));
            }
            while let Some(file) = self.files.get_mut(self.place) {
                let frames = file.read()?;
                if !frames.is_empty() {
                    self.ready = frames.into_iter();
                    break;
                }
                self.place += 1;
            }
            if self.place < self.files.len() {
                continue;
            }
            if looked {
                return Ok(None);
            }
            // From the start again: any of them may have grown.
            looked = true;
            self.look(false)?;
            self.place = 0;
        }
    }

    /// The files, in the order in which they are read.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.iter().map(|file| &*file.path)
    }

    /// The files that end within a block.
    pub fn torn(&self) -> Vec<RecordingError> {
        self.files.iter().filter_map(RecordedFile::torn).collect()
    }

    fn look(&mut self, first: bool) -> Result<(), RecordingError> {
        let mut found = Vec::new();
        for path in &self.paths {
            let wrong = |error| RecordingError::Io {
                path: path.clone(),
                error,
            };
            if !path.is_dir() {
                if first {
                    File::open(path).map_err(wrong)?;
                    found.push(path.clone());
                }
                continue;
            }
            let before = found.len();
            for entry in std::fs::read_dir(path).map_err(wrong)? {
                let file = entry.map_err(wrong)?.path();
                if Format::of(&file).is_some() {
                    found.push(file);
                }
            }
            if first && before == found.len() {
                return Err(RecordingError::Empty { path: path.clone() });
            }
            found[before..].sort();
        }
        for path in found {
            if self.known.insert(path.clone()) {
                self.files.push(RecordedFile::new(&path));
            }
        }
        Ok(())
    }
}

/// One file.
#[derive(Debug)]
struct RecordedFile {
    path: Arc<Path>,
    /// Where its next block begins.
    at: u64,
    format: Option<Format>,
    json: JsonLines,
    lines: u64,
    damaged: bool,
}

impl RecordedFile {
    fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            at: 0,
            format: None,
            json: JsonLines::new(),
            lines: 0,
            damaged: false,
        }
    }

    /// The frames of the next block that is whole; none if there is none.
    fn read(&mut self) -> Result<Vec<Frame>, RecordingError> {
        loop {
            if self.damaged {
                return Ok(Vec::new());
            }
            let block = self.at;
            let frames = self.block().and_then(|bytes| match bytes {
                Some(bytes) => self.frames(block, &bytes).map(Some),
                None => Ok(None),
            });
            match frames {
                Ok(Some(frames)) if frames.is_empty() => {}
                Ok(frames) => return Ok(frames.unwrap_or_default()),
                Err(error) => {
                    self.damaged = true;
                    return Err(error);
                }
            }
        }
    }

    /// The next block, if it is whole.
    fn block(&mut self) -> Result<Option<Vec<u8>>, RecordingError> {
        let path = || self.path.to_path_buf();
        let wrong = |error| RecordingError::Io {
            path: path(),
            error,
        };
        let file = File::open(&self.path).map_err(wrong)?;
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(self.at)).map_err(wrong)?;
        let mut bytes = Vec::new();
        let mut gzip = GzDecoder::new(&mut file);
        let read = (&mut gzip)
            .take(MAX_BLOCK as u64 + 1)
            .read_to_end(&mut bytes);
        match read {
            Ok(_) if bytes.len() > MAX_BLOCK => Err(RecordingError::Block {
                path: path(),
                block: self.at,
                why: format!("more than {MAX_BLOCK} bytes"),
            }),
            Ok(_) => {
                self.at = file.stream_position().map_err(wrong)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(RecordingError::Block {
                path: path(),
                block: self.at,
                why: error.to_string(),
            }),
        }
    }

    fn frames(&mut self, block: u64, bytes: &[u8]) -> Result<Vec<Frame>, RecordingError> {
        let mut rest = bytes;
        let format = *self.format.get_or_insert(if bytes.first() == Some(&b'{') {
            Format::Json
        } else {
            Format::Binary
        });
        let path = || self.path.to_path_buf();
        let mut frames = Vec::new();
        if format == Format::Json {
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                self.lines += 1;
                let text = std::str::from_utf8(line).map_err(|error| CodecError::Malformed {
                    why: error.to_string(),
                });
                let frame = text.and_then(|line| self.json.read(line));
                frames.push(frame.map_err(|error| RecordingError::Line {
                    path: path(),
                    line: self.lines,
                    error,
                })?);
            }
            return Ok(frames);
        }
        let wrong = |rest: &[u8], error| RecordingError::Frame {
            path: path(),
            block,
            at: (bytes.len() - rest.len()) as u64,
            error,
        };
        if block == 0 {
            let Some((began, frames)) = rest.split_first_chunk::<PREAMBLE>() else {
                let why = "it is too short to be a recording".to_owned();
                return Err(wrong(rest, CodecError::Malformed { why }));
            };
            check_preamble(*began).map_err(|error| wrong(rest, error))?;
            rest = frames;
        }
        loop {
            let before = rest;
            let frame = codec::split(&mut rest).map_err(|error| wrong(before, error))?;
            let Some(frame) = frame else {
                break;
            };
            let frame = codec::decode(frame).map_err(|error| wrong(before, error))?;
            frames.push(frame);
        }
        if !rest.is_empty() {
            let why = format!("{} bytes behind the last frame", rest.len());
            return Err(wrong(rest, CodecError::Malformed { why }));
        }
        Ok(frames)
    }

    fn torn(&self) -> Option<RecordingError> {
        let len = std::fs::metadata(&self.path).ok()?.len();
        (!self.damaged && len > self.at).then(|| RecordingError::Torn {
            path: self.path.to_path_buf(),
            block: self.at,
            len: len - self.at,
        })
    }
}

#[cfg(test)]
mod tests;
