//! tarpc messages as postcard in length-prefixed frames, over any stream of bytes.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};
use serde::{Deserialize, Serialize};
use tarpc::tokio_serde::{self, Deserializer, Serializer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Decoder, Encoder, Framed, LengthDelimitedCodec};
use tokio_util::io::{InspectReader, InspectWriter};

pub(super) use self::guard::check;
use crate::mutation::MAX_PAYLOAD;
use crate::observe::{Observers, Side};
use crate::schema::Schema;
use crate::write::WRITE_BYTES;

mod guard;

/// The least that the longest frame is, in bytes, unless told otherwise.
const FRAME: usize = 1 << 20;

/// The most that a length prefix of three bytes can say.
const MOST: usize = (1 << 24) - 1;

/// How many bytes the frame of a snapshot can take, if every tick is large and every state that can keeps
/// the largest payload.
pub fn largest_snapshot(schema: &Schema) -> usize {
    const TICK: usize = 10;
    const PAYLOAD: usize = MAX_PAYLOAD + 8;
    const REST: usize = 1024;
    let retained = (0..schema.len()).filter(|state| schema.is_retained(*state));
    schema.len() * TICK + retained.count() * PAYLOAD + REST
}

/// The longest frame in bytes unless told otherwise: what a snapshot can take, and at least 1 MiB.
pub(super) fn frame(schema: &Schema) -> usize {
    largest_snapshot(schema).clamp(FRAME, MOST)
}

/// The longest frame in bytes that a follower has a reason to send: a write, or a `hello` that selects among
/// all states.
pub(super) fn frame_of_followers(schema: &Schema) -> usize {
    const REST: usize = 8 * 1024;
    WRITE_BYTES.max(schema.len() / 8) + REST
}

/// A tarpc transport over `io`, whose bytes are counted as those of `side` if anybody wants to know. What
/// comes in has at most `max_in` bytes a frame, what goes out `max_out`; on the side that is asked it is
/// [checked](guard::check) before tarpc sees it.
pub(super) fn transport<Item, SinkItem>(
    io: impl AsyncRead + AsyncWrite,
    (max_in, max_out): (usize, usize),
    side: Side,
    observers: Option<Observers>,
) -> impl Stream<Item = io::Result<Item>> + Sink<SinkItem, Error = io::Error>
where
    Item: for<'de> Deserialize<'de>,
    SinkItem: Serialize,
{
    let count = move |out| {
        let observers = observers.clone();
        move |bytes: &[u8]| {
            if let Some(observers) = &observers {
                observers.stats().count_bytes(side, out, bytes.len());
            }
        }
    };
    let io = InspectReader::new(InspectWriter::new(io, count(true)), count(false));
    let frames = |most| {
        LengthDelimitedCodec::builder()
            .length_field_length(3)
            .max_frame_length(most)
            .new_codec()
    };
    let frames = Frames {
        read: frames(max_in),
        write: frames(max_out),
    };
    let postcard = Postcard {
        is_asked: side == Side::Down,
        kinds: PhantomData,
    };
    tokio_serde::Framed::new(Framed::new(io, frames), postcard)
}

/// Frames of which those that come in may be shorter at most than those that go out.
struct Frames {
    read: LengthDelimitedCodec,
    write: LengthDelimitedCodec,
}

impl Decoder for Frames {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        self.read.decode(bytes)
    }
}

impl Encoder<Bytes> for Frames {
    type Error = io::Error;

    fn encode(&mut self, frame: Bytes, bytes: &mut BytesMut) -> io::Result<()> {
        self.write.encode(frame, bytes)
    }
}

/// Postcard for `tokio_serde`.
struct Postcard<Item, SinkItem> {
    /// Whether what comes in are calls.
    is_asked: bool,
    kinds: PhantomData<fn(SinkItem) -> Item>,
}

impl<Item, SinkItem: Serialize> Serializer<SinkItem> for Postcard<Item, SinkItem> {
    type Error = io::Error;

    fn serialize(self: Pin<&mut Self>, item: &SinkItem) -> io::Result<Bytes> {
        postcard::to_stdvec(item).map(Bytes::from).map_err(invalid)
    }
}

impl<Item, SinkItem> Deserializer<Item> for Postcard<Item, SinkItem>
where
    Item: for<'de> Deserialize<'de>,
{
    type Error = io::Error;

    fn deserialize(self: Pin<&mut Self>, bytes: &BytesMut) -> io::Result<Item> {
        if self.is_asked {
            check(bytes)?;
        }
        postcard::from_bytes(bytes).map_err(invalid)
    }
}

fn invalid(error: postcard::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
