use machine_runtime::{Basic, states};

states! {
    pub enum Lamp: Basic {
        Ready,
        #[require(Ready, Healthchek)]
        On,
    }
}

fn main() {}
