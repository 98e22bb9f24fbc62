//! The time of a line: RFC 3339, UTC, milliseconds.

use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// Writes times. All but the milliseconds is written anew only when the second changes.
#[derive(Debug, Default)]
pub(super) struct Timestamp {
    second: Option<u64>,
    text: String,
}

impl Timestamp {
    /// Appends `now`.
    pub(super) fn push(&mut self, out: &mut String, now: SystemTime) {
        // A clock before 1970 is a clock that was never set.
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs();
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            push_second(&mut self.text, second);
        }
        out.push_str(&self.text);
        // Writing to a `String` cannot fail.
        let _ = write!(out, ".{:03}Z", since.subsec_millis());
    }
}

/// The wall clock, for the log.
#[expect(clippy::disallowed_methods, reason = "a line says when it was logged; no decision is made by it")]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

fn push_second(out: &mut String, unix_seconds: u64) {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
}

/// The Gregorian date (year, month, day) of the day `days` after 1970-01-01.
///
/// Counted from 0000-03-01: then the leap day is the last of its year, and 400 years always have 146 097 days.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, months have 31, 30, 31, 30, 31 days in turn: 153 days for five of them.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check(unix_ms: u64, expected: &str) {
        let mut out = String::new();
        Timestamp::default().push(&mut out, UNIX_EPOCH + Duration::from_millis(unix_ms));
        assert_eq!(out, expected);
    }

    #[test]
    fn times_are_rfc_3339() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(68_169_599_999, "1972-02-28T23:59:59.999Z");
        check(951_782_400_007, "2000-02-29T00:00:00.007Z");
        check(1_795_202_463_120, "2026-11-20T19:21:03.120Z");
        check(2_147_483_648_000, "2038-01-19T03:14:08.000Z");
        check(4_107_542_399_000, "2100-02-28T23:59:59.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(4_294_967_296_000, "2106-02-07T06:28:16.000Z");
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_clock_before_1970_is_the_epoch() {
        let mut out = String::new();
        Timestamp::default().push(&mut out, UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(out, "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_cached_second_follows_the_clock_both_ways() {
        let mut timestamp = Timestamp::default();
        for (ms, expected) in [(999, "00.999Z"), (1000, "01.000Z"), (1001, "01.001Z"), (5, "00.005Z")] {
            let mut out = String::new();
            timestamp.push(&mut out, UNIX_EPOCH + Duration::from_millis(ms));
            assert!(out.ends_with(expected), "{out}");
        }
    }

    /// Against the calendar's own rule, day by day.
    #[test]
    fn every_day_of_five_centuries_follows_the_day_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..182_621 {
            assert_eq!(civil_date(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
