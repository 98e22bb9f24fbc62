//! The wall clock, and the forms of a moment on the wire. No other file reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Returns the wall-clock time.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge of the emulator; everything else gets the time as an argument"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Returns the whole seconds since 1970, as token claims count them (RFC 7519 section 2, NumericDate).
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}

/// Returns the date as a Graph error carries it: UTC, whole seconds, no offset, like `2026-01-01T00:00:00`.
pub(crate) fn graph_date(time: SystemTime) -> String {
    // A year after 9999 has no RFC 3339 form.
    let moment =
        OffsetDateTime::from_unix_timestamp(unix_seconds(time)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let text = moment.format(&Rfc3339).unwrap_or_default();
    text.trim_end_matches('Z').to_owned()
}

/// The difference between two clocks that the token endpoint and Graph tolerate.
pub(crate) const CLOCK_SKEW_SECONDS: i32 = 300;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check(unix_seconds: u64, expected: &str) {
        assert_eq!(graph_date(UNIX_EPOCH + Duration::from_secs(unix_seconds)), expected);
    }

    #[test]
    fn graph_dates_are_utc_without_an_offset() {
        check(0, "1970-01-01T00:00:00");
        check(951_782_399, "2000-02-28T23:59:59");
        check(951_782_400, "2000-02-29T00:00:00");
        check(1_767_225_600, "2026-01-01T00:00:00");
        check(4_107_542_400, "2100-03-01T00:00:00");
    }
}
