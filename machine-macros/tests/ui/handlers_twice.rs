#![allow(unused)]

use machine_runtime::{handlers, states};

states! {
    enum Flights { Calm, Storm }
}

struct Tower;

#[handlers(Flights)]
impl Tower {
    #[state(Calm)]
    fn calm(&mut self) {}
}

#[handlers(Flights)]
impl Tower {
    #[state(Storm)]
    fn storm(&mut self) {}
}

fn main() {}
