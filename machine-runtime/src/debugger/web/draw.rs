//! What is drawn of a moment and of a transition.

use super::answer::Problem;
use super::params::Params;
use super::words;
use crate::debugger::store::Store;
use crate::graph::{self, Graph, Options, Selection, Sequence};

/// The states of a moment and their relations. `only` is such as `flight=3`.
pub(super) fn graph(store: &Store, params: &Params) -> Result<Graph, Problem> {
    let history = params.machine(store)?;
    let at = params.entry(history)?;
    let schema = history.schema();
    let wrong = |error: graph::SelectError| Problem::bad(error.to_string());
    let mut selection = Selection::all();
    if let Some(group) = params.get("group") {
        selection = selection.group(schema, group).map_err(wrong)?;
    }
    for only in params
        .get("only")
        .into_iter()
        .flat_map(|list| list.split(','))
    {
        let (axis, value) = only
            .split_once('=')
            .ok_or_else(|| Problem::bad("`only` is a loop variable and its value, as flight=3"))?;
        selection = selection.value(schema, axis, value).map_err(wrong)?;
    }
    if let Some(state) = params.get("state") {
        selection = selection.around(schema, state).map_err(wrong)?;
    }
    let mut changed = Vec::new();
    history.changes(at, |state, _| changed.push(state));
    let options = Options {
        selection,
        ticks: Some(history.ticks_after(at).ticks),
        highlighted: changed,
        ..Options::default()
    };
    Graph::new(schema, &options).map_err(wrong)
}

/// What happened in a transition.
pub(super) fn sequence(store: &Store, params: &Params) -> Result<Sequence, Problem> {
    let history = params.machine(store)?;
    let at = params.entry(history)?;
    words::sequence(store, history.id(), at)
        .ok_or_else(|| Problem::bad("this entry is no transition"))
}
