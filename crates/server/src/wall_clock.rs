//! The wall clock. No other file of this crate reads it: everything else gets the time as an argument.

use std::time::SystemTime;

/// Returns the wall-clock time. Only the edge of the gateway calls it: once for a request, a log line, a
/// certificate or a command, and for the age of stored keys and of a stored fleet.
#[expect(clippy::disallowed_methods, reason = "the edge: every decision takes a reading as an argument")]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}
