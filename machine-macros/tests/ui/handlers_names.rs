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
    #[state(depatred)]
    fn accessor(&mut self, flight: usize) {}

    #[state(Strom)]
    fn variant(&mut self) {}

    #[state(WHETHER)]
    fn constant(&mut self) {}

    #[state(departed)]
    fn variable(&mut self, fligth: usize) {}

    #[enter(departed)]
    fn too_few(&self) -> bool {
        true
    }

    #[between(departed => gate)]
    fn too_many(&self, flight: usize, gate: usize) -> bool {
        true
    }

    #[state(flights)]
    fn no_states(&mut self) {}

    #[state(COUNT)]
    fn no_group(&mut self) {}
}

fn main() {}
