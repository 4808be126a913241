//! Frames of the protocol: a length of three bytes, then a tarpc message in postcard.

use bytes::{Buf, BytesMut};

/// Puts frames together out of what is written.
#[derive(Debug, Default)]
pub(crate) struct Frames(BytesMut);

impl Frames {
    /// Takes what was written.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole frame, without its length.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let length: [u8; 3] = self.0.get(..3)?.try_into().ok()?;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        if self.0.len() < 3 + length {
            return None;
        }
        self.0.advance(3);
        Some(self.0.split_to(length).to_vec())
    }
}

/// What tarpc says of a trace: trace, span, whether it is sampled.
type Trace = ([u8; 16], u64, u32);

/// A request's envelope: its deadline as seconds and nanoseconds, trace, number.
type Envelope = ((u64, u32), Trace, u64);

/// That a request is given up: trace, number.
type Cancel = (Trace, u64);

/// A deadline that is later than any that a call has of its own: what tarpc makes of it never matters.
const DEADLINE: (u64, u32) = (100, 0);

/// A frame to a parent without what differs from run to run: tarpc draws trace and span of a call
/// from the operating system, and takes the time that is left from the real clock.
pub(crate) fn canonical(frame: Vec<u8>) -> Vec<u8> {
    canonical_request(&frame).unwrap_or(frame)
}

fn canonical_request(frame: &[u8]) -> Option<Vec<u8>> {
    let (kind, rest) = postcard::take_from_bytes::<u32>(frame).ok()?;
    let plain: Trace = ([0; 16], 0, 1);
    let (mut canonical, rest) = if kind == 0 {
        let (envelope, rest) = postcard::take_from_bytes::<Envelope>(rest).ok()?;
        let canonical = (kind, DEADLINE, plain, envelope.2);
        (postcard::to_stdvec(&canonical).ok()?, rest)
    } else {
        let (cancel, rest) = postcard::take_from_bytes::<Cancel>(rest).ok()?;
        (postcard::to_stdvec(&(kind, plain, cancel.1)).ok()?, rest)
    };
    canonical.extend_from_slice(rest);
    Some(canonical)
}
