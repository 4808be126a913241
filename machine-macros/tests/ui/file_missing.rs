use machine_runtime::states;

states! {
    counts = "no_such_file.toml";
    pub enum Lamp {
        for lamp in 1..=lamps { Lamp{lamp} }
    }
}

fn main() {}
