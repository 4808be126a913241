// The published relations, for so many flights and gates. Code generation is measured on this text
// too.

macro_rules! published {
    ($name:ident, $flights:literal by $gates:literal) => {
        states! {
            counts = { flights = $flights, gates = $gates };

            /// Statuses of every flight of one airport, as published.
            pub enum $name: Basic + StateSource {
                for flight in 1..=flights {
                    exclusive Status {
                        Flight{flight}OnTime,
                        Flight{flight}Delayed,
                        #[remove(Flight{flight}GoToGate)]
                        Flight{flight}Departed,
                        Flight{flight}Arrived,
                        #[auto]
                        Flight{flight}Scheduled,
                    }
                    exclusive Direction { Flight{flight}Inbound, Flight{flight}Outbound }
                    #[require(Flight{flight}Outbound)]
                    Flight{flight}GoToGate,
                    #[auto]
                    Flight{flight}GateUnknown,
                    exclusive Gates {
                        for gate in 1..=gates { Flight{flight}Gate{gate} }
                    }
                }
            }
        }
    };
}
