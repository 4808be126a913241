//! What was told: machines, when how much happened, entries one below the other, lines of logs.

use serde_json::{Value, json};

use super::answer::Problem;
use super::known::Known;
use super::params::{Params, id};
use super::words;
use crate::debug::frame::{Body, Role};
use crate::debugger::store::{Flags, History, Store};

/// How many machines are told of.
const MOST_MACHINES: usize = 200;

/// How many columns a timeline has at most.
const MOST_COLUMNS: usize = 400;

/// How many rows a list has at most.
const MOST_ROWS: usize = 200;

/// How many called states are named in a row.
const NAMED: usize = 4;

/// All machines at one time.
pub(super) fn machines(store: &Store, params: &Params) -> Result<Value, Problem> {
    let wall: Option<u64> = params.number("wall")?;
    let (mut first, mut last) = (None::<u64>, None::<u64>);
    for history in store.machines() {
        if let Some(end) = history.last() {
            let (from, to) = (history.wall(history.start()), history.wall(end));
            first = Some(first.map_or(from, |first| first.min(from)));
            last = Some(last.map_or(to, |last| last.max(to)));
        }
    }
    let machines = store.forest().into_iter().take(MOST_MACHINES);
    let machines: Vec<Value> = machines
        .map(|(machine, depth)| one(store, store.machine(machine), depth, wall))
        .collect();
    Ok(json!({
        "version": version(store).to_string(),
        "first": first,
        "last": last,
        "left": store.machines().len() - machines.len(),
        "machines": machines,
    }))
}

/// What changes whenever the store does.
fn version(store: &Store) -> u64 {
    let processes = store.processes().iter();
    let told = processes.fold(0, |sum: u64, process| {
        let is_there =
            u64::from(*process.connection() == crate::debugger::store::Connection::Connected);
        sum.wrapping_add(process.last_frame().wrapping_mul(2) + is_there)
    });
    let ends = store.machines().iter().map(History::end);
    ends.fold(told, |sum, end| {
        sum.wrapping_mul(31).wrapping_add(end as u64)
    })
}

fn one(store: &Store, history: &History, depth: usize, wall: Option<u64>) -> Value {
    let index = match wall {
        Some(wall) => history.last_at(wall),
        None => history.last(),
    };
    let process = store.process(history.process());
    let moment = index.map(|i| history.ticks_after(i));
    let active = moment.as_ref().map(|moment| {
        let ticks = moment.ticks.iter();
        ticks.filter(|tick| **tick % 2 == 1).count()
    });
    let behind = moment.as_ref().and_then(|moment| {
        let root = store.machine(store.root_of(moment.position.epoch)?);
        let then = root.last_at(wall.unwrap_or(u64::MAX))?;
        let then = root.position(then);
        let of_one = then.epoch == moment.position.epoch;
        of_one.then(|| then.revision.saturating_sub(moment.position.revision))
    });
    json!({
        "id": id(history.id()),
        "name": history.name(),
        "role": match history.role() {
            Role::Root => "root",
            Role::Replicant => "replicant",
        },
        "depth": depth,
        "program": process.hello().program,
        "host": process.hello().host,
        "pid": process.hello().pid,
        "connection": words::connection(store, history),
        "schema": history.schema().name(),
        "states": history.schema().len(),
        "start": history.start(),
        "end": history.end(),
        "dropped": history.dropped(),
        "process_dropped": process.lost(),
        "errors": history.errors().len(),
        "at": index,
        "wall": moment.as_ref().map(|moment| moment.wall),
        "position": moment.as_ref().map(|moment| moment.position.to_string()),
        "revision": moment.as_ref().map(|moment| moment.position.revision),
        "sure": moment.as_ref().map(|moment| moment.is_sure),
        "active": active,
        "behind": behind,
    })
}

/// How much happened when, by columns of equal time.
pub(super) fn timeline(
    store: &Store,
    known: &mut Known,
    params: &Params,
) -> Result<Value, Problem> {
    let history = params.machine(store)?;
    let Some(end) = history.last() else {
        return Ok(json!({ "from": null, "to": null, "shown": [], "canceled": [], "errors": [] }));
    };
    let first = history.wall(history.start());
    let from: u64 = params.number("from")?.unwrap_or(first);
    let to: u64 = params.number("to")?.unwrap_or(history.wall(end));
    let to = to.max(from);
    let columns = params.within("columns", 100, MOST_COLUMNS)?;
    let filter = params.filter(history)?;
    let before = |wall: u64| match wall.checked_sub(1).and_then(|wall| history.last_at(wall)) {
        Some(last) => last + 1,
        None => history.start(),
    };
    let bounds: Vec<usize> = (0..=columns)
        .map(|column| {
            let passed = (u128::from(to - from) + 1) * column as u128 / columns as u128;
            before(from.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
        })
        .collect();
    let marks = known.marks(history);
    let marked: Vec<(usize, usize)> = bounds
        .windows(2)
        .map(|pair| marks.between(pair[0], pair[1]))
        .collect();
    let visible = known.visible(store, history.id(), &filter);
    let place = |i: usize| visible.place(i).unwrap_or_else(|place| place);
    let shown: Vec<usize> = bounds
        .windows(2)
        .map(|pair| place(pair[1].max(pair[0])) - place(pair[0]))
        .collect();
    let (canceled, errors): (Vec<usize>, Vec<usize>) = marked.into_iter().unzip();
    Ok(json!({
        "from": from,
        "to": to,
        "shown": shown,
        "canceled": canceled,
        "errors": errors,
    }))
}

/// The entries that pass a filter around the cursor, and where one can go from there.
pub(super) fn list(store: &Store, known: &mut Known, params: &Params) -> Result<Value, Problem> {
    let history = params.machine(store)?;
    let rows = params.within("rows", 40, MOST_ROWS)?;
    let filter = params.filter(history)?;
    let (start, end) = (history.start(), history.end());
    let at = match (params.number::<usize>("at")?, params.number("wall")?) {
        (Some(at), _) => Some(at.clamp(start, end.max(start + 1) - 1)),
        (None, Some(wall)) => history.last_at(wall).or(Some(start)),
        (None, None) => None,
    };
    let trouble = known.marks(history).around(at.unwrap_or(end));
    let visible = known.visible(store, history.id(), &filter);
    let (place, is_shown) = match at.map(|at| visible.place(at)) {
        Some(Ok(place)) => (place, true),
        Some(Err(place)) => (place, false),
        None => (visible.len().saturating_sub(1), !visible.is_empty()),
    };
    let at = at.or_else(|| visible.get(place));
    let from = place
        .saturating_sub(rows / 2)
        .min(visible.len().saturating_sub(rows));
    let shown = (from..visible.len().min(from + rows)).filter_map(|place| visible.get(place));
    let behind = if is_shown { place + 1 } else { place };
    let hidden = visible.hidden();
    Ok(json!({
        "at": at.filter(|at| history.range().contains(at)),
        "held": history.len(),
        "start": start,
        "end": end,
        "shown": visible.len(),
        "place": is_shown.then_some(place),
        "first": visible.get(0),
        "last": visible.len().checked_sub(1).and_then(|place| visible.get(place)),
        "previous": place.checked_sub(1).and_then(|place| visible.get(place)),
        "next": visible.get(behind),
        "previous_trouble": trouble.0,
        "next_trouble": trouble.1,
        "hidden": {
            "canceled": hidden.canceled,
            "auto": hidden.auto,
            "queued": hidden.queued,
            "empty": hidden.empty,
            "health": hidden.health,
        },
        "rows": shown.map(|i| row(history, i)).collect::<Vec<_>>(),
    }))
}

fn row(history: &History, i: usize) -> Value {
    let schema = history.schema();
    let entry = history.entry(i);
    let mut row = json!({
        "at": i,
        "wall": entry.wall,
        "revision": entry.position.revision,
        "kind": words::kind(entry.flags),
        "error": entry.flags.contains(Flags::ERROR),
        "unsure": entry.flags.contains(Flags::UNSURE),
    });
    match &entry.body {
        Body::Transition(told) => {
            row["op"] = told.op.name().into();
            row["called"] = words::names(schema, told.called.iter().take(NAMED)).into();
            row["more"] = told.called.len().saturating_sub(NAMED).into();
            row["cause"] = told.cause.name().into();
            row["changes"] = told.changes.len().into();
            row["accepted"] = told.is_accepted().into();
            if let Some(reason) = &told.canceled {
                row["reason"] = words::reason(schema, reason).into();
            }
        }
        Body::Followed(told) => {
            let changed = told.changes.iter().take(NAMED);
            let changed: Vec<u32> = changed.map(|change| change.state).collect();
            row["called"] = words::names(schema, &changed).into();
            row["more"] = told.changes.len().saturating_sub(NAMED).into();
            row["changes"] = told.changes.len().into();
            row["from"] = told.from.into();
        }
        Body::Dropped(count) => row["dropped"] = (*count).into(),
        _ => {}
    }
    row
}

/// The last lines up to a time that a process logged.
pub(super) fn log(store: &Store, params: &Params) -> Result<Value, Problem> {
    let history = params.machine(store)?;
    let process = store.process(history.process());
    let level = params.number("level")?.unwrap_or(5);
    let text = params.get("q").unwrap_or_default();
    let until = match params.number("wall")? {
        Some(wall) => process.line_at(wall).map_or(0, |place| place + 1),
        None => process.lines().len(),
    };
    let found = process.find_lines(level, text);
    let mut found: Vec<usize> = found.take_while(|place| *place < until).collect();
    let rows = params.within("rows", 100, MOST_ROWS)?;
    found.drain(..found.len().saturating_sub(rows));
    let lines = found.into_iter().map(|place| {
        let told = &process.lines()[place];
        json!({
            "wall": told.wall,
            "level": told.line.level,
            "target": told.line.target,
            "text": told.line.text,
            "machine": told.machine.map(|machine| store.machine(machine).name()),
        })
    });
    Ok(json!({
        "lines": lines.collect::<Vec<_>>(),
        "forgotten": process.forgotten_lines(),
    }))
}
