//! An instance of a fleet as a gateway reports it, and its words.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An instance as `/fleet` reports it. Lenient, since the gateway may be of another version.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FleetInstance {
    pub(super) name: String,
    pub(super) incarnation: String,
    pub(super) state: String,
    pub(super) since_ms: u64,
    pub(super) reason: String,
    pub(super) calls: Option<u64>,
    pub(super) calls_expected: Option<u64>,
    pub(super) calls_counted: u64,
    pub(super) capacity: Option<u64>,
    pub(super) placed: u64,
    pub(super) callbacks: u64,
    pub(super) in_flight: u64,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) last_probe_ms: Option<u64>,
}

impl FleetInstance {
    /// The calls and requests that the instance still has, in words. `gateways` is the number of gateways
    /// that count them.
    pub(super) fn workload(&self, gateways: usize) -> String {
        let requests = match self.in_flight {
            0 => String::new(),
            one_or_more => format!(", {} in flight", counted(one_or_more, "request")),
        };
        match (self.calls_now(), self.calls_counted) {
            (Some(calls), _) => format!("{}{requests}", counted(calls, "call")),
            (None, 0) => format!("an unknown number of calls{requests}"),
            (None, placed) => format!(
                "{} placed by {}, and an unknown number of others{requests}",
                counted(placed, "call"),
                if gateways == 1 { "this gateway" } else { "these gateways" }
            ),
        }
    }

    /// The reported calls, plus the calls placed since the report, less the calls ended since. `None` if the
    /// instance reports no call count.
    pub(super) fn calls_now(&self) -> Option<u64> {
        // A gateway of an earlier version does not report the expected calls.
        self.calls.map(|calls| self.calls_expected.unwrap_or(calls))
    }
}

/// A number with its noun: `1 call`, `2 calls`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A duration in its two largest units, like `2 h 3 min`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}
