//! The task that owns a machine: runs what handles send, publishes, answers.

use std::future::Future;
use std::pin::pin;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::errors::MachineError;
use crate::handle::{CHANNEL, Checkpointed, Handle, Job, Target};
use crate::handlers::{Cause, Work};
use crate::keys::{Keys, content};
use crate::machine::Machine;
use crate::mutation::{Outcome, Reason};
use crate::position::{Epoch, Position};
use crate::publisher::Publisher;
use crate::queue::Waiting;
use crate::schema::as_index;
use crate::state::State;
use crate::tickets::Tickets;
use crate::trace::TraceContext;
use crate::view::{Snapshot, View, ViewOptions};
use crate::workers::Workers;
use crate::write::{MutateError, Receipt, Write, Written};

use self::replay::Replay;
use self::telling::Telling;

mod replay;
mod telling;

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
    /// Who is told, if anybody.
    telling: Option<Telling>,
    /// How many waiting futures each transition of the last run let go, up to the last that did.
    released: Vec<usize>,
}

impl<S: State> Owner<S> {
    /// Takes over `machine` as a root whose history has the given epoch, and publishes it.
    ///
    /// A machine with handlers gets a stopwatch of tokio's clock, if it has none of its own, and so
    /// the timeouts of rule R27.
    pub fn new(mut machine: Machine<S>, epoch: Epoch, options: ViewOptions) -> (Handle<S>, Self) {
        let observers = options.observers.clone();
        let telling = observers
            .clone()
            .map(|observers| Telling::new(observers, &machine));
        if (machine.has_handlers() || observers.is_some()) && !machine.has_stopwatch() {
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
            Handle::new(target, view),
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
                telling,
                released: Vec::new(),
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
                count = async {
                    // Dropping this loses nothing either.
                    if let Some(telling) = &self.telling {
                        telling.keep_up().await;
                    }
                    self.jobs.recv_many(&mut jobs, CHANNEL).await
                } => {
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
        if let Some(telling) = &mut self.telling {
            telling.begin_batch();
        }
        for job in jobs.drain(..) {
            match job {
                Job::One(call, reply) if !reply.is_closed() => {
                    let receipt = self.mutate(&call, None);
                    answers.one.push((reply, receipt));
                }
                Job::Many(calls, reply) if !reply.is_closed() => {
                    let mut receipts = Vec::with_capacity(calls.len());
                    let mut call = Waiting::default();
                    for i in 0..calls.len() {
                        calls.read(i, &mut call);
                        receipts.push(self.mutate(&call, None));
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
                Job::Checkpoint(reply) => {
                    let telling = self.telling.as_ref();
                    let _ = reply.send(Checkpointed {
                        position: self.position(),
                        sequence: telling.map_or(0, Telling::sequence),
                        checkpoint: self.machine.checkpoint(),
                    });
                }
                Job::Errors(reply) => {
                    let _ = reply.send(self.machine.errors().cloned().collect());
                }
            }
        }
        if let Some(telling) = &mut self.telling {
            telling.end_batch(&self.machine);
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
        if let Some(telling) = &mut self.telling {
            telling.begin_batch();
            telling.before(&mut self.machine, false);
        }
        let outcome = self.machine.add_error(&[][..], error);
        if let (Some(telling), Outcome::Canceled(reason)) = (&self.telling, &outcome) {
            telling.refused(&reason.clone().map(|state| as_index(state.index())));
        }
        self.look();
        self.tell(None);
        if let Some(telling) = &mut self.telling {
            telling.end_batch(&self.machine);
        }
        self.publish(before);
    }

    /// Runs a write, unless it is for another life or its key is known.
    fn write(&mut self, write: Write) -> Written {
        if write.epoch.is_some_and(|epoch| epoch != self.epoch) {
            let may_have_run = false;
            return Err(MutateError::EpochChanged { may_have_run });
        }
        let trace = write.trace;
        let Some(key) = write.key else {
            let calls = write.calls.iter();
            return Ok(calls.map(|call| self.mutate(call, trace)).collect());
        };
        let content = content(&write.calls);
        let known = self.keys.receipts(&key, content);
        if let Some(known) = known.map_err(|_reused| MutateError::KeyReused)? {
            return Ok(known.to_vec());
        }
        let calls = write.calls.iter();
        let receipts: Vec<_> = calls.map(|call| self.mutate(call, trace)).collect();
        self.keys.remember(key, content, receipts.clone());
        Ok(receipts)
    }

    fn mutate(&mut self, call: &Waiting, trace: Option<TraceContext>) -> Receipt<u32> {
        if let Some(telling) = &mut self.telling {
            telling.before(&mut self.machine, trace.is_some());
        }
        let outcome = outcome(self.machine.run_call(call));
        if let (Some(telling), Outcome::Canceled(reason)) = (&self.telling, &outcome) {
            telling.refused(reason);
        }
        self.look();
        self.tell(trace);
        Receipt {
            outcome,
            position: self.position(),
        }
    }

    /// Tells observers of the transitions of the last run, which may belong to a trace.
    fn tell(&mut self, trace: Option<TraceContext>) {
        if let Some(telling) = &mut self.telling {
            let traces = self.publisher.shared().traces();
            telling.run(&self.machine, self.epoch, trace, traces, &self.released);
        }
        self.released.clear();
    }

    /// Tells everybody who waits of the transitions of the last run.
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
            let released = self
                .publisher
                .ended(transition.is_accepted(), changes, || replay.after(place));
            if released > 0 {
                self.released.resize(place, 0);
                self.released.push(released);
            }
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
                let handle = Handle::new(Target::Owner(jobs), view.clone());
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
