#![allow(unused)]

use machine_runtime::states;

struct Plan(u8);

states! {
    enum Flights {
        for flight in 1..=3 {
            #[payload(Plan, retain, redact)]
            Flight{flight}Inbound,
        }
        #[payload(Plan, redact, redact)]
        A,
        #[payload(Plan retain)]
        B,
        #[payload(Plan, kept)]
        C,
    }
}

fn main() {}
