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
    #[enter(Calm)]
    fn mutable(&mut self) -> bool {
        true
    }

    #[state(Calm)]
    fn unbound(cx: &mut Final<'_, Flights>) {}

    #[state(Calm)]
    fn by_value(self) {}

    #[exit(Calm)]
    fn boxed(self: Box<Self>) -> bool {
        true
    }

    #[state(Calm)]
    async fn asynchronous(&mut self) {}

    #[state(Calm)]
    unsafe fn without_safety(&mut self) {}

    #[state(Calm)]
    fn generic<'a, T: Clone, const N: usize>(&'a mut self) {}

    #[state(Calm)]
    fn asks(&mut self, cx: &mut Negotiation<'_, Flights>) {}

    #[exit(Calm)]
    fn tells(&self, cx: &mut Final<'_, Flights>) -> bool {
        true
    }

    #[exit(Calm)]
    fn moved(&self, cx: Negotiation<'_, Flights>) -> bool {
        true
    }

    #[state(departed)]
    fn late_context(&mut self, flight: usize, cx: &mut Final<'_, Flights>) {}

    #[state(departed)]
    fn narrow(&mut self, flight: u32) {}

    #[state(departed)]
    fn lent(&mut self, flight: &usize) {}

    #[state(departed)]
    fn nameless(&mut self, _: usize) {}

    #[state(gate)]
    fn pattern(&mut self, (flight, gate): (usize, usize)) {}

    #[state(gate)]
    fn twice(&mut self, gate: usize, _gate: usize) {}
}

fn main() {}
