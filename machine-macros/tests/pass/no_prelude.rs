//! Nothing is in scope.

#![no_implicit_prelude]

mod sets {
    ::machine_runtime::states! {
        pub enum Base { Ready }
    }
}

::machine_runtime::states! {
    counts = { lamps = 3 };

    /// Lamps.
    pub enum Lamp: sets::Base {
        for lamp in 1..=lamps {
            exclusive Light { Lamp{lamp}On, Lamp{lamp}Off }
            group Listed(Lamp{lamp}On, Ready),
        }
        group Some { A }
    }
}

fn main() {
    ::std::assert_eq!(Lamp::on(2).name(), "Lamp2On");
    ::std::assert_eq!(Lamp::listed(3).len(), 2);
}
