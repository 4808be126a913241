//! Work that can take long. It runs on a thread of its own and reads the store while nobody writes.

use std::path::PathBuf;

use super::super::store::{Filter, MachineId, ProcessId, Selection, Store, Visible};
use super::pane::diagram::Drawing;
use super::words;
use crate::debug::file::{self, Format};
use crate::debug::frame::{Body, Frame};
use crate::graph;
use crate::mutation::{Op, Outcome};
use crate::state::DynState;
use crate::whatif;

/// A job's number. Those that nobody waits for any more are told apart by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub(super) u64);

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Job {
    /// Look at all entries of a machine.
    Filter {
        /// The machine.
        machine: MachineId,
        /// What is hidden.
        filter: Filter,
    },
    /// Search the smallest mutations that would change a state.
    Smallest {
        /// The machine.
        machine: MachineId,
        /// After which entry.
        index: usize,
        /// The state.
        state: u32,
    },
    /// Try a mutation as a dry run.
    Try {
        /// The machine.
        machine: MachineId,
        /// After which entry.
        index: usize,
        /// What to do.
        op: Op,
        /// With which states.
        states: Vec<u32>,
    },
    /// Write what is shown to a file.
    Export {
        /// The process.
        process: ProcessId,
        /// What of it.
        selection: Box<Selection>,
        /// Where to: the name's end says how.
        path: PathBuf,
    },
    /// Draw a diagram, and write it as SVG.
    Draw {
        /// What is drawn.
        drawing: Box<Drawing>,
        /// Where to.
        path: PathBuf,
    },
}

/// What came of a job.
#[derive(Debug)]
#[non_exhaustive]
pub enum Done {
    /// The entries that pass.
    Filtered(Box<Visible>),
    /// Mutations, in words.
    Smallest(Vec<String>),
    /// What would come of a mutation, in words.
    Tried(Vec<String>),
    /// What was written where.
    Wrote(String),
    /// Why nothing came of it.
    Failed(String),
}

impl Job {
    /// Does it. `is_canceled` says whether anybody still waits.
    pub fn run(self, store: &Store, is_canceled: &dyn Fn() -> bool) -> Done {
        if is_canceled() {
            return Done::Failed("given up".to_owned());
        }
        match self {
            Self::Filter { machine, filter } => {
                Done::Filtered(Box::new(Visible::new(store, machine, filter)))
            }
            Self::Smallest {
                machine,
                index,
                state,
            } => smallest(store, machine, index, state, is_canceled),
            Self::Try {
                machine,
                index,
                op,
                states,
            } => dry_run(store, machine, index, op, &states),
            Self::Export {
                process,
                selection,
                path,
            } => export(store, process, &selection, &path, is_canceled),
            Self::Draw { drawing, path } => {
                let svg = match drawing.to(graph::Format::Svg) {
                    Ok(svg) => svg,
                    Err(why) => return Done::Failed(why),
                };
                let path = std::path::absolute(&path).unwrap_or(path);
                match std::fs::write(&path, svg) {
                    Ok(()) => Done::Wrote(format!("wrote {}", path.display())),
                    Err(error) => Done::Failed(format!("cannot write {}: {error}", path.display())),
                }
            }
        }
    }
}

/// How many mutations are tried in a search of the smallest ones.
const TRIES: u64 = 200_000;

/// The smallest mutations that would have changed a state, in words.
fn smallest(
    store: &Store,
    machine: MachineId,
    index: usize,
    state: u32,
    is_canceled: &dyn Fn() -> bool,
) -> Done {
    let schema = store.machine(machine).schema();
    let past = match store.core_at(machine, index) {
        Ok(past) => past,
        Err(why) => return Done::Failed(format!("nothing can be tried here: {why}")),
    };
    let state = DynState(state);
    let wanted = !past.machine.is_active(state);
    let answer = whatif::smallest(&past.machine, state, wanted, TRIES, || !is_canceled());
    if is_canceled() {
        return Done::Failed("given up".to_owned());
    }
    let mut lines: Vec<_> = answer
        .found
        .iter()
        .map(|mutation| {
            let called: Vec<_> = mutation.states().iter().map(|state| state.0).collect();
            format!("{} {}", mutation.op(), words::names(schema, &called))
        })
        .collect();
    let tried = words::count(answer.tried);
    lines.push(match (answer.found.is_empty(), answer.cut_off) {
        (true, false) => format!(
            "none of up to {} states would; {tried} were tried",
            whatif::MOST_CALLED
        ),
        (true, true) => format!("none found in {tried} tries; there may be some"),
        (false, _) => format!("{tried} tried, by relations; handlers were not asked"),
    });
    if let Some(why) = past.guessed {
        lines.push(format!("a guess: {why}"));
    }
    Done::Smallest(lines)
}

/// What a mutation would have come to, in words.
fn dry_run(store: &Store, machine: MachineId, index: usize, op: Op, states: &[u32]) -> Done {
    let schema = store.machine(machine).schema();
    let what = format!("{op} {}", words::names(schema, states));
    let tried = match store.dry_run(machine, index, op, states) {
        Ok(tried) => tried,
        Err(why) => return Done::Failed(format!("{what} cannot be tried here: {why}")),
    };
    let mut lines = Vec::new();
    match tried.outcome {
        Outcome::Executed if tried.changes.is_empty() => {
            lines.push(format!("{what} would be accepted and change nothing"));
        }
        Outcome::Executed => lines.push(format!("{what} would be accepted:")),
        Outcome::Canceled(reason) => {
            let why = words::reason(schema, &reason.map(|state| state.0));
            lines.push(format!("{what} would be canceled: {why}"));
        }
    }
    for change in tried.changes {
        let did = match (change.root % 2, change.node % 2) {
            (0, 1) => "begins",
            (1, 0) => "ends",
            _ => "ticks",
        };
        lines.push(format!("  {} {did}", words::name(schema, change.state)));
    }
    if let Some(why) = tried.guessed {
        lines.push(format!("a guess: {why}"));
    }
    lines.push("handlers were not asked".to_owned());
    Done::Tried(lines)
}

fn export(
    store: &Store,
    process: ProcessId,
    selection: &Selection,
    path: &std::path::Path,
    is_canceled: &dyn Fn() -> bool,
) -> Done {
    let frames = store.export(process, selection);
    let frames = frames.take_while(|_| !is_canceled());
    let written = match Format::of(path) {
        Some(format) => file::write(path, format, frames)
            .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        None if path.extension().is_some_and(|extension| extension == "txt") => {
            text(store, process, frames, path)
        }
        None => {
            return Done::Failed(format!(
                "{} would be what? Its name ends with .amrec, .jsonl.gz or .txt",
                path.display()
            ));
        }
    };
    match written {
        Ok(count) => Done::Wrote(format!(
            "wrote {} to {}",
            words::many(count, "frame"),
            path.display()
        )),
        Err(error) => Done::Failed(format!("cannot write {}: {error}", path.display())),
    }
}

/// A line a frame, as a person reads it.
fn text(
    store: &Store,
    process: ProcessId,
    frames: impl Iterator<Item = Frame>,
    path: &std::path::Path,
) -> std::io::Result<usize> {
    use std::io::Write;
    let mut file = std::io::BufWriter::new(std::fs::File::create_new(path)?);
    let mut count = 0;
    for frame in frames {
        let found = store.machines().iter().find(|history| {
            history.process() == process && store.number(history.id()) == Some(frame.machine)
        });
        let of = found.map_or("-", |history| history.name());
        let what = match (&frame.body, found) {
            (Body::Hello(hello), _) => format!("{} {}@{}", hello.program, hello.pid, hello.host),
            (Body::Transition(told), Some(history)) => {
                let schema = history.schema();
                let called = words::names(schema, &told.called);
                let end = told.canceled.as_ref().map_or_else(
                    || format!("revision {}", told.revision),
                    |reason| format!("canceled: {}", words::reason(schema, reason)),
                );
                format!("{} {called}, {}: {end}", told.op, words::cause(told.cause))
            }
            (Body::Followed(told), _) => {
                format!("followed from {} to {}", told.from, told.position.revision)
            }
            (Body::Key(key), _) => format!("all there is at revision {}", key.position.revision),
            (Body::Log(line), _) => format!("log {}: {}", line.target, line.text),
            (Body::Error(failure), _) => format!("error {}: {}", failure.kind, failure.message),
            (Body::Dropped(dropped), _) => format!("{dropped} frames dropped"),
            (Body::Link(link), _) => format!("link to {}: {:?}", link.peer, link.change),
            (Body::Machine(declared), _) => format!("machine {}", declared.name),
            _ => continue,
        };
        writeln!(file, "{} {of} {what}", words::date(frame.wall))?;
        count += 1;
    }
    file.flush()?;
    Ok(count)
}
