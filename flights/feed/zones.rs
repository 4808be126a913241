//! The clocks of the airports: the table gives each arrival in the destination's local time.

use jiff::civil::{Date, Weekday};

use super::departure::Code;

/// An airport's offset from UTC in hours, in winter, and whether it has summer time.
type Zone = (i64, bool);

/// The zone of each airport of the 2013 table, from its companion table of airports and, for
/// the four on Puerto Rico and the Virgin Islands which that lacks, from the tz database.
const ZONES: [(Zone, &str); 8] = [
    ((-4, false), "BQN PSE SJU STT"),
    (
        (-5, true),
        "ACK ALB ATL AVL BDL BGR BOS BTV BUF BWI CAE CAK CHO CHS CLE CLT CMH CRW CVG DAY DCA DTW \
         EWR EYW FLL GRR GSO GSP IAD ILM IND JAX JFK LEX LGA MCO MHT MIA MVY MYR ORF PBI PHL PIT \
         PVD PWM RDU RIC ROC RSW SAV SBN SDF SRQ SYR TPA TVC TYS",
    ),
    (
        (-6, true),
        "AUS BHM BNA DFW DSM HOU IAH MCI MDW MEM MKE MSN MSP MSY OKC OMA ORD SAT STL TUL XNA",
    ),
    ((-7, true), "ABQ BZN DEN EGE HDN JAC MTJ SLC"),
    ((-7, false), "PHX"),
    (
        (-8, true),
        "BUR LAS LAX LGB OAK PDX PSP SAN SEA SFO SJC SMF SNA",
    ),
    ((-9, true), "ANC"),
    ((-10, false), "HNL"),
];

/// By how many minutes the clock at `to` is ahead of the one at `from`, if both are known.
pub(super) fn ahead(from: Code, to: Code, date: Date) -> Option<i64> {
    let summer = is_summer(date);
    let offset = |(hours, has_summer): Zone| hours * 60 + i64::from(has_summer && summer) * 60;
    Some(offset(zone(to)?) - offset(zone(from)?))
}

fn zone(airport: Code) -> Option<Zone> {
    ZONES
        .iter()
        .find(|(_, airports)| airports.split(' ').any(|code| code == airport.as_str()))
        .map(|(zone, _)| *zone)
}

/// Whether the United States have summer time: from the second Sunday of March to the first
/// Sunday of November, the rule since 2007.
fn is_summer(date: Date) -> bool {
    let sunday = |month, nth| {
        let first = Date::new(date.year(), month, 1)?;
        first.nth_weekday_of_month(nth, Weekday::Sunday)
    };
    matches!((sunday(3, 2), sunday(11, 1)), (Ok(from), Ok(until)) if from <= date && date < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(to: &str, month: i8, day: i8, hours: Option<i64>) {
        let [from, to] = ["JFK", to].map(|code| Code::new(code).unwrap());
        let date = Date::constant(2013, month, day);
        assert_eq!(ahead(from, to, date), hours.map(|hours| hours * 60));
    }

    #[test]
    fn clocks_differ_by_zone_and_season() {
        check("BOS", 7, 10, Some(0));
        check("IAH", 7, 10, Some(-1));
        check("HNL", 7, 10, Some(-6));
        check("HNL", 1, 10, Some(-5));
        check("SJU", 7, 10, Some(0));
        check("SJU", 1, 10, Some(1));
        check("LHR", 7, 10, None);
    }

    #[test]
    fn summer_time_has_the_days_of_2013() {
        check("PHX", 3, 9, Some(-2));
        check("PHX", 3, 10, Some(-3));
        check("PHX", 11, 2, Some(-3));
        check("PHX", 11, 3, Some(-2));
    }
}
