//! Everything that nodes told, in memory and indexed.
//!
//! A [`Store`] takes the frames of any number of streams, live ones and recordings alike, and holds one
//! [`History`] a machine: entries in the order in which they were told, encoded in chunks of up to 1,024.
//! A chunk begins with all ticks, so the ticks at any entry are a few hundred additions away, and says
//! which states it is about, so most chunks need no look when one searches.
//!
//! All times are those of the senders' wall clocks; those of different computers are not corrected.
//!
//! ```
//! # use machine_runtime::debugger::store::{Filter, Store, StoreLimits, Visible};
//! # use machine_runtime::debug::frame::{Body, Frame};
//! # fn show(stream: Vec<Frame>) -> Result<(), Box<dyn std::error::Error>> {
//! let mut store = Store::new(StoreLimits::default());
//! let mut frames = stream.into_iter();
//! let Some(Frame { body: Body::Hello(hello), .. }) = frames.next() else {
//!     return Err("a stream begins with who tells".into());
//! };
//! let connected = store.connect(&hello)?;
//! for frame in frames {
//!     store.apply(connected.stream, frame)?;
//! }
//! for history in store.machines() {
//!     let filter = Filter { hide_canceled: true, ..Filter::default() };
//!     let visible = Visible::new(&store, history.id(), filter);
//!     let last = visible.iter().next_back().map(|i| history.entry(i));
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::debug::frame::{Body, Declared, Frame, Hello, PROCESS, Role, VERSION};
use crate::position::Epoch;
use crate::schema::{Fingerprint, Schema};

mod causes;
mod check;
mod chunk;
mod export;
mod flags;
mod history;
mod lens;
mod offline;
mod process;
mod record;
mod room;
mod search;
mod tree;
mod visible;

pub use causes::{Related, Tie};
pub use check::{MAX_TEXT, Malformed};
pub use export::{Export, Selection};
pub use flags::Flags;
pub use history::{Entry, History, KEPT, Moment, ToldError, ToldLink, ToldWaiters};
pub use lens::{At, Lens, LensNode, TickDifference};
pub use offline::{DryRun, PastCore, ToldSteps, WhyNot};
pub use process::{Connection, Process, ToldLine};
pub use visible::{Filter, Hidden, Visible};

/// A machine's place in a store. It stays for good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MachineId(pub usize);

/// A process's place in a store. It stays for good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessId(pub usize);

/// A stream of frames that a store takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(u64);

/// How much a store holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreLimits {
    /// The memory in bytes, about: beyond it the oldest entries of whichever machine takes most go.
    pub bytes: usize,
}

impl Default for StoreLimits {
    /// 1 GiB.
    fn default() -> Self {
        Self { bytes: 1 << 30 }
    }
}

/// How a stream begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connected {
    /// What its frames are applied with.
    pub stream: StreamId,
    /// Its process.
    pub process: ProcessId,
    /// The greatest frame number held of the process, for
    /// [`Ask::Hello`](crate::debug::frame::Ask::Hello); 0 is none.
    pub last: u64,
}

/// The most processes, and the most machines of all of them together.
const MOST: usize = 65_536;

/// Everything told, see the [module](self).
#[derive(Debug, Default)]
pub struct Store {
    limits: StoreLimits,
    processes: Vec<Process>,
    machines: Vec<History>,
    streams: BTreeMap<StreamId, ProcessId>,
    next_stream: u64,
    schemas: BTreeMap<u128, Arc<Schema>>,
    /// The memory of all but machines.
    side_bytes: usize,
    /// The sum of [`History::bytes`].
    machine_bytes: usize,
    /// How much of it is of what was told beside entries.
    told_bytes: usize,
}

impl Store {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Begins a stream: of a process that was not there yet, or again of one that was, whose machines
    /// it continues. A recording is a stream as well.
    ///
    /// # Errors
    ///
    /// If the sender's version is another, or nothing more fits.
    pub fn connect(&mut self, hello: &Hello) -> Result<Connected, Malformed> {
        if hello.version != VERSION {
            return Err(Malformed::Version {
                theirs: hello.version,
            });
        }
        check::text("a program's name", &hello.program)?;
        check::text("a host's name", &hello.host)?;
        let known = self
            .processes
            .iter()
            .position(|process| process.hello.process == hello.process);
        let place = if let Some(place) = known {
            place
        } else {
            if self.processes.len() >= MOST {
                return Err(Malformed::NoRoom {
                    what: "one more process",
                });
            }
            let place = self.processes.len();
            let process = Process::new(ProcessId(place), hello.clone());
            self.side_bytes += size_of::<Process>() + hello.program.len() + hello.host.len();
            self.processes.push(process);
            place
        };
        let process = &mut self.processes[place];
        process.streams += 1;
        process.connection = Connection::Connected;
        let last = process.last;
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        self.streams.insert(stream, ProcessId(place));
        Ok(Connected {
            stream,
            process: ProcessId(place),
            last,
        })
    }

    /// Takes one frame. Frames of a machine that came before, by number, are passed over: of two
    /// streams of one process the one that is ahead counts. The number 0 is none, and always taken.
    ///
    /// # Errors
    ///
    /// What is wrong with the frame, which then leaves no trace. The stream can go on, but better ends.
    pub fn apply(&mut self, stream: StreamId, frame: Frame) -> Result<(), Malformed> {
        let process = *self.streams.get(&stream).ok_or(Malformed::NotConnected)?;
        let Frame {
            number,
            wall,
            mono,
            machine,
            body,
        } = frame;
        match body {
            // These may come again with each stream.
            Body::Hello(hello) => {
                let ours = self.processes[process.0].hello.process;
                if hello.process != ours {
                    return Err(Malformed::OtherProcess {
                        ours,
                        theirs: hello.process,
                    });
                }
            }
            Body::Machine(declared) => self.declare(process, machine, *declared)?,
            body => self.take(process, machine, (number, wall, mono), body)?,
        }
        let process = &mut self.processes[process.0];
        if number > process.last {
            if process.last > 0 {
                process.lost = process.lost.saturating_add(number - process.last - 1);
            }
            process.last = number;
        }
        self.shrink(0);
        Ok(())
    }

    /// Ends a stream. Its process is [`Connection::Lost`] once no other stream brings it.
    pub fn disconnect(&mut self, stream: StreamId, why: impl Into<String>) {
        let Some(process) = self.streams.remove(&stream) else {
            return;
        };
        let process = &mut self.processes[process.0];
        process.streams -= 1;
        if process.streams == 0 && process.connection == Connection::Connected {
            process.connection = Connection::Lost(why.into());
        }
    }

    /// All processes, by [`ProcessId`].
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// One process.
    ///
    /// # Panics
    ///
    /// If it is of another store.
    pub fn process(&self, id: ProcessId) -> &Process {
        &self.processes[id.0]
    }

    /// All machines, by [`MachineId`].
    pub fn machines(&self) -> &[History] {
        &self.machines
    }

    /// One machine.
    ///
    /// # Panics
    ///
    /// If it is of another store.
    pub fn machine(&self, id: MachineId) -> &History {
        &self.machines[id.0]
    }

    /// Whether the machine's process tells, or why not; a node can end before its process.
    pub fn connection(&self, id: MachineId) -> &Connection {
        if self.machine(id).is_gone {
            return &Connection::Gone;
        }
        self.process(self.machine(id).process).connection()
    }

    /// The number that a machine has in its process's stream, for
    /// [`Ask::Waiters`](crate::debug::frame::Ask::Waiters); `None` after another took its place.
    pub fn number(&self, id: MachineId) -> Option<u32> {
        let numbers = &self.process(self.machine(id).process).numbers;
        let mut numbers = numbers.iter();
        numbers.find_map(|(number, of)| (*of == id).then_some(*number))
    }

    /// The machines of a process by the numbers that they have in its stream.
    pub fn numbers(&self, process: ProcessId) -> impl Iterator<Item = (u32, MachineId)> {
        let numbers = self.process(process).numbers.iter();
        numbers.map(|(number, id)| (*number, *id))
    }

    /// The machine that a replica follows: the one whose address it has as its parent's. Of several,
    /// from processes one after the other, it is the newest that is connected, else the newest.
    pub fn parent(&self, id: MachineId) -> Option<MachineId> {
        let addr = self.machine(id).parent_addr()?;
        let at = |history: &&History| history.id != id && history.addr() == Some(addr);
        let connected = |history: &&History| *self.connection(history.id) == Connection::Connected;
        let mut all = self.machines.iter().rev().filter(at);
        let newest = all.clone().find(connected).or_else(|| all.next());
        newest.map(History::id)
    }

    /// The machines whose parent is `id`.
    pub fn children(&self, id: MachineId) -> impl Iterator<Item = MachineId> {
        let addr = self.machine(id).addr();
        let all = self.machines.iter();
        all.filter(move |history| addr.is_some() && history.parent_addr() == addr)
            .map(History::id)
            .filter(move |child| self.parent(*child) == Some(id))
    }

    /// The machine that owns the states of an epoch, if it told of it.
    pub fn root_of(&self, epoch: Epoch) -> Option<MachineId> {
        let mut machines = self.machines.iter().rev();
        let root =
            machines.find(|history| history.role() == Role::Root && history.has_epoch(epoch));
        root.map(History::id)
    }

    /// The memory that all of it takes, about.
    pub fn bytes(&self) -> usize {
        self.side_bytes + self.machine_bytes
    }

    fn declare(
        &mut self,
        process: ProcessId,
        number: u32,
        mut declared: Declared,
    ) -> Result<(), Malformed> {
        if number == PROCESS {
            return Err(Malformed::NoMachine {
                what: "a declaration",
            });
        }
        check::text("a node's name", &declared.name)?;
        let addrs = [&declared.addr, &declared.parent];
        for addr in addrs.into_iter().flatten() {
            check::text("an address", addr)?;
        }
        let schema = self.schema(&mut declared)?;
        let known = self.processes[process.0].numbers.get(&number).copied();
        if let Some(id) = known {
            let history = &mut self.machines[id.0];
            if history.declared.fingerprint == declared.fingerprint
                && history.declared.name == declared.name
            {
                // Its parent may be another now.
                let before = history.bytes();
                history.side_bytes = name_bytes(&declared);
                history.declared = declared;
                self.machine_bytes = self.machine_bytes - before + history.bytes();
                return Ok(());
            }
        }
        let names = name_bytes(&declared);
        let mut history = History::new(MachineId(self.machines.len()), process, declared, schema);
        history.side_bytes = names;
        if self.machines.len() >= MOST || !self.shrink(history.bytes()) {
            return Err(Malformed::NoRoom {
                what: "one more machine",
            });
        }
        self.machine_bytes += history.bytes();
        self.processes[process.0].numbers.insert(number, history.id);
        self.machines.push(history);
        Ok(())
    }

    /// The schema of a machine: that of its fingerprint, or the one it brought.
    fn schema(&mut self, declared: &mut Declared) -> Result<Arc<Schema>, Malformed> {
        let fingerprint = Fingerprint(declared.fingerprint);
        let portable = declared.schema.take();
        if let Some(schema) = self.schemas.get(&declared.fingerprint) {
            return Ok(Arc::clone(schema));
        }
        let portable = portable.ok_or(Malformed::NoSchema(fingerprint))?;
        let bytes = check::schema(&portable)?;
        if !self.shrink(bytes) {
            return Err(Malformed::NoRoom {
                what: "one more schema",
            });
        }
        let schema = portable.to_schema()?;
        if schema.fingerprint() != fingerprint {
            return Err(Malformed::Fingerprint {
                actual: schema.fingerprint(),
                declared: fingerprint,
            });
        }
        let schema = Arc::new(schema);
        self.side_bytes += bytes;
        self.schemas
            .insert(declared.fingerprint, Arc::clone(&schema));
        Ok(schema)
    }

    /// Takes what is told of a machine or its process.
    fn take(
        &mut self,
        process: ProcessId,
        number: u32,
        (frame, wall, mono): (u64, u64, u64),
        body: Body,
    ) -> Result<(), Malformed> {
        let id = if number == PROCESS {
            None
        } else {
            let numbers = &self.processes[process.0].numbers;
            let id = numbers.get(&number).copied();
            Some(id.ok_or(Malformed::UnknownMachine { number })?)
        };
        let body = match body {
            Body::Log(line) => {
                check::text("a line of a log", &line.text)?;
                check::text("a line's target", &line.target)?;
                let latest = self.processes[process.0].lines.back();
                if frame != 0 && latest.is_some_and(|line| frame <= line.number) {
                    return Ok(());
                }
                let latest = latest.map_or(0, |line| line.latest).max(wall);
                let told = ToldLine {
                    number: frame,
                    wall,
                    mono,
                    machine: id,
                    line,
                    latest,
                };
                self.log(process, told);
                return Ok(());
            }
            Body::Gone if id.is_none() => {
                self.processes[process.0].connection = Connection::Gone;
                return Ok(());
            }
            // Frames of the whole process that found no room.
            Body::Dropped(count) if id.is_none() => {
                let process = &mut self.processes[process.0];
                process.lost = process.lost.saturating_add(count);
                return Ok(());
            }
            body => body,
        };
        let id = id.ok_or(Malformed::NoMachine { what: what(&body) })?;
        let history = &mut self.machines[id.0];
        let (before, told) = (history.bytes(), history.told_bytes());
        let result = history.take((frame, wall, mono), body);
        self.machine_bytes = self.machine_bytes - before + history.bytes();
        self.told_bytes = self.told_bytes - told + history.told_bytes();
        if self.told_bytes > self.limits.bytes / 8 {
            self.forget_told();
        }
        result
    }
}

fn name_bytes(declared: &Declared) -> usize {
    let addrs = [&declared.addr, &declared.parent];
    let addrs: usize = addrs.into_iter().flatten().map(String::len).sum();
    addrs + declared.name.len()
}

fn what(body: &Body) -> &'static str {
    match body {
        Body::Hello(_) => "a greeting",
        Body::Machine(_) => "a declaration",
        Body::Key(_) => "a key",
        Body::Transition(_) => "a transition",
        Body::Followed(_) => "a replica's step",
        Body::Link(_) => "an event of a link",
        Body::Error(_) => "an error",
        Body::Log(_) => "a line of a log",
        Body::Dropped(_) => "a loss",
        Body::Waiters(_) => "a list of waiters",
        Body::Gone => "an end",
    }
}

#[cfg(test)]
mod tests;
