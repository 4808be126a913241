//! The writing side of a view: publishes moments, and what led to them to followers.

#[cfg(feature = "replica")]
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::context::Contexts;
use crate::machine::Machine;
#[cfg(feature = "replica")]
use crate::observe::Interest;
use crate::position::Position;
use crate::ring::Ring;
use crate::schema::Schema;
use crate::state::State;
use crate::transition::Change;
use crate::view::{Shared, Snapshot, View, ViewOptions};
use crate::when::{Moment, Now, Replaced, Waking};

/// The writing side of a view. When it drops, whoever waits is told so, and what is shown begins
/// to age.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    news: watch::Sender<Option<Position>>,
    waking: Waking,
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
    /// A view of a machine, of which nothing is published yet, and its writer. What is published
    /// is always fresh.
    pub(crate) fn root<S: State>(machine: &Machine<S>, options: ViewOptions) -> (View<S>, Self) {
        let contexts = Arc::clone(machine.contexts());
        Self::new(machine.schema(), contexts, options, true)
    }

    /// A view of a replica, of which nothing is known yet, and its writer.
    #[cfg(feature = "replica")]
    pub(crate) fn replica<S: State>(schema: &Arc<Schema>, options: ViewOptions) -> (View<S>, Self) {
        let contexts = Arc::new(Contexts::new(schema.len()));
        Self::new(schema, contexts, options, false)
    }

    fn new<S: State>(
        schema: &Arc<Schema>,
        contexts: Arc<Contexts>,
        options: ViewOptions,
        root: bool,
    ) -> (View<S>, Self) {
        let (news, receiver) = watch::channel(None);
        let shared = Shared::new(Arc::clone(schema), contexts, options, receiver, root);
        let shared = Arc::new(shared);
        let view = View::new(Arc::clone(&shared));
        let publisher = Self {
            waking: Waking::new(Arc::clone(&shared.waiters)),
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
        self.shared.ring().reset(position, snapshot.retained());
        let snapshot = Arc::new(snapshot);
        self.spare = None;
        self.batch.clear();
        let before = self.shared.show(Arc::clone(&snapshot));
        let how = match before.map(|before| before.position().epoch) {
            None => Replaced::Nothing,
            Some(epoch) if epoch == position.epoch => Replaced::Older,
            Some(_) => Replaced::OtherEpoch,
        };
        let tick = |state| snapshot.tick(state);
        self.shared
            .contexts
            .replaced(how == Replaced::OtherEpoch, tick);
        self.waking.replaced(how, &*snapshot);
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

    /// Counts what was noted since the last publication, and returns it, each state once, if anybody
    /// wants to know; `ticks` are those that it led to.
    #[cfg(feature = "replica")]
    pub(crate) fn observed_changes(&self, ticks: &[u64]) -> Option<Vec<Change>> {
        let observers = self.shared.observers()?;
        let mut summed = Cow::Borrowed(&self.batch.changes);
        if self.batch.deltas.len() > 1 {
            let mut ticks = BTreeMap::new();
            for change in &self.batch.changes {
                let ticks = ticks.entry(change.state).or_insert(0_u32);
                *ticks = ticks.wrapping_add(change.ticks);
            }
            let changes = ticks.into_iter();
            summed = Cow::Owned(
                changes
                    .map(|(state, ticks)| Change { state, ticks })
                    .collect(),
            );
        }
        let (mut began, mut ended) = (0, 0);
        for change in &*summed {
            let begins = change.begins(ticks[change.state as usize] % 2 == 1);
            began += begins;
            ended += u64::from(change.ticks) - begins;
        }
        observers.stats().count_changes(began, ended);
        observers
            .wants(Interest::CHANGES)
            .then(|| summed.into_owned())
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
        let now = Now { ticks, retained };
        self.shared.contexts.published(|state| now.tick(state));
        self.release();
        self.waking.published(&now);
        self.news.send_replace(Some(position));
    }

    /// Wakes those who waited for what is published now.
    pub(crate) fn release(&mut self) {
        self.waking.release();
    }

    /// A delta led to `moment`: ends contexts, and tells those who wait. Returns for how many that was it.
    #[cfg(feature = "replica")]
    pub(crate) fn followed<M: Moment>(
        &mut self,
        changes: &[Change],
        moment: impl Fn() -> M,
    ) -> usize {
        let contexts = &self.shared.contexts;
        if !contexts.is_empty() {
            for change in changes {
                contexts.ticked(change.state, moment().tick(change.state));
            }
        }
        self.waking.transition(true, changes, moment)
    }

    /// A transition led to `moment`: tells those who wait unless it was canceled (rule R30). The
    /// machine has ended contexts itself. Returns for how many that was it.
    #[inline]
    pub(crate) fn ended<M: Moment>(
        &mut self,
        accepted: bool,
        changes: &[Change],
        moment: impl FnOnce() -> M,
    ) -> usize {
        self.waking.transition(accepted, changes, moment)
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
        self.shared.contexts.close();
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}
