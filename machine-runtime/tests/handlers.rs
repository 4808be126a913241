//! What handlers see, do and cause.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use machine_runtime::{
    Cause, DynState, ERROR_HISTORY, Enqueued, ErrorKind, FullQueue, MAX_ROUNDS, MAX_RUN, Machine,
    Mutation, Op, Outcome, Phase, QUEUE_LIMIT, Reason, Refusal, StateContext, StateDef, Transition,
    Verdict,
};

#[path = "handlers/script.rs"]
mod script;

use script::{Clock, Log, Script, boom, machine, roads};

fn def(name: &str) -> StateDef {
    StateDef::new(name)
}

const EXCEPTION: DynState = DynState(0);
const A: DynState = DynState(1);
const B: DynState = DynState(2);
const C: DynState = DynState(3);
const D: DynState = DynState(4);

/// A refusal as its reason.
fn refused(phase: Phase, state: Option<DynState>, why: Option<&'static str>) -> Outcome<DynState> {
    let why = why.map(Into::into);
    Outcome::Canceled(Reason::Refused(Box::new(Refusal { phase, state, why })))
}

fn panicked(phase: Phase, state: impl Into<Option<DynState>>) -> Outcome<DynState> {
    let state = state.into();
    Outcome::Canceled(Reason::Panicked { phase, state })
}

fn late(phase: Phase, state: impl Into<Option<DynState>>) -> Outcome<DynState> {
    let state = state.into();
    Outcome::Canceled(Reason::TimedOut { phase, state })
}

fn add(m: &mut Machine<DynState>, states: impl machine_runtime::IntoStates<DynState>) {
    assert_eq!(m.add(states), Outcome::Executed);
}

/// The transitions of the last run, as `add 1 2`; auto ones and refused ones say so.
fn ran(m: &Machine<DynState>) -> Vec<String> {
    m.last_run()
        .map(|t| {
            let auto = if t.is_auto() { "auto " } else { "" };
            let called = t.called().map(|state| {
                let name = m.schema().names().nth(state.0 as usize).unwrap();
                format!(" {name}")
            });
            let not = if t.is_accepted() { "" } else { " (not)" };
            format!("{auto}{}{}{not}", t.op(), called.collect::<String>())
        })
        .collect()
}

fn errors(m: &Machine<DynState>) -> Vec<String> {
    m.errors().map(ToString::to_string).collect()
}

// --- the order of phases -------------------------------------------------------------------------

#[test]
fn phases_run_in_order_on_both_roads() {
    for mut m in roads([
        def("A").multi(),
        def("B"),
        def("C").remove(["B"]).add(["D"]),
        def("D"),
        def("E"),
    ]) {
        let log = Log::default();
        m.bind(Script::tracer(&m.schema().clone(), &log));
        for state in [A, B, DynState(5)] {
            add(&mut m, state);
        }
        log.take();
        // The active list is E, B, A; the target list is C, A, E, D.
        add(&mut m, [C, A]);
        let expected = [
            "exit B",
            "enter C",
            "enter A",
            "enter D",
            "stay A",
            "stay E",
            "E-C",
            "E-A",
            "E-D",
            "B-C",
            "B-A",
            "B-E",
            "B-D",
            "A-C",
            "A-E",
            "A-D",
            "any_enter",
            "end B",
            "state C",
            "state A",
            "state D",
            "any_state",
        ];
        assert_eq!(log.take(), expected);
        assert_eq!(m.remove(DynState(5)), Outcome::Executed);
        let expected = [
            "exit E",
            "C-A",
            "C-D",
            "A-C",
            "A-D",
            "E-C",
            "E-A",
            "E-D",
            "D-C",
            "D-A",
            "any_enter",
            "end E",
            "any_state",
        ];
        assert_eq!(log.take(), expected);
        // Nothing changes, and yet all that stays is asked.
        assert_eq!(m.remove(B), Outcome::Executed);
        let expected = [
            "C-A",
            "C-D",
            "A-C",
            "A-D",
            "D-C",
            "D-A",
            "any_enter",
            "any_state",
        ];
        assert_eq!(log.take(), expected);
    }
}

#[test]
fn required_states_come_before_those_that_require_them_in_every_phase() {
    for mut m in roads([def("A").require(["B"]), def("B"), def("C")]) {
        let log = Log::default();
        m.bind(Script::tracer(&m.schema().clone(), &log));
        add(&mut m, [A, B, C]);
        let expected = [
            "enter C",
            "enter B",
            "enter A",
            "any_enter",
            "state C",
            "state B",
            "state A",
            "any_state",
        ];
        assert_eq!(log.take(), expected);
        assert_eq!(m.remove([B, C]), Outcome::Executed);
        let expected = [
            "exit C",
            "exit B",
            "exit A",
            "any_enter",
            "end C",
            "end B",
            "end A",
            "any_state",
        ];
        assert_eq!(log.take(), expected);
    }
}

#[test]
fn exits_are_sorted_among_themselves() {
    let mut m = machine([def("A").after(["B"]), def("B"), def("C")]);
    for state in [B, C, A] {
        add(&mut m, state);
    }
    // Only neighbours are compared: C stands between.
    assert_eq!(m.active_list().collect::<Vec<_>>(), [A, C, B]);
    let log = Log::default();
    m.bind(Script::tracer(&m.schema().clone(), &log));
    assert_eq!(m.remove([A, B]), Outcome::Executed);
    let log = log.take();
    assert_eq!(log[..2], ["exit B", "exit A"]);
    assert_eq!(log[log.len() - 3..], ["end B", "end A", "any_state"]);
}

#[test]
fn a_set_is_negotiated_like_an_add() {
    let mut m = machine([def("A"), def("B"), def("C").multi()]);
    add(&mut m, [A, C]);
    let log = Log::default();
    m.bind(Script::tracer(&m.schema().clone(), &log));
    let set = Mutation::set([B, C]);
    assert_eq!(m.mutate(&set), Outcome::Executed);
    let expected = [
        "exit A",
        "enter B",
        "enter C",
        "stay C",
        "A-B",
        "A-C",
        "C-B",
        "any_enter",
        "end A",
        "state B",
        "state C",
        "any_state",
    ];
    assert_eq!(log.take(), expected);
    assert_eq!(m.to_string(), "(B:1 C:3)");
}

#[test]
fn relations_refuse_before_anyone_is_asked() {
    for mut m in roads([def("A").require(["B"]), def("B")]) {
        let log = Log::default();
        m.bind(Script::tracer(&m.schema().clone(), &log));
        let reason = Reason::Missing {
            state: A,
            requires: B,
        };
        assert_eq!(m.add(A), Outcome::Canceled(reason));
        assert_eq!(log.take(), [""; 0]);
    }
}

#[test]
fn a_handler_for_one_thing_is_not_asked_about_another() {
    for mut m in roads([def("A"), def("B").multi()]) {
        let log = Log::default();
        let [enter, end, again] = std::array::from_fn(|_| log.clone());
        m.bind(
            Script::new()
                .ask(Phase::Enter, A, move |_| {
                    enter.note("enter A");
                    true
                })
                .tell(Phase::End, A, move |_| end.note("end A"))
                .tell(Phase::State, B, move |_| again.note("state B")),
        );
        for (state, expected) in [(A, vec!["enter A"]), (A, vec![]), (B, vec!["state B"])] {
            add(&mut m, state);
            assert_eq!(log.take(), expected);
        }
        // Called again.
        add(&mut m, B);
        assert_eq!(log.take(), ["state B"]);
        assert_eq!(m.remove([A, B]), Outcome::Executed);
        assert_eq!(log.take(), ["end A"]);
    }
}

// --- what handlers see ---------------------------------------------------------------------------

#[test]
fn a_negotiation_handler_sees_the_machine_before_and_a_final_one_after() {
    for mut m in roads([def("A"), def("B").remove(["A"]).payload()]) {
        add(&mut m, A);
        let log = Log::default();
        let look = |log: &Log| {
            let log = log.clone();
            move |cx: &machine_runtime::Ongoing<'_, DynState>| {
                assert_eq!((cx.op(), cx.cause()), (Some(Op::Add), Cause::Call));
                assert_eq!(cx.called().collect::<Vec<_>>(), [B]);
                assert!(cx.is_called(B) && !cx.is_called(A));
                assert!(cx.was_active(A) && !cx.was_active(B));
                assert!(!cx.will_be_active(A) && cx.will_be_active(B));
                assert_eq!(cx.before().iter().collect::<Vec<_>>(), [A]);
                assert_eq!(cx.after().iter().collect::<Vec<_>>(), [B]);
                assert_eq!(cx.ending().collect::<Vec<_>>(), [A]);
                assert_eq!(cx.beginning().collect::<Vec<_>>(), [B]);
                assert_eq!(cx.payload_bytes(B).unwrap(), "7");
                assert_eq!(cx.payload_bytes(A), None);
                let active: Vec<u32> = cx.active().iter().map(|state| state.0).collect();
                assert_eq!(cx.is_active(A), active == [1]);
                let ticks = [cx.tick(A), cx.tick(B), cx.tick(DynState(999))];
                let state = cx.state().map(|state| state.0);
                log.note(format!(
                    "{} {state:?} {active:?} {ticks:?} {}",
                    cx.phase(),
                    cx.revision()
                ));
            }
        };
        let mut script = Script::new().between(A, B, {
            let look = look(&log);
            move |cx| {
                look(cx);
                true
            }
        });
        for (phase, state) in [
            (Phase::Exit, &[A][..]),
            (Phase::Enter, &[B]),
            (Phase::AnyEnter, &[]),
        ] {
            let look = look(&log);
            script = script.ask(phase, state, move |cx| {
                look(cx);
                true
            });
        }
        for (phase, state) in [
            (Phase::End, &[A][..]),
            (Phase::State, &[B]),
            (Phase::AnyState, &[]),
        ] {
            let look = look(&log);
            script = script.tell(phase, state, move |cx| look(cx));
        }
        m.bind(script);
        let mutation = Mutation::add(B).with_payload(B, "7");
        assert_eq!(m.mutate(&mutation), Outcome::Executed);
        let expected = [
            "exit Some(1) [1] [1, 0, 0] 1",
            "enter Some(2) [1] [1, 0, 0] 1",
            "between Some(2) [1] [1, 0, 0] 1",
            "any_enter None [1] [1, 0, 0] 1",
            "end Some(1) [2] [2, 1, 0] 2",
            "state Some(2) [2] [2, 1, 0] 2",
            "any_state None [2] [2, 1, 0] 2",
        ];
        assert_eq!(log.take(), expected);
    }
}

#[test]
fn a_handler_knows_who_asked() {
    let mut m = machine([def("A"), def("B").auto(), def("C")]);
    let log = Log::default();
    let note = log.clone();
    m.bind(
        Script::new()
            .tell(Phase::AnyState, [], move |cx| {
                note.note(format!("{} {:?}", cx.op().unwrap(), cx.cause()));
            })
            .tell(Phase::State, A, |cx| {
                let _ = cx.toggle(C);
            })
            .tell(Phase::State, C, |_| boom::<()>()),
    );
    add(&mut m, A);
    // Nothing tells of the transition that panicked.
    assert_eq!(log.take(), ["add Call", "add Auto", "add Panic"]);
    let causes: Vec<_> = m.last_run().map(|t| t.cause()).collect();
    assert_eq!(
        causes,
        [Cause::Call, Cause::Auto, Cause::Handler, Cause::Panic]
    );
}

#[test]
fn a_bound_set_can_be_looked_at() {
    struct Count(u32);
    impl machine_runtime::Handlers<DynState> for Count {
        fn bind(&self, binder: &mut machine_runtime::Binder<Self, DynState>) {
            binder.state([A, B], &[], |count, _, _| {
                count.0 += 1;
                ().into()
            });
        }
    }
    let mut m = machine([def("A"), def("B")])
        .with(Script::new())
        .with(Count(5));
    add(&mut m, A);
    add(&mut m, B);
    assert_eq!(m.handlers::<Count>().unwrap().0, 7);
    assert!(m.handlers::<Script>().is_some());
    assert!(machine([]).handlers::<Count>().is_none());
}

// --- refusals ------------------------------------------------------------------------------------

#[test]
fn the_first_refusal_cancels_all_and_says_why() {
    for mut m in roads([def("A"), def("B").remove(["A"])]) {
        add(&mut m, A);
        let log = Log::default();
        m.bind(Script::new().ask(Phase::Enter, B, |_| Verdict::refuse("not today")));
        m.bind(Script::tracer(&m.schema().clone(), &log));
        let before = (m.to_string(), m.revision(), m.digest());
        let why = refused(Phase::Enter, Some(B), Some("not today"));
        assert_eq!(m.add(B), why);
        assert_eq!(log.take(), ["exit A"]);
        assert_eq!((m.to_string(), m.revision(), m.digest()), before);
        let Outcome::Canceled(reason) = why else {
            unreachable!()
        };
        assert_eq!(m.last_run().next().unwrap().reason(), Some(reason.clone()));
        assert_eq!(
            reason.to_string(),
            "refused by enter of DynState(2): not today"
        );
        // And the next one starts as if nothing had been.
        assert_eq!(m.remove(A), Outcome::Executed);
        assert_eq!(m.active_list().count(), 0);
    }
}

#[test]
fn each_phase_of_a_negotiation_can_refuse() {
    for phase in [
        Phase::Exit,
        Phase::Enter,
        Phase::Stay,
        Phase::Between,
        Phase::AnyEnter,
    ] {
        for mut m in roads([def("A"), def("B").remove(["A"]), def("C")]) {
            add(&mut m, [A, C]);
            let (script, state) = match phase {
                Phase::Exit => (Script::new().ask(phase, A, |_| false), Some(A)),
                Phase::Enter => (Script::new().ask(phase, B, |_| false), Some(B)),
                Phase::Stay => (Script::new().ask(phase, C, |_| false), Some(C)),
                // What does not change is asked too; the state is the one after.
                Phase::Between => (Script::new().between(A, C, |_| false), Some(C)),
                _ => (Script::new().ask(phase, [], |_| false), None),
            };
            m.bind(script);
            let order: Vec<_> = m.active_list().collect();
            assert_eq!(m.add(B), refused(phase, state, None), "{phase}");
            assert_eq!(m.to_string(), "(A:1 C:1)");
            assert_eq!(m.active_list().collect::<Vec<_>>(), order);
        }
    }
}

#[test]
fn no_auto_mutation_follows_a_refusal() {
    let mut m = machine([def("A"), def("B").auto()]);
    m.bind(Script::new().ask(Phase::Enter, A, |_| false));
    assert_eq!(m.add(A), refused(Phase::Enter, Some(A), None));
    assert_eq!(ran(&m), ["add A (not)"]);
}

#[test]
fn sets_are_asked_in_the_order_of_binding_up_to_the_first_that_refuses() {
    for mut m in roads([def("A"), def("B")]) {
        let log = Log::default();
        for (name, verdict) in [("1", true), ("2", false), ("3", true)] {
            let [ask, tell] = std::array::from_fn(|_| log.clone());
            m.bind(
                Script::new()
                    .ask(Phase::Enter, A, move |_| {
                        ask.note(name);
                        verdict
                    })
                    .tell(Phase::State, B, move |_| tell.note(name)),
            );
        }
        assert_eq!(m.add(A), refused(Phase::Enter, Some(A), None));
        assert_eq!(log.take(), ["1", "2"]);
        add(&mut m, B);
        assert_eq!(log.take(), ["1", "2", "3"]);
    }
}

#[test]
fn a_panic_stops_the_remaining_sets() {
    for mut m in roads([def("A"), def("B")]) {
        let log = Log::default();
        let [ask, tell] = std::array::from_fn(|_| log.clone());
        m.bind(Script::new().ask(Phase::Enter, A, |_| boom::<bool>()).tell(
            Phase::State,
            B,
            |_| boom::<()>(),
        ));
        m.bind(
            Script::new()
                .ask(Phase::Enter, A, move |_| {
                    ask.note("enter");
                    true
                })
                .tell(Phase::State, B, move |_| tell.note("state")),
        );
        assert_eq!(m.add(A), panicked(Phase::Enter, A));
        assert_eq!(m.add(B), panicked(Phase::State, B));
        assert_eq!(log.take(), [""; 0]);
    }
}

#[test]
fn a_set_that_cannot_be_bound_leaves_the_machine_as_it_was() {
    let mut m = machine([def("A")]);
    let bound = catch_unwind(AssertUnwindSafe(|| {
        m.bind(
            Script::new()
                .ask(Phase::AnyEnter, [], |_| false)
                .ask(Phase::Enter, A, |_| false)
                .ask(Phase::Enter, DynState(7), |_| false),
        );
    }));
    let panic = bound.unwrap_err();
    assert_eq!(
        panic.downcast_ref::<String>().unwrap(),
        "a handler is bound to state 7, which Test does not have"
    );
    assert!(m.handlers::<Script>().is_none());
    add(&mut m, A);
}

// --- auto mutations ------------------------------------------------------------------------------

#[test]
fn a_refused_auto_state_is_left_out_with_what_it_adds() {
    for mut m in roads([
        def("A"),
        def("B").auto().add(["C"]),
        def("C"),
        def("D").auto(),
    ]) {
        let log = Log::default();
        m.bind(Script::new().ask(Phase::Enter, B, |_| false));
        m.bind(Script::tracer(&m.schema().clone(), &log));
        add(&mut m, A);
        assert_eq!(m.to_string(), "(A:1 D:1)");
        assert_eq!(ran(&m), ["add A", "auto add B D"]);
        // What it would have added was asked all the same, but is not told.
        let expected = [
            "enter A",
            "any_enter",
            "state A",
            "any_state",
            "enter D",
            "enter C",
            "stay A",
            "A-D",
            "A-C",
            "any_enter",
            "state D",
            "any_state",
        ];
        assert_eq!(log.take(), expected);
    }
}

#[test]
fn a_refusal_about_another_than_an_auto_state_cancels_the_auto_mutation() {
    for phase in [Phase::Enter, Phase::Between, Phase::Stay, Phase::AnyEnter] {
        for mut m in roads([def("A"), def("B").auto().add(["C"]), def("C")]) {
            m.bind(match phase {
                Phase::Enter => Script::new().ask(phase, C, |_| false),
                Phase::Between => Script::new().between(A, C, |_| false),
                Phase::Stay => Script::new().ask(phase, A, |_| false),
                _ => Script::new().ask(phase, [], |cx| cx.cause() != Cause::Auto),
            });
            add(&mut m, A);
            assert_eq!(m.to_string(), "(A:1)");
            assert_eq!(ran(&m), ["add A", "auto add B (not)"]);
        }
    }
}

#[test]
fn the_state_after_decides_whether_a_pair_may_be_left_out() {
    for mut m in roads([def("A"), def("B").auto(), def("C").auto()]) {
        let log = Log::default();
        m.bind(Script::new().between(A, B, |_| false));
        m.bind(Script::tracer(&m.schema().clone(), &log));
        add(&mut m, A);
        assert_eq!(ran(&m), ["add A", "auto add B C"]);
        assert_eq!(m.to_string(), "(A:1 C:1)");
        assert!(log.take().contains(&"A-C".to_owned()));
    }
}

#[test]
fn all_pairs_are_asked_even_those_of_a_state_left_out_by_one() {
    for mut m in roads([def("A"), def("B"), def("C").auto().require(["B"])]) {
        add(&mut m, A);
        let log = Log::default();
        m.bind(Script::new().between([A, B], C, |_| false));
        let note = log.clone();
        m.bind(Script::new().between([A, B], C, move |_| {
            note.note("not reached");
            true
        }));
        let note = log.clone();
        m.bind(Script::new().ask(Phase::AnyEnter, [], move |cx| {
            note.note(format!("{:?} {}", cx.cause(), cx.will_be_active(C)));
            true
        }));
        add(&mut m, B);
        assert_eq!(log.take(), ["Call false", "Auto false"]);
        assert_eq!(m.to_string(), "(A:1 B:1)");
        // It was accepted, but none of the called is active.
        assert_eq!(ran(&m), ["add B", "auto add C"]);
    }
}

#[test]
fn an_auto_mutation_of_which_nothing_is_left_is_canceled() {
    for mut m in roads([def("A"), def("B").auto()]) {
        let log = Log::default();
        let note = log.clone();
        m.bind(
            Script::new()
                .ask(Phase::Enter, B, |_| false)
                .ask(Phase::AnyEnter, [], move |cx| {
                    note.note(format!("{:?}", cx.cause()));
                    true
                }),
        );
        add(&mut m, A);
        assert_eq!(ran(&m), ["add A", "auto add B"]);
        assert_eq!(log.take(), ["Call", "Auto"]);
        assert_eq!(m.remove(A), Outcome::Executed);
        // With nothing active, nothing is left without the refused state.
        assert_eq!(ran(&m), ["remove A", "auto add B (not)"]);
        let reason = m.last_run().nth(1).unwrap().reason();
        assert_eq!(reason, Some(Reason::NoCandidate));
        assert_eq!(log.take(), ["Call"]);
    }
}

#[test]
fn an_auto_state_that_may_not_stay_stays_and_those_behind_it_are_asked() {
    // Q1: none is skipped, and a refusal of the last does not cancel.
    let names = ["S1", "S2", "S3"];
    for refusing in names {
        let states = names.map(|name| def(name).auto());
        let [s1, s2, s3] = states;
        for mut m in roads([s1, s2, s3, def("Late").auto().require(["Go"]), def("Go")]) {
            add(&mut m, []);
            add(&mut m, DynState(1));
            assert_eq!(m.active().len(), 3);
            let log = Log::default();
            let who = DynState(m.schema().find(refusing).unwrap().try_into().unwrap());
            let note = log.clone();
            m.bind(Script::new().ask(Phase::Stay, [A, B, C], move |cx| {
                if cx.cause() == Cause::Auto {
                    note.note(cx.state().unwrap().0.to_string());
                }
                cx.cause() != Cause::Auto || cx.state() != Some(who)
            }));
            let order: Vec<_> = m.active_list().map(|state| state.0.to_string()).collect();
            add(&mut m, DynState(5));
            assert_eq!(log.take(), order, "{refusing}");
            assert_eq!(ran(&m), ["add Go", "auto add Late"]);
            assert_eq!(m.to_string(), "(S1:1 S2:1 S3:1 Late:1 Go:1)");
        }
    }
}

#[test]
fn an_auto_state_that_may_not_end_cancels_the_auto_mutation() {
    // Q6.
    for panics in [false, true] {
        for mut m in roads([
            def("A"),
            def("B").auto(),
            def("C").auto().remove(["B"]).require(["A"]),
        ]) {
            add(&mut m, B);
            m.bind(Script::new().ask(Phase::Exit, B, move |_| panics && boom()));
            add(&mut m, A);
            assert_eq!(ran(&m)[..2], ["add A", "auto add C (not)"]);
            assert_eq!((m.tick(A), m.tick(B), m.tick(C)), (1, 1, 0));
            assert_eq!(m.is_active(EXCEPTION), panics);
        }
    }
}

// --- panics and errors ---------------------------------------------------------------------------

#[test]
fn a_panic_in_a_negotiation_changes_nothing_and_adds_exception_next() {
    for mut m in roads([def("A"), def("B").auto(), def("C")]) {
        let log = Log::default();
        m.bind(Script::new().ask(Phase::Enter, A, |cx| {
            let _ = cx.add(C);
            boom::<bool>()
        }));
        m.bind(Script::tracer(&m.schema().clone(), &log));
        assert_eq!(m.add(A), panicked(Phase::Enter, A));
        // Exception comes before what the handler appended, and with the auto mutation.
        let expected = ["add A (not)", "add Exception", "auto add B", "add C"];
        assert_eq!(ran(&m), expected);
        assert_eq!(m.to_string(), "(Exception:1 B:1 C:1)");
        let ticks: Vec<_> = m.last_run().map(|t| t.queue_tick()).collect();
        assert_eq!(ticks, [Some(2), None, None, Some(3)]);
        assert_eq!(log.take()[0], "enter Exception");
        assert_eq!(errors(&m), ["panic in enter of A: boom (after add A)"]);
    }
}

#[test]
fn a_panic_while_a_state_begins_takes_out_it_and_the_later_ones_without_extra_ticks() {
    // Q2: the oracle gives A up to 6.
    for mut m in roads([def("A").multi(), def("B"), def("C"), def("D")]) {
        add(&mut m, [A, D]);
        m.bind(Script::new().tell(Phase::State, B, |_| boom::<()>()));
        let before = m.revision();
        assert_eq!(
            m.mutate(&Mutation::set([A, B, C])),
            panicked(Phase::State, B)
        );
        let first = m.last_run().next().unwrap();
        let mut changes: Vec<_> = first.changes().collect();
        changes.sort_unstable_by_key(|(state, _)| state.0);
        assert_eq!(changes, [(A, 2), (B, 2), (C, 2), (D, 1)]);
        assert_eq!(first.revision(), before + 1);
        assert_eq!(m.ticks()[..5], [1, 3, 2, 2, 2]);
        assert_eq!(m.active_list().collect::<Vec<_>>(), [EXCEPTION, A]);
    }
}

#[test]
fn a_multi_state_called_again_is_taken_out_if_its_turn_did_not_come() {
    for mut m in roads([def("A").multi(), def("B")]) {
        add(&mut m, A);
        m.bind(Script::new().tell(Phase::State, B, |_| boom::<()>()));
        assert_eq!(m.add([B, A]), panicked(Phase::State, B));
        assert_eq!(m.ticks()[..3], [1, 4, 2]);
    }
}

#[test]
fn a_panic_while_a_state_ends_is_repaired_like_one_while_it_begins() {
    // Q3: what ended stays so, what was to begin does not.
    for mut m in roads([def("A"), def("B").remove(["A"])]) {
        add(&mut m, A);
        m.bind(Script::new().tell(Phase::End, A, |_| boom::<()>()));
        assert_eq!(m.add(B), panicked(Phase::End, A));
        assert_eq!(m.ticks()[..3], [1, 2, 2]);
        add(&mut m, B);
        assert_eq!(m.to_string(), "(Exception:1 B:3)");
    }
}

#[test]
fn a_panic_at_the_very_end_repairs_nothing_and_causes_no_auto_mutation() {
    for mut m in roads([def("A"), def("B").auto()]) {
        m.bind(Script::new().tell(Phase::AnyState, [], |cx| {
            if cx.is_called(A) {
                boom::<()>();
            }
        }));
        assert_eq!(m.add(A), panicked(Phase::AnyState, None));
        assert_eq!(ran(&m), ["add A (not)", "add Exception", "auto add B"]);
        assert_eq!(m.to_string(), "(Exception:1 A:1 B:1)");
        assert_eq!(errors(&m), ["panic in any_state: boom (after add A)"]);
    }
}

#[test]
fn a_repair_may_leave_a_state_without_what_it_requires_until_the_next_transition() {
    for mut m in roads([def("A").require(["B"]), def("B").require(["A"]), def("C")]) {
        m.bind(Script::new().tell(Phase::State, B, |_| boom::<()>()).ask(
            Phase::Enter,
            EXCEPTION,
            |_| false,
        ));
        assert_eq!(m.add([A, B]), panicked(Phase::State, B));
        assert_eq!(m.to_string(), "(A:1)");
        // A refusal leaves it, too.
        let reason = Reason::Missing {
            state: B,
            requires: A,
        };
        assert_eq!(m.remove([]), Outcome::Executed);
        assert_eq!(m.to_string(), "()");
        assert_eq!(m.add(B), Outcome::Canceled(reason));
    }
}

#[test]
fn what_is_taken_out_loses_the_payload_that_it_retains() {
    let mut m = machine([def("A"), def("B").retain().multi()]);
    m.bind(Script::new().tell(Phase::State, A, |_| boom::<()>()));
    for _ in 0..2 {
        let mutation = Mutation::add([A, B]).with_payload(B, "1");
        assert_eq!(m.mutate(&mutation), panicked(Phase::State, A));
        assert_eq!(m.retained(B), None);
        let first = m.last_run().next().unwrap();
        let payloads: Vec<_> = first.payloads().map(|(_, bytes)| bytes.is_some()).collect();
        assert_eq!(payloads, [true, false]);
        let other = Mutation::add(B).with_payload(B, "2");
        assert_eq!(m.mutate(&other), Outcome::Executed);
        assert_eq!(m.retained(B).unwrap(), "2");
    }
}

#[test]
fn a_panic_over_an_auto_state_cancels_the_whole_auto_mutation() {
    // Q8.
    for mut m in roads([def("A"), def("B").auto(), def("C").auto()]) {
        let log = Log::default();
        m.bind(Script::new().ask(Phase::Enter, B, |cx| cx.tick(EXCEPTION) > 0 || boom()));
        m.bind(Script::tracer(&m.schema().clone(), &log));
        add(&mut m, A);
        let expected = [
            "add A",
            "auto add B C (not)",
            "add Exception",
            "auto add B C",
        ];
        assert_eq!(ran(&m), expected);
        // The auto mutation that panicked has asked nobody else.
        assert_eq!(log.take()[4], "enter Exception");
        assert_eq!(m.to_string(), "(Exception:1 A:1 B:1 C:1)");
    }
}

#[test]
fn a_full_queue_takes_the_removal_of_an_active_exception() {
    let mut m = machine([def("A").multi()]);
    add(&mut m, EXCEPTION);
    for _ in 0..QUEUE_LIMIT {
        let _ = m.enqueue(&Mutation::add(A)).unwrap();
    }
    let full = Ok(Enqueued::Full);
    assert_eq!(m.enqueue(&Mutation::add(EXCEPTION)), full);
    assert_eq!(m.enqueue(&Mutation::remove([EXCEPTION, A])), full);
    let queued = Ok(Enqueued::Queued(2 + 1001));
    assert_eq!(m.enqueue(&Mutation::remove(EXCEPTION)), queued);
    m.run();
    assert!(!m.is_active(EXCEPTION));
}

#[test]
fn a_panic_over_exception_is_remembered_and_the_queue_goes_on() {
    // Q9.
    for mut m in roads([def("A")]) {
        m.bind(Script::new().tell(Phase::State, EXCEPTION, |cx| {
            let _ = cx.add(A);
            boom::<()>();
        }));
        assert_eq!(m.fail("lost"), panicked(Phase::State, EXCEPTION));
        assert_eq!(ran(&m), ["add Exception (not)", "add A"]);
        assert_eq!(m.ticks()[..2], [2, 1]);
        let expected = [
            "lost",
            "panic in state of Exception: boom (after add Exception)",
        ];
        assert_eq!(errors(&m), expected);
        assert_eq!(m.queue_len(), 0);
    }
}

#[test]
fn a_panic_over_exception_in_negotiation_or_removal_is_remembered_too() {
    for mut m in roads([def("A")]) {
        add(&mut m, EXCEPTION);
        m.bind(Script::new().ask(Phase::Exit, EXCEPTION, |_| boom::<bool>()));
        assert_eq!(m.remove(EXCEPTION), panicked(Phase::Exit, EXCEPTION));
        assert_eq!(ran(&m), ["remove Exception (not)"]);
        assert_eq!(m.to_string(), "(Exception:1)");
        assert_eq!(m.error_count(), 1);
    }
}

/// One auto state without blame, and one with a handler that panics every time.
fn always_panics() -> [Machine<DynState>; 2] {
    roads([
        def("A"),
        def("B").auto().require(["D"]),
        def("C").auto(),
        def("D"),
        def("E"),
    ])
    .map(|m| {
        m.with(Script::new().ask(Phase::Enter, C, |_| boom::<bool>()))
            .with(Script::new().tell(Phase::State, A, |cx| {
                if cx.tick(A) == 1 {
                    boom::<()>();
                }
            }))
    })
}

#[test]
fn an_auto_state_that_panics_every_time_is_cut_off_by_name_and_the_machine_goes_on() {
    // Q9.
    for mut m in always_panics() {
        for state in [D, A] {
            let outcome = m.add(state);
            assert_eq!(outcome.is_executed(), state == D);
            assert_eq!(m.last_run().len(), 1 + MAX_ROUNDS as usize);
            let last = m.errors().next_back().unwrap();
            assert_eq!(last.kind, ErrorKind::Runaway);
            assert_eq!(last.state.as_deref(), Some("C"), "{last}");
            assert_eq!(
                last.to_string(),
                "runaway: auto mutations and panics followed each other 16 times, the last over C; \
                 the next was cut off"
            );
            assert_eq!((m.tick(C), m.queue_len()), (0, 0));
        }
        // Nothing is left of it: a change tries C anew, that is all.
        let count = m.error_count();
        m.run();
        assert_eq!((m.last_run().len(), m.error_count()), (0, count));
        add(&mut m, A);
        assert!(m.is_active(A));
    }
}

#[test]
fn what_waits_may_each_cause_an_auto_mutation() {
    let mut m = machine([def("A").multi(), def("B").auto()]);
    m.bind(Script::new().ask(Phase::Enter, B, |_| false));
    let waiting = 2 * MAX_ROUNDS as usize;
    for _ in 0..waiting {
        let _ = m.enqueue(&Mutation::add(A)).unwrap();
    }
    m.run();
    assert_eq!(m.last_run().filter(Transition::is_auto).count(), waiting);
    assert_eq!(m.error_count(), 0);
}

#[test]
fn exception_keeps_the_last_error_and_the_machine_the_recent_ones() {
    let mut m = machine([def("Exception").multi().retain(), def("Net")]);
    let net = DynState(1);
    m.bind(
        Script::new()
            .tell(Phase::State, net, |cx| {
                if cx.op() == Some(Op::Add) && cx.called().len() == 1 {
                    return Err("returned");
                }
                Ok(())
            })
            .tell(Phase::End, net, move |cx| {
                let _ = cx.fail_with(net, "from a handler");
            }),
    );
    add(&mut m, net);
    // The transition stands.
    assert_eq!(ran(&m), ["add Net", "add Exception"]);
    let last = m.errors().next_back().unwrap();
    assert_eq!((last.kind, last.revision), (ErrorKind::Returned, 1));
    assert_eq!(
        last.to_string(),
        "returned in state of Net: returned (after add Net)"
    );
    assert_eq!(m.remove(net), Outcome::Executed);
    assert_eq!(ran(&m), ["remove Net", "add Net Exception"]);
    assert_eq!(m.to_string(), "(Exception:3 Net:3)");
    assert_eq!(
        m.fail_with(net, std::io::Error::other("by hand")),
        Outcome::Executed
    );
    assert_eq!(ran(&m), ["add Net Exception"]);
    let last = m.errors().next_back().unwrap();
    assert_eq!(
        (last.kind, last.to_string()),
        (ErrorKind::Added, "by hand".into())
    );
    assert!(std::error::Error::source(last).is_some());
    for i in 0..ERROR_HISTORY {
        assert_eq!(m.fail(format!("error {i}")), Outcome::Executed);
    }
    assert_eq!(m.errors().len(), ERROR_HISTORY);
    assert_eq!(m.errors().next().unwrap().message, "error 0");
    assert_eq!(m.error_count(), 3 + ERROR_HISTORY as u64);
}

#[cfg(feature = "serde")]
#[test]
fn the_payload_of_exception_says_what_happened_where() {
    let mut m = machine([def("Exception").multi().retain(), def("A"), def("B")]);
    m.bind(Script::new().tell(Phase::State, A, |_| boom::<()>()));
    add(&mut m, B);
    assert_eq!(m.add([A, B]), panicked(Phase::State, A));
    let bytes = m.retained(EXCEPTION).unwrap();
    let json: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let expected = serde_json::json!({
        "kind": "panic", "message": "boom", "phase": "state", "state": "A",
        "mutation": "add A B", "revision": 2,
    });
    assert_eq!(json, expected);
    let error: machine_runtime::MachineError = serde_json::from_slice(bytes).unwrap();
    assert_eq!(error.to_string(), m.errors().next().unwrap().to_string());
    // However long it is, it fits.
    assert_eq!(m.fail("\u{1}ü".repeat(5000)), Outcome::Executed);
    assert!(m.retained(EXCEPTION).unwrap().len() <= machine_runtime::MAX_PAYLOAD);
    assert_eq!(m.errors().next_back().unwrap().message.len(), 15_000);
}

#[test]
fn an_error_of_a_negotiation_handler_comes_behind_what_it_refused() {
    let mut m = machine([def("A")]);
    m.bind(Script::new().ask(Phase::Enter, A, |cx| {
        assert_eq!(cx.fail("no ticket"), Enqueued::Queued(3));
        Verdict::refuse("see Exception")
    }));
    assert_eq!(
        m.add(A),
        refused(Phase::Enter, Some(A), Some("see Exception"))
    );
    assert_eq!(ran(&m), ["add A (not)", "add Exception"]);
    assert_eq!(errors(&m), ["added in enter of A: no ticket (after add A)"]);
}

// --- time ----------------------------------------------------------------------------------------

#[test]
fn a_negotiation_handler_that_takes_too_long_refuses() {
    for mut m in roads([def("A"), def("B").auto(), def("C").auto()]) {
        let clock = Clock::default();
        clock.lend(&mut m);
        let [slow, fast] = std::array::from_fn(|_| clock.clone());
        m.bind(
            Script::new()
                .ask(Phase::Enter, [A, B], move |_| {
                    slow.pass(26);
                    true
                })
                .ask(Phase::Enter, C, move |_| {
                    fast.pass(25);
                    true
                }),
        );
        assert_eq!(m.add(A), late(Phase::Enter, A));
        assert_eq!(ran(&m), ["add A (not)"]);
        let expected = "timeout in enter of A: took 26ms, may take 25ms (after add A)";
        assert_eq!(errors(&m), [expected]);
        // Of an auto mutation it refuses one state.
        add(&mut m, EXCEPTION);
        assert_eq!(ran(&m), ["add Exception", "auto add B C"]);
        assert_eq!(m.to_string(), "(Exception:1 C:1)");
        assert_eq!(m.error_count(), 2);
    }
}

#[test]
fn a_final_handler_that_takes_too_long_ends_the_transition_without_exception() {
    for mut m in roads([def("A"), def("B"), def("C"), def("D").auto()]) {
        let clock = Clock::default();
        clock.lend(&mut m);
        let log = Log::default();
        m.bind(Script::tracer(&m.schema().clone(), &log));
        let slow = clock.clone();
        m.bind(Script::new().tell(Phase::State, B, move |_| slow.pass(26)));
        assert_eq!(m.add([A, B, C]), late(Phase::State, B));
        let ticks = m.ticks().to_vec();
        assert_eq!(ticks[..5], [0, 1, 2, 2, 0]);
        assert_eq!(ran(&m), ["add A B C (not)"]);
        assert_eq!(log.take().last().unwrap(), "state B");
        assert_eq!(m.errors().next().unwrap().kind, ErrorKind::Timeout);
        assert_eq!(m.error_count(), 1);
        let slow = clock.clone();
        m.bind(Script::new().tell(Phase::AnyState, [], move |_| slow.pass(26)));
        // The very end repairs nothing.
        assert_eq!(m.add(C), late(Phase::AnyState, None));
        assert_eq!(m.to_string(), "(A:1 C:3)");
    }
}

#[test]
fn without_a_stopwatch_nothing_takes_too_long() {
    let mut m = machine([def("A")]);
    let clock = Clock::default();
    m.bind(Script::new().ask(Phase::Enter, A, move |_| {
        clock.pass(1_000_000);
        true
    }));
    add(&mut m, A);
}

#[test]
fn far_too_long_empties_the_queue_and_refuses_all_for_a_while() {
    for phase in [Phase::Enter, Phase::State] {
        let mut m = machine([def("Exception").multi().retain(), def("A"), def("B")]);
        let clock = Clock::default();
        clock.lend(&mut m);
        let slow = clock.clone();
        m.bind(match phase {
            Phase::Enter => Script::new().ask(phase, A, move |cx| {
                let _ = cx.add(B);
                slow.pass(10_001);
                true
            }),
            _ => Script::new().tell(phase, A, move |cx| {
                let _ = cx.add(B);
                slow.pass(10_001);
            }),
        });
        assert_eq!(m.add(A), late(phase, A));
        assert_eq!(ran(&m), ["add A (not)", "add Exception"]);
        let dropped: Vec<_> = m.dropped().collect();
        assert_eq!(dropped, [(3, Reason::BackingOff)]);
        let error = m.errors().next_back().unwrap();
        assert_eq!(error.kind, ErrorKind::Deadline);
        let payload = m.retained(EXCEPTION).unwrap();
        assert!(String::from_utf8_lossy(payload).contains("took 10.001s, may take 10s"));
        // Everything from outside is canceled, and nothing waits.
        let tick = m.queue_tick();
        let off = Reason::BackingOff;
        assert_eq!(m.add(B), Outcome::Canceled(off.clone()));
        assert_eq!(m.can(&Mutation::add(B)), Outcome::Canceled(off.clone()));
        assert_eq!(m.enqueue(&Mutation::add(B)), Err(off.clone()));
        assert_eq!(m.fail("more"), Outcome::Canceled(off.clone()));
        clock.pass(2_999);
        assert_eq!(m.remove(EXCEPTION), Outcome::Canceled(off));
        assert_eq!((m.queue_tick(), m.queue_len()), (tick, 0));
        clock.pass(1);
        add(&mut m, B);
    }
}

#[test]
fn exception_that_takes_far_too_long_does_not_call_itself_again() {
    let mut m = machine([def("A")]);
    let clock = Clock::default();
    clock.lend(&mut m);
    let slow = clock.clone();
    m.bind(Script::new().tell(Phase::State, EXCEPTION, move |_| slow.pass(10_001)));
    assert_eq!(m.fail("lost"), late(Phase::State, EXCEPTION));
    assert_eq!(ran(&m), ["add Exception (not)"]);
    assert_eq!(m.error_count(), 2);
}

#[test]
fn an_auto_state_that_takes_far_too_long_every_time_is_cut_off_by_name() {
    let mut m = machine([def("A"), def("B").auto()]);
    let clock = Clock::default();
    clock.lend(&mut m);
    let slow = clock.clone();
    m.bind(Script::new().tell(Phase::State, B, move |_| slow.pass(10_001)));
    add(&mut m, A);
    assert!(m.last_run().len() <= 3 * MAX_ROUNDS as usize);
    let last = m.errors().next_back().unwrap();
    assert_eq!(
        (last.kind, last.state.as_deref()),
        (ErrorKind::Runaway, Some("B"))
    );
}

#[test]
fn exception_tells_of_the_handler_that_took_far_too_long_and_not_of_a_later_error() {
    let mut m = machine([
        def("Exception").multi().retain(),
        def("A"),
        def("B").auto(),
        def("C").auto(),
    ]);
    let clock = Clock::default();
    clock.lend(&mut m);
    m.bind(Script::new().ask(Phase::Enter, [B, C], move |cx| {
        if cx.tick(EXCEPTION) == 0 {
            clock.pass(if cx.state() == Some(B) { 10_001 } else { 26 });
        }
        true
    }));
    add(&mut m, A);
    let payload = String::from_utf8_lossy(m.retained(EXCEPTION).unwrap()).into_owned();
    assert!(payload.contains("took 10.001s"), "{payload}");
}

// --- what handlers append ------------------------------------------------------------------------

#[test]
fn what_handlers_append_runs_in_order_behind_the_auto_mutation() {
    for mut m in roads([def("A"), def("B"), def("C"), def("D").auto()]) {
        let log = Log::default();
        let note = log.clone();
        let last = log.clone();
        m.bind(
            Script::new()
                .ask(Phase::Enter, A, move |cx| {
                    note.note(format!("{:?}", cx.add([B, C])));
                    note.note(format!("{:?}", cx.add([C, B, B])));
                    note.note(format!("{:?}", cx.remove(A)));
                    // Something waits that could change it.
                    note.note(format!("{:?}", cx.remove(C)));
                    true
                })
                .tell(Phase::State, A, move |cx| {
                    // It is decided while A is active: a removal, which waits already.
                    last.note(format!("{:?}", cx.toggle(A)));
                    last.note(format!("{:?}", cx.set(A)));
                    let mutation = Mutation::add(B).with_payload(B, "1");
                    last.note(format!("{:?}", cx.mutate(&mutation)));
                }),
        );
        add(&mut m, A);
        let expected = [
            "Queued(3)",
            "Merged(3)",
            "Queued(4)",
            "Queued(5)",
            "Merged(4)",
            "Queued(6)",
            "Err(PayloadUnwanted { state: DynState(2) })",
        ];
        assert_eq!(log.take()[..7], expected);
        let expected = [
            "add A",
            "auto add D",
            "add B C",
            "remove A",
            "remove C",
            "set A",
            "auto add D",
        ];
        assert_eq!(ran(&m)[..7], expected);
        let ticks: Vec<_> = m.last_run().filter_map(|t| t.queue_tick()).collect();
        assert!(
            ticks.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{ticks:?}"
        );
    }
}

#[test]
fn a_removal_of_what_is_not_active_at_that_moment_is_needless() {
    for mut m in roads([def("A"), def("B").multi().payload()]) {
        let log = Log::default();
        let [enter, state] = std::array::from_fn(|_| log.clone());
        m.bind(
            Script::new()
                .ask(Phase::Enter, A, move |cx| {
                    enter.note(format!("{:?} {:?}", cx.remove(A), cx.toggle([])));
                    true
                })
                .tell(Phase::State, A, move |cx| {
                    state.note(format!("{:?} {:?}", cx.remove(B), cx.remove([B, A])));
                }),
        );
        add(&mut m, A);
        let expected = ["Needless Needless", "Needless Queued(3)"];
        assert_eq!(log.take(), expected);
        assert_eq!(m.to_string(), "()");
        // From outside it is a transition.
        assert_eq!(m.remove(B), Outcome::Executed);
        assert_eq!(ran(&m), ["remove B"]);
    }
}

#[test]
fn multi_states_and_payloads_do_not_merge_in_handlers_either() {
    let mut m = machine([def("A"), def("B").multi(), def("C").payload()]);
    m.bind(Script::new().tell(Phase::State, A, |cx| {
        assert_eq!(
            [cx.add(B), cx.add(B)],
            [Enqueued::Queued(3), Enqueued::Queued(4)]
        );
        let with = Mutation::add(C).with_payload(C, "1");
        assert_eq!(cx.mutate(&with), Ok(Enqueued::Queued(5)));
        assert_eq!(cx.add(C), Enqueued::Queued(6));
        assert_eq!(cx.mutate(&with), Ok(Enqueued::Queued(7)));
        assert_eq!(cx.add(C), Enqueued::Merged(6));
    }));
    add(&mut m, A);
    assert_eq!(m.to_string(), "(A:1 B:3 C:1)");
}

#[test]
fn a_full_queue_refuses_handlers_but_takes_exception() {
    let mut m = machine([def("A"), def("B").multi()]);
    m.bind(Script::new().tell(Phase::State, A, |cx| {
        for i in 0..QUEUE_LIMIT as u64 {
            assert_eq!(cx.add(B), Enqueued::Queued(i + 3));
        }
        assert_eq!(cx.add(B), Enqueued::Full);
        assert_eq!(cx.fail_with(B, "not urgent"), Enqueued::Full);
        assert_eq!(cx.remove(EXCEPTION), Enqueued::Full);
        assert_eq!(cx.fail("urgent"), Enqueued::Queued(1003));
    }));
    add(&mut m, A);
    assert_eq!(m.last_run().len(), 1 + QUEUE_LIMIT + 1);
    assert!(m.is_active(EXCEPTION) && m.dropped().len() == 0);
}

#[test]
fn a_full_queue_that_drops_its_oldest_says_which() {
    let mut m = machine([def("A"), def("B").multi()]);
    m.set_full_queue(FullQueue::DropOldest);
    m.bind(Script::new().tell(Phase::State, A, |cx| {
        for i in 0..QUEUE_LIMIT as u64 + 2 {
            assert_eq!(cx.add(B), Enqueued::Queued(i + 3));
        }
    }));
    add(&mut m, A);
    let dropped: Vec<_> = m.dropped().collect();
    assert_eq!(dropped, [(3, Reason::Displaced), (4, Reason::Displaced)]);
    let ticks: Vec<_> = m.last_run().filter_map(|t| t.queue_tick()).collect();
    assert_eq!((ticks[0], ticks[1], ticks.len()), (2, 5, 1 + QUEUE_LIMIT));
    m.run();
    assert_eq!(m.dropped().len(), 0);
}

#[test]
fn a_step_says_what_was_dropped_before_it() {
    let mut m = machine([def("A").multi()]);
    m.set_full_queue(FullQueue::DropOldest);
    for _ in 0..=QUEUE_LIMIT {
        assert!(m.enqueue(&Mutation::add(A)).is_ok());
    }
    assert!(m.step());
    assert_eq!(m.dropped().collect::<Vec<_>>(), [(2, Reason::Displaced)]);
    assert_eq!(m.last_run().next().unwrap().queue_tick(), Some(3));
}

#[test]
fn handlers_that_append_each_other_without_end_are_cut_off() {
    let mut m = machine([def("A").multi(), def("B").multi(), def("C")]);
    m.bind(
        Script::new()
            .tell(Phase::State, A, |cx| {
                let _ = cx.add(B);
            })
            .tell(Phase::State, B, |cx| {
                let _ = cx.add(A);
            }),
    );
    add(&mut m, A);
    let error = m.errors().next_back().unwrap();
    assert_eq!((m.error_count(), error.kind), (1, ErrorKind::Runaway));
    assert_eq!(m.queue_len(), 0);
    assert!(m.last_run().len() >= MAX_RUN as usize);
    let [(tick, reason)] = &m.dropped().collect::<Vec<_>>()[..] else {
        panic!("one was cut off");
    };
    assert_eq!((*tick, reason), (m.queue_tick(), &Reason::Runaway));
    add(&mut m, C);
    assert_eq!(ran(&m), ["add C"]);
}

#[test]
fn what_appends_once_more_from_an_auto_mutation_is_cut_off_as_well() {
    // One of the two steps of each round waits in no queue.
    for first in [1, 2] {
        let mut m = machine([def("A"), def("B").multi(), def("C").auto()]);
        m.bind(Script::new().ask(Phase::Enter, C, |cx| {
            let _ = cx.add(B);
            false
        }));
        for _ in 1..first {
            let _ = m.enqueue(&Mutation::remove(A)).unwrap();
        }
        add(&mut m, A);
        assert!(m.last_run().len() <= 2 * MAX_RUN as usize + 2);
        assert_eq!(m.errors().next_back().unwrap().kind, ErrorKind::Runaway);
    }
}

#[test]
fn what_appends_once_more_after_each_panic_is_cut_off_as_well() {
    let mut m = machine([def("A"), def("B").multi()]);
    m.bind(
        Script::new()
            .tell(Phase::State, EXCEPTION, |cx| {
                let _ = cx.add(B);
            })
            .tell(Phase::State, B, |_| boom::<()>()),
    );
    assert_eq!(m.add(B), panicked(Phase::State, B));
    assert!(m.last_run().len() <= 2 * MAX_RUN as usize + 2);
    assert_eq!(m.errors().next_back().unwrap().kind, ErrorKind::Runaway);
    assert_eq!(m.queue_len(), 0);
}

#[test]
fn a_long_run_that_ends_by_itself_is_no_runaway() {
    for length in [
        u64::from(MAX_RUN) - 1,
        u64::from(MAX_RUN),
        u64::from(MAX_RUN) + 1,
    ] {
        let mut m = machine([def("A").multi()]);
        m.bind(Script::new().tell(Phase::State, A, move |cx| {
            if cx.tick(A) < 2 * length {
                let _ = cx.add(A);
            }
        }));
        add(&mut m, A);
        assert_eq!((m.error_count(), m.dropped().len()), (0, 0), "{length}");
        assert_eq!(m.last_run().len() as u64, length + 1);
    }
}

// --- dry runs ------------------------------------------------------------------------------------

#[test]
fn a_dry_run_asks_and_changes_nothing_at_all() {
    for mut m in roads([def("A"), def("B").remove(["A"]), def("C"), def("D").auto()]) {
        add(&mut m, [A, C]);
        let log = Log::default();
        m.bind(Script::tracer(&m.schema().clone(), &log));
        m.bind(Script::new().ask(Phase::Enter, B, |cx| {
            assert_eq!(cx.add(C), Enqueued::Queued(4));
            let _ = cx.fail("discarded");
            true
        }));
        let _ = m.enqueue(&Mutation::remove(A)).unwrap();
        let look = |m: &Machine<DynState>| {
            (
                m.ticks().to_vec(),
                m.active_list().collect::<Vec<_>>(),
                [m.queue_len() as u64, m.queue_tick(), m.revision()],
                [m.digest(), m.error_count(), m.last_run().len() as u64],
                m.dropped().len(),
            )
        };
        let before = look(&m);
        assert_eq!(m.can(&Mutation::add(B)), Outcome::Executed);
        assert_eq!(log.take()[..3], ["exit A", "enter B", "stay D"]);
        assert_eq!(look(&m), before);
        assert_eq!(m.can(&Mutation::set(B)), Outcome::Executed);
        assert_eq!(m.can(&Mutation::toggle([A, C])), Outcome::Executed);
        assert_eq!(look(&m), before);
        assert_eq!(
            m.can(&Mutation::add([A, B])),
            Outcome::Canceled(Reason::Blocked { state: A, by: B })
        );
        assert_eq!(look(&m), before);
        m.run();
        assert_eq!(ran(&m), ["remove A"]);
    }
}

#[test]
fn a_dry_run_reports_refusals_panics_and_overruns_without_consequences() {
    for mut m in roads([def("A"), def("B"), def("C").payload()]) {
        let clock = Clock::default();
        clock.lend(&mut m);
        m.bind(Script::new().ask(Phase::Enter, C, move |cx| {
            let _ = cx.fail("discarded");
            match cx.payload_bytes(C).map(|bytes| &bytes[..]) {
                Some(b"panic") => boom(),
                Some(b"late") => clock.pass(20_000),
                _ => return Verdict::refuse("no"),
            }
            Verdict::Accept
        }));
        let with = |payload: &'static str| Mutation::add(C).with_payload(C, payload);
        let expected = [
            (Mutation::add(C), refused(Phase::Enter, Some(C), Some("no"))),
            (with("panic"), panicked(Phase::Enter, C)),
            (with("late"), late(Phase::Enter, C)),
        ];
        for (mutation, outcome) in expected {
            assert_eq!(m.can(&mutation), outcome);
            assert_eq!((m.error_count(), m.queue_len(), m.revision()), (0, 0, 0));
        }
        // Neither Exception nor a time of recovery.
        add(&mut m, A);
        assert_eq!(ran(&m), ["add A"]);
    }
}

#[test]
fn a_dry_run_with_a_multi_state_is_not_judged_by_relations() {
    for mut m in roads([def("A").multi().require(["B"]), def("B")]) {
        assert_eq!(m.can(&Mutation::add(A)), Outcome::Executed);
        m.bind(Script::new().ask(Phase::AnyEnter, [], |_| false));
        let outcome = refused(Phase::AnyEnter, None, None);
        assert_eq!(m.can(&Mutation::add(A)), outcome);
    }
}

// --- contexts and steps --------------------------------------------------------------------------

#[test]
fn contexts_end_before_final_handlers_run_and_again_with_a_repair() {
    for mut m in roads([def("A"), def("B").remove(["A"]), def("C").multi(), def("D")]) {
        add(&mut m, [A, C]);
        let contexts = [A, B, C, D].map(|state| m.context(state));
        let log = Log::default();
        let [asks, tells] = std::array::from_fn(|_| (log.clone(), contexts.clone()));
        m.bind(
            Script::new()
                .ask(Phase::AnyEnter, [], move |_| {
                    asks.0.note(format!(
                        "{:?}",
                        asks.1.each_ref().map(StateContext::is_ended)
                    ));
                    true
                })
                .tell(Phase::End, A, move |_| {
                    tells.0.note(format!(
                        "{:?}",
                        tells.1.each_ref().map(StateContext::is_ended)
                    ));
                }),
        );
        add(&mut m, [B, C]);
        let expected = ["[false, false, false, false]", "[true, true, true, false]"];
        assert_eq!(log.take(), expected);
        // One made in the middle of a transition ends when its state is taken out.
        m.bind(Script::new().tell(Phase::State, D, |_| boom::<()>()));
        let before = m.context(D);
        assert_eq!(m.add(D), panicked(Phase::State, D));
        assert!(before.is_ended());
        assert_eq!(m.context(D).tick(), 2);
        assert!(!m.context(D).is_ended());
    }
}

#[test]
fn a_step_is_one_transition() {
    let mut m = machine([def("A"), def("B").auto(), def("C")]);
    m.bind(Script::new().tell(Phase::State, A, |cx| {
        let _ = cx.add(C);
    }));
    m.bind(Script::new().tell(Phase::State, C, |_| boom::<()>()));
    assert!(!m.step());
    let _ = m.enqueue(&Mutation::add(A)).unwrap();
    for expected in ["add A", "auto add B", "add C (not)", "add Exception"] {
        assert!(m.step());
        assert_eq!(ran(&m), [expected]);
    }
    assert!(!m.step());
    assert_eq!(m.last_run().len(), 0);
}

#[test]
fn a_step_that_has_nothing_to_run_but_what_is_cut_off_is_none() {
    for mut m in always_panics() {
        let _ = m.enqueue(&Mutation::add(D)).unwrap();
        let mut steps = 0;
        while m.step() {
            assert_eq!(m.last_run().len(), 1);
            steps += 1;
        }
        assert_eq!(steps, 1 + MAX_ROUNDS);
        assert_eq!(m.errors().next_back().unwrap().kind, ErrorKind::Runaway);
    }
}

/// What a panic carries that panics itself when it drops.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("again"));
    }
}

struct Thrower;

impl machine_runtime::Handlers<DynState> for Thrower {
    fn bind(&self, binder: &mut machine_runtime::Binder<Self, DynState>) {
        binder.state(DynState(1), &[], |_, _, _| {
            std::panic::resume_unwind(Box::new(Grenade))
        });
    }
}

#[test]
fn a_panic_that_panics_when_it_drops_is_one_error() {
    let schema = machine_runtime::Schema::builder("Fort")
        .state(StateDef::new("A"))
        .build();
    let mut machine = Machine::with_schema(schema.unwrap().into()).with(Thrower);
    assert!(!machine.add(DynState(1)).is_executed());
    assert_eq!(machine.error_count(), 1);
    assert!(machine.is_active(DynState(0)), "Exception");
}
