//! The one `states!` of the binary: what an airport's flights can be.

use machine_runtime::{Basic, StateSource, states};

states! {
    counts = "../states.toml";

    /// Statuses of every flight of one airport.
    pub enum Flights: Basic + StateSource {
        for flight in 1..=flights {
            exclusive Status {
                /// The flight leaves as scheduled.
                Flight{flight}OnTime,
                /// The flight leaves later than scheduled.
                Flight{flight}Delayed,
                /// The flight has left.
                #[remove(Flight{flight}GoToGate)]
                Flight{flight}Departed,
                /// The flight has arrived.
                #[payload(Vec<u8>, retain)]
                Flight{flight}Arrived,
                /// Nothing else is known of the flight.
                #[auto]
                Flight{flight}Scheduled,
            }

            exclusive Direction {
                /// The flight comes to this airport.
                #[payload(Vec<u8>, retain)]
                Flight{flight}Inbound,
                /// The flight leaves this airport.
                #[payload(Vec<u8>, retain)]
                Flight{flight}Outbound,
            }

            /// Passengers are called to the gate.
            #[require(Flight{flight}Outbound)]
            Flight{flight}GoToGate,

            exclusive Gates {
                /// The gate is not known yet.
                #[auto]
                Flight{flight}GateUnknown,
                for gate in 1..=gates {
                    /// The gate is known.
                    Flight{flight}Gate{gate},
                }
            }
        }
    }
}
