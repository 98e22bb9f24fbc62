//! The load of an instance as expected now: its last report, and what changed since.

use std::time::Duration;

use switchboard_routing::Load;
use tokio::time::Instant;

use super::placed_calls::{CallKey, PlacedCalls, Placement};

/// The estimated load of an instance.
///
/// The gateway adds to the last report what it placed since, so that between two reports it never gives an
/// instance more calls than it can hold. Example: report 10, placed 2, ended 1 → expected 11.
///
/// Each report replaces the estimate, so an error lasts until the next one at most. With several gateways the
/// estimate is too low by at most two kinds of calls: calls that the others placed since the report was
/// requested, and calls that the instance hung up itself before the report and whose end arrives here after
/// it. It is too high by at most the calls that ended since the report was requested.
#[derive(Clone, Debug, Default)]
pub(super) struct LoadEstimate {
    reported_calls: Option<u32>,
    capacity: Option<u32>,
    /// New calls sent to the instance without a response so far. Each may become one of its calls.
    pending: u32,
    /// Calls accepted since the last report was requested, or possibly accepted (outcome unknown).
    added: u32,
    /// The part of `added` that was there when the probe in flight was sent.
    added_before_probe: u32,
    /// Calls that ended after the last report, which still contains them.
    ended: u32,
    /// Calls placed here that the last report does not contain, although they were not seen to end. An
    /// instance that hangs up reports it before the platform does: such an end frees no place a second time.
    already_gone: u32,
    placed: PlacedCalls,
    /// Calls placed before the probe in flight was sent: its report should contain them.
    placed_before_probe: usize,
    /// The first placement after that.
    probe_placement: Placement,
    surplus: Option<Surplus>,
}

/// Placed calls that are too many for the reports.
#[derive(Clone, Copy, Debug)]
struct Surplus {
    since: Instant,
    /// The smallest number of them in each report since.
    least: usize,
}

impl LoadEstimate {
    pub(super) fn reported_calls(&self) -> Option<u32> {
        self.reported_calls
    }

    pub(super) fn capacity(&self) -> Option<u32> {
        self.capacity
    }

    /// The number of calls that this gateway placed there and has not seen end, as far as the reports do not
    /// contradict it.
    pub(super) fn placed_calls(&self) -> usize {
        self.placed.len()
    }

    /// The reported calls, plus those placed and minus those ended since. `None` if the instance reports
    /// none.
    ///
    /// A call that was accepted while the probe was in flight may or may not be in the report. It counts
    /// until the next report.
    pub(super) fn expected_calls(&self) -> Option<u32> {
        self.reported_calls.map(|calls| {
            calls.saturating_add(self.added).saturating_sub(self.ended).saturating_add(self.pending)
        })
    }

    /// The expected load, if the instance reports its calls and a capacity above zero.
    pub(super) fn load(&self) -> Option<Load> {
        match (self.expected_calls(), self.capacity) {
            (Some(calls), Some(capacity)) if capacity > 0 => Some(Load { calls, capacity }),
            _ => None,
        }
    }

    pub(super) fn is_at_capacity(&self) -> bool {
        matches!((self.expected_calls(), self.capacity), (Some(calls), Some(capacity)) if calls >= capacity)
    }

    pub(super) fn probe_sent(&mut self) {
        self.added_before_probe = self.added;
        self.placed_before_probe = self.placed.len();
        self.probe_placement = self.placed.next();
    }

    pub(super) fn reported(&mut self, calls: Option<u32>, capacity: Option<u32>, now: Instant) {
        self.added = self.added.saturating_sub(self.added_before_probe);
        self.added_before_probe = 0;
        self.ended = 0;
        self.already_gone = calls.map_or(0, |calls| self.compare_with_placed(calls, now));
        self.placed_before_probe = 0;
        self.reported_calls = calls;
        self.capacity = capacity;
    }

    /// Forgets the report: the settings no longer have a probe.
    pub(super) fn forget_report(&mut self) {
        self.reported_calls = None;
        self.capacity = None;
    }

    pub(super) fn attempt_started(&mut self) {
        self.pending = self.pending.saturating_add(1);
    }

    pub(super) fn call_accepted(&mut self, key: Option<CallKey>) {
        self.pending = self.pending.saturating_sub(1);
        self.added = self.added.saturating_add(1);
        if self.placed.add(key).is_some_and(|earlier| earlier < self.probe_placement) {
            self.placed_before_probe = self.placed_before_probe.saturating_sub(1);
        }
        let max =
            usize::try_from(self.reported_calls.unwrap_or(0)).unwrap_or(0).min(REPORTED_MAX) + UNREPORTED_MAX;
        self.forget_oldest(self.placed.len().saturating_sub(max));
    }

    pub(super) fn call_not_accepted(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    /// Notes the end of a call. Only calls that this gateway placed here count, and each once: calls of other
    /// gateways are not in the estimate, and a notification may arrive twice.
    pub(super) fn call_ended(&mut self, key: CallKey) {
        let Some(placement) = self.placed.remove(key) else { return };
        if placement >= self.probe_placement {
            // It was placed after the last probe was sent, so it was added to the report.
            self.added = self.added.saturating_sub(1);
            return;
        }
        self.placed_before_probe = self.placed_before_probe.saturating_sub(1);
        match self.already_gone.checked_sub(1) {
            Some(already_gone) => self.already_gone = already_gone,
            None => self.ended = self.ended.saturating_add(1),
        }
    }

    /// Compares the calls placed before the probe was sent with its report. Returns the number of them that
    /// it does not contain; which they are is not known. If there are some for [`SURPLUS_TIME`], another
    /// gateway saw their ends, and as many are forgotten.
    fn compare_with_placed(&mut self, reported: u32, now: Instant) -> u32 {
        let reported = usize::try_from(reported).unwrap_or(usize::MAX);
        let mut surplus = self.placed_before_probe.saturating_sub(reported);
        if surplus == 0 {
            self.surplus = None;
            return 0;
        }
        if reported == 0 {
            // An instance without calls has no call whose end is still to come.
            self.surplus = None;
            self.forget_oldest(surplus);
            return 0;
        }
        let Surplus { since, least } = self.surplus.unwrap_or(Surplus { since: now, least: surplus });
        let least = least.min(surplus);
        self.surplus = Some(Surplus { since, least });
        if now.saturating_duration_since(since) >= SURPLUS_TIME {
            self.forget_oldest(least);
            surplus = surplus.saturating_sub(least);
            self.surplus = (surplus > 0).then_some(Surplus { since: now, least: surplus });
        }
        u32::try_from(surplus).unwrap_or(u32::MAX)
    }

    /// Forgets the oldest calls, which were placed before the probe in flight was sent.
    fn forget_oldest(&mut self, count: usize) {
        self.placed.forget_oldest(count);
        self.placed_before_probe = self.placed_before_probe.saturating_sub(count);
    }
}

/// The time after which placed calls that the reports do not contain are forgotten. The platform reports the
/// end of a call a moment after the instance hung up, if this gateway receives it at all.
const SURPLUS_TIME: Duration = Duration::from_secs(10);
/// More calls than one process holds. A larger report does not make the gateway remember more.
const REPORTED_MAX: usize = 10_000;
/// Placed calls beyond the reported ones: more than an instance accepts between two reports. Without reports
/// they are all that is remembered.
const UNREPORTED_MAX: usize = 500;

#[cfg(test)]
mod tests;
