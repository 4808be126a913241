use machine_runtime::states;

states! {
    pub enum Lamp {
        #[requires(Off)]
        On,
        #[require]
        #[auto(always)]
        #[payload(u8, keep)]
        Off,
        #[auto]
        exclusive Colour { Red }
        #[multi]
        for lamp in 1..=3 { Lamp{lamp} }
    }
}

fn main() {}
