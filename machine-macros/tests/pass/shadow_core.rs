//! Names of the standard library, of the prelude and of the macro's own helpers mean something else.

#![allow(dead_code, non_camel_case_types, unused_macros)]

mod core {}
mod std {}
mod alloc {}
mod machine_runtime {}

struct Option;
struct Some;
struct None;
struct Result;
struct Ok;
struct Self_;
struct str;
struct u8;
struct u16;
struct u32;
struct u64;
struct usize;
trait Clone {}
trait States {}

macro_rules! assert {
    () => {};
}

::machine_runtime::states! {
    counts = { values = 3 };

    /// The loop variables are called as the helpers are.
    pub enum Lamp: ::machine_runtime::Basic {
        for position in 1..=values {
            for start in 1..=2 {
                exclusive Light { #[payload(str)] Lamp{position}And{start}On, Lamp{position}And{start}Off }
            }
        }
    }
}

/// The user's own names are those of the expansion.
struct binder {
    each: [str; 0],
}

struct Handlers;
struct Binder;
struct EACH;

#[::machine_runtime::handlers(Lamp)]
impl binder {
    #[enter(on)]
    fn this(&self, position: ::core::primitive::usize, start: ::core::primitive::usize) -> bool {
        position > start
    }

    #[state(light)]
    fn at(&mut self, _position: ::core::primitive::usize, start: ::core::primitive::usize) {
        let _ = start;
    }
}

fn main() {
    let payload: ::machine_runtime::PayloadOf<Lamp, str> = Lamp::on_payload(1, 1);
    ::std::assert_eq!(payload.state(), Lamp::on(1, 1));
    let machine = ::machine_runtime::Machine::<Lamp>::new();
    let mut machine = machine.with(binder { each: [] });
    ::std::assert!(machine.add(Lamp::on(2, 1)).is_executed());
    ::std::assert!(!machine.add(Lamp::on(2, 2)).is_executed());
    ::std::assert_eq!(Lamp::on(2, 1).name(), "Lamp2And1On");
    ::std::assert_eq!(Lamp::light(3, 2).len(), 2);
}
