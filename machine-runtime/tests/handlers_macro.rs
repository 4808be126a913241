//! The attribute macro `handlers`: what each phase binds, and with which values.

use std::borrow::Cow;
use std::io;

use machine_runtime::{
    Basic, ErrorKind, Final, Handlers, Machine, Mutation, Negotiation, Ongoing, Outcome, Phase,
    Reactions, Reason, Refusal, Verdict, handlers, states,
};

states! {
    counts = { flights = 3, gates = 2 };

    /// One airport.
    pub enum Flights: Basic {
        for flight in 1..=flights {
            exclusive Status {
                Flight{flight}Scheduled,
                Flight{flight}Boarding,
                Flight{flight}Departed,
            }
            exclusive Places { for gate in 1..=gates { Flight{flight}Gate{gate} } }
        }
        exclusive Weather { Calm, Storm }
        #[multi]
        Tick,
    }
}

/// Refuses what it must, and notes what it is told.
#[derive(Default)]
struct Tower {
    closed: bool,
    told: Vec<String>,
}

#[handlers(Flights)]
impl Tower {
    const NOTHING: [(); 1] = { [()] };

    /// Two flights cannot hold one gate.
    #[enter(gate)]
    fn gate_is_free(
        &self,
        cx: &mut Negotiation<'_, Flights>,
        flight: usize,
        gate: usize,
    ) -> Result<(), String> {
        let mut others = Flights::flights().filter(|other| *other != flight);
        match others.find(|other| cx.is_active(Flights::gate(*other, gate))) {
            Some(other) => Err(format!("flight {other} is at gate {gate}")),
            None => Ok(()),
        }
    }

    #[exit(boarding)]
    #[must_use]
    fn boarding_ends(&self, _flight: usize) -> bool {
        !self.closed
    }

    #[stay(WEATHER, Storm)]
    fn only_calm_stays(&self, cx: &Ongoing<'_, Flights>) -> Verdict {
        if cx.state() == Some(Flights::Storm) && cx.is_called(Flights::Ready) {
            return Verdict::refuse("a storm");
        }
        Verdict::Accept
    }

    #[between(scheduled => departed)]
    #[between(Storm => departed(flight))]
    pub(crate) fn boards_first(&self, flight: usize) -> bool {
        flight == 3
    }

    #[any_enter]
    fn healthy(&self, cx: &mut Negotiation<'_, Flights>) -> Result<(), &'static str> {
        if cx.is_called(Flights::Healthcheck) {
            return Err("not well");
        }
        Ok(())
    }

    #[end(status, places)]
    fn ended(&mut self, cx: &mut Final<'_, Flights>, flight: usize) {
        self.note("end", cx, &[flight]);
    }

    #[state(gate)]
    fn at_gate(&mut self, cx: &mut Final<'_, Flights>, flight: usize, gate: usize) {
        self.note("state", cx, &[flight, gate]);
    }

    #[state(status, departed)]
    #[state(boarding)]
    #[end(boarding)]
    fn moved(&mut self, cx: &mut Final<'_, Flights>, r#flight: usize) -> Result<(), io::Error> {
        self.note("moved", cx, &[flight]);
        if flight == 2 && cx.is_active(Flights::departed(2)) {
            return Err(io::Error::other("lost"));
        }
        Ok(())
    }

    #[state(gate(2, 1))]
    fn only_one(&mut self) {
        self.told.push("only".to_owned());
    }

    #[any_state]
    fn tick(&mut self) {
        self.told.push("any".to_owned());
    }

    #[cfg(any())]
    #[enter(nothing)]
    fn of_another_program(&self, nothing: usize) -> u8 {
        nothing
    }

    fn note(&mut self, what: &str, cx: &Ongoing<'_, Flights>, at: &[usize]) {
        let state = cx.state().map_or("none", Flights::name);
        self.told.push(format!("{what} {state} {at:?}"));
        let [()] = Self::NOTHING;
    }
}

fn tower() -> Machine<Flights> {
    Machine::new().with(Tower::default())
}

/// What was told after the first `from` notes.
#[track_caller]
fn check(machine: &Machine<Flights>, from: usize, expected: &[&str]) {
    let told = &machine
        .handlers::<Tower>()
        .expect("the tower is bound")
        .told;
    assert_eq!(&told[from..], expected);
}

fn refused(phase: Phase, state: Option<Flights>, why: Option<&str>) -> Outcome<Flights> {
    let why = why.map(|why| Cow::Owned(why.to_owned()));
    Outcome::Canceled(Reason::Refused(Box::new(Refusal { phase, state, why })))
}

#[test]
fn handlers_of_a_template_get_their_loop_variables() {
    let mut machine = tower();
    assert!(machine.add(Flights::gate(3, 2)).is_executed());
    check(&machine, 0, &["state Flight3Gate2 [3, 2]", "any"]);
    assert_eq!(
        machine.add(Flights::gate(1, 2)),
        refused(
            Phase::Enter,
            Some(Flights::Flight1Gate2),
            Some("flight 3 is at gate 2")
        )
    );
    assert!(machine.add(Flights::gate(2, 1)).is_executed());
    check(&machine, 2, &["state Flight2Gate1 [2, 1]", "only", "any"]);
}

#[test]
fn groups_and_several_attributes_bind_each_state_once() {
    let mut machine = tower();
    assert!(machine.add(Flights::boarding(1)).is_executed());
    check(&machine, 0, &["moved Flight1Boarding [1]", "any"]);
    assert!(machine.add(Flights::departed(1)).is_executed());
    check(
        &machine,
        2,
        &[
            "end Flight1Boarding [1]",
            "moved Flight1Boarding [1]",
            "moved Flight1Departed [1]",
            "any",
        ],
    );
}

#[test]
fn pairs_are_asked_for() {
    let mut machine = tower();
    assert!(machine.add(Flights::scheduled(1)).is_executed());
    assert_eq!(
        machine.add(Flights::departed(1)),
        refused(Phase::Between, Some(Flights::departed(1)), None)
    );
    assert!(
        machine
            .add([Flights::Storm, Flights::scheduled(3)])
            .is_executed()
    );
    assert_eq!(machine.add(Flights::departed(3)), Outcome::Executed);
    assert_eq!(
        machine.mutate(&Mutation::set(Flights::departed(1))),
        refused(Phase::Between, Some(Flights::departed(1)), None)
    );
}

#[test]
fn constants_exits_and_the_end_of_negotiation_are_asked() {
    let mut machine = Machine::new().with(Tower {
        closed: true,
        ..Tower::default()
    });
    assert!(
        machine
            .add([Flights::Start, Flights::Storm, Flights::boarding(2)])
            .is_executed()
    );
    assert_eq!(
        machine.add(Flights::Ready),
        refused(Phase::Stay, Some(Flights::Storm), Some("a storm"))
    );
    assert_eq!(
        machine.remove(Flights::boarding(2)),
        refused(Phase::Exit, Some(Flights::boarding(2)), None)
    );
    assert_eq!(
        machine.add(Flights::Healthcheck),
        refused(Phase::AnyEnter, None, Some("not well"))
    );
}

#[test]
fn an_error_that_is_returned_becomes_the_machines() {
    let mut machine = tower();
    assert!(machine.add(Flights::departed(2)).is_executed());
    assert!(machine.is_active(Flights::Exception));
    let error = machine.errors().next().unwrap();
    assert_eq!(error.kind, ErrorKind::Returned);
    assert_eq!(error.message, "lost");
    assert_eq!(error.state.as_deref(), Some("Flight2Departed"));
}

/// Generic, and without negotiation.
struct Log<T, const N: usize>
where
    T: Default + Send + 'static,
{
    last: Option<T>,
    count: [u32; N],
}

#[handlers(Flights)]
impl<T, const N: usize> Log<T, N>
where
    T: Default + Send + 'static,
{
    #[state(Exception, Tick)]
    #[end(Tick)]
    fn note<'s>(&'s mut self, cx: &'s mut Final<'_, Flights>) -> Result<(), &'static str> {
        self.last = Some(T::default());
        let state = cx.state().ok_or("it is bound to states")?;
        self.count[usize::from(state == Flights::Tick)] += 1;
        Ok(())
    }

    #[cfg(any())]
    #[exit(Tick)]
    fn never(&self) -> bool {
        false
    }
}

#[test]
fn a_generic_set_without_negotiation_only_reacts() {
    fn reacts<H: Reactions<Flights> + Handlers<Flights>>(handlers: H) -> H {
        handlers
    }
    let log = Log::<u8, 2> {
        last: None,
        count: [0; 2],
    };
    let mut machine = Machine::new().with(reacts(log));
    assert!(machine.add(Flights::Tick).is_executed());
    assert!(machine.add(Flights::Tick).is_executed());
    assert!(machine.remove(Flights::Tick).is_executed());
    let log = machine.handlers::<Log<u8, 2>>().unwrap();
    assert_eq!((log.last, log.count), (Some(0), [0, 3]));
}
