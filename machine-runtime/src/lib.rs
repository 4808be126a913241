//! A deterministic machine in which many states are active at once, tied by relations.
//!
//! Each state has a clock, its *tick*: it grows by one whenever the state is activated or
//! deactivated, and odd means active. A *mutation* calls states; the machine resolves the
//! relations between them and either carries out one *transition* or refuses it and says why.
//!
//! ```
//! use machine_runtime::{Basic, Machine, Outcome, Reason, states};
//!
//! states! {
//!     counts = { doors = 2 };
//!
//!     /// A house and its doors.
//!     pub enum House: Basic {
//!         for door in 1..=doors {
//!             exclusive Leaf { Door{door}Open, #[auto] Door{door}Shut }
//!             #[require(Door{door}Shut)]
//!             Door{door}Locked,
//!         }
//!     }
//! }
//!
//! let mut house = Machine::<House>::new();
//! assert!(house.add(House::Start).is_executed());
//! // Doors shut by themselves, so one can be locked.
//! assert!(house.add(House::locked(2)).is_executed());
//! // What requires a state goes with it, and a refusal says why.
//! assert!(house.add(House::open(2)).is_executed());
//! let why = Reason::Missing { state: House::locked(2), requires: House::shut(2) };
//! assert_eq!(house.add(House::locked(2)), Outcome::Canceled(why));
//! ```
//!
//! # Layout
//!
//! * [`states!`] generates an enum and its tables; [`State`] and [`States`] are what it
//!   implements, [`StateSet`] is a set of its states, [`Schema`] holds names, relations, groups.
//! * [`Mutation`] is what one asks for, [`Outcome`] what came of it.
//! * [`Machine`] is the core: synchronous, one owner, no clock, lock or I/O; [`Explanation`] says
//!   why a state is or is not active.
//! * [`handlers`](macro@handlers) binds methods to states; [`Negotiation`] and [`Final`] are what
//!   they see, [`PayloadOf`] is a state with the type of its payload.
//! * With `tokio`, `Owner` is a task that owns a machine and `Handle` sends it mutations, from the
//!   root or from a replica; a `View` is what readers look at, of a machine or a replica, and where
//!   they wait (`When`). A `StateContext` ends work with its state, a `Pipe` binds states of one
//!   machine to mutations of another.
//! * With `tokio`, [`observe`] counts and tells what happens, to those who want to know.
//! * With `graph`, `graph::Graph` draws a schema and `graph::Sequence` one transition.
//! * With `durable`, a root keeps its history on disk: see `durable::Store`.
//! * With `replica`, `replica::Source` serves a view to followers and `replica::Follower` follows.
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `serde` | generated states as their names |
//! | `tokio` | a task that owns the machine, cloneable handles, views, waiting, pipes |
//! | `replica` | replication over tarpc: its source side and its follower side |
//! | `durable` | a root whose history outlives its process |
//! | `graph` | diagrams of schemas and transitions: Mermaid, Graphviz, D2, SVG |

// Generated code names this crate by its absolute path, also inside it.
extern crate self as machine_runtime;

mod active;
mod bound;
mod checkpoint;
mod context;
#[cfg(feature = "debug")]
pub mod debug;
#[cfg(feature = "debugger")]
pub mod debugger;
#[cfg(feature = "durable")]
pub mod durable;
mod errors;
mod explain;
#[cfg(feature = "graph")]
pub mod graph;
#[cfg(feature = "tokio")]
mod handle;
mod handlers;
#[cfg(feature = "tokio")]
mod journal;
#[cfg(feature = "tokio")]
mod keys;
mod machine;
mod marks;
mod mutation;
#[cfg(feature = "tokio")]
pub mod observe;
#[cfg(feature = "tokio")]
mod owner;
mod payload;
#[cfg(feature = "tokio")]
mod pipe;
mod position;
#[cfg(feature = "tokio")]
mod publisher;
mod queue;
#[cfg(feature = "tokio")]
mod reactor;
mod relations;
#[cfg(feature = "replica")]
pub mod replica;
#[cfg(feature = "tokio")]
mod ring;
mod schema;
#[cfg(feature = "replica")]
mod selection;
mod serde_impl;
mod set;
mod sets;
mod state;
mod steps;
mod tables;
#[cfg(feature = "tokio")]
mod tickets;
#[cfg(feature = "tokio")]
mod trace;
mod transition;
#[cfg(feature = "tokio")]
mod view;
pub mod whatif;
#[cfg(feature = "tokio")]
mod when;
#[cfg(feature = "tokio")]
mod workers;
#[cfg(feature = "tokio")]
mod write;

pub use machine_macros::{handlers, states};

pub use checkpoint::{Checkpoint, InvalidCheckpoint, WaitingMutation};
pub use context::{Ended, Expired, StateContext};
pub use errors::{ERROR_HISTORY, ErrorKind, MachineError};
pub use explain::Explanation;
#[cfg(feature = "tokio")]
pub use handle::{CHANNEL, Checkpointed, Handle};
pub use handlers::{
    AskFn, Binder, BoxError, Cause, Final, Finished, Handlers, Limits, Negotiation, Ongoing, Phase,
    Reactions, TellFn, Verdict,
};
#[cfg(feature = "tokio")]
pub use journal::{Batch, Journal, JournalError, Memory, Moves};
#[cfg(feature = "tokio")]
pub use keys::KEYS;
pub use machine::{
    Diverged, HandlerRun, MAX_ROUNDS, MAX_RUN, Machine, Measured, Recorded, Transition,
};
pub use mutation::{
    IntoStates, MAX_PAYLOAD, Mutation, Op, Outcome, Payloads, Reason, Refusal, StateList,
};
#[cfg(feature = "tokio")]
pub use owner::Owner;
pub use payload::{InvalidPayload, PayloadOf};
#[cfg(feature = "tokio")]
pub use pipe::{Pipe, PipeEnd, PipeRules};
pub use position::{Epoch, InvalidPosition, Position};
pub use queue::{Enqueued, FullQueue, QUEUE_LIMIT};
#[cfg(feature = "tokio")]
pub use reactor::{Reactor, ReactorStats};
#[cfg(feature = "tokio")]
pub use ring::{RING_BYTES, RING_DELTAS};
pub use schema::{
    Axis, Difference, EXCEPTION, Fingerprint, Group, MAX_STATES, Relation, Schema, SchemaBuilder,
    SchemaError, StateDef, StateShape,
};
pub use set::StateSet;
pub use sets::{Basic, StateSource};
pub use state::{DynState, State, States, UnknownState, Words};
pub use steps::Step;
#[cfg(feature = "tokio")]
pub use tickets::TICKETS;
#[cfg(feature = "tokio")]
pub use trace::{InvalidTrace, TraceContext};
pub use transition::Times;
#[cfg(feature = "tokio")]
pub use view::{Changes, STALE_AFTER, Snapshot, View, ViewOptions};
#[cfg(feature = "tokio")]
pub use when::{Closed, Ticks, When};
#[cfg(feature = "tokio")]
pub use write::{
    InvalidKey, Key, MAX_KEY, MutateError, Receipt, WRITE_BYTES, WRITE_CALLS, WRITE_LONGEST,
    WRITE_WITHIN, WriteOptions,
};

/// What the code that `states!` and `handlers` generate refers to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "serde")]
    pub use serde;

    pub use crate::__impl_serde as impl_serde;
    pub use crate::bound::{Answer, Each, Ending, nested, once};
    pub use crate::errors::MachineError;
    pub use crate::handlers::{Binder, Handlers, Reactions};
    pub use crate::mutation::{IntoStates, StateList};
    pub use crate::payload::PayloadOf;
    pub use crate::schema::Schema;
    #[cfg(feature = "serde")]
    pub use crate::serde_impl::state_by_name;
    pub use crate::set::StateSet;
    pub use crate::state::{SchemaCell, State, States, UnknownState};
    pub use crate::tables::{Axis, Group, Lists, Tables};
}

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "tokio", feature = "serde"))]
#[doc = include_str!("../../docs/handlers.md")]
struct Guide;
