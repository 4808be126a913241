use machine_runtime::states;

states! {
    counts = { lamps = 0, rooms = -2, floors = 2.5, lmaps = 3, houses = 100000 };
    pub enum Lamp {
        for lamp in 1..=lamps { Lamp{lamp} }
        for room in 1..=rooms { Room{room} }
        for floor in 1..=floors { Floor{floor} }
        for house in 1..=houses { House{house} }
        for street in 1..=streets { Street{street} }
    }
}

fn main() {}
