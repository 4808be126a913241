use machine_runtime::states;

states! {
    pub enum Lamp {
        On Off,
        for lamp in 1..=3 { Lamp{lamp} Other{lamp} }
        exclusive { Red }
        Lamp{1},
        7,
        Exception,
        type,
    }
}

fn main() {}
