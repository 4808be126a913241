#![allow(unused)]

use machine_runtime::{PayloadOf, State, States, states};

struct Plan(u8);

states! {
    enum Flights {
        for flight in 1..=3 {
            #[payload(Plan)]
            Flight{flight}Inbound,
            Flight{flight}Outbound,
        }
        #[payload(u8)]
        Open,
    }
}

/// As `Mutation::with` takes it.
fn with<S: State, T>(_: PayloadOf<S, T>, _: &T) {}

fn attach() {
    with(Flights::inbound_payload(1), &Plan(1));
    with(Flights::inbound_payload(1), &1);
    with(Flights::open_payload(), &"text");
    with(Flights::outbound_payload(1), &Plan(1));
}

fn main() {}
