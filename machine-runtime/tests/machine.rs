//! What the core promises its users, from outside.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use machine_runtime::{
    DynState, Enqueued, MAX_PAYLOAD, Machine, Mutation, Op, Outcome, QUEUE_LIMIT, Reason, Schema,
    SchemaBuilder, StateDef, Step,
};

fn machine(states: impl IntoIterator<Item = StateDef>) -> Machine<DynState> {
    Machine::with_schema(builder(states).build().unwrap().into())
}

fn builder(states: impl IntoIterator<Item = StateDef>) -> SchemaBuilder {
    states
        .into_iter()
        .fold(Schema::builder("Test"), SchemaBuilder::state)
}

fn def(name: &str) -> StateDef {
    StateDef::new(name)
}

/// The state called `name`.
fn at(machine: &Machine<DynState>, name: &str) -> DynState {
    DynState(machine.schema().find(name).unwrap().try_into().unwrap())
}

fn all(machine: &Machine<DynState>, names: &[&str]) -> Vec<DynState> {
    names.iter().map(|name| at(machine, name)).collect()
}

/// Does `op` with `names`; the result is the active states with their ticks.
fn after(machine: &mut Machine<DynState>, op: Op, names: &[&str]) -> String {
    let called = all(machine, names);
    assert!(machine.mutate(&Mutation::new(op, called)).is_executed());
    machine.to_string()
}

#[test]
fn add_keeps_what_is_active_and_set_does_not() {
    let mut m = machine([def("A"), def("B"), def("C")]);
    assert_eq!(after(&mut m, Op::Add, &["A"]), "(A:1)");
    assert_eq!(after(&mut m, Op::Add, &["B"]), "(A:1 B:1)");
    assert_eq!(after(&mut m, Op::Set, &["B", "C"]), "(B:1 C:1)");
    assert_eq!(after(&mut m, Op::Set, &[]), "()");
    assert_eq!(format!("{m:#}"), "() [Exception:0 A:2 B:2 C:2]");
}

#[test]
fn toggle_removes_only_if_all_are_active() {
    let mut m = machine([def("A"), def("B")]);
    assert_eq!(after(&mut m, Op::Add, &["A"]), "(A:1)");
    assert_eq!(after(&mut m, Op::Toggle, &["A", "B"]), "(A:1 B:1)");
    assert_eq!(m.last_run().next().unwrap().op(), Op::Add);
    assert_eq!(after(&mut m, Op::Toggle, &["A", "B"]), "()");
    assert_eq!(m.last_run().next().unwrap().op(), Op::Remove);
}

#[test]
fn removing_a_required_state_drops_dependents() {
    let mut m = machine([
        def("A").require(["B"]),
        def("B").require(["C"]),
        def("C"),
        def("D"),
    ]);
    assert_eq!(
        after(&mut m, Op::Add, &["A", "B", "C", "D"]),
        "(A:1 B:1 C:1 D:1)"
    );
    assert_eq!(after(&mut m, Op::Remove, &["C"]), "(D:1)");
}

#[test]
fn removing_inactive_states_changes_nothing_and_is_executed() {
    let mut m = machine([def("A")]);
    assert_eq!(after(&mut m, Op::Remove, &["A"]), "()");
    assert_eq!((m.revision(), m.last_run().len()), (0, 1));
}

#[test]
fn add_reaches_two_levels() {
    let mut m = machine([
        def("A").add(["B"]),
        def("B").add(["C"]),
        def("C").add(["D"]),
        def("D"),
    ]);
    assert_eq!(after(&mut m, Op::Add, &["A"]), "(A:1 B:1 C:1)");
    // Active states add nothing.
    assert_eq!(after(&mut m, Op::Set, &["A"]), "(A:1)");
}

#[test]
fn states_that_require_each_other_live_together() {
    let mut m = machine([def("A").require(["B"]), def("B").require(["A"])]);
    assert_eq!(m.schema().require_cycle(), Some("A"));
    let a = at(&m, "A");
    assert!(!m.add(a).is_executed());
    assert_eq!(after(&mut m, Op::Add, &["A", "B"]), "(A:1 B:1)");
    assert_eq!(after(&mut m, Op::Remove, &["B"]), "()");
}

#[test]
fn a_refusal_changes_nothing_and_names_what_hinders() {
    let mut m = machine([def("A").remove(["B"]), def("B").require(["C"]), def("C")]);
    let [a, b, c] = ["A", "B", "C"].map(|name| at(&m, name));
    let missing = Reason::Missing {
        state: b,
        requires: c,
    };
    assert_eq!(m.add(b), Outcome::Canceled(missing.clone()));
    assert_eq!(
        missing.to_string(),
        "DynState(2) requires DynState(3), which is not active"
    );
    assert!(m.add([a, c]).is_executed());
    let blocked = Reason::Blocked { state: b, by: a };
    assert_eq!(m.add(b), Outcome::Canceled(blocked.clone()));
    assert_eq!(blocked.to_string(), "DynState(2) is blocked by DynState(1)");
    assert_eq!((m.to_string(), m.revision()), ("(A:1 C:1)".to_owned(), 1));
    let last = m.last_run().next().unwrap();
    assert!(!last.is_accepted() && last.changes().len() == 0);
}

#[test]
fn of_called_states_that_remove_each_other_the_later_one_loses() {
    let mut m = machine([def("A").remove(["B"]), def("B").remove(["A"])]);
    let [a, b] = ["A", "B"].map(|name| at(&m, name));
    assert_eq!(
        m.add([a, b]),
        Outcome::Canceled(Reason::Blocked { state: b, by: a })
    );
    assert_eq!(
        m.add([b, a]),
        Outcome::Canceled(Reason::Blocked { state: a, by: b })
    );
    // A called state beats an active one.
    assert_eq!(after(&mut m, Op::Add, &["A"]), "(A:1)");
    assert_eq!(after(&mut m, Op::Add, &["B"]), "(B:1)");
}

#[test]
fn a_multi_state_called_again_ticks_by_two() {
    let mut m = machine([def("A").multi(), def("B")]);
    assert_eq!(after(&mut m, Op::Add, &["A", "B"]), "(A:1 B:1)");
    assert_eq!(after(&mut m, Op::Add, &["A", "B"]), "(A:3 B:1)");
    let changes: Vec<_> = m.last_run().next().unwrap().changes().collect();
    assert_eq!(changes, [(at(&m, "A"), 2)]);
}

#[test]
fn repeats_in_a_call_count_once() {
    let mut m = machine([def("A").multi()]);
    assert_eq!(after(&mut m, Op::Add, &["A", "A"]), "(A:1)");
    assert_eq!(after(&mut m, Op::Add, &["A", "A"]), "(A:3)");
    assert_eq!(m.last_run().next().unwrap().called().len(), 1);
}

#[test]
#[should_panic(expected = "DynState(7) is no state of Test")]
fn calling_a_state_of_another_schema_panics() {
    let _ = machine([def("A")]).add(DynState(7));
}

#[test]
fn auto_states_come_back_in_a_transition_of_their_own() {
    let mut m = machine([
        def("A").auto().remove(["B"]),
        def("B").remove(["A"]),
        def("C").auto(),
    ]);
    assert_eq!(after(&mut m, Op::Add, &["B"]), "(B:1 C:1)");
    let runs: Vec<_> = m
        .last_run()
        .map(|t| (t.op(), t.is_auto(), t.revision()))
        .collect();
    assert_eq!(runs, [(Op::Add, false, 1), (Op::Add, true, 2)]);
    assert_eq!(after(&mut m, Op::Remove, &["B"]), "(A:1 C:1)");
    // Nothing changed, so nothing is tried.
    assert_eq!(after(&mut m, Op::Remove, &["B"]), "(A:1 C:1)");
    assert_eq!(m.last_run().len(), 1);
}

#[test]
fn auto_states_do_not_cascade() {
    // B removes what blocks C, but which auto states to try was decided before.
    let mut m = machine([
        def("A").remove(["C"]),
        def("B").auto().remove(["A"]),
        def("C").auto(),
    ]);
    assert_eq!(after(&mut m, Op::Add, &["A"]), "(B:1)");
    assert_eq!(m.last_run().len(), 2);
    assert_eq!(
        after(&mut m, Op::Add, &["Exception"]),
        "(Exception:1 B:1 C:1)"
    );
}

#[test]
fn an_auto_state_finds_what_an_active_multi_state_adds_again() {
    let mut m = machine([
        def("A").multi().add(["B"]),
        def("B"),
        def("C").auto().require(["B"]),
    ]);
    assert_eq!(after(&mut m, Op::Add, &["A"]), "(A:1 B:1 C:1)");
    assert_eq!(after(&mut m, Op::Remove, &["B"]), "(A:1 B:3 C:3)");
}

#[test]
fn an_auto_mutation_that_none_survives_is_refused_for_the_log_alone() {
    let mut m = machine([def("A"), def("B").auto().require(["C"]), def("C")]);
    assert_eq!(after(&mut m, Op::Add, &["A"]), "(A:1)");
    let runs: Vec<_> = m
        .last_run()
        .map(|t| (t.is_auto(), t.is_accepted()))
        .collect();
    assert_eq!(runs, [(false, true), (true, false)]);
    assert_eq!(m.revision(), 1);
}

#[test]
fn a_lone_health_state_triggers_no_auto_state() {
    let states = || {
        [
            def("A").auto(),
            def("Healthcheck").multi(),
            def("Heartbeat"),
        ]
    };
    let mut m = machine(states());
    assert_eq!(
        after(&mut m, Op::Add, &["Healthcheck", "Healthcheck"]),
        "(Healthcheck:1)"
    );
    assert_eq!(
        after(&mut m, Op::Add, &["Heartbeat"]),
        "(Healthcheck:1 Heartbeat:1)"
    );
    assert_eq!(
        after(&mut m, Op::Remove, &["Heartbeat"]),
        "(A:1 Healthcheck:1)"
    );
    let mut m = machine(states());
    let both = after(&mut m, Op::Add, &["Healthcheck", "Heartbeat"]);
    assert_eq!(both, "(A:1 Healthcheck:1 Heartbeat:1)");
}

#[test]
fn the_active_list_keeps_the_order_that_later_results_depend_on() {
    let mut m = machine([
        def("A"),
        def("B").require(["A"]),
        def("C"),
        def("D").after(["E"]),
        def("E"),
    ]);
    let order = |m: &Machine<DynState>| {
        m.active_list()
            .map(|s| m.schema().name_of(s.0 as usize).to_owned())
            .collect::<String>()
    };
    after(&mut m, Op::Add, &["C"]);
    after(&mut m, Op::Add, &["B", "A"]);
    assert_eq!(order(&m), "CAB");
    after(&mut m, Op::Add, &["D"]);
    after(&mut m, Op::Add, &["C"]);
    assert_eq!(order(&m), "CDAB");
    after(&mut m, Op::Set, &["D", "E"]);
    assert_eq!(order(&m), "ED");
}

#[test]
fn what_waits_runs_in_order_with_its_queue_tick() {
    let mut m = machine([def("A").auto(), def("B"), def("C")]);
    let [b, c] = ["B", "C"].map(|name| at(&m, name));
    assert_eq!(m.queue_tick(), 1);
    assert_eq!(m.enqueue(&Mutation::add(b)), Ok(Enqueued::Queued(2)));
    assert_eq!(m.enqueue(&Mutation::add(c)), Ok(Enqueued::Queued(3)));
    assert_eq!(m.enqueue(&Mutation::add(b)), Ok(Enqueued::Merged(2)));
    assert_eq!((m.queue_len(), m.to_string()), (2, "()".to_owned()));
    m.run();
    assert_eq!((m.queue_len(), m.queue_tick()), (0, 3));
    let called: Vec<Vec<DynState>> = m.last_run().map(|t| t.called().collect()).collect();
    assert_eq!(called, [vec![b], vec![at(&m, "A")], vec![c]]);
    // One that did not have to wait counts as well, an auto mutation does not.
    assert!(m.remove(b).is_executed());
    assert_eq!(m.queue_tick(), 4);
}

#[test]
fn a_mutation_runs_behind_what_waits() {
    let mut m = machine([def("A"), def("B").require(["A"])]);
    let [a, b] = ["A", "B"].map(|name| at(&m, name));
    assert_eq!(m.enqueue(&Mutation::add(a)), Ok(Enqueued::Queued(2)));
    assert!(m.add(b).is_executed());
    assert_eq!((m.queue_tick(), m.last_run().len()), (3, 2));
}

#[test]
fn a_toggle_is_decided_when_it_is_called() {
    let mut m = machine([def("A")]);
    let a = at(&m, "A");
    assert_eq!(m.enqueue(&Mutation::toggle(a)), Ok(Enqueued::Queued(2)));
    assert_eq!(m.enqueue(&Mutation::toggle(a)), Ok(Enqueued::Merged(2)));
    m.run();
    assert_eq!(m.to_string(), "(A:1)");
}

#[test]
fn multi_states_and_payloads_do_not_merge() {
    let mut m = machine([def("A").multi(), def("B").payload()]);
    let [a, b] = ["A", "B"].map(|name| at(&m, name));
    let with_payload = Mutation::add(b).with_payload(b, "x");
    for tick in [2, 3] {
        assert_eq!(m.enqueue(&Mutation::add(a)), Ok(Enqueued::Queued(tick)));
    }
    for tick in [4, 5] {
        assert_eq!(m.enqueue(&with_payload), Ok(Enqueued::Queued(tick)));
    }
    m.run();
    assert_eq!(m.to_string(), "(A:3 B:1)");
}

#[test]
fn a_full_queue_takes_nothing_more() {
    let mut m = machine([def("A").multi(), def("B")]);
    let [a, b] = ["A", "B"].map(|name| at(&m, name));
    for _ in 0..QUEUE_LIMIT {
        assert!(matches!(
            m.enqueue(&Mutation::add(a)),
            Ok(Enqueued::Queued(_))
        ));
    }
    assert_eq!(m.enqueue(&Mutation::add(b)), Ok(Enqueued::Full));
    m.run();
    assert_eq!(m.to_string(), format!("(A:{})", QUEUE_LIMIT * 2 - 1));
}

#[test]
fn a_called_state_retains_its_payload_until_it_ends() {
    let mut m = machine([def("A").retain().add(["B"]), def("B").retain(), def("C")]);
    let [a, b, c] = ["A", "B", "C"].map(|name| at(&m, name));
    assert!(
        m.mutate(&Mutation::add([a, c]).with_payload(a, "UA 1545"))
            .is_executed()
    );
    assert_eq!(m.retained(a).unwrap(), "UA 1545");
    // The payload was not for them.
    assert_eq!((m.retained(c), m.retained(b)), (None, None));
    // An active state keeps what it was activated with.
    assert!(
        m.mutate(&Mutation::add(a).with_payload(a, "B6 725"))
            .is_executed()
    );
    assert_eq!(m.retained(a).unwrap(), "UA 1545");
    assert!(m.remove(a).is_executed());
    assert_eq!(m.retained(a), None);
    assert!(m.add(a).is_executed());
    assert_eq!(m.retained(a), None);
}

#[test]
fn a_multi_state_called_again_retains_the_new_payload_or_none() {
    let mut m = machine([def("A").multi().retain()]);
    let a = at(&m, "A");
    for payload in ["one", "two"] {
        assert!(
            m.mutate(&Mutation::add(a).with_payload(a, payload))
                .is_executed()
        );
        assert_eq!(m.retained(a).unwrap(), payload);
    }
    assert!(m.add(a).is_executed());
    assert_eq!(m.retained(a), None);
}

#[test]
fn a_canceled_mutation_leaves_no_payload() {
    let mut m = machine([def("A").retain().require(["B"]), def("B")]);
    let a = at(&m, "A");
    assert!(
        !m.mutate(&Mutation::add(a).with_payload(a, "x"))
            .is_executed()
    );
    assert_eq!((m.retained(a), m.digest()), (None, 0));
}

#[test]
fn a_waiting_mutation_brings_its_payload() {
    let mut m = machine([def("A").retain()]);
    let a = at(&m, "A");
    assert_eq!(
        m.enqueue(&Mutation::add(a).with_payload(a, "x")),
        Ok(Enqueued::Queued(2))
    );
    m.run();
    assert_eq!(m.retained(a).unwrap(), "x");
}

#[test]
fn too_large_payloads_are_refused() {
    let mut m = machine([def("A").retain()]);
    let a = at(&m, "A");
    let large = Mutation::add(a).with_payload(a, vec![0; MAX_PAYLOAD + 1]);
    let reason = Reason::PayloadTooLarge { len: 1025 };
    assert_eq!(m.mutate(&large), Outcome::Canceled(reason.clone()));
    assert_eq!(
        reason.to_string(),
        "a payload of 1025 bytes, at most 1024 are allowed"
    );
    assert_eq!(m.enqueue(&large), Err(reason));
    assert_eq!((m.queue_len(), m.to_string()), (0, "()".to_owned()));
    assert!(
        m.mutate(&Mutation::add(a).with_payload(a, vec![0; MAX_PAYLOAD]))
            .is_executed()
    );
}

#[test]
fn a_payload_is_for_a_called_state_that_takes_one() {
    let mut m = machine([def("A").payload(), def("B")]);
    let [a, b] = ["A", "B"].map(|name| at(&m, name));
    for (mutation, state) in [
        (Mutation::add(b).with_payload(b, "1"), b),
        (Mutation::add(b).with_payload(a, "1"), a),
        (Mutation::add(a).with_payload(DynState(9), "1"), DynState(9)),
    ] {
        let reason = Reason::PayloadUnwanted { state };
        assert_eq!(m.mutate(&mutation), Outcome::Canceled(reason.clone()));
        assert_eq!(m.enqueue(&mutation), Err(reason));
    }
    assert!(
        m.mutate(&Mutation::add([b, a]).with_payload(a, "1"))
            .is_executed()
    );
    // It was not declared to keep it.
    assert_eq!(m.retained(a), None);
}

#[test]
fn the_digest_is_that_of_the_ticks_and_the_retained_payloads() {
    let mut m = machine([def("A").retain(), def("B").multi()]);
    let [a, b] = ["A", "B"].map(|name| at(&m, name));
    // Wire contract: the odd factors of the first states.
    let factors = [
        0xe220_a839_7b1d_cdaf,
        0x6e78_9e6a_a1b9_65f5,
        0x06c4_5d18_8009_454f_u64,
    ];
    assert_eq!(m.digest(), 0);
    assert!(
        m.mutate(&Mutation::add([a, b]).with_payload(a, "gate B2"))
            .is_executed()
    );
    let ticks = factors[1].wrapping_add(factors[2]);
    let payload = xxhash_rust::xxh3::xxh3_64_with_seed(b"gate B2", 2);
    assert_eq!(m.digest(), ticks.wrapping_add(payload));
    assert_eq!(m.digest(), 0x0293_1f1d_705f_4806);
    assert!(m.remove(a).is_executed());
    assert_eq!(m.digest(), ticks.wrapping_add(factors[1]));
    assert!(m.add(b).is_executed());
    let ticks = factors[1]
        .wrapping_mul(2)
        .wrapping_add(factors[2].wrapping_mul(3));
    assert_eq!(m.digest(), ticks);
}

#[test]
fn the_same_mutations_lead_to_the_same_ticks_order_and_log() {
    let states = || {
        [
            def("A").auto().remove(["B", "C"]),
            def("B").remove(["A"]).add(["D"]),
            def("C").remove(["B"]).multi(),
            def("D").require(["B"]).auto(),
        ]
    };
    let run = |m: &mut Machine<DynState>| {
        let mut seen = Vec::new();
        for i in 0..200_u32 {
            let op = [Op::Add, Op::Toggle, Op::Remove, Op::Add][i as usize % 4];
            let called = [DynState(1 + i * 7 % 4), DynState(1 + i * i % 3)];
            let outcome = m.mutate(&Mutation::new(op, called));
            let log: Vec<String> = m.last_run().map(|t| format!("{t:?}")).collect();
            seen.push((
                outcome,
                m.ticks().to_vec(),
                m.active_list().collect::<Vec<_>>(),
                log,
            ));
        }
        seen
    };
    let (mut one, mut two) = (machine(states()), machine(states()));
    assert_eq!(run(&mut one), run(&mut two));
}

#[test]
fn the_log_starts_anew_with_each_call() {
    let mut m = machine([def("A"), def("B")]);
    let [a, b] = ["A", "B"].map(|name| at(&m, name));
    assert!(m.add(a).is_executed() && m.add(b).is_executed());
    let [last] = m.last_run().collect::<Vec<_>>()[..] else {
        panic!("one transition")
    };
    assert_eq!(last.called().collect::<Vec<_>>(), [b]);
    assert_eq!((last.revision(), last.digest()), (m.revision(), m.digest()));
    m.run();
    assert_eq!(m.last_run().len(), 0);
}

#[test]
fn debug_forms_say_what_matters() {
    let mut m = machine([def("A")]);
    let a = at(&m, "A");
    assert!(m.add(a).is_executed());
    let text = r#"Machine { schema: "Test", revision: 1, active: (A:1), .. }"#;
    assert_eq!(format!("{m:?}"), text);
    let transition = format!("{:?}", m.last_run().next().unwrap());
    assert!(
        transition.contains("op: Add, auto: false, accepted: true"),
        "{transition}"
    );
    assert!(format!("{:?}", m.schema()).starts_with(r#"Schema { name: "Test", states: 2"#));
}

#[test]
fn explain_names_what_hinders_and_what_depends() {
    let states = [
        def("A").remove(["B"]),
        def("B").require(["C"]),
        def("C"),
        def("D").require(["A"]),
        def("E").auto().require(["C"]),
    ];
    let mut m = machine(states);
    let explain = |m: &Machine<DynState>, name| m.explain(at(m, name)).to_string();
    assert_eq!(
        explain(&m, "A"),
        "A is inactive (tick 0); nothing hinders it, nothing has called it yet"
    );
    let called = all(&m, &["A", "D"]);
    assert!(m.add(called).is_executed());
    assert_eq!(
        explain(&m, "A"),
        "A is active (tick 1); required by DynState(4)"
    );
    assert_eq!(
        explain(&m, "B"),
        "B is inactive (tick 0); blocked by DynState(1); requires the inactive DynState(3)"
    );
    let b = m.explain(at(&m, "B"));
    assert_eq!(
        (b.blocked_by, b.missing, b.required_by),
        (vec![at(&m, "A")], vec![at(&m, "C")], vec![])
    );
    assert_eq!(explain(&m, "D"), "D is active (tick 1)");
    let a = at(&m, "A");
    assert!(m.remove(a).is_executed());
    assert_eq!(
        explain(&m, "A"),
        "A is inactive (tick 2); nothing hinders it, it ended and was not called again"
    );
}

#[test]
fn explain_names_what_would_bring_a_state_along() {
    let m = machine([def("A").add(["B"]), def("B"), def("C").add(["B", "A"])]);
    let added_by = |name| m.explain(at(&m, name)).added_by;
    assert_eq!(added_by("B"), [at(&m, "A"), at(&m, "C")]);
    assert_eq!(added_by("A"), [at(&m, "C")]);
    assert_eq!(added_by("C"), []);
}

#[test]
fn steps_say_who_is_not_added_and_because_of_whom() {
    let mut m = machine([
        def("A").add(["B"]),
        def("B").add(["C"]),
        def("C"),
        def("Against").remove(["C"]),
        def("Multi").multi().add(["C"]),
    ]);
    let [a, b, c, against, multi] = ["A", "B", "C", "Against", "Multi"].map(|name| at(&m, name));
    assert!(m.add(against).is_executed());
    // What is added brings along in turn what none of the list removes (rule R9).
    let steps = m.steps(&Mutation::add(a));
    let not_added = Step::NotAdded {
        state: c,
        by: b,
        removed_by: Some(against),
    };
    let wanted = [
        Step::Called(a),
        Step::Added { state: b, by: a },
        not_added,
        Step::Begins(a),
        Step::Begins(b),
    ];
    assert_eq!(steps, wanted);
    assert_eq!(m.tick(a), 0, "nothing has changed");
    // In a remove, what is called is not added back (rule R6).
    assert!(m.remove(against).is_executed() && m.add(multi).is_executed());
    let steps = m.steps(&Mutation::remove(c));
    let not_added = Step::NotAdded {
        state: c,
        by: multi,
        removed_by: None,
    };
    assert!(steps.contains(&not_added), "{steps:?}");
    assert_eq!(steps.last(), Some(&Step::Ends(c)));
}

#[test]
fn what_a_multi_state_adds_again_is_there_for_auto_states() {
    // C would remove X, but B removes C; so A adds X again in the second half (rule R9).
    let mut m = machine([
        def("A").multi().add(["X"]),
        def("X"),
        def("B").auto().remove(["C"]),
        def("C").auto().remove(["X"]),
        def("D").auto().require(["X"]),
        def("P").remove(["B", "C", "D"]),
    ]);
    assert_eq!(after(&mut m, Op::Add, &["A", "P"]), "(A:1 X:1 P:1)");
    assert_eq!(after(&mut m, Op::Remove, &["P"]), "(A:1 X:1 B:1 D:1)");
}
