//! Handles to a machine.
//!
//! On a root, mutations wait in a channel of [`CHANNEL`] requests, in order and without merging: a
//! request beyond that waits for room ([`Handle::mutate`]), for as long as it says
//! ([`Handle::mutate_within`]), or is refused ([`Handle::try_mutate`]). Rules R22 (merging) and R33
//! (the limit of 1,000) hold in the core's own queue, for mutations that a transition makes. On a
//! replica they travel up, see `replica`. Reads look at the last published moment and never wait.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
#[cfg(feature = "replica")]
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::checkpoint::Checkpoint;
use crate::errors::{ErrorKind, MachineError};
use crate::handlers::{BoxError, Cause};
#[cfg(doc)]
use crate::machine::Machine;
use crate::mutation::{IntoStates, Mutation, Outcome, StateList};
use crate::observe::Refused;
use crate::position::Position;
use crate::queue::{Waiting, error_mutation};
#[cfg(feature = "replica")]
use crate::replica::Uplink;
use crate::state::{DynState, State, States};
#[cfg(doc)]
use crate::tickets::TICKETS;
use crate::view::View;
use crate::write::{
    Calls, MutateError, Receipt, Until, WRITE_WITHIN, Write, WriteOptions, Written,
};

/// How many requests wait for the machine at most: the latency that a caller who is let in can
/// meet is that of so many mutations, well under a millisecond.
pub const CHANNEL: usize = 1024;

/// What waits in the channel. What nobody waits for any more when its turn comes is not run.
#[derive(Debug)]
pub(crate) enum Job {
    One(Waiting, oneshot::Sender<Receipt<u32>>),
    Many(Box<dyn Calls>, oneshot::Sender<Vec<Receipt<u32>>>),
    Write(Write, oneshot::Sender<Written>),
    Can(Waiting, oneshot::Sender<Outcome<u32>>),
    Ended(u64, oneshot::Sender<Receipt<u32>>),
    Errors(oneshot::Sender<Vec<MachineError>>),
    Checkpoint(oneshot::Sender<Checkpointed>),
}

/// All there is of the machine of a [`Handle`], and when that was.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Checkpointed {
    /// Where it was.
    pub position: Position,
    /// How many transitions it had done by then, canceled ones too: what observers were told with a
    /// greater [`sequence`](crate::observe::Transitioned::sequence) came later. Without observers 0.
    pub sequence: u64,
    /// All there is of it.
    pub checkpoint: Checkpoint,
}

/// Where mutations go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// To the task that owns the machine.
    Owner(mpsc::Sender<Job>),
    /// To the parent of a replica.
    #[cfg(feature = "replica")]
    Uplink(Uplink),
}

/// Sends mutations to the task that owns a machine, from the root or from a replica of any tier.
/// Cheap to clone.
#[derive(Debug)]
pub struct Handle<S: State> {
    target: Target,
    view: View<S>,
}

impl Handle<DynState> {
    /// The same handle with the states of `S`, the inverse of [`Handle::untyped`]; none if the
    /// schema is not that of `S`.
    pub fn as_states<S: States>(&self) -> Option<Handle<S>> {
        let same = self.view.schema().fingerprint() == S::schema().fingerprint();
        same.then(|| Handle {
            target: self.target.clone(),
            view: View::new(self.view.shared().clone()),
        })
    }
}

impl<S: State> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self {
            target: self.target.clone(),
            view: self.view.clone(),
        }
    }
}

impl<S: State> Handle<S> {
    pub(crate) fn new(target: Target, view: View<S>) -> Self {
        Self { target, view }
    }

    /// What the machine, or this replica of it, shows to readers.
    pub fn view(&self) -> &View<S> {
        &self.view
    }

    /// The same handle with states as indices, for what works with any schema.
    pub fn untyped(&self) -> Handle<DynState> {
        Handle {
            target: self.target.clone(),
            view: self.view.untyped(),
        }
    }

    /// Runs `mutation` and waits for its end, and for room before. On the root it waits for as long
    /// as that takes, and when it returns the view shows the effect. From a replica it takes
    /// [`WRITE_WITHIN`] at most, and the replica's view may come to the receipt's position later.
    ///
    /// # Errors
    ///
    /// What keeps the mutation from the root, or its outcome from us. A refusal is an outcome.
    ///
    /// # Panics
    ///
    /// If it calls a state that the schema does not have (rule R4), as only a
    /// [`DynState`](crate::DynState) can be.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the mutation is either not run or run to its end unobserved. It is not run if
    /// its turn has not come when the root learns of it.
    pub async fn mutate(&self, mutation: Mutation<S>) -> Result<Receipt<S>, MutateError> {
        self.check(&mutation);
        let call = Waiting::of(&mutation);
        match &self.target {
            Target::Owner(jobs) => {
                let (reply, answer) = oneshot::channel();
                let sent = jobs.send(Job::One(call, reply)).await;
                sent.map_err(|_closed| not_run())?;
                Ok(Self::typed(answer.await.map_err(|_dropped| unknown())?))
            }
            #[cfg(feature = "replica")]
            Target::Uplink(_) => self.one(call, WriteOptions::new()).await,
        }
    }

    /// Runs `mutations` in order with nothing in between, and waits for the end of the last.
    /// Readers see what they lead to at once.
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Panics
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Cancel safety
    ///
    /// As [`Handle::mutate`].
    pub async fn mutate_all(
        &self,
        mutations: Vec<Mutation<S>>,
    ) -> Result<Vec<Receipt<S>>, MutateError> {
        for mutation in &mutations {
            self.check(mutation);
        }
        let receipts = match &self.target {
            Target::Owner(jobs) => {
                let (reply, answer) = oneshot::channel();
                let sent = jobs.send(Job::Many(Box::new(mutations), reply)).await;
                sent.map_err(|_closed| not_run())?;
                answer.await.map_err(|_dropped| unknown())?
            }
            #[cfg(feature = "replica")]
            Target::Uplink(_) => {
                let calls = mutations.iter().map(Waiting::of).collect();
                self.many(calls, WriteOptions::new()).await?
            }
        };
        Ok(receipts.into_iter().map(Self::typed).collect())
    }

    /// As [`Handle::mutate`], but where there is no room it is refused with
    /// [`MutateError::Busy`] instead of made to wait.
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Panics
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Cancel safety
    ///
    /// As [`Handle::mutate`].
    pub async fn try_mutate(&self, mutation: Mutation<S>) -> Result<Receipt<S>, MutateError> {
        self.check(&mutation);
        let call = Waiting::of(&mutation);
        match &self.target {
            Target::Owner(jobs) => {
                let (reply, answer) = oneshot::channel();
                jobs.try_send(Job::One(call, reply))
                    .map_err(|error| match error {
                        mpsc::error::TrySendError::Closed(_) => not_run(),
                        mpsc::error::TrySendError::Full(_) => self.busy(),
                    })?;
                Ok(Self::typed(answer.await.map_err(|_dropped| unknown())?))
            }
            #[cfg(feature = "replica")]
            Target::Uplink(uplink) => {
                let mut until = Until::within(WRITE_WITHIN);
                until.room = Instant::now();
                let write = Write::new(vec![call], WriteOptions::new());
                Ok(Self::only(uplink.write(write, until).await?))
            }
        }
    }

    /// As [`Handle::mutate`], but it takes `within` at most, room included: without room in that
    /// time it fails with [`MutateError::Busy`].
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Panics
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Cancel safety
    ///
    /// As [`Handle::mutate`].
    pub async fn mutate_within(
        &self,
        mutation: Mutation<S>,
        within: Duration,
    ) -> Result<Receipt<S>, MutateError> {
        let options = WriteOptions::new().with_time(within);
        self.mutate_with(mutation, options).await
    }

    /// As [`Handle::mutate_within`], with a key that makes it harmless to send the mutation again,
    /// and for one life of the root.
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Panics
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Cancel safety
    ///
    /// As [`Handle::mutate`].
    pub async fn mutate_with(
        &self,
        mutation: Mutation<S>,
        options: WriteOptions,
    ) -> Result<Receipt<S>, MutateError> {
        self.check(&mutation);
        self.one(Waiting::of(&mutation), options).await
    }

    pub(crate) async fn one(
        &self,
        call: Waiting,
        options: WriteOptions,
    ) -> Result<Receipt<S>, MutateError> {
        Ok(Self::only(self.many(vec![call], options).await?))
    }

    async fn many(&self, calls: Vec<Waiting>, options: WriteOptions) -> Written {
        let until = Until::within(options.within.unwrap_or(WRITE_WITHIN));
        self.write(Write::new(calls, options), until).await
    }

    /// Runs a write, or passes it on. Its states have to be the schema's.
    pub(crate) async fn write(&self, write: Write, until: Until) -> Written {
        match &self.target {
            Target::Owner(jobs) => {
                let permit = timeout_at(until.room, jobs.reserve()).await;
                let permit = permit.map_err(|_elapsed| self.busy())?;
                send(permit.map_err(|_closed| not_run())?, write, until).await
            }
            #[cfg(feature = "replica")]
            Target::Uplink(uplink) => uplink.write(write, until).await,
        }
    }

    /// The receipt of a write of one mutation.
    fn only(receipts: Vec<Receipt<u32>>) -> Receipt<S> {
        let receipt = receipts.into_iter().next();
        Self::typed(receipt.expect("a write has a receipt for each of its mutations"))
    }

    fn typed(receipt: Receipt<u32>) -> Receipt<S> {
        receipt.map(Self::state)
    }

    fn state(index: u32) -> S {
        let state = S::from_index(index as usize);
        state.expect("the states of a reason are the schema's")
    }

    /// Activates `states`, see [`Handle::mutate`].
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    pub async fn add(&self, states: impl IntoStates<S>) -> Result<Receipt<S>, MutateError> {
        self.mutate(Mutation::add(states)).await
    }

    /// Deactivates `states`, see [`Handle::mutate`].
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    pub async fn remove(&self, states: impl IntoStates<S>) -> Result<Receipt<S>, MutateError> {
        self.mutate(Mutation::remove(states)).await
    }

    /// Adds an error: activates `Exception` with it (rule R28). It is among the errors of the root's
    /// machine then, without its sources.
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    pub async fn fail(&self, error: impl Into<BoxError>) -> Result<Receipt<S>, MutateError> {
        self.fail_with(&[][..], error).await
    }

    /// Adds an error as `states`, such as `ErrNetwork`, together with `Exception`.
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Panics
    ///
    /// As [`Handle::mutate`].
    pub async fn fail_with(
        &self,
        states: impl IntoStates<S>,
        error: impl Into<BoxError>,
    ) -> Result<Receipt<S>, MutateError> {
        let revision = self.view.position().map_or(0, |position| position.revision);
        let error = MachineError::of(ErrorKind::Added, error.into(), revision);
        let mut list = StateList::new();
        states.append_to(&mut list);
        let call = error_mutation(self.view.schema(), &list, &error, Cause::Call);
        self.one(call, WriteOptions::new()).await
    }

    /// Whether `mutation` would be executed now, see [`Machine::can`]. From a replica it is what
    /// [`View::can`] says: by relations, without asking handlers.
    ///
    /// # Errors
    ///
    /// [`MutateError::Closed`] if the machine has been shut down.
    ///
    /// # Panics
    ///
    /// As [`Handle::mutate`].
    pub async fn can(&self, mutation: Mutation<S>) -> Result<Outcome<S>, MutateError> {
        self.check(&mutation);
        match &self.target {
            Target::Owner(_) => {
                let call = Waiting::of(&mutation);
                let outcome = self.ask(|reply| Job::Can(call, reply)).await;
                Ok(outcome.ok_or_else(not_run)?.map(Self::state))
            }
            #[cfg(feature = "replica")]
            Target::Uplink(_) => Ok(self.view.can(&mutation)),
        }
    }

    /// How the mutation ended that a handler of this machine appended with this queue tick (see
    /// [`Enqueued`](crate::Enqueued)), or the one that it merged with; waits for it if it has not.
    /// `None` on a replica, if the machine has ended, or if it is no longer, or will never be,
    /// among the last [`TICKETS`].
    pub async fn when_queued(&self, queue_tick: u64) -> Option<Receipt<S>> {
        let receipt = self.ask(|reply| Job::Ended(queue_tick, reply)).await?;
        Some(Self::typed(receipt))
    }

    /// The recent errors of the machine, the oldest first, at most
    /// [`ERROR_HISTORY`](crate::ERROR_HISTORY). Empty on a replica, whose `Exception` has the last
    /// one as its payload.
    pub async fn errors(&self) -> Vec<MachineError> {
        self.ask(Job::Errors).await.unwrap_or_default()
    }

    /// All there is of the machine after what was sent before. None on a replica, which does not know
    /// the order of the active list, and has no queue: what it knows is in its view.
    pub async fn checkpoint(&self) -> Option<Checkpointed> {
        self.ask(Job::Checkpoint).await
    }

    /// How many requests wait for the machine, and how many can ([`CHANNEL`]). None on a replica.
    pub fn queued(&self) -> Option<(usize, usize)> {
        match &self.target {
            Target::Owner(jobs) => Some((jobs.max_capacity() - jobs.capacity(), CHANNEL)),
            #[cfg(feature = "replica")]
            Target::Uplink(_) => None,
        }
    }

    /// A request found no room.
    fn busy(&self) -> MutateError {
        if let Some(observers) = self.view.shared().observers() {
            observers.stats().count_refused(Refused::Busy, 1);
        }
        let may_have_run = false;
        MutateError::Busy { may_have_run }
    }

    /// Asks the task that owns the machine.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        match &self.target {
            Target::Owner(jobs) => {
                let (reply, answer) = oneshot::channel();
                jobs.send(job(reply)).await.ok()?;
                answer.await.ok()
            }
            #[cfg(feature = "replica")]
            Target::Uplink(_) => None,
        }
    }

    /// A programming error shows in the caller, not in the machine's task.
    fn check(&self, mutation: &Mutation<S>) {
        let schema = self.view.schema();
        for state in mutation.states() {
            let known = state.index() < schema.len();
            assert!(known, "{state:?} is no state of {}", schema.name());
        }
    }
}

/// Sends a write to the machine of a root and waits for what comes of it.
async fn send(room: mpsc::Permit<'_, Job>, write: Write, until: Until) -> Written {
    let (reply, answer) = oneshot::channel();
    room.send(Job::Write(write, reply));
    let may_have_run = true;
    timeout_at(until.answer, answer)
        .await
        .map_err(|_elapsed| MutateError::Expired { may_have_run })?
        .map_err(|_dropped| unknown())?
}

/// The machine takes nothing any more.
fn not_run() -> MutateError {
    let may_have_run = false;
    MutateError::Closed { may_have_run }
}

/// The machine's task was dropped, or it panicked: otherwise it finishes what was sent before.
fn unknown() -> MutateError {
    let may_have_run = true;
    MutateError::Closed { may_have_run }
}
