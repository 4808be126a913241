use machine_runtime::states;

states! {
    pub enum Lamp {
        On,
        On,
        for lamp in 1..=3 { Lamp{lamp} }
        Lamp2,
        group Colour { Red }
        exclusive Colour { Blue }
    }
}

fn main() {}
