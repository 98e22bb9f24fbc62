//! The wall clock: read here and nowhere else.

use std::time::{SystemTime, UNIX_EPOCH};

/// The wall-clock time of this moment.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge of the emulator; everything else gets the time as an argument"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Whole seconds since 1970, as token claims count them (RFC 7519 section 2, NumericDate).
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}

/// `2026-01-01T00:00:00`: the date that Graph writes into an error.
pub(crate) fn graph_date(time: SystemTime) -> String {
    let seconds = unix_seconds(time);
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The civil date from a day count: years start in March, so that a leap day is the last day of one.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check(unix_seconds: u64, expected: &str) {
        assert_eq!(graph_date(UNIX_EPOCH + Duration::from_secs(unix_seconds)), expected);
    }

    #[test]
    fn dates_are_civil_dates() {
        check(0, "1970-01-01T00:00:00");
        check(951_782_399, "2000-02-28T23:59:59");
        check(951_782_400, "2000-02-29T00:00:00");
        check(1_767_225_600, "2026-01-01T00:00:00");
        check(4_107_542_400, "2100-03-01T00:00:00");
    }
}
