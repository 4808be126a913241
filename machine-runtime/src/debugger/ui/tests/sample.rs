//! A fixed tale: a root, three replicas, two processes, one of which is lost.

use std::sync::Arc;

use super::super::super::store::{Store, StoreLimits, StreamId};
use crate::debug::frame::{
    Body, Failure, Frame, HandlerRun, Hello, Line, Link, LinkChange, Payload, Trace, Transition,
    Waiting,
};
use crate::debug::samples;
use crate::handlers::{Cause, Phase};
use crate::machine::Machine;
use crate::mutation::{Mutation, Op, Reason, Refusal};
use crate::position::{Epoch, Position};
use crate::schema::{Schema, StateDef};
use crate::state::DynState;

const EPOCH: Epoch = Epoch(0x000a_11ce);
const START: u64 = 1_373_450_400_000_000;

fn schema() -> Arc<Schema> {
    let mut builder = Schema::builder("Airport")
        .state(StateDef::new("Start"))
        .state(StateDef::new("Ready").auto().require(["Start"]))
        .state(StateDef::new("Heartbeat").multi())
        .state(StateDef::new("ErrGate").require(["Exception"]));
    let phases = ["Scheduled", "Boarding", "Delayed", "Departed"];
    for flight in 1..=3 {
        let name = |phase: &str| format!("Flight{flight}{phase}");
        for phase in phases {
            let others = phases.iter().filter(|other| **other != phase);
            let mut def = StateDef::new(name(phase))
                .remove(others.map(|other| name(other)))
                .payload();
            if phase == "Boarding" {
                def = def.require(["Ready"]).after(["Ready"]);
            }
            builder = builder.state(def);
        }
    }
    for flight in 1..=3 {
        let members = phases.map(|phase| format!("Flight{flight}{phase}"));
        builder = builder.group(format!("Flight{flight}"), members);
    }
    Arc::new(builder.build().unwrap())
}

struct Told {
    stream: StreamId,
    number: u64,
}

struct Story {
    store: Store,
    core: Machine<DynState>,
    told: [Told; 2],
    wall: u64,
    sequence: u64,
}

/// The machines: process and number.
const ROOT: (usize, u32) = (0, 1);
const REPLICAS: [((usize, u32), &str, &str, &str); 3] = [
    ((0, 2), "rep-1", "127.0.0.1:19701", "127.0.0.1:19700"),
    ((0, 3), "rep-1-1", "127.0.0.1:19703", "127.0.0.1:19701"),
    ((1, 1), "rep-2", "127.0.0.1:19702", "127.0.0.1:19700"),
];

impl Story {
    fn tell(&mut self, (process, machine): (usize, u32), after: u64, body: Body) {
        let told = &mut self.told[process];
        told.number += 1;
        let frame = Frame {
            number: told.number,
            wall: self.wall + after,
            mono: self.wall + after - START,
            machine,
            body,
        };
        self.store.apply(told.stream, frame).unwrap();
    }

    fn declare(&mut self, of: (usize, u32), name: &str, addr: &str, parent: Option<&str>) {
        let declared = samples::declared(self.core.schema(), name, Some(addr), parent);
        self.tell(of, 0, declared);
        let sequence = parent.is_none().then_some(self.sequence);
        let key = samples::key(&self.core, EPOCH, sequence);
        self.tell(of, 0, key);
    }

    fn state(&self, name: &str) -> u32 {
        u32::try_from(self.core.schema().find(name).unwrap()).unwrap()
    }

    /// What a call leads to, at the root and at the replicas that still listen.
    fn call(&mut self, op: Op, names: &[&str], listening: usize, with: impl Fn(&mut Transition)) {
        self.wall += 250_000;
        let called: Vec<DynState> = names
            .iter()
            .map(|name| DynState(self.state(name)))
            .collect();
        let _ = self.core.mutate(&Mutation::new(op, called));
        let run = samples::last_run(&self.core);
        for (n, mut one) in (0..).zip(run) {
            self.sequence += 1;
            one.sequence = self.sequence;
            one.took = (1_200 + 100 * self.sequence, 300);
            if n == 0 {
                with(&mut one);
            }
            let (from, to) = (one.revision.saturating_sub(1), one.revision);
            let changes = one.changes.clone();
            let trace = one.trace;
            self.tell(ROOT, n * 40, Body::Transition(Box::new(one)));
            if changes.is_empty() {
                continue;
            }
            for (hop, (of, ..)) in (1..).zip(&REPLICAS[..listening]) {
                let position = Position {
                    epoch: EPOCH,
                    revision: to,
                };
                let mut followed = samples::followed(from, position, changes.clone());
                followed.trace = trace;
                self.tell(*of, n * 40 + hop * 900, Body::Followed(followed));
            }
        }
    }

    fn log(&mut self, level: u8, target: &str, text: &str) {
        let line = Line {
            level,
            target: target.to_owned(),
            text: text.to_owned(),
        };
        self.tell(ROOT, 10, Body::Log(line));
    }
}

fn hello(process: u128, pid: u32) -> Hello {
    samples::process(process, "flights 0.1.0", "tower", pid)
}

/// The tale as a store holds it.
pub(in crate::debugger) fn store() -> Store {
    let mut store = Store::new(StoreLimits::default());
    let streams = [hello(1, 4711), hello(2, 4712)].map(|hello| Told {
        stream: store.connect(&hello).unwrap().stream,
        number: 0,
    });
    let mut tale = Story {
        store,
        core: Machine::with_schema(schema()),
        told: streams,
        wall: START,
        sequence: 0,
    };
    let quiet = |_: &mut Transition| {};
    tale.declare(ROOT, "root", "127.0.0.1:19700", None);
    for (of, name, addr, parent) in REPLICAS {
        tale.declare(of, name, addr, Some(parent));
    }
    tale.log(3, "flights::tower", "the tower opens");
    tale.call(Op::Add, &["Start"], 3, quiet);
    for flight in 1..=3 {
        let name = format!("Flight{flight}Scheduled");
        tale.call(Op::Add, &[&name], 3, quiet);
    }
    let boarding = tale.state("Flight1Boarding");
    tale.call(Op::Add, &["Flight1Boarding"], 3, |told| {
        told.handlers.push(HandlerRun {
            phase: Phase::Enter,
            state: Some(boarding),
            after: 400,
            took: 1_700_000,
        });
        told.handlers.push(HandlerRun {
            phase: Phase::AnyState,
            state: None,
            after: 2_000_000,
            took: 900,
        });
        told.payloads.push(Payload {
            state: boarding,
            len: 4,
            text: Some("\"B2\"".to_owned()),
        });
        told.trace = Some(Trace {
            trace: 0xfeed,
            span: 0xbeef,
            parent: None,
        });
        told.waiting = (1, 0);
        told.released = 2;
    });
    tale.log(4, "flights::feed", "flight 1 boards at B2");
    tale.call(Op::Add, &["Flight2Boarding"], 3, |told| {
        told.canceled = None;
        told.cause = Cause::Handler;
    });
    tale.call(Op::Add, &["ErrGate"], 2, quiet);
    tale.log(2, "flights::tower", "no gate for flight 3");
    let third = tale.state("Flight3Boarding");
    tale.call(Op::Remove, &["ErrGate"], 2, |told| {
        told.canceled = Some(Reason::Refused(Box::new(Refusal {
            phase: Phase::Enter,
            state: Some(third),
            why: Some("the gate is taken".into()),
        })));
    });
    tale.call(Op::Add, &["Heartbeat"], 2, quiet);
    tale.call(Op::Add, &["Exception", "ErrGate"], 2, quiet);
    tale.log(1, "flights::tower", "gate B2 is closed: door stuck");
    let revision = tale.core.revision();
    tale.tell(
        ROOT,
        20,
        Body::Error(Failure {
            kind: "ErrGate".to_owned(),
            message: "door stuck".to_owned(),
            revision,
        }),
    );
    tale.call(Op::Remove, &["Exception"], 2, quiet);
    tale.call(Op::Add, &["Flight1Departed"], 2, quiet);
    tale.call(Op::Remove, &["Start"], 1, quiet);
    tale.log(3, "flights::tower", "the tower closes");
    let waiting = Waiting {
        what: "until".to_owned(),
        states: vec![third],
        count: 3,
    };
    tale.tell(ROOT, 90, Body::Waiters(vec![waiting]));
    let link = Link {
        up: true,
        peer: "root".to_owned(),
        change: LinkChange::Resynced("it was too far behind".to_owned()),
    };
    tale.tell(REPLICAS[0].0, 100, Body::Link(link));
    let lost = tale.told[1].stream;
    tale.store.disconnect(lost, "connection reset");
    tale.store
}

/// A store of one machine with so many states.
pub(super) fn large(states: usize) -> Store {
    let mut builder = Schema::builder("Large");
    for i in 0..states {
        builder = builder.state(StateDef::new(format!("State{i}")));
    }
    for group in 0..states / 1000 {
        let members = (0..1000).map(|i| format!("State{}", group * 1000 + i));
        builder = builder.group(format!("Group{group}"), members);
    }
    let schema = Arc::new(builder.build().unwrap());
    let mut store = Store::new(StoreLimits::default());
    let told = |stream| Told { stream, number: 0 };
    let first = told(store.connect(&hello(1, 1)).unwrap().stream);
    let second = told(store.connect(&hello(2, 2)).unwrap().stream);
    let mut tale = Story {
        store,
        core: Machine::with_schema(schema),
        told: [first, second],
        wall: START,
        sequence: 0,
    };
    tale.declare(ROOT, "root", "127.0.0.1:1", None);
    for i in 0..200 {
        let name = format!("State{}", i * 61 % states);
        tale.call(Op::Add, &[&name], 0, |_| {});
    }
    tale.store
}
