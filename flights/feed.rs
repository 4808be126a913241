//! Real departures as mutations, on a virtual clock.
//!
//! A [`Timetable`] is a table of departures in the format of nycflights13. A [`Plan`] decides
//! which of them a slot shows and what happens to it, as [`Event`]s in the order of time; it
//! knows numbers of slots and gates and no states. A [`Replay`] puts each event into mutations
//! of the schema. Nothing here waits or reads a clock: whoever drives a replay asks [`Speed`]
//! how long to wait between two steps.
//!
//! The mapping in full is on the page `docs/feed.md`.

use machine_runtime::Mutation;

use crate::payloads::Estimate;
use crate::states::Flights;

mod account;
mod departure;
mod moment;
mod plan;
mod speed;
mod table;
mod words;
mod zones;

pub use account::Account;
pub use departure::{ANNOUNCED_IN, CALLED_BEFORE, DELAYED_FROM, Departure, Fate, SHOWN_BEFORE};
pub use moment::Moment;
pub use plan::{Change, Event, Plan};
pub use speed::{Speed, SpeedError};
pub use table::{FeedError, Timetable};
pub(crate) use words::Lateness;

/// What happens at one moment of a replay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When, on the virtual clock; never before the step that came before it.
    pub at: Moment,
    /// The mutations that make it so, in order.
    pub mutations: Vec<Mutation<Flights>>,
    /// The same in words.
    pub words: String,
}

/// The steps of a timetable on the slots and gates of the schema.
///
/// ```
/// use flights::feed::{Replay, Timetable};
///
/// let mut replay = Replay::new(Timetable::shipped(), 0);
/// let first = replay.next().unwrap();
/// assert_eq!(first.at.to_string(), "2013-07-10 04:00");
/// assert_eq!(first.words, "US1431 to CLT is scheduled for 05:00, in slot 1");
/// ```
#[derive(Clone, Debug)]
pub struct Replay {
    plan: Plan,
    speed: Speed,
}

impl Replay {
    /// A replay of `timetable` for who does not wait. The seed chooses the gates, which the table
    /// does not know.
    pub fn new(timetable: Timetable, seed: u64) -> Self {
        let [slots, gates] = [Flights::flights().count(), Flights::gates().count()];
        Self {
            plan: Plan::new(timetable, slots, gates, seed),
            speed: Speed::Max,
        }
    }

    /// The same for who waits as `speed` says: estimates tell how soon they will be past.
    #[must_use]
    pub fn at(self, speed: Speed) -> Self {
        Self { speed, ..self }
    }

    /// How fast it is to run.
    pub fn speed(&self) -> Speed {
        self.speed
    }

    /// What became of the departures so far; of all of them once there are no more steps.
    pub fn account(&self) -> Account {
        self.plan.account()
    }
}

impl Iterator for Replay {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let event = self.plan.next()?;
        Some(Step {
            at: event.at,
            mutations: mutations(&event, self.speed),
            words: event.to_string(),
        })
    }
}

/// The mapping from events to states.
fn mutations(event: &Event, speed: Speed) -> Vec<Mutation<Flights>> {
    let slot = event.slot;
    let unknown = Flights::gate_unknown(slot);
    match event.change {
        // The direction has to end first: an active state keeps the payload that it has. The
        // others are called so that the slot is as new whatever it showed before.
        Change::Shown => vec![
            Mutation::remove(Flights::outbound(slot)),
            Mutation::add([Flights::outbound(slot), Flights::scheduled(slot), unknown])
                .with(Flights::outbound_payload(slot), &event.flight.itinerary()),
        ],
        Change::OnTime { gate: None } => vec![Mutation::add(Flights::on_time(slot))],
        Change::OnTime { gate: Some(gate) } => {
            let called = [
                Flights::on_time(slot),
                Flights::go_to_gate(slot),
                Flights::gate(slot, gate),
            ];
            vec![Mutation::add(called)]
        }
        Change::Called { gate } => {
            vec![Mutation::add([
                Flights::go_to_gate(slot),
                Flights::gate(slot, gate),
            ])]
        }
        Change::Delayed { until } => {
            let estimate = Estimate {
                until: until.time().to_string(),
                in_ms: speed.past_in_ms(event.at, until),
            };
            let delayed = Mutation::add(Flights::delayed(slot));
            vec![delayed.with(Flights::delayed_payload(slot), &estimate)]
        }
        Change::Departed { .. } => vec![Mutation::add([Flights::departed(slot), unknown])],
        Change::Arrived => {
            let arrived = Mutation::add(Flights::arrived(slot));
            vec![arrived.with(Flights::arrived_payload(slot), &event.flight.arrival())]
        }
        Change::Cancelled => vec![Mutation::remove(Flights::outbound(slot))],
    }
}
