//! The task that owns a machine: runs what handles send, publishes, answers.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::errors::MachineError;
use crate::handle::{CHANNEL, Checkpointed, Handle, Job, Target};
use crate::handlers::{Cause, Work};
use crate::journal::{Batch, Journal, JournalError, Keyed, Memory};
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

use self::answers::Answers;
use self::replay::Replay;
use self::telling::Telling;

mod answers;
#[cfg(feature = "durable")]
mod durable;
mod replay;
mod telling;

/// How long an owner that is to stop waits for a journal that does not come to an end with a batch,
/// as with a disk that stays full.
const LAST: Duration = Duration::from_secs(8);

/// Owns a machine and runs what its handles send. What came of it goes to a journal before anybody is
/// told.
#[derive(Debug)]
#[must_use = "nothing runs until `run` is awaited"]
pub struct Owner<S: State, J = Memory> {
    machine: Machine<S>,
    epoch: Epoch,
    journal: J,
    /// What the journal does not have yet.
    batch: Batch,
    /// The queue tick that the journal has.
    kept_queue_tick: u64,
    /// The revision that was published last, or the one that is about to be.
    published: u64,
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
    pub fn new(machine: Machine<S>, epoch: Epoch, options: ViewOptions) -> (Handle<S>, Self) {
        let (handle, mut owner) = Self::with_journal(machine, epoch, Memory, options);
        owner.show();
        (handle, owner)
    }

    /// Runs until `stop` resolves or no handle is left, then finishes what was sent before, drops
    /// the work that handlers spawned, and returns the machine. Work holds a handle while it runs.
    ///
    /// # Cancel safety
    ///
    /// If dropped, mutations under way are not answered; use `stop` instead.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Machine<S> {
        match self.drive(pin!(stop)).await {
            // In memory nothing is committed.
            Ok(()) | Err(_) => self.machine,
        }
    }
}

impl<S: State, J: Journal> Owner<S, J> {
    /// An owner that has published nothing yet.
    fn with_journal(
        mut machine: Machine<S>,
        epoch: Epoch,
        journal: J,
        options: ViewOptions,
    ) -> (Handle<S>, Self) {
        let observers = options.observers.clone();
        let telling = observers
            .clone()
            .map(|observers| Telling::new(observers, &machine));
        if (machine.has_handlers() || observers.is_some()) && !machine.has_stopwatch() {
            let start = Instant::now();
            machine.set_stopwatch(move || start.elapsed());
        }
        let (view, publisher) = Publisher::root(&machine, options);
        let (sender, jobs) = mpsc::channel(CHANNEL);
        let to_self = (sender.downgrade(), view.clone());
        let target = Target::Owner(sender);
        (
            Handle::new(target, view),
            Self {
                published: machine.revision(),
                kept_queue_tick: machine.queue_tick(),
                machine,
                epoch,
                journal,
                batch: Batch::new(epoch),
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

    /// Publishes where the machine stands, whatever it came from.
    fn show(&mut self) {
        self.publisher.replace(self.snapshot());
        self.published = self.machine.revision();
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            self.position(),
            self.machine.digest(),
            self.machine.ticks().to_vec(),
            self.machine.retained_payloads().clone(),
        )
    }

    /// Runs what is sent until `stop` resolves or no handle is left.
    async fn drive(
        &mut self,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), JournalError> {
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
                        return Ok(());
                    }
                    self.work(&mut jobs, &mut answers);
                }
            }
            if J::KEEPS {
                self.keep(stop.as_mut(), &mut stopping).await?;
            }
            self.publish();
            answers.send();
        }
    }

    /// Has the journal keep what was done. Where it takes long, as with a full disk, what is sent waits;
    /// once it is to stop, it waits for [`LAST`] at most.
    async fn keep(
        &mut self,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        stopping: &mut bool,
    ) -> Result<(), JournalError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = self.finish_batch();
        let mut commit = pin!(self.journal.commit(batch));
        if !*stopping {
            tokio::select! {
                biased;
                result = &mut commit => return result,
                () = &mut stop => {
                    *stopping = true;
                    self.jobs.close();
                }
            }
        }
        let result = tokio::time::timeout(LAST, commit).await;
        result.unwrap_or_else(|_elapsed| Err(JournalError::new(NotKept)))
    }

    /// What was done since the last batch, with a checkpoint if the journal wants one.
    fn finish_batch(&mut self) -> Batch {
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(self.epoch));
        batch.queue_tick = self.machine.queue_tick();
        self.kept_queue_tick = batch.queue_tick;
        batch.end = (self.machine.revision(), self.machine.digest());
        if batch.checkpoint.is_none() && self.journal.wants_checkpoint() {
            batch.checkpoint = Some(self.machine.checkpoint());
        }
        batch
    }

    /// Runs a batch of jobs. What came of it is to be published, and then answered.
    fn work(&mut self, jobs: &mut Vec<Job>, answers: &mut Answers) {
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
                Job::Can(call, reply) => {
                    answers
                        .can
                        .push((reply, outcome(self.machine.check(&call))));
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
                    let checkpointed = Checkpointed {
                        position: self.position(),
                        sequence: telling.map_or(0, Telling::sequence),
                        checkpoint: self.machine.checkpoint(),
                    };
                    answers.checkpoints.push((reply, checkpointed));
                }
                Job::Errors(reply) => {
                    let errors = self.machine.errors().cloned().collect();
                    answers.errors.push((reply, errors));
                }
            }
        }
        if let Some(telling) = &mut self.telling {
            telling.end_batch(&self.machine);
        }
    }

    /// Publishes what the machine came to, and then lets go of whatever waits to see it.
    fn publish(&mut self) {
        if self.machine.revision() != self.published {
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
        self.published = self.machine.revision();
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
        if J::KEEPS {
            self.batch.keyed.push(Keyed {
                key: key.clone(),
                content,
                receipts: receipts.clone(),
            });
        }
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
            if J::KEEPS {
                self.batch.note(&transition);
            }
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

/// The owner was to stop while its journal could not keep what had been done.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the node was to stop, and its journal did not take the last batch within {LAST:?}")]
struct NotKept;
