//! A fixed story: a root and a replica, of states one of which has a name that browsers could run.

use std::sync::Arc;

use crate::debug::frame::{Body, Change, Failure, Frame, HandlerRun, Line, Payload};
use crate::debug::samples;
use crate::debugger::store::{Store, StoreLimits, StreamId};
use crate::handlers::Phase;
use crate::machine::Machine;
use crate::mutation::{Mutation, Op};
use crate::position::{Epoch, Position};
use crate::schema::{Schema, StateDef};
use crate::state::DynState;

pub(super) const START: u64 = 1_373_450_400_000_000;

/// What a browser would run if it were markup.
pub(super) const HOSTILE: &str = "<img src=x onerror=\"document.title='pwned'\">";

const EPOCH: Epoch = Epoch(0xabc);

fn schema() -> Schema {
    let schema = Schema::builder("Door")
        .state(StateDef::new("Open").remove(["Shut"]).payload())
        .state(StateDef::new("Shut").remove(["Open"]).auto())
        .state(StateDef::new("Locked").require(["Shut"]))
        .state(StateDef::new(HOSTILE).multi())
        .group("Leaf", ["Open", "Shut"]);
    schema.build().unwrap()
}

pub(super) struct Story {
    pub(super) store: Store,
    stream: StreamId,
    core: Machine<DynState>,
    number: u64,
    wall: u64,
    sequence: u64,
}

impl Story {
    /// Nothing but who tells.
    pub(super) fn empty() -> Self {
        let mut store = Store::new(StoreLimits::default());
        let hello = samples::process(1, "doors 1", "here", 7);
        let stream = store.connect(&hello).unwrap().stream;
        Self {
            store,
            stream,
            core: Machine::with_schema(Arc::new(schema())),
            number: 0,
            wall: START,
            sequence: 0,
        }
    }

    /// The whole story.
    pub(super) fn whole() -> Self {
        let mut story = Self::empty();
        story.declare(1, "root", "127.0.0.1:1", None);
        story.declare(2, "rep-1", "127.0.0.1:2", Some("127.0.0.1:1"));
        story.call(Op::Add, "Shut");
        story.call(Op::Add, "Locked");
        story.call(Op::Add, "Open");
        story.call(Op::Add, "Locked");
        story.call(Op::Add, HOSTILE);
        let text = format!("a door is {HOSTILE}");
        story.log(&text);
        story.tell(
            1,
            Body::Error(Failure {
                kind: "Stuck".to_owned(),
                message: "it is stuck".to_owned(),
                revision: 1,
            }),
        );
        story
    }

    fn tell(&mut self, machine: u32, body: Body) {
        self.number += 1;
        let frame = Frame {
            number: self.number,
            wall: self.wall,
            mono: self.wall - START,
            machine,
            body,
        };
        self.store.apply(self.stream, frame).unwrap();
    }

    fn log(&mut self, text: &str) {
        let line = Line {
            level: 2,
            target: "doors".to_owned(),
            text: text.to_owned(),
        };
        self.tell(1, Body::Log(line));
    }

    fn declare(&mut self, machine: u32, name: &str, addr: &str, parent: Option<&str>) {
        let declared = samples::declared(self.core.schema(), name, Some(addr), parent);
        self.tell(machine, declared);
        let sequence = parent.is_none().then_some(self.sequence);
        let key = samples::key(&self.core, EPOCH, sequence);
        self.tell(machine, key);
    }

    fn position(&self) -> Position {
        Position {
            epoch: EPOCH,
            revision: self.core.revision(),
        }
    }

    /// What a call leads to: at the root, and at the replica 2 ms later.
    pub(super) fn call(&mut self, op: Op, name: &str) {
        self.wall += 1_000_000;
        let state = u32::try_from(self.core.schema().find(name).unwrap()).unwrap();
        let before = self.core.revision();
        let _ = self.core.mutate(&Mutation::new(op, [DynState(state)]));
        let run = samples::last_run(&self.core);
        let mut changes: Vec<Change> = Vec::new();
        for mut one in run {
            self.sequence += 1;
            one.sequence = self.sequence;
            one.took = (1_000, 200);
            one.handlers.push(HandlerRun {
                phase: Phase::Enter,
                state: Some(state),
                after: 100,
                took: 2_500,
            });
            one.payloads.push(Payload {
                state,
                len: 9,
                text: Some(format!("{HOSTILE} payload")),
            });
            for change in &one.changes {
                match changes.iter_mut().find(|known| known.state == change.state) {
                    Some(known) => known.ticks += change.ticks,
                    None => changes.push(*change),
                }
            }
            self.tell(1, Body::Transition(Box::new(one)));
        }
        if self.core.revision() > before {
            self.wall += 2_000;
            let followed = samples::followed(before, self.position(), changes);
            self.tell(2, Body::Followed(followed));
        }
    }
}
