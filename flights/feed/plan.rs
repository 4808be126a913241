//! Which flight a slot shows, when, and what happens to it: the policy, without any states.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use super::account::Account;
use super::departure::{CALLED_BEFORE, DELAYED_FROM, Departure, Fate};
use super::moment::Moment;
use super::table::Timetable;

mod gates;

use gates::Gates;

/// Something that happens to the flight in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// The slot, from 1.
    pub slot: usize,
    /// The flight that the slot shows.
    pub flight: Departure,
    /// What.
    pub change: Change,
}

/// What happens to the flight in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// It is shown from now on, in place of what the slot showed before.
    Shown,
    /// It is on time and, if it has one, calls its passengers to the gate.
    OnTime {
        /// The gate, if one is free.
        gate: Option<usize>,
    },
    /// It calls its passengers to a gate.
    Called {
        /// The gate.
        gate: usize,
    },
    /// It should have left and has not.
    Delayed {
        /// When it is said to leave, which may be too early by some minutes.
        until: Moment,
    },
    /// It leaves, and its gate is free.
    Departed {
        /// The gate, if it had one.
        gate: Option<usize>,
        /// By how many minutes it is late; negative if it is early.
        delay: i64,
    },
    /// It arrives.
    Arrived,
    /// It will not leave: the slot is free.
    Cancelled,
}

/// The events of a timetable in the order of time, for so many slots and gates.
///
/// The seed chooses between free gates, which the table does not know; nothing else is left to
/// chance. What ends at a minute comes before what starts at it.
#[derive(Clone, Debug)]
pub struct Plan {
    departures: Vec<Departure>,
    next: usize,
    due: BinaryHeap<Reverse<Due>>,
    slots: Vec<Option<Occupant>>,
    free: BinaryHeap<Reverse<usize>>,
    /// The slots whose flight has arrived, the longest ago first.
    arrived: VecDeque<usize>,
    /// The slots whose flight is on its way, by its departure.
    departed: BTreeSet<(Moment, usize)>,
    gates: Gates,
    /// The flights that wait for a gate, with their slots, the longest first.
    waiting: VecDeque<(usize, usize)>,
    /// What follows at once from the last event.
    follow_up: Option<Event>,
    account: Account,
}

/// What a slot shows. Flights are places in the list of departures.
#[derive(Clone, Copy, Debug)]
struct Occupant {
    flight: usize,
    gate: Option<usize>,
    departed: bool,
}

/// Something planned, ordered by time. Within a minute departures come first, as they set gates
/// and slots free.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Due {
    at: Moment,
    what: What,
    flight: usize,
    slot: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum What {
    Depart,
    Arrive,
    Cancel,
    Delay,
    Call,
}

impl Plan {
    /// The plan for `timetable` on slots 1 to `slots` and gates 1 to `gates`.
    pub fn new(timetable: Timetable, slots: usize, gates: usize, seed: u64) -> Self {
        let departures = timetable.into_departures();
        let account = Account {
            departures: departures.len(),
            ..Account::default()
        };
        Self {
            departures,
            next: 0,
            due: BinaryHeap::new(),
            slots: vec![None; slots],
            free: (0..slots).map(Reverse).collect(),
            arrived: VecDeque::new(),
            departed: BTreeSet::new(),
            gates: Gates::new(gates, seed),
            waiting: VecDeque::new(),
            follow_up: None,
            account,
        }
    }

    /// What became of the departures so far.
    pub fn account(&self) -> Account {
        self.account
    }

    /// The departure whose turn it is takes a slot, if there is one to be had.
    fn show(&mut self) -> Option<Event> {
        let flight = self.next;
        let departure = self.departures[flight];
        self.next += 1;
        let Some(slot) = self.take_slot() else {
            self.account.not_shown += 1;
            self.account.not_shown_cancelled += usize::from(departure.fate == Fate::Cancelled);
            return None;
        };
        self.slots[slot] = Some(Occupant {
            flight,
            gate: None,
            departed: false,
        });
        self.schedule(flight, slot);
        Some(self.event(departure.shown(), slot, flight, Change::Shown))
    }

    /// A slot without a flight, else the one whose flight arrived longest ago, else the one whose
    /// flight departed longest ago.
    fn take_slot(&mut self) -> Option<usize> {
        if let Some(Reverse(slot)) = self.free.pop() {
            return Some(slot);
        }
        if let Some(slot) = self.arrived.pop_front() {
            return Some(slot);
        }
        let (_, slot) = self.departed.pop_first()?;
        let flight = self.slots[slot].map(|occupant| self.departures[occupant.flight]);
        // A flight without a recorded arrival is accounted for since its departure.
        if flight.is_some_and(|flight| flight.fate.arrived().is_some()) {
            self.account.taken_over += 1;
        }
        Some(slot)
    }

    /// Plans what will happen to a flight that was just shown.
    fn schedule(&mut self, flight: usize, slot: usize) {
        let departure = self.departures[flight];
        let shown = departure.shown();
        let mut plan = |at: Moment, what| {
            // A flight that leaves more than an hour early does so when it is first shown.
            self.due.push(Reverse(Due {
                at: at.max(shown),
                what,
                flight,
                slot,
            }));
        };
        let Some(departed) = departure.fate.departed() else {
            plan(departure.scheduled, What::Cancel);
            return;
        };
        plan(departed.plus(-CALLED_BEFORE), What::Call);
        plan(departed, What::Depart);
        if departure.delay(departed) >= DELAYED_FROM {
            plan(departure.scheduled, What::Delay);
        }
        if let Some(arrived) = departure.fate.arrived() {
            plan(arrived, What::Arrive);
        }
    }

    /// Carries out something planned, unless the slot shows another flight by now.
    fn happen(&mut self, due: Due) -> Option<Event> {
        let Due {
            at,
            what,
            flight,
            slot,
        } = due;
        let occupant = self.slots[slot]
            .as_mut()
            .filter(|occupant| occupant.flight == flight)?;
        let departure = self.departures[flight];
        let change = match (what, departure.fate) {
            (What::Cancel, _) => {
                self.account.cancelled += 1;
                self.slots[slot] = None;
                self.free.push(Reverse(slot));
                Change::Cancelled
            }
            (What::Delay, fate) => Change::Delayed {
                until: departure.estimate(fate.departed()?),
            },
            (What::Call, _) if occupant.departed => return None,
            (What::Call, fate) => {
                occupant.gate = self.gates.take();
                let gate = occupant.gate;
                if gate.is_none() {
                    self.waiting.push_back((flight, slot));
                }
                if departure.delay(fate.departed()?) < DELAYED_FROM {
                    Change::OnTime { gate }
                } else {
                    Change::Called { gate: gate? }
                }
            }
            (What::Depart, fate) => {
                occupant.departed = true;
                let gate = occupant.gate.take();
                self.account.lost += usize::from(matches!(fate, Fate::Lost { .. }));
                self.departed.insert((fate.departed()?, slot));
                self.hand_on(gate, at);
                Change::Departed {
                    gate,
                    delay: departure.delay(fate.departed()?),
                }
            }
            (What::Arrive, fate) => {
                match fate {
                    Fate::Diverted { .. } => self.account.diverted += 1,
                    _ => self.account.arrived += 1,
                }
                self.departed.remove(&(fate.departed()?, slot));
                self.arrived.push_back(slot);
                Change::Arrived
            }
        };
        Some(self.event(at, slot, flight, change))
    }

    /// Gives a gate that was set free to the flight that has waited longest, if one does.
    fn hand_on(&mut self, gate: Option<usize>, at: Moment) {
        let Some(gate) = gate else { return };
        while let Some((flight, slot)) = self.waiting.pop_front() {
            // It may have left without a gate, and the slot may show another flight.
            let waits = |occupant: &&mut Occupant| occupant.flight == flight && !occupant.departed;
            if let Some(occupant) = self.slots[slot].as_mut().filter(waits) {
                occupant.gate = Some(gate);
                self.follow_up = Some(self.event(at, slot, flight, Change::Called { gate }));
                return;
            }
        }
        self.gates.give_back(gate);
    }

    fn event(&self, at: Moment, slot: usize, flight: usize, change: Change) -> Event {
        Event {
            at,
            slot: slot + 1,
            flight: self.departures[flight],
            change,
        }
    }
}

impl Iterator for Plan {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.follow_up.take() {
            return Some(event);
        }
        loop {
            let show = self.departures.get(self.next).map(Departure::shown);
            let due = self.due.peek().map(|Reverse(due)| due.at);
            let event = match (show, due) {
                (None, None) => return None,
                (Some(show), due) if due.is_none_or(|due| show < due) => self.show(),
                _ => {
                    let Reverse(due) = self.due.pop()?;
                    self.happen(due)
                }
            };
            if event.is_some() {
                return event;
            }
        }
    }
}
