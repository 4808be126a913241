//! Payloads with a type: how they get in, how they come out, and what logs show of them.

use machine_runtime::{
    Epoch, ErrorKind, Machine, Mutation, Owner, PayloadOf, States, ViewOptions, states,
};
use serde::{Deserialize, Serialize};

/// Where a flight goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    to: String,
    seats: u16,
}

mod sets {
    machine_runtime::states! {
        pub enum Doors {
            #[payload(::core::primitive::u8, redact, retain)]
            Open,
            for door in 1..=2 {
                #[payload(::std::string::String)]
                Door{door}Ajar,
            }
        }
    }
}

states! {
    counts = { flights = 3 };

    enum Flights: sets::Doors {
        for flight in 1..=flights {
            #[payload(Plan, retain)]
            Flight{flight}Inbound,
            #[payload(Plan)]
            Flight{flight}Outbound,
            #[payload(Vec<(u8, [u16; 2])>)]
            Gate{flight}Type,
        }
        // Takes the name that the payload of the first would get.
        for flight in 1..=flights { Flight{flight}OutboundPayload }
        #[payload(bool, retain,)]
        HTTPServer,
    }
}

fn plan() -> Plan {
    Plan {
        to: "Oslo".to_owned(),
        seats: 180,
    }
}

#[test]
fn a_retained_value_comes_back() {
    let mut machine = Machine::<Flights>::new();
    let of = Flights::inbound_payload(2);
    assert_eq!(machine.payload(of), Ok(None));
    let mutation = Mutation::add(Flights::inbound(2)).with(of, &plan());
    assert!(machine.mutate(&mutation).is_executed());
    assert_eq!(machine.payload(of), Ok(Some(plan())));
    assert_eq!(machine.payload(Flights::inbound_payload(1)), Ok(None));
    let mutation = Mutation::add(Flights::HTTPServer).with(Flights::http_server_payload(), &true);
    assert!(machine.mutate(&mutation).is_executed());
    assert_eq!(
        machine.payload(Flights::http_server_payload()),
        Ok(Some(true))
    );
    assert!(machine.remove(Flights::inbound(2)).is_executed());
    assert_eq!(machine.payload(of), Ok(None));
}

#[tokio::test]
async fn a_view_shows_what_the_machine_retains() {
    let mut machine = Machine::<Flights>::new();
    let of = Flights::inbound_payload(3);
    let mutation = Mutation::add(Flights::inbound(3)).with(of, &plan());
    assert!(machine.mutate(&mutation).is_executed());
    let (handle, _owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
    assert_eq!(handle.view().payload(of), Ok(Some(plan())));
    assert_eq!(handle.view().payload(Flights::open_payload()), Ok(None));
}

#[test]
fn bytes_of_something_else_are_an_error() {
    let mut machine = Machine::<Flights>::new();
    let mutation = Mutation::add(Flights::inbound(2)).with_payload(Flights::inbound(2), "17");
    assert!(machine.mutate(&mutation).is_executed());
    let error = machine.payload(Flights::inbound_payload(2)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("not a payload of the declared type: "),
        "{error}"
    );
}

#[test]
fn names_follow_those_of_the_states() {
    let plans: [PayloadOf<Flights, Plan>; 2] =
        [Flights::inbound_payload(3), Flights::outbound_payload_of(3)];
    let states = [Flights::Flight3Inbound, Flights::Flight3Outbound];
    assert_eq!(plans.map(PayloadOf::state), states);
    assert_eq!(
        Flights::outbound_payload(1),
        Flights::Flight1OutboundPayload
    );
    let of: PayloadOf<Flights, Vec<(u8, [u16; 2])>> = Flights::type_payload(3);
    assert_eq!(of.state(), Flights::Gate3Type);
    let of: PayloadOf<Flights, String> = Flights::ajar_payload(2);
    assert_eq!(of.state(), Flights::Door2Ajar);
    let open: PayloadOf<Flights, u8> = const { Flights::open_payload() };
    assert_eq!(open.state(), Flights::Open);
}

#[test]
fn the_error_of_the_machine_is_the_payload_of_exception() {
    let mut machine = Machine::<Flights>::new();
    assert!(machine.fail("no fuel").is_executed());
    let error = machine
        .payload(Flights::exception_payload())
        .unwrap()
        .unwrap();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Added, "no fuel")
    );
}

#[test]
fn logs_show_text_or_how_much_was_left_out() {
    let schema = Flights::schema();
    let show = |state: Flights, bytes: &[u8]| schema.show_payload(state.index(), bytes).to_string();
    assert_eq!(
        show(Flights::inbound(1), br#"{"to":"Oslo"}"#),
        r#"{"to":"Oslo"}"#
    );
    assert_eq!(show(Flights::inbound(1), b"\xFFa"), "\u{FFFD}a");
    assert_eq!(show(Flights::Open, b"17"), "(redacted, 2 bytes)");
    assert!(schema.is_retained(Flights::Open.index()));
    assert!(!schema.is_redacted(Flights::inbound(1).index()));
}
