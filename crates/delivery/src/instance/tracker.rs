//! Everything learned about one instance: its health, its calls and its counters.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use http::HeaderMap;
use switchboard_routing::Name;
use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

use super::{
    counters::{Counters, InFlight},
    ejection_share::{MemberId, Shared},
    event::{Event, Report},
    health::Health,
    placed_calls::CallKey,
    placement_view::{Eligibility, PlacementView, millis},
    state::InstanceState,
};
use crate::{
    cause::{Blame, Cause},
    headers::retry_after,
    member::SourceState,
};

/// Everything learned about one instance. All threads share it, and a reload hands it on.
#[derive(Debug)]
pub(crate) struct Tracker {
    name: Name,
    /// The epoch of the fleets that it is in.
    epoch: Instant,
    health: Mutex<Health>,
    shared: Shared,
    /// Its identity among the ejections.
    member_id: MemberId,
    view: Arc<PlacementView>,
    /// True while it is full or draining. A copy that is read without the lock.
    is_busy: AtomicBool,
    /// An attempt failed: the next probe is due early.
    attempt_failed: Notify,
    /// The next probe is due at once.
    probe_wanted: Notify,
    /// The time at which it refused a connection, in milliseconds after `epoch`; 0 if a connection succeeded
    /// since.
    refused_at: AtomicU64,
    /// The time of the last request to it, in milliseconds after `epoch`.
    used: AtomicU64,
    counters: Arc<Counters>,
}

impl Tracker {
    pub(crate) fn new(
        name: Name,
        view: Arc<PlacementView>,
        shared: Shared,
        probed: bool,
        source_state: SourceState,
        epoch: Instant,
        now: Instant,
    ) -> Self {
        let created_ms = millis(now.saturating_duration_since(epoch));
        let tracker = Self {
            name,
            epoch,
            view,
            member_id: shared.ejections.next_id(),
            shared,
            is_busy: AtomicBool::new(false),
            attempt_failed: Notify::new(),
            probe_wanted: Notify::new(),
            refused_at: AtomicU64::new(0),
            used: AtomicU64::new(created_ms),
            counters: Arc::default(),
            health: Mutex::new(Health::new(probed, source_state, now)),
        };
        tracker.update_view(&tracker.health());
        tracker.view.set_warming_since(created_ms);
        tracker
    }

    /// Applies an event.
    pub(crate) fn learn(&self, event: Event, now: Instant) {
        self.learn_with(self.health(), event, now);
        match event {
            Event::CallFailed(cause) | Event::CallbackFailed(cause) => {
                self.note_connection(cause, now);
                if cause.blame() != Blame::None {
                    self.attempt_failed.notify_one();
                }
            }
            Event::CallResponded => self.note_connected(now),
            Event::ProbeSent
            | Event::Reported(_)
            | Event::ProbeMissed(_)
            | Event::AttemptStarted
            | Event::RaceLost
            | Event::RateLimited(_)
            | Event::Drained
            | Event::Resumed
            | Event::ProbeConfigured(_)
            | Event::SourceChanged(_)
            | Event::CallAccepted(_)
            | Event::CallNotAccepted
            | Event::CallEnded(_) => {}
        }
    }

    /// Applies an event; counts and logs a change of state.
    pub(super) fn learn_with(&self, mut health: MutexGuard<'_, Health>, event: Event, now: Instant) {
        let was_cold = health.is_cold();
        let before = self.eligibility(now);
        let (episode, counted) = (health.ejection().number(), health.ejection().counted_until(now));
        let change = health.step(event, now, |until| self.shared.ejections.start(self.member_id, until, now));
        if health.ejection().number() != episode && health.ejection().cause() == Some(Cause::RacesLost) {
            self.counters.attempt_failed(Cause::RacesLost);
        }
        if let Some(until) = counted
            && health.ejection().counted_until(now).is_none()
        {
            self.shared.ejections.end(self.member_id, until);
        }
        self.update_view(&health);
        drop(health);
        if self.eligibility(now).is_better_than(before) {
            self.shared.eligible.notify_waiters();
        }
        let Some(change) = change else { return };
        if change.to == InstanceState::Ready && was_cold {
            self.view.set_warming_since(self.millis(now));
        }
        self.counters.state_entered(change.to);
        let (instance, from, to, reason) = (&self.name, change.from, change.to, change.reason);
        if matches!(to, InstanceState::Ejected | InstanceState::Unreachable) {
            tracing::warn!(%instance, %from, %to, reason, "instance state changed");
        } else {
            tracing::info!(%instance, %from, %to, reason, "instance state changed");
        }
    }

    /// Applies the report of a probe that was sent at `sent`.
    pub(crate) fn reported(&self, report: Report, sent: Instant, now: Instant) {
        self.shared.durations.probes_ok.observe(now.saturating_duration_since(sent));
        self.note_connected(sent);
        self.learn(Event::Reported(report), now);
    }

    /// Notes that the probe that was sent at `sent` failed with `cause`.
    pub(crate) fn probe_missed(&self, cause: Cause, sent: Instant, now: Instant) {
        self.counters.missed_probes.add_one();
        self.shared.durations.probes_missed.observe(now.saturating_duration_since(sent));
        self.note_connection(cause, now);
        if cause.is_response() {
            self.note_connected(sent);
        }
        self.learn(Event::ProbeMissed(cause), now);
    }

    pub(crate) fn eligibility(&self, now: Instant) -> Eligibility {
        self.view.eligibility(self.millis(now))
    }

    /// The visible state.
    pub(crate) fn state(&self, now: Instant) -> InstanceState {
        self.health().state(now)
    }

    /// Returns true if it is full or draining, as its probe, a 429, its source or the operator says.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        self.is_busy.load(Ordering::Relaxed) || self.view.is_rate_limited(self.millis(now))
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
        if health.state(now) == InstanceState::Gone {
            return true;
        }
        let reported_since_unlisted = health.last_report() > health.unlisted_at();
        let expected = health.load_estimate().expected_calls().filter(|_| reported_since_unlisted);
        let placed = health.load_estimate().placed_calls();
        drop(health);
        if self.counters.in_flight.get() > 0 {
            return false;
        }
        match expected {
            Some(calls) => calls == 0,
            None => {
                let used = self.used.load(Ordering::Relaxed);
                placed == 0 && self.millis(now).saturating_sub(used) >= millis(QUIET)
            }
        }
    }

    /// Returns true if it has calls, as far as this gateway knows.
    pub(crate) fn holds_calls(&self) -> bool {
        let health = self.health();
        let load = health.load_estimate();
        self.counters.in_flight.get() > 0 || load.placed_calls() > 0 || load.expected_calls() > Some(0)
    }

    /// Returns true if the operator drains it.
    pub(crate) fn is_drained(&self) -> bool {
        self.health().is_drained()
    }

    /// Returns true if a probe of it has ended, whatever the result.
    pub(crate) fn was_probed(&self) -> bool {
        self.counters.missed_probes.get() > 0 || self.last_report().is_some()
    }

    /// The time of the last probe with a valid report.
    pub(crate) fn last_report(&self) -> Option<Instant> {
        self.health().last_report()
    }

    /// The time since which its source no longer lists it.
    pub(crate) fn unlisted_at(&self) -> Option<Instant> {
        self.health().unlisted_at()
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn request_started(self: &Arc<Self>, now: Instant) -> InFlight {
        self.used.store(self.millis(now), Ordering::Relaxed);
        InFlight::new(&self.counters)
    }

    /// The same; `None` if `max` requests are in flight already.
    ///
    /// No lock: requests that start at the same moment may see each other and all be refused.
    pub(crate) fn request_started_within(self: &Arc<Self>, max: u64, now: Instant) -> Option<InFlight> {
        let in_flight = self.request_started(now);
        (self.counters.in_flight.get() <= max).then_some(in_flight)
    }

    /// Notes that a callback failed that was sent at `sent`. A callback that was sent before the last
    /// ejection started says nothing new.
    pub(crate) fn callback_failed(&self, cause: Cause, sent: Instant, now: Instant) {
        if self.health().ejection().started_at().is_some_and(|started| sent < started) {
            self.note_connection(cause, now);
        } else {
            self.learn(Event::CallbackFailed(cause), now);
        }
    }

    /// Returns true if the instance refused a connection, or could not be reached, and has not responded
    /// since. A connection that was not made in time does not count: the instance may be slow.
    pub(crate) fn refuses_connections(&self) -> bool {
        self.refused_at.load(Ordering::Relaxed) != 0
    }

    /// Learns from a failure whether the instance refuses connections.
    fn note_connection(&self, cause: Cause, now: Instant) {
        if matches!(cause, Cause::Refused | Cause::Connect) {
            // At least 1: 0 means that it accepts connections.
            self.refused_at.store(self.millis(now).max(1), Ordering::Relaxed);
        }
    }

    /// Notes that an attempt that started at `sent` reached the instance, for one atomic load. It ends no
    /// ejection: an instance may respond to callbacks and fail calls.
    pub(crate) fn note_connected(&self, sent: Instant) {
        let refused_at = self.refused_at.load(Ordering::Relaxed);
        if refused_at != 0 && self.millis(sent) >= refused_at {
            // If it refused another connection in the meantime, that one is later.
            let _ = self.refused_at.compare_exchange(refused_at, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Counts an attempt, of a new call or a callback.
    pub(crate) fn count_attempt(&self) {
        self.counters.attempts.add_one();
    }

    /// Counts the success of an attempt that took `took`.
    pub(crate) fn count_success(&self, took: Duration) {
        self.shared.durations.attempts_ok.observe(took);
    }

    /// Counts the failure of an attempt that took `took`.
    pub(crate) fn count_failure(&self, cause: Cause, took: Duration) {
        self.counters.attempt_failed(cause);
        self.shared.durations.attempts_failed.observe(took);
    }

    /// Notes a response with 429: the instance takes no new call for the time in its `Retry-After`.
    pub(crate) fn rate_limited(&self, headers: &HeaderMap, now: Instant) {
        if let Some(time) = retry_after(headers) {
            self.learn(Event::RateLimited(time), now);
        }
    }

    /// The number of failed attempts and missed probes so far.
    pub(crate) fn failures(&self) -> u64 {
        self.counters.missed_probes.get() + self.counters.blamed_failures()
    }

    pub(crate) fn count_callback(&self) {
        self.counters.callbacks.add_one();
    }

    /// Notes the end of a call. Calls that this gateway did not place here change nothing.
    pub(crate) fn call_ended(&self, call_id: &str, now: Instant) {
        self.learn(Event::CallEnded(CallKey::of(call_id)), now);
    }

    pub(super) fn view(&self) -> &Arc<PlacementView> {
        &self.view
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        // A panic while it was held leaves a stale state at worst.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.epoch))
    }

    fn update_view(&self, health: &Health) {
        // Rounded up: a call that the view shows as admitted is admitted.
        let to_ms = |at: Instant| self.millis(at + Duration::from_nanos(999_999));
        self.view.set_admission(health.admission(), to_ms);
        self.view.set_full_until(health.full_until().map_or(0, to_ms));
        self.view.set_load(health.load_estimate().load());
        let is_busy = matches!(health.lasting_state(), InstanceState::Full | InstanceState::Draining);
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }
}

/// The time without requests after which an unlisted instance that reports no calls is removed. Other
/// gateways place calls there, too, and a call may be silent for long.
const QUIET: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
