use machine_runtime::states;

states! {
    counts = { lamps = 1000, rooms = 1000 };
    pub enum Lamp {
        for room in 1..=rooms {
            for lamp in 1..=lamps { Room{room}Lamp{lamp} }
        }
    }
}

fn main() {}
