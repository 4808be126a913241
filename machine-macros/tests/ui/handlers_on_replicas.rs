#![allow(unused)]

use machine_runtime::{Reactions, handlers, states};

states! {
    enum Flights { Calm, Storm }
}

struct Tower;

#[handlers(Flights)]
impl Tower {
    #[enter(Calm)]
    fn calm(&self) -> bool {
        true
    }
}

fn reacts<H: Reactions<Flights>>(_: H) {}

const _: fn() = || reacts(Tower);

fn main() {}
