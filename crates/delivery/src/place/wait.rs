//! The wait of a new call for an instance, because none can be asked.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    call::{Call, PlaceProgress},
    limits::ATTEMPT_TIME_MIN,
};
use crate::fleet::Availability;

/// The waits of one new call.
#[derive(Debug)]
pub(super) struct Wait {
    left: Duration,
    /// True if the call has waited.
    pub(super) is_over: bool,
    /// The instances that serve the app, if the call has not waited since it looked.
    pub(super) seen: Option<Availability>,
}

impl Default for Wait {
    fn default() -> Self {
        Self { left: WAIT_MAX, is_over: false, seen: None }
    }
}

impl Wait {
    /// Waits until an instance that serves the app is eligible, or for as long as a call may wait. Returns
    /// false if the call cannot wait.
    pub(super) async fn for_eligible(&mut self, call: &Call<'_>, progress: &PlaceProgress) -> bool {
        let (delivery, app) = (call.delivery, call.notification.app);
        let (state, started) = (&*delivery.placement, Instant::now());
        let remaining = call.end.saturating_duration_since(started).saturating_sub(ATTEMPT_TIME_MIN);
        let until = started + self.left.min(remaining);
        if until == started || progress.is_exhausted() {
            return false;
        }
        let seen = delivery.fleet.load().availability(app, started);
        self.seen = Some(seen);
        // Do not wait for a fleet that is empty, or that reports full or draining. Instances that cannot be
        // reached do not count, but one that was asked a moment ago may just be restarting.
        let is_hopeless =
            seen.serving == 0 || (seen.busy > 0 && seen.eligible + seen.last_resort + seen.starting == 0);
        if progress.attempts == 0 && is_hopeless {
            return false;
        }
        let Some(waiting) = state.start_waiting(delivery.settings.waiting_max) else { return false };
        if seen.eligible > 0 {
            // It could not be asked although it is eligible. Without a pause it would be asked again and
            // again.
            sleep_until(until.min(started + PAUSE)).await;
        }
        loop {
            // Created before the check: it receives every notification from now on.
            let notified = state.eligible.notified();
            let (fleet, now) = (delivery.fleet.load_full(), Instant::now());
            if fleet.has_eligible(app, now) {
                waiting.succeeded();
                break;
            }
            // Instances that failed an attempt are asked once more.
            if now >= until {
                break;
            }
            if state.may_probe(now) {
                fleet.probe_unready(now);
            }
            let _ = timeout_at(until.min(now + CHECK_INTERVAL), notified).await;
        }
        self.left = self.left.saturating_sub(started.elapsed());
        self.is_over = true;
        self.seen = None;
        true
    }
}

/// The longest wait of one call. It is longer than the first ejection of an instance.
const WAIT_MAX: Duration = Duration::from_millis(1200);
/// The shortest wait.
const PAUSE: Duration = Duration::from_millis(50);
/// The interval of checks and probes during a wait: an ejection ends without notice, and one probe may
/// come too early.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
