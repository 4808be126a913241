use machine_runtime::states;

states! {
    enum Planes {
        #[payload(Missing)]
        A,
    }
}

fn main() {}
