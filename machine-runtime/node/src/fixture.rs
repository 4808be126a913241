//! States for tests: a few of the published ones.

use machine_runtime::{Basic, States as _, states};

states! {
    counts = { flights = 3, gates = 2 };

    /// Statuses of a few flights.
    pub enum Flights: Basic {
        for flight in 1..=flights {
            exclusive Status {
                Flight{flight}OnTime,
                Flight{flight}Delayed,
                Flight{flight}Departed,
                Flight{flight}Arrived,
                #[auto]
                Flight{flight}Scheduled,
            }
            exclusive Direction { Flight{flight}Inbound, Flight{flight}Outbound }
            #[require(Flight{flight}Outbound)]
            Flight{flight}GoToGate,
            exclusive Gates {
                #[auto]
                Flight{flight}GateUnknown,
                for gate in 1..=gates { Flight{flight}Gate{gate} }
            }
        }
    }
}

#[test]
fn the_fixture_has_both_loops() {
    assert_eq!(Flights::schema().axes().len(), 2);
}
