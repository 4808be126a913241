//! Tables: what is read, and what each mistake is told.

use std::error::Error as _;
use std::io::Write as _;

use flights::feed::{Fate, FeedError, Timetable};

const HEADER: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
                      arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,\
                      time_hour";
const ROW: &str = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,\
                   2013-01-01T10:00:00Z";

fn parse(table: &str) -> Result<Timetable, FeedError> {
    Timetable::parse("test.csv", table.as_bytes())
}

#[track_caller]
fn check_error(table: &str, expected: &str) {
    assert_eq!(parse(table).unwrap_err().to_string(), expected);
}

/// A table of a good row and one in which `from` is replaced by `to`.
#[track_caller]
fn check_row(from: &str, to: &str, expected: &str) {
    assert!(ROW.contains(from), "{from} is not in the row");
    let wrong = ROW.replacen(from, to, 1);
    check_error(
        &format!("{HEADER}\n{ROW}\n{wrong}\n"),
        &format!("test.csv:3: {expected}"),
    );
}

#[track_caller]
fn check_fate(row: &str, scheduled: &str, departed: Option<&str>, arrived: Option<&str>) {
    let timetable = parse(&format!("{HEADER}\n{row}\n")).unwrap();
    let [departure] = timetable.departures() else {
        panic!("one row, one departure")
    };
    let fate = departure.fate();
    let text = |moment: Option<_>| moment.map(|moment: flights::feed::Moment| moment.to_string());
    assert_eq!(departure.scheduled().to_string(), scheduled);
    assert_eq!(text(fate.departed()).as_deref(), departed);
    assert_eq!(text(fate.arrived()).as_deref(), arrived);
}

#[test]
fn the_shipped_day_has_its_1004_departures() {
    let day = Timetable::shipped();
    let count = |is: fn(Fate) -> bool| day.departures().iter().filter(|d| is(d.fate())).count();
    assert_eq!(day.departures().len(), 1004);
    assert_eq!(count(|fate| matches!(fate, Fate::Cancelled)), 121);
    assert_eq!(count(|fate| matches!(fate, Fate::Lost { .. })), 33);
    assert_eq!(count(|fate| matches!(fate, Fate::Diverted { .. })), 4);
    assert_eq!(count(|fate| matches!(fate, Fate::Arrived { .. })), 846);
    assert!(
        day.departures()
            .is_sorted_by_key(flights::feed::Departure::scheduled)
    );
}

#[test]
fn a_payload_says_which_flight_it_is() {
    let timetable = parse(&format!("{HEADER}\n{ROW}\n")).unwrap();
    let departure = &timetable.departures()[0];
    assert_eq!(departure.to_string(), "UA1545");
    assert_eq!(
        serde_json::to_string(&departure.itinerary()).unwrap(),
        r#"{"flight":"UA1545","from":"EWR","to":"IAH","date":"2013-01-01","sched":"05:15","due":"08:19"}"#
    );
    assert_eq!(
        serde_json::to_string(&departure.arrival()).unwrap(),
        r#"{"flight":"UA1545","delay":11}"#
    );
}

#[test]
fn delays_tell_the_day() {
    let row = |from, to| ROW.replacen(from, to, 1);
    // Houston is an hour behind.
    check_fate(
        ROW,
        "2013-01-01 05:15",
        Some("2013-01-01 05:17"),
        Some("2013-01-01 09:30"),
    );
    check_fate(
        &row("517,515,2,830,819,11", "30,2330,60,247,233,14"),
        "2013-01-01 23:30",
        Some("2013-01-02 00:30"),
        Some("2013-01-02 03:47"),
    );
    check_fate(
        &row("517,515,2,830,819,11", "2355,5,-10,NA,233,NA"),
        "2013-01-01 00:05",
        Some("2012-12-31 23:55"),
        None,
    );
    check_fate(
        &row("517,515,2,830,819,11", "2400,2359,1,NA,233,NA"),
        "2013-01-01 23:59",
        Some("2013-01-02 00:00"),
        None,
    );
    check_fate(
        &row("517,515,2,830,819,11", "NA,515,NA,NA,819,NA"),
        "2013-01-01 05:15",
        None,
        None,
    );
}

#[test]
fn what_is_missing_is_told_from_what_is_there() {
    let row = |from, to| ROW.replacen(from, to, 1);
    // No delays: the nearest departure, and the first arrival after it.
    check_fate(
        &row("517,515,2,830,819,11", "10,2350,NA,830,819,NA"),
        "2013-01-01 23:50",
        Some("2013-01-02 00:10"),
        Some("2013-01-02 09:30"),
    );
    // Nobody knows the zone of XYZ, but the flight took 227 minutes and some of taxiing.
    check_fate(
        &row("IAH", "XYZ"),
        "2013-01-01 05:15",
        Some("2013-01-01 05:17"),
        Some("2013-01-01 09:30"),
    );
    check_fate(
        &row("IAH,227", "XYZ,NA"),
        "2013-01-01 05:15",
        Some("2013-01-01 05:17"),
        Some("2013-01-01 08:30"),
    );
    // Numbers as pandas writes them where a column has gaps, and gaps as others write them.
    check_fate(
        &row("517,515,2,830,819,11", "517.0,515,2.0,,819,"),
        "2013-01-01 05:15",
        Some("2013-01-01 05:17"),
        None,
    );
}

#[test]
fn columns_are_found_by_name() {
    let table = "dest,origin,flight,carrier,arr_delay,sched_arr_time,arr_time,dep_delay,\
                 sched_dep_time,dep_time,day,month,year,\n\
                 IAH,EWR,1545,UA,11,819,830,2,515,517,1,1,2013,\n";
    assert_eq!(
        parse(table).unwrap(),
        parse(&format!("\u{feff}{HEADER}\r\n{ROW}\r\n")).unwrap()
    );
}

#[test]
fn a_gzipped_table_is_the_same_table() {
    let table = format!("{HEADER}\n{ROW}\n");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(table.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    assert_eq!(
        Timetable::parse("test.csv.gz", &packed[..]).unwrap(),
        parse(&table).unwrap()
    );

    let cut = Timetable::parse("test.csv.gz", &packed[..packed.len() / 2]).unwrap_err();
    assert_eq!(cut.to_string(), "cannot read test.csv.gz");
    assert!(cut.source().is_some());
}

#[test]
fn a_missing_file_is_named() {
    let err = Timetable::read("no-such-table.csv").unwrap_err();
    assert_eq!(err.to_string(), "cannot read no-such-table.csv");
    assert!(err.source().is_some());
}

#[test]
fn a_table_without_rows_is_refused() {
    let columns = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
                   arr_delay,carrier,flight,origin,dest";
    let expected = format!("test.csv is empty, expected a header line with the columns {columns}");
    check_error("", &expected);
    check_error("\n\n", &expected);
    check_error(
        &format!("{HEADER}\n"),
        "test.csv has a header line but no departures",
    );
    check_error(
        &format!(
            "{}\n{ROW}\n",
            HEADER.replace("dep_delay,", "").replace("dest", "to")
        ),
        &format!(
            "test.csv:1: the header has no column dep_delay, dest, expected the format of \
             nycflights13 with the columns {columns}"
        ),
    );
}

#[test]
fn a_row_of_another_length_is_refused() {
    check_error(
        &format!("{HEADER}\n{ROW}\n2013,1,1,517\n"),
        "test.csv:3: 4 fields, expected 19 as in the header",
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut table = format!("{HEADER}\n{ROW}\n").into_bytes();
    let place = table.len() - ROW.len() - 1;
    table[place] = 0xff;
    let err = Timetable::parse("test.csv", &table[..]).unwrap_err();
    assert_eq!(err.to_string(), "test.csv:2: field 1 is not UTF-8");
}

#[test]
fn a_wrong_value_is_refused_with_what_would_be_right() {
    check_row(
        "517,",
        "2575,",
        "dep_time is `2575`, which is no time of day, expected hours and minutes such as 517 or \
         2359, or NA",
    );
    check_row(
        "830,",
        "1060,",
        "arr_time is `1060`, which is no time of day, expected hours and minutes such as 517 or \
         2359, or NA",
    );
    check_row(
        "515,",
        "early,",
        "sched_dep_time is `early`, expected hours and minutes such as 517 or 2359, or NA",
    );
    check_row(
        "515,",
        "NA,",
        "sched_dep_time is `NA`, but every departure has a schedule",
    );
    check_row(
        "515,2,",
        "515,two,",
        "dep_delay is `two`, expected minutes of delay such as 12 or -3, at most a week, or NA",
    );
    check_row(
        "819,11,",
        "819,99999,",
        "arr_delay is `99999`, expected minutes of delay such as 12 or -3, at most a week, or NA",
    );
    check_row(
        "2013,1,1,",
        "MMXIII,1,1,",
        "year is `MMXIII`, expected a year such as 2013",
    );
    check_row(
        "2013,1,1,",
        "2013,NA,1,",
        "month is `NA`, expected a month from 1 to 12",
    );
    check_row(
        "2013,1,1,",
        "2013,2,30,",
        "day is `30`, but there is no 2013-02-30",
    );
    check_row(
        "UA,",
        "United,",
        "carrier is `United`, expected an airline such as UA",
    );
    check_row(
        "1545,",
        "-1,",
        "flight is `-1`, expected a flight number such as 1545",
    );
    check_row(
        "EWR,",
        "NA,",
        "origin is `NA`, expected an airport such as JFK",
    );
    check_row(
        "IAH,",
        "I H,",
        "dest is `I H`, expected an airport such as IAH",
    );
    for wrong in ["long", "-1", "1441", "937892555555554000"] {
        check_row(
            "227,",
            &format!("{wrong},"),
            &format!(
                "air_time is `{wrong}`, expected minutes in the air such as 227, at most a day, or NA"
            ),
        );
    }
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    check_row(
        "517,515,2,",
        "NA,515,2,",
        "dep_delay is `2`, although dep_time is NA, which means that the flight was cancelled",
    );
    check_row(
        "517,515,2,",
        "NA,515,NA,",
        "arr_time is `830`, although dep_time is NA, which means that the flight was cancelled",
    );
    check_row(
        "819,11,",
        "819,-600,",
        "arr_delay is `-600`, which lands the flight at 2012-12-31 23:19, before it left at \
         2013-01-01 05:17",
    );
}
