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
            exclusive Light { #[payload(::core::primitive::u8)] Lamp{lamp}On, Lamp{lamp}Off }
            group Listed(Lamp{lamp}On, Ready),
        }
        group Some { A }
    }
}

struct House;

#[::machine_runtime::handlers(Lamp)]
impl House {
    #[enter(on)]
    #[between(listed(lamp) => off)]
    fn may_light(&self, lamp: ::core::primitive::usize) -> bool {
        lamp < 3
    }

    #[state(SOME, Ready)]
    fn lit(
        &mut self,
        _cx: &mut ::machine_runtime::Final<'_, Lamp>,
    ) -> ::core::result::Result<(), ::std::string::String> {
        ::core::result::Result::Ok(())
    }
}

fn main() {
    let mut machine = ::machine_runtime::Machine::<Lamp>::new().with(House);
    ::std::assert!(machine.add(Lamp::on(2)).is_executed());
    ::std::assert!(!machine.add(Lamp::on(3)).is_executed());
    ::std::assert_eq!(Lamp::on(2).name(), "Lamp2On");
    ::std::assert_eq!(Lamp::listed(3).len(), 2);
}
