#![allow(unused)]

use machine_runtime::{Basic, Final, Negotiation, handlers, states};

states! {
    enum Flights { Calm, Storm }
}

struct Tower;
struct Shared(std::rc::Rc<()>);

#[handlers(Flights)]
impl Tower {
    #[enter(Calm)]
    fn number(&self) -> u32 {
        0
    }

    #[enter(Calm)]
    fn nothing(&self) {}

    #[enter(Calm)]
    fn wrong_error(&self) -> Result<(), std::io::Error> {
        Ok(())
    }

    #[enter(Calm)]
    fn other_enum(&self, cx: &mut Negotiation<'_, Basic>) -> bool {
        true
    }

    #[enter(Calm)]
    fn no_context(&self, cx: &str) -> bool {
        true
    }

    #[state(Calm)]
    fn refuses(&mut self, cx: &mut Final<'_, Flights>) -> bool {
        true
    }
}

#[handlers(Flights)]
impl Shared {
    #[state(Calm)]
    fn calm(&mut self) {}
}

fn main() {}
