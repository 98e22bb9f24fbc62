//! Wall-clock time in Unix seconds, and the difference between two clocks that is tolerated.

use std::time::SystemTime;

/// Returns the seconds since 1970. A clock before 1970 counts as 0: no token is valid then.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Clocks differ; Microsoft's own libraries tolerate five minutes (Microsoft.IdentityModel,
/// `DefaultClockSkew`).
pub(crate) const SKEW: u64 = 300;
