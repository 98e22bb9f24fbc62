//! The state of an instance according to its probes, as a pure function of their results.

use crate::{
    cause::Cause,
    instance::{
        event::{Report, ReportedState},
        state::InstanceState,
    },
};

/// The state of an instance according to its probes. Without a probe it is always ready.
///
/// Three misses in a row make an instance unreachable, two hits in a row bring it back. A connection that it
/// refuses to a call makes it unreachable at once. The next hit brings it back, if its probe was sent later.
#[derive(Clone, Debug)]
pub(super) struct Probes {
    state: InstanceState,
    reason: &'static str,
    misses: u32,
    hits: u32,
    last_miss: Option<Cause>,
    /// The cause for which the last call could not be sent.
    refused: Option<Cause>,
    /// True if a call could not be sent after the probe in flight was sent: its report may be older.
    is_outdated: bool,
}

impl Probes {
    pub(super) fn new(is_probed: bool) -> Self {
        let (state, reason) =
            if is_probed { (InstanceState::Starting, NOT_PROBED) } else { (InstanceState::Ready, NO_PROBE) };
        Self { state, reason, misses: 0, hits: 0, last_miss: None, refused: None, is_outdated: false }
    }

    /// The state that the probes found last, whatever happened to calls since.
    pub(super) fn state(&self) -> InstanceState {
        self.state
    }

    pub(super) fn reason(&self) -> &'static str {
        self.reason
    }

    /// The cause for which the last call could not be sent, until a later probe is a hit.
    pub(super) fn refused(&self) -> Option<Cause> {
        self.refused
    }

    /// The cause for which a probe was missed last.
    pub(super) fn last_miss(&self) -> Option<Cause> {
        self.last_miss
    }

    /// Returns true if the instance missed its probes.
    pub(super) fn is_absent(&self) -> bool {
        self.state == InstanceState::Unreachable
    }

    pub(super) fn sent(&mut self) {
        self.is_outdated = false;
    }

    pub(super) fn hit(&mut self, report: Report) {
        self.misses = 0;
        self.hits = self.hits.saturating_add(1);
        if !self.is_outdated {
            self.refused = None;
        }
        if self.is_absent() && self.hits < HITS {
            return;
        }
        (self.state, self.reason) = match report.state {
            ReportedState::Draining => (InstanceState::Draining, "its probe says draining"),
            ReportedState::Full => (InstanceState::Full, "its probe says full"),
            ReportedState::Ready => (InstanceState::Ready, "its probe says ready"),
        };
    }

    pub(super) fn missed(&mut self, cause: Cause) {
        self.last_miss = Some(cause);
        self.hits = 0;
        self.misses = self.misses.saturating_add(1);
        if self.misses >= MISSES {
            (self.state, self.reason) = (InstanceState::Unreachable, cause.missed_reason());
        }
    }

    /// New settings apply: with a probe, or without.
    pub(super) fn configured(&mut self, is_probed: bool) {
        if is_probed {
            // The state stays until the first report.
            (self.misses, self.hits) = (0, 0);
        } else {
            *self = Self::new(false);
        }
    }

    /// A call could not be sent. Before the first report and after missed probes that is no news.
    pub(super) fn call_refused(&mut self, cause: Cause) {
        if !matches!(self.state, InstanceState::Starting | InstanceState::Unreachable) {
            self.refused = Some(cause);
            self.is_outdated = true;
        }
    }
}

/// Misses in a row that make an instance unreachable: a single probe may be lost.
const MISSES: u32 = 3;
/// Hits in a row that bring it back: a crashing instance may respond once between two crashes.
const HITS: u32 = 2;

const NOT_PROBED: &str = "not probed yet";
const NO_PROBE: &str = "no probe is configured";
