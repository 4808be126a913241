use super::*;
use crate::schema::{Schema, StateDef};

/// So many flights. A flight goes outbound, with some gate in use, and once it has not departed; it is
/// scheduled by itself.
fn flights(flights: usize, gates: usize) -> Machine<DynState> {
    let mut schema = Schema::builder("Airport").state(StateDef::new("AnyGate"));
    for flight in 0..flights {
        let status = ["OnTime", "Departed", "Scheduled"].map(|name| format!("F{flight}{name}"));
        let gates: Vec<String> = (0..gates)
            .map(|gate| format!("F{flight}Gate{gate}"))
            .collect();
        let others = |all: &[String], one: &String| -> Vec<String> {
            all.iter().filter(|other| *other != one).cloned().collect()
        };
        for name in &status {
            let mut removes = others(&status, name);
            if name.ends_with("Departed") {
                removes.push(format!("F{flight}Go"));
            }
            let def = StateDef::new(name.clone()).remove(removes);
            let auto = name.ends_with("Scheduled");
            schema = schema.state(if auto { def.auto() } else { def });
        }
        for gate in &gates {
            let def = StateDef::new(gate.clone()).remove(others(&gates, gate));
            schema = schema.state(def.add(["AnyGate"]));
        }
        let (out, any) = (format!("F{flight}Out"), "AnyGate".to_owned());
        schema = schema.state(StateDef::new(out.clone()));
        schema = schema.state(StateDef::new(format!("F{flight}Go")).require([out, any]));
    }
    Machine::with_schema(schema.build().unwrap().into())
}

fn find(machine: &Machine<DynState>, name: &str) -> DynState {
    DynState(as_index(machine.schema().find(name).unwrap()))
}

fn told(machine: &Machine<DynState>, answer: &Answer) -> Vec<String> {
    let name = |state: &DynState| machine.schema().name_of(state.0 as usize);
    let mutations = answer.found.iter().map(|mutation| {
        let mut names: Vec<_> = mutation.states().iter().map(name).collect();
        names.sort_unstable();
        format!("{:?} {}", mutation.op(), names.join(" "))
    });
    mutations.collect()
}

/// Three states at once, one of which any of many others brings along: the first that is tried is
/// among the nearest.
#[test]
fn what_three_states_do_together_is_found_among_many_in_few_tries() {
    for (count, gates, tries) in [(10, 9, 20_000), (1_000, 10, 50_000)] {
        let mut machine = flights(count, gates);
        assert!(machine.add(find(&machine, "F1Departed")).is_executed());
        let go = find(&machine, "F1Go");
        let answer = smallest(&machine, go, true, tries, || true);
        let told = told(&machine, &answer);
        assert_eq!(
            told[0], "Set AnyGate F1Go F1Out",
            "an add needs a fourth that removes Departed"
        );
        let _ = machine.add(find(&machine, "F1Out"));
        let answer = smallest(&machine, go, true, tries, || true);
        let told = self::told(&machine, &answer);
        assert_eq!(told[0], "Add AnyGate F1Go F1OnTime");
        assert!(told.len() > 1 && told.len() <= MOST_FOUND, "{told:?}");
    }
}

#[test]
fn a_search_ends_when_it_is_told_to_or_has_no_tries_left_and_says_so() {
    let machine = flights(1_000, 10);
    let go = find(&machine, "F1Go");
    let none = smallest(&machine, go, true, 0, || true);
    assert!(none.cut_off && none.tried == 0 && none.found.is_empty());
    let mut asked = 0;
    let stopped = smallest(&machine, go, true, u64::MAX, || {
        asked += 1;
        asked < 3
    });
    assert!(stopped.cut_off && asked == 3, "{stopped:?}");
    let so_already = smallest(&machine, go, false, u64::MAX, || true);
    assert!(!so_already.cut_off && so_already.tried == 0);
}

/// A state that has no say in another can hold back the auto mutation that takes it away again.
#[test]
fn what_keeps_an_auto_mutation_from_following_is_found() {
    let schema = Schema::builder("Undone")
        .state(StateDef::new("A").auto().add(["B"]))
        .state(StateDef::new("B").auto().remove(["A", "C"]))
        .state(StateDef::new("C").auto().add(["A"]))
        .state(StateDef::new("Other").auto());
    let machine = Machine::with_schema(schema.build().unwrap().into());
    let answer = smallest(&machine, find(&machine, "A"), true, u64::MAX, || true);
    let told = told(&machine, &answer);
    assert!(told.contains(&"Add C Other".to_owned()), "{told:?}");
    assert!(!answer.cut_off);
}

/// The same where an auto state that has a say would be tried besides, but cannot begin.
#[test]
fn what_leaves_an_auto_mutation_without_a_candidate_is_found() {
    let schema = Schema::builder("Recorded")
        .state(StateDef::new("S1").auto())
        .state(StateDef::new("S2").auto().require(["S3"]).remove(["S4"]))
        .state(StateDef::new("S3").require(["S4"]))
        .state(
            StateDef::new("S4")
                .require(["S5"])
                .add(["S6"])
                .remove(["S6"]),
        )
        .state(StateDef::new("S5").add(["Exception"]).remove(["S4", "S6"]))
        .state(StateDef::new("S6").add(["S5", "S4"]).remove(["S4", "S5"]));
    let machine = Machine::with_schema(schema.build().unwrap().into());
    let answer = smallest(&machine, find(&machine, "S4"), true, u64::MAX, || true);
    assert_eq!(
        answer.found.first().map(|found| found.states().len()),
        Some(2)
    );
    assert!(
        told(&machine, &answer)
            .iter()
            .any(|told| told.contains("S1"))
    );
}

#[test]
fn any_change_will_do_where_an_auto_state_only_waits_for_one() {
    let schema = Schema::builder("Any")
        .state(StateDef::new("Auto").auto())
        .state(StateDef::new("Other"));
    let machine = Machine::with_schema(schema.build().unwrap().into());
    let answer = smallest(&machine, find(&machine, "Auto"), true, u64::MAX, || true);
    assert_eq!(told(&machine, &answer)[0], "Add Auto");
    let schema = Schema::builder("Needy")
        .state(StateDef::new("Auto").auto().require(["Base"]))
        .state(StateDef::new("Base").auto())
        .state(StateDef::new("Other"));
    let machine = Machine::with_schema(schema.build().unwrap().into());
    let answer = smallest(&machine, find(&machine, "Auto"), true, u64::MAX, || true);
    assert_eq!(told(&machine, &answer), ["Add Base", "Set Base"]);
    let schema = Schema::builder("Refused")
        .state(StateDef::new("Auto").auto().require(["Base"]))
        .state(StateDef::new("Base").auto().require(["Auto"]))
        .state(StateDef::new("Other"));
    let machine = Machine::with_schema(schema.build().unwrap().into());
    let answer = smallest(&machine, find(&machine, "Auto"), true, u64::MAX, || true);
    assert!(
        told(&machine, &answer).contains(&"Add Other".to_owned()),
        "{answer:?}"
    );
}

#[test]
fn a_call_of_what_is_so_already_may_be_what_helps() {
    // An active multi state that is called again ticks, and auto states follow: `Exception` is one.
    let schema = Schema::builder("Again")
        .state(StateDef::new("S1").auto().remove(["S2"]))
        .state(StateDef::new("S2").auto().remove(["S1", "Exception", "S3"]))
        .state(StateDef::new("S3").auto().require(["S4"]))
        .state(StateDef::new("S4").auto().require(["S5"]))
        .state(StateDef::new("S5").auto().require(["Exception", "S3"]));
    let mut machine = Machine::with_schema(schema.build().unwrap().into());
    let (exception, s1) = (find(&machine, "Exception"), find(&machine, "S1"));
    assert!(
        machine
            .mutate(&Mutation::new(Op::Set, [exception]))
            .is_executed()
    );
    let _ = machine.add(s1);
    let s3 = find(&machine, "S3");
    let wanted = !machine.is_active(s3);
    let answer = smallest(&machine, s3, wanted, u64::MAX, || true);
    assert_eq!(
        answer.found.first().map(|found| found.states().len()),
        Some(1)
    );
    // What is called to go is not added back by an active multi state, and so does not remove another.
    let schema = Schema::builder("Back")
        .state(
            StateDef::new("Exception")
                .multi()
                .add(["S3", "S1"])
                .remove(["S1"]),
        )
        .state(StateDef::new("S1").remove(["Exception"]))
        .state(StateDef::new("S2").add(["S1", "Exception"]))
        .state(StateDef::new("S3").multi().add(["S1", "S2"]));
    let mut machine = Machine::with_schema(schema.build().unwrap().into());
    let [exception, s1, s2, s3] = ["Exception", "S1", "S2", "S3"].map(|name| find(&machine, name));
    let _ = machine.add(s3);
    for _ in 0..3 {
        let _ = machine.add(exception);
    }
    let _ = machine.remove([s1, s2]);
    let _ = machine.add(exception);
    assert!(!machine.is_active(exception) && !machine.is_active(s1));
    let answer = smallest(&machine, exception, true, u64::MAX, || true);
    assert_eq!(told(&machine, &answer), ["Remove S1"]);
}

#[test]
fn a_change_that_only_two_make_together_is_found() {
    let ring = |name: &str, next: &str| StateDef::new(name.to_owned()).require([next.to_owned()]);
    let schema = Schema::builder("Ring")
        .state(ring("A", "A2").auto())
        .state(ring("A2", "A3").auto())
        .state(ring("A3", "A4").auto())
        .state(ring("A4", "A").auto())
        .state(ring("C", "D"))
        .state(ring("D", "C"))
        .state(ring("Exception", "E"))
        .state(ring("E", "Exception"));
    let machine = Machine::with_schema(schema.build().unwrap().into());
    let answer = smallest(&machine, find(&machine, "A"), true, u64::MAX, || true);
    assert!(
        told(&machine, &answer).contains(&"Add C D".to_owned()),
        "{answer:?}"
    );
}
