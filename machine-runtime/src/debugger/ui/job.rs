//! Work that can take long. It runs on a thread of its own and reads the store while nobody writes.

use std::path::PathBuf;

use super::super::store::{Filter, MachineId, ProcessId, Selection, Store, Visible};
use super::words;
use crate::debug::frame::{Body, Frame};
use crate::mutation::Op;

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
    /// Write a text to a file.
    Write {
        /// Where to.
        path: PathBuf,
        /// What.
        text: String,
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
            } => smallest(store, machine, index, state),
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
            Self::Write { path, text } => match std::fs::write(&path, text) {
                Ok(()) => Done::Wrote(format!("wrote {}", path.display())),
                Err(error) => Done::Failed(format!("cannot write {}: {error}", path.display())),
            },
        }
    }
}

fn smallest(_store: &Store, _machine: MachineId, _index: usize, _state: u32) -> Done {
    Done::Failed("not known".to_owned())
}

fn dry_run(_store: &Store, _machine: MachineId, _index: usize, _op: Op, _states: &[u32]) -> Done {
    Done::Failed("not known".to_owned())
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
    let result = text(store, process, frames, path);
    match result {
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
