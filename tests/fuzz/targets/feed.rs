//! A table of departures: it is read or refused with a place in it, and a plan of it comes to an end at which every
//! departure is accounted for.

#![no_main]

use flights::feed::{FeedError, Plan, Timetable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|table: &[u8]| {
    let timetable = match Timetable::parse("fuzz.csv", table) {
        Ok(timetable) => timetable,
        Err(error) => return check(&error),
    };
    let departures = timetable.departures().len();
    let mut plan = Plan::new(timetable, 10, 5, 0);
    plan.by_ref().for_each(drop);
    let account = plan.account();
    assert_eq!(account.departures, departures);
    assert_eq!(account.pending(), 0, "{account:?}");
});

fn check(error: &FeedError) {
    assert!(error.to_string().contains("fuzz.csv"), "{error}");
}
