//! The macros of `machine_runtime`: `states!` and the attribute `handlers`. Use them from there.
//!
//! What they do is in `machine-expand`, as functions that tests and fuzzers can call: a crate of macros
//! exports nothing else.

/// Generates an enum of states, and everything that a machine of them needs, from a template.
///
/// ```
/// use machine_runtime::{Basic, States, states};
///
/// states! {
///     counts = { flights = 10, gates = 5 };
///
///     /// Statuses of every flight of one airport.
///     pub enum Airport: Basic {
///         for flight in 1..=flights {
///             /// Where flight {flight} is.
///             exclusive Status {
///                 #[auto]
///                 Flight{flight}Scheduled,
///                 #[remove(Flight{flight}Boarding)]
///                 Flight{flight}Departed,
///             }
///             /// Passengers of flight {flight} are called.
///             #[require(Ready, Gates)]
///             Flight{flight}Boarding,
///             group Gates { Flight{flight}AtGate }
///             exclusive Places {
///                 for gate in 1..=gates { Flight{flight}Gate{gate} }
///             }
///         }
///         exclusive Weather { Calm, Storm }
///     }
/// }
///
/// assert_eq!(Airport::boarding(3), Airport::Flight3Boarding);
/// assert_eq!(Airport::gate(3, 5).name(), "Flight3Gate5");
/// assert_eq!(Airport::Flight3Gate5.gate_index(), Some(5));
/// assert_eq!(Airport::status(3), [Airport::Flight3Scheduled, Airport::Flight3Departed]);
/// assert!(Airport::WEATHER.contains(Airport::Storm));
/// assert_eq!(Airport::flights().count(), 10);
/// assert_eq!(Airport::COUNT, 1 + 10 * 9 + 2 + 6);
/// ```
///
/// # Counts
///
/// `counts = { flights = 10, gates = 5 };` gives them inline. `counts = "states.toml";` reads them
/// from a file, whose path is relative to the source file; an edit of it rebuilds:
///
/// ```toml
/// [counts]
/// flights = 10
/// gates = 5
/// ```
///
/// A count that no loop uses is an error. Where templates share a file, each says so:
/// `shared counts = "states.toml";`. A template whose loops run to plain numbers needs no counts.
/// One template for several sizes is an ordinary `macro_rules!` around the call.
///
/// # The template
///
/// * `Name,` declares a state. In a loop the name contains the loop's variable in braces:
///   `Flight{flight}Gate{gate}`.
/// * `for flight in 1..=flights { … }` repeats its body. The last value is a count or a number, the
///   first is a number. Loops nest. Loops whose variables have the same name have the same range.
/// * `exclusive Name { … }` is a group of states that remove each other, `group Name { … }` only
///   names its states. Groups may contain loops and groups. In a loop there is one group per round.
/// * `exclusive Name(A, B)` and `group Name(A, B)` list states and groups that are declared
///   elsewhere, so that a state can be in several groups. A listed group that itself lists comes first.
///
/// Index order, the order of bits and on the wire: `Exception`, which every machine has (multi,
/// without relations), then the states as written, then the inherited sets. A machine has at most
/// 65,534 states, and its relations and groups at most 4,194,304 entries.
///
/// # Attributes
///
/// | attribute of a state | meaning |
/// |---|---|
/// | `#[require(A, B)]` | active only while all of them are |
/// | `#[add(A, B)]` | activates them too |
/// | `#[remove(A, B)]` | deactivates them, and blocks them while active |
/// | `#[after(A, B)]` | handled after them, in one transition |
/// | `#[auto]` | tried after every change |
/// | `#[multi]` | can be activated again while active |
/// | `#[payload(Type)]` | a mutation that activates it may carry a value of the type |
/// | `#[payload(Type, retain)]` | the value is kept, and replicated, while the state is active |
/// | `#[payload(Type, redact)]` | the value is kept out of logs; `retain` may stand beside it |
/// | `#[require_cycle]` | that it requires itself, through others, is meant |
///
/// Relations name states and groups; a group stands for its members, in order. Inside a loop,
/// `Flight{flight}Boarding` and the name of a group mean those of the same round. Lists keep their
/// order; repetitions, a state in its own Remove or After, and what it removes though it adds it,
/// are dropped. The members of exclusive groups come first in Remove.
///
/// A payload's type is written as code after the enum would write it. In sets that others inherit it
/// should be an absolute path, as `::plans::Plan`: each heir has a function for it, and looks the
/// type up where the heir is.
///
/// Doc comments go to the variants and groups, with the values of loop variables for `{flight}`.
/// Attributes of the enum itself are passed on.
///
/// # Inheriting
///
/// `enum Airport: Basic + other::Doors` takes in the states, groups and loops of other `states!`
/// enums, of this crate or another. Each brings what it inherits itself; a set reached twice counts
/// once. Relations can name inherited states; a second state or group of the same name is an error.
///
/// # What it gives
///
/// The enum (`repr(u16)`; `Copy`, ordered by index, `Debug`, `Display` and `FromStr` by name, serde by
/// name with the feature `serde`), an implementation of `machine_runtime::States`, and on the enum:
///
/// * `ALL`, `COUNT`, `index()`, `from_index(index)`, `name()`.
/// * For every state in loops a function of the loop variables, all `usize`: the name's letters
///   without the loops it begins with. `Flight{flight}GoToGate` is `go_to_gate(flight)`,
///   `Flight{flight}Gate{gate}` is `gate(flight, gate)`. Where two would be equal, both keep all
///   their letters (`flight_open`, `door_open`). Out of range they panic, as indexing does.
/// * For every loop variable the range of its values, by the name of its count: `flights()`; for
///   plain numbers the variable and an `s`. And the inverse, `state.flight()`: an `Option<usize>`.
/// * For every group in loops a function like `status(flight)`, a slice of its members; for every
///   other group a constant like `WEATHER`, a `StateSet`.
/// * For every state with a payload a function that names it together with the type:
///   `inbound_payload(flight)` for the state `inbound(flight)`, `open_payload()` for a state `Open`
///   outside loops, and always `exception_payload()`. `Mutation::with`, `Machine::payload`,
///   `View::payload` and `Ongoing::payload` take what it returns, a `PayloadOf`, so that a value of
///   another type does not compile.
///
/// Where names clash, states come before ranges before groups before inverses before payloads, and
/// the latter are called `gates_range()`, `gates_group(flight)`, `GATES_GROUP`, `gate_index()` and
/// `gate_payload_of(flight, gate)`.
///
/// # Errors
///
/// Every mistake is a compile error at the template line, once per line, all of them in one
/// compile: unknown names, duplicates, a state that requires what it removes, a require cycle, a
/// state that can never be active because its requirements exclude each other, a missing or
/// senseless count, too many states, and a `states.toml` that cannot be read. Beside errors the enum
/// is still generated, without relations, so that code which uses it compiles.
#[proc_macro]
pub fn states(tokens: proc_macro::TokenStream) -> proc_macro::TokenStream {
    machine_expand::states(tokens.into()).into()
}

/// Binds methods to states: writes `machine_runtime::Handlers` for the type of an `impl` block.
///
/// ```
/// use std::io;
///
/// use machine_runtime::{Final, Machine, Negotiation, handlers, states};
///
/// states! {
///     counts = { flights = 10, gates = 5 };
///
///     /// Statuses of every flight of one airport.
///     pub enum Flights {
///         for flight in 1..=flights {
///             exclusive Status { Flight{flight}Scheduled, Flight{flight}Departed }
///             exclusive Places { for gate in 1..=gates { Flight{flight}Gate{gate} } }
///         }
///         exclusive Weather { Calm, Storm }
///     }
/// }
///
/// #[derive(Default)]
/// struct Tower {
///     departed: Vec<usize>,
/// }
///
/// #[handlers(Flights)]
/// impl Tower {
///     /// Two flights cannot hold one gate.
///     #[enter(gate)]
///     fn gate_is_free(
///         &self,
///         cx: &mut Negotiation<'_, Flights>,
///         flight: usize,
///         gate: usize,
///     ) -> Result<(), String> {
///         let mut others = Flights::flights().filter(|other| *other != flight);
///         match others.find(|other| cx.is_active(Flights::gate(*other, gate))) {
///             Some(other) => Err(format!("flight {other} is there")),
///             None => Ok(()),
///         }
///     }
///
///     #[between(Storm => departed)]
///     fn departs_after_a_storm(&self, _flight: usize) -> bool {
///         false
///     }
///
///     #[state(departed)]
///     fn departed(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
///         self.departed.push(flight);
///         cx.remove(Flights::places(flight));
///     }
///
///     #[state(WEATHER)]
///     #[end(Exception)]
///     fn report(&mut self) -> Result<(), io::Error> {
///         self.write()
///     }
///
///     fn write(&self) -> Result<(), io::Error> {
///         Ok(())
///     }
/// }
///
/// let mut machine = Machine::<Flights>::new().with(Tower::default());
/// assert!(machine.add(Flights::gate(3, 1)).is_executed());
/// assert!(!machine.add(Flights::gate(4, 1)).is_executed());
/// assert!(machine.add(Flights::departed(3)).is_executed());
/// assert!(!machine.is_active(Flights::gate(3, 1)));
/// assert_eq!(machine.handlers::<Tower>().unwrap().departed, [3]);
/// ```
///
/// # Phases
///
/// | attribute | the method runs | it takes and returns |
/// |---|---|---|
/// | `#[exit(A, b)]` | before one of the states ends | negotiation |
/// | `#[enter(A, b)]` | before one begins, or a multi state is called again | negotiation |
/// | `#[stay(A, b)]` | before an active one stays | negotiation |
/// | `#[between(A, b => C, d)]` | where one on the left was active and one on the right would be | negotiation |
/// | `#[any_enter]` | last of these, once a transition | negotiation |
/// | `#[end(A, b)]` | after one has ended | final |
/// | `#[state(A, b)]` | after one has begun, or a multi state was called again | final |
/// | `#[any_state]` | last of all, once a transition | final |
///
/// | kind | receiver | context | returns |
/// |---|---|---|---|
/// | negotiation | `&self` | `&mut Negotiation<'_, Flights>` | `bool`, `Result<(), impl Into<String>>` or `Verdict` |
/// | final | `&mut self` or `&self` | `&mut Final<'_, Flights>` | nothing, or `Result<(), impl Into<BoxError>>` |
///
/// A method may have several of these attributes, all of one kind. Methods without one are left
/// alone, as is everything else in the block. Within a state and phase methods run in the order in
/// which they are written; one that is bound to a state twice, as by the state and by its group,
/// runs once.
///
/// # States
///
/// | written | means |
/// |---|---|
/// | `Exception` | the state |
/// | `WEATHER` | each state of the group |
/// | `gate` | the state `Flights::gate(flight, gate)`, with the loop variables that the method takes |
/// | `status` | each state of the group `Flights::status(flight)`, likewise |
/// | `departed(flight)`, `gate(flight, 1)` | the same with these of the loop variables, or with numbers |
///
/// # Parameters
///
/// After the receiver comes the context, if the method wants it (`&Ongoing<'_, Flights>` does as
/// well), then loop variables of the template: `usize`, found by their names, in the order in which
/// the loops nest. The method is bound once for each of their values, in every combination. An
/// underscore before the name does not count: `_gate: usize`. Every state must depend on every loop
/// variable, of a pair one of the two; a single state belongs in a method without them.
///
/// # What it gives
///
/// An implementation of `Handlers<Flights>`, with the generics of the block, and one of
/// `Reactions<Flights>` if no method negotiates. So there is one block with `handlers` for each
/// enum and type. `#[cfg(…)]` on a method, or on the block, is that of its bindings, too.
///
/// # Errors
///
/// What is wrong with phases, receivers and parameters is a compile error where it stands, all of
/// it in one compile. Misspelt states and loop variables are the compiler's own errors at the name,
/// with what it suggests; so are types, at the parameter or the type that is returned. Beside
/// errors the block is still there, without phases, and sound methods are bound.
#[proc_macro_attribute]
pub fn handlers(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    machine_expand::handlers(arguments.into(), item.into()).into()
}
