//! Private enums, in modules and in functions, heirs of others, and namesakes.

mod house {
    use machine_runtime::states;

    states! {
        enum Door { Open, Shut }
    }

    states! {
        pub(super) enum House: Door { Lit }
    }
}

fn main() {
    use house::House;
    machine_runtime::states! {
        enum Street: House { Paved }
    }
    let _all = [Street::Paved, Street::Lit, Street::Open];
    assert_eq!(Street::COUNT, 5);
    towers::bind();
}

mod twice {
    machine_runtime::states! {
        pub enum Door { Open, Shut }
    }

    pub mod again {
        machine_runtime::states! {
            pub enum Door { Open, Shut }
        }
    }

    machine_runtime::states! {
        pub enum Both: Door + again::Door { Ajar }
    }
}

const _: usize = twice::Both::Ajar.index() + twice::again::Door::COUNT;

/// From within another macro, in a function, and for an enum of elsewhere.
macro_rules! tower {
    ($name:ident, $states:path, $of:ty, $state:ident, $phase:ident) => {
        struct $name<T>(T);

        #[machine_runtime::handlers($states)]
        impl $name<$of> {
            #[$phase($state)]
            fn opened(&mut self) {
                self.0 += 1;
            }
        }
    };
}

mod towers {
    tower!(Tower, crate::twice::Both, u8, Ajar, state);

    pub(crate) fn bind() {
        tower!(Mast, super::twice::again::Door, u16, Open, end);
        let mut machine = machine_runtime::Machine::new().with(Tower(0)).with(Tower(1));
        assert!(machine.add(crate::twice::Both::Ajar).is_executed());
        let _machine = machine_runtime::Machine::new().with(Mast(0));
    }
}
