//! The metrics of asyncmachine-go under their old names, for dashboards that ask for these.
//!
//! There they are gauges without labels, a name each for every machine, and averages of what happened
//! in the last window of 15 s. Here a window ends when somebody asks after it is over.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use machine_runtime::observe::{Stats, TransitionKind};
use machine_runtime::replica::Link;
use machine_runtime::{ErrorKind, Relation, Schema};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::Figures;
use super::writer::gauge;
use crate::metrics::COMPAT;

/// How long a window is at least.
const WINDOW: Duration = Duration::from_secs(15);

/// What the last window came to.
#[derive(Debug)]
pub(super) struct Compat {
    /// The node's name as it is in the metrics' names.
    name: String,
    window: Mutex<Option<Window>>,
}

/// The window that is open, and the figures of the last one that was.
#[derive(Debug)]
struct Window {
    began: Instant,
    from: Totals,
    last: [f64; COMPAT.len()],
}

/// What only grows, and what is as it is at one end of a window.
#[derive(Clone, Copy, Default, Debug)]
struct Totals {
    transitions: u64,
    exceptions: u64,
    began: u64,
    ended: u64,
    called: u64,
    handlers: u64,
    ticks: u64,
    time: Duration,
    timed: u64,
    active: u64,
    queued: u64,
}

impl Compat {
    pub(super) fn new(node: &str) -> Self {
        Self {
            name: normal(node),
            window: Mutex::default(),
        }
    }

    /// Writes what there is of the last window to `out`.
    pub(super) fn write(&self, figures: &Figures, out: &mut String) {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Shown {
            name: self.name.clone(),
            values: self.values(figures),
        }));
        text::encode_registry(out, &registry).expect("a string takes all that is written");
    }

    fn values(&self, figures: &Figures) -> [f64; COMPAT.len()] {
        let (now, totals) = (Instant::now(), figures.totals());
        let schema = figures.handle.view().schema();
        let window = self.window.lock();
        let mut window = window.unwrap_or_else(PoisonError::into_inner);
        let window = window.get_or_insert_with(|| Window {
            began: now,
            from: totals,
            last: values(schema, totals, totals),
        });
        if now - window.began >= WINDOW {
            *window = Window {
                began: now,
                last: values(schema, window.from, totals),
                from: totals,
            };
        }
        window.last
    }
}

impl Figures {
    fn totals(&self) -> Totals {
        let stats: &Stats = self.stats();
        let executed = TransitionKind::ALL.map(|kind| stats.transitions(kind, true));
        let snapshot = self.handle.view().snapshot();
        let time = stats.transition_time().read();
        Totals {
            // A replica carries out deltas.
            transitions: match &self.link {
                None => executed.iter().sum(),
                Some(link) => Link::deltas(link),
            },
            exceptions: ErrorKind::ALL.iter().map(|kind| stats.errors(*kind)).sum(),
            began: stats.began(),
            ended: stats.ended(),
            called: stats.called(),
            handlers: stats.handlers(),
            ticks: snapshot.as_ref().map_or(0, |now| now.ticks().iter().sum()),
            time: time.sum,
            timed: time.count,
            active: snapshot.map_or(0, |now| now.active().count() as u64),
            queued: self
                .handle
                .queued()
                .map_or(0, |(waiting, _)| waiting as u64),
        }
    }
}

/// The figures of a window, in the order of the table.
fn values(schema: &Schema, from: Totals, to: Totals) -> [f64; COMPAT.len()] {
    let more = |of: fn(&Totals) -> u64| of(&to).saturating_sub(of(&from));
    let transitions = more(|totals| totals.transitions);
    let average = |sum: u64| fraction(sum, transitions);
    let (began, ended) = (more(|totals| totals.began), more(|totals| totals.ended));
    let lists = || {
        let states = 0..schema.len();
        states.flat_map(|state| Relation::ALL.map(|relation| schema.related(relation, state).len()))
    };
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let time = micros(to.time.saturating_sub(from.time));
    let timed = more(|totals| totals.timed);
    let active = fraction(from.active + to.active, 2);
    let states = whole(schema.len() as u64);
    [
        states,
        whole(lists().filter(|len| *len > 0).count() as u64),
        whole(lists().sum::<usize>() as u64),
        whole(to.queued),
        average(more(|totals| totals.ticks)),
        whole(more(|totals| totals.exceptions)),
        whole(transitions),
        average(began),
        average(ended),
        average((began + ended).max(more(|totals| totals.called))),
        0.0,
        average(more(|totals| totals.handlers)),
        if timed == 0 { 0.0 } else { time / whole(timed) },
        active,
        states - active,
    ]
}

fn fraction(sum: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { whole(sum) / whole(of) }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric of more than 2^53 may be rounded"
)]
fn whole(count: u64) -> f64 {
    count as f64
}

/// A name as it is within that of a metric.
fn normal(name: &str) -> String {
    let mut normal = String::new();
    let mut replaced = false;
    for letter in name.to_lowercase().chars() {
        let plain = letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        if plain {
            normal.push(letter);
        } else if !replaced {
            normal.push('_');
        }
        replaced = !plain;
    }
    normal
}

/// The figures as they are written.
#[derive(Debug)]
struct Shown {
    name: String,
    values: [f64; COMPAT.len()],
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for ((base, help), value) in COMPAT.into_iter().zip(self.values) {
            let name = format!("am_{base}_{}", self.name);
            gauge(&mut encoder, &name, help, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Flights;
    use machine_runtime::States as _;

    fn value(values: [f64; COMPAT.len()], name: &str) -> f64 {
        let place = COMPAT.iter().position(|(base, _)| *base == name);
        values[place.unwrap()]
    }

    #[test]
    fn a_window_is_what_came_within_it_and_averages_are_fractions() {
        let from = Totals {
            transitions: 10,
            began: 100,
            ticks: 40,
            active: 3,
            ..Totals::default()
        };
        let to = Totals {
            transitions: 14,
            exceptions: 1,
            began: 103,
            ended: 2,
            called: 6,
            handlers: 10,
            ticks: 47,
            time: Duration::from_micros(9),
            timed: 2,
            active: 4,
            queued: 5,
        };
        let values = values(Flights::schema(), from, to);
        for (name, expected) in [
            ("queue_size", 5.0),
            ("tx_ticks", 1.75),
            ("exceptions", 1.0),
            ("transitions", 4.0),
            ("states_added", 0.75),
            ("states_removed", 0.5),
            ("states_touched", 1.5),
            ("steps", 0.0),
            ("handlers", 2.5),
            ("tx_time", 4.5),
            ("states_active", 3.5),
        ] {
            assert!((value(values, name) - expected).abs() < 1e-9, "{name}");
        }
        let all = value(values, "states_active") + value(values, "states_inactive");
        assert!((all - value(values, "states")).abs() < 1e-9);
    }

    #[test]
    fn nothing_comes_of_a_window_in_which_nothing_came() {
        let values = values(Flights::schema(), Totals::default(), Totals::default());
        assert!(values.iter().all(|value| value.is_finite()));
        assert!(value(values, "states") > 0.0 && value(values, "relations") > 0.0);
        assert!(value(values, "ref_states") >= value(values, "relations"));
    }

    #[test]
    fn a_name_is_normalised_as_the_old_ones_were() {
        for (name, expected) in [("rep-1-2", "rep_1_2"), ("A..b_C", "a_b_c"), ("ü!x", "_x")] {
            assert_eq!(normal(name), expected);
        }
    }
}
