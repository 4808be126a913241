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
                exclusive Light { Lamp{position}And{start}On, Lamp{position}And{start}Off }
            }
        }
    }
}

fn main() {
    ::std::assert_eq!(Lamp::on(2, 1).name(), "Lamp2And1On");
    ::std::assert_eq!(Lamp::light(3, 2).len(), 2);
}
