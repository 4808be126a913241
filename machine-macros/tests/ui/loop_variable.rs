use machine_runtime::states;

states! {
    counts = { lamps = 3 };
    pub enum Lamp {
        for lamp in 1..=lamps { Lamp{lapm}, On }
        for lamp in 1..=4 { Other{lamp} }
        for lamp in 1..lamps { Third{lamp} }
        exclusive Colour { Red{lamp} }
    }
}

fn main() {}
