//! The core: a synchronous, deterministic machine with one owner.
//!
//! It knows no clock, lock, thread or network. The same mutations lead to the same ticks, in the
//! same order, on every run and platform.

#[cfg(feature = "tokio")]
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

use crate::explain::Explanation;
use crate::mutation::{
    IntoStates, MAX_PAYLOAD, Mutation, Op, Outcome, Payloads, Reason, StateList,
};
use crate::queue::{Enqueued, Queue, Waiting};
use crate::schema::{EXCEPTION, Schema};
use crate::set::StateSet;
use crate::state::{DynState, State, States, Words};
use crate::transition::{Change, Record, Request, Status};

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
#[derive(Clone)]
pub struct Machine<S: State> {
    schema: Arc<Schema>,
    status: Status,
    queue: Queue,
    candidates: Vec<u32>,
    states: PhantomData<S>,
}

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
        Self {
            schema,
            status,
            queue: Queue::new(),
            candidates: Vec::new(),
            states: PhantomData,
        }
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

    /// Runs what waits in the queue, then `mutation`, each with the auto mutation that follows it
    /// (rules R19, R21). Returns how `mutation` itself ended (rule R20).
    ///
    /// # Panics
    ///
    /// If it calls a state that the schema does not have (rule R4); only a [`DynState`] can be
    /// one.
    pub fn mutate(&mut self, mutation: &Mutation<S>) -> Outcome<S> {
        self.run();
        if mutation.payloads().is_empty() {
            return self.pass(mutation.op(), mutation.states(), &[]);
        }
        if let Some(reason) = unwanted_payload(&self.schema, mutation) {
            return Outcome::Canceled(reason);
        }
        self.pass(mutation.op(), mutation.states(), &raw_payloads(mutation))
    }

    /// As [`Machine::mutate`], of states as indices, which have to be the schema's, each once.
    #[cfg(feature = "tokio")]
    pub(crate) fn mutate_indices(&mut self, call: &Waiting) -> Result<(), Reason<u32>> {
        self.run();
        let unwanted = call.payloads.iter().find_map(|(state, payload)| {
            let len = payload.len();
            let taken = self.schema.takes_payload(*state as usize) && call.called.contains(state);
            match (len > MAX_PAYLOAD, taken) {
                (true, _) => Some(Reason::PayloadTooLarge { len }),
                (false, false) => Some(Reason::PayloadUnwanted { state: *state }),
                (false, true) => None,
            }
        });
        if let Some(reason) = unwanted {
            return Err(reason);
        }
        self.queue.pass();
        self.one(call.op, &call.called, &call.payloads)
    }

    /// Lets `mutation` wait until [`Machine::run`] or the next [`Machine::mutate`].
    ///
    /// # Panics
    ///
    /// As [`Machine::mutate`].
    ///
    /// # Errors
    ///
    /// A payload that is too large, or that no called state takes, is refused at once.
    pub fn enqueue(&mut self, mutation: &Mutation<S>) -> Result<Enqueued, Reason<S>> {
        if let Some(reason) = unwanted_payload(&self.schema, mutation) {
            return Err(reason);
        }
        let mut called = StateList::new();
        self.collect(mutation.states(), &mut called);
        let op = self.decided(mutation.op(), &called);
        let compiled = self.schema.compiled();
        let mergeable = !called.iter().any(|state| compiled.is_multi(*state));
        let exception = self.schema.find(EXCEPTION).map(crate::schema::as_index);
        let urgent = exception.is_some_and(|exception| {
            let active = self.status.active().contains(exception);
            let opposite = if active { Op::Remove } else { Op::Add };
            called[..] == [exception] && op == opposite
        });
        let waiting = Waiting {
            op,
            called,
            payloads: raw_payloads(mutation),
        };
        Ok(self.queue.push(waiting, mergeable, urgent))
    }

    /// Runs what waits in the queue, in order. [`Machine::last_run`] starts anew here.
    pub fn run(&mut self) {
        self.status.log.clear();
        while let Some(next) = self.queue.pop() {
            // How it ended stands in the log.
            let _ = self.one(next.op, &next.called, &next.payloads);
        }
    }

    /// The transitions of the last [`Machine::run`], [`Machine::mutate`] and their like: the
    /// called ones and the auto ones that followed, refused ones too, in order.
    pub fn last_run(&self) -> impl ExactSizeIterator<Item = Transition<'_, S>> {
        self.status.log.records.iter().map(|record| Transition {
            record,
            status: &self.status,
            states: PhantomData,
        })
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
            .map(Self::state)
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

    /// How many mutations wait.
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// The payload that `state` retains, if it is active and was given one.
    pub fn retained(&self, state: S) -> Option<&Bytes> {
        self.status
            .retained()
            .get(&u32::try_from(state.index()).ok()?)
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
        self.pass(op, &list, &[])
    }

    /// Runs a mutation that does not have to wait.
    fn pass(&mut self, op: Op, states: &[S], payloads: &[(u32, Bytes)]) -> Outcome<S> {
        self.queue.pass();
        let mut called = StateList::new();
        self.collect(states, &mut called);
        match self.one(op, &called, payloads) {
            Ok(()) => Outcome::Executed,
            Err(reason) => Outcome::Canceled(reason.map(Self::state)),
        }
    }

    /// One mutation and the auto mutation that it may cause (rule R19).
    fn one(
        &mut self,
        op: Op,
        called: &[u32],
        payloads: &[(u32, Bytes)],
    ) -> Result<(), Reason<u32>> {
        let op = self.decided(op, called);
        let Self {
            schema,
            status,
            candidates,
            ..
        } = self;
        let compiled = schema.compiled();
        let before = status.revision();
        status.run(
            compiled,
            Request {
                op,
                called,
                auto: false,
                payloads,
            },
        )?;
        if status.revision() != before
            && status.has_candidates()
            && !(op == Op::Add && schema.is_health(called))
        {
            status.candidates(candidates);
            let request = Request {
                op: Op::Add,
                called: candidates,
                auto: true,
                payloads: &[],
            };
            // Whether an auto mutation is accepted concerns nobody but the log.
            let _ = status.run(compiled, request);
        }
        Ok(())
    }

    /// Rule R24: what a toggle is at this moment.
    fn decided(&self, op: Op, called: &[u32]) -> Op {
        match op {
            Op::Toggle if called.iter().all(|s| self.status.active().contains(*s)) => Op::Remove,
            Op::Toggle => Op::Add,
            op => op,
        }
    }

    /// Rule R4: the called states without repeats, into `called`.
    fn collect(&self, states: &[S], called: &mut StateList<u32>) {
        for state in states {
            let index = state.index();
            assert!(
                index < self.schema.len(),
                "{state:?} is no state of {}",
                self.schema.name()
            );
            let index = crate::schema::as_index(index);
            if !called.contains(&index) {
                called.push(index);
            }
        }
    }

    fn state(index: u32) -> S {
        S::from_index(index as usize).expect("the machine's states are those of its schema")
    }
}

/// Why a payload of `mutation` cannot be taken.
fn unwanted_payload<S: State>(schema: &Schema, mutation: &Mutation<S>) -> Option<Reason<S>> {
    mutation.payloads().iter().find_map(|(state, payload)| {
        let len = payload.len();
        let taken = schema.takes_payload(state.index()) && mutation.states().contains(state);
        match (len > MAX_PAYLOAD, taken) {
            (true, _) => Some(Reason::PayloadTooLarge { len }),
            (false, false) => Some(Reason::PayloadUnwanted { state: *state }),
            (false, true) => None,
        }
    })
}

fn raw_payloads<S: State>(mutation: &Mutation<S>) -> Payloads<u32> {
    let payloads = mutation.payloads().iter();
    payloads
        .map(|(state, payload)| (crate::schema::as_index(state.index()), payload.clone()))
        .collect()
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

/// One transition of [`Machine::last_run`].
#[derive(Clone, Copy)]
pub struct Transition<'a, S> {
    record: &'a Record,
    status: &'a Status,
    states: PhantomData<S>,
}

impl<'a, S: State> Transition<'a, S> {
    /// What was done with the called states; a toggle is an add or a remove by now.
    pub fn op(&self) -> Op {
        self.record.op
    }

    /// Whether the machine itself asked for it (rule R19).
    pub fn is_auto(&self) -> bool {
        self.record.auto
    }

    /// Whether it was carried out.
    pub fn is_accepted(&self) -> bool {
        self.record.accepted
    }

    /// The machine's revision after it.
    pub fn revision(&self) -> u64 {
        self.record.revision
    }

    /// The machine's digest after it.
    pub fn digest(&self) -> u64 {
        self.record.digest
    }

    /// The states that it called.
    pub fn called(&self) -> impl ExactSizeIterator<Item = S> + 'a {
        let called = &self.status.log.called[self.record.called.clone()];
        called.iter().map(|state| Machine::state(*state))
    }

    /// The states that ticked, and by how much.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = (S, u64)> + 'a {
        self.raw_changes()
            .iter()
            .map(|c| (Machine::state(c.state), u64::from(c.ticks)))
    }

    /// The retained payloads that were set, and those that were dropped.
    pub fn payloads(&self) -> impl ExactSizeIterator<Item = (S, Option<&'a Bytes>)> + 'a {
        let payloads = self.raw_payloads().iter();
        payloads.map(|(state, payload)| (Machine::state(*state), payload.as_ref()))
    }

    pub(crate) fn raw_changes(&self) -> &'a [Change] {
        &self.status.log.changes[self.record.changes.clone()]
    }

    pub(crate) fn raw_payloads(&self) -> &'a [(u32, Option<Bytes>)] {
        &self.status.log.payloads[self.record.payloads.clone()]
    }
}

impl<S: State> fmt::Debug for Transition<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transition")
            .field("op", &self.op())
            .field("auto", &self.is_auto())
            .field("accepted", &self.is_accepted())
            .field("revision", &self.revision())
            .field("called", &self.called().collect::<Vec<_>>())
            .field("changes", &self.changes().collect::<Vec<_>>())
            .finish()
    }
}
