//! Names, reasons and steps in words.

use serde_json::{Value, json};

use crate::debugger::store::{Flags, History, Store, TickDifference};
use crate::schema::Schema;

pub(super) use super::super::words::{name, reason, sequence, step};

/// How many names of a list are told.
const MOST: usize = 100;

/// The names of states, of very many the first.
pub(super) fn names<'a>(schema: &Schema, states: impl IntoIterator<Item = &'a u32>) -> Vec<&str> {
    let states = states.into_iter().take(MOST);
    states.map(|state| name(schema, *state)).collect()
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
