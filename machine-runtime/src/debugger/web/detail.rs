//! One entry and all around it: what it was, why it came, which states there were, at which nodes.

use serde_json::{Value, json};

use super::answer::Problem;
use super::params::{Params, id, states_of};
use super::words;
use crate::debug::frame::{Body, Change, Key, Role, Trace, Transition};
use crate::debugger::store::{At, Moment, Related, Store, Tie};
use crate::schema::{Relation, Schema};
use crate::state::DynState;

/// How much of each kind is told of an entry.
const MOST: usize = 200;

/// How many states are told of.
const MOST_STATES: usize = 500;

/// One entry with what led to it and what it led to.
pub(super) fn entry(store: &Store, params: &Params) -> Result<Value, Problem> {
    let history = params.machine(store)?;
    let at = params.entry(history)?;
    let schema = history.schema();
    let entry = history.entry(at);
    let before = history.ticks_before(at);
    let mut value = json!({
        "machine": history.name(),
        "at": at,
        "wall": entry.wall,
        "position": entry.position.to_string(),
        "revision": entry.position.revision,
        "kind": words::kind(entry.flags),
        "sure": history.ticks_after(at).is_sure,
        "causes": related(store, &store.causes(history.id(), at)),
        "effects": related(store, &store.effects(history.id(), at)),
    });
    match &entry.body {
        Body::Transition(told) => transition(&mut value, schema, &before, told),
        Body::Followed(told) => {
            value["from"] = told.from.into();
            value["changes"] = changes(schema, &before, &told.changes).into();
            value["released"] = told.released.into();
            value["trace"] = trace(told.trace);
        }
        Body::Key(key) => value["queue"] = queue(schema, key).into(),
        Body::Dropped(count) => value["dropped"] = (*count).into(),
        _ => {}
    }
    if let Body::Transition(_) = &entry.body {
        match store.steps(history.id(), at) {
            Ok((steps, guessed)) => {
                let steps = steps.into_iter().map(|step| {
                    let step = words::step(schema, step);
                    let relation = step.relation.map(Relation::name);
                    json!({ "relation": relation, "text": step.text, "refused": step.refused })
                });
                value["steps"] = steps.take(MOST).collect();
                value["guessed"] = guessed.map(|why| why.to_string()).into();
            }
            Err(why) => value["no_steps"] = why.to_string().into(),
        }
    }
    Ok(value)
}

fn transition(value: &mut Value, schema: &Schema, before: &Moment, told: &Transition) {
    value["sequence"] = told.sequence.into();
    value["op"] = told.op.name().into();
    value["called"] = words::names(schema, &told.called).into();
    value["left_out"] = words::names(schema, &told.left_out).into();
    value["cause"] = told.cause.name().into();
    value["accepted"] = told.is_accepted().into();
    if let Some(reason) = &told.canceled {
        value["reason"] = words::reason(schema, reason).into();
        value["code"] = reason.code().into();
    }
    value["queue_tick"] = told.queue_tick.into();
    value["waiting"] = json!([told.waiting.0, told.waiting.1]);
    value["released"] = told.released.into();
    value["took"] = json!([told.took.0, told.took.1]);
    value["changes"] = changes(schema, before, &told.changes).into();
    let handlers = told.handlers.iter().take(MOST).map(|run| {
        json!({
            "phase": run.phase.name(),
            "state": run.state.map(|state| words::name(schema, state)),
            "after": run.after,
            "took": run.took,
        })
    });
    value["handlers"] = handlers.collect();
    let payloads = told.payloads.iter().take(MOST).map(|payload| {
        json!({
            "state": words::name(schema, payload.state),
            "len": payload.len,
            "text": payload.text,
        })
    });
    value["payloads"] = payloads.collect();
    value["trace"] = trace(told.trace);
}

fn changes(schema: &Schema, before: &Moment, changes: &[Change]) -> Vec<Value> {
    let all = changes.iter().take(MOST).map(|change| {
        let tick = before.ticks.get(change.state as usize);
        let tick = tick.copied().unwrap_or(0);
        json!({
            "state": words::name(schema, change.state),
            "before": tick,
            "after": tick.wrapping_add(change.ticks),
        })
    });
    all.collect()
}

fn queue(schema: &Schema, key: &Key) -> Vec<Value> {
    let all = key.queue.iter().take(MOST).map(|queued| {
        json!({
            "op": queued.op.name(),
            "called": words::names(schema, &queued.called),
            "cause": queued.cause.name(),
        })
    });
    all.collect()
}

fn trace(trace: Option<Trace>) -> Value {
    trace.map_or(Value::Null, |trace| {
        json!({
            "trace": format!("{:032x}", trace.trace),
            "span": format!("{:016x}", trace.span),
        })
    })
}

fn related(store: &Store, related: &[Related]) -> Vec<Value> {
    let all = related.iter().take(MOST).map(|one| {
        let tie = match one.tie {
            Tie::FollowsFrom => "follows from",
            Tie::SameRun => "same run",
            Tie::Replicated => "replicated",
            Tie::Span => "span",
            Tie::SameTrace => "same trace",
        };
        json!({
            "machine": id(one.machine),
            "name": store.machine(one.machine).name(),
            "from": one.entries.start,
            "to": one.entries.end.saturating_sub(1),
            "tie": tie,
            "after": one.after,
        })
    });
    all.collect()
}

/// The states of a moment: active ones, those of a group, or those whose names hold a text.
pub(super) fn states(store: &Store, params: &Params) -> Result<Value, Problem> {
    let history = params.machine(store)?;
    let moment = history.ticks_after(params.entry(history)?);
    let schema = history.schema();
    let text = params.get("q").map(str::to_lowercase);
    let group = params.get("group").map(|name| states_of(history, name));
    let group = group.transpose()?;
    let is_asked = |state: u32, name: &str| match (&group, &text) {
        (None, None) => moment.is_active(state),
        (group, text) => {
            let in_group = group.as_ref().is_none_or(|group| group.contains(&state));
            let has_text = text
                .as_ref()
                .is_none_or(|text| name.to_lowercase().contains(text));
            in_group && has_text
        }
    };
    let all = (0..).zip(schema.names());
    let asked: Vec<(u32, &str)> = all.filter(|(state, name)| is_asked(*state, name)).collect();
    let told = asked.iter().take(MOST_STATES).map(|(state, name)| {
        let tick = moment.ticks[*state as usize];
        json!({ "name": name, "tick": tick, "active": tick % 2 == 1 })
    });
    let groups = schema.groups().iter().take(MOST_STATES).map(|group| {
        let active = group.all_members().iter();
        let active = active.filter(|state| moment.is_active(**state)).count();
        json!({
            "name": group.name(),
            "one_of": group.is_exclusive(),
            "sets": group.family_len(),
            "states": group.all_members().len(),
            "active": active,
        })
    });
    let axes = schema.axes().iter().map(|axis| {
        let (first, last) = axis.bounds();
        json!({ "name": axis.name(), "first": first, "last": last })
    });
    Ok(json!({
        "states": told.collect::<Vec<_>>(),
        "left": asked.len().saturating_sub(MOST_STATES),
        "groups": groups.collect::<Vec<_>>(),
        "axes": axes.collect::<Vec<_>>(),
        "sure": moment.is_sure,
    }))
}

/// Why a state is or is not active.
pub(super) fn why(store: &Store, params: &Params) -> Result<Value, Problem> {
    let history = params.machine(store)?;
    let at = params.entry(history)?;
    let state = params.state(history)?;
    let schema = history.schema();
    let why = store.explain(history.id(), at, state);
    let names = |states: &[DynState]| {
        let states: Vec<u32> = states.iter().map(|state| state.0).collect();
        words::names(schema, &states)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    Ok(json!({
        "state": why.name,
        "tick": why.tick,
        "active": why.is_active(),
        "blocked_by": names(&why.blocked_by),
        "missing": names(&why.missing),
        "required_by": names(&why.required_by),
        "auto": why.auto,
        "previous": history.next_change(state, at, false, None),
        "next": history.next_change(state, at, true, None),
    }))
}

/// One moment of a root, at every node of its tree. Of a replica it is the moment that it shows.
pub(super) fn lens(store: &Store, params: &Params) -> Result<Value, Problem> {
    let history = params.machine(store)?;
    let position = history.position(params.entry(history)?);
    let root = match history.role() {
        Role::Root => Some(history.id()),
        Role::Replicant => store.root_of(position.epoch),
    };
    let not_told = || Problem::not_held("the root of this moment has told nothing");
    let root = root.ok_or_else(not_told)?;
    let at = if root == history.id() {
        At::Index(params.entry(history)?)
    } else {
        At::Position(position)
    };
    let lens = store.lens(root, at).ok_or_else(not_told)?;
    let schema = store.machine(root).schema();
    let nodes = lens.nodes.iter().take(MOST).map(|node| {
        let differences = node.differences.as_ref();
        json!({
            "machine": id(node.machine),
            "name": store.machine(node.machine).name(),
            "depth": node.depth,
            "at": node.index,
            "revision": node.position.map(|position| position.revision),
            "reached": node.has_reached,
            "lag": node.lag,
            "behind": node.behind,
            "differences": differences.map(|all| words::differences(schema, all)),
            "wrong": differences.map(Vec::len),
        })
    });
    Ok(json!({
        "root": id(root),
        "name": store.machine(root).name(),
        "at": lens.index,
        "position": lens.position.to_string(),
        "wall": lens.wall,
        "nodes": nodes.collect::<Vec<_>>(),
    }))
}
