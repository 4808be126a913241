//! Which flight a slot shows and when, for any number of slots and gates.

use std::fmt::Write as _;

use flights::feed::{Account, Change, Departure, Event, Fate, Moment, Plan, Timetable};
use proptest::prelude::*;

const HEADER: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
                      arr_delay,carrier,flight,origin,dest,air_time\n";

fn day(slots: usize, gates: usize, seed: u64) -> (Vec<Event>, Account) {
    plan(Timetable::shipped(), slots, gates, seed)
}

fn plan(timetable: Timetable, slots: usize, gates: usize, seed: u64) -> (Vec<Event>, Account) {
    let mut plan = Plan::new(timetable, slots, gates, seed);
    let events = plan.by_ref().collect();
    (events, plan.account())
}

/// The departures with these times: `dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,
/// arr_delay`, numbered from 1, to Boston.
fn departures(times: &[&str]) -> Timetable {
    let mut table = HEADER.to_owned();
    for (i, times) in times.iter().enumerate() {
        writeln!(table, "2013,7,10,{times},UA,{},JFK,BOS,40", i + 1).unwrap();
    }
    Timetable::parse("test.csv", table.as_bytes()).unwrap()
}

/// The events as `time slot words`.
fn story(timetable: Timetable, slots: usize, gates: usize) -> Vec<String> {
    let (events, _) = plan(timetable, slots, gates, 0);
    events
        .iter()
        .map(|event| format!("{} {} {event}", event.at.time(), event.slot))
        .collect()
}

#[track_caller]
fn check_account(slots: usize, gates: usize, expected: &str) {
    let (_, account) = day(slots, gates, 0);
    assert_eq!(account.to_string(), format!("1004 departures = {expected}"));
    assert_eq!(account.settled(), 1004);
}

#[test]
fn the_account_of_the_day_adds_up() {
    check_account(
        1,
        1,
        "1 arrived + 0 diverted + 0 departed without a recorded arrival + 0 cancelled \
         + 11 taken over after departure + 992 not shown (121 of them cancelled)",
    );
    check_account(
        5,
        3,
        "5 arrived + 0 diverted + 2 departed without a recorded arrival + 4 cancelled \
         + 57 taken over after departure + 936 not shown (117 of them cancelled)",
    );
    check_account(
        10,
        5,
        "10 arrived + 0 diverted + 5 departed without a recorded arrival + 7 cancelled \
         + 106 taken over after departure + 876 not shown (114 of them cancelled)",
    );
    check_account(
        20,
        8,
        "20 arrived + 0 diverted + 7 departed without a recorded arrival + 13 cancelled \
         + 206 taken over after departure + 758 not shown (108 of them cancelled)",
    );
}

#[test]
fn with_enough_slots_every_departure_is_shown_to_its_end() {
    check_account(
        1004,
        5,
        "846 arrived + 4 diverted + 33 departed without a recorded arrival + 121 cancelled \
         + 0 taken over after departure + 0 not shown (0 of them cancelled)",
    );
}

#[test]
fn events_never_go_back_in_time() {
    let (events, _) = day(10, 5, 0);
    assert!(events.is_sorted_by_key(|event| event.at));
    let [first, last] = [&events[0], &events[events.len() - 1]];
    assert_eq!(first.at.to_string(), "2013-07-10 04:00");
    assert_eq!(last.at.to_string(), "2013-07-11 06:09");
}

#[test]
fn the_seed_chooses_gates_and_nothing_else() {
    let [(a, _), (b, _)] = [1, 2].map(|seed| day(10, 5, seed));
    assert_eq!(day(10, 5, 1).0, a);
    assert_ne!(a, b);
    let flights = |events: &[Event]| -> Vec<(Moment, usize, Departure)> {
        events
            .iter()
            .map(|event| (event.at, event.slot, event.flight))
            .collect()
    };
    assert_eq!(flights(&a), flights(&b));
}

#[track_caller]
fn check_flight(flight: &str, destination: &str, expected: &[&str]) {
    let (events, _) = day(1004, 1004, 0);
    let is_meant = |event: &&Event| {
        event.flight.to_string() == flight && event.flight.destination() == destination
    };
    let events: Vec<_> = events
        .iter()
        .filter(is_meant)
        .map(|event| format!("{} {:?}", event.at, Told(event.change)))
        .collect();
    assert_eq!(events, expected);
}

/// A change without its gate.
struct Told(Change);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Change::OnTime { .. } => f.write_str("on time"),
            Change::Called { .. } => f.write_str("called"),
            Change::Delayed { until } => write!(f, "delayed until {until}"),
            Change::Departed { delay, .. } => write!(f, "departed {delay:+}"),
            other => write!(f, "{other:?}"),
        }
    }
}

#[test]
fn a_flight_on_time_is_shown_called_departed_and_arrived() {
    check_flight(
        "US1431",
        "CLT",
        &[
            "2013-07-10 04:00 Shown",
            "2013-07-10 04:19 on time",
            "2013-07-10 04:59 departed -1",
            "2013-07-10 06:34 Arrived",
        ],
    );
}

#[test]
fn a_delay_over_midnight_leads_into_the_next_day() {
    check_flight(
        "B6486",
        "ROC",
        &[
            "2013-07-10 21:45 Shown",
            "2013-07-10 22:45 delayed until 2013-07-11 00:15",
            "2013-07-10 23:37 called",
            "2013-07-11 00:17 departed +92",
            "2013-07-11 01:55 Arrived",
        ],
    );
}

#[test]
fn an_arrival_in_another_zone_is_put_on_the_clock_of_the_departure() {
    // 03:32 in Denver.
    check_flight(
        "B697",
        "DEN",
        &[
            "2013-07-10 20:25 Shown",
            "2013-07-10 21:25 delayed until 2013-07-11 01:25",
            "2013-07-11 00:54 called",
            "2013-07-11 01:34 departed +249",
            "2013-07-11 05:32 Arrived",
        ],
    );
}

#[test]
fn a_diversion_arrives_late_and_says_so() {
    // 08:04 in Seattle.
    check_flight(
        "DL1643",
        "SEA",
        &[
            "2013-07-10 18:00 Shown",
            "2013-07-10 19:00 delayed until 2013-07-11 02:45",
            "2013-07-11 02:11 called",
            "2013-07-11 02:51 departed +471",
            "2013-07-11 11:04 Arrived",
        ],
    );
    let (events, _) = day(1004, 1004, 0);
    let diverted: Vec<_> = events
        .iter()
        .filter(|event| event.change == Change::Arrived)
        .filter(|event| matches!(event.flight.fate(), Fate::Diverted { .. }))
        .map(|event| {
            (
                event.to_string(),
                serde_json::to_string(&event.flight.arrival()).unwrap(),
            )
        })
        .collect();
    assert_eq!(diverted.len(), 4);
    for (words, payload) in diverted {
        assert!(words.ends_with(" arrived after a diversion"), "{words}");
        assert!(payload.ends_with(r#","diverted":true}"#), "{payload}");
    }
}

#[test]
fn a_flight_without_a_recorded_arrival_stays_departed() {
    check_flight(
        "B6108",
        "PWM",
        &[
            "2013-07-10 21:45 Shown",
            "2013-07-10 22:45 delayed until 2013-07-11 01:45",
            "2013-07-11 01:08 called",
            "2013-07-11 01:48 departed +183",
        ],
    );
}

#[test]
fn a_cancelled_flight_ends_at_its_schedule_and_frees_the_slot() {
    let table = departures(&["NA,800,NA,NA,900,NA", "905,900,5,1000,1000,0"]);
    assert_eq!(
        story(table, 1, 1),
        [
            "07:00 1 UA1 to BOS is scheduled for 08:00, in slot 1",
            "08:00 1 UA1 to BOS is cancelled",
            "08:00 1 UA2 to BOS is scheduled for 09:00, in slot 1",
            "08:25 1 UA2 to BOS is on time, go to gate 1",
            "09:05 1 UA2 to BOS departed 5 minutes late from gate 1",
            "10:00 1 UA2 to BOS arrived on time",
        ]
    );
}

#[test]
fn a_slot_goes_to_who_comes_after_the_longest_departed() {
    let table = departures(&[
        "800,800,0,1100,1100,0",
        "805,805,0,1100,1100,0",
        "830,830,0,1100,1100,0",
        "910,910,0,1100,1100,0",
    ]);
    let (events, account) = plan(table, 2, 2, 0);
    let shown: Vec<_> = events
        .iter()
        .filter(|event| event.change == Change::Shown)
        .map(|event| (event.flight.to_string(), event.slot))
        .collect();
    // UA3 finds no slot: at 7:30 neither has departed.
    assert_eq!(
        shown,
        [("UA1".into(), 1), ("UA2".into(), 2), ("UA4".into(), 1)]
    );
    assert_eq!(
        (account.not_shown, account.taken_over, account.arrived),
        (1, 1, 2)
    );
}

#[test]
fn a_slot_whose_flight_has_arrived_comes_before_one_on_its_way() {
    let table = departures(&[
        "800,800,0,1100,1100,0",
        "805,805,0,850,850,0",
        "1000,1000,0,1100,1100,0",
    ]);
    let (events, account) = plan(table, 2, 2, 0);
    let third = events
        .iter()
        .find(|event| event.flight.to_string() == "UA3")
        .unwrap();
    assert_eq!((third.slot, account.taken_over, account.arrived), (2, 0, 3));
}

#[test]
fn a_gate_goes_to_the_flight_that_waited_longest() {
    let table = departures(&[
        "800,800,0,1100,1100,0",
        "805,805,0,1100,1100,0",
        "806,806,0,1100,1100,0",
        "806,746,20,1100,1100,0",
    ]);
    let calls: Vec<_> = story(table, 4, 1)
        .into_iter()
        .filter(|line| !line.contains("scheduled"))
        .collect();
    assert_eq!(
        calls[..8],
        [
            "07:20 2 UA1 to BOS is on time, go to gate 1",
            "07:25 3 UA2 to BOS is on time and waits for a gate",
            "07:26 4 UA3 to BOS is on time and waits for a gate",
            "07:46 1 UA4 to BOS is delayed until 08:01",
            "08:00 2 UA1 to BOS departed on time from gate 1",
            "08:00 3 UA2 to BOS boards, go to gate 1",
            "08:05 3 UA2 to BOS departed on time from gate 1",
            // UA4 was called a minute after UA3, or it would have come first.
            "08:05 1 UA4 to BOS boards, go to gate 1",
        ]
    );
}

#[test]
fn a_flight_that_leaves_before_it_is_shown_leaves_at_once() {
    let table = departures(&["630,800,-90,720,900,-100"]);
    assert_eq!(
        story(table, 1, 1),
        [
            "07:00 1 UA1 to BOS is scheduled for 08:00, in slot 1",
            "07:00 1 UA1 to BOS departed 1 hour 30 minutes early",
            "07:20 1 UA1 to BOS arrived 1 hour 40 minutes early",
        ]
    );
}

/// A row that the table could have.
fn row() -> impl Strategy<Value = String> {
    let destination = prop::sample::select(vec!["BOS", "LAX", "HNL", "SJU", "LHR"]);
    let delay = prop_oneof![4 => -20..60_i64, 1 => -100..1400_i64];
    let times = (10..13_u32, 0..1440_i64, 0..1440_i64, 0..1440_i64);
    (times, destination, 0..10_u32, delay, 0..60_i64).prop_map(
        |((day, scheduled, due, clock), destination, fate, delay, later)| {
            let time = |minutes: i64| {
                let minutes = minutes.rem_euclid(1440);
                (minutes / 60 * 100 + minutes % 60).to_string()
            };
            let na = || "NA".to_owned();
            let [dep_time, dep_delay] = if fate == 0 {
                [na(), na()]
            } else {
                [time(scheduled + delay), delay.to_string()]
            };
            let [arr_time, arr_delay] = match fate {
                0 | 1 => [na(), na()],
                2 => [time(clock), na()],
                _ => [time(due + delay + later), (delay + later).to_string()],
            };
            let [scheduled, due] = [scheduled, due].map(time);
            format!(
                "2013,7,{day},{dep_time},{scheduled},{dep_delay},{arr_time},{due},{arr_delay},\
                 UA,1,JFK,{destination},NA\n"
            )
        },
    )
}

/// Follows the events by the letter and counts what became of the flights.
fn recount(events: &[Event], slots: usize, gates: usize) -> Account {
    let mut account = Account::default();
    let mut shown: Vec<Option<(Departure, Change)>> = vec![None; slots + 1];
    let mut at_gate = vec![0; gates + 1];
    for event in events {
        let before = shown[event.slot];
        let gate = match event.change {
            Change::Shown => {
                account.taken_over += usize::from(before.is_some_and(|(flight, last)| {
                    assert!(matches!(last, Change::Departed { .. } | Change::Arrived));
                    last != Change::Arrived && flight.fate().arrived().is_some()
                }));
                None
            }
            Change::OnTime { gate } => gate,
            Change::Called { gate } => Some(gate),
            Change::Departed { gate, .. } => {
                if let Some(gate) = gate {
                    assert_eq!(std::mem::take(&mut at_gate[gate]), event.slot);
                }
                account.lost += usize::from(matches!(event.flight.fate(), Fate::Lost { .. }));
                None
            }
            Change::Arrived => {
                let diverted = matches!(event.flight.fate(), Fate::Diverted { .. });
                *if diverted {
                    &mut account.diverted
                } else {
                    &mut account.arrived
                } += 1;
                None
            }
            Change::Cancelled => {
                account.cancelled += 1;
                None
            }
            _ => None,
        };
        if let Some(gate) = gate {
            assert_eq!(
                std::mem::replace(&mut at_gate[gate], event.slot),
                0,
                "{event}"
            );
        }
        if event.change != Change::Shown {
            assert_eq!(
                before.map(|(flight, _)| flight),
                Some(event.flight),
                "{event}"
            );
        }
        shown[event.slot] = match event.change {
            Change::Cancelled => None,
            change => Some((event.flight, change)),
        };
    }
    account
}

proptest! {
    #[test]
    fn the_account_always_adds_up(
        rows in prop::collection::vec(row(), 1..80),
        slots in 1..8_usize,
        gates in 1..5_usize,
        seed: u64,
    ) {
        let table = HEADER.to_owned() + &rows.concat();
        let timetable = Timetable::parse("random.csv", table.as_bytes()).unwrap();
        let mut plan = Plan::new(timetable, slots, gates, seed);
        let mut events: Vec<Event> = Vec::new();
        while let Some(event) = plan.next() {
            prop_assert!(events.last().is_none_or(|last| last.at <= event.at));
            prop_assert!(plan.account().settled() <= rows.len());
            events.push(event);
        }
        let account = plan.account();
        prop_assert_eq!((account.settled(), account.pending()), (rows.len(), 0));
        let shown = events.iter().filter(|event| event.change == Change::Shown).count();
        prop_assert_eq!(shown + account.not_shown, rows.len());
        let recount = Account {
            departures: rows.len(),
            not_shown: account.not_shown,
            not_shown_cancelled: account.not_shown_cancelled,
            ..recount(&events, slots, gates)
        };
        prop_assert_eq!(account, recount);
    }
}
