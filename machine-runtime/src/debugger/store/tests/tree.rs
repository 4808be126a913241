//! A tree made by hand: a root, a replica that is late, one that is wrong, and one below it.

use fastrand::Rng;

use super::told::{EPOCH, Teller, followed, hello, schema};
use super::*;
use crate::debug::frame::{Change, Key, Trace, Transition};
use crate::handlers::Cause;
use crate::mutation::Op;
use crate::position::Position;

const WALL: u64 = 1_000_000;

struct Tree {
    store: Store,
    stream: StreamId,
    number: u64,
}

fn at(revision: u64) -> Position {
    Position {
        epoch: EPOCH,
        revision,
    }
}

fn change(state: u32, ticks: u64) -> Change {
    Change { state, ticks }
}

fn transition(n: u64, cause: Cause, state: u32, trace: Option<Trace>) -> Body {
    Body::Transition(Box::new(Transition {
        sequence: n,
        revision: n,
        queue_tick: n,
        op: Op::Add,
        cause,
        called: vec![state],
        left_out: Vec::new(),
        changes: vec![change(state, 1)],
        canceled: None,
        waiting: (0, 0),
        released: 0,
        took: (0, 0),
        handlers: Vec::new(),
        payloads: Vec::new(),
        trace,
    }))
}

fn key(revision: u64, ticks: &[u64]) -> Body {
    Body::Key(Box::new(Key {
        position: at(revision),
        sequence: revision,
        ticks: ticks.to_vec(),
        order: Vec::new(),
        queue_tick: 0,
        queue: Vec::new(),
    }))
}

fn trace(trace: u128, span: u64, parent: Option<u64>) -> Trace {
    Trace {
        trace,
        span,
        parent,
    }
}

const ROOT: MachineId = MachineId(0);
const LATE: MachineId = MachineId(1);
const WRONG: MachineId = MachineId(2);
const BELOW: MachineId = MachineId(3);
const OTHER: MachineId = MachineId(4);

impl Tree {
    /// The root goes from revision 0 to 4; 3 and 4 follow from the call that 2 was.
    fn new() -> Self {
        let mut store = Store::new(StoreLimits::default());
        let stream = store.connect(&hello(1)).unwrap().stream;
        let mut tree = Self {
            store,
            stream,
            number: 0,
        };
        tree.declare(1, "root", Some("r"), None);
        tree.declare(2, "late", Some("l"), Some("r"));
        tree.declare(3, "wrong", Some("w"), Some("r"));
        tree.declare(4, "below", None, Some("w"));
        tree.declare(5, "other", None, Some("nobody"));
        for machine in 1..=4 {
            tree.tell(machine, 0, key(0, &[0; 8]));
        }
        let cause = trace(7, 70, None);
        tree.tell(1, 100, transition(1, Cause::Call, 3, None));
        tree.tell(1, 200, transition(2, Cause::Call, 4, Some(cause)));
        tree.tell(1, 210, transition(3, Cause::Auto, 5, None));
        tree.tell(1, 220, transition(4, Cause::Handler, 6, None));
        // Late: one step over three revisions, and it never comes to 4.
        let step = vec![change(3, 1), change(4, 1), change(5, 1)];
        tree.tell(2, 700, followed(0, 3, step));
        // Wrong: state 4 ticks twice instead of once, and state 7 as well.
        tree.tell(3, 250, followed(0, 1, vec![change(3, 1)]));
        let step = vec![change(4, 2), change(5, 1), change(6, 1), change(7, 2)];
        tree.tell(3, 300, followed(1, 4, step));
        let step = vec![change(3, 1), change(4, 1), change(5, 1), change(6, 1)];
        tree.tell(4, 180, followed(0, 4, step));
        // Another machine that the traced one called.
        tree.tell(5, 0, key(0, &[0; 8]));
        let effect = trace(7, 71, Some(70));
        tree.tell(5, 150, transition(1, Cause::Call, 3, Some(effect)));
        tree
    }

    fn declare(&mut self, machine: u32, name: &str, addr: Option<&str>, parent: Option<&str>) {
        let mut teller = Teller::new(schema(8, &mut Rng::with_seed(1)), 1);
        teller.machine = machine;
        let mut frame = teller.declared(name, addr);
        if let Body::Machine(declared) = &mut frame.body {
            declared.parent = parent.map(str::to_owned);
            if parent.is_some() && name != "other" {
                declared.role = Role::Replicant;
            }
        }
        self.store.apply(self.stream, frame).unwrap();
    }

    fn tell(&mut self, machine: u32, wall: u64, body: Body) {
        self.number += 1;
        let frame = Frame {
            number: self.number,
            wall: WALL + wall,
            mono: wall,
            machine,
            body,
        };
        self.store.apply(self.stream, frame).unwrap();
    }

    fn lens(&self, at: At) -> Lens {
        self.store.lens(ROOT, at).unwrap()
    }
}

#[test]
fn nodes_are_below_the_one_whose_address_they_have() {
    let tree = Tree::new();
    assert_eq!(tree.store.parent(BELOW), Some(WRONG));
    assert_eq!(tree.store.parent(OTHER), None);
    assert_eq!(tree.store.tree(ROOT), [(LATE, 1), (WRONG, 1), (BELOW, 2)]);
    assert_eq!(tree.store.root_of(EPOCH), Some(OTHER));
}

#[test]
fn a_circle_of_parents_is_walked_once() {
    let mut tree = Tree::new();
    tree.declare(1, "root", Some("r"), Some("w"));
    assert_eq!(tree.store.tree(ROOT), [(LATE, 1), (WRONG, 1), (BELOW, 2)]);
}

#[test]
fn the_lens_shows_who_is_late_and_who_is_wrong() {
    let tree = Tree::new();
    let lens = tree.lens(At::Position(at(2)));
    assert_eq!((lens.index, lens.wall), (2, WALL + 200));
    let [late, wrong, below] = &lens.nodes[..] else {
        panic!("{lens:?}");
    };
    assert_eq!(
        (late.machine, late.index, late.lag),
        (LATE, Some(1), Some(500))
    );
    assert_eq!((late.position, late.behind), (Some(at(3)), Some(2)));
    assert_eq!(late.differences, Some(Vec::new()));
    assert!(late.has_reached && wrong.has_reached);
    assert_eq!(
        (wrong.index, wrong.lag, wrong.behind),
        (Some(2), Some(100), Some(2))
    );
    let differences = wrong.differences.as_ref().unwrap();
    let shown = |difference: &TickDifference| {
        (
            difference.state,
            difference.root,
            difference.node,
            difference.is_of_activity(),
        )
    };
    let shown: Vec<_> = differences.iter().map(shown).collect();
    assert_eq!(shown, [(4, 1, 2, true), (7, 0, 2, false)]);
    // Its host's clock is behind the root's.
    assert_eq!(
        (below.depth, below.lag, below.behind),
        (2, Some(-20), Some(0))
    );
    assert_eq!(below.differences, Some(Vec::new()));
}

#[test]
fn the_lens_shows_who_has_not_come_that_far() {
    let tree = Tree::new();
    let lens = tree.lens(At::Wall(WALL + 230));
    assert_eq!(lens.position, at(4));
    let late = &lens.nodes[0];
    assert_eq!(
        (late.has_reached, late.lag, late.behind),
        (false, None, Some(4))
    );
    assert_eq!((late.index, late.position), (Some(1), Some(at(3))));
    assert_eq!(late.differences, Some(Vec::new()));
    assert_eq!(lens, tree.lens(At::Index(4)));
    assert_eq!(tree.store.lens(ROOT, At::Wall(5)), None);
    assert_eq!(tree.store.lens(ROOT, At::Position(at(9))), None);
}

#[test]
fn nothing_is_said_of_differences_where_something_was_lost() {
    let mut tree = Tree::new();
    tree.tell(2, 800, Body::Dropped(3));
    tree.tell(2, 900, followed(3, 4, vec![change(6, 1)]));
    let lens = tree.lens(At::Position(at(4)));
    assert!(lens.nodes[0].has_reached);
    assert_eq!(lens.nodes[0].differences, None);
}

fn entries(found: &[Related]) -> Vec<(MachineId, std::ops::Range<usize>, Tie, i64)> {
    let shown = |one: &Related| (one.machine, one.entries.clone(), one.tie, one.after);
    found.iter().map(shown).collect()
}

#[test]
fn causes_lead_back_to_the_call_and_across_machines() {
    let mut tree = Tree::new();
    tree.declare(5, "other", None, None);
    let store = &tree.store;
    let call = (ROOT, 2..3, Tie::FollowsFrom, -10);
    assert_eq!(entries(&store.causes(ROOT, 3)), [call]);
    assert_eq!(
        entries(&store.causes(ROOT, 4)),
        [(ROOT, 2..3, Tie::SameRun, -20)]
    );
    assert_eq!(entries(&store.causes(ROOT, 2)), []);
    let caused = (ROOT, 2..3, Tie::Span, 50);
    assert_eq!(entries(&store.causes(OTHER, 1)), [caused]);
}

#[test]
fn effects_are_the_rest_of_the_run_replicas_and_other_machines() {
    let tree = Tree::new();
    let found = entries(&tree.store.effects(ROOT, 2));
    assert_eq!(
        found,
        [
            (ROOT, 3..4, Tie::FollowsFrom, 10),
            (ROOT, 4..5, Tie::SameRun, 20),
            (LATE, 1..2, Tie::Replicated, 500),
            (WRONG, 2..3, Tie::Replicated, 100),
            (BELOW, 1..2, Tie::Replicated, -20),
            (OTHER, 1..2, Tie::Span, -50),
        ]
    );
}

#[test]
fn a_step_of_a_replica_covers_transitions_of_its_root() {
    let mut store = Tree::new().store;
    // Nobody else may be taken for the root.
    store.machines.truncate(4);
    let found = entries(&store.causes(LATE, 1));
    assert_eq!(found, [(ROOT, 1..4, Tie::Replicated, -600)]);
}

#[test]
fn two_moments_differ_by_their_ticks() {
    let store = Tree::new().store;
    let found = store.diff((ROOT, 1), (ROOT, 3)).unwrap();
    let states: Vec<u32> = found.iter().map(|difference| difference.state).collect();
    assert_eq!(states, [4, 5]);
    assert_eq!(store.diff((ROOT, 4), (BELOW, 1)), Some(Vec::new()));
}

#[test]
fn a_process_that_comes_again_continues_its_machines() {
    let mut tree = Tree::new();
    tree.store.disconnect(tree.stream, "cut off");
    let again = tree.store.connect(&hello(1)).unwrap();
    assert_eq!(again.last, tree.number);
    assert_eq!(*tree.store.connection(ROOT), Connection::Connected);
    tree.stream = again.stream;
    tree.declare(1, "root", Some("r"), None);
    let end = tree.store.machine(ROOT).end();
    // What came before is passed over.
    tree.number = 5;
    tree.tell(1, 0, transition(1, Cause::Call, 3, None));
    assert_eq!(tree.store.machine(ROOT).end(), end);
    tree.number = again.last;
    tree.tell(1, 900, transition(5, Cause::Call, 3, None));
    assert_eq!(tree.store.machine(ROOT).end(), end + 1);
    assert!(tree.store.machine(ROOT).now().is_sure);
    assert_eq!(tree.store.machines().len(), 5);
    tree.number += 3;
    tree.tell(1, 901, transition(9, Cause::Call, 3, None));
    assert!(!tree.store.machine(ROOT).now().is_sure);
    assert_eq!(tree.store.process(ProcessId(0)).lost(), 3);
}

#[test]
fn lines_of_logs_are_found_by_level_text_and_time() {
    let mut tree = Tree::new();
    let texts = ["Gate closed", "über", "nothing", "GATE open"];
    for (level, text) in (1..).zip(texts) {
        let line = crate::debug::frame::Line {
            level,
            target: "flights".to_owned(),
            text: text.to_owned(),
        };
        tree.tell(
            u32::from(level % 2),
            1_000 * u64::from(level),
            Body::Log(line),
        );
    }
    let process = tree.store.process(ProcessId(0));
    let find = |level, text| process.find_lines(level, text).collect::<Vec<_>>();
    assert_eq!(find(5, "gate"), [0, 3]);
    assert_eq!(find(3, "gate"), [0]);
    assert_eq!(find(5, "ÜBER"), [1]);
    assert_eq!(find(5, "FLIGHTS").len(), 4);
    assert_eq!(process.line_at(WALL + 2_500), Some(1));
    assert_eq!(process.line_at(5), None);
    assert_eq!(process.lines()[0].machine, Some(ROOT));
    assert_eq!(process.lines()[1].machine, None);
}

#[test]
fn every_kind_of_frame_is_taken() {
    let mut frames = crate::debug::samples::frames().into_iter();
    let Some(Body::Hello(hello)) = frames.next().map(|frame| frame.body) else {
        panic!("a stream begins with who tells");
    };
    let mut store = Store::new(StoreLimits::default());
    let connected = store.connect(&hello).unwrap();
    let mut entries = Vec::new();
    let mut last = 0;
    for frame in frames {
        last = frame.number;
        if matches!(
            frame.body,
            Body::Key(_) | Body::Transition(_) | Body::Followed(_) | Body::Dropped(_)
        ) {
            entries.push(frame.body.clone());
        }
        store.apply(connected.stream, frame).unwrap();
    }
    let history = store.machine(MachineId(0));
    let held = history.range().map(|i| history.entry(i).body);
    assert!(held.eq(entries));
    let beside = (
        history.errors().len(),
        history.links().len(),
        history.waiters().waiting.len(),
    );
    assert_eq!(beside, (1, 1, 1));
    assert_eq!(store.process(connected.process).lines().len(), 1);
    assert_eq!(*store.connection(MachineId(0)), Connection::Gone);
    assert_eq!(store.connect(&hello).unwrap().last, last);
}
