//! What is asked of a machine, and what came of it.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::handlers::Phase;
#[cfg(feature = "serde")]
use crate::payload::PayloadOf;
use crate::set::StateSet;
use crate::state::State;

/// The largest payload in bytes: state is not data.
pub const MAX_PAYLOAD: usize = 1024;

/// What a mutation does with the states it calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(
    any(feature = "durable", feature = "replica"),
    derive(serde::Serialize, serde::Deserialize)
)]
#[non_exhaustive]
pub enum Op {
    /// Activates them.
    Add,
    /// Deactivates them.
    Remove,
    /// Makes them, and what they add, the only active ones.
    Set,
    /// Removes them if all are active, else adds them.
    Toggle,
}

impl Op {
    /// The name on the wire and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Set => "set",
            Self::Toggle => "toggle",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One state or several, in an order that matters: of two called states that remove each other
/// the later one loses (rule R9).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a state nor several",
    label = "expected a state of `{S}`, a list, a group or a set of them"
)]
pub trait IntoStates<S> {
    /// Appends the states to `list`.
    fn append_to(self, list: &mut StateList<S>);
}

/// The called states of a mutation, without an allocation up to eight.
pub type StateList<S> = SmallVec<[S; 8]>;

/// The payloads of a mutation: a called state and its bytes, without an allocation for one.
pub type Payloads<S> = SmallVec<[(S, Bytes); 1]>;

impl<S: State> IntoStates<S> for S {
    fn append_to(self, list: &mut StateList<S>) {
        list.push(self);
    }
}

impl<S: State, const N: usize> IntoStates<S> for [S; N] {
    fn append_to(self, list: &mut StateList<S>) {
        list.extend_from_slice(&self);
    }
}

impl<S: State> IntoStates<S> for &[S] {
    fn append_to(self, list: &mut StateList<S>) {
        list.extend_from_slice(self);
    }
}

impl<S: State> IntoStates<S> for Vec<S> {
    fn append_to(self, list: &mut StateList<S>) {
        list.extend(self);
    }
}

impl<S: State> IntoStates<S> for StateList<S> {
    fn append_to(self, list: &mut Self) {
        list.extend(self);
    }
}

impl<S: State> IntoStates<S> for StateSet<S> {
    fn append_to(self, list: &mut StateList<S>) {
        list.extend(self.iter());
    }
}

impl<S: State> IntoStates<S> for &StateSet<S> {
    fn append_to(self, list: &mut StateList<S>) {
        list.extend(self.iter());
    }
}

/// A request to change the active states.
///
/// ```
/// use machine_runtime::{DynState, Mutation, Op};
///
/// let mutation = Mutation::add([DynState(1), DynState(2)]).with_payload(DynState(1), "\"B2\"");
/// assert_eq!(mutation.op(), Op::Add);
/// ```
///
/// Its `Debug` shows the length of payloads, never their bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Mutation<S> {
    op: Op,
    states: StateList<S>,
    payloads: Payloads<S>,
}

impl<S: State> Mutation<S> {
    /// A mutation that does `op` with `states`. Repeats collapse to the first (rule R4).
    pub fn new(op: Op, states: impl IntoStates<S>) -> Self {
        let mut mutation = Self {
            op,
            states: StateList::new(),
            payloads: Payloads::new(),
        };
        states.append_to(&mut mutation.states);
        mutation
    }

    /// Activates `states`.
    pub fn add(states: impl IntoStates<S>) -> Self {
        Self::new(Op::Add, states)
    }

    /// Deactivates `states`.
    pub fn remove(states: impl IntoStates<S>) -> Self {
        Self::new(Op::Remove, states)
    }

    /// Makes `states`, and what they add, the only active ones.
    pub fn set(states: impl IntoStates<S>) -> Self {
        Self::new(Op::Set, states)
    }

    /// Removes `states` if all are active, else adds them.
    pub fn toggle(states: impl IntoStates<S>) -> Self {
        Self::new(Op::Toggle, states)
    }

    /// Attaches bytes for one of the called states; they travel with the mutation. A state that
    /// retains its payload keeps them while the mutation that called it has it active. At most
    /// [`MAX_PAYLOAD`] bytes, JSON by convention. A second one for the same state replaces the first.
    #[must_use]
    pub fn with_payload(mut self, state: S, payload: impl Into<Bytes>) -> Self {
        self.payloads.retain(|(other, _)| *other != state);
        self.payloads.push((state, payload.into()));
        self
    }

    /// Attaches a value for one of the called states, see [`Mutation::with_payload`]. A value of
    /// another type than the state's does not compile.
    ///
    /// # Panics
    ///
    /// If `value` cannot be JSON, as a map whose keys are not texts.
    #[cfg(feature = "serde")]
    #[must_use]
    pub fn with<T: serde::Serialize>(self, of: PayloadOf<S, T>, value: &T) -> Self {
        self.with_payload(of.state(), of.encode(value))
    }

    /// What is done.
    pub fn op(&self) -> Op {
        self.op
    }

    /// The states as given.
    pub fn states(&self) -> &[S] {
        &self.states
    }

    /// The attached bytes, each with its state.
    pub fn payloads(&self) -> &[(S, Bytes)] {
        &self.payloads
    }
}

impl<S: fmt::Debug> fmt::Debug for Mutation<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self
            .payloads
            .iter()
            .map(|(state, bytes)| (state, bytes.len()));
        f.debug_struct("Mutation")
            .field("op", &self.op)
            .field("states", &self.states)
            .field("payload_lengths", &lengths.collect::<SmallVec<[_; 1]>>())
            .finish()
    }
}

/// How a mutation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    any(feature = "durable", feature = "replica"),
    derive(serde::Serialize, serde::Deserialize)
)]
#[non_exhaustive]
#[must_use = "a mutation can be canceled"]
pub enum Outcome<S> {
    /// It was carried out, even if that changed nothing.
    Executed,
    /// It changed nothing, and why.
    Canceled(Reason<S>),
}

impl<S> Outcome<S> {
    /// The same outcome in terms of other state types.
    pub fn map<T>(self, state_of: impl Fn(S) -> T) -> Outcome<T> {
        match self {
            Self::Executed => Outcome::Executed,
            Self::Canceled(reason) => Outcome::Canceled(reason.map(state_of)),
        }
    }

    /// Whether the mutation was carried out.
    pub fn is_executed(&self) -> bool {
        matches!(self, Self::Executed)
    }

    /// For callers to whom a refusal is an error.
    ///
    /// ```
    /// # use machine_runtime::{Basic, Machine};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut machine = Machine::<Basic>::new();
    /// let refused = machine.add(Basic::Ready).into_result().unwrap_err();
    /// assert_eq!(refused.to_string(), "Ready requires Start, which is not active");
    /// machine.add(Basic::Start).into_result()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Why it was canceled.
    pub fn into_result(self) -> Result<(), Reason<S>> {
        match self {
            Self::Executed => Ok(()),
            Self::Canceled(reason) => Err(reason),
        }
    }
}

/// Why a mutation was canceled. On the wire variants go by their place.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    any(feature = "durable", feature = "replica"),
    derive(serde::Serialize, serde::Deserialize)
)]
#[non_exhaustive]
pub enum Reason<S> {
    /// A called state is removed by another that stays or is called too.
    Blocked {
        /// The called state.
        state: S,
        /// What removes it.
        by: S,
    },
    /// A called state requires one that is not, or would not stay, active.
    Missing {
        /// The called state.
        state: S,
        /// What it requires.
        requires: S,
    },
    /// None of the auto states could be activated.
    NoCandidate,
    /// A negotiation handler refused (rule R15).
    Refused(Box<Refusal<S>>),
    /// A handler panicked (rule R26). In a final phase the ticks have changed all the same.
    Panicked {
        /// The handler's phase.
        phase: Phase,
        /// The state that it was for.
        state: Option<S>,
    },
    /// A handler took longer than it may (rule R27). In a final phase the ticks have changed all
    /// the same.
    TimedOut {
        /// The handler's phase.
        phase: Phase,
        /// The state that it was for.
        state: Option<S>,
    },
    /// As many mutations wait as the queue holds (rule R33).
    QueueFull,
    /// It waited in a full queue that drops its oldest for what comes.
    Displaced,
    /// A handler took so long that the queue was emptied, and for a while everything from outside
    /// is refused (rule R27).
    BackingOff,
    /// Mutations that handlers appended caused each other without end, and what waited was cut off
    /// (rule R34).
    Runaway,
    /// A payload has more than [`MAX_PAYLOAD`] bytes.
    PayloadTooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// A payload is for a state that takes none, or that the mutation does not call.
    PayloadUnwanted {
        /// The state.
        state: S,
    },
}

/// Which negotiation handler refused, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    any(feature = "durable", feature = "replica"),
    derive(serde::Serialize, serde::Deserialize)
)]
pub struct Refusal<S> {
    /// The handler's phase.
    pub phase: Phase,
    /// The state that it was for.
    pub state: Option<S>,
    /// Why, if it said so.
    pub why: Option<Cow<'static, str>>,
}

impl<S> Reason<S> {
    /// Whether a final handler was why: the ticks have changed all the same (rule R26).
    pub fn is_final(&self) -> bool {
        match self {
            Self::Panicked { phase, .. } | Self::TimedOut { phase, .. } => *phase >= Phase::End,
            _ => false,
        }
    }

    /// All codes.
    pub const CODES: [&'static str; 12] = [
        "blocked",
        "missing",
        "no_candidate",
        "refused",
        "panicked",
        "timed_out",
        "queue_full",
        "displaced",
        "backing_off",
        "runaway",
        "payload_too_large",
        "payload_unwanted",
    ];

    /// The reason in one word, as HTTP, metrics and logs have it.
    pub fn code(&self) -> &'static str {
        Self::CODES[self.place()]
    }

    /// Its place among all codes.
    pub(crate) fn place(&self) -> usize {
        match self {
            Self::Blocked { .. } => 0,
            Self::Missing { .. } => 1,
            Self::NoCandidate => 2,
            Self::Refused(_) => 3,
            Self::Panicked { .. } => 4,
            Self::TimedOut { .. } => 5,
            Self::QueueFull => 6,
            Self::Displaced => 7,
            Self::BackingOff => 8,
            Self::Runaway => 9,
            Self::PayloadTooLarge { .. } => 10,
            Self::PayloadUnwanted { .. } => 11,
        }
    }

    /// The same reason in terms of other state types.
    pub fn map<T>(self, state_of: impl Fn(S) -> T) -> Reason<T> {
        match self {
            Self::Blocked { state, by } => Reason::Blocked {
                state: state_of(state),
                by: state_of(by),
            },
            Self::Missing { state, requires } => Reason::Missing {
                state: state_of(state),
                requires: state_of(requires),
            },
            Self::NoCandidate => Reason::NoCandidate,
            Self::QueueFull => Reason::QueueFull,
            Self::Displaced => Reason::Displaced,
            Self::BackingOff => Reason::BackingOff,
            Self::Runaway => Reason::Runaway,
            Self::Refused(refusal) => Reason::Refused(Box::new(Refusal {
                phase: refusal.phase,
                state: refusal.state.map(state_of),
                why: refusal.why,
            })),
            Self::Panicked { phase, state } => Reason::Panicked {
                phase,
                state: state.map(state_of),
            },
            Self::TimedOut { phase, state } => Reason::TimedOut {
                phase,
                state: state.map(state_of),
            },
            Self::PayloadTooLarge { len } => Reason::PayloadTooLarge { len },
            Self::PayloadUnwanted { state } => Reason::PayloadUnwanted {
                state: state_of(state),
            },
        }
    }
}

impl<S: fmt::Debug> std::error::Error for Reason<S> {}

impl<S: fmt::Debug> fmt::Display for Reason<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked { state, by } => write!(f, "{state:?} is blocked by {by:?}"),
            Self::Missing { state, requires } => {
                write!(f, "{state:?} requires {requires:?}, which is not active")
            }
            Self::NoCandidate => f.write_str("no auto state can be activated"),
            Self::QueueFull => f.write_str("the queue is full"),
            Self::Displaced => f.write_str("a full queue dropped it for a newer one"),
            Self::BackingOff => {
                f.write_str("the machine recovers from a handler that took too long")
            }
            Self::Runaway => f.write_str("handlers caused mutations without end"),
            Self::Refused(refusal) => {
                let Refusal { phase, state, why } = &**refusal;
                write!(f, "refused by {phase}")?;
                if let Some(state) = state {
                    write!(f, " of {state:?}")?;
                }
                why.iter().try_for_each(|why| write!(f, ": {why}"))
            }
            Self::Panicked { phase, state } => {
                write!(f, "a handler panicked: {phase}")?;
                state
                    .iter()
                    .try_for_each(|state| write!(f, " of {state:?}"))
            }
            Self::TimedOut { phase, state } => {
                write!(f, "a handler took too long: {phase}")?;
                state
                    .iter()
                    .try_for_each(|state| write!(f, " of {state:?}"))
            }
            Self::PayloadTooLarge { len } => {
                write!(
                    f,
                    "a payload of {len} bytes, at most {MAX_PAYLOAD} are allowed"
                )
            }
            Self::PayloadUnwanted { state } => {
                write!(
                    f,
                    "a payload for {state:?}, which takes none or is not called"
                )
            }
        }
    }
}
