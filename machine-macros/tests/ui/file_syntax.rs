use machine_runtime::states;

states! {
    counts = "file_syntax.toml";
    pub enum Lamp {
        for lamp in 1..=lamps { Lamp{lamp} }
    }
}

fn main() {}
