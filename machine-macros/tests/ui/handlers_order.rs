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
    #[state(gate)]
    fn at_gate(&mut self, gate: usize, flight: usize) {}
}

fn main() {}
