//! Templates for the published state lists give the recorded schemas, name by name.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use flate2::read::GzDecoder;
use machine_runtime::{
    Basic, Group, Relation, Schema, StateSet, StateSource, States, UnknownState, states,
};
use serde_json::Value;

/// The published flights, of any size and above any sets.
macro_rules! flights {
    ($name:ident: $first:ident + $second:ident, $flights:literal by $gates:literal) => {
        states! {
            counts = { flights = $flights, gates = $gates };

            /// Statuses of every flight of one airport, as published.
            pub enum $name: $first + $second {
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

                    /// Passengers are called to the gate.
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

/// What remote workers had when the first README was written.
mod older {
    use machine_runtime::states;

    states! {
        /// What a process goes through.
        pub enum OlderBasic {
            #[require(Exception)]
            ErrNetwork,
            #[require(Exception)]
            ErrHandlerTimeout,
            Start,
            #[require(Start)]
            Ready,
            Healthcheck,
        }
    }

    states! {
        /// A worker, above what every process has.
        pub enum Worker: OlderBasic {
            #[require(Exception)]
            ErrProviding,
            #[require(Exception)]
            ErrSendPayload,
            #[multi]
            SendPayload,
        }
    }
}

use older::{OlderBasic, Worker};

flights!(Flights: Basic + StateSource, 10 by 5);
flights!(Five: Basic + StateSource, 5 by 3);
flights!(One: Basic + StateSource, 1 by 1);
// `OlderBasic` comes with `Worker` already: a set counts once, however it is reached.
flights!(Readme: Worker + OlderBasic, 10 by 5);

/// The first recorded case of this variant and size.
fn recorded(variant: &str, states: usize) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/vectors/flights.jsonl.gz");
    let mut text = String::new();
    GzDecoder::new(File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let cases = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut wanted = cases.filter(|case| {
        case["variant"] == variant && case["states"].as_array().unwrap().len() == states
    });
    wanted.next().unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|name| name.as_str().unwrap())
        .collect()
}

/// The lists of `state` as rule R2 leaves them: Require, Add, Remove, After.
fn sanitised<'a>(state: &str, raw: &'a Value) -> [Vec<&'a str>; 4] {
    let [require, add, mut remove, mut after] =
        ["require", "add", "remove", "after"].map(|list| names(&raw[list]));
    remove.retain(|name| *name != state && !add.contains(name));
    after.retain(|name| *name != state);
    [require, add, remove, after]
}

#[track_caller]
fn check(schema: &Schema, variant: &str, states: usize) {
    let case = recorded(variant, states);
    assert_eq!(schema.names().collect::<Vec<_>>(), names(&case["states"]));
    for (index, name) in schema.names().enumerate() {
        let raw = &case["schema"][name];
        assert_eq!(schema.is_auto(index), raw["auto"] == true, "{name}");
        assert_eq!(schema.is_multi(index), raw["multi"] == true, "{name}");
        for (relation, expected) in Relation::ALL.into_iter().zip(sanitised(name, raw)) {
            let related = schema.related(relation, index).iter();
            let related: Vec<&str> = related
                .map(|state| schema.name_of(*state as usize))
                .collect();
            assert_eq!(related, expected, "{relation:?} of {name}");
        }
    }
}

#[test]
fn the_published_148_are_equal() {
    assert_eq!(Flights::COUNT, 148);
    check(Flights::schema(), "current", 148);
}

#[test]
fn the_149_of_the_readme_are_equal() {
    assert_eq!(Readme::COUNT, 149);
    check(Readme::schema(), "readme149", 149);
}

#[test]
fn the_same_template_gives_other_sizes() {
    check(Five::schema(), "current", 68);
    check(One::schema(), "current", 18);
}

#[test]
fn indexed_access_survives_a_resize() {
    assert_eq!(Flights::on_time(10), Flights::Flight10OnTime);
    assert_eq!(Flights::gate(3, 5), Flights::Flight3Gate5);
    assert_eq!(Five::gate(5, 3).name(), "Flight5Gate3");
    assert_eq!(Flights::flights(), 1..=10);
    assert_eq!(Five::gates(), 1..=3);
    for flight in Five::flights() {
        assert_eq!(Five::go_to_gate(flight).flight(), Some(flight));
        assert_eq!(Five::go_to_gate(flight).gate_index(), None);
        for gate in Five::gates() {
            let state = Five::gate(flight, gate);
            assert_eq!(
                (state.flight(), state.gate_index()),
                (Some(flight), Some(gate))
            );
        }
    }
    assert_eq!(Flights::Ready.flight(), None);
}

#[test]
fn an_index_out_of_range_panics_and_says_so() {
    let panic = std::panic::catch_unwind(|| Flights::on_time(11)).unwrap_err();
    assert_eq!(
        panic.downcast_ref::<String>().unwrap(),
        "flight 11 is not in 1..=10"
    );
}

#[test]
fn families_of_groups_list_their_members() {
    assert_eq!(
        Flights::direction(2),
        [Flights::Flight2Inbound, Flights::Flight2Outbound]
    );
    assert_eq!(
        Five::gates_group(4),
        [Five::Flight4Gate1, Five::Flight4Gate2, Five::Flight4Gate3]
    );
    let schema = Flights::schema();
    let groups: Vec<&str> = schema.groups().iter().map(Group::name).collect();
    assert_eq!(groups, ["Status", "Direction", "Gates"]);
    for group in schema.groups() {
        assert!(group.is_exclusive());
        assert_eq!(group.family_len(), 10);
    }
    let members = schema.groups()[0]
        .members(6)
        .iter()
        .map(|state| Flights::ALL[*state as usize]);
    assert!(members.eq(Flights::status(7).iter().copied()));
    assert_eq!(
        schema.counts().collect::<Vec<_>>(),
        [("flights", 10), ("gates", 5)]
    );
}

#[test]
fn states_are_values_with_a_name() {
    for (index, state) in Flights::ALL.iter().copied().enumerate() {
        assert_eq!(state.index(), index);
        assert_eq!(Flights::from_index(index), Some(state));
        assert_eq!(Flights::from_str(state.name()), Ok(state));
        assert_eq!(
            format!("{state} {state:?}"),
            format!("{0} {0}", state.name())
        );
    }
    assert_eq!(Flights::from_index(148), None);
    let error: UnknownState = Flights::from_str("Flight1OnTme").unwrap_err();
    assert_eq!(error.similar.as_deref(), Some("Flight1OnTime"));
    assert!(Flights::Exception < Flights::Heartbeat);
}

mod groups {
    use machine_runtime::states;

    states! {
        counts = { doors = 3 };

        /// A house.
        pub enum House {
            for door in 1..=doors {
                exclusive Leaf { Door{door}Open, Door{door}Shut }
                /// A door with a key in it.
                #[payload(String, retain)]
                #[after(Leaf)]
                Door{door}Locked,
                exclusive Way(Door{door}Open, Door{door}Locked, Stuck),
            }
            /// What a house is like.
            group Mood { Quiet, exclusive Noise { Loud, Louder } }
            group Shown(Mood, Door2Open),
            #[add(Noise)]
            #[remove(Mood)]
            #[require_cycle]
            #[require(Party)]
            Party,
            Stuck,
        }
    }
}

use groups::House;

/// What `state` lists in `relation`.
fn related(relation: Relation, state: House) -> Vec<House> {
    House::schema()
        .related(relation, state.index())
        .iter()
        .map(|state| House::ALL[*state as usize])
        .collect()
}

#[test]
fn groups_outside_loops_are_constants() {
    const SHOWN: StateSet<House> = House::SHOWN;
    assert_eq!(
        SHOWN.iter().collect::<Vec<_>>(),
        [House::Door2Open, House::Quiet, House::Loud, House::Louder]
    );
    assert!(SHOWN.contains_all(&House::MOOD) && House::MOOD.contains_all(&House::NOISE));
    assert_eq!(
        House::way(2),
        [House::Door2Open, House::Door2Locked, House::Stuck]
    );
}

#[test]
fn relations_to_groups_name_their_members() {
    use House::{Door2Locked, Door2Open, Door2Shut, Loud, Louder, Party, Quiet, Stuck};
    assert_eq!(
        related(Relation::After, Door2Locked),
        [Door2Open, Door2Shut]
    );
    assert_eq!(related(Relation::Add, Party), [Loud, Louder]);
    // What is added is not removed (rule R2).
    assert_eq!(related(Relation::Remove, Party), [Quiet]);
    assert_eq!(related(Relation::Require, Party), [Party]);
    // A state in several exclusive groups, declared in one and listed in another.
    assert_eq!(
        related(Relation::Remove, Door2Open),
        [Door2Shut, Door2Locked, Stuck]
    );
    assert_eq!(related(Relation::Remove, Door2Locked), [Door2Open, Stuck]);
    assert_eq!(related(Relation::Remove, Stuck).len(), 6);
    assert!(House::schema().is_retained(Door2Locked.index()));
}
