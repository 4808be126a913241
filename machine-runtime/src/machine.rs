//! The core: a synchronous, deterministic machine with one owner.
//!
//! It knows no clock, lock, thread or network. The same mutations lead to the same ticks, in the
//! same order, on every run and platform.

#[cfg(feature = "tokio")]
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::context::{Contexts, StateContext};
use crate::errors::{ErrorKind, Errors, MachineError};
use crate::explain::Explanation;
#[cfg(feature = "tokio")]
use crate::handlers::Work;
use crate::handlers::{
    Asking, BoxError, Caller, Cause, Dispatch, Handlers, Leave, Limits, Stopwatch,
};
use crate::mutation::{IntoStates, Mutation, Op, Outcome, Reason, StateList};
#[cfg(feature = "serde")]
use crate::payload::{InvalidPayload, PayloadOf};
use crate::queue::{
    Enqueued, FullQueue, Queue, Waiting, check_known, collect_known, decided, error_mutation,
};
#[cfg(feature = "serde")]
use crate::schema::EXCEPTION;
use crate::schema::Schema;
use crate::set::StateSet;
use crate::state::{DynState, State, States, Words};
use crate::transition::{End, Request, Stage, Status, Times};

mod ran;
mod replay;

pub use ran::{HandlerRun, Transition};
pub use replay::{Diverged, Recorded};

/// A machine whose states are of type `S`.
///
/// ```
/// use machine_runtime::{DynState, Machine, Schema, StateDef};
///
/// let schema = Schema::builder("Door")
///     .state(StateDef::new("Open").remove(["Shut"]))
///     .state(StateDef::new("Shut").remove(["Open"]).auto())
///     .build()?;
/// let mut door = Machine::with_schema(schema.into());
/// let open = door.schema().find("Open").map(|i| DynState(i as u32)).unwrap();
///
/// assert!(door.add(open).is_executed());
/// assert_eq!(door.to_string(), "(Open:1)");
/// // Once nothing blocks it, the machine activates the auto state by itself.
/// assert!(door.remove(open).is_executed());
/// assert_eq!(format!("{door:#}"), "(Shut:1) [Exception:0 Open:2]");
/// # Ok::<(), machine_runtime::SchemaError>(())
/// ```
pub struct Machine<S: State> {
    schema: Arc<Schema>,
    status: Status,
    queue: Queue,
    candidates: Vec<u32>,
    handlers: Option<Box<Dispatch<S>>>,
    contexts: Arc<Contexts>,
    /// What final handlers have spawned, for the owner to run.
    #[cfg(feature = "tokio")]
    work: Vec<Work<S>>,
    /// Whether the auto states among `candidates` are tried next (rule R19).
    auto_next: bool,
    /// `Exception`, which is added next after a panic (rule R26). Like the auto mutation it runs
    /// before anything that waits, and takes no queue tick.
    exception_next: Option<Box<Waiting>>,
    errors: Errors,
    limits: Limits,
    stopwatch: Option<Stopwatch>,
    /// Whether runs of handlers are noted, and whether transitions are timed as well.
    measured: Measured,
    /// When the transition under way had changed its ticks, if it is timed and has final handlers.
    changed: Option<Duration>,
    /// When the transition before it in the run ended, if that was timed.
    ended: Option<Duration>,
    /// Until when, on the stopwatch, mutations from outside are canceled.
    backing_off: Option<Duration>,
    /// How many mutations in a row the machine put in front itself.
    rounds: u32,
}

/// What of a transition is measured, where a stopwatch was lent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Measured {
    /// Nothing.
    #[default]
    Nothing,
    /// The runs of handlers, which are timed anyway (rule R27).
    Runs,
    /// The transition as well, which costs two or three looks at the stopwatch.
    All,
}

/// How many mutations in a row, auto ones and adds of `Exception` after panics, a machine makes by
/// itself at most (rule R34).
pub const MAX_ROUNDS: u32 = 16;

/// How many mutations that handlers appended run at most in one [`Machine::run`] (rule R34).
pub const MAX_RUN: u32 = 10_000;

impl<S: States> Machine<S> {
    /// A machine of the generated enum `S`, all its ticks 0.
    pub fn new() -> Self {
        Self::of(Arc::clone(S::schema()))
    }
}

impl<S: States> Default for Machine<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine<DynState> {
    /// A machine of a schema made at run time, all its ticks 0.
    pub fn with_schema(schema: Arc<Schema>) -> Self {
        Self::of(schema)
    }
}

impl<S: State> Machine<S> {
    fn of(schema: Arc<Schema>) -> Self {
        let status = Status::new(schema.compiled());
        Self::from_parts(schema, status, Queue::new())
    }

    /// What a checkpoint is made of.
    pub(crate) fn parts(&self) -> (&Arc<Schema>, &Status, &Queue) {
        (&self.schema, &self.status, &self.queue)
    }

    pub(crate) fn from_parts(schema: Arc<Schema>, status: Status, queue: Queue) -> Self {
        let contexts = Arc::new(Contexts::new(schema.len()));
        Self {
            contexts,
            #[cfg(feature = "tokio")]
            work: Vec::new(),
            schema,
            status,
            queue,
            candidates: Vec::new(),
            handlers: None,
            auto_next: false,
            exception_next: None,
            errors: Errors::default(),
            limits: Limits::default(),
            stopwatch: None,
            measured: Measured::Nothing,
            changed: None,
            ended: None,
            backing_off: None,
            rounds: 0,
        }
    }

    /// Binds a set of handlers, behind those that are bound already: where two sets have a handler
    /// for the same thing, they are asked and told in the order of binding, up to the first that
    /// refuses or panics (rule R31).
    ///
    /// # Panics
    ///
    /// If a handler is bound to a state that the schema does not have; only a [`DynState`] can be
    /// one.
    pub fn bind(&mut self, handlers: impl Handlers<S>) {
        let states = self.schema.len();
        let dispatch = self
            .handlers
            .get_or_insert_with(|| Box::new(Dispatch::new(states)));
        dispatch.bind(&self.schema, handlers);
    }

    /// The same machine with a set of handlers, see [`Machine::bind`].
    #[must_use]
    pub fn with(mut self, handlers: impl Handlers<S>) -> Self {
        self.bind(handlers);
        self
    }

    /// The first bound set of type `H`.
    pub fn handlers<H: Handlers<S>>(&self) -> Option<&H> {
        self.handlers.as_ref()?.value()
    }

    /// Lends a clock that only goes forwards: the time since any moment. Without one there are no
    /// timeouts (rule R27). Reading it costs time, twice per handler.
    pub fn set_stopwatch(&mut self, stopwatch: impl Fn() -> Duration + Send + 'static) {
        self.stopwatch = Some(Box::new(stopwatch));
    }

    /// What is measured from now on; see [`Transition::times`] and [`Transition::handler_runs`].
    pub fn set_measured(&mut self, measured: Measured) {
        self.measured = measured;
    }

    /// How long handlers may take.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What a full queue does with one more mutation (rule R33).
    pub fn set_full_queue(&mut self, policy: FullQueue) {
        self.queue.when_full = policy;
    }

    /// Names, relations and groups.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Activates `states`, see [`Machine::mutate`].
    ///
    /// # Panics
    ///
    /// As [`Machine::mutate`].
    pub fn add(&mut self, states: impl IntoStates<S>) -> Outcome<S> {
        self.act(Op::Add, states)
    }

    /// Deactivates `states`, see [`Machine::mutate`].
    ///
    /// # Panics
    ///
    /// As [`Machine::mutate`].
    pub fn remove(&mut self, states: impl IntoStates<S>) -> Outcome<S> {
        self.act(Op::Remove, states)
    }

    /// Adds an error: activates `Exception` with it (rule R28).
    pub fn fail(&mut self, error: impl Into<BoxError>) -> Outcome<S> {
        self.fail_with(&[][..], error)
    }

    /// Adds an error as `states`, such as `ErrNetwork`, together with `Exception`.
    ///
    /// # Panics
    ///
    /// As [`Machine::mutate`].
    pub fn fail_with(
        &mut self,
        states: impl IntoStates<S>,
        error: impl Into<BoxError>,
    ) -> Outcome<S> {
        let error = MachineError::of(ErrorKind::Added, error.into(), self.revision());
        self.add_error(states, error)
    }

    pub(crate) fn add_error(
        &mut self,
        states: impl IntoStates<S>,
        error: MachineError,
    ) -> Outcome<S> {
        let mut list = StateList::new();
        states.append_to(&mut list);
        let waiting = error_mutation(&self.schema, &list, &error, Cause::Call);
        self.run();
        self.errors.push(error);
        Self::outcome(self.run_one(&waiting))
    }

    /// Runs what waits in the queue, then `mutation`, each with what follows from it: the auto
    /// mutation, and what handlers append (rules R19, R21). Returns how `mutation` itself ended
    /// (rule R20).
    ///
    /// # Panics
    ///
    /// If it calls a state that the schema does not have (rule R4); only a [`DynState`] can be
    /// one.
    pub fn mutate(&mut self, mutation: &Mutation<S>) -> Outcome<S> {
        if mutation.payloads().is_empty() {
            self.run();
            return self.pass(mutation.op(), mutation.states());
        }
        check_known(&self.schema, mutation.states());
        Self::outcome(self.run_call(&Waiting::of(mutation)))
    }

    /// As [`Machine::mutate`], with the mutation in terms of indices, which have to be the schema's.
    pub(crate) fn run_call(&mut self, call: &Waiting) -> Result<(), Reason<u32>> {
        self.run();
        if let Some(reason) = call.unwanted_payload(&self.schema) {
            return Err(reason);
        }
        #[cfg(feature = "serde")]
        for (state, payload) in &call.payloads {
            if call.op != Op::Remove && self.schema.name_of(*state as usize) == EXCEPTION {
                self.errors.push(MachineError::from_payload(payload));
            }
        }
        self.run_one(call)
    }

    /// One mutation and what follows from it, with nothing waiting before it.
    fn run_one(&mut self, call: &Waiting) -> Result<(), Reason<u32>> {
        if self.is_backing_off() {
            return Err(Reason::BackingOff);
        }
        self.queue.pass();
        let result = self.one(Job::of(call), self.queue.tick());
        self.drain();
        result
    }

    /// Whether `mutation` would be executed now, by relations and by negotiation handlers: a dry
    /// run that changes nothing (rule R32). What handlers append is discarded. A mutation that
    /// calls a multi state is not judged by relations.
    ///
    /// # Panics
    ///
    /// As [`Machine::mutate`].
    pub fn can(&mut self, mutation: &Mutation<S>) -> Outcome<S> {
        let waiting = match Waiting::checked(&self.schema, mutation, Cause::Call) {
            Ok(waiting) => waiting,
            Err(reason) => return Outcome::Canceled(reason),
        };
        Self::outcome(self.check(&waiting))
    }

    /// As [`Machine::can`], with the mutation in terms of indices.
    pub(crate) fn check(&mut self, waiting: &Waiting) -> Result<(), Reason<u32>> {
        if self.is_backing_off() {
            return Err(Reason::BackingOff);
        }
        let request = Request {
            op: decided(waiting.op, &waiting.called, self.status.active().bits()),
            called: &waiting.called,
            auto: false,
            payloads: &waiting.payloads,
        };
        let Self {
            schema,
            status,
            queue,
            handlers,
            stopwatch,
            limits,
            ..
        } = self;
        let Some(dispatch) = handlers else {
            return status.check(schema.compiled(), request, None);
        };
        let (mut queue, mut errors) = (queue.clone(), Errors::default());
        let mut caller = Caller {
            schema,
            queue: &mut queue,
            errors: &mut errors,
            stopwatch: stopwatch.as_ref(),
            limits,
            cause: Cause::Call,
            overdue: None,
            runs: None,
        };
        let mut asking = Asking::new(dispatch, &mut caller);
        status.check(schema.compiled(), request, Some(asking.negotiator()))
    }

    /// Lets `mutation` wait until [`Machine::run`] or the next [`Machine::mutate`].
    ///
    /// # Panics
    ///
    /// As [`Machine::mutate`].
    ///
    /// # Errors
    ///
    /// A payload that is too large, or that no called state takes, is refused at once; so is
    /// everything while the machine backs off (rule R27).
    pub fn enqueue(&mut self, mutation: &Mutation<S>) -> Result<Enqueued, Reason<S>> {
        let waiting = Waiting::checked(&self.schema, mutation, Cause::Call)?;
        if self.is_backing_off() {
            return Err(Reason::BackingOff);
        }
        let active = self.status.active().bits();
        Ok(self.queue.append(&self.schema, active, waiting))
    }

    /// Runs what waits in the queue, in order. [`Machine::last_run`] starts anew here.
    pub fn run(&mut self) {
        self.status.log.clear();
        self.ended = None;
        #[cfg(feature = "tokio")]
        self.work.clear();
        self.rounds = 0;
        self.drain();
    }

    /// Logs what a full queue dropped.
    fn note_displaced(&mut self) {
        if self.queue.displaced.is_empty() {
            return;
        }
        for queue_tick in self.queue.displaced.drain(..) {
            self.status.log.drop(queue_tick, Reason::Displaced);
        }
    }

    /// Runs the next of what waits, and nothing else: what follows from it waits in front then.
    /// False if nothing waited. [`Machine::last_run`] has this one transition.
    ///
    /// It is for tools that look at a machine between two transitions.
    pub fn step(&mut self) -> bool {
        self.status.log.clear();
        self.ended = None;
        #[cfg(feature = "tokio")]
        self.work.clear();
        self.note_displaced();
        self.next_one()
    }

    /// Runs what waits, to the end.
    fn drain(&mut self) {
        while self.auto_next {
            self.follow_up();
        }
        if self.exception_next.is_some() || !self.queue.is_empty() {
            self.drain_all();
        }
    }

    #[cold]
    fn drain_all(&mut self) {
        self.note_displaced();
        let mut left = MAX_RUN as usize + self.queue.len();
        while self.is_busy() {
            let before = self.queue.tick();
            if !self.next_one() {
                return;
            }
            // What the machine itself wants next has a bound of its own.
            left = left.saturating_sub(usize::from(self.queue.tick() != before));
            // What the machine wants next itself goes too: it may be what appends without end.
            if left == 0 && self.is_busy() {
                let next = self.queue.next().and_then(|next| next.called.first());
                let state = next.map(|state| self.schema.name_of(*state as usize).to_owned());
                self.cut_off(&Reason::Runaway);
                self.exception_next = None;
                self.auto_next = false;
                let message = format!(
                    "handlers caused {MAX_RUN} mutations in a row; the rest was cut off, {} first",
                    state.as_deref().unwrap_or("what the machine wanted next")
                );
                let mut error = MachineError::new(ErrorKind::Runaway, message, self.revision());
                error.state = state;
                self.errors.push(error);
            }
        }
    }

    /// Whether anything is to run next.
    fn is_busy(&self) -> bool {
        self.auto_next || self.exception_next.is_some() || !self.queue.is_empty()
    }

    fn next_one(&mut self) -> bool {
        if (self.auto_next || self.exception_next.is_some()) && self.follow_up() {
            return true;
        }
        // How it ended stands in the log.
        match self.queue.pop() {
            Some(next) => {
                // The machine's own `Exception` waits here after an overdue handler (rule R27).
                if next.cause != Cause::Panic {
                    self.rounds = 0;
                }
                let _ = self.one(Job::of(&next), self.queue.tick());
                true
            }
            None => false,
        }
    }

    /// Runs what the machine itself wants next, unless it went on with that for too long. How that
    /// ended stands in the log. False if it was cut off.
    fn follow_up(&mut self) -> bool {
        self.rounds += 1;
        let exception = self.exception_next.take();
        let auto = std::mem::take(&mut self.auto_next);
        if self.rounds > MAX_ROUNDS {
            self.cut_short();
            return false;
        }
        if let Some(waiting) = exception {
            let _ = self.one(Job::of(&waiting), 0);
        } else if auto {
            let called = std::mem::take(&mut self.candidates);
            let job = Job {
                op: Op::Add,
                called: &called,
                payloads: &[],
                cause: Cause::Auto,
            };
            let _ = self.one(job, 0);
            // Auto mutations cause no others, so there are no newer ones.
            self.candidates = called;
        }
        true
    }

    /// Notes that what the machine wants next is not done (rule R34), and over which state a handler
    /// failed last.
    #[cold]
    fn cut_short(&mut self) {
        let name = self
            .errors
            .iter()
            .next_back()
            .and_then(|last| last.state.clone());
        let message = format!(
            "auto mutations and panics followed each other {MAX_ROUNDS} times, the last over {}; \
             the next was cut off",
            name.as_deref().unwrap_or("no state")
        );
        let mut error = MachineError::new(ErrorKind::Runaway, message, self.revision());
        error.state = name;
        self.errors.push(error);
    }

    /// Takes everything off the queue for `reason`.
    fn cut_off(&mut self, reason: &Reason<u32>) {
        while self.queue.pop().is_some() {
            self.status.log.drop(self.queue.tick(), reason.clone());
        }
    }

    #[inline]
    fn is_backing_off(&mut self) -> bool {
        self.backing_off.is_some() && self.still_backs_off()
    }

    #[cold]
    fn still_backs_off(&mut self) -> bool {
        let Some(until) = self.backing_off else {
            return false;
        };
        let on = self.stopwatch.as_ref().is_some_and(|now| now() < until);
        if !on {
            self.backing_off = None;
        }
        on
    }

    /// The transitions of the last [`Machine::run`], [`Machine::mutate`] and their like: the
    /// called ones and the auto ones that followed, refused ones too, in order.
    pub fn last_run(&self) -> impl ExactSizeIterator<Item = Transition<'_, S>> {
        let log = &self.status.log;
        log.records
            .iter()
            .enumerate()
            .map(|(place, record)| Transition::new(record, log, place))
    }

    /// A context that ends once `state` ticks.
    pub fn context(&self, state: S) -> StateContext {
        let index = crate::schema::as_index(state.index());
        self.contexts.get(index, self.tick(state))
    }

    /// Takes what final handlers have spawned.
    #[cfg(feature = "tokio")]
    pub(crate) fn take_work(&mut self) -> Vec<Work<S>> {
        std::mem::take(&mut self.work)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn has_handlers(&self) -> bool {
        self.handlers.is_some()
    }

    /// How many states are active.
    #[cfg(feature = "tokio")]
    pub(crate) fn active_count(&self) -> u64 {
        let words = self.status.active().bits().iter();
        words.map(|word| u64::from(word.count_ones())).sum()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn has_stopwatch(&self) -> bool {
        self.stopwatch.is_some()
    }

    /// How many mutations a full queue has refused so far (rule R33).
    pub fn refused_count(&self) -> u64 {
        self.queue.refused
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn contexts(&self) -> &Arc<Contexts> {
        &self.contexts
    }

    /// Whether `state` is active.
    pub fn is_active(&self, state: S) -> bool {
        self.tick(state) % 2 == 1
    }

    /// How often `state` changed; odd means active. 0 for a state that the schema does not have.
    pub fn tick(&self, state: S) -> u64 {
        self.status.ticks().get(state.index()).copied().unwrap_or(0)
    }

    /// All ticks in index order.
    pub fn ticks(&self) -> &[u64] {
        self.status.ticks()
    }

    /// The active states.
    pub fn active(&self) -> StateSet<S> {
        let bits = self.status.active().bits();
        let mut words = S::Words::EMPTY;
        words.words_mut(bits.len())[..bits.len()].copy_from_slice(bits);
        StateSet::from_words(words)
    }

    /// The active list: the active states in the order that later resolutions depend on (rule
    /// R1).
    pub fn active_list(&self) -> impl Iterator<Item = S> + '_ {
        self.status
            .active()
            .order(self.schema.compiled())
            .map(state_at)
    }

    /// How many transitions changed a tick.
    pub fn revision(&self) -> u64 {
        self.status.revision()
    }

    /// A 64-bit hash of all ticks and retained payloads: each tick times the odd factor of its
    /// state, plus the XXH3 of each payload, modulo 2^64.
    pub fn digest(&self) -> u64 {
        self.status.digest()
    }

    /// Counts the mutations taken off the queue, and starts at 1 (rule R25).
    pub fn queue_tick(&self) -> u64 {
        self.queue.tick()
    }

    /// Counts as if so many mutations had been taken off the queue.
    #[cfg(feature = "durable")]
    pub(crate) fn pass_to(&mut self, queue_tick: u64) {
        self.queue.pass_to(queue_tick);
    }

    /// How many mutations wait.
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// The recent errors, the oldest first, at most [`ERROR_HISTORY`](crate::ERROR_HISTORY).
    pub fn errors(&self) -> impl DoubleEndedIterator<Item = &MachineError> + ExactSizeIterator {
        self.errors.iter()
    }

    /// How many errors there were.
    pub fn error_count(&self) -> u64 {
        self.errors.count()
    }

    /// How many errors of a kind there were.
    pub fn error_count_of(&self, kind: ErrorKind) -> u64 {
        self.errors.count_of(kind)
    }

    /// Those that left the queue in the last run without being run: their queue ticks, and why.
    pub fn dropped(&self) -> impl ExactSizeIterator<Item = (u64, Reason<S>)> {
        let dropped = self.status.log.dropped().iter();
        dropped.map(|(tick, reason)| (*tick, reason.clone().map(state_at)))
    }

    /// The payload that `state` retains, if it is active and was given one.
    pub fn retained(&self, state: S) -> Option<&Bytes> {
        self.status
            .retained()
            .get(&u32::try_from(state.index()).ok()?)
    }

    /// The value that a state retains, if it is active and was given one.
    ///
    /// # Errors
    ///
    /// If what it was given is no such value.
    #[cfg(feature = "serde")]
    pub fn payload<T: serde::de::DeserializeOwned>(
        &self,
        of: PayloadOf<S, T>,
    ) -> Result<Option<T>, InvalidPayload> {
        let bytes = self.retained(of.state());
        bytes.map(|bytes| of.decode(bytes)).transpose()
    }

    /// Why `state` is or is not active, as far as relations tell.
    ///
    /// # Panics
    ///
    /// If the schema has no such state.
    pub fn explain(&self, state: S) -> Explanation<S> {
        Explanation::new(&self.schema, &self.active(), state, self.tick(state))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn retained_payloads(&self) -> &BTreeMap<u32, Bytes> {
        self.status.retained()
    }

    fn act(&mut self, op: Op, states: impl IntoStates<S>) -> Outcome<S> {
        self.run();
        // Filled in place: a list that moves right after it was written stalls the processor.
        let mut list = StateList::new();
        states.append_to(&mut list);
        self.pass(op, &list)
    }

    /// Runs a mutation without a payload that does not have to wait, and what follows from it.
    fn pass(&mut self, op: Op, states: &[S]) -> Outcome<S> {
        let mut called = StateList::new();
        collect_known(&self.schema, states, &mut called);
        if self.is_backing_off() {
            return Outcome::Canceled(Reason::BackingOff);
        }
        self.queue.pass();
        let job = Job {
            op,
            called: &called,
            payloads: &[],
            cause: Cause::Call,
        };
        let result = self.one(job, self.queue.tick());
        self.drain();
        Self::outcome(result)
    }

    #[inline]
    fn outcome(result: Result<(), Reason<u32>>) -> Outcome<S> {
        match result {
            Ok(()) => Outcome::Executed,
            Err(reason) => Outcome::Canceled(reason.map(state_at)),
        }
    }

    /// One transition. What the machine itself wants next is in front then.
    fn one(&mut self, job: Job<'_>, queue_tick: u64) -> Result<(), Reason<u32>> {
        let before = self.status.revision();
        let measuring = (self.measured != Measured::Nothing).then(|| self.begin_measure());
        let request = Request {
            op: decided(job.op, job.called, self.status.active().bits()),
            called: job.called,
            auto: job.cause == Cause::Auto,
            payloads: job.payloads,
        };
        let result = if self.handlers.is_some() {
            self.handled(request, job.cause)
        } else {
            let result = self.status.run(self.schema.compiled(), request, None);
            end_contexts(&self.contexts, &self.status);
            result
        };
        let end = End {
            canceled: result.as_ref().err(),
            cause: job.cause,
            queue_tick,
        };
        self.status.close(request, end);
        if let Some(begin) = measuring {
            self.end_measure(begin);
        }
        if result.is_ok()
            && !request.auto
            && self.status.revision() != before
            && self.status.has_candidates()
            && !(request.op == Op::Add && self.schema.is_health(request.called))
        {
            self.status.candidates(&mut self.candidates);
            self.auto_next = true;
        }
        result
    }

    /// The time on the stopwatch, if transitions are timed, how many mutations wait, and how many runs
    /// of handlers are noted.
    #[inline(never)]
    fn begin_measure(&mut self) -> (Option<Duration>, usize, usize) {
        self.changed = None;
        // Where one ended the next begins.
        let began = self.ended.take().or_else(|| self.time());
        (began, self.queue.len(), self.status.log.runs.len())
    }

    #[inline(never)]
    fn end_measure(&mut self, (began, waiting, runs): (Option<Duration>, usize, usize)) {
        let ended = began.and_then(|_| self.time());
        self.ended = ended;
        let times = began.zip(ended).map(|(began, ended)| Times {
            began,
            changed: self.changed.unwrap_or(ended),
            ended,
        });
        let waiting = (waiting, self.queue.len());
        self.status.log.measure(times, waiting, runs);
    }

    /// The time, where transitions are timed.
    fn time(&self) -> Option<Duration> {
        let stopwatch = self.stopwatch.as_ref();
        let timed = stopwatch.filter(|_| self.measured == Measured::All);
        timed.map(|now| now())
    }

    /// A transition of a machine with handlers.
    fn handled(&mut self, request: Request<'_>, cause: Cause) -> Result<(), Reason<u32>> {
        let Self {
            schema,
            status,
            queue,
            handlers,
            errors,
            limits,
            stopwatch,
            contexts,
            measured,
            changed,
            #[cfg(feature = "tokio")]
            work,
            ..
        } = self;
        let c = schema.compiled();
        let dispatch = handlers.as_mut().expect("the caller looked");
        let mut runs = std::mem::take(&mut status.log.runs);
        let mut caller = Caller {
            schema,
            queue,
            errors,
            stopwatch: stopwatch.as_ref(),
            limits,
            cause,
            overdue: None,
            runs: (*measured != Measured::Nothing).then_some(&mut runs),
        };
        let mut asking = Asking::new(dispatch, &mut caller);
        let mut result = status.run(c, request, Some(asking.negotiator()));
        let mut panic = asking.into_panic();
        // Rule R18: before any final handler.
        end_contexts(contexts, status);
        if result.is_ok() && status.plan.concerns {
            if *measured == Measured::All {
                *changed = stopwatch.as_ref().map(|now| now());
            }
            let plan = std::mem::take(&mut status.plan);
            let stage = Stage {
                request,
                ticks: status.ticks(),
                before: &plan.before,
                after: status.active().bits(),
                now: status.active().bits(),
                revision: status.revision(),
            };
            let mut leave = Leave {
                contexts,
                #[cfg(feature = "tokio")]
                published: None,
                #[cfg(feature = "tokio")]
                work,
                #[cfg(not(feature = "tokio"))]
                states: std::marker::PhantomData,
            };
            let told = dispatch.tell(&stage, &plan.exits, &plan.enters, &mut caller, &mut leave);
            if let Err(stopped) = told {
                status.take_out(c, &plan.enters[stopped.from_enter..]);
                end_contexts(contexts, status);
                panic = stopped.panic;
                result = Err(stopped.reason);
            }
            status.plan = plan;
        }
        let overdue = caller.overdue;
        status.log.runs = runs;
        if let Some(error) = panic {
            let waiting = error_mutation::<S>(schema, &[], &error, Cause::Panic);
            self.errors.push(*error);
            // A panic over `Exception` itself is remembered, and that is all.
            if !request.called.contains(&waiting.called[0]) {
                self.exception_next = Some(Box::new(waiting));
            }
        }
        self.note_displaced();
        if let Some(error) = overdue {
            self.back_off(&error, request.called);
        }
        result
    }

    /// Rule R27: a handler took longer than the deadline.
    fn back_off(&mut self, error: &MachineError, called: &[u32]) {
        self.cut_off(&Reason::BackingOff);
        let now = self.stopwatch.as_ref().map(|now| now());
        self.backing_off = now.map(|now| now + self.limits.backoff);
        let waiting = error_mutation::<S>(&self.schema, &[], error, Cause::Panic);
        // As with panics: over `Exception` itself it is remembered, and that is all.
        if !called.contains(&waiting.called[0]) {
            let active = self.status.active().bits();
            self.queue.append(&self.schema, active, waiting);
        }
    }
}

/// Ends the contexts of what the transition under way has changed.
#[inline]
fn end_contexts(contexts: &Contexts, status: &Status) {
    if !contexts.is_empty() {
        end_some(contexts, status);
    }
}

#[inline(never)]
fn end_some(contexts: &Contexts, status: &Status) {
    for change in status.changes() {
        contexts.ticked(change.state, status.ticks()[change.state as usize]);
    }
}

/// A mutation that is to run, in terms of indices.
#[derive(Clone, Copy)]
struct Job<'a> {
    op: Op,
    called: &'a [u32],
    payloads: &'a [(u32, Bytes)],
    cause: Cause,
}

impl<'a> Job<'a> {
    fn of(waiting: &'a Waiting) -> Self {
        Self {
            op: waiting.op,
            called: &waiting.called,
            payloads: &waiting.payloads,
            cause: waiting.cause,
        }
    }
}

/// `(Foo:1)`: the active states with their ticks; `{:#}` appends the others: `[Bar:0]`.
impl<S: State> fmt::Display for Machine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |f: &mut fmt::Formatter<'_>, odd, [open, close]: [&str; 2]| {
            f.write_str(open)?;
            let mut space = "";
            for (i, tick) in self
                .ticks()
                .iter()
                .enumerate()
                .filter(|(_, t)| *t % 2 == odd)
            {
                write!(f, "{space}{}:{tick}", self.schema.name_of(i))?;
                space = " ";
            }
            f.write_str(close)
        };
        write(f, 1, ["(", ")"])?;
        if f.alternate() {
            write(f, 0, [" [", "]"])?;
        }
        Ok(())
    }
}

impl<S: State> fmt::Debug for Machine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("schema", &self.schema.name())
            .field("revision", &self.revision())
            .field("active", &format_args!("{self}"))
            .finish_non_exhaustive()
    }
}

fn state_at<S: State>(index: u32) -> S {
    S::from_index(index as usize).expect("the machine's states are those of its schema")
}
