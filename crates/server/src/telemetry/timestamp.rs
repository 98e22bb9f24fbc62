//! The time of a line: RFC 3339, UTC, milliseconds.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::telemetry::number::push_thousandths;

/// Writes times. Keeps the text of the last second, which most lines share.
#[derive(Debug, Default)]
pub(super) struct Timestamp {
    /// Unix seconds. `None` before the first time.
    second: Option<u64>,
    /// The time up to the point before the milliseconds. Empty if the second has no text.
    text: String,
}

impl Timestamp {
    pub(super) const fn new() -> Self {
        Self { second: None, text: String::new() }
    }

    /// Appends `now`.
    pub(super) fn push(&mut self, out: &mut String, now: SystemTime) {
        // A clock before 1970 was never set, and `humantime` panics on it.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(now.as_secs()) {
            self.set(now.as_secs());
        }
        if !self.text.is_empty() {
            out.push_str(&self.text);
            push_thousandths(out, now.subsec_millis().into());
            out.push('Z');
        }
    }

    fn set(&mut self, second: u64) {
        self.second = Some(second);
        self.text.clear();
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(second));
        // Fails for years above 9999 only: such a line has no time.
        let text = time.map(humantime::format_rfc3339_seconds);
        if text.is_some_and(|text| write!(self.text, "{text}").is_ok()) && self.text.pop() == Some('Z') {
            self.text.push('.');
        } else {
            self.text.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unix_ms: u64, expected: &str) {
        let mut out = String::new();
        Timestamp::new().push(&mut out, UNIX_EPOCH + Duration::from_millis(unix_ms));
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
        Timestamp::new().push(&mut out, UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(out, "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_follow_the_clock_both_ways() {
        let mut timestamp = Timestamp::new();
        for (ms, expected) in [(999, "00.999Z"), (1000, "01.000Z"), (1001, "01.001Z"), (5, "00.005Z")] {
            let mut out = String::new();
            timestamp.push(&mut out, UNIX_EPOCH + Duration::from_millis(ms));
            assert!(out.ends_with(expected), "{out}");
        }
    }

    #[test]
    fn a_year_above_9999_has_no_time_and_the_next_line_has_one() {
        let mut timestamp = Timestamp::new();
        for (seconds, expected) in [(253_402_300_800, ""), (1, "1970-01-01T00:00:01.000Z")] {
            let mut out = String::new();
            timestamp.push(&mut out, UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(out, expected);
        }
    }

    /// Checks the dates against the rules of the calendar, day by day.
    #[test]
    fn every_day_of_five_centuries_follows_the_day_before() {
        let (mut year, mut month, mut day) = (1970_u32, 1_u32, 1_u32);
        let mut out = String::new();
        let mut timestamp = Timestamp::new();
        for days in 0..182_621 {
            out.clear();
            timestamp.push(&mut out, UNIX_EPOCH + Duration::from_secs(days * 86_400));
            assert_eq!(out, format!("{year:04}-{month:02}-{day:02}T00:00:00.000Z"));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u32::from(leap),
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
