//! Whether a machine does what a recording says that it did: each transition, once more, through the
//! core.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::frame::{Body, Change, Declared, Followed, Key, Role, Transition};
use super::recording::Recorded;
use crate::checkpoint::Checkpoint;
use crate::machine::{self, Diverged, Machine};
use crate::position::{Epoch, Position};
use crate::schema::{Schema, as_index};
use crate::state::DynState;

/// What no machine comes to: a number beyond it is damage, and would overflow.
const MOST: u64 = 1 << 62;

/// Carries out what was recorded, machine by machine.
#[derive(Debug, Default)]
pub struct Replay {
    /// The processes that the files are of.
    processes: BTreeMap<Arc<Path>, u128>,
    schemas: BTreeMap<u128, Arc<Schema>>,
    machines: BTreeMap<(u128, u32), Replayed>,
    report: Report,
}

/// What a replay came to so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// How many machines, replicas not among them.
    pub machines: u64,
    /// How many replicas, whose deltas were added up.
    pub replicas: u64,
    /// How many transitions were carried out once more.
    pub transitions: u64,
    /// How many of those had been canceled.
    pub canceled: u64,
    /// How many deltas of replicas were added up.
    pub deltas: u64,
    /// How many keys were compared with what the transitions before them had led to.
    pub keys: u64,
    /// How often something is missing, so that it went on with the next key: what was dropped when it
    /// was recorded, and files that are not there.
    pub gaps: u64,
    /// How many transitions and deltas were left out, as no key came before them.
    pub skipped: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} machines, {} transitions ({} canceled), {} replicas, {} deltas, {} keys, {} gaps",
            self.machines,
            self.transitions,
            self.canceled,
            self.replicas,
            self.deltas,
            self.keys,
            self.gaps
        )?;
        if self.skipped > 0 {
            write!(f, ", {} skipped without a key", self.skipped)?;
        }
        Ok(())
    }
}

/// Where a recording and the core part first, or what of a recording cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[error("{}: {node}, transition {sequence} to {position}: {why}", .file.display())]
pub struct Divergence {
    /// The file.
    pub file: Arc<Path>,
    /// The node's name, or its number where that is not known.
    pub node: String,
    /// The transition, counted from 1; 0 for a replica.
    pub sequence: u64,
    /// Where it led, by the recording.
    pub position: Position,
    /// What is different, states by name.
    pub why: String,
}

/// A machine, as far as it was recorded.
#[derive(Debug)]
struct Replayed {
    name: String,
    role: Role,
    schema: Arc<Schema>,
    state: Core,
}

#[derive(Debug)]
enum Core {
    /// Nothing is known yet, or something is missing: a key comes next.
    Lost,
    Machine {
        machine: Box<Machine<DynState>>,
        sequence: u64,
        epoch: Epoch,
    },
    Replica {
        ticks: Vec<u64>,
        position: Position,
    },
}

/// What is wrong, and at which transition.
type Wrong = (u64, Position, String);

impl Replay {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it came to so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The next of a recording.
    ///
    /// # Errors
    ///
    /// If the core comes to something else, or the recording cannot be one. The machine goes on with
    /// its next key then.
    pub fn take(&mut self, recorded: &Recorded) -> Result<(), Divergence> {
        let frame = &recorded.frame;
        if let Body::Hello(hello) = &frame.body {
            let file = Arc::clone(&recorded.file);
            self.processes.insert(file, hello.process);
            return Ok(());
        }
        let process = self.processes.get(&recorded.file);
        let at = (process.copied().unwrap_or_default(), frame.machine);
        let taken = match &frame.body {
            Body::Machine(declared) => self.declare(at, declared),
            body => match self.machines.get_mut(&at) {
                Some(replayed) => {
                    let taken = replayed.take(body, &mut self.report);
                    if taken.is_err() {
                        replayed.state = Core::Lost;
                    }
                    taken
                }
                None => Ok(()),
            },
        };
        taken.map_err(|(sequence, position, why)| Divergence {
            file: Arc::clone(&recorded.file),
            node: match self.machines.get(&at) {
                Some(replayed) => replayed.name.clone(),
                None => format!("machine {}", frame.machine),
            },
            sequence,
            position,
            why,
        })
    }

    fn declare(&mut self, at: (u128, u32), declared: &Declared) -> Result<(), Wrong> {
        let wrong = |why: String| (0, nowhere(), why);
        if let Some(schema) = &declared.schema {
            let schema = schema
                .to_schema()
                .map_err(|error| wrong(error.to_string()))?;
            let (is, told) = (schema.fingerprint().0, declared.fingerprint);
            if is != told {
                let why = format!("the schema has the fingerprint {is:032x} and not {told:032x}");
                return Err(wrong(why));
            }
            self.schemas.insert(is, Arc::new(schema));
        }
        let Some(schema) = self.schemas.get(&declared.fingerprint) else {
            let why = format!("its schema {:032x} was not told", declared.fingerprint);
            return Err(wrong(why));
        };
        if let Some(known) = self.machines.get(&at)
            && known.role == declared.role
            && known.schema.fingerprint() == schema.fingerprint()
        {
            // The next file of the same node.
            return Ok(());
        }
        match declared.role {
            Role::Root => self.report.machines += 1,
            Role::Replicant => self.report.replicas += 1,
        }
        let replayed = Replayed {
            name: declared.name.clone(),
            role: declared.role,
            schema: Arc::clone(schema),
            state: Core::Lost,
        };
        self.machines.insert(at, replayed);
        Ok(())
    }
}

impl Replayed {
    fn take(&mut self, body: &Body, report: &mut Report) -> Result<(), Wrong> {
        match body {
            Body::Key(key) => self.key(key, report),
            Body::Transition(transition) => self.transition(transition, report),
            Body::Followed(followed) => self.followed(followed, report),
            Body::Dropped(_) => {
                self.state = Core::Lost;
                report.gaps += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn key(&mut self, key: &Key, report: &mut Report) -> Result<(), Wrong> {
        let wrong = |why| (key.sequence, key.position, why);
        let compare = |ticks: &[u64]| match self.difference(ticks, &key.ticks) {
            None => Ok(()),
            Some(why) => Err(wrong(why)),
        };
        match &self.state {
            Core::Machine {
                machine,
                sequence,
                epoch,
            } if (*sequence, *epoch) == (key.sequence, key.position.epoch) => {
                compare(machine.ticks())?;
                let order: Vec<_> = machine.active_list().map(|state| state.0).collect();
                if order != key.order {
                    let (is, told) = (self.names(&order), self.names(&key.order));
                    return Err(wrong(format!("the active list is {is} and not {told}")));
                }
                let (revision, queue_tick) = (machine.revision(), machine.queue_tick());
                if revision != key.position.revision {
                    let told = key.position.revision;
                    return Err(wrong(format!(
                        "it is at revision {revision} and not {told}"
                    )));
                }
                if queue_tick != key.queue_tick {
                    let told = key.queue_tick;
                    return Err(wrong(format!(
                        "the queue tick is {queue_tick} and not {told}"
                    )));
                }
                report.keys += 1;
                return Ok(());
            }
            Core::Replica { ticks, position } if *position == key.position => {
                compare(ticks)?;
                report.keys += 1;
                return Ok(());
            }
            Core::Lost => {}
            // What led here is not there: in another file, or it was another life.
            _ => report.gaps += 1,
        }
        let mut numbers = key
            .ticks
            .iter()
            .chain([&key.queue_tick, &key.position.revision]);
        if numbers.any(|number| *number > MOST) {
            return Err(wrong(
                "a key with a number that no machine comes to".to_owned(),
            ));
        }
        if self.role == Role::Replicant {
            if key.ticks.len() != self.schema.len() {
                let (ticks, states) = (key.ticks.len(), self.schema.len());
                return Err(wrong(format!("a key of {ticks} ticks for {states} states")));
            }
            self.state = Core::Replica {
                ticks: key.ticks.clone(),
                position: key.position,
            };
            return Ok(());
        }
        let checkpoint = Checkpoint {
            revision: key.position.revision,
            ticks: key.ticks.clone(),
            order: key.order.clone(),
            queue_tick: key.queue_tick,
            ..Checkpoint::default()
        };
        let machine = Machine::restore_with(Arc::clone(&self.schema), &checkpoint);
        let machine = machine.map_err(|error| wrong(error.to_string()))?;
        self.state = Core::Machine {
            machine: Box::new(machine),
            sequence: key.sequence,
            epoch: key.position.epoch,
        };
        Ok(())
    }

    fn transition(&mut self, t: &Transition, report: &mut Report) -> Result<(), Wrong> {
        let Core::Machine {
            machine,
            sequence,
            epoch,
        } = &mut self.state
        else {
            report.skipped += 1;
            return Ok(());
        };
        let position = Position {
            epoch: *epoch,
            revision: t.revision,
        };
        let wrong = |why| Err((t.sequence, position, why));
        if t.sequence != sequence.wrapping_add(1) {
            let last = *sequence;
            return wrong(format!("the one before it is transition {last}"));
        }
        let changes: Vec<_> = t.changes.iter().map(|c| (c.state, c.ticks)).collect();
        let replayed = machine.replay(machine::Recorded {
            op: t.op,
            called: &t.called,
            cause: t.cause,
            queue_tick: (t.queue_tick != 0).then_some(t.queue_tick),
            left_out: &t.left_out,
            canceled: t.canceled.as_ref(),
            changes: &changes,
        });
        if let Err(diverged) = replayed {
            return wrong(told(&self.schema, diverged));
        }
        if machine.revision() != t.revision {
            let revision = machine.revision();
            return wrong(format!("it leads to revision {revision}"));
        }
        *sequence = t.sequence;
        report.transitions += 1;
        report.canceled += u64::from(!t.is_accepted());
        Ok(())
    }

    fn followed(&mut self, f: &Followed, report: &mut Report) -> Result<(), Wrong> {
        let Core::Replica { ticks, position } = &mut self.state else {
            report.skipped += 1;
            return Ok(());
        };
        let wrong = |why| Err((0, f.position, why));
        if (position.epoch, position.revision) != (f.position.epoch, f.from) {
            let (from, last) = (f.from, *position);
            return wrong(format!("it comes from revision {from}, and was at {last}"));
        }
        for Change { state, ticks: more } in &f.changes {
            let Some(tick) = ticks.get_mut(*state as usize) else {
                return wrong(format!("state {state} is none of the schema"));
            };
            *tick = tick.wrapping_add(*more);
        }
        *position = f.position;
        report.deltas += 1;
        Ok(())
    }

    /// The first state that has other ticks than a key says.
    fn difference(&self, ticks: &[u64], key: &[u64]) -> Option<String> {
        if ticks.len() != key.len() {
            return Some(format!(
                "a key of {} ticks for {} states",
                key.len(),
                ticks.len()
            ));
        }
        let mut both = ticks.iter().zip(key).enumerate();
        let (state, (is, told)) = both.find(|(_, (is, told))| is != told)?;
        let name = name(&self.schema, as_index(state));
        Some(format!("{name} has the tick {is}, and the key says {told}"))
    }

    fn names(&self, states: &[u32]) -> String {
        let names = states
            .iter()
            .take(32)
            .map(|state| name(&self.schema, *state));
        let mut names: Vec<_> = names.collect();
        if states.len() > names.len() {
            names.push("…".to_owned());
        }
        format!("({})", names.join(" "))
    }
}

/// What is different, states by name.
fn told(schema: &Schema, diverged: Diverged) -> String {
    match diverged {
        Diverged::Refused(why) => {
            let why = why.map(|state| Name(name(schema, state)));
            format!("it was carried out, and relations refuse it: {why}")
        }
        Diverged::Ticks {
            state,
            recorded,
            replayed,
        } => {
            let state = name(schema, state);
            format!("{state} was recorded to tick {recorded} times, and ticks {replayed} times")
        }
        Diverged::Accepted(why) => {
            let why = why.map(|state| Name(name(schema, state)));
            format!("relations were recorded to refuse it and do not: {why}")
        }
        Diverged::Repeated(state) => format!("{} is recorded more than once", name(schema, state)),
        diverged @ (Diverged::Unknown(_) | Diverged::Auto | Diverged::LeftOut) => {
            diverged.to_string()
        }
    }
}

fn name(schema: &Schema, state: u32) -> String {
    if (state as usize) < schema.len() {
        schema.name_of(state as usize).to_owned()
    } else {
        format!("#{state}")
    }
}

/// A state's name, which is not quoted.
struct Name(String);

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn nowhere() -> Position {
    Position {
        epoch: Epoch(0),
        revision: 0,
    }
}
