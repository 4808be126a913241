//! A task that owns a machine, and handles to it.
//!
//! Mutations wait in a channel of [`CHANNEL`] requests, in order and without merging: a request
//! beyond that waits for room ([`Handle::mutate`]) or is refused ([`Handle::try_mutate`]). Rules
//! R22 (merging) and R33 (the limit of 1,000) hold in the core's own queue, for mutations that a
//! transition makes. Reads look at the last published moment and never wait.

use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::machine::{Machine, Transition};
use crate::mutation::{IntoStates, Mutation, Outcome, Reason};
use crate::position::{Epoch, Position};
use crate::publisher::Publisher;
use crate::state::State;
use crate::view::{Snapshot, View, ViewOptions, tick_of};
use crate::when::{Closed, Moment};

/// How many requests wait for the machine at most: the latency that a caller who is let in can
/// meet is that of so many mutations, well under a millisecond.
pub const CHANNEL: usize = 1024;

/// How a mutation ended, and where the machine stood then.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[must_use = "a mutation can be canceled"]
pub struct Receipt<S> {
    /// How it ended.
    pub outcome: Outcome<S>,
    /// The position that shows its effect: once a view has reached it, so has the effect.
    pub position: Position,
}

#[derive(Debug)]
enum Job<S> {
    One(Mutation<S>, oneshot::Sender<Receipt<S>>),
    Many(Vec<Mutation<S>>, oneshot::Sender<Vec<Receipt<S>>>),
}

/// Sends mutations to the task that owns a machine. Cheap to clone.
#[derive(Debug)]
pub struct Handle<S: State> {
    jobs: mpsc::Sender<Job<S>>,
    view: View<S>,
}

impl<S: State> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            view: self.view.clone(),
        }
    }
}

impl<S: State> Handle<S> {
    /// What the machine shows to readers.
    pub fn view(&self) -> &View<S> {
        &self.view
    }

    /// Runs `mutation` and waits for its end, and for room in the channel before. When it
    /// returns, the view shows the effect.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the machine has been shut down. It finishes what was sent before; only if its
    /// task was dropped or panicked may the mutation have run all the same.
    ///
    /// # Panics
    ///
    /// If it calls a state that the schema does not have (rule R4), as only a
    /// [`DynState`](crate::DynState) can be.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the mutation is either not run or run to its end unobserved.
    pub async fn mutate(&self, mutation: Mutation<S>) -> Result<Receipt<S>, Closed> {
        self.check(&mutation);
        let (reply, answer) = oneshot::channel();
        self.jobs
            .send(Job::One(mutation, reply))
            .await
            .map_err(|_closed| Closed)?;
        answer.await.map_err(|_closed| Closed)
    }

    /// Runs `mutations` in order with nothing in between, and waits for the end of the last.
    /// Readers see what they lead to at once.
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Cancel safety
    ///
    /// As [`Handle::mutate`].
    pub async fn mutate_all(&self, mutations: Vec<Mutation<S>>) -> Result<Vec<Receipt<S>>, Closed> {
        for mutation in &mutations {
            self.check(mutation);
        }
        let (reply, answer) = oneshot::channel();
        self.jobs
            .send(Job::Many(mutations, reply))
            .await
            .map_err(|_closed| Closed)?;
        answer.await.map_err(|_closed| Closed)
    }

    /// As [`Handle::mutate`], but a full channel cancels the mutation with
    /// [`Reason::QueueFull`] instead of making it wait.
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    ///
    /// # Cancel safety
    ///
    /// As [`Handle::mutate`].
    pub async fn try_mutate(&self, mutation: Mutation<S>) -> Result<Receipt<S>, Closed> {
        self.check(&mutation);
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(Job::One(mutation, reply)) {
            Ok(()) => answer.await.map_err(|_closed| Closed),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Closed),
            Err(mpsc::error::TrySendError::Full(_)) => {
                let position = self.view.position().ok_or(Closed)?;
                Ok(Receipt {
                    outcome: Outcome::Canceled(Reason::QueueFull),
                    position,
                })
            }
        }
    }

    /// Activates `states`, see [`Handle::mutate`].
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    pub async fn add(&self, states: impl IntoStates<S>) -> Result<Receipt<S>, Closed> {
        self.mutate(Mutation::add(states)).await
    }

    /// Deactivates `states`, see [`Handle::mutate`].
    ///
    /// # Errors
    ///
    /// As [`Handle::mutate`].
    pub async fn remove(&self, states: impl IntoStates<S>) -> Result<Receipt<S>, Closed> {
        self.mutate(Mutation::remove(states)).await
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

/// Owns a machine and runs what its handles send.
#[derive(Debug)]
#[must_use = "nothing runs until `run` is awaited"]
pub struct Owner<S: State> {
    machine: Machine<S>,
    epoch: Epoch,
    jobs: mpsc::Receiver<Job<S>>,
    publisher: Publisher,
}

impl<S: State> Owner<S> {
    /// Takes over `machine` as a root whose history has the given epoch, and publishes it.
    pub fn new(machine: Machine<S>, epoch: Epoch, options: ViewOptions) -> (Handle<S>, Self) {
        let (view, mut publisher) = Publisher::new(machine.schema().clone(), options, true);
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
        (
            Handle { jobs: sender, view },
            Self {
                machine,
                epoch,
                jobs,
                publisher,
            },
        )
    }

    /// Runs until `stop` resolves or no handle is left, then finishes what was sent before and
    /// returns the machine.
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
            tokio::select! {
                biased;
                // Dropping the other branch loses nothing: `recv_many` is cancel safe.
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.jobs.close();
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
    fn work(&mut self, jobs: &mut Vec<Job<S>>, answers: &mut Answers<S>) {
        let before = self.machine.revision();
        for job in jobs.drain(..) {
            match job {
                Job::One(mutation, reply) => {
                    let receipt = self.mutate(&mutation);
                    answers.one.push((reply, receipt));
                }
                Job::Many(mutations, reply) => {
                    let receipts = mutations.iter().map(|m| self.mutate(m)).collect();
                    answers.many.push((reply, receipts));
                }
            }
        }
        if self.machine.revision() != before {
            self.publisher.publish(
                self.position(),
                self.machine.digest(),
                self.machine.ticks(),
                self.machine.retained_payloads(),
            );
        }
        // Whoever no longer waits for an answer has dropped its end.
        for (reply, receipt) in answers.one.drain(..) {
            let _ = reply.send(receipt);
        }
        for (reply, receipts) in answers.many.drain(..) {
            let _ = reply.send(receipts);
        }
    }

    fn mutate(&mut self, mutation: &Mutation<S>) -> Receipt<S> {
        let outcome = self.machine.mutate(mutation);
        for (place, transition) in self.machine.last_run().enumerate() {
            let changes = transition.raw_changes();
            if !changes.is_empty() {
                let position = (transition.revision(), transition.digest());
                self.publisher
                    .note(position, changes, transition.raw_payloads());
            }
            self.publisher
                .ended(transition.is_accepted(), changes, || After {
                    machine: &self.machine,
                    mutation,
                    place,
                });
        }
        Receipt {
            outcome,
            position: self.position(),
        }
    }

    fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            revision: self.machine.revision(),
        }
    }
}

/// What one transition of the last run led to, that is before the later ones.
struct After<'a, S: State> {
    machine: &'a Machine<S>,
    /// What was run.
    mutation: &'a Mutation<S>,
    /// Which transition.
    place: usize,
}

impl<S: State> After<'_, S> {
    /// The transition that `mutation` itself led to; mutations that waited ran before it, and what
    /// follows is auto.
    fn own(&self) -> Option<usize> {
        let run = self.machine.last_run().enumerate();
        let called = run.filter(|(_, transition)| !transition.is_auto());
        called.map(|(place, _)| place).last()
    }

    fn later(&self) -> impl Iterator<Item = Transition<'_, S>> {
        self.machine.last_run().skip(self.place + 1)
    }
}

impl<S: State> Moment for After<'_, S> {
    fn tick(&self, state: u32) -> u64 {
        let changes = self.later().flat_map(|later| later.raw_changes());
        let undone = changes.filter(|change| change.state == state);
        let undone = undone.map(|change| u64::from(change.ticks)).sum::<u64>();
        tick_of(self.machine.ticks(), state) - undone
    }

    fn payload(&self, state: u32) -> Option<Bytes> {
        let transition = self.machine.last_run().nth(self.place)?;
        let mut changes = transition.raw_changes().iter();
        if self.own() == Some(self.place) && changes.any(|change| change.state == state) {
            let mut called = self.mutation.payloads().iter();
            let called = called.find(|(of, _)| of.index() == state as usize);
            if let Some((_, payload)) = called {
                return Some(payload.clone());
            }
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

#[derive(Debug)]
struct Answers<S> {
    one: Vec<Answer<Receipt<S>>>,
    many: Vec<Answer<Vec<Receipt<S>>>>,
}

impl<S> Default for Answers<S> {
    fn default() -> Self {
        Self {
            one: Vec::new(),
            many: Vec::new(),
        }
    }
}
