//! What is known of an instance's health, as a pure function of events and time.

use std::{fmt, time::Duration};

use switchboard_routing::Load;
use tokio::time::Instant;

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Not probed yet: takes no new calls.
    Starting,
    /// Takes new calls.
    Ready,
    /// At its capacity.
    Full,
    /// By its own word or the operator's.
    Draining,
    /// Missed its probes or failed a try.
    Unreachable,
}

impl InstanceState {
    /// All of them, for metrics that have one line a state.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::Full, Self::Draining, Self::Unreachable];

    /// A stable name for `/fleet`, logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What is known of an instance's health. It decides the placement of new calls and nothing else.
///
/// With a probe, the reports lead: three misses in a row make an instance unreachable, two hits in a row bring it
/// back, a failed try takes it out until the next hit. Without one, the tries themselves are the probe: a failed try
/// puts an instance last for a moment, then one new call a moment tries it, and any answer makes it ready.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    probed: bool,
    /// What the reports and the tries say. The operator's drain is kept apart, so that `resume` finds it again.
    own: InstanceState,
    own_reason: &'static str,
    drained: bool,
    misses: u32,
    hits: u32,
    /// Hits in a row that bring it back from `Unreachable`.
    hits_needed: u32,
    rests_until: Option<Instant>,
    calls: Option<u32>,
    capacity: Option<u32>,
    since: Instant,
    last_report: Option<Instant>,
}

/// Something that was learned of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It answered a probe.
    Reported(Report),
    /// It did not answer a probe, or not in words that we understand.
    Missed,
    /// A new call is about to be given to it.
    TryBegan,
    /// It failed a new call, in a few words.
    TryFailed(&'static str),
    /// It answered a request.
    Answered,
    /// The operator drains it.
    Drained,
    /// The operator ends that.
    Resumed,
    /// New settings: with a probe, or without.
    Probing(bool),
}

/// What an instance answered to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) state: ReportedState,
    pub(crate) calls: Option<u32>,
    pub(crate) capacity: Option<u32>,
}

/// The states that an instance can claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportedState {
    Ready,
    Full,
    Draining,
}

/// A change of state, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) from: InstanceState,
    pub(crate) to: InstanceState,
    pub(crate) reason: &'static str,
}

/// Whether an instance may take a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// By its rank.
    Candidate,
    /// After all candidates: it failed a moment ago, and no probe tells whether it is back.
    Last,
    /// No.
    Never,
}

impl Health {
    pub(crate) fn new(probed: bool, now: Instant) -> Self {
        let (own, own_reason) =
            if probed { (InstanceState::Starting, NOT_PROBED) } else { (InstanceState::Ready, NO_PROBE) };
        Self {
            probed,
            own,
            own_reason,
            drained: false,
            misses: 0,
            hits: 0,
            hits_needed: HITS_AFTER_MISSES,
            rests_until: None,
            calls: None,
            capacity: None,
            since: now,
            last_report: None,
        }
    }

    /// The next state. Returns what changed, as seen from outside.
    pub(crate) fn step(&mut self, event: Event, now: Instant) -> Option<Change> {
        let from = self.state();
        match event {
            Event::Reported(report) if self.probed => self.reported(report, now),
            Event::Missed if self.probed => self.missed(),
            // An answer to a probe that the settings have just switched off.
            Event::Reported(_) | Event::Missed => {}
            Event::TryBegan if !self.probed && self.own == InstanceState::Unreachable => {
                // Only this call finds out whether the instance is back; others wait for it at the end of the ranking.
                self.rests_until = Some(now + REST);
            }
            Event::TryBegan => {}
            Event::TryFailed(reason) => self.try_failed(reason, now),
            Event::Answered if !self.probed => {
                self.rests_until = None;
                if self.own != InstanceState::Ready {
                    self.enter(InstanceState::Ready, "answered a request");
                }
            }
            // With a probe the instance's own word counts: an answer does not say that it takes new calls.
            Event::Answered => {}
            Event::Drained => self.drained = true,
            Event::Resumed => self.drained = false,
            Event::Probing(probed) if probed != self.probed => {
                self.probed = probed;
                self.misses = 0;
                self.hits = 0;
                if !probed {
                    self.rests_until = None;
                    self.calls = None;
                    self.capacity = None;
                    self.enter(InstanceState::Ready, NO_PROBE);
                } else if self.own == InstanceState::Unreachable {
                    self.hits_needed = HITS_AFTER_TRY;
                }
            }
            Event::Probing(_) => {}
        }
        let to = self.state();
        if from == to {
            return None;
        }
        self.since = now;
        Some(Change { from, to, reason: self.reason() })
    }

    /// The state as seen from outside.
    pub(crate) fn state(&self) -> InstanceState {
        if self.drained { InstanceState::Draining } else { self.own }
    }

    /// Why it is in this state, in a few words.
    pub(crate) fn reason(&self) -> &'static str {
        if self.drained { "drained by the operator" } else { self.own_reason }
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn calls(&self) -> Option<u32> {
        self.calls
    }

    pub(crate) fn capacity(&self) -> Option<u32> {
        self.capacity
    }

    pub(crate) fn last_report(&self) -> Option<Instant> {
        self.last_report
    }

    pub(crate) fn probed(&self) -> bool {
        self.probed
    }

    /// Until when it is last in the ranking.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// The load, if both parts of it are reported and mean something.
    pub(crate) fn load(&self) -> Option<Load> {
        match (self.calls, self.capacity) {
            (Some(calls), Some(capacity)) if capacity > 0 => Some(Load { calls, capacity }),
            _ => None,
        }
    }

    fn reported(&mut self, report: Report, now: Instant) {
        self.last_report = Some(now);
        self.calls = report.calls;
        self.capacity = report.capacity;
        self.misses = 0;
        self.hits = self.hits.saturating_add(1);
        if self.own == InstanceState::Unreachable && self.hits < self.hits_needed {
            return;
        }
        let at_capacity =
            matches!((report.calls, report.capacity), (Some(calls), Some(capacity)) if calls >= capacity);
        match report.state {
            ReportedState::Draining => self.enter(InstanceState::Draining, "its probe says draining"),
            ReportedState::Full => self.enter(InstanceState::Full, "its probe says full"),
            ReportedState::Ready if at_capacity => {
                self.enter(InstanceState::Full, "calls reached its capacity")
            }
            ReportedState::Ready => self.enter(InstanceState::Ready, "its probe says ready"),
        }
    }

    fn missed(&mut self) {
        self.hits = 0;
        self.misses = self.misses.saturating_add(1);
        if self.misses >= MISSES {
            self.hits_needed = HITS_AFTER_MISSES;
            self.enter(InstanceState::Unreachable, "missed its probes");
        }
    }

    fn try_failed(&mut self, reason: &'static str, now: Instant) {
        if self.probed {
            // Full and draining instances are out already, and stay what they said they are.
            if self.own == InstanceState::Ready {
                self.hits = 0;
                self.hits_needed = HITS_AFTER_TRY;
                self.enter(InstanceState::Unreachable, reason);
            }
        } else {
            self.rests_until = Some(now + REST);
            self.enter(InstanceState::Unreachable, reason);
        }
    }

    fn enter(&mut self, state: InstanceState, reason: &'static str) {
        self.own = state;
        self.own_reason = reason;
    }
}

/// Misses in a row after which an instance is unreachable: one lost probe is weather.
const MISSES: u32 = 3;
/// Hits in a row that bring it back after that: one answer between crashes is weather too.
const HITS_AFTER_MISSES: u32 = 2;
/// Hits that bring it back after a failed try, which may have been the call's fault.
const HITS_AFTER_TRY: u32 = 1;
/// How long an instance without a probe is last in the ranking after a failed try.
pub(crate) const REST: Duration = Duration::from_secs(1);

const NOT_PROBED: &str = "not probed yet";
const NO_PROBE: &str = "no probe is configured";

#[cfg(test)]
mod tests;
