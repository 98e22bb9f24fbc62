//! The status of an instance, for operators.

use std::time::Duration;

use switchboard_routing::Name;
use tokio::time::Instant;

use super::{Instance, counters::InstanceCounts, state::InstanceState};
use crate::cause::Cause;

/// The status of one instance.
#[derive(Clone, Debug)]
pub struct InstanceStatus {
    /// The name of the instance.
    pub name: Name,
    /// The incarnation of the instance.
    pub incarnation: Name,
    /// The current state.
    pub state: InstanceState,
    /// True while the operator drains it, whatever its probe and its source say.
    pub is_drained: bool,
    /// The time since it entered this state.
    pub since: Duration,
    /// The reason for this state, in a few words.
    pub reason: &'static str,
    /// Reported calls.
    pub calls: Option<u32>,
    /// Reported calls, plus the calls placed and minus the calls ended since. Placement uses this number.
    /// `None` without a report.
    pub calls_expected: Option<u32>,
    /// Calls that this gateway placed there and has not seen end, as far as the reports do not contradict it:
    /// with several gateways, another one may see the end.
    pub calls_counted: usize,
    /// Reported capacity.
    pub capacity: Option<u32>,
    /// Requests in flight.
    pub in_flight: u64,
    /// The values of its counters.
    pub counts: InstanceCounts,
    /// The label of the cause for which it missed a probe last; `None` if it missed none.
    pub last_miss: Option<&'static str>,
    /// The time since the last probe with a valid report.
    pub last_probe: Option<Duration>,
    /// The age of the stored fleet that the instance was restored from; `None` once its source was read.
    pub restored_age: Option<Duration>,
}

impl Instance {
    /// The status of the instance, for `/fleet` and `/metrics`.
    pub(crate) fn status(&self, now: Instant) -> InstanceStatus {
        let counters = self.tracker.counters();
        let health = self.tracker.health();
        let load = health.load_estimate();
        InstanceStatus {
            name: self.owner.instance.clone(),
            incarnation: self.owner.incarnation.clone(),
            state: health.state(now),
            is_drained: health.is_drained(),
            since: now.saturating_duration_since(health.since()),
            reason: health.reason(now),
            calls: load.reported_calls(),
            calls_expected: load.expected_calls(),
            calls_counted: load.placed_calls(),
            capacity: load.capacity(),
            last_probe: health.last_report().map(|at| now.saturating_duration_since(at)),
            restored_age: None,
            in_flight: counters.in_flight.get(),
            counts: counters.read(),
            last_miss: health.last_miss().map(Cause::label),
        }
    }
}
