//! `EventLimiter`: bounds the events of refused requests whose senders are not authenticated, so that a flood
//! of them cannot flood the log.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The events of each reason: `BURST` at once, then one each `INTERVAL`. The rest is counted. All threads
/// share one value.
#[derive(Debug, Default)]
pub(crate) struct EventLimiter {
    /// Bounded: reasons are constants of the code.
    reasons: Mutex<BTreeMap<&'static str, ReasonState>>,
}

#[derive(Debug)]
struct ReasonState {
    /// The time from which `BURST` events are allowed again.
    full_at: Instant,
    /// The events since the last report that were not allowed.
    suppressed: u64,
}

impl EventLimiter {
    /// Returns true if an event with this reason may be written, else counts it as suppressed.
    pub(crate) fn allows(&self, reason: &'static str, now: Instant) -> bool {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let state = reasons.entry(reason).or_insert(ReasonState { full_at: now, suppressed: 0 });
        let full_at = state.full_at.max(now) + INTERVAL;
        let is_allowed = full_at <= now + INTERVAL * BURST;
        if is_allowed {
            state.full_at = full_at;
        } else {
            state.suppressed = state.suppressed.saturating_add(1);
        }
        is_allowed
    }

    /// Writes one event for each reason with suppressed events, and starts to count anew.
    pub(crate) fn report(&self) {
        for (reason, suppressed) in self.take_suppressed() {
            tracing::warn!(
                reason,
                suppressed,
                "request events suppressed: unauthenticated senders cause too many"
            );
        }
    }

    /// Reports each minute until the future is dropped.
    pub(crate) async fn report_each_minute(&self) {
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            self.report();
        }
    }

    fn take_suppressed(&self) -> Vec<(&'static str, u64)> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let counts =
            reasons.iter_mut().map(|(reason, state)| (*reason, std::mem::take(&mut state.suppressed)));
        counts.filter(|(_, suppressed)| *suppressed > 0).collect()
    }
}

/// The number of events of one reason at once: enough to see a new problem from several sides.
const BURST: u32 = 20;

/// The time between two events of one reason in a flood. With about 50 reasons, the log grows by at most 50
/// lines a second.
const INTERVAL: Duration = Duration::from_secs(1);

const REPORT_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_reason_is_bounded_and_counted() {
        let limiter = EventLimiter::default();
        let start = Instant::now();
        let mut written = 0_u64;
        // 1,000 refused requests a second for a minute.
        for millis in 0..60_000 {
            written += u64::from(limiter.allows("signature", start + Duration::from_millis(millis)));
        }
        assert_eq!(written, 20 + 59);
        assert!(limiter.allows("issuer", start + Duration::from_secs(60)), "another reason is not affected");
        assert_eq!(limiter.take_suppressed(), [("signature", 60_000 - written)]);
        assert_eq!(limiter.take_suppressed(), []);
    }

    #[test]
    fn a_reason_that_was_quiet_has_its_burst_again() {
        let limiter = EventLimiter::default();
        let start = Instant::now();
        let burst = |at| (0..30).filter(|_| limiter.allows("no_such_path", at)).count();
        assert_eq!(burst(start), 20);
        assert_eq!(burst(start + Duration::from_secs(5)), 5);
        assert_eq!(burst(start + Duration::from_secs(60)), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn the_suppressed_events_are_reported_each_minute() {
        let limiter = EventLimiter::default();
        let suppress = || (0..30).filter(|_| !limiter.allows("issuer", Instant::now())).count();
        assert_eq!(suppress(), 10);
        let reported = async || {
            let _ = tokio::time::timeout(Duration::from_secs(61), limiter.report_each_minute()).await;
            limiter.take_suppressed()
        };
        assert_eq!(reported().await, []);
        assert_eq!(suppress(), 10);
        let too_early = tokio::time::timeout(Duration::from_secs(59), limiter.report_each_minute());
        assert!(too_early.await.is_err());
        assert_eq!(limiter.take_suppressed(), [("issuer", 10)]);
    }
}
