//! `PendingCall`: a new call that is being sent to an instance.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    event::Event, health::Admission, placed_calls::CallKey, placement_view::Eligibility, tracker::Tracker,
};

/// A new call that is being sent to an instance. If it is dropped before the instance responded, it counts as
/// accepted until the next report: the instance may have taken it.
#[derive(Debug)]
pub(crate) struct PendingCall {
    tracker: Arc<Tracker>,
    /// The episode of the ejection in which it is a trial.
    episode: Option<u32>,
    settled: bool,
}

impl PendingCall {
    pub(crate) fn accepted(mut self, call_id: Option<&str>, now: Instant) {
        self.tracker.counters().placed.add_one();
        self.settle(Event::CallAccepted(call_id.map(CallKey::of)), now);
    }

    pub(crate) fn not_accepted(mut self, now: Instant) {
        self.settle(Event::CallNotAccepted, now);
    }

    fn settle(&mut self, event: Event, now: Instant) {
        self.settled = true;
        let mut health = self.tracker.health();
        if let Some(episode) = self.episode {
            health.trial_ended(episode);
        }
        self.tracker.learn_with(health, event, now);
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Event::CallAccepted(None), Instant::now());
        }
    }
}

impl Tracker {
    /// Reserves a place for a new call, which counts as one of its calls from now on. `None` if the instance
    /// became full, draining or unreachable since it was found to have this eligibility, or if another call
    /// became the trial of a half-open instance.
    pub(crate) fn reserve(self: &Arc<Self>, now: Instant, eligibility: Eligibility) -> Option<PendingCall> {
        let health = self.health();
        let is_admitted = match health.admission() {
            Admission::All => true,
            Admission::TrialFrom(at) => at <= now || eligibility == Eligibility::LastResort,
            Admission::LastResort => eligibility == Eligibility::LastResort,
            Admission::None => false,
        };
        if !is_admitted || health.full_until().is_some_and(|until| now < until) {
            return None;
        }
        let episode = health.ejection().number();
        self.learn_with(health, Event::AttemptStarted, now);
        Some(PendingCall { tracker: Arc::clone(self), episode, settled: false })
    }
}
