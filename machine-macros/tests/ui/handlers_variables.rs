#![allow(unused)]

use machine_runtime::{Final, Negotiation, handlers, states};

states! {
    enum Flights {
        for flight in 1..=3 {
            exclusive Status { Flight{flight}Scheduled, Flight{flight}Departed }
            for gate in 1..=2 { Flight{flight}Gate{gate} }
        }
        exclusive Weather { Calm, Storm }
    }
}

struct Tower;

#[handlers(Flights)]
impl Tower {
    #[state(departed, Storm)]
    fn variant(&mut self, flight: usize) {}

    #[enter(WEATHER)]
    fn constant(&self, flight: usize, gate: usize) -> bool {
        true
    }

    #[between(Calm => Storm)]
    fn pair(&self, flight: usize) -> bool {
        true
    }

    #[state(departed(flight))]
    fn one_of_two(&mut self, flight: usize, gate: usize) {}

    #[state(departed(fligth), gate(1, place))]
    fn unknown(&mut self, flight: usize) {}

    #[any_enter]
    fn any(&self, flight: usize) -> bool {
        true
    }
}

fn main() {}
