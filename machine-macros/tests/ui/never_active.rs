use machine_runtime::states;

states! {
    pub enum Lamp {
        exclusive Colour { Red, Blue }
        #[require(Red)]
        Warm,
        #[require(Warm, Blue)]
        Purple,
        #[require(Purple)]
        Royal,
        #[remove(Bright)]
        Dimmed,
        #[require(Dimmed)]
        Bright,
    }
}

fn main() {}
