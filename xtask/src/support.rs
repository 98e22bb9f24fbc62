//! Shared parts of the demo and the rehearsal: processes, HTTP requests, files for gateways, the screen.

pub(crate) mod binaries;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod screen;
pub(crate) mod setup;

use std::time::{Duration, Instant, SystemTime};

/// The current monotonic time.
#[expect(clippy::disallowed_methods, reason = "real processes run here; no test pauses the clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// The current time in Unix milliseconds.
#[expect(clippy::disallowed_methods, reason = "it is compared with the clock of a browser")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sleeps while the processes run.
#[expect(clippy::disallowed_methods, reason = "there is no runtime here; processes are polled")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
