//! The published states in fixed sizes.

use machine_runtime::{Basic, StateSource, states};

/// The published relations, for so many flights and gates.
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

published!(Published148, 10 by 5);
published!(Published1394, 99 by 5);
published!(Published15k, 1071 by 5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_those_of_the_rows() {
        let counts = [
            Published148::COUNT,
            Published1394::COUNT,
            Published15k::COUNT,
        ];
        assert_eq!(counts, [148, 1394, 15_002]);
    }
}
