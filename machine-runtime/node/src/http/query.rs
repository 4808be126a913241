//! What a query asks for: how much of which states, and from when.

use std::fmt::Write as _;
use std::time::Duration;

use machine_runtime::{Position, Schema};

use super::problem::Problem;
use super::similar::similar;
use super::wait::{Until, Wait};

/// The longest that a request may wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How long a request waits that does not say.
const USUAL_WAIT: Duration = Duration::from_secs(30);

/// What a query asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Query {
    /// Whether ticks are wanted.
    pub(super) ticks: bool,
    /// Whether retained payloads are wanted.
    pub(super) payloads: bool,
    /// The group that is wanted, as a place among the schema's.
    group: Option<usize>,
    /// The loop variables that are given: places among the schema's, and values.
    axes: Vec<(usize, usize)>,
    /// What to wait for before the answer.
    pub(super) wait: Option<Wait>,
}

impl Query {
    /// Reads the parameters of a path that shows states; `details` says whether it shows more of
    /// them than their names.
    pub(super) fn parse(
        params: &[(String, String)],
        schema: &Schema,
        details: bool,
    ) -> Result<Self, Problem> {
        let mut query = Self::default();
        let (mut after, mut min_rev, mut wait) = (None, None, None);
        for (i, (name, value)) in params.iter().enumerate() {
            match name.as_str() {
                "ticks" if details => query.ticks = switch(name, value)?,
                "payloads" if details => query.payloads = switch(name, value)?,
                "group" => query.choose_group(schema, value)?,
                "after" => after = Some(position(name, value)?),
                "min_rev" => min_rev = Some(position(name, value)?),
                "wait" => wait = Some(seconds(value, Duration::ZERO)?),
                _ => query.choose_value(schema, name, value, details)?,
            }
            if params[..i].iter().any(|(other, _)| other == name) {
                return Err(Problem::bad_query(format!("`{name}` is given twice")));
            }
        }
        query.check_values(schema)?;
        let until = match (after, min_rev) {
            (None, None) if wait.is_some() => {
                let message = "`wait` is for `after` and `min_rev`, neither is given";
                return Err(Problem::bad_query(message));
            }
            (Some(_), Some(_)) => {
                let message = "`after` and `min_rev` exclude each other";
                return Err(Problem::bad_query(message));
            }
            (after, min_rev) => after.map(Until::Past).or(min_rev.map(Until::Reached)),
        };
        query.wait = until.map(|until| Wait {
            until,
            most: wait.unwrap_or(USUAL_WAIT),
        });
        Ok(query)
    }

    fn choose_group(&mut self, schema: &Schema, name: &str) -> Result<(), Problem> {
        if let Some((place, values)) = schema.find_group(name) {
            self.group = Some(place);
            self.axes.extend(values);
            return Ok(());
        }
        let names = schema.groups().iter().map(machine_runtime::Group::name);
        Err(Problem::unknown_group(name, similar(name, names)))
    }

    fn choose_value(
        &mut self,
        schema: &Schema,
        name: &str,
        value: &str,
        details: bool,
    ) -> Result<(), Problem> {
        let Some(place) = schema.axes().iter().position(|axis| axis.name() == name) else {
            let mut allowed = Vec::new();
            if details {
                allowed.extend(["ticks", "payloads"]);
            }
            allowed.extend(["group", "after", "min_rev", "wait"]);
            allowed.extend(schema.axes().iter().map(machine_runtime::Axis::name));
            return Err(Problem::unknown_parameter(name, &allowed));
        };
        let (first, last) = schema.axes()[place].bounds();
        match value.parse() {
            Ok(value) if (first..=last).contains(&value) => self.axes.push((place, value)),
            _ => {
                let message = format!("`{name}` is a number from {first} to {last}");
                return Err(Problem::bad_value(message));
            }
        }
        Ok(())
    }

    /// Refuses a loop variable that no state of the group was declared with.
    fn check_values(&self, schema: &Schema) -> Result<(), Problem> {
        let Some(group) = self.group.map(|place| &schema.groups()[place]) else {
            return Ok(());
        };
        for (place, _) in &self.axes {
            let axis = &schema.axes()[*place];
            let mut members = group.all_members().iter();
            if !members.any(|state| axis.value(*state as usize).is_some()) {
                let (group, axis) = (group.name(), axis.name());
                let message = format!("no state of the group `{group}` has a `{axis}`");
                return Err(Problem::bad_query(message));
            }
        }
        Ok(())
    }

    /// Whether a node at `now` is where the query waits for, if it waits.
    ///
    /// # Errors
    ///
    /// If it never will be: its root began a new life.
    pub(super) fn is_over(&self, now: Position) -> Result<bool, Problem> {
        self.wait.map_or(Ok(true), |wait| wait.until.is_over(now))
    }

    /// Whether the answer is the one that everybody gets.
    pub(super) fn is_plain(&self) -> bool {
        !self.ticks && !self.payloads && !self.is_narrow()
    }

    /// Whether only some states are asked for.
    pub(super) fn is_narrow(&self) -> bool {
        self.group.is_some() || !self.axes.is_empty()
    }

    /// The states that are asked for, in index order.
    pub(super) fn states(&self, schema: &Schema) -> Vec<usize> {
        let wanted = |state: &usize| {
            self.axes
                .iter()
                .all(|(axis, value)| schema.axes()[*axis].value(*state) == Some(*value))
        };
        let Some(group) = self.group else {
            return (0..schema.len()).filter(wanted).collect();
        };
        let members = schema.groups()[group].all_members().iter();
        let mut states: Vec<usize> = members
            .map(|state| *state as usize)
            .filter(wanted)
            .collect();
        states.sort_unstable();
        states.dedup();
        states
    }

    /// What tells answers to this query from those to others at the same position.
    pub(super) fn hash(&self) -> u32 {
        let mut text = format!(
            "{}{}{:?}",
            u8::from(self.ticks),
            u8::from(self.payloads),
            self.group
        );
        let mut axes = self.axes.clone();
        axes.sort_unstable();
        for (axis, value) in axes {
            // Writing to a string cannot fail.
            let _ = write!(text, ",{axis}={value}");
        }
        hash_of(&text)
    }
}

/// FNV-1a: the same on every node and in every build.
pub(super) fn hash_of(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Reads the value of the one parameter that a path takes, if it takes any.
pub(super) fn only<'a>(
    params: &'a [(String, String)],
    allowed: Option<&str>,
) -> Result<Option<&'a str>, Problem> {
    for (name, _) in params {
        if Some(name.as_str()) != allowed {
            return Err(Problem::unknown_parameter(name, allowed.as_slice()));
        }
    }
    match params {
        [] => Ok(None),
        [(_, value)] => Ok(Some(value)),
        [(name, _), ..] => Err(Problem::bad_query(format!("`{name}` is given twice"))),
    }
}

/// Reads a position.
pub(super) fn position(name: &str, value: &str) -> Result<Position, Problem> {
    value.parse().map_err(|_invalid| {
        let message = format!(
            "`{name}` is a position: 32 hexadecimal digits, a dot and a revision, \
             as in the header Machine-Position"
        );
        Problem::bad_value(message)
    })
}

fn switch(name: &str, value: &str) -> Result<bool, Problem> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(Problem::bad_value(format!("`{name}` is 0 or 1"))),
    }
}

/// Reads a time to wait, which is `least` or longer.
pub(super) fn seconds(value: &str, least: Duration) -> Result<Duration, Problem> {
    let plain = value
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let wait = value.parse().ok().filter(|_| plain);
    wait.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|wait| (least..=LONGEST_WAIT).contains(wait))
        .ok_or_else(|| {
            let (least, most) = (least.as_secs(), LONGEST_WAIT.as_secs());
            Problem::bad_value(format!(
                "`wait` is a number of seconds from {least} to {most}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use machine_runtime::States;

    use super::*;
    use crate::fixture::Flights;

    fn schema() -> &'static Arc<Schema> {
        Flights::schema()
    }

    fn parse(query: &str) -> Result<Query, Problem> {
        let params: Vec<_> = query
            .split('&')
            .filter_map(|param| param.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Query::parse(&params, schema(), true)
    }

    fn names(query: &str) -> Vec<&'static str> {
        let states = parse(query).unwrap().states(schema());
        states
            .into_iter()
            .map(|state| schema().name_of(state))
            .collect()
    }

    #[test]
    fn a_group_is_one_set_or_all_of_its_family() {
        let one = ["OnTime", "Delayed", "Departed", "Arrived", "Scheduled"];
        let one = one.map(|status| format!("Flight2{status}"));
        assert_eq!(names("group=Status&flight=2"), one);
        assert_eq!(names("group=Flight2Status"), one);
        assert_eq!(names("group=Flight2Status&flight=1"), [""; 0]);
        let flights = schema().axes()[0].bounds().1;
        assert_eq!(names("group=Status").len(), 5 * flights);
    }

    #[test]
    fn a_loop_variable_narrows_by_itself() {
        let all = names("flight=1");
        assert!(
            all.iter().all(|name| name.starts_with("Flight1")),
            "{all:?}"
        );
        assert!(all.contains(&"Flight1GoToGate"));
        assert_eq!(names("flight=1&gate=2"), ["Flight1Gate2"]);
    }

    #[test]
    fn a_wait_is_at_most_a_minute() {
        let at = "after=00000000000000000000000000000001.5";
        let wait =
            |seconds: &str| parse(&format!("{at}&wait={seconds}")).map(|q| q.wait.unwrap().most);
        assert_eq!(wait("60"), Ok(LONGEST_WAIT));
        assert_eq!(wait("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(wait("0"), Ok(Duration::ZERO));
        assert_eq!(parse(at).unwrap().wait.unwrap().most, USUAL_WAIT);
        for wrong in [
            "60.1", "61", "-1", "", "x", "1e1", "inf", "NaN", ".", "1.2.3", "+1",
        ] {
            assert!(wait(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_can_have_a_least() {
        let least = Duration::from_secs(1);
        assert_eq!(seconds("1", least), Ok(least));
        assert_eq!(seconds("1.5", least), Ok(Duration::from_millis(1500)));
        for wrong in ["0", "0.999", "61"] {
            assert!(seconds(wrong, least).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parameters_that_make_no_sense_are_refused() {
        let at = "00000000000000000000000000000001.5";
        for wrong in [
            "wait=1".to_owned(),
            format!("after={at}&min_rev={at}"),
            format!("after={at}&after={at}"),
            "after=5".to_owned(),
            "ticks=yes".to_owned(),
            "flight=0".to_owned(),
            "flight=x".to_owned(),
            "flights=1".to_owned(),
            "group=Nothing".to_owned(),
            "group=Flight0Status".to_owned(),
            "group=Flight01Status".to_owned(),
            "group=Direction&gate=1".to_owned(),
        ] {
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn queries_hash_by_what_they_ask_for() {
        let hash = |query: &str| parse(query).unwrap().hash();
        assert_eq!(
            hash("ticks=1&flight=1&gate=2"),
            hash("gate=2&flight=1&ticks=1&payloads=0")
        );
        let others = [
            "ticks=1",
            "payloads=1",
            "group=Status",
            "group=Direction",
            "flight=1",
            "flight=2",
            "gate=1",
            "group=Status&flight=1",
        ];
        let hashes: std::collections::BTreeSet<u32> = others.into_iter().map(hash).collect();
        assert_eq!(hashes.len(), others.len());
    }

    #[test]
    fn not_every_path_takes_every_parameter() {
        let params = [("ticks".to_owned(), "1".to_owned())];
        assert!(Query::parse(&params, schema(), false).is_err());
        let param = |name: &str| (name.to_owned(), String::new());
        assert_eq!(only(&[], None), Ok(None));
        assert_eq!(only(&[param("after")], Some("after")), Ok(Some("")));
        assert!(only(&[param("after"), param("after")], Some("after")).is_err());
        assert!(only(&[param("after"), param("x")], Some("after")).is_err());
        assert!(only(&[param("x")], None).is_err());
    }
}
