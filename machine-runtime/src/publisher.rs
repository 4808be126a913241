//! The writing side of a view: publishes moments, and what led to them to followers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::position::Position;
use crate::ring::Ring;
use crate::schema::Schema;
use crate::state::State;
use crate::transition::Change;
use crate::view::{Shared, Snapshot, View, ViewOptions, tick_of};

/// The writing side of a view. When it drops, whoever waits is told so, and what is shown begins
/// to age.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    news: watch::Sender<Option<Position>>,
    /// The moment before the published one, if no reader holds it: it is brought up to date
    /// with what it missed instead of copying all.
    spare: Option<Arc<Snapshot>>,
    missed: Batch,
    batch: Batch,
}

/// What leads from one publication to the next.
#[derive(Debug, Default)]
struct Batch {
    /// Revision and digest after each delta, and where its changes and payloads end.
    deltas: Vec<(u64, u64, usize, usize)>,
    changes: Vec<Change>,
    payloads: Vec<(u32, Option<Bytes>)>,
}

impl Batch {
    fn clear(&mut self) {
        self.deltas.clear();
        self.changes.clear();
        self.payloads.clear();
    }

    fn append_to(&self, ring: &mut Ring) {
        let (mut change, mut payload) = (0, 0);
        for (revision, digest, changes, payloads) in &self.deltas {
            let changed = &self.changes[change..*changes];
            ring.push(
                (*revision, *digest),
                changed,
                &self.payloads[payload..*payloads],
            );
            (change, payload) = (*changes, *payloads);
        }
    }
}

impl Publisher {
    /// A view of nothing yet, and its writer. `root`: what is published is always fresh.
    pub(crate) fn new<S: State>(
        schema: Arc<Schema>,
        options: ViewOptions,
        root: bool,
    ) -> (View<S>, Self) {
        let (news, receiver) = watch::channel(None);
        let shared = Arc::new(Shared::new(schema, options, receiver, root));
        let view = View::new(Arc::clone(&shared));
        let publisher = Self {
            shared,
            news,
            spare: None,
            missed: Batch::default(),
            batch: Batch::default(),
        };
        (view, publisher)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Publishes a moment that does not follow from the one before.
    pub(crate) fn replace(&mut self, snapshot: Snapshot) {
        let position = snapshot.position();
        self.shared.ring().reset(position);
        let snapshot = Arc::new(snapshot);
        self.spare = None;
        self.batch.clear();
        self.shared.show(Arc::clone(&snapshot));
        if !self.shared.waiters.is_empty() {
            self.shared
                .waiters
                .replaced(|state| tick_of(snapshot.ticks(), state));
        }
        self.news.send_replace(Some(position));
    }

    /// Notes a transition, or a delta, for the next publication and for followers.
    pub(crate) fn note(
        &mut self,
        (revision, digest): (u64, u64),
        changes: &[Change],
        payloads: &[(u32, Option<Bytes>)],
    ) {
        let Batch {
            deltas,
            changes: all,
            payloads: all_payloads,
        } = &mut self.batch;
        all.extend_from_slice(changes);
        all_payloads.extend_from_slice(payloads);
        deltas.push((revision, digest, all.len(), all_payloads.len()));
    }

    /// Publishes what the noted transitions led to.
    pub(crate) fn publish(
        &mut self,
        position: Position,
        digest: u64,
        ticks: &[u64],
        retained: &BTreeMap<u32, Bytes>,
    ) {
        let mut next = match self.spare.take() {
            Some(mut spare) => match Arc::get_mut(&mut spare) {
                Some(snapshot) => {
                    for batch in [&self.missed, &self.batch] {
                        snapshot.catch_up(&batch.changes, &batch.payloads, ticks);
                    }
                    spare
                }
                None => fresh(position, digest, ticks, retained),
            },
            None => fresh(position, digest, ticks, retained),
        };
        if let Some(snapshot) = Arc::get_mut(&mut next) {
            snapshot.arrive(position, digest);
        }
        // The ring first: what is published can be resumed from.
        self.batch.append_to(&mut self.shared.ring());
        self.spare = self.shared.show(next);
        std::mem::swap(&mut self.missed, &mut self.batch);
        self.batch.clear();
        if !self.shared.waiters.is_empty() {
            self.shared.waiters.published(|state| tick_of(ticks, state));
        }
        self.news.send_replace(Some(position));
    }

    /// Wakes those who waited for what `changes` led to.
    #[cfg(feature = "replica")]
    pub(crate) fn wake(&self, changes: &[Change], ticks: &[u64]) {
        if !self.shared.waiters.is_empty() {
            let states = changes.iter().map(|change| change.state);
            self.shared
                .waiters
                .changed(states, |state| tick_of(ticks, state));
        }
    }
}

fn fresh(
    position: Position,
    digest: u64,
    ticks: &[u64],
    retained: &BTreeMap<u32, Bytes>,
) -> Arc<Snapshot> {
    Arc::new(Snapshot::new(
        position,
        digest,
        ticks.to_vec(),
        retained.clone(),
    ))
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.abandon();
        self.shared.waiters.close();
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}
