//! Generated code is clean under every lint that is on by default, and some that are not.

#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    rust_2018_idioms,
    single_use_lifetimes,
    trivial_casts,
    unused_results,
    variant_size_differences,
    elided_lifetimes_in_paths
)]
#![forbid(unsafe_code)]

use machine_runtime::{Basic, Final, Negotiation, StateSource, handlers, states};

states! {
    counts = { lamps = 3 };

    /// Nothing of this is used.
    pub(crate) enum Lamp: Basic + StateSource {
        for lamp in 1..=lamps {
            exclusive Light { #[payload(Plan, redact)] Lamp{lamp}On, Lamp{lamp}Off }
            Other{lamp},
            group Lit(Lamp{lamp}On, Other{lamp}),
        }
        group Colour { Red, Blue }
    }
}

/// What a lamp is lit for.
#[derive(Debug)]
pub(crate) struct Plan;

#[derive(Debug)]
struct House<T>(T);

#[handlers(Lamp)]
impl<T: Send + 'static> House<T> {
    #[enter(on)]
    #[deprecated]
    fn may_light(&self, cx: &mut Negotiation<'_, Lamp>, lamp: usize) -> Result<(), String> {
        let _ = (&self.0, cx, lamp);
        Ok(())
    }

    #[any_enter]
    #[must_use]
    fn may_change(&self) -> bool {
        true
    }

    #[state(COLOUR, Exception)]
    #[end(Red)]
    fn seen(&mut self, _cx: &Final<'_, Lamp>) {}
}

fn main() {
    let _house = machine_runtime::Machine::<Lamp>::new().with(House(1_u8));
    let _lamp = Lamp::Red;
}
