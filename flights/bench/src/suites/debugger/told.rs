//! What nodes with random traffic tell.

use machine_runtime::debug::frame::{
    Body, Change, Declared, Failure, Followed, Frame, Hello, Key, Line, Payload, Role, Trace,
    Transition, VERSION,
};
use machine_runtime::debug::portable::PortableSchema;
use machine_runtime::{Epoch, Machine, Position};

use crate::states::Published148;

const PROCESS: u128 = 1;

/// The root's number.
const ROOT: u32 = 1;

/// After so many transitions of a root there is a key again, as nodes tell it.
const KEY_EVERY: u64 = 16_384;

/// A state that a [`Tree`] changes about once in 15,000 transitions.
pub(super) const RARE: Published148 = Published148::Flight10Outbound;

/// The replicas of a [`Tree`], whom they follow, and after how many mutations at most.
const REPLICAS: [(&str, &str, &str, u8); 4] = [
    ("rep-1", "here:2", "here:1", 8),
    ("rep-2", "here:3", "here:1", 16),
    ("rep-1-1", "here:4", "here:2", 24),
    ("rep-2-1", "here:5", "here:3", 40),
];

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
    /// Which state is called only now and then.
    rare: Option<Published148>,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self {
            machine: Machine::new(),
            random: fastrand::Rng::with_seed(7),
            number: 0,
            wall: 1_700_000_000_000_000,
            sequence: 0,
            rare: None,
        }
    }

    fn frame(&mut self, body: Body) -> Frame {
        self.frame_of(ROOT, body)
    }

    fn frame_of(&mut self, machine: u32, body: Body) -> Frame {
        self.number += 1;
        self.wall += self.random.u64(..2_000);
        Frame {
            number: self.number,
            wall: self.wall,
            // Two clocks are not read at once.
            mono: self.wall - 1_700_000_000_000_000 + self.random.u64(..3),
            machine,
            body,
        }
    }

    pub(super) fn declared(&mut self) -> Frame {
        let schema = self.machine.schema();
        let body = Body::Machine(Box::new(Declared {
            name: "root".to_owned(),
            role: Role::Root,
            addr: Some("here:1".to_owned()),
            parent: None,
            fingerprint: schema.fingerprint().0,
            schema: Some(PortableSchema::of(schema)),
        }));
        self.frame(body)
    }

    fn key(&self) -> Body {
        Body::Key(Box::new(Key {
            position: self.position(),
            sequence: self.sequence,
            ticks: self.machine.ticks().to_vec(),
            order: self.machine.active_list().map(index).collect(),
            queue_tick: self.machine.queue_tick(),
            queue: Vec::new(),
        }))
    }

    fn position(&self) -> Position {
        Position {
            epoch: Epoch(1),
            revision: self.machine.revision(),
        }
    }

    /// A key and about `count` transitions: each random add with the auto mutation that follows.
    pub(super) fn frames(&mut self, count: usize) -> impl Iterator<Item = Frame> {
        let key = self.key();
        let key = self.frame(key);
        let runs = std::iter::repeat_with(|| self.run()).flatten();
        std::iter::once(key).chain(runs).take(count)
    }

    fn run(&mut self) -> Vec<Frame> {
        let states = Published148::ALL;
        let mut drawn = [(); 3].map(|()| states[self.random.usize(1..states.len())]);
        for state in &mut drawn {
            if Some(*state) == self.rare && self.random.u16(..300) != 0 {
                *state = states[1];
            }
        }
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

/// A root and the replicas that follow it, all told in one stream.
pub(super) struct Tree {
    root: Teller,
    replicas: Vec<Replica>,
    /// At how many transitions there is a key again.
    next_key: u64,
}

struct Replica {
    machine: u32,
    every: u8,
    /// After how many mutations it follows.
    due: u8,
    revision: u64,
    ticks: Vec<u64>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut root = Teller::new();
        root.rare = Some(RARE);
        let ticks = root.machine.ticks().to_vec();
        let replicas = (ROOT + 1..).zip(REPLICAS);
        let replicas = replicas.map(|(machine, (.., every))| Replica {
            machine,
            every,
            due: every,
            revision: 0,
            ticks: ticks.clone(),
        });
        let replicas = replicas.collect();
        Self {
            root,
            replicas,
            next_key: KEY_EVERY,
        }
    }

    /// Who there is, and where each begins.
    pub(super) fn declared(&mut self) -> Vec<Frame> {
        let root = &mut self.root;
        let mut frames = vec![root.declared()];
        let key = root.key();
        frames.push(root.frame(key));
        for (replica, (name, addr, parent, _)) in self.replicas.iter().zip(REPLICAS) {
            let body = Body::Machine(Box::new(Declared {
                name: name.to_owned(),
                role: Role::Replicant,
                addr: Some(addr.to_owned()),
                parent: Some(parent.to_owned()),
                fingerprint: root.machine.schema().fingerprint().0,
                schema: None,
            }));
            frames.push(root.frame_of(replica.machine, body));
            let key = root.key();
            frames.push(root.frame_of(replica.machine, key));
        }
        frames
    }

    /// How many transitions the root was told to have made.
    pub(super) fn transitions(&self) -> u64 {
        self.root.sequence
    }

    /// A mutation at the root, and whatever comes of it: transitions there, replicas that follow, now and
    /// then an error or a line of a log.
    pub(super) fn run(&mut self) -> Vec<Frame> {
        let root = &mut self.root;
        let mut frames = root.run();
        if root.sequence >= self.next_key {
            self.next_key = root.sequence + KEY_EVERY;
            let key = root.key();
            frames.push(root.frame(key));
        }
        if root.random.u16(..5_000) == 0 {
            let failure = Failure {
                kind: "handler".to_owned(),
                message: "a handler panicked".to_owned(),
                revision: root.machine.revision(),
            };
            frames.push(root.frame(Body::Error(failure)));
        }
        if root.random.u16(..500) == 0 {
            let line = Line {
                level: root.random.u8(1..=5),
                target: "bench".to_owned(),
                text: format!("mutation {} was carried out", root.sequence),
            };
            frames.push(root.frame(Body::Log(line)));
        }
        for replica in &mut self.replicas {
            replica.due -= 1;
            if replica.due == 0 {
                replica.due = root.random.u8(1..=replica.every);
                let followed = replica.follow(root);
                frames.push(root.frame_of(replica.machine, followed));
            }
        }
        frames
    }
}

impl Replica {
    fn follow(&mut self, root: &Teller) -> Body {
        let now = root.machine.ticks();
        let states = (0..).zip(self.ticks.iter().zip(now));
        let changes = states.filter(|(_, (then, now))| then != now);
        let changes = changes.map(|(state, (then, now))| Change {
            state,
            ticks: now - then,
        });
        let followed = Followed {
            from: self.revision,
            position: root.position(),
            changes: changes.collect(),
            released: 0,
            trace: None,
        };
        now.clone_into(&mut self.ticks);
        self.revision = root.machine.revision();
        Body::Followed(followed)
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
