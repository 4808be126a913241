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
