use machine_runtime::states;

states! {
    shared counts = "file_syntax.toml";
    pub enum Switches {
        for lamp in 1..=lamps { Switch{lamp} }
    }
}

states! {
    shared counts = "file_syntax.toml";
    pub enum Lamp: Switches {
        for lamp in 1..=lamps {
            #[require(Switch{lamp})]
            Lamp{lamp},
        }
    }
}

fn main() {
    // What uses the states has no mistakes of its own.
    let _ = [Lamp::lamp(1), Lamp::switch(1)];
}
