//! What may stand behind the question mark.

use std::time::Duration;

use machine_runtime::{Position, Schema};

use super::error::Problem;

/// The longest that a request waits.
const LONGEST_WAIT: f64 = 60.0;

/// How long a request waits that does not say.
const WAIT: Duration = Duration::from_secs(30);

const POSITION: &str = "a position: 32 hexadecimal digits, a dot and a revision";

/// The parameters of `/v1/states`.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Query {
    pub(super) until: Option<Until>,
    pub(super) wait: Duration,
    pub(super) ticks: bool,
    pub(super) payloads: bool,
    pub(super) selection: Selection,
}

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// Anything after a position.
    After(Position),
    /// A position or anything after it.
    Reached(Position),
}

/// Which states to tell of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Selection {
    /// The group's place in the schema.
    group: Option<usize>,
    /// Axes by their place in the schema, and the value that each must have.
    axes: Vec<(usize, usize)>,
}

impl Query {
    /// Whether it asks for what everybody is shown.
    pub(super) fn is_plain(&self) -> bool {
        !self.ticks && !self.payloads && self.selection == Selection::default()
    }

    /// Tells queries for other answers apart, in an entity tag.
    pub(super) fn tag(&self) -> String {
        use std::fmt::Write as _;
        let mut tag = String::new();
        if self.ticks {
            tag.push_str("-ticks");
        }
        if self.payloads {
            tag.push_str("-payloads");
        }
        // Writing to a string cannot fail.
        if let Some(group) = self.selection.group {
            let _ = write!(tag, "-g{group}");
        }
        for (axis, value) in &self.selection.axes {
            let _ = write!(tag, "-{axis}.{value}");
        }
        tag
    }

    /// Reads a query for states of `schema`.
    pub(super) fn parse(query: &str, schema: &Schema) -> Result<Self, Problem> {
        let mut parsed = Self {
            until: None,
            wait: WAIT,
            ticks: false,
            payloads: false,
            selection: Selection::default(),
        };
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if seen.contains(&name) {
                return Err(Problem::conflict(format!("`{name}` stands there twice")));
            }
            parsed.set(&name, &value, schema)?;
            seen.push(name);
        }
        parsed.selection.axes.sort_unstable();
        if let Some(group) = parsed.selection.group {
            let group = &schema.groups()[group];
            for (axis, _) in &parsed.selection.axes {
                if !group.axes().contains(axis) && !has_axis(schema, group.all_members(), *axis) {
                    let (group, axis) = (group.name(), schema.axes()[*axis].name());
                    let message = format!("the group `{group}` has no `{axis}`");
                    return Err(Problem::conflict(message));
                }
            }
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str, schema: &Schema) -> Result<(), Problem> {
        match name {
            "after" | "min_rev" => {
                let position = position(name, value)?;
                if self.until.is_some() {
                    let message = "`after` and `min_rev` exclude each other".to_owned();
                    return Err(Problem::conflict(message));
                }
                self.until = Some(if name == "after" {
                    Until::After(position)
                } else {
                    Until::Reached(position)
                });
            }
            "wait" => self.wait = wait(value)?,
            "ticks" => self.ticks = flag(name, value)?,
            "payloads" => self.payloads = flag(name, value)?,
            "group" => {
                let mut groups = schema.groups().iter();
                let group = groups.position(|group| group.name() == value);
                self.selection.group = Some(group.ok_or_else(|| {
                    let groups = schema.groups().iter();
                    Problem::unknown_group(value, groups.map(|g| g.name().to_owned()).collect())
                })?);
            }
            _ => {
                let found = schema.axes().iter().position(|axis| axis.name() == name);
                let Some(axis) = found else {
                    return Err(Problem::unknown_parameter(name, allowed(schema)));
                };
                let (first, last) = schema.axes()[axis].bounds();
                let number = value.parse().ok().filter(|n| (first..=last).contains(n));
                let want = || format!("a number from {first} to {last}");
                let number = number.ok_or_else(|| Problem::bad_value(name, value, &want()))?;
                self.selection.axes.push((axis, number));
            }
        }
        Ok(())
    }
}

impl Selection {
    /// Whether it has state `index`; `members` are the sorted members of its group.
    pub(super) fn has(&self, schema: &Schema, members: Option<&[u32]>, index: usize) -> bool {
        let in_group = members.is_none_or(|members| {
            u32::try_from(index).is_ok_and(|index| members.binary_search(&index).is_ok())
        });
        let axes = schema.axes();
        let mut values = self.axes.iter();
        in_group && values.all(|(axis, value)| axes[*axis].value(index) == Some(*value))
    }

    /// The sorted members of the group, if there is one.
    pub(super) fn members(&self, schema: &Schema) -> Option<Vec<u32>> {
        let mut members = schema.groups()[self.group?].all_members().to_vec();
        members.sort_unstable();
        Some(members)
    }
}

/// The parameters of `/v1/events`: where to go on from.
pub(super) fn events(query: &str) -> Result<Option<Position>, Problem> {
    let mut after = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "after" => after = Some(position(&name, &value)?),
            _ => return Err(Problem::unknown_parameter(&name, vec!["after".to_owned()])),
        }
    }
    Ok(after)
}

/// Refuses every parameter.
pub(super) fn none(query: &str) -> Result<(), Problem> {
    match form_urlencoded::parse(query.as_bytes()).next() {
        Some((name, _)) => Err(Problem::unknown_parameter(&name, Vec::new())),
        None => Ok(()),
    }
}

fn has_axis(schema: &Schema, members: &[u32], axis: usize) -> bool {
    let axis = &schema.axes()[axis];
    members
        .iter()
        .any(|state| axis.value(*state as usize).is_some())
}

fn allowed(schema: &Schema) -> Vec<String> {
    let own = ["after", "min_rev", "wait", "ticks", "payloads", "group"].into_iter();
    let axes = schema.axes().iter().map(machine_runtime::Axis::name);
    own.chain(axes).map(str::to_owned).collect()
}

fn position(name: &str, value: &str) -> Result<Position, Problem> {
    value
        .parse()
        .map_err(|_malformed| Problem::bad_value(name, value, POSITION))
}

fn wait(value: &str) -> Result<Duration, Problem> {
    let seconds: Option<f64> = value.parse().ok();
    let seconds = seconds.filter(|seconds| (0.0..=LONGEST_WAIT).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| Problem::bad_value("wait", value, "a number of seconds from 0 to 60"))
}

fn flag(name: &str, value: &str) -> Result<bool, Problem> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(Problem::bad_value(name, value, "0 or 1")),
    }
}
