//! Names, reasons and steps in words.

use std::fmt;

use serde_json::{Value, json};

use crate::debugger::store::{Flags, History, Store, TickDifference};
use crate::mutation::Reason;
use crate::schema::{Relation, Schema};
use crate::state::DynState;
use crate::steps::Step;

/// How many names of a list are told.
const MOST: usize = 100;

/// A state's name.
pub(super) fn name(schema: &Schema, state: u32) -> &str {
    let index = state as usize;
    if index < schema.len() {
        schema.name_of(index)
    } else {
        "?"
    }
}

/// The names of states, of very many the first.
pub(super) fn names<'a>(schema: &Schema, states: impl IntoIterator<Item = &'a u32>) -> Vec<&str> {
    let states = states.into_iter().take(MOST);
    states.map(|state| name(schema, *state)).collect()
}

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

/// A step of a resolution: the relation that was at work, and what it did.
pub(super) fn step(schema: &Schema, step: Step<DynState>) -> (Option<Relation>, String, bool) {
    let told = match step.map(|state| name(schema, state.0)) {
        Step::Called(state) => (None, format!("{state} is called")),
        Step::Added { state, by } => (Some(Relation::Add), format!("{by} adds {state}")),
        Step::NotAdded { state, by } => (
            Some(Relation::Remove),
            format!("{by} would add {state}, which another removes"),
        ),
        Step::Missing { state, requires } => (
            Some(Relation::Require),
            format!("{state} goes, as it requires {requires}"),
        ),
        Step::Blocked { state, by } => (
            Some(Relation::Remove),
            format!("{state} goes, as {by} removes it"),
        ),
        Step::Again(states) => (None, format!("once more with {} only", states.join(", "))),
        Step::Begins(state) => (None, format!("{state} begins")),
        Step::Ends(state) => (None, format!("{state} ends")),
        Step::Ticks(state) => (None, format!("{state} ticks twice")),
        Step::Refused(reason) => {
            let why = reason.map(Named).to_string();
            return (None, format!("refused: {why}"), true);
        }
    };
    (told.0, told.1, false)
}

/// What kind of entry it is.
pub(super) fn kind(flags: Flags) -> &'static str {
    if flags.contains(Flags::DROPPED) {
        "dropped"
    } else if flags.contains(Flags::KEY) {
        "key"
    } else if flags.contains(Flags::FOLLOWED) {
        "followed"
    } else {
        "transition"
    }
}

/// States whose ticks differ.
pub(super) fn differences(schema: &Schema, differences: &[TickDifference]) -> Vec<Value> {
    let all = differences.iter().take(MOST);
    all.map(|one| {
        json!({
            "state": name(schema, one.state),
            "root": one.root,
            "node": one.node,
            "activity": one.is_of_activity(),
        })
    })
    .collect()
}

/// Whether a machine's process tells.
pub(super) fn connection(store: &Store, history: &History) -> Value {
    use crate::debugger::store::Connection;
    match store.connection(history.id()) {
        Connection::Connected => json!({ "state": "connected" }),
        Connection::Gone => json!({ "state": "gone" }),
        Connection::Lost(why) => json!({ "state": "lost", "why": why }),
    }
}
