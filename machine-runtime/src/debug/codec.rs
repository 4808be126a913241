//! Frames as bytes: on a link, and in a recording.
//!
//! Either side of a link, and a recording, begin with [`preamble`], which never changes but for the
//! version. Then come frames: a length of four bytes, the greatest first, and so many bytes of postcard.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::LengthDelimitedCodec;

use super::frame::VERSION;

/// What everything begins with.
pub const MAGIC: [u8; 6] = *b"AMDBG\x1a";

/// The bytes of [`preamble`].
pub const PREAMBLE: usize = 8;

/// The longest frame in bytes: a schema of the most states, or a moment of one.
pub const MAX_FRAME: usize = 8 << 20;

/// The longest first frame of a node: it says who it is.
pub const MAX_HELLO: usize = 4 << 10;

/// The longest message of a debugger.
pub const MAX_ASK: usize = 4 << 10;

/// Why bytes are no frames.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// It is something else.
    #[error("it does not speak to a debugger: it began with `{}`", .began.escape_ascii())]
    Foreign {
        /// How it began.
        began: [u8; PREAMBLE],
    },
    /// It is of another version.
    #[error("it speaks version {theirs} of the debugger's protocol, and we speak {VERSION}")]
    Version {
        /// Their version.
        theirs: u16,
    },
    /// A frame is longer than any may be.
    #[error("a frame of {len} bytes, and {most} are the most")]
    TooLong {
        /// Its length.
        len: usize,
        /// The longest there may be.
        most: usize,
    },
    /// What stands there is no frame.
    #[error("not a frame: {why}")]
    Malformed {
        /// Why not.
        why: String,
    },
}

/// What either side says first, and each recording: [`MAGIC`], then [`VERSION`], the greater byte first.
pub fn preamble() -> [u8; PREAMBLE] {
    let [m0, m1, m2, m3, m4, m5] = MAGIC;
    let [high, low] = VERSION.to_be_bytes();
    [m0, m1, m2, m3, m4, m5, high, low]
}

/// Checks what somebody said first.
///
/// # Errors
///
/// If it is not ours, or of another version.
pub fn check_preamble(began: [u8; PREAMBLE]) -> Result<(), CodecError> {
    if began[..MAGIC.len()] != MAGIC {
        return Err(CodecError::Foreign { began });
    }
    let theirs = u16::from_be_bytes([began[6], began[7]]);
    if theirs == VERSION {
        Ok(())
    } else {
        Err(CodecError::Version { theirs })
    }
}

/// The bytes of a frame, or of what a debugger says, without the length.
///
/// # Errors
///
/// If they are more than [`MAX_FRAME`].
pub fn encode<T: Serialize>(frame: &T) -> Result<Bytes, CodecError> {
    let bytes = postcard::to_stdvec(frame).map_err(malformed)?;
    check_len(bytes.len(), MAX_FRAME)?;
    Ok(bytes.into())
}

/// As [`encode`], with the length before it, behind what is in `to` already.
///
/// # Errors
///
/// As [`encode`].
pub fn append<T: Serialize>(frame: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
    let bytes = encode(frame)?;
    let len = u32::try_from(bytes.len()).map_err(malformed)?;
    to.extend_from_slice(&len.to_be_bytes());
    to.extend_from_slice(&bytes);
    Ok(())
}

/// What these bytes are, without the length.
///
/// # Errors
///
/// If they are no such thing, or more than that.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (frame, rest) = postcard::take_from_bytes(bytes).map_err(malformed)?;
    if rest.is_empty() {
        Ok(frame)
    } else {
        Err(malformed(format!("{} bytes too many", rest.len())))
    }
}

/// Takes the bytes of one frame off the front of `from`; none if they are not all there.
///
/// # Errors
///
/// If it is longer than any may be.
pub fn split<'b>(from: &mut &'b [u8]) -> Result<Option<&'b [u8]>, CodecError> {
    let Some((len, rest)) = from.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*len) as usize;
    check_len(len, MAX_FRAME)?;
    let Some((frame, rest)) = rest.split_at_checked(len) else {
        return Ok(None);
    };
    *from = rest;
    Ok(Some(frame))
}

/// Frames of at most so many bytes on a stream.
pub(super) fn frames(most: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(most)
        .new_codec()
}

fn check_len(len: usize, most: usize) -> Result<(), CodecError> {
    if len > most {
        return Err(CodecError::TooLong { len, most });
    }
    Ok(())
}

fn malformed(why: impl Into<Box<dyn std::error::Error>>) -> CodecError {
    let why = why.into().to_string();
    CodecError::Malformed { why }
}

#[cfg(test)]
mod tests;
