//! What a frame has to be like to be taken.

use crate::debug::frame::{Body, Change, Followed, Key, LinkChange, Transition, VERSION, Waiting};
use crate::debug::portable::{InvalidSchema, PortableSchema};
use crate::mutation::Reason;
use crate::schema::{Fingerprint, MAX_STATES};

use super::chunk::states_of;
use super::history::History;

/// The most bytes of one text: a name, a log line, a payload, a message.
pub const MAX_TEXT: usize = 64 * 1024;

/// The most elements of one list, and of all texts of one entry.
const MAX_LIST: usize = 65_536;

/// Why a frame was not taken. Nothing of it is held.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The sender speaks another version.
    #[error("version {theirs}, this debugger has {VERSION}")]
    Version {
        /// The sender's.
        theirs: u16,
    },
    /// There is no such stream, or it was disconnected.
    #[error("a frame of a stream that is not connected")]
    NotConnected,
    /// The stream's process is another than that of its first frame.
    #[error("a stream of process {ours:032x} says that it is of {theirs:032x}")]
    OtherProcess {
        /// That of the stream.
        ours: u128,
        /// That of the frame.
        theirs: u128,
    },
    /// A frame is about a machine that was not declared.
    #[error("machine {number} was not declared")]
    UnknownMachine {
        /// Its number.
        number: u32,
    },
    /// A frame that has to be about a machine is about the process.
    #[error("{what} is of a machine, and this is of none")]
    NoMachine {
        /// What the frame is.
        what: &'static str,
    },
    /// A state index is too great.
    #[error("{place} names state {state}, of {states} states")]
    UnknownState {
        /// Where in the frame.
        place: &'static str,
        /// The index.
        state: u32,
        /// How many there are.
        states: usize,
    },
    /// A key has too few or too many ticks.
    #[error("a key with {ticks} ticks, of {states} states")]
    TickCount {
        /// How many it has.
        ticks: usize,
        /// How many states there are.
        states: usize,
    },
    /// The active list of a key is not of the states that are active by its ticks.
    #[error(
        "the active list of a key has {listed} states, by its ticks {active} others are active"
    )]
    Order {
        /// How many it lists.
        listed: usize,
        /// How many are active.
        active: usize,
    },
    /// A tick, or another count, would grow over what 64 bits hold.
    #[error("the tick of state {state} overflows")]
    Overflow {
        /// The state.
        state: u32,
    },
    /// A replica goes back within an epoch.
    #[error("a replica comes from revision {from} to {to}")]
    Backwards {
        /// Where it was.
        from: u64,
        /// Where it would be.
        to: u64,
    },
    /// A text or a list is longer than any node sends.
    #[error("{what} of {len}, at most {most} are possible")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The longest.
        most: usize,
    },
    /// A machine came without a schema, and none of its fingerprint came before.
    #[error("no schema of fingerprint {0} has come")]
    NoSchema(Fingerprint),
    /// A schema is none.
    #[error(transparent)]
    Schema(#[from] InvalidSchema),
    /// A schema has another fingerprint than its machine says.
    #[error("a schema of fingerprint {actual}, declared as {declared}")]
    Fingerprint {
        /// That of the schema.
        actual: Fingerprint,
        /// That of the machine.
        declared: Fingerprint,
    },
    /// There is no more room, even with all entries forgotten.
    #[error("no room for {what}")]
    NoRoom {
        /// What for.
        what: &'static str,
    },
}

/// What an entry, or waiters, would do to `history`.
pub(super) fn body(history: &History, body: &Body) -> Result<(), Malformed> {
    let check = Check {
        states: history.schema().len(),
    };
    match body {
        Body::Transition(told) => {
            check.transition(told)?;
            overflow(history, &told.changes)
        }
        Body::Followed(told) => {
            check.followed(told)?;
            overflow(history, &told.changes)
        }
        Body::Key(key) => check.key(key),
        Body::Waiters(waiting) => check.waiters(waiting),
        Body::Link(link) => {
            text("a peer's name", &link.peer)?;
            match &link.change {
                LinkChange::Connected => Ok(()),
                LinkChange::Lost(why) | LinkChange::Refused(why) | LinkChange::Resynced(why) => {
                    text("an event of a link", why)
                }
            }
        }
        Body::Error(failure) => {
            text("an error's kind", &failure.kind)?;
            text("an error", &failure.message)
        }
        _ => Ok(()),
    }
}

struct Check {
    states: usize,
}

impl Check {
    fn state(&self, place: &'static str, state: u32) -> Result<(), Malformed> {
        if (state as usize) < self.states {
            return Ok(());
        }
        Err(Malformed::UnknownState {
            place,
            state,
            states: self.states,
        })
    }

    fn states(&self, place: &'static str, states: &[u32]) -> Result<(), Malformed> {
        length(place, states.len(), MAX_LIST)?;
        states
            .iter()
            .try_for_each(|state| self.state(place, *state))
    }

    fn changes(&self, changes: &[Change]) -> Result<(), Malformed> {
        length("a list of changes", changes.len(), MAX_LIST)?;
        let mut changes = changes.iter();
        changes.try_for_each(|change| self.state("a change", change.state))
    }

    fn transition(&self, told: &Transition) -> Result<(), Malformed> {
        self.states("a transition", &told.called)?;
        self.states("a state left out", &told.left_out)?;
        self.changes(&told.changes)?;
        length("a list of handlers", told.handlers.len(), MAX_LIST)?;
        for run in &told.handlers {
            run.state
                .map_or(Ok(()), |state| self.state("a handler", state))?;
        }
        length("a list of payloads", told.payloads.len(), MAX_LIST)?;
        let mut bytes = 0;
        for payload in &told.payloads {
            self.state("a payload", payload.state)?;
            bytes += payload.text.as_ref().map_or(0, String::len);
            length("payloads", bytes, MAX_LIST)?;
        }
        let Some(reason) = &told.canceled else {
            return Ok(());
        };
        if let Reason::Refused(refusal) = reason
            && let Some(why) = &refusal.why
        {
            text("a refusal", why)?;
        }
        let mut result = Ok(());
        states_of(reason, |state| {
            if result.is_ok() {
                result = self.state("a reason", state);
            }
        });
        result
    }

    fn followed(&self, told: &Followed) -> Result<(), Malformed> {
        if told.position.revision < told.from {
            return Err(Malformed::Backwards {
                from: told.from,
                to: told.position.revision,
            });
        }
        self.changes(&told.changes)
    }

    fn key(&self, key: &Key) -> Result<(), Malformed> {
        if key.ticks.len() != self.states {
            return Err(Malformed::TickCount {
                ticks: key.ticks.len(),
                states: self.states,
            });
        }
        self.states("the active list of a key", &key.order)?;
        if !key.order.is_empty() {
            let mut listed = vec![false; self.states];
            for state in &key.order {
                listed[*state as usize] = true;
            }
            let active = key.ticks.iter().map(|tick| tick % 2 == 1);
            let count = active.clone().filter(|active| *active).count();
            if key.order.len() != count || !active.eq(listed) {
                return Err(Malformed::Order {
                    listed: key.order.len(),
                    active: count,
                });
            }
        }
        length("a queue", key.queue.len(), MAX_LIST)?;
        let mut called = 0;
        for queued in &key.queue {
            called += queued.called.len();
            length("a queue", called, MAX_LIST)?;
            self.states("a queue", &queued.called)?;
        }
        Ok(())
    }

    fn waiters(&self, waiting: &[Waiting]) -> Result<(), Malformed> {
        length("a list of waiters", waiting.len(), MAX_LIST)?;
        for waiting in waiting {
            text("what is waited for", &waiting.what)?;
            self.states("a waiter", &waiting.states)?;
        }
        Ok(())
    }
}

fn overflow(history: &History, changes: &[Change]) -> Result<(), Malformed> {
    // A state can be listed twice; no node does, and twice half of what is left is still no overflow.
    for change in changes {
        let tick = history.ticks[change.state as usize];
        if change.ticks > (u64::MAX / 2).saturating_sub(tick) / MAX_LIST as u64 {
            return Err(Malformed::Overflow {
                state: change.state,
            });
        }
    }
    Ok(())
}

pub(super) fn text(what: &'static str, text: &str) -> Result<(), Malformed> {
    length(what, text.len(), MAX_TEXT)
}

fn length(what: &'static str, len: usize, most: usize) -> Result<(), Malformed> {
    if len <= most {
        return Ok(());
    }
    Err(Malformed::TooLong { what, len, most })
}

/// The memory that a schema takes, about, if it can be one.
pub(super) fn schema(portable: &PortableSchema) -> Result<usize, Malformed> {
    length("a schema", portable.states.len(), MAX_STATES)?;
    text("a schema's name", &portable.name)?;
    let mut bytes = 0;
    for state in &portable.states {
        text("a state's name", &state.name)?;
        let related: usize = state.relations.iter().map(Vec::len).sum();
        // Its own lists, masks of words and lists the other way.
        bytes += state.name.len() + 64 + related * 32;
    }
    for group in &portable.groups {
        text("a group's name", &group.name)?;
        let members: usize = group.families.iter().map(Vec::len).sum();
        bytes += group.name.len() + 64 + members * 8 + group.families.len() * 8;
    }
    for axis in &portable.axes {
        text("an axis's name", &axis.name)?;
        bytes += axis.name.len() + 64 + axis.values.len() * 4;
    }
    Ok(bytes)
}
