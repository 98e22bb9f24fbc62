//! One attempt of a new call at one instance: everything that must be settled, however it ends.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::Response;
use switchboard_routing::Owner;
use tokio::time::Instant;

use super::state::{PlacementState, Retry};
use crate::{
    cause::{Blame, Cause},
    connections::ResponseBody,
    headers::sendable_call_id,
    instance::{Event, InFlight, Instance, PendingCall},
    placements::Placements,
    response::UpstreamResponse,
};

/// An attempt that has started and not ended.
///
/// It is also dropped when the platform hangs up: if it was written, the instance may continue with the call,
/// so the call is remembered as placed there.
pub(super) struct Attempt<'a> {
    pub(super) instance: &'a Instance,
    /// The number of the attempt, from 1.
    pub(super) number: u32,
    pub(super) started: Instant,
    /// The end of its share of the budget: the time at which the next candidate is asked beside it.
    pub(super) share_end: Instant,
    /// The time at which it counts as a failure of the instance although it stays open.
    pub(super) timeout_at: Instant,
    pub(super) timed_out: bool,
    /// True once the request may have been written.
    pub(super) written: &'a AtomicBool,
    pub(super) call_id: Option<Box<str>>,
    pub(super) placements: &'a Placements,
    pub(super) state: &'a PlacementState,
    pub(super) in_flight: Option<InFlight>,
    /// `None` once the attempt has ended.
    pub(super) pending: Option<PendingCall>,
    /// The retry that it was taken from the budget, if it is one. It is counted or given back on drop.
    pub(super) _retry: Option<Retry<'a>>,
}

/// A refusal of an instance that may be relayed later.
pub(super) struct Refusal<'a> {
    response: Response<ResponseBody>,
    owner: &'a Owner,
    in_flight: InFlight,
}

/// The attempts that ended with 403.
#[derive(Default)]
pub(super) struct Forbidden<'a> {
    last: Option<Refusal<'a>>,
    count: u32,
}

impl<'a> Attempt<'a> {
    pub(super) fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// The instance accepted the call. `end`: the end of the budget.
    pub(super) fn accepted(
        mut self,
        response: Response<ResponseBody>,
        end: Instant,
        now: Instant,
    ) -> Option<UpstreamResponse> {
        self.learn_response(now);
        self.remember_placement(now);
        if let Some(pending) = self.pending.take() {
            pending.accepted(self.call_id.as_deref(), now);
        }
        Some(UpstreamResponse::of_instance(response, &self.instance.owner, self.in_flight.take()?, end))
    }

    /// The instance responded with a refusal that no other instance is asked after.
    pub(super) fn refused(self, response: Response<ResponseBody>, now: Instant) -> Option<Refusal<'a>> {
        self.learn_response(now);
        self.into_refusal(response, now)
    }

    /// The instance refused the caller (403). It is relayed if all do.
    pub(super) fn forbidden(self, response: Response<ResponseBody>, now: Instant) -> Option<Refusal<'a>> {
        self.fail(Cause::Forbidden, now);
        self.log_failure(Cause::Forbidden.label(), false);
        self.into_refusal(response, now)
    }

    /// The attempt failed. Returns true if the instance may have acted on the call.
    pub(super) fn failed(mut self, cause: Cause, was_sent: bool, now: Instant) -> bool {
        self.fail(cause, now);
        let outcome_unknown = was_sent && cause.leaves_outcome_unknown();
        self.log_failure(cause.label(), outcome_unknown);
        if !outcome_unknown && let Some(pending) = self.pending.take() {
            pending.not_accepted(now);
        }
        outcome_unknown
    }

    /// The attempt was cut short by its share or by the budget, while it was still connecting or without a
    /// response. Such a time-out says nothing about the instance. Returns true if the instance may have acted
    /// on the call.
    pub(super) fn cut_short(mut self, now: Instant) -> (Cause, bool) {
        let was_sent = self.is_written();
        let cause = if was_sent { Cause::Timeout } else { Cause::ConnectTimeout };
        if !self.timed_out {
            self.instance.tracker.count_failure(cause, self.took(now));
        }
        self.log_failure(cause.label(), was_sent);
        if !was_sent && let Some(pending) = self.pending.take() {
            pending.not_accepted(now);
        }
        (cause, was_sent)
    }

    /// Another instance accepted the call first. Returns true if this one may have acted on it.
    ///
    /// The race was lost by an instance that had used its share. One that was asked a moment ago is not slow.
    pub(super) fn lost(self, now: Instant) -> bool {
        let was_sent = self.is_written();
        if was_sent {
            self.state.count_lost_race();
            self.log_failure("race_lost", true);
            if !self.timed_out && now >= self.share_end {
                self.instance.tracker.learn(Event::RaceLost, now);
            }
        }
        was_sent
    }

    /// The instance has not responded for the time of a whole attempt. The attempt stays open.
    pub(super) fn time_out(&mut self, now: Instant) {
        self.fail(Cause::Timeout, now);
        self.timed_out = true;
    }

    /// The instance is judged once: a late response does not take back the time-out.
    fn learn_response(&self, now: Instant) {
        if !self.timed_out {
            self.instance.tracker.count_success(self.took(now));
            self.instance.tracker.learn(Event::CallResponded, now);
        }
    }

    fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    fn fail(&self, cause: Cause, now: Instant) {
        if self.timed_out {
            return;
        }
        self.instance.tracker.count_failure(cause, self.took(now));
        self.instance.attempt_failed(cause);
        if cause.blame() != Blame::None {
            self.instance.tracker.learn(Event::CallFailed(cause), now);
        }
    }

    fn into_refusal(mut self, response: Response<ResponseBody>, now: Instant) -> Option<Refusal<'a>> {
        if let Some(pending) = self.pending.take() {
            pending.not_accepted(now);
        }
        Some(Refusal { response, owner: &self.instance.owner, in_flight: self.in_flight.take()? })
    }

    fn remember_placement(&self, now: Instant) {
        if let Some(call_id) = &self.call_id {
            self.placements.remember(call_id, &self.instance.owner, now);
        }
    }

    fn log_failure(&self, reason: &'static str, outcome_unknown: bool) {
        let call_id = sendable_call_id(self.call_id.as_deref());
        if outcome_unknown {
            tracing::warn!(
                instance = %self.instance.name(),
                call.id = call_id,
                attempt = self.number,
                reason,
                "outcome unknown: instance received a new call and did not respond"
            );
        } else {
            tracing::debug!(
                instance = %self.instance.name(),
                call.id = call_id,
                attempt = self.number,
                reason,
                "instance did not take a new call"
            );
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let now = Instant::now();
        if self.is_written() {
            self.remember_placement(now);
            // Its drop counts the call as accepted.
            drop(pending);
        } else {
            pending.not_accepted(now);
        }
    }
}

impl<'a> Forbidden<'a> {
    pub(super) fn add(&mut self, refusal: Option<Refusal<'a>>) {
        self.count = self.count.saturating_add(1);
        self.last = refusal;
    }

    /// The last 403, if all `attempts` ended with one.
    pub(super) fn of_all(&mut self, attempts: u32) -> Option<Refusal<'a>> {
        self.last.take().filter(|_| self.count == attempts)
    }
}

impl Refusal<'_> {
    /// The refusal as it is relayed. Its body has until `end`, and at least a second from now.
    pub(super) fn relay(self, end: Instant) -> UpstreamResponse {
        UpstreamResponse::of_instance(self.response, self.owner, self.in_flight, end)
    }
}
