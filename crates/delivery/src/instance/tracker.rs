//! Everything learned about one instance: its health, its calls and its counters.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use switchboard_routing::Name;
use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

use super::{
    counters::Counters,
    event::{Event, Report},
    health::{Admission, Health},
    placed_calls::PlacedCalls,
    placement_view::{Eligibility, PlacementView, millis},
    state::InstanceState,
};
use crate::{cause::Cause, member::SourceState};

/// Everything learned about one instance. All threads share it, and a reload hands it on.
#[derive(Debug)]
pub(crate) struct Tracker {
    name: Name,
    /// The epoch of the fleets that it is in.
    epoch: Instant,
    health: Mutex<Health>,
    view: Arc<PlacementView>,
    /// True while it is full or draining. A copy that is read without the lock.
    is_busy: AtomicBool,
    /// The calls that this gateway placed there.
    placed_calls: Mutex<PlacedCalls>,
    /// An attempt failed: the next probe is due early.
    attempt_failed: Notify,
    /// The next probe is due at once.
    probe_wanted: Notify,
    /// Notified when this or another instance of the fleet may take new calls again.
    eligible: Arc<Notify>,
    /// The time of the last request to it, in milliseconds after `epoch`.
    used: AtomicU64,
    counters: Counters,
}

impl Tracker {
    pub(crate) fn new(
        name: Name,
        view: Arc<PlacementView>,
        probed: bool,
        source_state: SourceState,
        eligible: Arc<Notify>,
        epoch: Instant,
        now: Instant,
    ) -> Self {
        let created_ms = millis(now.saturating_duration_since(epoch));
        let tracker = Self {
            name,
            epoch,
            view,
            is_busy: AtomicBool::new(false),
            placed_calls: Mutex::default(),
            attempt_failed: Notify::new(),
            probe_wanted: Notify::new(),
            eligible,
            used: AtomicU64::new(created_ms),
            counters: Counters::default(),
            health: Mutex::new(Health::new(probed, source_state, now)),
        };
        tracker.update_view(&tracker.health());
        tracker.view.set_warming_since(created_ms);
        tracker
    }

    /// Applies an event.
    pub(crate) fn learn(&self, event: Event, now: Instant) {
        self.learn_with(self.health(), event, now);
        if let Event::CallFailed(_) = event {
            self.attempt_failed.notify_one();
        }
    }

    /// Applies an event; counts and logs a change of state.
    fn learn_with(&self, mut health: MutexGuard<'_, Health>, event: Event, now: Instant) {
        let was_cold = health.is_cold();
        let before = self.eligibility(now);
        let change = health.step(event, now);
        self.update_view(&health);
        drop(health);
        if self.eligibility(now).is_better_than(before) {
            self.eligible.notify_waiters();
        }
        let Some(change) = change else { return };
        if change.to == InstanceState::Ready && was_cold {
            self.view.set_warming_since(self.millis(now));
        }
        self.counters.state_entered(change.to);
        let (instance, from, to, reason) = (&self.name, change.from, change.to, change.reason);
        if to == InstanceState::Unreachable {
            tracing::warn!(%instance, %from, %to, reason, "instance state changed");
        } else {
            tracing::info!(%instance, %from, %to, reason, "instance state changed");
        }
    }

    /// Applies the report of a probe that was sent at `sent`.
    pub(crate) fn reported(&self, report: Report, sent: Instant, now: Instant) {
        if report.calls == Some(0) {
            self.placed_calls().forget(sent);
        }
        self.learn(Event::Reported(report), now);
    }

    pub(crate) fn probe_missed(&self, now: Instant) {
        self.counters.missed_probes.add_one();
        self.learn(Event::ProbeMissed, now);
    }

    pub(crate) fn eligibility(&self, now: Instant) -> Eligibility {
        self.view.eligibility(self.millis(now))
    }

    /// The visible state.
    pub(crate) fn state(&self) -> InstanceState {
        self.health().state()
    }

    /// Returns true if it is full or draining, as its probe, its source or the operator says.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed)
    }

    /// Waits until an attempt has failed since the last call.
    pub(crate) async fn attempt_failed(&self) {
        self.attempt_failed.notified().await;
    }

    /// Asks for a probe at once instead of at the next interval. The prober limits how often it responds to
    /// this.
    pub(crate) fn probe_now(&self) {
        self.probe_wanted.notify_one();
    }

    /// Waits until `probe_now` was called since the last call.
    pub(crate) async fn probe_wanted(&self) {
        self.probe_wanted.notified().await;
    }

    /// Returns true if an instance that its source no longer lists can be removed: it has ended, or it has no
    /// calls.
    ///
    /// Its own report is believed. Without a report the calls that this gateway placed must have ended, and
    /// no request may have been sent to it for [`QUIET`]: other gateways place calls there, too.
    pub(crate) fn is_done(&self, now: Instant) -> bool {
        let health = self.health();
        // Its source has found out that it has ended.
        if health.state() == InstanceState::Gone {
            return true;
        }
        let reported_since_unlisted = health.last_report() > health.unlisted_at();
        let expected = health.load_estimate().expected_calls().filter(|_| reported_since_unlisted);
        drop(health);
        if self.counters.in_flight.get() > 0 {
            return false;
        }
        match expected {
            Some(calls) => calls == 0,
            None => {
                let used = self.used.load(Ordering::Relaxed);
                self.placed_calls().len() == 0 && self.millis(now).saturating_sub(used) >= millis(QUIET)
            }
        }
    }

    /// Returns true if the operator drains it.
    pub(crate) fn is_drained(&self) -> bool {
        self.health().is_drained()
    }

    /// Returns true if a probe of it has ended, whatever the result.
    pub(crate) fn was_probed(&self) -> bool {
        self.counters.missed_probes.get() > 0 || self.health().last_report().is_some()
    }

    /// The time since which its source no longer lists it.
    pub(crate) fn unlisted_at(&self) -> Option<Instant> {
        self.health().unlisted_at()
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn request_started(self: &Arc<Self>, now: Instant) -> InFlight {
        self.used.store(self.millis(now), Ordering::Relaxed);
        self.counters.in_flight.add_one();
        InFlight(Arc::clone(self))
    }

    /// The same; `None` if `max` requests are in flight already.
    ///
    /// No lock: requests that start at the same moment may see each other and all be refused.
    pub(crate) fn request_started_within(self: &Arc<Self>, max: u64, now: Instant) -> Option<InFlight> {
        let in_flight = self.request_started(now);
        (self.counters.in_flight.get() <= max).then_some(in_flight)
    }

    /// Reserves a place for a new call, which counts as one of its calls from now on. `None` if the instance
    /// may no longer take a call with this eligibility: it became full, draining or unreachable in the
    /// meantime.
    pub(crate) fn reserve(self: &Arc<Self>, now: Instant, _eligibility: Eligibility) -> Option<PendingCall> {
        let health = self.health();
        if health.admission() == Admission::None {
            return None;
        }
        self.learn_with(health, Event::AttemptStarted, now);
        Some(PendingCall { tracker: Arc::clone(self), settled: false })
    }

    /// Notes a response to a callback. For a ready instance this costs one atomic load.
    pub(crate) fn callback_responded(&self, now: Instant) {
        if !self.view.admits_all() {
            self.learn(Event::CallbackResponded, now);
        }
    }

    /// Returns true if the instance refused the last connection that was attempted.
    pub(crate) fn refuses_connections(&self) -> bool {
        self.health().state() == InstanceState::Unreachable
    }

    /// Counts an attempt, of a new call or a callback.
    pub(crate) fn count_attempt(&self) {
        self.counters.attempts.add_one();
    }

    pub(crate) fn count_failure(&self, cause: Cause) {
        self.counters.attempt_failed(cause);
    }

    pub(crate) fn count_callback(&self) {
        self.counters.callbacks.add_one();
    }

    /// Notes the end of a call. Only calls that this gateway placed here count, and each once: calls of other
    /// gateways are not in the estimate, and a notification may arrive twice.
    pub(crate) fn call_ended(&self, call_id: &str, now: Instant) {
        if self.placed_calls().remove(call_id) {
            self.learn(Event::CallEnded, now);
        }
    }

    pub(super) fn view(&self) -> &Arc<PlacementView> {
        &self.view
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn placed_calls(&self) -> MutexGuard<'_, PlacedCalls> {
        self.placed_calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        // A panic while it was held leaves a stale state at worst.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.epoch))
    }

    fn update_view(&self, health: &Health) {
        let backoff_until_ms = health.backoff_until().map_or(0, |at| self.millis(at));
        self.view.set_admission(health.admission(), backoff_until_ms);
        self.view.set_load(health.load_estimate().load());
        let is_busy = matches!(health.state(), InstanceState::Full | InstanceState::Draining);
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }
}

/// A request to an instance that is in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Tracker>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.counters.in_flight.subtract_one();
    }
}

/// A new call that is being sent to an instance. If it is dropped before the instance responded, it counts as
/// accepted until the next report: the instance may have taken it.
#[derive(Debug)]
pub(crate) struct PendingCall {
    tracker: Arc<Tracker>,
    settled: bool,
}

impl PendingCall {
    pub(crate) fn accepted(mut self, call_id: Option<&str>, now: Instant) {
        self.settled = true;
        self.tracker.counters.placed.add_one();
        if let Some(call_id) = call_id {
            self.tracker.placed_calls().add(call_id, now);
        }
        self.tracker.learn(Event::CallAccepted, now);
    }

    pub(crate) fn not_accepted(mut self, now: Instant) {
        self.settled = true;
        self.tracker.learn(Event::CallNotAccepted, now);
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if !self.settled {
            self.tracker.learn(Event::CallAccepted, Instant::now());
        }
    }
}

/// The time without requests after which an unlisted instance that reports no calls is removed. Other
/// gateways place calls there, too, and a call may be silent for long.
const QUIET: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
