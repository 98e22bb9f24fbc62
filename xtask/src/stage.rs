//! What the demo and the rehearsal stand on: processes, a little HTTP, files for gateways, the screen.

pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod screen;
pub(crate) mod setup;

use std::time::{Duration, Instant};

/// Monotonic time.
#[expect(clippy::disallowed_methods, reason = "real processes are driven here; nothing pauses the clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Lets the processes get on with it.
#[expect(clippy::disallowed_methods, reason = "no runtime here; processes are polled")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
