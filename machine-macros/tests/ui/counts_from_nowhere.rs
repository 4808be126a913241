use machine_runtime::states;

states! {
    pub enum Lamp {
        for lamp in 1..=lamps { Lamp{lamp} }
    }
}

fn main() {}
