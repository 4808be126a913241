//! What goes over a link, to be looked at and tampered with by simulations: frames without their length
//! prefix of three bytes, as [`read_request`] and [`read_answer`] have them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tarpc::{ClientMessage, Response};

use super::admission::Token;
use super::wire::{
    Blob, Hello, News, Refusal, ReplicationRequest, ReplicationResponse, Secret, SnapshotCause,
    Watch, Welcome, Wishes, WriteAnswer, decode_delta, decode_snapshot, encode_delta,
    encode_snapshot, encode_write, unpack,
};
use crate::mutation::Op;
use crate::position::{Epoch, Position};
use crate::queue::Waiting;
use crate::ring::Delta;
use crate::selection::Selection;
use crate::transition::Change;
use crate::view::Snapshot;
use crate::write::{Key, Write, WriteOptions};

/// The longest answer that is unpacked.
const MOST: usize = 1 << 24;

/// How many bytes stand before a frame and say how long it is, the lowest last.
pub const PREFIX: usize = 3;

/// How much of the digest a tick of a state is.
pub fn tick_digest(state: u32) -> u64 {
    crate::relations::factor(state as usize)
}

/// How much of the digest a retained payload is.
pub fn payload_digest(state: u32, payload: &[u8]) -> u64 {
    crate::transition::payload_digest(state, payload)
}

/// What a follower says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// It introduces itself.
    Hello {
        /// In this version.
        protocol: u16,
        /// With this position.
        position: Option<Position>,
    },
    /// It asks what comes after a position, or for a snapshot.
    Watch {
        /// The position.
        after: Position,
        /// Whether it asks for a snapshot.
        resync: bool,
    },
    /// It passes on a write, encoded.
    Write(Vec<u8>),
    /// Something else.
    Other,
}

/// What a parent answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Nothing new.
    Idle,
    /// Deltas, one on top of the other.
    Deltas(Vec<Moves>),
    /// A snapshot.
    Snapshot(Whole),
    /// That a write ended: whether there are receipts.
    Written(bool),
    /// Something else.
    Other,
}

/// A delta.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moves {
    /// The revision that it applies to.
    pub base: u64,
    /// That which it leads to.
    pub revision: u64,
    /// The digest there.
    pub digest: u64,
    /// States and how often they ticked.
    pub changes: Vec<(u32, u32)>,
    /// States and what they retain from then on.
    pub payloads: Vec<(u32, Option<Vec<u8>>)>,
}

/// A snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whole {
    /// Where.
    pub position: Position,
    /// The digest there.
    pub digest: u64,
    /// The ticks of all states; 0 of those that do not travel.
    pub ticks: Vec<u64>,
    /// What states retain.
    pub retained: BTreeMap<u32, Vec<u8>>,
}

/// A request, and how to change it.
#[derive(Debug)]
pub struct Question {
    message: ClientMessage<ReplicationRequest>,
}

/// Reads what a follower sent; None if that is no request.
pub fn read_request(frame: &[u8]) -> Option<Question> {
    super::codec::check(frame).ok()?;
    let message = postcard::from_bytes(frame).ok()?;
    matches!(message, ClientMessage::Request(_)).then_some(Question { message })
}

impl Question {
    fn request(&mut self) -> (&mut u64, &mut ReplicationRequest) {
        match &mut self.message {
            ClientMessage::Request(request) => (&mut request.id, &mut request.message),
            _ => unreachable!("it was read as a request"),
        }
    }

    /// Names it on its connection, as does its answer.
    pub fn id(&mut self) -> u64 {
        *self.request().0
    }

    /// Gives it another number.
    pub fn set_id(&mut self, id: u64) {
        *self.request().0 = id;
    }

    /// What it says.
    pub fn said(&mut self) -> Said {
        match self.request().1 {
            ReplicationRequest::Hello { protocol, body } => {
                let hello = Hello::decode(body, *protocol);
                Said::Hello {
                    protocol: *protocol,
                    position: hello.ok().and_then(|hello| hello.position),
                }
            }
            ReplicationRequest::Watch { watch } => Said::Watch {
                after: watch.after,
                resync: watch.resync,
            },
            ReplicationRequest::Write { write, .. } | ReplicationRequest::Mutate { write } => {
                Said::Write(write.0.clone())
            }
            _ => Said::Other,
        }
    }

    /// Has it say another position.
    pub fn set_position(&mut self, position: Position) {
        match self.request().1 {
            ReplicationRequest::Hello { protocol, body } => {
                if let Ok(mut hello) = Hello::decode(body, *protocol) {
                    hello.position = Some(position);
                    *body = hello.encode(*protocol);
                }
            }
            ReplicationRequest::Watch { watch } => watch.after = position,
            _ => {}
        }
    }

    /// Has a hello be one of another version of the protocol.
    pub fn speak(&mut self, version: u16) {
        if let ReplicationRequest::Hello { protocol, body } = self.request().1
            && let Ok(hello) = Hello::decode(body, *protocol)
        {
            *body = hello.encode(version);
            *protocol = version;
        }
    }

    /// Has a write be passed on as version 1 does.
    pub fn mutate(&mut self) {
        let (_, request) = self.request();
        if let ReplicationRequest::Write { write, .. } = request {
            let write = write.clone();
            *request = ReplicationRequest::Mutate { write };
        }
    }

    /// Has it pass on another write.
    pub fn set_write(&mut self, bytes: Vec<u8>) {
        if let ReplicationRequest::Write { write, .. } | ReplicationRequest::Mutate { write } =
            self.request().1
        {
            *write = Blob(bytes);
        }
    }

    /// Its frame.
    pub fn frame(&self) -> Vec<u8> {
        encode(&self.message)
    }
}

/// A question that somebody asks who need not keep to any order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asks {
    /// A hello.
    Hello {
        /// In this version.
        protocol: u16,
        /// With this fingerprint.
        fingerprint: u128,
        /// With this token.
        token: Option<String>,
    },
    /// What came after a position, or a heartbeat at once.
    Watch(Position),
    /// The first page of the schema.
    Schema,
    /// To call states, as version 1 does.
    Mutate(Op, Vec<u32>),
    /// To call states.
    Write(Op, Vec<u32>),
    /// How the parent does.
    Probe,
    /// Whether this token is admitted.
    Show(String),
}

/// The frame of a question. A write is for the epoch 7, and has a key of its own.
pub fn ask(id: u64, asks: Asks) -> Vec<u8> {
    let write = |op, called: Vec<u32>| {
        let call = Waiting {
            op,
            called: called.into_iter().collect(),
            ..Waiting::default()
        };
        let key = Key::new(id.to_be_bytes()).expect("a key of eight bytes");
        encode_write(&Write::new(vec![call], WriteOptions::new()), &key, Epoch(7))
    };
    let message = match asks {
        Asks::Hello {
            protocol,
            fingerprint,
            token,
        } => {
            let hello = Hello {
                fingerprint,
                node: "raw".to_owned(),
                position: None,
                wishes: Wishes::default(),
                token: token.map(Token::new),
            };
            let body = hello.encode(protocol);
            ReplicationRequest::Hello { protocol, body }
        }
        Asks::Watch(after) => ReplicationRequest::Watch {
            watch: Watch {
                after,
                every: false,
                resync: false,
                hold_ms: 0,
            },
        },
        Asks::Schema => ReplicationRequest::Schema { from: 0 },
        Asks::Mutate(op, called) => ReplicationRequest::Mutate {
            write: write(op, called),
        },
        Asks::Write(op, called) => ReplicationRequest::Write {
            write: write(op, called),
            within_ms: 10_000,
        },
        Asks::Probe => ReplicationRequest::Probe {},
        Asks::Show(token) => ReplicationRequest::Show {
            token: Secret(token),
        },
    };
    let mut context = tarpc::context::current();
    context.deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    encode(&ClientMessage::Request(tarpc::Request {
        context,
        id,
        message,
    }))
}

/// The frame of an answer that says that a write was carried out, at a position, in `calls` mutations.
pub fn executed(id: u64, calls: usize, position: Position) -> Vec<u8> {
    let receipts = vec![(crate::mutation::Outcome::Executed, position); calls];
    let message = Ok(ReplicationResponse::Write(WriteAnswer::Done(receipts)));
    encode(&Response::<ReplicationResponse> {
        request_id: id,
        message,
    })
}

/// The frame of the answer of a parent to a hello that is not of its version of the protocol.
pub fn refused(id: u64, protocol: u16) -> Vec<u8> {
    let refusal = Refusal::Protocol(protocol);
    encode(&Response::<ReplicationResponse> {
        request_id: id,
        message: Ok(ReplicationResponse::Hello(Err(refusal))),
    })
}

/// An answer, and how to change it.
#[derive(Debug)]
pub struct Answer {
    response: Response<ReplicationResponse>,
    welcome: Option<(u16, Welcome)>,
    news: Option<News>,
}

/// Reads what a parent sent to a follower that speaks `protocol`; None if that is no answer.
pub fn read_answer(frame: &[u8], protocol: u16) -> Option<Answer> {
    let response: Response<ReplicationResponse> = postcard::from_bytes(frame).ok()?;
    let (mut welcome, mut news) = (None, None);
    match &response.message {
        Ok(ReplicationResponse::Watch(told)) => news = unpack(told.clone(), MOST).ok(),
        Ok(ReplicationResponse::Hello(Ok(body))) => {
            let read = Welcome::decode(body, protocol).ok()?;
            news = unpack(read.news.clone(), MOST).ok();
            welcome = Some((protocol, read));
        }
        _ => {}
    }
    Some(Answer {
        response,
        welcome,
        news,
    })
}

impl Answer {
    /// Of which request.
    pub fn id(&self) -> u64 {
        self.response.request_id
    }

    /// Has it answer another request.
    pub fn set_id(&mut self, id: u64) {
        self.response.request_id = id;
    }

    /// What it comes to, in a word or two.
    pub fn verdict(&self) -> String {
        let written = |answer: &WriteAnswer| match answer {
            WriteAnswer::Done(_) => "done".to_owned(),
            WriteAnswer::Failed { failure, .. } => format!("{failure:?}"),
        };
        match &self.response.message {
            Err(error) => error.to_string(),
            Ok(ReplicationResponse::Hello(Ok(_))) => "welcome".to_owned(),
            Ok(ReplicationResponse::Hello(Err(refusal))) => format!("{refusal:?}"),
            Ok(ReplicationResponse::Watch(News::Closing)) => "closing".to_owned(),
            Ok(ReplicationResponse::Watch(_)) => "news".to_owned(),
            Ok(ReplicationResponse::Schema(page)) => format!("{} states", page.len()),
            Ok(ReplicationResponse::Mutate(answer) | ReplicationResponse::Write(answer)) => {
                written(answer)
            }
            Ok(ReplicationResponse::Probe(probe)) => {
                let known = probe.position.is_some() || probe.age_ms < u32::MAX;
                if known { "told" } else { "nothing" }.to_owned()
            }
            Ok(ReplicationResponse::Show(admitted)) => admitted.to_string(),
        }
    }

    /// Whether it is the answer to a hello.
    pub fn is_welcome(&self) -> bool {
        self.welcome.is_some()
    }

    /// The states that travel on this link, if this is a welcome and says so.
    pub fn selection(&self, states: usize) -> Option<Selection> {
        let (_, welcome) = self.welcome.as_ref()?;
        Selection::from_bytes(&welcome.terms.selection.as_ref()?.0, states)
    }

    /// What it tells a follower that is at revision `base` and takes these of so many states.
    pub fn told(&self, base: u64, states: usize, selection: Option<&Selection>) -> Told {
        if let Ok(ReplicationResponse::Write(answer) | ReplicationResponse::Mutate(answer)) =
            &self.response.message
        {
            return Told::Written(matches!(answer, WriteAnswer::Done(_)));
        }
        let read = |deltas: &[Blob]| {
            let mut base = base;
            let deltas = deltas.iter().map(|blob| {
                let delta = decode_delta(blob, base, states, selection).ok()?;
                base = delta.revision;
                Some(Moves::of(delta))
            });
            deltas
                .collect::<Option<_>>()
                .map_or(Told::Other, Told::Deltas)
        };
        match &self.news {
            Some(News::Idle { .. }) => Told::Idle,
            Some(News::Delta { delta, .. }) => read(std::slice::from_ref(delta)),
            Some(News::Deltas { deltas, .. } | News::Traced { deltas, .. }) => read(deltas),
            Some(News::Snapshot { snapshot, .. }) => {
                let snapshot = decode_snapshot(snapshot, states, selection);
                snapshot.map_or(Told::Other, |snapshot| Told::Snapshot(Whole::of(&snapshot)))
            }
            _ => Told::Other,
        }
    }

    /// Has it say that the parent is of another age, in milliseconds.
    pub fn set_age(&mut self, age: u32) {
        if let Some(
            News::Idle { age_ms }
            | News::Delta { age_ms, .. }
            | News::Deltas { age_ms, .. }
            | News::Snapshot { age_ms, .. }
            | News::Traced { age_ms, .. },
        ) = &mut self.news
        {
            *age_ms = age;
        }
    }

    /// Has it be one of another version of the protocol.
    pub fn speak(&mut self, version: u16) {
        if let Some((protocol, _)) = &mut self.welcome {
            *protocol = version;
        }
        if let Ok(ReplicationResponse::Mutate(answer)) = &self.response.message
            && version > 1
        {
            self.response.message = Ok(ReplicationResponse::Write(answer.clone()));
        }
    }

    /// Has it tell something else of the same age: nothing new, deltas or a snapshot.
    pub fn tell(&mut self, told: &Told, selection: Option<&Selection>) {
        let age_ms = match &self.news {
            Some(
                News::Idle { age_ms }
                | News::Delta { age_ms, .. }
                | News::Deltas { age_ms, .. }
                | News::Snapshot { age_ms, .. }
                | News::Traced { age_ms, .. },
            ) => *age_ms,
            _ => 0,
        };
        self.news = match told {
            Told::Idle => Some(News::Idle { age_ms }),
            Told::Deltas(deltas) => Some(News::Deltas {
                age_ms,
                deltas: deltas
                    .iter()
                    .map(|moves| encode_delta(&moves.delta()))
                    .collect(),
            }),
            Told::Snapshot(whole) => {
                let snapshot = whole.snapshot();
                Some(News::Snapshot {
                    age_ms,
                    cause: SnapshotCause::First,
                    snapshot: encode_snapshot(&snapshot, whole.digest, selection),
                })
            }
            Told::Written(_) | Told::Other => return,
        };
    }

    /// Its frame.
    pub fn frame(mut self) -> Vec<u8> {
        if let Some(news) = self.news {
            self.response.message = Ok(match self.welcome {
                Some((protocol, mut welcome)) => {
                    welcome.news = news;
                    ReplicationResponse::Hello(Ok(welcome.encode(protocol)))
                }
                None => ReplicationResponse::Watch(news),
            });
        }
        encode(&self.response)
    }
}

impl Moves {
    fn of(delta: Delta) -> Self {
        let changes = delta.changes.iter();
        let payloads = delta.payloads.into_iter();
        Self {
            base: delta.base,
            revision: delta.revision,
            digest: delta.digest,
            changes: changes.map(|change| (change.state, change.ticks)).collect(),
            payloads: payloads.map(|(s, p)| (s, p.map(|p| p.to_vec()))).collect(),
        }
    }

    fn delta(&self) -> Delta {
        let changes = self.changes.iter();
        let payloads = self.payloads.iter().cloned();
        Delta {
            base: self.base,
            revision: self.revision,
            digest: self.digest,
            changes: changes
                .map(|(state, ticks)| Change {
                    state: *state,
                    ticks: *ticks,
                })
                .collect(),
            payloads: payloads.map(|(s, p)| (s, p.map(Bytes::from))).collect(),
        }
    }
}

impl Whole {
    fn of(snapshot: &Snapshot) -> Self {
        let retained = snapshot.retained().iter();
        Self {
            position: snapshot.position(),
            digest: snapshot.digest(),
            ticks: snapshot.ticks().to_vec(),
            retained: retained.map(|(s, p)| (*s, p.to_vec())).collect(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let retained = self.retained.iter();
        let retained = retained.map(|(s, p)| (*s, Bytes::from(p.clone())));
        Snapshot::new(
            self.position,
            self.digest,
            self.ticks.clone(),
            retained.collect(),
        )
    }
}

fn encode<T: Serialize + for<'a> Deserialize<'a>>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("what was read can be written")
}

/// Reads a write that a follower passes on, of a schema of `states` states: how many states its mutations call.
pub fn read_write(bytes: &[u8], states: usize) -> Option<usize> {
    let write = super::wire::decode_write(&Blob(bytes.to_vec()), states).ok()?;
    Some(write.calls.iter().map(|call| call.called.len()).sum())
}
