//! What is drawn of a moment and of a transition.

use std::time::Duration;

use super::answer::Problem;
use super::detail;
use super::params::Params;
use super::words;
use crate::debug::frame::{Body, Transition};
use crate::debugger::store::{History, Store};
use crate::graph::{self, Changed, Graph, Options, Ran, Selection, Sequence};
use crate::mutation::Reason;

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
    let Body::Transition(told) = history.entry(at).body else {
        return Err(Problem::bad("this entry is no transition"));
    };
    Ok(of(store, history, at, &told))
}

fn of(store: &Store, history: &History, at: usize, told: &Transition) -> Sequence {
    let schema = history.schema();
    let after = history.ticks_after(at);
    let steps = detail::steps(store, history, at, told);
    let steps = steps.map_or_else(|_why| Vec::new(), |(steps, _)| steps);
    let steps = steps.into_iter().map(|step| {
        let (relation, text, refused) = words::step(schema, step);
        graph::Step {
            relation,
            text,
            refused,
        }
    });
    let handlers = told.handlers.iter().map(|run| {
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
            Some(state) => format!("{} of {}", run.phase, words::name(schema, state)),
            None => run.phase.to_string(),
        };
        Ran {
            name,
            took: Some(Duration::from_nanos(run.took)),
            refused,
        }
    });
    let changes = told.changes.iter().map(|change| Changed {
        state: words::name(schema, change.state).to_owned(),
        tick: after.ticks.get(change.state as usize).copied().unwrap_or(0),
    });
    let outcome = match &told.canceled {
        None => format!("executed, revision {}", told.revision),
        Some(reason) => format!("canceled: {}", words::reason(schema, reason)),
    };
    Sequence {
        title: format!("transition {} of {}", told.sequence, history.name()),
        caller: told.cause.name().to_owned(),
        machine: history.name().to_owned(),
        called: format!(
            "{} {}",
            told.op,
            words::names(schema, &told.called).join(", ")
        ),
        steps: steps.collect(),
        handlers: handlers.collect(),
        changes: changes.collect(),
        outcome,
        canceled: !told.is_accepted(),
    }
}
