//! The day that comes with the program, replayed on a machine of the schema.

use flights::feed::{Change, Departure, Plan, Replay, Step, Timetable};
use flights::states::Flights;
use flights::tower::Tower;
use machine_runtime::{Machine, Outcome};

/// What a slot should show, told from the events alone.
#[derive(Clone)]
struct Slot {
    flight: Option<Departure>,
    status: Flights,
    gate: Flights,
    called: bool,
}

impl Slot {
    fn empty(slot: usize) -> Self {
        let [status, gate] = [Flights::scheduled(slot), Flights::gate_unknown(slot)];
        Self {
            flight: None,
            status,
            gate,
            called: false,
        }
    }

    fn apply(&mut self, slot: usize, flight: Departure, change: Change) {
        let gate = match change {
            Change::OnTime { gate } => gate,
            Change::Called { gate } => Some(gate),
            _ => None,
        };
        if let Some(gate) = gate {
            self.gate = Flights::gate(slot, gate);
            self.called = true;
        }
        match change {
            Change::Shown => {
                *self = Self {
                    flight: Some(flight),
                    ..Self::empty(slot)
                }
            }
            Change::OnTime { .. } => self.status = Flights::on_time(slot),
            Change::Delayed { .. } => self.status = Flights::delayed(slot),
            Change::Departed { .. } => {
                let status = Flights::departed(slot);
                *self = Self {
                    flight: Some(flight),
                    status,
                    ..Self::empty(slot)
                };
            }
            Change::Arrived => self.status = Flights::arrived(slot),
            Change::Cancelled => *self = Self::empty(slot),
            _ => {}
        }
    }

    #[track_caller]
    fn check(&self, slot: usize, machine: &Machine<Flights>, step: &Step) {
        let statuses = [
            Flights::on_time(slot),
            Flights::delayed(slot),
            Flights::departed(slot),
            Flights::arrived(slot),
            Flights::scheduled(slot),
        ];
        let gates = Flights::gates().map(|gate| Flights::gate(slot, gate));
        let exclusive = statuses.into_iter().chain(gates).chain([
            Flights::gate_unknown(slot),
            Flights::inbound(slot),
            Flights::outbound(slot),
            Flights::go_to_gate(slot),
        ]);
        let active: Vec<_> = exclusive
            .filter(|state| machine.is_active(*state))
            .collect();
        let mut expected = vec![self.status, self.gate];
        expected.extend(self.flight.map(|_| Flights::outbound(slot)));
        expected.extend(self.called.then_some(Flights::go_to_gate(slot)));
        let sorted = |mut states: Vec<Flights>| {
            states.sort();
            states
        };
        assert_eq!(
            sorted(active),
            sorted(expected),
            "slot {slot} after {step:?}"
        );

        let itinerary = self.flight.map(|flight| flight.itinerary());
        let retained = machine.payload(Flights::outbound_payload(slot)).unwrap();
        assert_eq!(retained, itinerary, "slot {slot} after {step:?}");
    }
}

#[test]
fn every_step_of_the_day_is_carried_out_and_shows_what_was_planned() {
    let [slots, gates] = [Flights::flights().count(), Flights::gates().count()];
    let mut plan = Plan::new(Timetable::shipped(), slots, gates, 3);
    let mut replay = Replay::new(Timetable::shipped(), 3);
    let mut machine = Machine::new().with(Tower);
    let mut shown: Vec<_> = Flights::flights().map(Slot::empty).collect();

    for step in replay.by_ref() {
        for mutation in &step.mutations {
            assert_eq!(machine.mutate(mutation), Outcome::Executed, "{mutation:?}");
        }
        let event = plan.next().unwrap();
        assert_eq!((event.at, event.to_string()), (step.at, step.words.clone()));
        shown[event.slot - 1].apply(event.slot, event.flight, event.change);
        // Slots of which no flight was shown yet are checked as soon as the autos are active.
        for (slot, expected) in Flights::flights().zip(&shown) {
            expected.check(slot, &machine, &step);
        }
    }
    assert_eq!(plan.next(), None);
    assert_eq!(replay.account(), plan.account());
    assert_eq!(replay.account().settled(), 1004);
}

#[test]
fn a_replay_is_the_same_for_the_same_seed() {
    let steps = |seed| Replay::new(Timetable::shipped(), seed).collect::<Vec<_>>();
    assert_eq!(steps(1), steps(1));
}

#[test]
fn a_replay_takes_over_what_an_earlier_one_left() {
    let mut machine = Machine::new().with(Tower);
    for seed in 0..2 {
        for mutation in Replay::new(Timetable::shipped(), seed).flat_map(|step| step.mutations) {
            assert_eq!(machine.mutate(&mutation), Outcome::Executed, "{mutation:?}");
        }
    }
    let mut fresh = Machine::new().with(Tower);
    for mutation in Replay::new(Timetable::shipped(), 1).flat_map(|step| step.mutations) {
        assert!(fresh.mutate(&mutation).is_executed());
    }
    assert_eq!(machine.active(), fresh.active());
    for slot in Flights::flights().map(Flights::outbound) {
        assert_eq!(machine.retained(slot), fresh.retained(slot));
    }
}
