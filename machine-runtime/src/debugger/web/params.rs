//! Parameters of a request.

use std::collections::BTreeSet;

use super::answer::Problem;
use crate::debugger::store::{Filter, History, MachineId, Store};
use crate::schema::as_index;

/// The longest text that is searched for.
const LONGEST: usize = 200;

/// The parameters there are. Those of another path are passed over, as is what a loop variable is called.
const NAMES: [&str; 13] = [
    "machine", "at", "wall", "from", "to", "columns", "rows", "hide", "group", "q", "state",
    "level", "only",
];

/// Parameters by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn read(query: &str) -> Result<Self, Problem> {
        let mut params: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !NAMES.contains(&&*name) {
                return Err(Problem::bad(format!(
                    "an unknown parameter: there is {}",
                    NAMES.join(", ")
                )));
            }
            if params.iter().any(|(known, _)| *known == name) {
                return Err(Problem::bad(format!("`{name}` is given twice")));
            }
            if value.len() > LONGEST {
                return Err(Problem::bad(format!(
                    "`{name}` is longer than {LONGEST} bytes"
                )));
            }
            // An empty one says nothing.
            if !value.is_empty() {
                params.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(Self(params))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut params = self.0.iter();
        let param = params.find(|(known, _)| known == name);
        param.map(|(_, value)| value.as_str())
    }

    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Problem> {
        let number = self.get(name).map(str::parse).transpose();
        number.map_err(|_wrong| Problem::bad(format!("`{name}` is a number")))
    }

    /// A number within bounds; what is beyond them is brought there.
    pub(super) fn within(&self, name: &str, usual: usize, most: usize) -> Result<usize, Problem> {
        let number = self.number(name)?;
        Ok(number.unwrap_or(usual).clamp(1, most))
    }

    /// The machine that is asked about.
    pub(super) fn machine<'s>(&self, store: &'s Store) -> Result<&'s History, Problem> {
        let machine: usize = self
            .number("machine")?
            .ok_or_else(|| Problem::bad("`machine` is missing"))?;
        let history = store.machines().get(machine);
        history.ok_or_else(|| Problem::not_held("there is no such machine"))
    }

    /// The entry that is asked about: the last one unless told.
    pub(super) fn entry(&self, history: &History) -> Result<usize, Problem> {
        let Some(at) = self.number::<usize>("at")? else {
            let last = history.last();
            return last.ok_or_else(|| Problem::not_held("nothing was told of this machine yet"));
        };
        if history.range().contains(&at) {
            return Ok(at);
        }
        Err(Problem::not_held(format!(
            "entry {at} is not held: there are those from {} up to {}",
            history.start(),
            history.end()
        )))
    }

    pub(super) fn state(&self, history: &History) -> Result<u32, Problem> {
        let name = self
            .get("state")
            .ok_or_else(|| Problem::bad("`state` is missing"))?;
        let found = history.schema().find_or_suggest(name);
        found
            .map(as_index)
            .map_err(|unknown| Problem::bad(unknown.to_string()))
    }

    /// What is hidden, as in the terminal.
    pub(super) fn filter(&self, history: &History) -> Result<Filter, Problem> {
        let mut filter = Filter::default();
        for hidden in self
            .get("hide")
            .into_iter()
            .flat_map(|list| list.split(','))
        {
            let toggle = match hidden {
                "canceled" => &mut filter.hide_canceled,
                "auto" => &mut filter.hide_auto,
                "queued" => &mut filter.hide_queued,
                "empty" => &mut filter.hide_empty,
                "health" => &mut filter.hide_health,
                _ => {
                    let message = "`hide` is a list of canceled, auto, queued, empty, health";
                    return Err(Problem::bad(message));
                }
            };
            *toggle = true;
        }
        if let Some(name) = self.get("group") {
            filter.group = Some(states_of(history, name)?);
        }
        filter.text = self.get("q").map(str::to_owned);
        Ok(filter)
    }
}

/// The states of a group, or the one state of that name.
pub(super) fn states_of(history: &History, name: &str) -> Result<BTreeSet<u32>, Problem> {
    let schema = history.schema();
    if let Some((group, values)) = schema.find_group(name) {
        let members = schema.groups()[group].all_members().iter().copied();
        let is_in = |state: &u32| {
            let mut values = values.iter();
            values.all(|(axis, value)| schema.axes()[*axis].value(*state as usize) == Some(*value))
        };
        return Ok(members.filter(is_in).collect());
    }
    let state = schema.find(name).map(as_index);
    let state = state.ok_or_else(|| Problem::bad("there is no such group, nor state"))?;
    Ok(BTreeSet::from([state]))
}

/// The number of a machine in addresses.
pub(super) fn id(machine: MachineId) -> usize {
    machine.0
}
