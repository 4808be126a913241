//! Frames as a node would tell them, of a machine with random relations.

use std::sync::Arc;

use fastrand::Rng;

use crate::debug::frame::{Body, Change, Frame, HandlerRun, Hello, Payload, Trace, Transition};
use crate::debug::samples;
use crate::handlers::{Cause, Phase};
use crate::machine::Machine;
use crate::mutation::{Mutation, Op, Reason, Refusal};
use crate::position::{Epoch, Position};
use crate::schema::{Relation, Schema, StateDef};
use crate::state::DynState;

pub(super) const EPOCH: Epoch = Epoch(0xe0);

/// A schema of so many states and some relations.
pub(super) fn schema(states: usize, rng: &mut Rng) -> Arc<Schema> {
    let name = |i: usize| match i {
        1 => "Healthcheck".to_owned(),
        2 => "Heartbeat".to_owned(),
        i => format!("Flight{i}Boarding"),
    };
    let mut builder = Schema::builder("Random");
    for i in 1..states {
        let mut def = StateDef::new(name(i));
        if i > 2 {
            if rng.u8(..4) == 0 {
                def = def.multi();
            }
            if rng.u8(..6) == 0 {
                def = def.auto();
            }
            let mut some = |relation, def: StateDef| {
                let other = rng.usize(3..states);
                if other == i || rng.u8(..3) > 0 {
                    return def;
                }
                def.relate(relation, [name(other)])
            };
            def = some(Relation::Remove, def);
            def = some(Relation::After, def);
            def = some(Relation::Add, def);
        }
        builder = builder.state(def.payload());
    }
    Arc::new(builder.build().unwrap())
}

pub(super) fn hello(process: u128) -> Hello {
    samples::process(process, "test 1", "here", 7)
}

/// What tells of one machine.
pub(super) struct Teller {
    pub(super) core: Machine<DynState>,
    pub(super) rng: Rng,
    pub(super) number: u64,
    pub(super) machine: u32,
    wall: u64,
    mono: u64,
    sequence: u64,
}

impl Teller {
    pub(super) fn new(schema: Arc<Schema>, seed: u64) -> Self {
        Self {
            core: Machine::with_schema(schema),
            rng: Rng::with_seed(seed),
            number: 0,
            machine: 1,
            wall: 1_700_000_000_000_000,
            mono: 5,
            sequence: 0,
        }
    }

    pub(super) fn declared(&self, name: &str, addr: Option<&str>) -> Frame {
        self.frame(samples::declared(self.core.schema(), name, addr, None))
    }

    pub(super) fn frame(&self, body: Body) -> Frame {
        Frame {
            number: self.number,
            wall: self.wall,
            mono: self.mono,
            machine: self.machine,
            body,
        }
    }

    fn next(&mut self, body: Body) -> Frame {
        self.number += 1 + u64::from(self.rng.u8(..4) == 0);
        let passed = self.rng.u64(..400);
        self.mono += passed;
        // Wall clocks step, and now and then nothing happens for hours.
        self.wall = match self.rng.u16(..500) {
            0 => self.wall - self.rng.u64(..5_000),
            1 => self.wall + 3 * 3_600_000_000,
            _ => self.wall + passed,
        };
        self.frame(body)
    }

    pub(super) fn key(&mut self) -> Frame {
        let key = samples::key(&self.core, EPOCH, Some(self.sequence));
        self.next(key)
    }

    /// What one random mutation leads to.
    pub(super) fn mutate(&mut self) -> Vec<Frame> {
        let states = self.core.schema().len();
        let rng = &mut self.rng;
        let op = match rng.u8(..10) {
            0..6 => Op::Add,
            6..9 => Op::Remove,
            _ => Op::Set,
        };
        let called: Vec<DynState> = if rng.u8(..8) == 0 {
            vec![DynState(1)]
        } else {
            let count = rng.usize(1..4);
            let states = (0..count).map(|_| rng.usize(0..states));
            states
                .map(|i| DynState(u32::try_from(i).unwrap()))
                .collect()
        };
        let _ = self.core.mutate(&Mutation::new(op, called));
        let run = samples::last_run(&self.core);
        let told = run.into_iter().map(|mut told| {
            self.sequence += 1;
            told.sequence = self.sequence;
            self.decorate(&mut told);
            self.next(Body::Transition(Box::new(told)))
        });
        told.collect()
    }

    /// Adds what the core alone has none of.
    fn decorate(&mut self, told: &mut Transition) {
        let rng = &mut self.rng;
        let states = u32::try_from(self.core.schema().len()).unwrap();
        told.took = (rng.u64(..2_000), rng.u64(..100));
        if rng.u8(..5) == 0 {
            told.waiting = (rng.u32(..3), rng.u32(..3));
            told.released = rng.u32(..2);
        }
        if rng.u8(..4) == 0 {
            told.handlers.push(HandlerRun {
                phase: Phase::ALL[rng.usize(..8)],
                state: rng.bool().then(|| rng.u32(..states)),
                after: rng.u64(..900),
                took: rng.u64(..90),
            });
        }
        if rng.u8(..4) == 0 {
            let texts = ["\"Gate B2\"", "{\"delay\":25}", "Überfällig", "GATE c"];
            told.payloads.push(Payload {
                state: rng.u32(..states),
                len: 8,
                text: rng.bool().then(|| texts[rng.usize(..4)].to_owned()),
            });
        }
        if told.canceled.is_some() && rng.u8(..3) == 0 {
            told.canceled = Some(Reason::Refused(Box::new(Refusal {
                phase: Phase::Enter,
                state: Some(rng.u32(..states)),
                why: rng.bool().then_some("the gate is taken".into()),
            })));
        }
        if rng.u8(..4) == 0 {
            told.trace = Some(Trace {
                trace: rng.u128(..20),
                span: rng.u64(..),
                parent: rng.bool().then(|| rng.u64(..)),
            });
        }
        if told.cause == Cause::Auto && told.canceled.is_some() && rng.bool() {
            told.left_out.push(rng.u32(..states));
        }
        if told.cause == Cause::Call && rng.u8(..9) == 0 {
            told.cause = Cause::Handler;
        }
    }

    /// So many frames: a key, then transitions, with losses and more keys in between.
    pub(super) fn frames(&mut self, count: usize) -> Vec<Frame> {
        let mut frames = vec![self.key()];
        while frames.len() < count {
            match self.rng.u16(..300) {
                0 => {
                    let lost = self.mutate().len();
                    let mark = self.next(Body::Dropped(lost as u64));
                    frames.push(mark);
                    frames.push(self.key());
                }
                1 => frames.push(self.key()),
                _ => frames.extend(self.mutate()),
            }
        }
        frames
    }
}

/// A replica's step.
pub(super) fn followed(from: u64, to: u64, changes: Vec<Change>) -> Body {
    let position = Position {
        epoch: EPOCH,
        revision: to,
    };
    Body::Followed(samples::followed(from, position, changes))
}
