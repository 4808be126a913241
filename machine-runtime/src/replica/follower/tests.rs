//! What a follower does with answers that are not as they should be.

use crate::observe::{Event, Interest, Observers};
use crate::position::Epoch;
use crate::relations::factor;
use crate::replica::link::tidy_name;
use crate::replica::wire::{Blob, News};
use crate::replica::wire::{SnapshotCause, encode_delta, encode_snapshot};
use crate::ring::Delta;
use crate::schema::Schema;
use crate::schema::StateDef;
use crate::state::DynState;
use crate::transition::Change;
use crate::view::Snapshot;

use super::*;

impl Follower {
    /// Takes an answer that came at once.
    fn hears(&mut self, news: News) -> Result<(), Lost> {
        self.take(news, Duration::ZERO)
    }
}

fn follower() -> (View<DynState>, Follower) {
    let schema = Schema::builder("Two")
        .state(StateDef::new("A"))
        .state(StateDef::new("B"));
    Follower::new(
        schema.build().unwrap().into(),
        FollowerOptions::new("child"),
    )
}

fn snapshot(epoch: u128, revision: u64, ticks: [u64; 3]) -> News {
    let digests = ticks
        .iter()
        .enumerate()
        .map(|(i, tick)| factor(i).wrapping_mul(*tick));
    let digest = digests.fold(0, u64::wrapping_add);
    let position = Position {
        epoch: Epoch(epoch),
        revision,
    };
    let snapshot = Snapshot::new(position, digest, ticks.to_vec(), BTreeMap::new());
    let snapshot = encode_snapshot(&snapshot, digest, None);
    News::Snapshot {
        age_ms: 0,
        cause: SnapshotCause::First,
        snapshot,
    }
}

/// A delta that ticks state 1 once; `wrong` is added to its digest.
fn delta(follower: &Follower, wrong: u64) -> News {
    let base = follower.position.unwrap().revision;
    let digest = follower.digest.wrapping_add(factor(1)).wrapping_add(wrong);
    let changes = vec![Change { state: 1, ticks: 1 }];
    let delta = Delta {
        base,
        revision: base + 1,
        digest,
        changes,
        payloads: Vec::new(),
    };
    News::Delta {
        age_ms: 0,
        delta: encode_delta(&delta),
    }
}

#[tokio::test]
async fn traces_that_are_none_or_of_what_does_not_come_are_not_told() {
    let observers = Observers::new();
    let mut told = observers.attach("test", Interest::TRACES, 8);
    let schema = Schema::builder("Two")
        .state(StateDef::new("A"))
        .state(StateDef::new("B"));
    let mut options = FollowerOptions::new("child");
    options.view.observers = Some(observers.clone());
    let schema = schema.build().unwrap().into();
    let (_view, mut follower) = Follower::new::<DynState>(schema, options);
    follower.hears(snapshot(1, 5, [0, 0, 0])).unwrap();
    let traced = |follower: &Follower, wrong, traces| {
        let News::Delta { age_ms, delta } = delta(follower, wrong) else {
            unreachable!("it is a delta");
        };
        let deltas = vec![delta];
        News::Traced {
            age_ms,
            deltas,
            traces,
        }
    };
    // Old, without ids, and far ahead; then one that fails; then one that comes.
    let wrong = vec![
        (5, 1, 1, 1),
        (6, 0, 1, 1),
        (6, 1, 0, 1),
        (6, 1, 1, 0),
        (u64::MAX, 1, 1, 1),
    ];
    let news = traced(&follower, 0, wrong);
    follower.hears(news).unwrap();
    assert_eq!(follower.position.unwrap().revision, 6);
    let news = traced(&follower, 1, vec![(7, 1, 1, 1)]);
    follower.hears(news).unwrap();
    follower.resync = None;
    let shared = Arc::clone(follower.publisher.shared());
    let after = follower.position.unwrap();
    assert!(told.try_next().is_none());
    assert_eq!(shared.traces().between(after, u64::MAX), []);
    let news = traced(&follower, 0, vec![(7, 1, 1, 1)]);
    follower.hears(news).unwrap();
    assert!(
        matches!(&*told.try_next().unwrap(), Event::Span(span) if span.traced.parent == Some(1))
    );
    let passed_on = shared.traces().between(after, 7);
    assert_eq!(passed_on.len(), 1);
    assert_ne!(passed_on[0].context.span, 1, "the span of our own");
}

#[test]
fn a_name_is_what_can_stand_in_a_line() {
    assert_eq!(tidy_name("rep-1"), "rep-1");
    assert_eq!(tidy_name("a\nb\u{1b}[1mc"), "ab[1mc");
    assert_eq!(tidy_name(&"é".repeat(1000)).chars().count(), 128);
}

#[tokio::test]
async fn a_delta_that_misses_its_digest_is_not_shown_and_heals() {
    let (view, mut follower) = follower();
    follower.hears(snapshot(1, 5, [0, 1, 0])).unwrap();
    let before = view.snapshot().unwrap();

    follower.hears(delta(&follower, 1)).unwrap();
    assert_eq!(
        follower.resync,
        Some(Resync::Digest),
        "the next question asks for a snapshot"
    );
    assert_eq!(view.snapshot().unwrap(), before);

    follower.hears(snapshot(1, 6, [0, 2, 0])).unwrap();
    assert_eq!(follower.resync, None);
    assert_eq!(follower.link.resyncs(Resync::Digest), 1);
    assert_eq!(view.snapshot().unwrap().ticks(), [0, 2, 0]);
    follower.hears(delta(&follower, 0)).unwrap();
    assert_eq!(view.snapshot().unwrap().ticks(), [0, 3, 0]);
}

#[tokio::test]
async fn a_malformed_delta_is_not_shown_and_heals() {
    let (view, mut follower) = follower();
    follower.hears(snapshot(1, 5, [0, 1, 0])).unwrap();
    follower
        .hears(News::Delta {
            age_ms: 0,
            delta: Blob(vec![1, 2, 3]),
        })
        .unwrap();
    assert_eq!(follower.resync, Some(Resync::Malformed));
    assert_eq!(view.snapshot().unwrap().position().revision, 5);
}

#[tokio::test]
async fn deltas_before_a_bad_one_count() {
    let (view, mut follower) = follower();
    follower.hears(snapshot(1, 5, [0, 1, 0])).unwrap();
    let News::Delta { delta: good, .. } = delta(&follower, 0) else {
        unreachable!()
    };
    let deltas = vec![good, Blob(Vec::new())];
    follower.hears(News::Deltas { age_ms: 0, deltas }).unwrap();
    assert_eq!(follower.resync, Some(Resync::Malformed));
    assert_eq!(view.snapshot().unwrap().position().revision, 6);
}

#[tokio::test]
async fn a_follower_never_goes_back_within_an_epoch() {
    let (view, mut follower) = follower();
    follower.hears(snapshot(1, 5, [0, 1, 0])).unwrap();
    assert!(follower.hears(snapshot(1, 4, [0, 0, 0])).is_err());
    assert_eq!(view.snapshot().unwrap().position().revision, 5);
    follower.hears(snapshot(2, 1, [1, 0, 0])).unwrap();
    assert_eq!(view.snapshot().unwrap().ticks(), [1, 0, 0]);
}

#[tokio::test]
async fn a_snapshot_that_misses_its_digest_is_not_shown() {
    let (view, mut follower) = follower();
    let News::Snapshot {
        age_ms,
        cause,
        mut snapshot,
    } = snapshot(1, 5, [0, 1, 0])
    else {
        unreachable!()
    };
    *snapshot.0.last_mut().unwrap() ^= 1;
    assert!(
        follower
            .hears(News::Snapshot {
                age_ms,
                cause,
                snapshot
            })
            .is_err()
    );
    assert!(view.snapshot().is_none());
}

#[tokio::test]
async fn what_cannot_be_used_does_not_make_a_view_fresh() {
    tokio::time::pause();
    let (view, mut follower) = follower();
    follower.hears(snapshot(1, 5, [0, 1, 0])).unwrap();
    tokio::time::advance(Duration::from_secs(9)).await;
    follower.hears(delta(&follower, 1)).unwrap();
    assert!(view.is_stale());
    follower.hears(News::Idle { age_ms: 0 }).unwrap();
    assert!(view.is_stale());
    follower.hears(snapshot(1, 6, [0, 2, 0])).unwrap();
    assert!(!view.is_stale());
    // A parent that is itself cut off says so.
    tokio::time::advance(Duration::from_secs(9)).await;
    follower.hears(News::Idle { age_ms: 5_000 }).unwrap();
    assert_eq!(view.age(), Duration::from_secs(5));
}

#[tokio::test]
async fn who_answers_a_question_for_a_snapshot_otherwise_cannot_be_used() {
    let (_view, mut follower) = follower();
    follower.hears(snapshot(1, 5, [0, 1, 0])).unwrap();
    follower.hears(delta(&follower, 1)).unwrap();
    assert_eq!(
        (follower.resync, follower.unusable),
        (Some(Resync::Digest), 1)
    );
    follower.hears(News::Idle { age_ms: 0 }).unwrap();
    assert_eq!(follower.unusable, 2);
    follower.hears(snapshot(1, 6, [0, 2, 0])).unwrap();
    follower.hears(delta(&follower, 0)).unwrap();
    assert_eq!(follower.unusable, 0);
}

#[tokio::test]
async fn another_life_is_taken_only_from_who_knows_later_of_it() {
    tokio::time::pause();
    let (view, mut follower) = follower();
    let late = Duration::from_secs(2);
    follower
        .take(snapshot(1, 5, [0, 1, 0]), Duration::ZERO)
        .unwrap();
    assert!(follower.take(snapshot(2, 1, [1, 0, 0]), late).is_err());
    assert_eq!(view.position().unwrap().epoch, Epoch(1));
    tokio::time::advance(Duration::from_secs(3)).await;
    follower.take(snapshot(2, 1, [1, 0, 0]), late).unwrap();
    assert_eq!(view.position().unwrap().epoch, Epoch(2));
    assert_eq!(view.age(), late);
}
