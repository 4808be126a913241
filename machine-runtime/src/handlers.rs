//! Code bound to states: which there is, when it runs, and what it may do.
//!
//! [`Handlers`] is what a type with handlers implements, nearly always through the attribute macro
//! [`handlers`](crate::handlers); a [`Binder`] collects them. A transition asks or tells them in
//! this order, with the machine as it was before in the upper half and as it is after in the lower
//! one (rules R13, R14, R18):
//!
//! ```text
//!                 ┌ exit      each state that would end           ─┐
//!                 │ enter     each state that would begin          │  `&self`, may refuse:
//!  negotiation    ┤ stay      each state that stays                │  nothing has changed yet
//!                 │ between   each pair of one before, one after   │
//!                 └ any_enter once                                ─┘
//!  ───────────────  ticks change, contexts of states end  ───────────────────────────────────
//!                 ┌ end       each state that ended               ─┐
//!  final          ┤ state     each state that began                │  `&mut self`
//!                 └ any_state once                                ─┘
//! ```

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use smallvec::SmallVec;

use crate::mutation::{IntoStates, StateList};

use crate::schema::as_index;
use crate::state::State;

mod dispatch;
mod ongoing;
#[cfg(feature = "tokio")]
mod work;

pub use dispatch::Limits;
pub(crate) use dispatch::{Asking, Caller, Dispatch, Leave, Stopwatch};
#[cfg(feature = "tokio")]
pub(crate) use dispatch::{Stopped, panic_message};
pub use ongoing::{Cause, Final, Negotiation, Ongoing};
#[cfg(feature = "tokio")]
pub(crate) use work::Work;

/// When in a transition a handler runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Phase {
    /// Asked whether a state may end.
    Exit,
    /// Asked whether a state may begin, or a multi state be called again.
    Enter,
    /// Asked whether an active state may stay.
    Stay,
    /// Asked whether a state may be active after another was before.
    Between,
    /// Asked last, once a transition.
    AnyEnter,
    /// Told that a state has ended.
    End,
    /// Told that a state has begun, or that a multi state was called again.
    State,
    /// Told last, once a transition.
    AnyState,
}

impl Phase {
    /// All phases, in the order in which they run.
    pub const ALL: [Self; 8] = [
        Self::Exit,
        Self::Enter,
        Self::Stay,
        Self::Between,
        Self::AnyEnter,
        Self::End,
        Self::State,
        Self::AnyState,
    ];

    /// Where a phase of one state is among the five of them.
    pub(crate) fn place(self) -> Option<usize> {
        match self {
            Self::Exit => Some(0),
            Self::Enter => Some(1),
            Self::Stay => Some(2),
            Self::End => Some(3),
            Self::State => Some(4),
            Self::Between | Self::AnyEnter | Self::AnyState => None,
        }
    }

    /// The phase's name in attributes, logs and reasons.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Enter => "enter",
            Self::Stay => "stay",
            Self::Between => "between",
            Self::AnyEnter => "any_enter",
            Self::End => "end",
            Self::State => "state",
            Self::AnyState => "any_state",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a negotiation handler says. `bool` and `Result<(), impl Into<String>>` become one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a refusal cancels the transition"]
pub enum Verdict {
    /// As far as this handler is concerned it may happen.
    Accept,
    /// It may not, and why, in words for whoever asked.
    Refuse(Option<Cow<'static, str>>),
}

impl Verdict {
    /// A refusal that says why.
    pub fn refuse(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Refuse(Some(why.into()))
    }
}

impl From<bool> for Verdict {
    fn from(accepts: bool) -> Self {
        if accepts {
            Self::Accept
        } else {
            Self::Refuse(None)
        }
    }
}

impl<E: Into<String>> From<Result<(), E>> for Verdict {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Accept,
            Err(why) => Self::refuse(why.into()),
        }
    }
}

/// An error of any type, as handlers and spawned work return it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a final handler, or spawned work, leaves. `()` and `Result<(), impl Into<BoxError>>` become
/// one, and what `Handle::mutate` returns. An error is
/// added to the machine (rule R28); the transition stands.
#[derive(Debug)]
pub struct Finished(pub(crate) Result<(), BoxError>);

impl From<()> for Finished {
    fn from((): ()) -> Self {
        Self(Ok(()))
    }
}

impl<E: Into<BoxError>> From<Result<(), E>> for Finished {
    fn from(result: Result<(), E>) -> Self {
        Self(result.map_err(Into::into))
    }
}

/// A type whose methods are bound to states of `S`.
///
/// The attribute macro [`handlers`](crate::handlers) on an `impl` block writes this. By hand, for a
/// schema made at run time:
///
/// ```
/// use machine_runtime::{Binder, DynState, Handlers, Machine, Outcome, Schema, StateDef};
///
/// struct Lock { code: Option<u32> }
///
/// impl Handlers<DynState> for Lock {
///     fn bind(&self, binder: &mut Binder<Self, DynState>) {
///         let open = DynState(1);
///         binder.enter(open, &[], |lock, _cx, _at| (lock.code == Some(7)).into());
///         binder.state(open, &[], |lock, _cx, _at| {
///             lock.code = None;
///             ().into()
///         });
///     }
/// }
///
/// let schema = Schema::builder("Safe").state(StateDef::new("Open")).build()?;
/// let mut safe = Machine::with_schema(schema.into());
/// safe.bind(Lock { code: Some(7) });
/// assert!(safe.add(DynState(1)).is_executed());
/// assert!(safe.remove(DynState(1)).is_executed());
/// assert!(!safe.add(DynState(1)).is_executed());
/// # Ok::<(), machine_runtime::SchemaError>(())
/// ```
pub trait Handlers<S: State>: Sized + Send + 'static {
    /// Binds the methods.
    fn bind(&self, binder: &mut Binder<Self, S>);
}

/// [`Handlers`] without negotiation, as `handlers` finds them. Only these can run on a replica,
/// which has no say in what the root decided.
pub trait Reactions<S: State>: Handlers<S> {}

/// A negotiation handler: the last argument are the values of the loop variables.
pub type AskFn<H, S> = fn(&H, &mut Negotiation<'_, S>, &[usize]) -> Verdict;

/// A final handler: the last argument are the values of the loop variables.
pub type TellFn<H, S> = fn(&mut H, &mut Final<'_, S>, &[usize]) -> Finished;

/// Which of a set's handlers, and with which values of the loop variables.
type Place = SmallVec<[usize; 2]>;

/// Collects the handlers of one set. The states that a handler is bound to come as one, several, a
/// group or a set.
///
/// A state that the machine does not have is a panic when the set is bound.
pub struct Binder<H, S: State> {
    asks: Vec<(AskFn<H, S>, Place)>,
    tells: Vec<(TellFn<H, S>, Place)>,
    pub(crate) bound: Vec<Binding>,
    states: std::marker::PhantomData<S>,
}

/// One handler of a set, at one state or pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) phase: Phase,
    /// The state; of a pair, the one before. 0 for the `any` phases.
    pub(crate) state: u32,
    /// The state after, of a pair.
    pub(crate) other: u32,
    /// Which of the set's `asks` or `tells`.
    pub(crate) slot: u32,
}

impl<H: Handlers<S>, S: State> Binder<H, S> {
    pub(crate) fn collect(handlers: &H) -> Self {
        let mut binder = Self {
            asks: Vec::new(),
            tells: Vec::new(),
            bound: Vec::new(),
            states: std::marker::PhantomData,
        };
        handlers.bind(&mut binder);
        binder
    }

    /// Asked before `states` end. `at` is handed to `ask`.
    pub fn exit(&mut self, states: impl IntoStates<S>, at: &[usize], ask: AskFn<H, S>) {
        self.ask(Phase::Exit, states, at, ask);
    }

    /// Asked before `states` begin.
    pub fn enter(&mut self, states: impl IntoStates<S>, at: &[usize], ask: AskFn<H, S>) {
        self.ask(Phase::Enter, states, at, ask);
    }

    /// Asked before `states` stay active.
    pub fn stay(&mut self, states: impl IntoStates<S>, at: &[usize], ask: AskFn<H, S>) {
        self.ask(Phase::Stay, states, at, ask);
    }

    /// Asked where one of `before` was active and one of `after` would be, each such pair of
    /// different states.
    pub fn between(
        &mut self,
        before: impl IntoStates<S>,
        after: impl IntoStates<S>,
        at: &[usize],
        ask: AskFn<H, S>,
    ) {
        let slot = self.new_ask(at, ask);
        let (before, after) = (list(before), list(after));
        for state in &before {
            for other in after.iter().filter(|other| *other != state) {
                self.bound.push(Binding {
                    phase: Phase::Between,
                    state: *state,
                    other: *other,
                    slot,
                });
            }
        }
    }

    /// Asked last, once a transition.
    pub fn any_enter(&mut self, ask: AskFn<H, S>) {
        self.any_enter_at(&[], ask);
    }

    /// Asked last, once a transition. `at` is handed to `ask`.
    pub fn any_enter_at(&mut self, at: &[usize], ask: AskFn<H, S>) {
        let slot = self.new_ask(at, ask);
        self.at(Phase::AnyEnter, 0, slot);
    }

    /// Told after `states` ended.
    pub fn end(&mut self, states: impl IntoStates<S>, at: &[usize], tell: TellFn<H, S>) {
        self.tell(Phase::End, states, at, tell);
    }

    /// Told after `states` began.
    pub fn state(&mut self, states: impl IntoStates<S>, at: &[usize], tell: TellFn<H, S>) {
        self.tell(Phase::State, states, at, tell);
    }

    /// Told last, once a transition.
    pub fn any_state(&mut self, tell: TellFn<H, S>) {
        self.any_state_at(&[], tell);
    }

    /// Told last, once a transition. `at` is handed to `tell`.
    pub fn any_state_at(&mut self, at: &[usize], tell: TellFn<H, S>) {
        let slot = self.new_tell(at, tell);
        self.at(Phase::AnyState, 0, slot);
    }

    fn ask(&mut self, phase: Phase, states: impl IntoStates<S>, at: &[usize], ask: AskFn<H, S>) {
        let slot = self.new_ask(at, ask);
        for state in list(states) {
            self.at(phase, state, slot);
        }
    }

    fn tell(&mut self, phase: Phase, states: impl IntoStates<S>, at: &[usize], tell: TellFn<H, S>) {
        let slot = self.new_tell(at, tell);
        for state in list(states) {
            self.at(phase, state, slot);
        }
    }

    fn new_ask(&mut self, at: &[usize], ask: AskFn<H, S>) -> u32 {
        self.asks.push((ask, at.into()));
        as_index(self.asks.len() - 1)
    }

    fn new_tell(&mut self, at: &[usize], tell: TellFn<H, S>) -> u32 {
        self.tells.push((tell, at.into()));
        as_index(self.tells.len() - 1)
    }

    fn at(&mut self, phase: Phase, state: u32, slot: u32) {
        self.bound.push(Binding {
            phase,
            state,
            other: 0,
            slot,
        });
    }
}

fn list<S: State>(states: impl IntoStates<S>) -> StateList<u32> {
    let mut list = StateList::new();
    states.append_to(&mut list);
    list.iter().map(|state| as_index(state.index())).collect()
}

impl<H, S: State> fmt::Debug for Binder<H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binder")
            .field("bound", &self.bound.len())
            .finish_non_exhaustive()
    }
}

/// A set of handlers, whatever its type.
pub(crate) trait HandlerSet<S: State>: Any + Send {
    fn ask(&self, slot: u32, cx: &mut Negotiation<'_, S>) -> Verdict;

    fn tell(&mut self, slot: u32, cx: &mut Final<'_, S>) -> Finished;

    /// The user's value.
    fn value(&self) -> &dyn Any;
}

/// The user's value with its handlers.
pub(crate) struct BoundSet<H, S: State> {
    handlers: H,
    asks: Vec<(AskFn<H, S>, Place)>,
    tells: Vec<(TellFn<H, S>, Place)>,
}

impl<H: Handlers<S>, S: State> BoundSet<H, S> {
    pub(crate) fn new(handlers: H, binder: Binder<H, S>) -> Self {
        Self {
            handlers,
            asks: binder.asks,
            tells: binder.tells,
        }
    }
}

impl<H: Handlers<S>, S: State> HandlerSet<S> for BoundSet<H, S> {
    fn ask(&self, slot: u32, cx: &mut Negotiation<'_, S>) -> Verdict {
        let (ask, at) = &self.asks[slot as usize];
        ask(&self.handlers, cx, at)
    }

    fn tell(&mut self, slot: u32, cx: &mut Final<'_, S>) -> Finished {
        let (tell, at) = &self.tells[slot as usize];
        tell(&mut self.handlers, cx, at)
    }

    fn value(&self) -> &dyn Any {
        &self.handlers
    }
}
