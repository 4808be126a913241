//! What a node tells a debugger, and what a recording holds: one stream of frames for both.
//!
//! States are indices into the schema that [`Body::Machine`] brought. A frame is postcard's encoding of
//! [`Frame`]; a change of these types is a change of [`VERSION`].

use serde::{Deserialize, Serialize};

use super::portable::PortableSchema;
use super::readable;
use crate::handlers::{Cause, Phase};
use crate::mutation::{Op, Reason};
use crate::position::Position;

/// The version of all this. A debugger opens streams of its own version only, and says so.
pub const VERSION: u16 = 1;

/// The machine number of what concerns a whole process.
pub const PROCESS: u32 = 0;

/// One thing told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// Counts the frames of one process, from 1, whether they were sent or not: a gap is a loss.
    pub number: u64,
    /// When, by the sender's wall clock: microseconds since 1970.
    pub wall: u64,
    /// When, by its monotonic clock: microseconds since the process began to tell.
    pub mono: u64,
    /// Which machine of the stream it is about; [`PROCESS`] is none.
    pub machine: u32,
    /// What.
    pub body: Body,
}

/// What a frame tells.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Who tells: the first frame of a stream, and of each file of a recording.
    Hello(Hello),
    /// There is a machine, or a replica of one. Nothing else is told of it before.
    Machine(Box<Declared>),
    /// All there is of a machine at one moment: what comes next starts here.
    Key(Box<Key>),
    /// A machine carried out or canceled a transition.
    Transition(Box<Transition>),
    /// A replica came from one moment to another by deltas.
    Followed(Followed),
    /// A link of the node came or went.
    Link(Link),
    /// The machine has an error.
    Error(Failure),
    /// The program logged a line.
    Log(Line),
    /// So many frames of the machine found no room and are missing here. A [`Body::Key`] follows.
    Dropped(u64),
    /// Who waits on the machine now, as asked for.
    Waiters(Vec<Waiting>),
    /// The node has ended.
    Gone,
}

/// Who tells.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the sender.
    pub version: u16,
    /// The program and its version.
    pub program: String,
    /// The computer.
    pub host: String,
    /// The process's number there.
    pub pid: u32,
    /// Drawn when the process began to tell: the same process after a reconnect has the same.
    #[serde(with = "readable::hex")]
    pub process: u128,
}

/// A machine or a replica.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Declared {
    /// The node's name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// The tarpc address that its followers dial, if any.
    pub addr: Option<String>,
    /// The address of its parent, for a replica.
    pub parent: Option<String>,
    /// The schema's fingerprint.
    #[serde(with = "readable::hex")]
    pub fingerprint: u128,
    /// The schema itself: once for each fingerprint in a stream, then none.
    pub schema: Option<PortableSchema>,
}

/// What a node is to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    /// It owns the machine.
    Root,
    /// It follows another node.
    Replicant,
}

/// All there is of a machine at one moment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Where it is.
    #[serde(with = "readable::position")]
    pub position: Position,
    /// How many transitions there were so far, canceled ones too; 0 for a replica.
    pub sequence: u64,
    /// All ticks.
    pub ticks: Vec<u64>,
    /// The active list in its order (rule R1); empty for a replica, whose order is not known.
    pub order: Vec<u32>,
    /// The queue tick (rule R25).
    pub queue_tick: u64,
    /// What waits, in order.
    pub queue: Vec<Queued>,
}

/// A mutation that waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Queued {
    /// What it does.
    pub op: Op,
    /// With which states.
    pub called: Vec<u32>,
    /// Its queue tick (rule R25).
    pub queue_tick: u64,
    /// Who asked for it.
    pub cause: Cause,
}

/// One transition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Transition {
    /// Counts the machine's transitions, from 1. A gap is a loss.
    pub sequence: u64,
    /// The revision after it.
    pub revision: u64,
    /// The queue tick that it took; 0 for what the machine put in front itself.
    pub queue_tick: u64,
    /// What was done with the called states.
    pub op: Op,
    /// Who asked for it.
    pub cause: Cause,
    /// The states that it called.
    pub called: Vec<u32>,
    /// The auto states that handlers refused, and without which it went on (rule R15).
    pub left_out: Vec<u32>,
    /// The states that ticked, and how often.
    pub changes: Vec<Change>,
    /// Why it was canceled, if it was. After a panic in a final handler there are changes all the same.
    pub canceled: Option<Reason<u32>>,
    /// How many mutations waited in the machine before it, and after it.
    pub waiting: (u32, u32),
    /// How many waiting futures it let go.
    pub released: u32,
    /// Nanoseconds that relations and negotiation took, and final handlers; 0 where not measured.
    pub took: (u64, u64),
    /// The handlers that ran, in order.
    pub handlers: Vec<HandlerRun>,
    /// The payloads that came with it.
    pub payloads: Vec<Payload>,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
}

impl Transition {
    /// Whether it was carried out.
    pub fn is_accepted(&self) -> bool {
        self.canceled.is_none()
    }
}

/// A state that ticked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub state: u32,
    /// How often.
    pub ticks: u64,
}

/// One run of a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandlerRun {
    /// Its phase.
    pub phase: Phase,
    /// The state that it was for; of a pair the one after.
    pub state: Option<u32>,
    /// Nanoseconds from the transition's begin to its own.
    pub after: u64,
    /// Nanoseconds that it took.
    pub took: u64,
}

/// A payload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payload {
    /// For which state.
    pub state: u32,
    /// Its length in bytes.
    pub len: u32,
    /// How it reads, unless its state is redacted.
    pub text: Option<String>,
}

/// A place within a distributed trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// The trace.
    #[serde(with = "readable::hex")]
    pub trace: u128,
    /// The span.
    pub span: u64,
    /// The span that caused it.
    pub parent: Option<u64>,
}

/// A replica came from one moment to another of the same epoch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Followed {
    /// The revision that it showed before. Another than the last told one is a loss.
    pub from: u64,
    /// Where it is now.
    #[serde(with = "readable::position")]
    pub position: Position,
    /// The states that ticked, and how often.
    pub changes: Vec<Change>,
    /// How many waiting futures that let go.
    pub released: u32,
    /// The trace that the newest of it belongs to.
    pub trace: Option<Trace>,
}

/// A link of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Whether it is to the node's parent; else it is to a follower.
    pub up: bool,
    /// The other node, where it said its name.
    pub peer: String,
    /// What happened.
    pub change: LinkChange,
}

/// What happened to a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LinkChange {
    /// It is there.
    Connected,
    /// It is there no more, and why.
    Lost(String),
    /// It was refused, and why.
    Refused(String),
    /// A snapshot was taken instead of a delta, and why.
    Resynced(String),
}

/// An error of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Its kind's name.
    pub kind: String,
    /// What it says.
    pub message: String,
    /// The revision at which it came.
    pub revision: u64,
}

/// A line of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// 1 error, 2 warning, 3 information, 4 debug, 5 trace.
    pub level: u8,
    /// The part of the program.
    pub target: String,
    /// The line, its fields included.
    pub text: String,
}

/// Futures that wait for the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// What for, in words.
    pub what: String,
    /// The states that it names.
    pub states: Vec<u32>,
    /// How many futures.
    pub count: u32,
}

/// What a debugger may say to a node. Nothing of it changes a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// The first message.
    Hello {
        /// [`VERSION`] of the debugger.
        version: u16,
        /// Which process it has frames of; 0 is none.
        process: u128,
        /// The greatest frame number of those: the node sends what it still has behind it.
        last: u64,
    },
    /// Who waits on a machine?
    Waiters {
        /// The machine's number.
        machine: u32,
    },
}
