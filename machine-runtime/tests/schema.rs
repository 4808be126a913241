//! What a schema that is made at run time promises.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use machine_runtime::{MAX_STATES, Relation, Schema, SchemaBuilder, StateDef};

fn builder(states: impl IntoIterator<Item = StateDef>) -> SchemaBuilder {
    states
        .into_iter()
        .fold(Schema::builder("Test"), SchemaBuilder::state)
}

fn def(name: &str) -> StateDef {
    StateDef::new(name)
}

#[track_caller]
fn check_error(builder: SchemaBuilder, message: &str) {
    let error = builder.build().unwrap_err();
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_schema_error_names_the_state_and_what_is_wrong() {
    check_error(builder([def("A"), def("A")]), "state `A` is declared twice");
    check_error(
        builder([def("A").require(["Bord"]), def("Board")]),
        "`require` of state `A` names the unknown state `Bord`, did you mean `Board`?",
    );
    for relation in Relation::ALL {
        check_error(
            builder([def("A").relate(relation, ["Zzzzzz"])]),
            &format!("`{relation}` of state `A` names the unknown state `Zzzzzz`"),
        );
    }
    check_error(
        builder([def("A").require(["B"]).remove(["B"]), def("B")]),
        "state `A` both requires and removes `B`",
    );
    check_error(
        builder([def("A")]).group("G", ["B"]),
        "group `G` names the unknown state `B`, did you mean `A`?",
    );
    check_error(
        builder([def("A")]).group("G", ["A"]).group("G", ["A"]),
        "group `G` is declared twice",
    );
    check_error(
        builder([def("A")]).order(["A"]),
        "the order lacks the state `Exception`",
    );
    let unknown = builder([def("A")]).order(["A", "Exception", "Zzzzzz"]);
    check_error(unknown, "the order names the unknown state `Zzzzzz`");
}

#[test]
fn a_schema_has_a_greatest_size() {
    let states = |count: usize| (1..count).map(|i| def(&format!("S{i}")));
    assert_eq!(
        builder(states(MAX_STATES)).build().unwrap().len(),
        MAX_STATES
    );
    check_error(
        builder(states(MAX_STATES + 1)),
        "65535 states, at most 65534 are possible",
    );
}

#[test]
fn a_schema_is_sanitised() {
    let a = def("A")
        .add(["B"])
        .remove(["A", "B", "C", "C"])
        .after(["A", "Exception"]);
    let schema = builder([a, def("B"), def("C")]).build().unwrap();
    assert_eq!(schema.related(Relation::Add, 1), [2]);
    assert_eq!(schema.related(Relation::Remove, 1), [3]);
    assert_eq!(schema.related(Relation::After, 1), [] as [u32; 0]);
}

#[test]
fn exception_is_supplied_where_it_is_not_declared() {
    let schema = builder([def("A").add(["Exception"]).require(["Exception"])])
        .build()
        .unwrap();
    assert_eq!(schema.names().collect::<Vec<_>>(), ["Exception", "A"]);
    assert!(schema.is_multi(0) && !schema.is_auto(0));
    // It keeps its error.
    assert!(schema.takes_payload(0) && schema.is_retained(0));
    // A reference to what nobody declared adds nothing, but a requirement stays one.
    assert_eq!(schema.related(Relation::Add, 1), [] as [u32; 0]);
    assert_eq!(schema.related(Relation::Require, 1), [0]);
    let schema = builder([def("A").add(["Exception"]), def("Exception")])
        .build()
        .unwrap();
    assert_eq!(schema.names().collect::<Vec<_>>(), ["A", "Exception"]);
    assert_eq!(schema.related(Relation::Add, 0), [1]);
}

#[test]
fn the_order_is_taken_as_given() {
    let schema = builder([def("A"), def("B")])
        .order(["B", "Exception", "B", "A"])
        .build()
        .unwrap();
    assert_eq!(schema.names().collect::<Vec<_>>(), ["B", "Exception", "A"]);
}

#[test]
fn a_misspelt_state_is_answered_with_the_nearest() {
    let schema = builder([def("Boarding"), def("Departed")]).build().unwrap();
    assert_eq!(schema.find("Departed"), Some(2));
    assert_eq!(schema.find_or_suggest("Departed"), Ok(2));
    let error = schema.find_or_suggest("Boardng").unwrap_err();
    assert_eq!(error.similar.as_deref(), Some("Boarding"));
    assert_eq!(
        error.to_string(),
        "unknown state `Boardng`, did you mean `Boarding`?"
    );
    assert_eq!(
        schema.find_or_suggest("Zzz").unwrap_err().to_string(),
        "unknown state `Zzz`"
    );
}

#[test]
fn groups_are_listed_as_declared() {
    let schema = builder([def("A"), def("B")])
        .group("Both", ["B", "A"])
        .build()
        .unwrap();
    let [group] = schema.groups() else {
        panic!("one group")
    };
    assert_eq!(
        (group.name(), group.is_exclusive(), group.family_len()),
        ("Both", false, 1)
    );
    assert_eq!(
        (group.members(0), group.all_members()),
        (&[2, 1][..], &[2, 1][..])
    );
    assert!(group.axes().is_empty() && schema.axes().is_empty());
    assert_eq!(schema.counts().count(), 0);
}

#[test]
fn the_fingerprint_is_that_of_names_flags_and_relations() {
    let states = || {
        [
            def("A").auto().require(["B"]),
            def("B").remove(["C"]),
            def("C").multi(),
        ]
    };
    let print = |builder: SchemaBuilder| builder.build().unwrap().fingerprint();
    // Wire contract.
    assert_eq!(
        print(builder(states())).to_string(),
        "995274cd0bece6be67b43c935f7024ab"
    );
    let [a, b, c] = states();
    let ours = print(builder(states()));
    assert_ne!(ours, print(builder([b.clone(), a.clone(), c.clone()])));
    assert_ne!(
        ours,
        print(builder([a.clone().multi(), b.clone(), c.clone()]))
    );
    assert_ne!(
        ours,
        print(builder([a.clone().require(["C"]), b.clone(), c.clone()]))
    );
    // How a schema is called or grouped changes nothing that is replicated.
    let grouped = builder([a, b, c]).group("G", ["A"]);
    assert_eq!(ours, print(grouped));
}
