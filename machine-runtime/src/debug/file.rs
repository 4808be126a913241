//! A file of a recording: gzip members one behind the other, each of whole frames.
//!
//! So a torn end costs the last member only, and `zcat` reads all of a file of JSON lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::codec::{self, CodecError, preamble};
use super::frame::Frame;
use super::json::JsonLines;

/// How many bytes of frames become a member at most, before they are compressed; one more frame may
/// be behind them.
pub(super) const BLOCK: usize = 256 << 10;

/// The most bytes that a member may come to when it is read.
pub(super) const MAX_BLOCK: usize = 64 << 20;

/// What a recording is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// Postcard: small and quick.
    #[default]
    Binary,
    /// A JSON object a line, states by name.
    Json,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Binary, Self::Json];

    /// The format's name in flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Json => "json",
        }
    }

    /// How the names of its files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Binary => "amrec",
            Self::Json => "jsonl.gz",
        }
    }

    /// The format of a file of this name, if it is one of a recording.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        Self::ALL.into_iter().find(|format| {
            let stem = name.strip_suffix(format.extension());
            stem.is_some_and(|stem| stem.ends_with('.') && stem.len() > 1)
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|format| format.name() == name);
        known.ok_or_else(|| "it is binary or json".to_owned())
    }
}

/// Frames on their way into a file.
#[derive(Debug)]
pub(super) struct Encoder {
    format: Format,
    json: JsonLines,
    bytes: Vec<u8>,
}

impl Encoder {
    /// For a new file.
    pub(super) fn new(format: Format) -> Self {
        let bytes = match format {
            Format::Binary => preamble().to_vec(),
            Format::Json => Vec::new(),
        };
        Self {
            format,
            json: JsonLines::new(),
            bytes,
        }
    }

    pub(super) fn push(&mut self, frame: &Frame) -> Result<(), CodecError> {
        match self.format {
            Format::Binary => codec::append(frame, &mut self.bytes),
            Format::Json => {
                let line = self.json.write(frame)?;
                self.bytes.extend_from_slice(line.as_bytes());
                self.bytes.push(b'\n');
                Ok(())
            }
        }
    }

    /// Whether there is enough for a member.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK
    }

    /// What a member is to have; empty if there is nothing.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// A file that is written. It blocks.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    len: u64,
}

impl Writer {
    /// A new file; none may be there.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Self { file, len: 0 })
    }

    /// Appends a member. Returns how long the file is then.
    pub(super) fn append(&mut self, frames: &[u8]) -> io::Result<u64> {
        if frames.is_empty() {
            return Ok(self.len);
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(frames)?;
        let member = gzip.finish()?;
        self.file.write_all(&member)?;
        self.len += member.len() as u64;
        Ok(self.len)
    }
}

/// Writes `frames` to a new file. They begin with a [`Hello`](super::frame::Body::Hello), as a
/// recording's do. Returns how many there were.
///
/// # Errors
///
/// If the file is there already or cannot be written, or a frame is too long.
pub fn write(
    path: &Path,
    format: Format,
    frames: impl IntoIterator<Item = Frame>,
) -> io::Result<u64> {
    let mut writer = Writer::create(path)?;
    let mut encoder = Encoder::new(format);
    let mut count = 0;
    for frame in frames {
        let pushed = encoder.push(&frame);
        pushed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        count += 1;
        if encoder.is_full() {
            writer.append(&encoder.take())?;
        }
    }
    writer.append(&encoder.take())?;
    Ok(count)
}
