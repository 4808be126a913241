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

use machine_runtime::{Basic, StateSource, states};

states! {
    counts = { lamps = 3 };

    /// Nothing of this is used.
    pub(crate) enum Lamp: Basic + StateSource {
        for lamp in 1..=lamps {
            exclusive Light { Lamp{lamp}On, Lamp{lamp}Off }
            Other{lamp},
            group Lit(Lamp{lamp}On, Other{lamp}),
        }
        group Colour { Red, Blue }
    }
}

fn main() {
    let _lamp = Lamp::Red;
}
