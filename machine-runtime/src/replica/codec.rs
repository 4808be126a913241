//! tarpc messages as postcard in length-prefixed frames, over any stream of bytes.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tarpc::serde_transport::{self, Transport};
use tarpc::tokio_serde::{Deserializer, Serializer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::LengthDelimitedCodec;
use tokio_util::io::{InspectReader, InspectWriter};

use crate::mutation::MAX_PAYLOAD;
use crate::observe::{Observers, Side};
use crate::schema::Schema;

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

/// A tarpc transport over `io`, whose bytes are counted as those of `side` if anybody wants to know.
pub(super) fn transport<Item, SinkItem>(
    io: impl AsyncRead + AsyncWrite,
    max_frame: usize,
    side: Side,
    observers: Option<Observers>,
) -> Transport<impl AsyncRead + AsyncWrite, Item, SinkItem, Postcard<Item, SinkItem>>
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
    let framed = LengthDelimitedCodec::builder()
        .length_field_length(3)
        .max_frame_length(max_frame)
        .new_framed(io);
    serde_transport::new(framed, Postcard(PhantomData))
}

/// Postcard for `tokio_serde`.
pub(super) struct Postcard<Item, SinkItem>(PhantomData<fn(SinkItem) -> Item>);

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
        postcard::from_bytes(bytes).map_err(invalid)
    }
}

fn invalid(error: postcard::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
