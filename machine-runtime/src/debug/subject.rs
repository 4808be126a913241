//! What is told of: a machine or a replica, and how its events become frames.

use super::frame::{
    Body, Change, Declared, Failure, Followed, HandlerRun, Key, Link, LinkChange, Payload, Queued,
    Role, Trace, Transition, Waiting,
};
use super::portable::PortableSchema;
use crate::errors::MachineError;
use crate::handle::{Checkpointed, Handle};
use crate::observe::{
    self, LinkEvent, Observers, Side, TickChange, TickChanges, Traced, Transitioned,
};
use crate::schema::Schema;
use crate::state::{DynState, State};
use crate::view::{Snapshot, View};

/// How many conditions a node tells that are waited for.
const CONDITIONS: usize = 1024;

/// The longest text of a frame in bytes; what is beyond is cut off.
pub(super) const TEXT: usize = 8 << 10;

/// A node that is told of. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Subject {
    name: String,
    addr: Option<String>,
    parent: Option<String>,
    role: Role,
    handle: Handle<DynState>,
    observers: Observers,
}

impl Subject {
    /// A root: the machine behind `handle`, which tells `observers`.
    pub fn root<S: State>(
        name: impl Into<String>,
        handle: &Handle<S>,
        observers: &Observers,
    ) -> Self {
        Self {
            name: name.into(),
            addr: None,
            parent: None,
            role: Role::Root,
            handle: handle.untyped(),
            observers: observers.clone(),
        }
    }

    /// A replica, of which `handle` is one, and which tells `observers`; `parent` is the address of the
    /// node that it follows.
    pub fn replicant<S: State>(
        name: impl Into<String>,
        parent: impl Into<String>,
        handle: &Handle<S>,
        observers: &Observers,
    ) -> Self {
        Self {
            parent: Some(parent.into()),
            role: Role::Replicant,
            ..Self::root(name, handle, observers)
        }
    }

    /// The same, which followers dial at `addr`.
    #[must_use]
    pub fn with_addr(mut self, addr: impl Into<String>) -> Self {
        self.addr = Some(addr.into());
        self
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn observers(&self) -> &Observers {
        &self.observers
    }

    pub(super) fn handle(&self) -> &Handle<DynState> {
        &self.handle
    }

    fn view(&self) -> &View<DynState> {
        self.handle.view()
    }

    fn schema(&self) -> &Schema {
        self.view().schema()
    }

    pub(super) fn fingerprint(&self) -> u128 {
        self.schema().fingerprint().0
    }

    pub(super) fn declared(&self, with_schema: bool) -> Body {
        Body::Machine(Box::new(Declared {
            name: self.name.clone(),
            role: self.role,
            addr: self.addr.clone(),
            parent: self.parent.clone(),
            fingerprint: self.fingerprint(),
            schema: with_schema.then(|| PortableSchema::of(self.schema())),
        }))
    }

    /// Who waits now.
    pub(super) fn waiters(&self) -> Body {
        let awaited = self.view().awaited(CONDITIONS).into_iter();
        let waiting = awaited.map(|awaited| Waiting {
            what: awaited.what,
            states: awaited.states,
            count: awaited.count,
        });
        Body::Waiters(waiting.collect())
    }

    /// All there is of a replica; none if it shows nothing yet.
    pub(super) fn replica_key(&self) -> Option<Key> {
        self.view().snapshot().map(|now| snapshot_key(&now))
    }

    pub(super) fn transition(&self, t: &Transitioned) -> Body {
        let schema = self.schema();
        let payload = |(state, bytes): &(DynState, bytes::Bytes)| {
            let index = state.0 as usize;
            let text = (!schema.is_redacted(index))
                .then(|| cut(schema.show_payload(index, bytes).to_string()));
            Payload {
                state: state.0,
                len: count(bytes.len()),
                text,
            }
        };
        let began = t.timing.began;
        let run = |run: &observe::HandlerRun| HandlerRun {
            phase: run.phase,
            state: run.state.map(|state| state.0),
            after: nanos(run.began.saturating_sub(began)),
            took: nanos(run.took),
        };
        Body::Transition(Box::new(Transition {
            sequence: t.sequence,
            revision: t.position.revision,
            queue_tick: t.queue_tick.unwrap_or(0),
            op: t.op,
            cause: t.cause,
            called: t.called.iter().map(|state| state.0).collect(),
            changes: changes(&t.changes),
            left_out: t.left_out.iter().map(|state| state.0).collect(),
            canceled: t.canceled.clone().map(|why| why.map(|state| state.0)),
            waiting: (count(t.waiting.0), count(t.waiting.1)),
            released: count(t.released),
            took: (nanos(t.timing.negotiation), nanos(t.timing.finals)),
            handlers: t.handlers.iter().map(run).collect(),
            payloads: t.payloads.iter().map(payload).collect(),
            trace: t.trace.map(trace),
        }))
    }

    pub(super) fn followed(f: &observe::Followed) -> Body {
        let from = f.from.map_or(0, |from| from.revision);
        Body::Followed(Followed {
            from,
            position: f.position,
            changes: changes(&f.changes),
            released: count(f.released),
            trace: f.trace.map(trace),
        })
    }
}

pub(super) fn machine_key(at: Checkpointed) -> Key {
    // What waits is taken off in order, one a tick.
    let ticks = at.checkpoint.queue_tick + 1..;
    let queue = at.checkpoint.queue.into_iter().zip(ticks);
    Key {
        position: at.position,
        sequence: at.sequence,
        ticks: at.checkpoint.ticks,
        order: at.checkpoint.order,
        queue_tick: at.checkpoint.queue_tick,
        queue: queue
            .map(|(waiting, queue_tick)| Queued {
                op: waiting.op,
                called: waiting.called,
                queue_tick,
                cause: waiting.cause,
            })
            .collect(),
    }
}

pub(super) fn snapshot_key(now: &Snapshot) -> Key {
    Key {
        position: now.position(),
        sequence: 0,
        ticks: now.ticks().to_vec(),
        order: Vec::new(),
        queue_tick: 0,
        queue: Vec::new(),
    }
}

pub(super) fn link(link: &LinkEvent) -> Body {
    let change = match &link.change {
        observe::LinkChange::Connected => LinkChange::Connected,
        observe::LinkChange::Lost { why } => LinkChange::Lost(cut(why.clone())),
        observe::LinkChange::Refused { why } => LinkChange::Refused(cut(why.clone())),
        observe::LinkChange::Resynced { reason } => LinkChange::Resynced((*reason).to_owned()),
    };
    Body::Link(Link {
        up: link.side == Side::Up,
        peer: cut(link.peer.clone()),
        change,
    })
}

pub(super) fn failure(error: &MachineError) -> Body {
    Body::Error(Failure {
        kind: error.kind.name().to_owned(),
        message: cut(error.to_string()),
        revision: error.revision,
    })
}

fn changes(changes: &TickChanges) -> Vec<Change> {
    let change = |change: &TickChange| Change {
        state: change.state.0,
        ticks: change.ticks,
    };
    changes.iter().map(change).collect()
}

fn trace(traced: Traced) -> Trace {
    Trace {
        trace: traced.context.trace,
        span: traced.context.span,
        parent: traced.parent,
    }
}

/// A text that is no longer than [`TEXT`].
pub(super) fn cut(mut text: String) -> String {
    if text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT));
        text.push('…');
    }
    text
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
