//! What a follower sends, of any values.

use serde::Serialize;

use crate::scene::schema;

/// A request as tarpc and postcard have it, of any values.
#[derive(Serialize)]
pub(crate) struct Request<M> {
    pub(crate) variant: u32,
    pub(crate) seconds: u64,
    pub(crate) nanos: u32,
    pub(crate) trace: [u8; 16],
    pub(crate) span: u64,
    pub(crate) sampling: u32,
    pub(crate) id: u64,
    pub(crate) message: M,
}

impl<M: Serialize> Request<M> {
    pub(crate) fn new(id: u64, message: M) -> Self {
        Self {
            variant: 0,
            seconds: 10,
            nanos: 0,
            trace: [7; 16],
            span: 1,
            sampling: 0,
            id,
            message,
        }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        prefixed(&postcard::to_stdvec(self).unwrap())
    }
}

/// The questions of a follower by their numbers.
#[derive(Serialize)]
pub(crate) enum Question {
    Hello { protocol: u16, body: Vec<u8> },
    Watch { watch: Watch },
    Schema { from: u32 },
    Mutate { write: Vec<u8> },
    Write { write: Vec<u8>, within_ms: u32 },
    Probe {},
}

#[derive(Serialize)]
pub(crate) struct Watch {
    after: (u128, u64),
    pub(crate) every: bool,
    pub(crate) resync: bool,
    pub(crate) hold_ms: u32,
}

#[derive(Serialize)]
pub(crate) struct Hello {
    pub(crate) fingerprint: u128,
    pub(crate) node: String,
    position: Option<(u128, u64)>,
    pub(crate) selection: Option<Vec<u8>>,
    pub(crate) has: Option<u64>,
    pub(crate) push_interval_ms: u32,
    pub(crate) heartbeat_ms: u32,
    pub(crate) every: bool,
    pub(crate) compress: bool,
}

pub(crate) fn prefixed(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&len[1..], body].concat()
}

pub(crate) fn hello(id: u64, node: &str, selection: Option<Vec<u8>>) -> Request<Question> {
    hello_with(id, node, selection, None)
}

/// The same of one who shows a token, which stands behind all else.
pub(crate) fn hello_with(
    id: u64,
    node: &str,
    selection: Option<Vec<u8>>,
    token: Option<&str>,
) -> Request<Question> {
    let hello = Hello {
        fingerprint: schema().fingerprint().0,
        node: node.to_owned(),
        position: None,
        selection,
        has: None,
        push_interval_ms: 0,
        heartbeat_ms: 1000,
        every: false,
        compress: false,
    };
    let mut body = postcard::to_stdvec(&hello).unwrap();
    body.extend(token.map_or_else(Vec::new, |token| postcard::to_stdvec(&Some(token)).unwrap()));
    Request::new(id, Question::Hello { protocol: 2, body })
}

pub(crate) fn watch(id: u64, hold_ms: u32) -> Vec<u8> {
    let watch = Watch {
        after: (1, u64::MAX),
        every: true,
        resync: false,
        hold_ms,
    };
    Request::new(id, Question::Watch { watch }).frame()
}

pub(crate) fn probe(id: u64) -> Vec<u8> {
    Request::new(id, Question::Probe {}).frame()
}

pub(crate) fn cancel(id: u64) -> Vec<u8> {
    prefixed(&postcard::to_stdvec(&(1_u32, [7_u8; 16], 1_u64, 0_u32, id)).unwrap())
}

/// A number as postcard writes it.
pub(crate) fn number(number: u64) -> Vec<u8> {
    postcard::to_stdvec(&number).unwrap()
}
