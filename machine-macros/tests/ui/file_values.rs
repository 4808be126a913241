use machine_runtime::states;

states! {
    counts = "file_values.toml";
    pub enum Lamp {
        for lamp in 1..=lamps { Lamp{lamp} }
        for room in 1..=rooms { Room{room} }
        for floor in 1..=floors { Floor{floor} }
    }
}

fn main() {}
