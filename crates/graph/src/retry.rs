//! The wait before the next attempt: `Retry-After`, or a back-off.

use std::time::{Duration, SystemTime};

use crate::GraphResponse;

/// Returns the wait that a response asks for: whole seconds or a date (RFC 9110 section 10.2.3), or
/// fractional seconds, which Graph also sends.
pub(crate) fn retry_after(response: &GraphResponse, now: SystemTime) -> Option<Duration> {
    let value = response.header("retry-after")?.trim_ascii();
    let wait = match seconds(value) {
        Some(wait) => wait,
        None => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Returns the back-off after `attempts` attempts: it doubles from 0.1 s to 1 s.
pub(crate) fn back_off(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(4);
    (BACK_OFF * (1 << doublings)).min(BACK_OFF_MAX)
}

/// Returns the back-off of the identity endpoint, which takes a repetition within a second for a reason to
/// throttle: 1 s, 2 s, 4 s ("Retry guidance").
pub(crate) fn identity_back_off(attempts: u32) -> Duration {
    IDENTITY_BACK_OFF * (1 << attempts.saturating_sub(1).min(2))
}

/// Parses digits, with or without a fraction: no sign, no exponent, no `inf`.
fn seconds(value: &str) -> Option<Duration> {
    let is_number = value.len() <= NUMBER_BYTES_MAX
        && value.starts_with(|first: char| first.is_ascii_digit())
        && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_number {
        return None;
    }
    Some(Duration::try_from_secs_f64(value.parse().ok()?).unwrap_or(RETRY_AFTER_MAX))
}

const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
const IDENTITY_BACK_OFF: Duration = Duration::from_secs(1);

/// No caller waits longer, and a larger value could overflow a clock.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

const NUMBER_BYTES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GraphResponseBody;

    /// Milliseconds; `now` is Sun, 06 Nov 1994 08:49:37 GMT.
    #[track_caller]
    fn check(value: &str, expected: Option<u64>) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let headers = vec![("Retry-After".to_owned(), value.to_owned())];
        let response = GraphResponse { status: 429, headers, body: GraphResponseBody::TooLarge };
        assert_eq!(retry_after(&response, now), expected.map(Duration::from_millis), "{value}");
    }

    #[test]
    fn seconds_are_whole_or_fractional() {
        check("0", Some(0));
        check("3", Some(3_000));
        check(" 10 ", Some(10_000));
        check("2.128", Some(2_128));
        check("2.", Some(2_000));
        check("86401", Some(86_400_000));
        check("99999999999999999999", Some(86_400_000));
    }

    #[test]
    fn a_date_is_relative_to_now() {
        check("Sun, 06 Nov 1994 08:49:40 GMT", Some(3_000));
        check("Sunday, 06-Nov-94 08:49:40 GMT", Some(3_000));
        check("Sun Nov  6 08:49:40 1994", Some(3_000));
        check("Sun, 06 Nov 1994 08:49:30 GMT", Some(0));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400_000));
    }

    #[test]
    fn other_values_are_ignored() {
        for value in
            ["", "-1", "+1", "1e9", "inf", "NaN", ".5", "1.2.3", "1,5", "soon", "999999999999999999999"]
        {
            check(value, None);
        }
    }

    #[test]
    fn the_back_off_doubles_up_to_one_second() {
        let waits: Vec<_> = (1..=6).map(|attempts| back_off(attempts).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(back_off(u32::MAX).as_millis(), 1000);
    }
}
