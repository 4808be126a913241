use machine_runtime::{StateSet, States, states};

states! {
    counts = { lamps = 3 };
    pub enum Lamp {
        for lamp in 1..=lamps {
            #[require(Power)]
            Lamp{lamp}On,
        }
        group Colour { Red, Blue }
    }
}

states! {
    pub enum House: Lamp { #[require(Red)] Door }
}

fn main() {
    let _state: Lamp = Lamp::on(2);
    let _set: StateSet<Lamp> = Lamp::COLOUR;
    let _all: &[House] = <House as States>::ALL;
    let _states = [House::Lamp3On, House::Door];
}
