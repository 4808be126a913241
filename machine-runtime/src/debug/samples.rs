//! Frames as nodes would tell them, one of each kind, and a node to tell of, for tests.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::frame::{
    Body, Change, Declared, Failure, Followed, Frame, HandlerRun, Hello, Key, Line, Link,
    LinkChange, Payload, Queued, Role, Trace, Transition, VERSION, Waiting,
};
use super::portable::PortableSchema;
use super::subject::Subject;
use crate::handle::Handle;
use crate::handlers::{Cause, Phase};
use crate::machine::Machine;
use crate::mutation::{Op, Reason, Refusal};
use crate::observe::Observers;
use crate::owner::Owner;
use crate::position::{Epoch, Position};
use crate::schema::{Schema, StateDef};
use crate::state::DynState;
use crate::view::ViewOptions;

/// `Exception`, `Open`, `Shut`, `Locked`.
pub(crate) fn schema() -> Schema {
    let builder = Schema::builder("Door")
        .state(StateDef::new("Open").remove(["Shut"]).payload())
        .state(StateDef::new("Shut").remove(["Open"]).auto())
        .state(StateDef::new("Locked").require(["Shut"]).multi());
    builder.group("Leaf", ["Open", "Shut"]).build().unwrap()
}

/// A root of that schema, with what runs it.
pub(crate) struct Node {
    pub(crate) handle: Handle<DynState>,
    pub(crate) observers: Observers,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
}

impl Node {
    pub(crate) fn new() -> Self {
        let observers = Observers::new();
        let options = ViewOptions {
            observers: Some(observers.clone()),
            ..ViewOptions::default()
        };
        let machine = Machine::with_schema(Arc::new(schema()));
        let (handle, owner) = Owner::new(machine, Epoch(7), options);
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(owner.run(async { drop(stopped.await) }).await) });
        Self {
            handle,
            observers,
            stop,
            tasks,
        }
    }

    pub(crate) fn subject(&self, name: &str) -> Subject {
        Subject::root(name, &self.handle, &self.observers)
    }

    /// Ends it, as a node that stops does.
    pub(crate) async fn end(mut self) {
        drop((self.handle, self.stop));
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// Who tells; nothing is known before.
pub(crate) fn process(process: u128, program: &str, host: &str, pid: u32) -> Hello {
    Hello {
        version: VERSION,
        program: program.to_owned(),
        host: host.to_owned(),
        pid,
        process,
    }
}

/// A machine that is told of, or a replica if it has a parent.
pub(crate) fn declared(
    schema: &Schema,
    name: &str,
    addr: Option<&str>,
    parent: Option<&str>,
) -> Body {
    let is_root = parent.is_none();
    Body::Machine(Box::new(Declared {
        name: name.to_owned(),
        role: if is_root { Role::Root } else { Role::Replicant },
        addr: addr.map(str::to_owned),
        parent: parent.map(str::to_owned),
        fingerprint: schema.fingerprint().0,
        schema: Some(PortableSchema::of(schema)),
    }))
}

/// All there is of a machine after so many transitions, or of its replica if that is not known.
pub(crate) fn key(core: &Machine<DynState>, epoch: Epoch, sequence: Option<u64>) -> Body {
    let order = core.active_list().map(|state| state.0);
    Body::Key(Box::new(Key {
        position: Position {
            epoch,
            revision: core.revision(),
        },
        sequence: sequence.unwrap_or(0),
        ticks: core.ticks().to_vec(),
        order: order.filter(|_| sequence.is_some()).collect(),
        queue_tick: core.queue_tick(),
        queue: Vec::new(),
    }))
}

/// What a core did last, as a node would tell it that measures nothing.
pub(crate) fn last_run(core: &Machine<DynState>) -> Vec<Transition> {
    let told = core.last_run().map(|ran| Transition {
        sequence: 0,
        revision: ran.revision(),
        queue_tick: ran.queue_tick().unwrap_or(0),
        op: ran.op(),
        cause: ran.cause(),
        called: ran.called().map(|state| state.0).collect(),
        left_out: Vec::new(),
        changes: ran
            .changes()
            .map(|(state, ticks)| Change {
                state: state.0,
                ticks,
            })
            .collect(),
        canceled: ran.reason().map(|reason| reason.map(|state| state.0)),
        waiting: (0, 0),
        released: 0,
        took: (0, 0),
        handlers: Vec::new(),
        payloads: Vec::new(),
        trace: None,
    });
    told.collect()
}

/// A replica's step.
pub(crate) fn followed(from: u64, position: Position, changes: Vec<Change>) -> Followed {
    Followed {
        from,
        position,
        changes,
        released: 0,
        trace: None,
    }
}

fn transition() -> Transition {
    let refusal = Refusal {
        phase: Phase::Enter,
        state: Some(1),
        why: Some(Cow::Borrowed("it is late")),
    };
    Transition {
        sequence: 12,
        revision: 300,
        queue_tick: 7,
        op: Op::Set,
        cause: Cause::Handler,
        called: vec![1, 3],
        changes: vec![Change { state: 1, ticks: 2 }],
        left_out: vec![2],
        canceled: Some(Reason::Refused(Box::new(refusal))),
        waiting: (1, 2),
        released: 3,
        took: (400, 500),
        handlers: vec![HandlerRun {
            phase: Phase::Exit,
            state: None,
            after: 10,
            took: 20,
        }],
        payloads: vec![Payload {
            state: 1,
            len: 4,
            text: Some("\"by\"".into()),
        }],
        trace: Some(Trace {
            trace: u128::MAX,
            span: u64::MAX,
            parent: Some(9),
        }),
    }
}

pub(crate) fn frames() -> Vec<Frame> {
    let schema = schema();
    let position = Position {
        epoch: Epoch(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        revision: 300,
    };
    let transition = transition();
    let reason = Reason::Blocked { state: 3, by: 1 };
    let bodies = [
        Body::Hello(Hello {
            version: VERSION,
            program: "doors 0.1".into(),
            host: "here".into(),
            pid: 42,
            process: 0xabc << 64,
        }),
        Body::Machine(Box::new(Declared {
            name: "root".into(),
            role: Role::Root,
            addr: Some("[::]:1".into()),
            parent: None,
            fingerprint: schema.fingerprint().0,
            schema: Some(PortableSchema::of(&schema)),
        })),
        Body::Key(Box::new(Key {
            position,
            sequence: 11,
            ticks: vec![0, 1, 200, 3],
            order: vec![3, 1],
            queue_tick: 6,
            queue: vec![Queued {
                op: Op::Remove,
                called: vec![2],
                queue_tick: 8,
                cause: Cause::Call,
            }],
        })),
        Body::Transition(Box::new(Transition {
            canceled: Some(reason),
            changes: Vec::new(),
            trace: None,
            ..transition.clone()
        })),
        Body::Transition(Box::new(transition)),
        Body::Followed(Followed {
            from: 299,
            position,
            changes: vec![Change { state: 3, ticks: 1 }],
            released: 1,
            trace: None,
        }),
        Body::Link(Link {
            up: true,
            peer: "root".into(),
            change: LinkChange::Resynced("gap".into()),
        }),
        Body::Error(Failure {
            kind: "panic".into(),
            message: "no".into(),
            revision: 4,
        }),
        Body::Log(Line {
            level: 2,
            target: "doors".into(),
            text: "ajar node=\"root\"".into(),
        }),
        Body::Dropped(77),
        Body::Waiters(vec![Waiting {
            what: "active".into(),
            states: vec![3],
            count: 2,
        }]),
        Body::Gone,
    ];
    let frame = |(number, body): (u64, Body)| Frame {
        number,
        wall: 1_700_000_000_000_000 + number,
        mono: 1000 * number,
        machine: u32::from(!matches!(body, Body::Hello(_) | Body::Log(_))),
        body,
    };
    (1..).zip(bodies).map(frame).collect()
}
