//! Bytes on the wire: recorded ones, round trips, and what is malformed.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

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
    assert_eq!(encode_snapshot(&snapshot).0, bytes);
}

#[test]
fn version_1_of_the_handshake_is_these_bytes() {
    let hello = Hello {
        fingerprint: 1,
        node: "a".to_owned(),
        position: None,
    };
    assert_eq!(postcard::to_stdvec(&hello).unwrap(), [1, 1, b'a', 0]);
    let welcome = Welcome {
        node: "b".to_owned(),
        tier: 2,
        news: News::Idle { age_ms: 200 },
    };
    assert_eq!(
        postcard::to_stdvec(&welcome).unwrap(),
        [1, b'b', 2, 1, 0xc8, 1]
    );
    let refusals = [
        (Refusal::Protocol(2), vec![0, 2]),
        (Refusal::Fingerprint(3), vec![1, 3]),
        (Refusal::Malformed, vec![2]),
        (Refusal::NotReady, vec![3]),
        (Refusal::Closing, vec![4]),
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
    assert!(decode_delta(&good, 1_000, STATES).is_ok());
    for len in 0..good.0.len() {
        let cut = Blob(good.0[..len].to_vec());
        assert!(decode_delta(&cut, 1_000, STATES).is_err(), "{len}");
    }
    let mut long = good.clone();
    long.0.push(0);
    assert!(decode_delta(&long, 1_000, STATES).is_err());
    assert!(
        decode_delta(&good, u64::MAX, STATES).is_err(),
        "a revision beyond the last"
    );
    assert!(
        decode_delta(&good, 1_000, 6).is_err(),
        "a state beyond the schema"
    );
    // The same state twice.
    let twice = Blob([vec![1, 4, 4, 0], vec![0; 8]].concat());
    assert!(decode_delta(&twice, 0, STATES).is_err());
    let many = Blob([vec![1, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![0; 8]].concat());
    assert!(
        decode_delta(&many, 0, STATES).is_err(),
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
        let decoded = decode_delta(&encode_delta(&delta), delta.base, STATES);
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
        let blob = encode_snapshot(&snapshot);
        prop_assert_eq!(decode_snapshot(&blob, 50), Ok(snapshot));
        prop_assert!(decode_snapshot(&blob, 51).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64), base in any::<u64>()) {
        let blob = Blob(bytes);
        let _ = decode_delta(&blob, base, STATES);
        let _ = decode_snapshot(&blob, STATES);
    }
}
