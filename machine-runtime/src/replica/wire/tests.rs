//! Bytes on the wire: recorded ones, round trips, and what is malformed.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::replica::admission::Token;

const STATES: usize = 200;

fn delta(changes: &[(u32, u32)], payloads: &[(u32, Option<&str>)]) -> Delta {
    Delta {
        base: 1_000,
        revision: 1_001,
        digest: 0x0123_4567_89ab_cdef,
        changes: changes
            .iter()
            .map(|(state, ticks)| Change {
                state: *state,
                ticks: *ticks,
            })
            .collect(),
        payloads: payloads
            .iter()
            .map(|(state, payload)| (*state, payload.map(|p| Bytes::from(p.to_owned()))))
            .collect(),
    }
}

#[test]
fn version_1_of_a_delta_is_these_bytes() {
    let plain = delta(&[(2, 1), (6, 1), (140, 2)], &[]);
    let bytes = [
        1, 6, 4, 8, 0x8d, 2, 2, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 1,
    ];
    assert_eq!(encode_delta(&plain).0, bytes);
    let retained = delta(&[(7, 1)], &[(7, Some("ab")), (21, None)]);
    let bytes = [
        1, 3, 14, 2, 15, 2, b'a', b'b', 28, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 1,
    ];
    assert_eq!(encode_delta(&retained).0, bytes);
}

#[test]
fn version_1_of_a_snapshot_is_these_bytes() {
    let retained = [(1, Bytes::from("ab"))].into();
    let position = Position {
        epoch: Epoch(0x0102),
        revision: 300,
    };
    let snapshot = Snapshot::new(position, 5, vec![0, 1, 128], retained);
    let mut bytes = vec![2, 1];
    bytes.extend([0; 14]);
    bytes.extend([
        0xac, 2, 3, 0, 1, 0x80, 1, 1, 1, 2, b'a', b'b', 5, 0, 0, 0, 0, 0, 0, 0,
    ]);
    assert_eq!(encode_snapshot(&snapshot, snapshot.digest(), None).0, bytes);
}

fn hello() -> Hello {
    Hello {
        fingerprint: 1,
        node: "a".to_owned(),
        position: None,
        wishes: Wishes {
            selection: Some(Blob(vec![6])),
            has: Some(300),
            push_interval_ms: 10,
            heartbeat_ms: 1_000,
            every: true,
            compress: true,
        },
        token: None,
    }
}

fn welcome() -> Welcome {
    Welcome {
        node: "b".to_owned(),
        tier: 2,
        news: News::Idle { age_ms: 200 },
        terms: Terms {
            selection: Some(Blob(vec![2])),
            push_interval_ms: 20,
        },
    }
}

#[test]
fn version_2_of_the_handshake_is_these_bytes() {
    let bytes = [1, 1, b'a', 0, 1, 1, 6, 1, 0xac, 2, 10, 0xe8, 7, 1, 1];
    assert_eq!(hello().encode(2), bytes);
    assert_eq!(Hello::decode(&bytes, 2), Ok(hello()));
    let later = [&bytes[..], b"\0more"].concat();
    assert_eq!(Hello::decode(&later, 2), Ok(hello()), "of a later release");
    assert!(Hello::decode(&bytes[..14], 2).is_err());
    let token = Some(Token::new("ab"));
    let with_token = Hello { token, ..hello() };
    let shown = [&bytes[..], &[1, 2, b'a', b'b']].concat();
    assert_eq!(with_token.encode(2), shown);
    assert_eq!(Hello::decode(&shown, 2), Ok(with_token.clone()));
    let later = [&shown[..], b"more"].concat();
    assert_eq!(
        Hello::decode(&later, 2),
        Ok(with_token.clone()),
        "of a later release"
    );
    assert!(Hello::decode(&shown[..18], 2).is_err());
    let long = Some(Token::new("a".repeat(1025)));
    let long = Hello {
        token: long,
        ..hello()
    };
    assert!(Hello::decode(&long.encode(2), 2).is_err());
    assert_eq!(
        with_token.encode(1),
        hello().encode(1),
        "version 1 has none"
    );
    let bytes = [1, b'b', 2, 1, 0xc8, 1, 1, 1, 2, 20];
    assert_eq!(welcome().encode(2), bytes);
    assert_eq!(Welcome::decode(&bytes, 2), Ok(welcome()));
}

#[test]
fn methods_and_answers_have_these_numbers() {
    let position = Position {
        epoch: Epoch(1),
        revision: 2,
    };
    let watch = Watch {
        after: position,
        every: false,
        resync: true,
        hold_ms: 1_000,
    };
    let body = vec![7];
    let write = Blob(vec![8]);
    let requests = [
        (
            ReplicationRequest::Hello { protocol: 2, body },
            vec![0, 2, 1, 7],
        ),
        (
            ReplicationRequest::Watch { watch },
            vec![1, 1, 2, 0, 1, 0xe8, 7],
        ),
        (ReplicationRequest::Schema { from: 3 }, vec![2, 3]),
        (
            ReplicationRequest::Mutate {
                write: write.clone(),
            },
            vec![3, 1, 8],
        ),
        (
            ReplicationRequest::Write {
                write,
                within_ms: 300,
            },
            vec![4, 1, 8, 0xac, 2],
        ),
        (ReplicationRequest::Probe {}, vec![5]),
        (
            ReplicationRequest::Show {
                token: Secret("ab".to_owned()),
            },
            vec![6, 2, b'a', b'b'],
        ),
    ];
    for (request, bytes) in requests {
        assert_eq!(postcard::to_stdvec(&request).unwrap(), bytes);
    }
    let (age_ms, delta) = (5, Blob(vec![9]));
    let snapshot = delta.clone();
    let cause = SnapshotCause::Selection;
    let news = [
        (
            News::Delta {
                age_ms,
                delta: delta.clone(),
            },
            vec![0, 5, 1, 9],
        ),
        (News::Idle { age_ms }, vec![1, 5]),
        (
            News::Snapshot {
                age_ms,
                cause,
                snapshot,
            },
            vec![2, 5, 4, 1, 9],
        ),
        (
            News::Deltas {
                age_ms,
                deltas: vec![delta],
            },
            vec![3, 5, 1, 1, 9],
        ),
        (News::Closing, vec![4]),
        (News::Packed(Blob(vec![1])), vec![6, 1, 1]),
    ];
    for (news, bytes) in news {
        assert_eq!(postcard::to_stdvec(&news).unwrap(), bytes);
    }
    let probe = Probe {
        position: Some(position),
        age_ms: 5,
    };
    assert_eq!(postcard::to_stdvec(&probe).unwrap(), [1, 1, 2, 5]);
}

#[test]
fn of_a_selection_only_its_states_travel() {
    let names = (0..4).fold(crate::Schema::builder("Four"), |builder, i| {
        builder.state(crate::StateDef::new(format!("S{i}")))
    });
    let schema = names.build().unwrap();
    let selection = Selection::of(&schema, [1, 3]);
    let position = Position {
        epoch: Epoch(0x0102),
        revision: 300,
    };
    let retained: BTreeMap<_, _> = [(1, Bytes::from("ab")), (2, Bytes::from("no"))].into();
    let whole = Snapshot::new(position, 5, vec![7, 1, 9, 4, 8], retained);
    let blob = encode_snapshot(&whole, 6, Some(&selection));
    let mut bytes = vec![2, 1];
    bytes.extend([0; 14]);
    bytes.extend([
        0xac, 2, 2, 1, 4, 1, 1, 2, b'a', b'b', 6, 0, 0, 0, 0, 0, 0, 0,
    ]);
    assert_eq!(blob.0, bytes);
    let read = decode_snapshot(&blob, 5, Some(&selection)).unwrap();
    assert_eq!((read.ticks(), read.digest()), (&[0, 1, 0, 4, 0][..], 6));
    assert!(decode_snapshot(&blob, 5, None).is_err());
    let other = Selection::of(&schema, [0, 3]);
    assert!(
        decode_snapshot(&blob, 5, Some(&other)).is_err(),
        "a payload of another"
    );
    let moved = encode_delta(&delta(&[(2, 1)], &[]));
    assert!(decode_delta(&moved, 1_000, 5, None).is_ok());
    assert!(decode_delta(&moved, 1_000, 5, Some(&selection)).is_err());
}

#[test]
fn version_1_of_the_handshake_is_these_bytes() {
    let hello = hello();
    let bytes = [1, 1, b'a', 0];
    assert_eq!(hello.encode(1), bytes);
    let read = Hello::decode(&bytes, 1).unwrap();
    assert_eq!((read.node, read.wishes), (hello.node, Wishes::default()));
    let welcome = welcome();
    let bytes = [1, b'b', 2, 1, 0xc8, 1];
    assert_eq!(welcome.encode(1), bytes);
    let read = Welcome::decode(&bytes, 1).unwrap();
    assert_eq!((read.news, read.terms), (welcome.news, Terms::default()));
    let refusals = [
        (Refusal::Protocol(2), vec![0, 2]),
        (Refusal::Fingerprint(3), vec![1, 3]),
        (Refusal::Malformed, vec![2]),
        (Refusal::NotReady, vec![3]),
        (Refusal::Closing, vec![4]),
        // From version 2 on.
        (Refusal::NothingSelected, vec![5]),
        (Refusal::Full, vec![6]),
        (Refusal::Denied(true), vec![7, 1]),
    ];
    for (refusal, bytes) in refusals {
        assert_eq!(postcard::to_stdvec(&refusal).unwrap(), bytes);
    }
}

#[test]
fn traces_travel_with_the_deltas_that_they_led_to() {
    let news = News::Traced {
        age_ms: 200,
        deltas: vec![Blob(vec![7, 8])],
        traces: vec![(300, 1, 2, 3)],
    };
    let bytes = [5, 0xc8, 1, 1, 2, 7, 8, 1, 0xac, 2, 1, 2, 3];
    assert_eq!(postcard::to_stdvec(&news).unwrap(), bytes);
}

#[test]
fn a_delta_of_four_states_is_small() {
    let delta = delta(&[(1, 1), (5, 1), (60, 1), (100, 1)], &[]);
    let news = News::Delta {
        age_ms: 0,
        delta: encode_delta(&delta),
    };
    assert_eq!(postcard::to_stdvec(&news).unwrap().len(), 17);
}

#[test]
fn what_is_not_whole_or_out_of_order_is_malformed() {
    let good = encode_delta(&delta(&[(2, 1), (6, 1)], &[(7, Some("ab"))]));
    assert!(decode_delta(&good, 1_000, STATES, None).is_ok());
    for len in 0..good.0.len() {
        let cut = Blob(good.0[..len].to_vec());
        assert!(decode_delta(&cut, 1_000, STATES, None).is_err(), "{len}");
    }
    let mut long = good.clone();
    long.0.push(0);
    assert!(decode_delta(&long, 1_000, STATES, None).is_err());
    assert!(
        decode_delta(&good, u64::MAX, STATES, None).is_err(),
        "a revision beyond the last"
    );
    assert!(
        decode_delta(&good, 1_000, 6, None).is_err(),
        "a state beyond the schema"
    );
    // The same state twice.
    let twice = Blob([vec![1, 4, 4, 0], vec![0; 8]].concat());
    assert!(decode_delta(&twice, 0, STATES, None).is_err());
    let many = Blob([vec![1, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![0; 8]].concat());
    assert!(
        decode_delta(&many, 0, STATES, None).is_err(),
        "more changes than bytes"
    );
}

proptest! {
    #[test]
    fn a_delta_survives_the_wire(
        changes in btree_map(0..200_u32, 1_u32.., 0..20),
        payloads in btree_map(0..200_u32, option::of(vec(any::<u8>(), 0..9)), 0..5),
        (base, more) in (any::<u32>(), 1_u32..),
        digest in any::<u64>(),
    ) {
        let delta = Delta {
            base: base.into(),
            revision: u64::from(base) + u64::from(more),
            digest,
            changes: changes.into_iter().map(|(state, ticks)| Change { state, ticks }).collect(),
            payloads: payloads.into_iter().map(|(s, p)| (s, p.map(Bytes::from))).collect(),
        };
        let decoded = decode_delta(&encode_delta(&delta), delta.base, STATES, None);
        prop_assert_eq!(decoded, Ok(delta));
    }

    #[test]
    fn a_snapshot_survives_the_wire(
        ticks in vec(any::<u64>(), 50),
        retained in btree_map(0..50_u32, vec(any::<u8>(), 0..9), 0..5),
        (epoch, revision, digest) in any::<(u128, u64, u64)>(),
    ) {
        let position = Position { epoch: Epoch(epoch), revision };
        let retained = retained.into_iter().map(|(state, p)| (state, Bytes::from(p))).collect();
        let snapshot = Snapshot::new(position, digest, ticks, retained);
        let blob = encode_snapshot(&snapshot, snapshot.digest(), None);
        prop_assert_eq!(decode_snapshot(&blob, 50, None), Ok(snapshot));
        prop_assert!(decode_snapshot(&blob, 51, None).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64), base in any::<u64>()) {
        let blob = Blob(bytes);
        let _ = decode_delta(&blob, base, STATES, None);
        let _ = decode_snapshot(&blob, STATES, None);
    }
}
