//! The states of the binary: what an airport's flights and its gates can be.

use machine_runtime::{Basic, StateSource, states};

use crate::payloads::{Arrival, Estimate, Itinerary};

states! {
    shared counts = "../states.toml";

    /// Statuses of every flight of one airport. What is published comes first, then what is ours.
    pub enum Flights: Basic + StateSource + Ground {
        for flight in 1..=flights {
            exclusive Status {
                /// The flight leaves as scheduled.
                #[remove(Flight{flight}Overdue)]
                Flight{flight}OnTime,
                /// The flight leaves later than scheduled.
                #[payload(Estimate, retain)]
                Flight{flight}Delayed,
                /// The flight has left.
                #[remove(Flight{flight}GoToGate, Flight{flight}Overdue)]
                Flight{flight}Departed,
                /// The flight has arrived.
                #[payload(Arrival, retain)]
                #[remove(Flight{flight}Overdue)]
                Flight{flight}Arrived,
                /// Nothing else is known of the flight.
                #[auto]
                #[remove(Flight{flight}Overdue)]
                Flight{flight}Scheduled,
            }

            exclusive Direction {
                /// The flight comes to this airport.
                #[payload(Itinerary, retain)]
                Flight{flight}Inbound,
                /// The flight leaves this airport.
                #[payload(Itinerary, retain)]
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

states! {
    shared counts = "../states.toml";

    /// What the tower decides, see [`Tower`](crate::tower::Tower).
    pub enum Ground {
        for flight in 1..=flights {
            /// The flight is delayed and has not left when it was to.
            Flight{flight}Overdue,
        }
        for gate in 1..=gates {
            /// A flight boards at the gate: nobody else gets it.
            Gate{gate}Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_states_come_first() {
        let published = Flights::COUNT - Ground::COUNT + 1;
        let [slots, gates] = [Flights::flights().count(), Flights::gates().count()];
        assert_eq!(published, 1 + slots * (9 + gates) + 7);
        let ours = &Flights::ALL[published..];
        assert_eq!(ours.first(), Some(&Flights::overdue(1)));
        assert_eq!(ours.last(), Some(&Flights::closed(gates)));
        assert_eq!(ours.len(), slots + gates);
    }
}
