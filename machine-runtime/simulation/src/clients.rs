//! Clients that write through any node, and send again with the same key what they got no answer to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use machine_runtime::{DynState, Handle, Key, MutateError, Mutation, Op, Position, WriteOptions};
use tokio::time::{Instant, sleep};

use crate::checks::{Check, Checks, number};
use crate::log::Log;
use crate::nodes::Nodes;
use crate::world::{ClientPlan, ROOT};

/// How often a client sends a write at most.
const TRIES: usize = 30;

/// How often a client looks whether a node shows what it wrote.
const READ: Duration = Duration::from_millis(10);

/// What a client knows of its writes.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    acknowledged: Arc<Mutex<Vec<(u64, Position)>>>,
}

impl Ledger {
    /// The numbers that were acknowledged, and where they are said to be.
    pub fn acknowledged(&self) -> Vec<(u64, Position)> {
        let list = self.acknowledged.lock();
        list.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, number: u64, position: Position) {
        let list = self.acknowledged.lock();
        list.unwrap_or_else(PoisonError::into_inner)
            .push((number, position));
    }
}

/// One client.
#[derive(Debug)]
pub struct Client {
    place: usize,
    plan: ClientPlan,
    rng: fastrand::Rng,
    nodes: Nodes,
    checks: Checks,
    log: Log,
    ledger: Ledger,
    written: u64,
    stirred: u64,
    /// The node that it stays with.
    home: usize,
}

impl Client {
    /// A client that writes to the note of its place.
    pub fn new(
        (place, plan): (usize, ClientPlan),
        seed: u64,
        nodes: Nodes,
        checks: Checks,
        log: Log,
        ledger: Ledger,
    ) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ (place as u64 + 1) << 32);
        let home = rng.usize(0..nodes.len());
        Self {
            place,
            plan,
            rng,
            nodes,
            checks,
            log,
            ledger,
            written: 0,
            stirred: 0,
            home,
        }
    }

    /// Writes until it is dropped.
    pub async fn run(mut self) {
        loop {
            let rest = self.rng.u64(1..=self.plan.rest);
            sleep(Duration::from_millis(rest)).await;
            if self.rng.u8(0..100) < 30 {
                self.stir().await;
            } else {
                self.write().await;
            }
        }
    }

    fn pick(&mut self) -> Option<(usize, Handle<DynState>)> {
        if !self.plan.stays || self.nodes.handle(self.home).is_none() {
            self.home = self.rng.usize(0..self.nodes.len());
        }
        let handle = self.nodes.handle(self.home)?;
        Some((self.home, handle))
    }

    /// Something that nobody counts.
    async fn stir(&mut self) {
        let Some((_, handle)) = self.pick() else {
            return;
        };
        let states = handle.view().schema().len();
        let ops = [Op::Add, Op::Add, Op::Remove, Op::Toggle, Op::Set];
        let op = ops[self.rng.usize(0..ops.len())];
        let mut state = || DynState(u32::try_from(self.rng.usize(1..states)).unwrap_or(1));
        let mut mutation = Mutation::new(op, [state(), state()]);
        if op == Op::Add {
            // Notes carry numbers, and nothing else.
            let called = mutation.states()[0];
            if handle.view().schema().is_retained(called.0 as usize) && called.0 > 3 {
                mutation = mutation.with_payload(called, "\"stirred\"");
            }
        }
        // One that it does not make up itself: those differ from run to run.
        self.stirred += 1;
        let Ok(key) = Key::new(format!("{} stirs {}", self.place, self.stirred)) else {
            return;
        };
        let options = WriteOptions::new()
            .with_key(key)
            .with_time(self.plan.within);
        // Whatever comes of it.
        let _ = handle.mutate_with(mutation, options).await;
    }

    /// Writes a number of its own.
    async fn write(&mut self) {
        self.written += 1;
        let number_of = self.place as u64 * 1_000_000 + self.written;
        let note = DynState(u32::try_from(self.place + 1).unwrap_or(u32::MAX));
        let mutation = Mutation::add(note).with_payload(note, number_of.to_string());
        let Ok(key) = Key::new(number_of.to_le_bytes()) else {
            return;
        };
        let mut options = WriteOptions::new()
            .with_key(key)
            .with_time(self.plan.within);
        for _ in 0..TRIES {
            let Some((host, handle)) = self.pick() else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            if options.epoch.is_none() {
                // It is for the life that the writer saw first, and no other.
                let seen = handle.view().position().map(|position| position.epoch);
                let Some(seen) = seen else {
                    sleep(Duration::from_millis(100)).await;
                    continue;
                };
                options.epoch = Some(seen);
            }
            self.log.note(host, "is asked to write", (number_of, 0));
            let written = handle.mutate_with(mutation.clone(), options.clone()).await;
            match written {
                Ok(receipt) => {
                    let revision = receipt.position.revision;
                    self.log.note(host, "acknowledges", (number_of, revision));
                    if !receipt.outcome.is_executed() {
                        let why = format!("write {number_of} was refused: {:?}", receipt.outcome);
                        return self.checks.fail(Check::Once, why);
                    }
                    self.checks.acknowledged(number_of, receipt.position);
                    self.ledger.note(number_of, receipt.position);
                    return self.read(host, &handle, number_of, receipt.position).await;
                }
                Err(MutateError::EpochChanged { .. }) => return,
                Err(error @ (MutateError::KeyReused | MutateError::TooLarge)) => {
                    let why = format!("write {number_of} is not taken: {error}");
                    return self.checks.fail(Check::Once, why);
                }
                Err(error) => {
                    let may_have_run = error.may_have_run().into();
                    self.log
                        .note(host, "does not write", (number_of, may_have_run));
                    let pause = self.rng.u64(20..=200);
                    sleep(Duration::from_millis(pause)).await;
                }
            }
        }
    }

    /// Reads what it wrote, once the node shows it.
    async fn read(&self, host: usize, handle: &Handle<DynState>, wrote: u64, at: Position) {
        let view = handle.view();
        let shows = |position: Option<Position>| position.is_some_and(|now| now.has_reached(at));
        if host == ROOT {
            if !shows(view.position()) {
                let why = format!("the root has acknowledged {wrote} and does not show it");
                self.checks.fail(Check::ReadYourWrites, why);
            }
        } else {
            let end = Instant::now() + self.plan.within;
            while !shows(view.position()) {
                if Instant::now() > end {
                    return;
                }
                sleep(READ).await;
            }
        }
        let note = u32::try_from(self.place + 1).unwrap_or(u32::MAX);
        let snapshot = view.snapshot();
        let reads = snapshot.and_then(|now| now.retained().get(&note).map(|read| number(read)));
        // Another may have dropped it; an older one is not what we wrote.
        if reads.is_some_and(|reads| reads < wrote) {
            let why = format!("n{host} shows {reads:?} where {wrote} was written before");
            self.checks.fail(Check::ReadYourWrites, why);
        }
    }
}
