//! Reads recorded behaviour and compares a machine with it.
//!
//! The format is described in `tests/data/vectors/README.md`. What is compared is a [`Subject`]:
//! the machine, or in the tests also the slow resolver.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use flate2::read::GzDecoder;
use machine_runtime::{DynState, Machine, Op, Schema, SchemaError, StateDef};
use serde::Deserialize;

use super::subs;
use super::traced::{self, Traced, Tx};

/// How many disagreements of a file are told in full.
const SHOWN: usize = 5;

/// Anything that runs mutations on a schema.
pub(crate) trait Subject: Sized {
    /// A fresh one, or why its schema is impossible.
    fn start(states: &[String], schema: &RawSchema) -> Result<Self, String>;

    /// Runs a mutation to its end, with what follows it. Says whether it was executed.
    fn mutate(&mut self, op: Op, called: &[usize]) -> bool;

    /// All ticks in index order.
    fn ticks(&self) -> Vec<u64>;

    /// The active list, in its own order.
    fn order(&self) -> Vec<usize>;
}

impl Subject for Machine<DynState> {
    fn start(states: &[String], schema: &RawSchema) -> Result<Self, String> {
        let schema = build(states, schema).map_err(|e| e.to_string())?;
        Ok(Self::with_schema(schema.into()))
    }

    fn mutate(&mut self, op: Op, called: &[usize]) -> bool {
        let called: Vec<DynState> = called.iter().map(|i| state(*i)).collect();
        let outcome = match op {
            Op::Add => self.add(called),
            Op::Remove => self.remove(called),
            op => self.mutate(&machine_runtime::Mutation::new(op, called)),
        };
        outcome.is_executed()
    }

    fn ticks(&self) -> Vec<u64> {
        self.ticks().to_vec()
    }

    fn order(&self) -> Vec<usize> {
        self.active_list().map(|state| state.0 as usize).collect()
    }
}

pub(crate) fn state(index: usize) -> DynState {
    DynState(u32::try_from(index).expect("a schema has fewer than 2^32 states"))
}

/// A schema as its author wrote it, by name.
pub(crate) type RawSchema = BTreeMap<String, RawState>;

/// One state of a [`RawSchema`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawState {
    pub(crate) auto: bool,
    pub(crate) multi: bool,
    pub(crate) require: Vec<String>,
    pub(crate) add: Vec<String>,
    pub(crate) remove: Vec<String>,
    pub(crate) after: Vec<String>,
}

/// The schema of `raw` with the index order `states`.
pub(crate) fn build(states: &[String], raw: &RawSchema) -> Result<Schema, SchemaError> {
    let mut builder = Schema::builder("Recorded").order(states.iter().cloned());
    for (name, raw) in raw {
        let mut state = StateDef::new(name.clone())
            .require(raw.require.iter().cloned())
            .add(raw.add.iter().cloned())
            .remove(raw.remove.iter().cloned())
            .after(raw.after.iter().cloned())
            .payload();
        if raw.auto {
            state = state.auto();
        }
        if raw.multi {
            state = state.multi();
        }
        builder = builder.state(state);
    }
    builder.build()
}

/// How a whole folder came out; the number is the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Every file was read, and every case agrees.
    Agreed = 0,
    /// Some case disagrees.
    Apart = 1,
    /// No case disagrees, but not everything could be compared.
    Incomplete = 2,
}

/// Compares a fresh subject with each case of each `<name>.jsonl.gz` in `folder`, and reports to
/// `out`, one line a file.
pub(crate) fn check_folder<S: Subject>(folder: &Path, out: &mut impl Write) -> io::Result<Verdict> {
    let mut files: Vec<_> = match fs::read_dir(folder) {
        Ok(entries) => entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect(),
        Err(error) => {
            writeln!(out, "{}: {error}", folder.display())?;
            return Ok(Verdict::Incomplete);
        }
    };
    files.sort();
    let (mut found, mut incomplete, mut apart) = (false, false, false);
    for path in &files {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(kind) = name.and_then(|name| name.strip_suffix(".jsonl.gz")) else {
            continue;
        };
        found = true;
        if !matches!(
            kind,
            "relations" | "flights" | "handlers" | "queue" | "subs"
        ) {
            writeln!(out, "{kind} is not supported yet")?;
            incomplete = true;
            continue;
        }
        let report = File::open(path)
            .map_err(|error| error.to_string())
            .and_then(|file| check_lines::<S>(BufReader::new(GzDecoder::new(file))));
        match report {
            Ok(report) => {
                writeln!(out, "{kind} {report}")?;
                apart |= !report.disagreements.is_empty();
            }
            Err(error) => {
                writeln!(out, "{}: {error}", path.display())?;
                incomplete = true;
            }
        }
    }
    if !found {
        writeln!(out, "{}: no file named <name>.jsonl.gz", folder.display())?;
    }
    Ok(match (apart, incomplete || !found) {
        (true, _) => Verdict::Apart,
        (false, true) => Verdict::Incomplete,
        (false, false) => Verdict::Agreed,
    })
}

/// How the cases of one file came out.
#[derive(Debug, Default)]
struct Report {
    /// The cases without quirks, and the steps that these have.
    cases: usize,
    steps: usize,
    /// The cases with quirks.
    apart: usize,
    disagreements: Vec<Disagreement>,
}

/// The first step of a case that came out otherwise.
#[derive(Debug)]
struct Disagreement {
    case: u64,
    what: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cases,
            steps,
            apart,
            disagreements,
        } = self;
        let agree = cases.saturating_sub(disagreements.len());
        write!(
            f,
            "{agree}/{cases} cases agree ({steps} steps), {apart} apart"
        )?;
        for Disagreement { case, what } in disagreements.iter().take(SHOWN) {
            write!(f, "\n  case {case}: {what}")?;
        }
        match disagreements.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Compares a fresh subject with the case of each line.
fn check_lines<S: Subject>(lines: impl BufRead) -> Result<Report, String> {
    let mut report = Report::default();
    for (line, text) in (1..).zip(lines.lines()) {
        let malformed = |error: &dyn fmt::Display| format!("line {line}: {error}");
        let text = text.map_err(|e| malformed(&e))?;
        let case: Case = serde_json::from_str(&text).map_err(|e| malformed(&e))?;
        let steps = case.steps().map_err(|e| malformed(&e))?;
        // A crash is one more way to disagree, and has to name its case.
        let result = catch_unwind(AssertUnwindSafe(|| check_case::<S>(&case, &steps)))
            .unwrap_or(Err(Failure::Crash));
        if case.is_apart() {
            report.apart += 1;
        } else {
            report.cases += 1;
            report.steps += steps.len();
        }
        match result {
            Err(Failure::Differs(_)) if case.is_apart() => {}
            Err(failure) => {
                report.disagreements.push(Disagreement {
                    case: case.id,
                    what: failure.to_string(),
                });
            }
            Ok(()) => {}
        }
    }
    Ok(report)
}

/// Why a case does not agree.
enum Failure {
    Differs(String),
    Crash,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs(what) => f.write_str(what),
            Self::Crash => f.write_str("panicked, see above"),
        }
    }
}

fn check_case<S: Subject>(case: &Case, steps: &[Step]) -> Result<(), Failure> {
    if steps.iter().any(|step| step.txs.is_some()) {
        return traced::check(case, &case.traced, steps).map_err(Failure::Differs);
    }
    if !case.subs.is_empty() {
        // They are those of a machine with a task, whatever is compared otherwise.
        return subs::check(case, steps).map_err(Failure::Differs);
    }
    let mut subject = S::start(&case.states, &case.schema)
        .map_err(|error| Failure::Differs(format!("the schema is refused: {error}")))?;
    for (i, step) in steps.iter().enumerate() {
        let executed = subject.mutate(step.op, &step.called);
        let differs = |what: &str, expected: &dyn fmt::Debug, got: &dyn fmt::Debug| {
            let call = format!("{} {:?}", step.op, step.called);
            Err(Failure::Differs(format!(
                "step {i} ({call}): {what}: expected {expected:?}, got {got:?}"
            )))
        };
        if executed != step.executed {
            return differs("executed", &step.executed, &executed);
        }
        let ticks = subject.ticks();
        if ticks != step.ticks {
            return differs("ticks", &step.ticks, &ticks);
        }
        let order = subject.order();
        if let Some(expected) = &step.order
            && *expected != order
        {
            return differs("order", expected, &order);
        }
        let mut active = order;
        active.sort_unstable();
        if active != step.active {
            return differs("active", &step.active, &active);
        }
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    id: u64,
    pub(crate) states: Vec<String>,
    pub(crate) schema: RawSchema,
    #[serde(flatten)]
    traced: Traced,
    steps: Vec<RawStep>,
    #[serde(default)]
    quirks: Vec<String>,
    ticks_sum: Option<u64>,
    #[serde(default)]
    pub(crate) subs: Vec<subs::Subscription>,
}

#[derive(Debug, Deserialize)]
struct RawStep {
    op: String,
    states: Vec<StateRef>,
    result: String,
    active: Vec<StateRef>,
    ticks: Option<Vec<u64>>,
    changed: Option<Vec<(usize, u64)>>,
    order: Option<Vec<usize>>,
    txs: Option<Vec<Tx>>,
    queue_tick: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum StateRef {
    Index(usize),
    Name(String),
}

/// A step in terms of indices.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) op: Op,
    pub(crate) called: Vec<usize>,
    pub(crate) executed: bool,
    active: Vec<usize>,
    pub(crate) ticks: Vec<u64>,
    /// `None` where none was recorded.
    pub(crate) order: Option<Vec<usize>>,
    /// Every transition, where handlers were recorded.
    pub(crate) txs: Option<Vec<Tx>>,
    pub(crate) queue_tick: Option<u64>,
}

impl Case {
    /// Whether its outcome counts for nothing. Subscriptions say themselves what comes out without
    /// the quirk.
    fn is_apart(&self) -> bool {
        !self.quirks.is_empty() && self.subs.is_empty()
    }

    fn steps(&self) -> Result<Vec<Step>, String> {
        let mut ticks = vec![0; self.states.len()];
        let mut steps = Vec::with_capacity(self.steps.len());
        for (i, step) in self.steps.iter().enumerate() {
            let step = self
                .step(step, &mut ticks)
                .map_err(|error| format!("step {i}: {error}"))?;
            steps.push(step);
        }
        match self.ticks_sum {
            Some(sum) if sum != ticks.iter().sum::<u64>() => {
                Err("`ticks_sum` is not the sum of the ticks".to_owned())
            }
            _ => Ok(steps),
        }
    }

    fn step(&self, raw: &RawStep, ticks: &mut Vec<u64>) -> Result<Step, String> {
        let active = self.indices(&raw.active)?;
        let order = match (&raw.ticks, &raw.changed) {
            (Some(all), None) if all.len() == self.states.len() => {
                ticks.clone_from(all);
                // Absent means index order.
                Some(raw.order.clone().unwrap_or_else(|| active.clone()))
            }
            (None, Some(changed)) => {
                for (state, tick) in changed {
                    *ticks
                        .get_mut(*state)
                        .ok_or_else(|| format!("no state {state}"))? = *tick;
                }
                raw.order.clone()
            }
            _ => return Err("needs either one tick a state or `changed`".to_owned()),
        };
        Ok(Step {
            op: match raw.op.as_str() {
                "add" => Op::Add,
                "remove" => Op::Remove,
                "set" => Op::Set,
                "toggle" => Op::Toggle,
                other => return Err(format!("unknown op `{other}`")),
            },
            called: self.indices(&raw.states)?,
            executed: match raw.result.as_str() {
                "executed" => true,
                "canceled" => false,
                other => return Err(format!("unknown result `{other}`")),
            },
            active,
            ticks: ticks.clone(),
            order,
            txs: raw.txs.clone(),
            queue_tick: raw.queue_tick,
        })
    }

    pub(crate) fn indices(&self, states: &[StateRef]) -> Result<Vec<usize>, String> {
        let index = |state: &StateRef| match state {
            StateRef::Index(index) if *index < self.states.len() => Ok(*index),
            StateRef::Index(index) => Err(format!("no state {index}")),
            StateRef::Name(name) => self
                .states
                .iter()
                .position(|state| state == name)
                .ok_or_else(|| format!("no state `{name}`")),
        };
        states.iter().map(index).collect()
    }
}
