//! The health of an instance, as a pure function of events and time.

mod ejection;
mod probes;

use tokio::time::Instant;

pub(crate) use self::ejection::EJECTION_MIN;
use self::{ejection::Ejection, probes::Probes};
use super::{event::Event, load_estimate::LoadEstimate, state::InstanceState};
use crate::{
    cause::{Blame, Cause},
    member::SourceState,
};

/// The health of an instance. It decides the placement of new calls and nothing else.
///
/// Four inputs are stored separately, so that the others apply again when one of them ends: the state
/// according to the source, the drain by the operator, the state according to the probes ([`Probes`]), and
/// the ejection by failed calls and callbacks ([`Ejection`]). The source and the operator override the
/// probes, and these override the ejection.
///
/// A probe does not end an ejection: an instance may pass its probes and fail calls. A connection that is
/// refused to a call is for the probe to settle, if there is one, and otherwise for the half-open trial.
#[derive(Clone, Debug)]
pub(super) struct Health {
    is_probed: bool,
    probes: Probes,
    ejection: Ejection,
    is_drained: bool,
    source_state: SourceState,
    /// True if the source ever reported it ready. An instance that was never ready is starting.
    was_ready_in_source: bool,
    /// The time since which its source no longer lists it.
    unlisted_at: Option<Instant>,
    /// True if a response to a new call made it ready, and no report came since.
    has_recovered: bool,
    /// The end of the time for which it counts as full, because it responded with 429 and `Retry-After`.
    full_until: Option<Instant>,
    /// The state after the last event. It differs from the current one if `full_until` has passed since.
    last_state: InstanceState,
    /// See [`Self::is_cold`].
    is_cold: bool,
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
    /// From this time on one new call, which finds out whether the instance has recovered. Others, and
    /// earlier ones, are a last resort.
    TrialFrom(Instant),
    /// New calls as a last resort.
    LastResort,
    /// No new call.
    None,
}

impl Health {
    pub(super) fn new(is_probed: bool, source_state: SourceState, now: Instant) -> Self {
        let mut health = Self {
            is_probed,
            probes: Probes::new(is_probed),
            ejection: Ejection::default(),
            is_drained: false,
            source_state,
            was_ready_in_source: source_state == SourceState::Ready,
            unlisted_at: None,
            has_recovered: false,
            full_until: None,
            last_state: InstanceState::Starting,
            is_cold: is_probed || source_state != SourceState::Ready,
            load: LoadEstimate::default(),
            since: now,
            last_report: None,
        };
        health.last_state = health.state(now);
        health
    }

    /// Applies an event. Returns the change of the visible state, if it changed.
    ///
    /// `grant` says whether the instance may be ejected until a time for slow or failed responses. It is
    /// called only if it would be, and at most once.
    pub(super) fn step(
        &mut self,
        event: Event,
        now: Instant,
        grant: impl FnOnce(Instant) -> bool,
    ) -> Option<StateChange> {
        let from = self.last_state;
        match event {
            Event::ProbeSent => {
                self.probes.sent();
                self.load.probe_sent();
            }
            Event::Reported(report) if self.is_probed => {
                self.last_report = Some(now);
                self.has_recovered = false;
                self.load.reported(report.calls, report.capacity, now);
                self.probes.hit(report);
            }
            Event::ProbeMissed(cause) if self.is_probed => self.probes.missed(cause),
            // A response to a probe that new settings have just removed.
            Event::Reported(_) | Event::ProbeMissed(_) => {}
            Event::AttemptStarted => {
                self.load.attempt_started();
                self.ejection.attempt_started();
            }
            Event::CallFailed(cause) if self.is_probed && cause.blame() == Blame::Unreachable => {
                self.probes.call_refused(cause);
            }
            Event::CallFailed(cause) if self.can_be_ejected() => {
                self.ejection.call_failed(cause, now, grant);
            }
            Event::CallbackFailed(cause) if self.can_be_ejected() => {
                self.ejection.callback_failed(cause, now, grant);
            }
            Event::RaceLost if self.can_be_ejected() => self.ejection.race_lost(now, grant),
            Event::CallFailed(_) | Event::CallbackFailed(_) | Event::RaceLost => {}
            Event::CallResponded => self.has_recovered |= self.ejection.call_responded(),
            Event::RateLimited(time) => self.full_until = self.full_until.max(Some(now + time)),
            Event::Drained => self.is_drained = true,
            Event::Resumed => self.is_drained = false,
            Event::ProbeConfigured(is_probed) => self.probe_configured(is_probed),
            Event::SourceChanged(state) => self.source_changed(state, now),
            Event::CallAccepted(call) => self.load.call_accepted(call),
            Event::CallNotAccepted => self.load.call_not_accepted(),
            Event::CallEnded(call) => self.load.call_ended(call),
        }
        let to = self.state(now);
        self.last_state = to;
        self.is_cold = to != InstanceState::Ready && (self.is_cold || self.is_absent());
        if from == to {
            return None;
        }
        self.since = now;
        Some(StateChange { from, to, reason: self.reason(now) })
    }

    /// Notes that a trial of the episode with this number has ended.
    pub(super) fn trial_ended(&mut self, episode: u32) {
        self.ejection.trial_ended(episode);
    }

    /// Returns true if the instance was new or absent since it was last ready: it may be another process.
    ///
    /// It was absent if it missed its probes or its source said that it is not ready. An attempt that failed,
    /// or an ejection, is no absence.
    pub(super) fn is_cold(&self) -> bool {
        self.is_cold
    }

    /// The visible state.
    pub(super) fn state(&self, now: Instant) -> InstanceState {
        if self.is_rate_limited(now) { InstanceState::Full } else { self.lasting_state() }
    }

    /// The reason for the state, in a few words.
    pub(super) fn reason(&self, now: Instant) -> &'static str {
        match self.state_and_reason().1 {
            _ if self.is_rate_limited(now) => "responded with 429 and Retry-After",
            Reason::Text(text) => text,
            Reason::Ejection(cause) if self.ejection.is_half_open(now) => cause.half_open_reason(),
            Reason::Ejection(cause) => cause.reason(),
        }
    }

    /// Returns true if it counts as full only because of a 429.
    fn is_rate_limited(&self, now: Instant) -> bool {
        self.full_until.is_some_and(|until| now < until)
            && matches!(self.lasting_state(), InstanceState::Ready | InstanceState::Ejected)
    }

    /// The state without `full_until`, which passes without an event.
    pub(super) fn lasting_state(&self) -> InstanceState {
        self.state_and_reason().0
    }

    /// [`Self::lasting_state`], and its reason.
    fn state_and_reason(&self) -> (InstanceState, Reason) {
        use InstanceState::{Draining, Ejected, Full, Gone, Ready, Starting, Unreachable};
        let probed = self.probes.state();
        match self.source_state {
            SourceState::Removed => (Gone, Reason::Text("left the fleet")),
            SourceState::Draining if self.is_drained => {
                (Draining, Reason::Text("drained by the operator and in the file of the fleet"))
            }
            _ if self.is_drained => (Draining, Reason::Text("drained by the operator")),
            SourceState::Draining => (Draining, Reason::Text("drained in the file of the fleet")),
            SourceState::Restored => (Starting, Reason::Text("restored: its source has not been read yet")),
            SourceState::Unlisted => (Draining, Reason::Text("no longer listed")),
            SourceState::Terminating => (Draining, Reason::Text("its pod is terminating")),
            SourceState::NotReady if self.was_ready_in_source => {
                (Unreachable, Reason::Text("its pod is not ready"))
            }
            SourceState::NotReady => (Starting, Reason::Text("its pod is not ready yet")),
            SourceState::Ready if probed != Ready => (probed, Reason::Text(self.probes.reason())),
            SourceState::Ready => match (self.probes.refused(), self.ejection.cause()) {
                (Some(cause), _) => (Unreachable, Reason::Text(cause.reason())),
                (None, Some(cause)) if cause.blame() == Blame::Unreachable => {
                    (Unreachable, Reason::Ejection(cause))
                }
                _ if self.load.is_at_capacity() => (Full, Reason::Text("calls reached its capacity")),
                (None, Some(cause)) => (Ejected, Reason::Ejection(cause)),
                (None, None) if self.has_recovered => (Ready, Reason::Text("responded to a new call")),
                (None, None) => (Ready, Reason::Text(self.probes.reason())),
            },
        }
    }

    /// The new calls that it is given, but for those before [`Self::full_until`].
    pub(super) fn admission(&self) -> Admission {
        match self.lasting_state() {
            InstanceState::Ready => Admission::All,
            InstanceState::Ejected | InstanceState::Unreachable => self.admission_after_failure(),
            InstanceState::Starting | InstanceState::Full | InstanceState::Draining | InstanceState::Gone => {
                Admission::None
            }
        }
    }

    /// The new calls that it is given after it failed an attempt. It gets none if it is absent.
    fn admission_after_failure(&self) -> Admission {
        if self.is_absent() {
            Admission::None
        } else if self.probes.refused().is_some() {
            Admission::LastResort
        } else {
            self.ejection.next_trial().map_or(Admission::LastResort, Admission::TrialFrom)
        }
    }

    /// The end of the time for which it takes no new calls after a 429, whether or not it has passed.
    pub(super) fn full_until(&self) -> Option<Instant> {
        self.full_until
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn ejection(&self) -> &Ejection {
        &self.ejection
    }

    pub(super) fn load_estimate(&self) -> &LoadEstimate {
        &self.load
    }

    /// The cause for which it missed a probe last.
    pub(super) fn last_miss(&self) -> Option<Cause> {
        self.probes.last_miss()
    }

    pub(super) fn last_report(&self) -> Option<Instant> {
        self.last_report
    }

    /// Returns true if the operator drains it.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// The time since which its source no longer lists it; `None` while it does.
    pub(super) fn unlisted_at(&self) -> Option<Instant> {
        self.unlisted_at
    }

    /// Returns true if it has been away, and may come back as another process.
    fn is_absent(&self) -> bool {
        self.probes.is_absent()
            || self.probes.state() == InstanceState::Starting
            || matches!(self.source_state, SourceState::NotReady)
    }

    /// Returns false if it takes no new calls for a reason that lasts: then failures change nothing.
    fn can_be_ejected(&self) -> bool {
        matches!(self.source_state, SourceState::Ready) && !self.is_absent()
    }

    fn probe_configured(&mut self, is_probed: bool) {
        if is_probed == self.is_probed {
            return;
        }
        self.is_probed = is_probed;
        self.probes.configured(is_probed);
        if !is_probed {
            self.load.forget_report();
        } else if let Some(cause) = self.ejection.cause().filter(|cause| cause.blame() == Blame::Unreachable)
        {
            // From now on the probe finds out whether the instance takes connections.
            self.ejection.end();
            self.probes.call_refused(cause);
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
            | SourceState::Draining
            | SourceState::Restored
            | SourceState::Removed => None,
        };
        if !matches!(state, SourceState::Ready | SourceState::NotReady | SourceState::Draining) {
            self.ejection.end();
        }
    }
}

/// The reason for a state.
enum Reason {
    Text(&'static str),
    /// Failures with this cause.
    Ejection(Cause),
}

#[cfg(test)]
mod tests;
