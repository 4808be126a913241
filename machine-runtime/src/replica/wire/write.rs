//! Writes on the wire, and what came of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Blob, Malformed};
use crate::handlers::Cause;
use crate::mutation::{Op, Outcome};
use crate::position::{Epoch, Position};
use crate::queue::Waiting;
use crate::schema::as_index;
use crate::trace::TraceContext;
use crate::write::{Key, MutateError, Receipt, WRITE_BYTES, WRITE_CALLS, Write, Written};

/// The body of `mutate` in version 1. A write that belongs to a trace that is kept is followed by the
/// trace and the span, 24 bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Body {
    /// Names the write on every link, and at the root.
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
    /// The life of the root that the writer saw.
    epoch: Epoch,
    /// The mutations, which run in a row.
    calls: Vec<Call>,
}

/// One mutation: states as indices, each once; payloads with their states.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Call {
    op: Op,
    called: Vec<u32>,
    payloads: Vec<(u32, Blob)>,
}

/// The answer to `mutate`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::replica) enum WriteAnswer {
    /// The root ran the mutations: how each ended, and where the machine stood then.
    Done(Vec<(Outcome<u32>, Position)>),
    /// There is no answer of the root's; whether the mutations may have been run all the same.
    Failed {
        failure: Failure,
        may_have_run: bool,
    },
}

/// Why there is no answer of the root's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::replica) enum Failure {
    /// The node shuts down: the write is to be sent again over the next connection.
    Closing,
    /// As much is under way as there is room for.
    Busy,
    /// No link to the root in time.
    Unreachable,
    /// No answer in time.
    Expired,
    /// The root is in another life than the write is for.
    EpochChanged,
    /// The key names another write.
    KeyReused,
    /// The write is larger than a node passes on.
    TooLarge,
    /// The node takes no writes, or could not read this one.
    Refused,
    /// Who sent it may not call this state. From version 2 on.
    Forbidden { state: u32 },
}

/// Encodes a write that has a key, for a life of the root.
pub(in crate::replica) fn encode_write(write: &Write, key: &Key, epoch: Epoch) -> Blob {
    let calls = write.calls.iter().map(|call| {
        let payloads = call.payloads.iter();
        Call {
            op: call.op,
            called: call.called.to_vec(),
            payloads: payloads
                .map(|(state, payload)| (*state, Blob(payload.to_vec())))
                .collect(),
        }
    });
    let body = Body {
        key: key.as_bytes().to_vec(),
        epoch,
        calls: calls.collect(),
    };
    let mut bytes = postcard::to_stdvec(&body).expect("numbers and bytes can always be encoded");
    if let Some(trace) = write.trace {
        bytes.extend(trace.to_bytes());
    }
    Blob(bytes)
}

/// How many bytes a write takes at most, encoded.
pub(in crate::replica) fn size(write: &Write) -> usize {
    const NUMBER: usize = 5;
    const HEAD: usize = 128;
    let call = |call: &Waiting| {
        let payloads = call.payloads.iter();
        let payloads = payloads.map(|(_, payload)| 2 * NUMBER + payload.len());
        3 * NUMBER + call.called.len() * NUMBER + payloads.sum::<usize>()
    };
    HEAD + write.calls.iter().map(call).sum::<usize>()
}

/// Decodes a write to a machine of `states` states, which is no larger than what a node sends.
pub(in crate::replica) fn decode_write(blob: &Blob, states: usize) -> Result<Write, Malformed> {
    let malformed = Malformed("write");
    if blob.0.len() > WRITE_BYTES {
        return Err(malformed);
    }
    let (body, rest): (Body, _) =
        postcard::take_from_bytes(&blob.0).map_err(|_malformed| malformed)?;
    if body.calls.len() > WRITE_CALLS {
        return Err(malformed);
    }
    let trace = match rest {
        [] => None,
        bytes => Some(TraceContext::from_bytes(bytes).ok_or(malformed)?),
    };
    let key = Key::new(&body.key).map_err(|_invalid| malformed)?;
    let states = as_index(states);
    let mut calls = Vec::with_capacity(body.calls.len());
    for call in body.calls {
        let given = call.payloads.iter().map(|(state, _)| *state);
        if !are_distinct(call.called.clone(), states) || !are_distinct(given.collect(), states) {
            return Err(malformed);
        }
        calls.push(Waiting {
            cause: Cause::Call,
            is_error: false,
            op: call.op,
            called: call.called.into_iter().collect(),
            payloads: call
                .payloads
                .into_iter()
                .map(|(state, payload)| (state, Bytes::from(payload.0)))
                .collect(),
        });
    }
    let write = Write {
        key: Some(key),
        epoch: Some(body.epoch),
        trace,
        calls,
    };
    if size(&write) > WRITE_BYTES {
        return Err(malformed);
    }
    Ok(write)
}

/// Whether indices are each another of `states` states.
fn are_distinct(mut indices: Vec<u32>, states: u32) -> bool {
    indices.sort_unstable();
    let known = indices.last().is_none_or(|last| *last < states);
    known && indices.windows(2).all(|pair| pair[0] != pair[1])
}

impl From<Written> for WriteAnswer {
    fn from(written: Written) -> Self {
        let error = match written {
            Ok(receipts) => {
                let receipts = receipts.into_iter();
                return Self::Done(receipts.map(|r| (r.outcome, r.position)).collect());
            }
            Err(error) => error,
        };
        let failure = match error {
            MutateError::Closed { .. } => Failure::Closing,
            MutateError::Busy { .. } => Failure::Busy,
            MutateError::Unreachable { .. } => Failure::Unreachable,
            MutateError::Expired { .. } => Failure::Expired,
            MutateError::EpochChanged { .. } => Failure::EpochChanged,
            MutateError::KeyReused => Failure::KeyReused,
            MutateError::TooLarge => Failure::TooLarge,
            MutateError::Refused => Failure::Refused,
            MutateError::Forbidden { state } => Failure::Forbidden { state },
        };
        let may_have_run = error.may_have_run();
        Self::Failed {
            failure,
            may_have_run,
        }
    }
}

impl WriteAnswer {
    /// The same in version 1, which cannot tell a state that may not be called from a write that is not taken.
    pub(in crate::replica) fn without_forbidden(mut self) -> Self {
        if let Self::Failed { failure, .. } = &mut self
            && matches!(failure, Failure::Forbidden { .. })
        {
            *failure = Failure::Refused;
        }
        self
    }

    /// What came of a write of `calls` mutations to a machine of `states` states. `sent`: whether
    /// it may have been run before it was sent to who answers. Who does not take a write cannot
    /// know what came of that: then nobody who does could be reached.
    ///
    /// # Errors
    ///
    /// If this answers no such write.
    pub(in crate::replica) fn read(
        self,
        calls: usize,
        states: usize,
        sent: bool,
    ) -> Result<Written, Malformed> {
        let (failure, may_have_run) = match self {
            Self::Done(receipts) if receipts.len() == calls => {
                let receipts = receipts
                    .into_iter()
                    .map(|(outcome, position)| Receipt { outcome, position });
                let receipts: Vec<_> = receipts.collect();
                let known = receipts.iter().all(|receipt| names_known(receipt, states));
                return known.then_some(Ok(receipts)).ok_or(Malformed("receipt"));
            }
            Self::Done(_) => return Err(Malformed("receipt")),
            Self::Failed {
                failure,
                may_have_run,
            } => (failure, may_have_run || sent),
        };
        Ok(Err(match failure {
            Failure::Forbidden { state } if state as usize >= states => {
                return Err(Malformed("receipt"));
            }
            Failure::TooLarge | Failure::Refused | Failure::Forbidden { .. } if may_have_run => {
                MutateError::Unreachable { may_have_run }
            }
            Failure::Closing => MutateError::Closed { may_have_run },
            Failure::Busy => MutateError::Busy { may_have_run },
            Failure::Unreachable => MutateError::Unreachable { may_have_run },
            Failure::Expired => MutateError::Expired { may_have_run },
            Failure::EpochChanged => MutateError::EpochChanged { may_have_run },
            Failure::KeyReused => MutateError::KeyReused,
            Failure::TooLarge => MutateError::TooLarge,
            Failure::Refused => MutateError::Refused,
            Failure::Forbidden { state } => MutateError::Forbidden { state },
        }))
    }
}

/// Whether the states of a reason are among `states` of them.
fn names_known(receipt: &Receipt<u32>, states: usize) -> bool {
    let Outcome::Canceled(reason) = &receipt.outcome else {
        return true;
    };
    let unknown = std::cell::Cell::new(false);
    // Whatever a reason is: each of its states passes here.
    let _ = reason
        .clone()
        .map(|state| unknown.set(unknown.get() || state as usize >= states));
    !unknown.get()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::handlers::Phase;
    use crate::mutation::{Payloads, Reason, Refusal};

    fn write(op: Op, called: &[u32], payloads: Payloads<u32>) -> Write {
        let called = called.iter().copied().collect();
        Write {
            key: None,
            epoch: None,
            trace: None,
            calls: vec![Waiting {
                cause: Cause::Call,
                is_error: false,
                op,
                called,
                payloads,
            }],
        }
    }

    fn encoded(write: &Write) -> Blob {
        encode_write(write, &Key::new("k").unwrap(), Epoch(3))
    }

    #[test]
    fn version_1_of_a_write_is_these_bytes() {
        let payload = [(7, Bytes::from("ab"))].into_iter().collect();
        let bytes = [1, b'k', 3, 1, 0, 2, 7, 0xc8, 1, 1, 7, 2, b'a', b'b'];
        assert_eq!(encoded(&write(Op::Add, &[7, 200], payload)).0, bytes);
    }

    #[test]
    fn version_1_of_its_answer_is_these_bytes() {
        let position = Position {
            epoch: Epoch(3),
            revision: 300,
        };
        let blocked = Reason::Blocked { state: 1, by: 2 };
        let outcomes = [Outcome::Executed, Outcome::Canceled(blocked)];
        let done = WriteAnswer::Done(outcomes.map(|outcome| (outcome, position)).into());
        let bytes = [0, 2, 0, 3, 0xac, 2, 1, 0, 1, 2, 3, 0xac, 2];
        assert_eq!(postcard::to_stdvec(&done).unwrap(), bytes);
        let (phase, state) = (Phase::Enter, Some(5));
        let why = Some("no".into());
        let refusal = Refusal { phase, state, why };
        let reasons: [(Reason<u32>, Vec<u8>); 11] = [
            (
                Reason::Missing {
                    state: 1,
                    requires: 2,
                },
                vec![1, 1, 2],
            ),
            (Reason::NoCandidate, vec![2]),
            (
                Reason::Refused(Box::new(refusal)),
                vec![3, 1, 1, 5, 1, 2, b'n', b'o'],
            ),
            (Reason::Panicked { phase, state }, vec![4, 1, 1, 5]),
            (Reason::TimedOut { phase, state: None }, vec![5, 1, 0]),
            (Reason::QueueFull, vec![6]),
            (Reason::Displaced, vec![7]),
            (Reason::BackingOff, vec![8]),
            (Reason::Runaway, vec![9]),
            (Reason::PayloadTooLarge { len: 300 }, vec![10, 0xac, 2]),
            (Reason::PayloadUnwanted { state: 1 }, vec![11, 1]),
        ];
        for (reason, bytes) in reasons {
            assert_eq!(postcard::to_stdvec(&reason).unwrap(), bytes, "{reason:?}");
        }
        let may_have_run = true;
        let errors = [
            MutateError::Closed { may_have_run },
            MutateError::Busy { may_have_run },
            MutateError::Unreachable { may_have_run },
            MutateError::Expired { may_have_run },
            MutateError::EpochChanged { may_have_run },
            MutateError::KeyReused,
            MutateError::TooLarge,
            MutateError::Refused,
        ];
        for (error, number) in errors.into_iter().zip(0..) {
            let answer = WriteAnswer::from(Err(error));
            let bytes = [1, number, u8::from(error.may_have_run())];
            assert_eq!(postcard::to_stdvec(&answer).unwrap(), bytes);
            assert_eq!(answer.read(1, 9, false), Ok(Err(error)));
        }
        // From version 2 on.
        let forbidden = MutateError::Forbidden { state: 5 };
        let answer = WriteAnswer::from(Err(forbidden));
        assert_eq!(postcard::to_stdvec(&answer).unwrap(), [1, 8, 5, 0]);
        assert_eq!(answer.clone().read(1, 9, false), Ok(Err(forbidden)));
        assert!(answer.clone().read(1, 5, false).is_err(), "no such state");
        let refused = WriteAnswer::from(Err(MutateError::Refused));
        assert_eq!(answer.without_forbidden(), refused);
    }

    #[test]
    fn who_does_not_take_a_write_does_not_know_what_came_of_it_before() {
        let may_have_run = true;
        let unreachable = MutateError::Unreachable { may_have_run };
        for (error, then) in [
            (MutateError::Refused, unreachable),
            (MutateError::TooLarge, unreachable),
            (MutateError::Forbidden { state: 5 }, unreachable),
            // The root says so: had it run this write, the key would name it.
            (MutateError::KeyReused, MutateError::KeyReused),
        ] {
            let answer = WriteAnswer::from(Err(error));
            assert_eq!(answer.clone().read(1, 9, true), Ok(Err(then)));
            assert_eq!(answer.read(1, 9, false), Ok(Err(error)));
        }
        let failure = Failure::Refused;
        let answer = WriteAnswer::Failed {
            failure,
            may_have_run,
        };
        assert_eq!(answer.read(1, 9, false), Ok(Err(unreachable)));
    }

    #[test]
    fn what_is_not_whole_or_not_the_schemas_is_malformed() {
        let payload = || [(7, Bytes::from("ab"))].into_iter().collect();
        let good = encoded(&write(Op::Toggle, &[7, 2], payload()));
        let decoded = decode_write(&good, 8).unwrap();
        assert_eq!(decoded.calls[0].called[..], [7, 2], "the order matters");
        for len in 0..good.0.len() {
            let cut = Blob(good.0[..len].to_vec());
            assert!(decode_write(&cut, 8).is_err(), "{len}");
        }
        let bad = [
            encoded(&write(Op::Add, &[8], Payloads::new())),
            encoded(&write(Op::Add, &[1, 2, 1], Payloads::new())),
            encoded(&write(
                Op::Add,
                &[1],
                [(9, Bytes::new())].into_iter().collect(),
            )),
            encoded(&write(
                Op::Add,
                &[1],
                [(1, Bytes::new()), (1, Bytes::new())].into_iter().collect(),
            )),
            Blob([&good.0[..], &[0]].concat()),
            // No key, and a key too long.
            Blob([&[0], &good.0[2..]].concat()),
            Blob([&[65][..], &[0; 65], &good.0[2..]].concat()),
            Blob(vec![0; WRITE_BYTES + 1]),
        ];
        for blob in bad {
            assert!(decode_write(&blob, 8).is_err(), "{:?}", &blob.0[..2]);
        }
    }

    #[test]
    fn a_trace_that_is_kept_travels_behind_the_write_and_is_whole_or_malformed() {
        let plain = encoded(&write(Op::Add, &[1], Payloads::new()));
        let trace = TraceContext::root(true);
        let traced = encoded(&Write {
            trace: Some(trace),
            ..write(Op::Add, &[1], Payloads::new())
        });
        assert_eq!(traced.0.len(), plain.0.len() + 24);
        assert_eq!(decode_write(&traced, 8).unwrap().trace, Some(trace));
        assert_eq!(decode_write(&plain, 8).unwrap().trace, None);
        for len in plain.0.len() + 1..traced.0.len() {
            assert!(decode_write(&Blob(traced.0[..len].to_vec()), 8).is_err());
        }
        let none = Blob([&plain.0[..], &[0; 24]].concat());
        assert!(decode_write(&none, 8).is_err());
    }

    #[test]
    fn what_a_node_would_not_send_is_malformed() {
        let many = |count: usize| {
            let calls = vec![Waiting::default(); count];
            let blob = encoded(&Write {
                calls,
                ..write(Op::Add, &[], Payloads::new())
            });
            assert!(blob.0.len() <= WRITE_BYTES);
            decode_write(&blob, 8).map(|write| write.calls.len())
        };
        assert_eq!(many(WRITE_CALLS), Ok(WRITE_CALLS));
        assert!(many(WRITE_CALLS + 1).is_err() && many(21_800).is_err());
        // Of few bytes each, but a state counts for as many as it can take.
        let called = |count: u32| {
            let states: Vec<u32> = (0..count).collect();
            let blob = encoded(&write(Op::Add, &states, Payloads::new()));
            assert!(blob.0.len() <= WRITE_BYTES);
            decode_write(&blob, 20_000).is_ok()
        };
        let most = as_index((WRITE_BYTES - 143) / 5);
        assert!(called(most) && !called(most + 1));
    }

    #[test]
    fn an_answer_that_names_what_is_no_state_is_none() {
        let position = Position {
            epoch: Epoch(3),
            revision: 1,
        };
        let outcome = Outcome::Canceled(Reason::Blocked { state: 1, by: 8 });
        let answer = WriteAnswer::Done(vec![(outcome, position)]);
        assert!(answer.clone().read(1, 8, false).is_err());
        assert!(answer.clone().read(2, 9, false).is_err());
        assert!(answer.read(1, 9, false).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64)) {
            let _ = decode_write(&Blob(bytes), 200);
        }
    }
}
