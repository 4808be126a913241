//! What a node with random traffic tells.

use machine_runtime::debug::frame::{
    Body, Change, Declared, Frame, Hello, Key, Payload, Role, Trace, Transition, VERSION,
};
use machine_runtime::debug::portable::PortableSchema;
use machine_runtime::{Epoch, Machine, Position};

use crate::states::Published148;

const PROCESS: u128 = 1;

pub(super) fn hello() -> Hello {
    Hello {
        version: VERSION,
        program: "bench".to_owned(),
        host: "here".to_owned(),
        pid: 1,
        process: PROCESS,
    }
}

pub(super) struct Teller {
    machine: Machine<Published148>,
    random: fastrand::Rng,
    number: u64,
    wall: u64,
    sequence: u64,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self {
            machine: Machine::new(),
            random: fastrand::Rng::with_seed(7),
            number: 0,
            wall: 1_700_000_000_000_000,
            sequence: 0,
        }
    }

    fn frame(&mut self, body: Body) -> Frame {
        self.number += 1;
        self.wall += self.random.u64(..2_000);
        Frame {
            number: self.number,
            wall: self.wall,
            // Two clocks are not read at once.
            mono: self.wall - 1_700_000_000_000_000 + self.random.u64(..3),
            machine: 1,
            body,
        }
    }

    pub(super) fn declared(&mut self) -> Frame {
        let schema = self.machine.schema();
        let body = Body::Machine(Box::new(Declared {
            name: "root".to_owned(),
            role: Role::Root,
            addr: None,
            parent: None,
            fingerprint: schema.fingerprint().0,
            schema: Some(PortableSchema::of(schema)),
        }));
        self.frame(body)
    }

    /// A key and about `count` transitions: each random add with the auto mutation that follows.
    pub(super) fn frames(&mut self, count: usize) -> impl Iterator<Item = Frame> {
        let key = Key {
            position: Position {
                epoch: Epoch(1),
                revision: 0,
            },
            sequence: 0,
            ticks: self.machine.ticks().to_vec(),
            order: Vec::new(),
            queue_tick: 1,
            queue: Vec::new(),
        };
        let key = self.frame(Body::Key(Box::new(key)));
        let runs = std::iter::repeat_with(|| self.run()).flatten();
        std::iter::once(key).chain(runs).take(count)
    }

    fn run(&mut self) -> Vec<Frame> {
        let states = Published148::ALL;
        let drawn = [(); 3].map(|()| states[self.random.usize(1..states.len())]);
        let _ = self.machine.add(drawn);
        let run = self.machine.last_run().map(|ran| Transition {
            sequence: 0,
            revision: ran.revision(),
            queue_tick: ran.queue_tick().unwrap_or(0),
            op: ran.op(),
            cause: ran.cause(),
            called: ran.called().map(index).collect(),
            left_out: Vec::new(),
            changes: ran
                .changes()
                .map(|(state, ticks)| Change {
                    state: index(state),
                    ticks,
                })
                .collect(),
            canceled: ran.reason().map(|reason| reason.map(index)),
            waiting: (0, 0),
            released: 0,
            took: (0, 0),
            handlers: Vec::new(),
            payloads: Vec::new(),
            trace: None,
        });
        let run: Vec<Transition> = run.collect();
        let told = run.into_iter().map(|mut told| {
            self.sequence += 1;
            told.sequence = self.sequence;
            told.took = (self.random.u64(100..3_000), 0);
            if self.random.u8(..8) == 0 {
                told.payloads.push(Payload {
                    state: 3,
                    len: 6,
                    text: Some(format!("\"B{}\"", self.random.u16(..2_000))),
                });
            }
            if self.random.u8(..100) == 0 {
                told.trace = Some(Trace {
                    trace: self.random.u128(..),
                    span: self.random.u64(..),
                    parent: None,
                });
            }
            self.frame(Body::Transition(Box::new(told)))
        });
        told.collect()
    }
}

fn index(state: Published148) -> u32 {
    u32::try_from(state.index()).expect("148 states")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count of what fits into memory"
)]
pub(super) fn float(count: usize) -> f64 {
    count as f64
}
