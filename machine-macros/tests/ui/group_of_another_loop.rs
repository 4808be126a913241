use machine_runtime::states;

states! {
    pub enum Lamp {
        for lamp in 1..=3 {
            exclusive Colour { Lamp{lamp}Red, Lamp{lamp}Blue }
        }
        #[require(Colour)]
        Lit,
        exclusive Late(Later),
        group Later(Lit),
    }
}

fn main() {}
