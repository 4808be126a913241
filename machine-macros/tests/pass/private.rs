//! A private enum, in a module and in a function, heir of another.

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
