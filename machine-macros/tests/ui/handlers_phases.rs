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
    #[sate(Calm)]
    fn misspelt(&mut self) {}

    #[enter]
    fn no_list(&self) -> bool {
        true
    }

    #[state()]
    fn empty(&mut self) {}

    #[between(Calm, Storm)]
    fn no_arrow(&self) -> bool {
        true
    }

    #[between(Calm =>)]
    fn no_end(&self) -> bool {
        true
    }

    #[exit(Calm => Storm)]
    fn no_pair(&self) -> bool {
        true
    }

    #[any_state(Calm)]
    fn any_of(&mut self) {}

    #[state(Flights::Calm, "Storm", Flight{flight}Gate{gate})]
    fn no_names(&mut self) {}

    #[state(Calm Storm)]
    fn no_comma(&mut self) {}

    #[state(Calm(1))]
    fn no_function(&mut self) {}

    #[enter(Calm)]
    #[state(Storm)]
    fn both(&self) -> bool {
        true
    }

    #[state(Calm)]
    const NO_METHOD: () = ();

    #[inline]
    #[must_use]
    fn unbound(&self) -> bool {
        true
    }
}

fn main() {}
