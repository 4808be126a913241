use machine_runtime::states;

states! {
    pub enum Lamp {
        for lamp in 1..=3 {
            #[require(Lamp{lamp}Plugged)]
            Lamp{lamp}On,
            #[require(Lamp{lamp}On)]
            Lamp{lamp}Plugged,
        }
        #[require(Right)]
        #[require_cycle]
        Left,
        #[require(Left)]
        #[require_cycle]
        Right,
        #[require_cycle]
        Alone,
    }
}

fn main() {}
