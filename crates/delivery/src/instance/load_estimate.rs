//! The load of an instance as expected now: its last report, and what changed since.

use switchboard_routing::Load;

/// The estimated load of an instance.
///
/// The gateway adds to the last report what it placed since, so that between two reports it never gives an
/// instance more calls than it can hold. Example: report 10, placed 2, ended 1 → expected 11.
#[derive(Clone, Copy, Debug, Default)]
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
    /// Calls that are missing from the reports and were not seen to end. An instance that hangs up reports it
    /// before the platform does. When the platform reports the end of such a call, no place is freed a second
    /// time.
    missing: u32,
}

impl LoadEstimate {
    pub(super) fn reported_calls(&self) -> Option<u32> {
        self.reported_calls
    }

    pub(super) fn capacity(&self) -> Option<u32> {
        self.capacity
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
    }

    pub(super) fn reported(&mut self, calls: Option<u32>, capacity: Option<u32>) {
        self.missing = match (self.reported_calls, calls) {
            // An instance without calls has no call whose end is still to come.
            (_, Some(0)) => 0,
            (Some(before), Some(calls)) => {
                let expected = before.saturating_add(self.added_before_probe).saturating_sub(self.ended);
                self.missing.saturating_add(expected.saturating_sub(calls))
            }
            (None, _) | (_, None) => self.missing,
        };
        self.added = self.added.saturating_sub(self.added_before_probe);
        self.added_before_probe = 0;
        self.ended = 0;
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

    pub(super) fn call_accepted(&mut self) {
        self.pending = self.pending.saturating_sub(1);
        self.added = self.added.saturating_add(1);
    }

    pub(super) fn call_not_accepted(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    pub(super) fn call_ended(&mut self) {
        match self.missing.checked_sub(1) {
            Some(missing) => self.missing = missing,
            None => self.ended = self.ended.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placed_calls_are_added_to_the_report_and_ended_calls_subtracted() {
        let mut load = LoadEstimate::default();
        load.reported(Some(10), Some(20));
        for _ in 0..2 {
            load.attempt_started();
            load.call_accepted();
        }
        load.call_ended();
        assert_eq!(load.expected_calls(), Some(11));
        assert_eq!(load.load(), Some(Load { calls: 11, capacity: 20 }));
        load.forget_report();
        assert_eq!((load.expected_calls(), load.load()), (None, None));
    }
}
