//! The JSON of an instance in `/fleet`. Its names are documented in `docs/admin.md`.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use switchboard_delivery::{InstanceCounts, InstanceStatus};

/// One instance in `/fleet`. Unknown values are null.
#[derive(Serialize)]
pub(super) struct InstanceJson<'a> {
    name: &'a str,
    incarnation: &'a str,
    state: &'static str,
    /// True while the operator drains it.
    drained: bool,
    since_ms: u64,
    reason: &'static str,
    calls: Option<u32>,
    calls_expected: Option<u32>,
    calls_counted: usize,
    capacity: Option<u32>,
    placed: u64,
    callbacks: u64,
    in_flight: u64,
    attempts: u64,
    failures: BTreeMap<&'static str, u64>,
    missed_probes: u64,
    last_miss: Option<&'static str>,
    last_probe_ms: Option<u64>,
    /// Set for an instance that was restored from the stored fleet, until its source is read.
    restored_age_ms: Option<u64>,
    /// The number of changes into each state.
    entered: BTreeMap<&'static str, u64>,
}

impl<'a> From<&'a InstanceStatus> for InstanceJson<'a> {
    fn from(status: &'a InstanceStatus) -> Self {
        // Without `..`: a new member of the status must be shown.
        let InstanceStatus {
            name,
            incarnation,
            state,
            is_drained,
            since,
            reason,
            calls,
            calls_expected,
            calls_counted,
            capacity,
            in_flight,
            counts,
            last_miss,
            last_probe,
            restored_age,
        } = status;
        let InstanceCounts { placed, callbacks, attempts, failures, missed_probes, entered } = counts;
        Self {
            name: name.as_str(),
            incarnation: incarnation.as_str(),
            state: state.label(),
            drained: *is_drained,
            since_ms: whole_ms(*since),
            reason,
            calls: *calls,
            calls_expected: *calls_expected,
            calls_counted: *calls_counted,
            capacity: *capacity,
            placed: *placed,
            callbacks: *callbacks,
            in_flight: *in_flight,
            attempts: *attempts,
            failures: failures.iter().copied().collect(),
            missed_probes: *missed_probes,
            last_miss: *last_miss,
            last_probe_ms: last_probe.map(whole_ms),
            restored_age_ms: restored_age.map(whole_ms),
            entered: entered.iter().map(|(state, times)| (state.label(), *times)).collect(),
        }
    }
}

/// The whole milliseconds of a duration.
pub(super) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
