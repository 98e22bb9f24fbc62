//! The health of an instance, as a pure function of events and time.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    event::{Event, Report, ReportedState},
    load_estimate::LoadEstimate,
    state::InstanceState,
};
use crate::member::SourceState;

/// The health of an instance. It decides the placement of new calls and nothing else.
///
/// With a probe, the reports decide. Three misses in a row make an instance unreachable, two hits in a row
/// bring it back. A failed attempt ejects it until the next hit. Without a probe, the attempts themselves are
/// the probe. A failed attempt puts the instance last for [`BACKOFF`]. Then one new call per `BACKOFF` is
/// sent to it (half-open), and any response makes it ready.
///
/// The operator and the source of the fleet override both. A drain by the operator holds until `resume`. The
/// source may say that an instance is not ready, terminates, or is no longer listed. Each input is stored
/// separately, so that the others apply again when one of them ends.
#[derive(Clone, Debug)]
pub(super) struct Health {
    probed: bool,
    /// The state according to reports and attempts.
    own: InstanceState,
    own_reason: &'static str,
    drained: bool,
    source_state: SourceState,
    /// True if the source ever reported it ready. An instance that was never ready is starting.
    was_ready_in_source: bool,
    /// The time since which its source no longer lists it.
    unlisted_at: Option<Instant>,
    /// See [`Self::is_cold`].
    cold: bool,
    misses: u32,
    hits: u32,
    /// Hits in a row that bring it back from `Unreachable`.
    hits_needed: u32,
    backoff_until: Option<Instant>,
    load: LoadEstimate,
    since: Instant,
    last_report: Option<Instant>,
}

/// A change of state, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StateChange {
    pub(super) from: InstanceState,
    pub(super) to: InstanceState,
    pub(super) reason: &'static str,
}

/// The new calls that an instance is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// All new calls that rank it first.
    All,
    /// It was ejected and has no probe: one call per back-off finds out whether it recovered.
    HalfOpen,
    /// No new call.
    None,
}

impl Health {
    pub(super) fn new(probed: bool, source_state: SourceState, now: Instant) -> Self {
        let (own, own_reason) =
            if probed { (InstanceState::Starting, NOT_PROBED) } else { (InstanceState::Ready, NO_PROBE) };
        Self {
            probed,
            own,
            own_reason,
            drained: false,
            source_state,
            was_ready_in_source: source_state == SourceState::Ready,
            unlisted_at: None,
            cold: probed || source_state != SourceState::Ready,
            misses: 0,
            hits: 0,
            hits_needed: HITS_AFTER_MISSES,
            backoff_until: None,
            load: LoadEstimate::default(),
            since: now,
            last_report: None,
        }
    }

    /// Applies an event. Returns the change of the visible state, if it changed.
    pub(super) fn step(&mut self, event: Event, now: Instant) -> Option<StateChange> {
        let from = self.state();
        match event {
            Event::ProbeSent => self.load.probe_sent(),
            Event::Reported(report) if self.probed => self.reported(report, now),
            Event::ProbeMissed if self.probed => self.probe_missed(),
            // A response to a probe that new settings have just removed.
            Event::Reported(_) | Event::ProbeMissed => {}
            Event::AttemptStarted => {
                self.load.attempt_started();
                if !self.probed && self.own == InstanceState::Unreachable {
                    // Half-open: this call finds out whether the instance recovered. For other calls it is a
                    // last resort.
                    self.backoff_until = Some(now + BACKOFF);
                }
            }
            Event::CallFailed(cause) => self.attempt_failed(cause.reason(), now),
            Event::RaceLost | Event::CallbackFailed(_) => {}
            Event::CallResponded | Event::CallbackResponded if !self.probed => {
                self.backoff_until = None;
                if self.own != InstanceState::Ready {
                    self.enter(InstanceState::Ready, "responded to a request");
                }
            }
            // With a probe the reports decide: a response does not say that the instance takes new calls.
            Event::CallResponded | Event::CallbackResponded => {}
            Event::Drained => self.drained = true,
            Event::Resumed => self.drained = false,
            Event::ProbeConfigured(probed) => self.probe_configured(probed),
            Event::SourceChanged(state) => self.source_changed(state, now),
            Event::CallAccepted => self.load.call_accepted(),
            Event::CallNotAccepted => self.load.call_not_accepted(),
            Event::CallEnded => self.load.call_ended(),
        }
        let to = self.state();
        // The state below the drain counts, too: an upgrade drains an instance, restarts it and resumes it.
        let is_away = |state| matches!(state, InstanceState::Starting | InstanceState::Unreachable);
        self.cold = to != InstanceState::Ready && (self.cold || is_away(to) || is_away(self.own));
        if from == to {
            return None;
        }
        self.since = now;
        Some(StateChange { from, to, reason: self.reason() })
    }

    /// Returns true if it was starting or unreachable since it was last ready: it may be another process.
    pub(super) fn is_cold(&self) -> bool {
        self.cold
    }

    /// The visible state.
    pub(super) fn state(&self) -> InstanceState {
        self.state_and_reason().0
    }

    /// The reason for the state, in a few words.
    pub(super) fn reason(&self) -> &'static str {
        self.state_and_reason().1
    }

    fn state_and_reason(&self) -> (InstanceState, &'static str) {
        match self.source_state {
            SourceState::Removed => (InstanceState::Gone, "left the fleet"),
            _ if self.drained => (InstanceState::Draining, "drained by the operator"),
            SourceState::Restored => (InstanceState::Starting, "restored: its source has not been read yet"),
            SourceState::Unlisted => (InstanceState::Draining, "no longer listed"),
            SourceState::Terminating => (InstanceState::Draining, "its pod is terminating"),
            SourceState::NotReady if self.was_ready_in_source => {
                (InstanceState::Unreachable, "its pod is not ready")
            }
            SourceState::NotReady => (InstanceState::Starting, "its pod is not ready yet"),
            SourceState::Ready if self.own == InstanceState::Ready && self.load.is_at_capacity() => {
                (InstanceState::Full, "calls reached its capacity")
            }
            SourceState::Ready => (self.own, self.own_reason),
        }
    }

    /// The new calls that it is given now.
    pub(super) fn admission(&self) -> Admission {
        match self.state() {
            InstanceState::Ready => Admission::All,
            InstanceState::Unreachable if !self.probed && self.source_state == SourceState::Ready => {
                Admission::HalfOpen
            }
            InstanceState::Unreachable
            | InstanceState::Starting
            | InstanceState::Full
            | InstanceState::Draining
            | InstanceState::Gone => Admission::None,
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn load_estimate(&self) -> &LoadEstimate {
        &self.load
    }

    pub(super) fn last_report(&self) -> Option<Instant> {
        self.last_report
    }

    /// Returns true if the operator drains it.
    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// The time since which its source no longer lists it; `None` while it does.
    pub(super) fn unlisted_at(&self) -> Option<Instant> {
        self.unlisted_at
    }

    /// The time until which it is a last resort only.
    pub(super) fn backoff_until(&self) -> Option<Instant> {
        self.backoff_until
    }

    fn reported(&mut self, report: Report, now: Instant) {
        self.last_report = Some(now);
        self.load.reported(report.calls, report.capacity);
        self.misses = 0;
        self.hits = self.hits.saturating_add(1);
        if self.own == InstanceState::Unreachable && self.hits < self.hits_needed {
            return;
        }
        match report.state {
            ReportedState::Draining => self.enter(InstanceState::Draining, "its probe says draining"),
            ReportedState::Full => self.enter(InstanceState::Full, "its probe says full"),
            ReportedState::Ready => self.enter(InstanceState::Ready, "its probe says ready"),
        }
    }

    fn probe_missed(&mut self) {
        self.hits = 0;
        self.misses = self.misses.saturating_add(1);
        if self.misses >= MISSES {
            self.hits_needed = HITS_AFTER_MISSES;
            self.enter(InstanceState::Unreachable, "missed its probes");
        }
    }

    fn attempt_failed(&mut self, reason: &'static str, now: Instant) {
        if self.probed {
            // Full and draining instances get no calls already, and stay in the state that they reported.
            if self.own == InstanceState::Ready {
                self.hits = 0;
                self.hits_needed = HITS_AFTER_ATTEMPT;
                self.enter(InstanceState::Unreachable, reason);
            }
        } else {
            self.backoff_until = Some(now + BACKOFF);
            self.enter(InstanceState::Unreachable, reason);
        }
    }

    fn probe_configured(&mut self, probed: bool) {
        if probed == self.probed {
            return;
        }
        self.probed = probed;
        self.misses = 0;
        self.hits = 0;
        if !probed {
            self.backoff_until = None;
            self.load.forget_report();
            self.enter(InstanceState::Ready, NO_PROBE);
        } else if self.own == InstanceState::Unreachable {
            self.hits_needed = HITS_AFTER_ATTEMPT;
        }
    }

    fn source_changed(&mut self, state: SourceState, now: Instant) {
        self.source_state = state;
        self.was_ready_in_source |= state == SourceState::Ready;
        self.unlisted_at = match state {
            SourceState::Unlisted => self.unlisted_at.or(Some(now)),
            SourceState::Ready
            | SourceState::NotReady
            | SourceState::Terminating
            | SourceState::Restored
            | SourceState::Removed => None,
        };
    }

    fn enter(&mut self, state: InstanceState, reason: &'static str) {
        self.own = state;
        self.own_reason = reason;
    }
}

/// Misses in a row that make an instance unreachable: a single probe may be lost.
const MISSES: u32 = 3;
/// Hits in a row that bring it back after misses: a crashing instance may respond once between two crashes.
const HITS_AFTER_MISSES: u32 = 2;
/// Hits that bring it back after a failed attempt, which may have been the fault of the call.
const HITS_AFTER_ATTEMPT: u32 = 1;
/// The time for which an instance without a probe is a last resort after a failed attempt.
pub(crate) const BACKOFF: Duration = Duration::from_secs(1);

const NOT_PROBED: &str = "not probed yet";
const NO_PROBE: &str = "no probe is configured";

#[cfg(test)]
mod tests;
