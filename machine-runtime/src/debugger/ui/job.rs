//! Work that can take long. It runs on a thread of its own, and holds the store for moments only: who
//! writes to it comes in between.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use super::super::store::{
    Export, Filter, History, MachineId, ProcessId, Selection, Store, Visible,
};
use super::pane::diagram::Drawing;
use super::{Shared, words};
use crate::debug::file::{self, Format};
use crate::debug::frame::{Body, Frame};
use crate::graph;
use crate::mutation::{Op, Outcome};
use crate::schema::Schema;
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
    pub fn run(self, store: &Shared, is_canceled: &dyn Fn() -> bool) -> Done {
        if is_canceled() {
            return given_up();
        }
        match self {
            Self::Filter { machine, filter } => match look(store, machine, filter, is_canceled) {
                Some(visible) => Done::Filtered(Box::new(visible)),
                None => given_up(),
            },
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
            } => dry_run(&read(store), machine, index, op, &states),
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

/// How many entries are looked at before others have a turn at the store.
const LOOK: usize = 64 << 10;

/// The same, of frames that are written.
const BATCH: usize = 256;

fn read(store: &Shared) -> RwLockReadGuard<'_, Store> {
    store.read().unwrap_or_else(PoisonError::into_inner)
}

fn given_up() -> Done {
    Done::Failed("given up".to_owned())
}

/// The entries that pass; `None` if nobody waits any more.
fn look(
    store: &Shared,
    machine: MachineId,
    filter: Filter,
    is_canceled: &dyn Fn() -> bool,
) -> Option<Visible> {
    let mut visible = Visible::begin(&read(store), machine, filter);
    while !visible.update_some(&read(store), LOOK) {
        if is_canceled() {
            return None;
        }
    }
    Some(visible)
}

/// How many mutations are tried in a search of the smallest ones.
const TRIES: u64 = 200_000;

/// The smallest mutations that would have changed a state, in words.
fn smallest(
    store: &Shared,
    machine: MachineId,
    index: usize,
    state: u32,
    is_canceled: &dyn Fn() -> bool,
) -> Done {
    let (schema, past) = {
        let store = read(store);
        let schema = Arc::clone(store.machine(machine).schema());
        (schema, store.core_at(machine, index))
    };
    let schema = &schema;
    let past = match past {
        Ok(past) => past,
        Err(why) => return Done::Failed(format!("nothing can be tried here: {why}")),
    };
    let state = DynState(state);
    let wanted = !past.machine.is_active(state);
    let answer = whatif::smallest(&past.machine, state, wanted, TRIES, || !is_canceled());
    if is_canceled() {
        return given_up();
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
    store: &Shared,
    process: ProcessId,
    selection: &Selection,
    path: &Path,
    is_canceled: &dyn Fn() -> bool,
) -> Done {
    let format = Format::of(path);
    if format.is_none() && path.extension().is_none_or(|extension| extension != "txt") {
        return Done::Failed(format!(
            "{} would be what? Its name ends with .amrec, .jsonl.gz or .txt",
            path.display()
        ));
    }
    let ids: Vec<(u32, MachineId)> = read(store).numbers(process).collect();
    let mut visible = BTreeMap::new();
    for (_, id) in &ids {
        let Some(of) = look(store, *id, selection.filter.clone(), is_canceled) else {
            return given_up();
        };
        visible.insert(*id, of);
    }
    let (mut export, names) = {
        let store = read(store);
        let known = |id| {
            let found = visible.remove(&id);
            found.unwrap_or_else(|| Visible::new(&store, id, selection.filter.clone()))
        };
        let export = Export::new(&store, process, selection, known);
        let one = |(number, id): &(u32, MachineId)| (*number, Named::of(store.machine(*id)));
        let names: BTreeMap<u32, Named> = ids.iter().map(one).collect();
        (export, names)
    };
    let mut batch = VecDeque::new();
    let mut is_end = false;
    let frames = std::iter::from_fn(|| {
        if batch.is_empty() && !is_end && !is_canceled() {
            let store = read(store);
            while batch.len() < BATCH && !is_end {
                let next = export.next_frame(&store);
                is_end = next.is_none();
                batch.extend(next);
            }
        }
        batch.pop_front()
    });
    let written = match format {
        Some(format) => file::write(path, format, frames)
            .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        None => text(&names, frames, path),
    };
    // What there was before is not touched, and nothing is left of what is not whole.
    let is_ours = |error: &io::Error| error.kind() != io::ErrorKind::AlreadyExists;
    match written {
        Ok(_) if !is_end => {
            let _ = std::fs::remove_file(path);
            given_up()
        }
        Ok(count) => Done::Wrote(format!(
            "wrote {} to {}",
            words::many(count, "frame"),
            path.display()
        )),
        Err(error) => {
            if is_ours(&error) {
                let _ = std::fs::remove_file(path);
            }
            Done::Failed(format!("cannot write {}: {error}", path.display()))
        }
    }
}

/// What lines need to know of a machine.
struct Named {
    name: String,
    schema: Arc<Schema>,
}

impl Named {
    fn of(history: &History) -> Self {
        Self {
            name: history.name().to_owned(),
            schema: Arc::clone(history.schema()),
        }
    }
}

/// A line a frame, as a person reads it.
fn text(
    names: &BTreeMap<u32, Named>,
    frames: impl Iterator<Item = Frame>,
    path: &Path,
) -> io::Result<usize> {
    use std::io::Write;
    let mut file = io::BufWriter::new(std::fs::File::create_new(path)?);
    let mut count = 0;
    for frame in frames {
        let Some(line) = line(names, &frame) else {
            continue;
        };
        // What nodes say steers no terminal, and makes no lines.
        let line: String = line.chars().map(shown).collect();
        writeln!(file, "{line}")?;
        count += 1;
    }
    file.flush()?;
    Ok(count)
}

/// A letter, unless it steers a terminal or the direction of writing.
fn shown(letter: char) -> char {
    let is_direction = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if letter.is_control() || is_direction {
        char::REPLACEMENT_CHARACTER
    } else {
        letter
    }
}

fn line(names: &BTreeMap<u32, Named>, frame: &Frame) -> Option<String> {
    let found = names.get(&frame.machine);
    let of = found.map_or("-", |named| &named.name);
    let what = match (&frame.body, found) {
        (Body::Hello(hello), _) => format!("{} {}@{}", hello.program, hello.pid, hello.host),
        (Body::Transition(told), Some(Named { schema, .. })) => {
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
        _ => return None,
    };
    // Who tells, and of which machines, is of no time.
    let when = if frame.wall == 0 {
        "-".to_owned()
    } else {
        words::date(frame.wall)
    };
    Some(format!("{when} {of} {what}"))
}
