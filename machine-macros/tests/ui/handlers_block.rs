#![allow(unused)]

use machine_runtime::{handlers, states};

states! {
    enum Flights { Calm, Storm }
}

struct Tower;
struct Mast;
trait Tall {
    fn tall(&mut self);
}

#[handlers(Flights)]
impl Tall for Tower {
    #[state(Calm)]
    fn tall(&mut self) {}
}

#[handlers(Flights)]
impl Mast {
    fn unbound(&self) {}
}

#[handlers]
impl Tower {
    #[state(Calm)]
    fn of_nothing(&mut self) {}
}

#[handlers(Flights, Basic)]
impl Tower {
    #[state(Calm)]
    fn of_two(&mut self) {}
}

#[handlers(Flights)]
struct Pole;

fn main() {}
