use machine_runtime::states;

states! {
    pub enum Lamp {
        On,
        #[remove(Onn)]
        Off,
        for lamp in 1..=3 {
            #[require(On, Lamp{lamp}Wired)]
            Lamp{lamp}Bright,
        }
    }
}

fn main() {}
