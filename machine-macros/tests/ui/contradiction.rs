use machine_runtime::states;

states! {
    pub enum Lamp {
        On,
        #[require(On)]
        #[remove(On)]
        Off,
        exclusive Colour {
            Red,
            #[require(Red)]
            Blue,
        }
    }
}

fn main() {}
