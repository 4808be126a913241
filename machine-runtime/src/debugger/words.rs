//! Names, reasons and steps in words, for the terminal and for browsers.

use std::fmt;

use crate::debug::frame::{Body, Transition};
use crate::graph::{self, Changed, Ran, Sequence};
use crate::mutation::Reason;
use crate::schema::{Relation, Schema};
use crate::state::DynState;
use crate::steps::Step;

use super::store::{MachineId, Store};

/// A state's name.
pub(super) fn name(schema: &Schema, state: u32) -> &str {
    let index = state as usize;
    if index < schema.len() {
        schema.name_of(index)
    } else {
        "?"
    }
}

/// A name as it reads within a reason.
struct Named<'a>(&'a str);

impl fmt::Debug for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why something was canceled.
pub(super) fn reason(schema: &Schema, reason: &Reason<u32>) -> String {
    let named = |state| Named(name(schema, state));
    reason.clone().map(named).to_string()
}

/// A step of a resolution: the relation that was at work, what it did, and whether it ended it.
pub(super) fn step(schema: &Schema, step: Step<DynState>) -> graph::Step {
    let (relation, text) = match step.map(|state| Named(name(schema, state.0))) {
        Step::Called(Named(state)) => (None, format!("{state} is called")),
        Step::Added { state, by } => (Some(Relation::Add), format!("{} adds {}", by.0, state.0)),
        Step::NotAdded {
            state,
            by,
            removed_by: Some(other),
        } => (
            Some(Relation::Remove),
            format!("{} would add {}, which {} removes", by.0, state.0, other.0),
        ),
        Step::NotAdded { state, by, .. } => (
            None,
            format!("{} would add {}, which is being removed", by.0, state.0),
        ),
        Step::Missing { state, requires } => (
            Some(Relation::Require),
            format!("{} goes, as it requires {}", state.0, requires.0),
        ),
        Step::Blocked { state, by } => (
            Some(Relation::Remove),
            format!("{} goes, as {} removes it", state.0, by.0),
        ),
        Step::Again(states) => {
            let states: Vec<_> = states.iter().map(|state| state.0).collect();
            (None, format!("once more with {} only", states.join(", ")))
        }
        Step::Begins(Named(state)) => (None, format!("{state} begins")),
        Step::Ends(Named(state)) => (None, format!("{state} ends")),
        Step::Ticks(Named(state)) => (None, format!("{state} ticks twice")),
        Step::Refused(reason) => {
            return graph::Step {
                relation: None,
                text: format!("refused: {reason}"),
                refused: true,
            };
        }
    };
    graph::Step {
        relation,
        text,
        refused: false,
    }
}

/// What happened in the transition that entry `at` is; nothing if it is none.
pub(super) fn sequence(store: &Store, machine: MachineId, at: usize) -> Option<Sequence> {
    let history = store.machine(machine);
    let Body::Transition(told) = history.entry(at).body else {
        return None;
    };
    let schema = history.schema();
    let after = history.ticks_after(at);
    let steps = store.steps(machine, at).map(|(steps, _)| steps);
    let steps = steps.unwrap_or_default();
    let changes = told.changes.iter().map(|change| Changed {
        state: name(schema, change.state).to_owned(),
        tick: after.ticks.get(change.state as usize).copied().unwrap_or(0),
    });
    let called: Vec<_> = told
        .called
        .iter()
        .map(|state| name(schema, *state))
        .collect();
    Some(Sequence {
        title: format!("transition {} of {}", told.sequence, history.name()),
        caller: told.cause.name().to_owned(),
        machine: history.name().to_owned(),
        called: format!("{} {}", told.op, called.join(", ")),
        steps: steps.into_iter().map(|one| step(schema, one)).collect(),
        handlers: handlers(schema, &told),
        changes: changes.collect(),
        outcome: match &told.canceled {
            None => format!("executed, revision {}", told.revision),
            Some(why) => format!("canceled: {}", reason(schema, why)),
        },
        canceled: !told.is_accepted(),
    })
}

fn handlers(schema: &Schema, told: &Transition) -> Vec<Ran> {
    let ran = told.handlers.iter().map(|run| {
        let refused = match &told.canceled {
            Some(Reason::Refused(refusal))
                if (refusal.phase, refusal.state) == (run.phase, run.state) =>
            {
                let why = refusal.why.as_deref().unwrap_or("refused");
                Some(why.to_owned())
            }
            _ => None,
        };
        let name = match run.state {
            Some(state) => format!("{} of {}", run.phase, name(schema, state)),
            None => run.phase.to_string(),
        };
        Ran {
            name,
            took: Some(std::time::Duration::from_nanos(run.took)),
            refused,
        }
    });
    ran.collect()
}
