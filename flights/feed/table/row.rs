//! One row of the table: from texts to a [`Departure`] on the virtual clock.

use std::ops::RangeInclusive;
use std::str::FromStr;

use jiff::civil::Date;
use serde::Deserialize;

use crate::feed::departure::{Code, Departure, Fate};
use crate::feed::moment::Moment;
use crate::feed::zones;

/// The columns that every table must have; others are ignored, except `air_time`.
pub(super) const COLUMNS: [&str; 13] = [
    "year",
    "month",
    "day",
    "dep_time",
    "sched_dep_time",
    "dep_delay",
    "arr_time",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "origin",
    "dest",
];

/// A day in minutes.
const DAY: i64 = 24 * 60;

/// The longest delay in minutes: beyond a week it is more likely a slip than a delay.
const LONGEST_DELAY: i64 = 7 * DAY;

/// The texts of a row that are of interest.
#[derive(Deserialize)]
pub(super) struct Row<'a> {
    year: &'a str,
    month: &'a str,
    day: &'a str,
    dep_time: &'a str,
    sched_dep_time: &'a str,
    dep_delay: &'a str,
    arr_time: &'a str,
    sched_arr_time: &'a str,
    arr_delay: &'a str,
    carrier: &'a str,
    flight: &'a str,
    origin: &'a str,
    dest: &'a str,
    #[serde(default)]
    air_time: &'a str,
}

/// What is wrong with a row.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) column: &'static str,
    pub(super) value: String,
    pub(super) problem: String,
}

impl Row<'_> {
    pub(super) fn departure(&self) -> Result<Departure, Fault> {
        let date = self.date()?;
        let origin = code("origin", self.origin, "an airport such as JFK")?;
        let destination = code("dest", self.dest, "an airport such as IAH")?;
        let clock = always("sched_dep_time", self.sched_dep_time, time)?;
        let scheduled = Moment::new(date, clock);
        let due = always("sched_arr_time", self.sched_arr_time, time)?;
        let fate = match self.departed(scheduled)? {
            None => self.cancelled()?,
            Some(departed) => {
                let ahead = zones::ahead(origin, destination, date);
                self.arrival(scheduled, departed, due, ahead)?
            }
        };
        Ok(Departure {
            carrier: code("carrier", self.carrier, "an airline such as UA")?,
            number: whole("flight", self.flight, "a flight number such as 1545")?,
            origin,
            destination,
            scheduled,
            due,
            fate,
        })
    }

    fn date(&self) -> Result<Date, Fault> {
        let year = whole("year", self.year, "a year such as 2013")?;
        let month = whole("month", self.month, "a month from 1 to 12")?;
        let day = whole("day", self.day, "a day from 1 to 31")?;
        Date::new(year, month, day).map_err(|_no_such_day| {
            let problem = format!("but there is no {year}-{month:02}-{day:02}");
            fault("day", self.day, problem)
        })
    }

    /// A cancelled flight, which has neither a delay nor an arrival.
    fn cancelled(&self) -> Result<Fate, Fault> {
        let contradiction = [
            ("dep_delay", self.dep_delay),
            ("arr_time", self.arr_time),
            ("arr_delay", self.arr_delay),
        ]
        .into_iter()
        .find(|(_, text)| !is_missing(text));
        match contradiction {
            None => Ok(Fate::Cancelled),
            Some((column, text)) => {
                let problem = "although dep_time is NA, which means that the flight was cancelled";
                Err(fault(column, text, problem))
            }
        }
    }

    /// When the flight left. The delay is the truth: the time alone does not tell the day.
    fn departed(&self, scheduled: Moment) -> Result<Option<Moment>, Fault> {
        let delay = delay("dep_delay", self.dep_delay)?;
        Ok(time("dep_time", self.dep_time)?.map(|clock| {
            // Without a delay, the nearest such time; a flight is seldom half a day early.
            let nearest =
                || (clock - scheduled.minute_of_day() + DAY / 2).rem_euclid(DAY) - DAY / 2;
            scheduled.plus(delay.unwrap_or_else(nearest))
        }))
    }

    /// When and how the flight arrived. `due` and `arr_time` are on the destination's clock,
    /// which is `ahead` of the virtual one; a delay is right on any clock.
    fn arrival(
        &self,
        scheduled: Moment,
        departed: Moment,
        due: i64,
        ahead: Option<i64>,
    ) -> Result<Fate, Fault> {
        let delay = delay("arr_delay", self.arr_delay)?;
        let clock = time("arr_time", self.arr_time)?;
        let air_time = within(
            "air_time",
            self.air_time,
            0..=DAY,
            "minutes in the air such as 227, at most a day, or NA",
        )?;
        // The first moment after the departure at which the destination's clock shows `clock`.
        let first = |clock: i64| match (ahead, air_time) {
            (Some(ahead), _) => {
                departed.plus((clock - ahead - departed.minute_of_day()).rem_euclid(DAY))
            }
            // Zones differ by whole hours, so the minutes of taxiing can be told from the clock.
            (None, Some(air_time)) => {
                let taxi = (clock - departed.minute_of_day() - air_time).rem_euclid(60);
                departed.plus(air_time + taxi)
            }
            (None, None) => departed.plus((clock - departed.minute_of_day()).rem_euclid(DAY)),
        };
        let arrived = match (clock, delay) {
            (None, None) => return Ok(Fate::Lost { departed }),
            (Some(clock), None) => {
                return Ok(Fate::Diverted {
                    departed,
                    arrived: first(clock),
                });
            }
            (clock, Some(delay)) => match ahead {
                Some(ahead) => {
                    let planned = (due - ahead - scheduled.minute_of_day()).rem_euclid(DAY);
                    scheduled.plus(planned + delay)
                }
                None => first(clock.unwrap_or(due + delay)),
            },
        };
        if arrived < departed {
            let problem =
                format!("which lands the flight at {arrived}, before it left at {departed}");
            return Err(fault("arr_delay", self.arr_delay, problem));
        }
        Ok(Fate::Arrived {
            departed,
            arrived,
            delay: delay.unwrap_or_default(),
        })
    }
}

fn fault(column: &'static str, value: &str, problem: impl Into<String>) -> Fault {
    Fault {
        column,
        value: value.to_owned(),
        problem: problem.into(),
    }
}

fn is_missing(text: &str) -> bool {
    matches!(text, "NA" | "")
}

/// A number, or none where the table has `NA` or nothing. Some tools write `517.0` for 517.
fn number<T: FromStr>(
    column: &'static str,
    text: &str,
    expected: &str,
) -> Result<Option<T>, Fault> {
    if is_missing(text) {
        return Ok(None);
    }
    let digits = text.strip_suffix(".0").unwrap_or(text);
    digits
        .parse()
        .map(Some)
        .map_err(|_not_a_number| fault(column, text, format!("expected {expected}")))
}

fn whole<T: FromStr>(column: &'static str, text: &str, expected: &str) -> Result<T, Fault> {
    number(column, text, expected)?
        .ok_or_else(|| fault(column, text, format!("expected {expected}")))
}

/// A number within a range, or none.
fn within(
    column: &'static str,
    text: &str,
    range: RangeInclusive<i64>,
    expected: &str,
) -> Result<Option<i64>, Fault> {
    match number(column, text, expected)? {
        Some(number) if !range.contains(&number) => {
            Err(fault(column, text, format!("expected {expected}")))
        }
        number => Ok(number),
    }
}

fn delay(column: &'static str, text: &str) -> Result<Option<i64>, Fault> {
    let range = -LONGEST_DELAY..=LONGEST_DELAY;
    let expected = "minutes of delay such as 12 or -3, at most a week, or NA";
    within(column, text, range, expected)
}

/// A time of day in minutes: `517` is 5:17, `2400` the midnight at the end of the day.
fn time(column: &'static str, text: &str) -> Result<Option<i64>, Fault> {
    let expected = "hours and minutes such as 517 or 2359, or NA";
    match number::<i64>(column, text, expected)? {
        Some(time) if time != 2400 && !((0..2400).contains(&time) && time % 100 < 60) => {
            Err(fault(
                column,
                text,
                format!("which is no time of day, expected {expected}"),
            ))
        }
        time => Ok(time.map(|time| time / 100 * 60 + time % 100)),
    }
}

fn always(
    column: &'static str,
    text: &str,
    parse: impl Fn(&'static str, &str) -> Result<Option<i64>, Fault>,
) -> Result<i64, Fault> {
    parse(column, text)?.ok_or_else(|| fault(column, text, "but every departure has a schedule"))
}

fn code(column: &'static str, text: &str, expected: &str) -> Result<Code, Fault> {
    let code = if text == "NA" { None } else { Code::new(text) };
    code.ok_or_else(|| fault(column, text, format!("expected {expected}")))
}
