//! Handles to a machine, and the task that owns it.
//!
//! On a root, mutations wait in a channel of [`CHANNEL`] requests, in order and without merging: a
//! request beyond that waits for room ([`Handle::mutate`]), for as long as it says
//! ([`Handle::mutate_within`]), or is refused ([`Handle::try_mutate`]). Rules R22 (merging) and R33
//! (the limit of 1,000) hold in the core's own queue, for mutations that a transition makes. On a
//! replica they travel up, see `replica`. Reads look at the last published moment and never wait.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::errors::{ErrorKind, MachineError};
use crate::handlers::{BoxError, Cause, Work};
use crate::keys::{Keys, content};
use crate::machine::{Machine, Transition};
use crate::mutation::{IntoStates, Mutation, Outcome, Reason, StateList};
use crate::position::{Epoch, Position};
use crate::publisher::Publisher;
use crate::queue::{Waiting, error_mutation};
#[cfg(feature = "replica")]
use crate::replica::Uplink;
use crate::schema::as_index;
use crate::state::{DynState, State, States};
#[cfg(doc)]
use crate::tickets::TICKETS;
use crate::tickets::Tickets;
use crate::view::{Snapshot, View, ViewOptions, tick_of};
use crate::when::Moment;
use crate::workers::Workers;
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
    #[cfg(feature = "replica")]
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
                        mpsc::error::TrySendError::Full(_) => busy(),
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
            Target::Owner(jobs) => send(jobs, write, until).await,
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
async fn send(jobs: &mpsc::Sender<Job>, write: Write, until: Until) -> Written {
    let permit = timeout_at(until.room, jobs.reserve()).await;
    let permit = permit
        .map_err(|_elapsed| busy())?
        .map_err(|_closed| not_run())?;
    let (reply, answer) = oneshot::channel();
    permit.send(Job::Write(write, reply));
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

fn busy() -> MutateError {
    let may_have_run = false;
    MutateError::Busy { may_have_run }
}

/// Owns a machine and runs what its handles send.
#[derive(Debug)]
#[must_use = "nothing runs until `run` is awaited"]
pub struct Owner<S: State> {
    machine: Machine<S>,
    epoch: Epoch,
    jobs: mpsc::Receiver<Job>,
    publisher: Publisher,
    keys: Keys,
    /// Work that waits for the publication of what started it.
    spawned: Vec<Work<S>>,
    workers: Workers,
    tickets: Tickets,
    /// A handle for work, which does not keep the machine running.
    to_self: (mpsc::WeakSender<Job>, View<S>),
}

impl<S: State> Owner<S> {
    /// Takes over `machine` as a root whose history has the given epoch, and publishes it.
    ///
    /// A machine with handlers gets a stopwatch of tokio's clock, if it has none of its own, and so
    /// the timeouts of rule R27.
    pub fn new(mut machine: Machine<S>, epoch: Epoch, options: ViewOptions) -> (Handle<S>, Self) {
        if machine.lacks_stopwatch() {
            let start = Instant::now();
            machine.set_stopwatch(move || start.elapsed());
        }
        let (view, mut publisher) = Publisher::root(&machine, options);
        publisher.replace(Snapshot::new(
            Position {
                epoch,
                revision: machine.revision(),
            },
            machine.digest(),
            machine.ticks().to_vec(),
            machine.retained_payloads().clone(),
        ));
        let (sender, jobs) = mpsc::channel(CHANNEL);
        let to_self = (sender.downgrade(), view.clone());
        let target = Target::Owner(sender);
        (
            Handle { target, view },
            Self {
                machine,
                epoch,
                jobs,
                publisher,
                keys: Keys::default(),
                spawned: Vec::new(),
                workers: Workers::default(),
                tickets: Tickets::default(),
                to_self,
            },
        )
    }

    /// Runs until `stop` resolves or no handle is left, then finishes what was sent before, drops
    /// the work that handlers spawned, and returns the machine. Work holds a handle while it runs.
    ///
    /// # Cancel safety
    ///
    /// If dropped, mutations under way are not answered; use `stop` instead.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Machine<S> {
        let mut stop = pin!(stop);
        let mut stopping = false;
        let mut jobs = Vec::with_capacity(CHANNEL);
        let mut answers = Answers::default();
        loop {
            // In no order: neither jobs nor failing work keep the others waiting for ever.
            tokio::select! {
                // Dropping the other branches loses nothing: `recv_many` is cancel safe.
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.jobs.close();
                }
                error = self.workers.failed(self.machine.schema(), self.machine.revision()),
                    if !stopping && !self.workers.is_empty() =>
                {
                    if let Some(error) = error {
                        self.fail(error);
                    }
                }
                count = self.jobs.recv_many(&mut jobs, CHANNEL) => {
                    if count == 0 {
                        return self.machine;
                    }
                    self.work(&mut jobs, &mut answers);
                }
            }
        }
    }

    /// Runs a batch of jobs, publishes once, then answers.
    fn work(&mut self, jobs: &mut Vec<Job>, answers: &mut Answers) {
        let before = self.machine.revision();
        for job in jobs.drain(..) {
            match job {
                Job::One(call, reply) if !reply.is_closed() => {
                    let receipt = self.mutate(&call);
                    answers.one.push((reply, receipt));
                }
                Job::Many(calls, reply) if !reply.is_closed() => {
                    let mut receipts = Vec::with_capacity(calls.len());
                    let mut call = Waiting::default();
                    for i in 0..calls.len() {
                        calls.read(i, &mut call);
                        receipts.push(self.mutate(&call));
                    }
                    answers.many.push((reply, receipts));
                }
                Job::Write(write, reply) if !reply.is_closed() => {
                    let written = self.write(write);
                    answers.writes.push((reply, written));
                }
                Job::One(..) | Job::Many(..) | Job::Write(..) => {}
                // Whoever no longer waits for an answer has dropped its end.
                Job::Can(call, reply) => {
                    let _ = reply.send(outcome(self.machine.check(&call)));
                }
                Job::Ended(queue_tick, reply) => {
                    let now = self.machine.queue_tick();
                    // Without handlers there are no tickets: that the reply drops says so.
                    if self.machine.has_handlers() {
                        self.tickets.ask(queue_tick, reply, now);
                    }
                }
                Job::Errors(reply) => {
                    let _ = reply.send(self.machine.errors().cloned().collect());
                }
            }
        }
        self.publish(before);
        answers.send();
    }

    /// Publishes what the machine came to since revision `before`, and then lets go of whatever
    /// waits to see it.
    fn publish(&mut self, before: u64) {
        if self.machine.revision() != before {
            self.publish_now();
        }
        self.publisher.release();
        if self.machine.has_handlers() {
            self.tickets.forget(self.machine.queue_tick());
            self.tickets.release();
            self.start_work();
        }
    }

    fn publish_now(&mut self) {
        self.publisher.publish(
            self.position(),
            self.machine.digest(),
            self.machine.ticks(),
            self.machine.retained_payloads(),
        );
    }

    /// Adds an error of spawned work (rule R28).
    fn fail(&mut self, error: MachineError) {
        // If the machine refuses it, it is among its errors all the same.
        let before = self.machine.revision();
        let _ = self.machine.add_error(&[][..], error);
        self.look();
        self.publish(before);
    }

    /// Runs a write, unless it is for another life or its key is known.
    fn write(&mut self, write: Write) -> Written {
        if write.epoch.is_some_and(|epoch| epoch != self.epoch) {
            let may_have_run = false;
            return Err(MutateError::EpochChanged { may_have_run });
        }
        let Some(key) = write.key else {
            return Ok(write.calls.iter().map(|call| self.mutate(call)).collect());
        };
        let content = content(&write.calls);
        let known = self.keys.receipts(&key, content);
        if let Some(known) = known.map_err(|_reused| MutateError::KeyReused)? {
            return Ok(known.to_vec());
        }
        let receipts: Vec<_> = write.calls.iter().map(|call| self.mutate(call)).collect();
        self.keys.remember(key, content, receipts.clone());
        Ok(receipts)
    }

    fn mutate(&mut self, call: &Waiting) -> Receipt<u32> {
        let outcome = outcome(self.machine.run_call(call));
        self.look();
        Receipt {
            outcome,
            position: self.position(),
        }
    }

    /// Tells everybody of the transitions of the last run.
    fn look(&mut self) {
        let mut replay = Replay::new(&self.machine);
        for (place, transition) in self.machine.last_run().enumerate() {
            let changes = transition.raw_changes();
            if !changes.is_empty() {
                let position = (transition.revision(), transition.digest());
                self.publisher
                    .note(position, changes, transition.raw_payloads());
            }
            let replay = &mut replay;
            self.publisher
                .ended(transition.is_accepted(), changes, || replay.after(place));
        }
        if self.machine.has_handlers() {
            self.look_at_handlers();
        }
    }

    fn look_at_handlers(&mut self) {
        let epoch = self.epoch;
        let ran = self.machine.last_run().filter_map(|transition| {
            let queue_tick = transition
                .queue_tick()
                .filter(|_| transition.cause() == Cause::Handler)?;
            let canceled = transition.reason();
            let position = Position {
                epoch,
                revision: transition.revision(),
            };
            Some((queue_tick, canceled, position))
        });
        let position = self.position();
        let dropped = self.machine.dropped();
        let dropped = dropped.map(|(queue_tick, reason)| (queue_tick, Some(reason), position));
        for (queue_tick, canceled, position) in ran.chain(dropped) {
            let canceled = canceled.map(|reason| reason.map(|state| as_index(state.index())));
            let outcome = canceled.map_or(Outcome::Executed, Outcome::Canceled);
            self.tickets.end(queue_tick, Receipt { outcome, position });
        }
        self.spawned.extend(self.machine.take_work());
    }

    fn start_work(&mut self) {
        for work in self.spawned.drain(..) {
            let (jobs, view) = &self.to_self;
            // Without any handle left the machine is about to end, and its work with it.
            if let Some(jobs) = jobs.upgrade() {
                let handle = Handle {
                    target: Target::Owner(jobs),
                    view: view.clone(),
                };
                self.workers.start(work, handle);
            }
        }
    }

    fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            revision: self.machine.revision(),
        }
    }
}

fn outcome(result: Result<(), Reason<u32>>) -> Outcome<u32> {
    result.map_or_else(Outcome::Canceled, |()| Outcome::Executed)
}

/// The ticks of a machine as they were after each transition of its last run, one after the other.
struct Replay<'a, S: State> {
    machine: &'a Machine<S>,
    /// As of `next`; empty until somebody looks.
    ticks: Vec<u64>,
    /// The transition whose changes come next.
    next: usize,
}

impl<'a, S: State> Replay<'a, S> {
    fn new(machine: &'a Machine<S>) -> Self {
        Self {
            machine,
            ticks: Vec::new(),
            next: 0,
        }
    }

    /// What the transition at `place` led to. Places only grow.
    fn after(&mut self, place: usize) -> After<'_, S> {
        // Most runs are one transition, and then the machine itself is what it led to.
        if place + 1 < self.machine.last_run().len() {
            if self.ticks.is_empty() {
                self.ticks.extend_from_slice(self.machine.ticks());
                let run = self.machine.last_run();
                for change in run.flat_map(|transition| transition.raw_changes()) {
                    self.ticks[change.state as usize] -= u64::from(change.ticks);
                }
            }
            let run = self.machine.last_run().take(place + 1).skip(self.next);
            for change in run.flat_map(|transition| transition.raw_changes()) {
                self.ticks[change.state as usize] += u64::from(change.ticks);
            }
            self.next = place + 1;
        } else {
            self.ticks.clear();
        }
        let ticks = if self.ticks.is_empty() {
            self.machine.ticks()
        } else {
            &self.ticks
        };
        After {
            machine: self.machine,
            ticks,
            place,
        }
    }
}

/// What one transition of the last run led to, that is before the later ones.
struct After<'a, S: State> {
    machine: &'a Machine<S>,
    ticks: &'a [u64],
    /// Which transition.
    place: usize,
}

impl<S: State> After<'_, S> {
    fn later(&self) -> impl Iterator<Item = Transition<'_, S>> {
        self.machine.last_run().skip(self.place + 1)
    }
}

impl<S: State> Moment for After<'_, S> {
    fn tick(&self, state: u32) -> u64 {
        tick_of(self.ticks, state)
    }

    fn payload(&self, state: u32) -> Option<Bytes> {
        let transition = self.machine.last_run().nth(self.place)?;
        let mut changes = transition.raw_changes().iter();
        if changes.any(|change| change.state == state)
            && let Some((_, payload)) = transition
                .brought()
                .find(|(of, _)| of.index() == state as usize)
        {
            return Some(payload.clone());
        }
        let of = |payload: &&(u32, _)| payload.0 == state;
        if let Some((_, payload)) = transition.raw_payloads().iter().find(of) {
            return payload.clone();
        }
        // What a later transition dropped is not known any more.
        let kept = !self
            .later()
            .any(|t| t.raw_payloads().iter().any(|p| of(&p)));
        let retained = self.machine.retained_payloads();
        kept.then(|| retained.get(&state).cloned()).flatten()
    }
}

/// An answer that waits for the publication of what it tells.
type Answer<T> = (oneshot::Sender<T>, T);

#[derive(Debug, Default)]
struct Answers {
    one: Vec<Answer<Receipt<u32>>>,
    many: Vec<Answer<Vec<Receipt<u32>>>>,
    writes: Vec<Answer<Written>>,
}

impl Answers {
    /// Whoever no longer waits for an answer has dropped its end.
    fn send(&mut self) {
        for (reply, receipt) in self.one.drain(..) {
            let _ = reply.send(receipt);
        }
        for (reply, receipts) in self.many.drain(..) {
            let _ = reply.send(receipts);
        }
        for (reply, written) in self.writes.drain(..) {
            let _ = reply.send(written);
        }
    }
}
