//! The wall clock. No other file of this crate reads it: everything else gets the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the wall-clock time. Only the edge of the gateway calls it: once for a request, a log line, a
/// certificate or a command, and for the age of stored keys and of a stored fleet.
#[expect(clippy::disallowed_methods, reason = "the edge: every decision takes a reading as an argument")]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// Returns a time in Unix milliseconds; 0 for a time before 1970, which a clock that was never set has.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_secs().saturating_mul(1000).saturating_add(since_epoch.subsec_millis().into())
}
