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
    /// Missed its probes, failed a try, or is not ready by the word of its source.
    Unreachable,
    /// No longer in the fleet.
    Gone,
}

impl InstanceState {
    /// All of them, for metrics that have one line a state.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Ready, Self::Full, Self::Draining, Self::Unreachable, Self::Gone];

    /// A stable name for `/fleet`, logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Unreachable => "unreachable",
            Self::Gone => "gone",
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
///
/// Two others are heard before either: the operator, whose drain holds until `resume`, and the source of the fleet, which
/// may say that an instance is not ready, is about to end, or has left. Each is kept apart, so that what the others said is
/// found again.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    probed: bool,
    /// What the reports and the tries say.
    own: InstanceState,
    own_reason: &'static str,
    drained: bool,
    offer: Offer,
    /// Whether the source ever offered it: what was never ready is starting.
    was_offered: bool,
    /// Since when its source lists it no more.
    left_at: Option<Instant>,
    /// See [`Self::is_cold`].
    cold: bool,
    misses: u32,
    hits: u32,
    /// Hits in a row that bring it back from `Unreachable`.
    hits_needed: u32,
    rests_until: Option<Instant>,
    calls: Option<u32>,
    capacity: Option<u32>,
    counted: Counted,
    since: Instant,
    last_report: Option<Instant>,
}

/// What this gateway adds to the last report: so that between two of them it never gives an instance more than it can hold.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// New calls that were offered to it and are not answered yet: each may become one of its calls.
    under_way: u32,
    /// New calls that it accepted, or may have accepted, that the last report need not have in it.
    added: u32,
    /// Of `added`, those that were there when the probe that is under way was sent.
    added_before_probe: u32,
    /// Calls that ended after the last report, and that it still has in it.
    ended: u32,
    /// Calls that are missing from the reports and were not seen to end: an instance that hangs up says so before the
    /// platform does. Their ends, when they come, free no place a second time.
    missing: u32,
}

impl Counted {
    /// What is still to be counted when the calls that were reported become others.
    fn after_report(self, before: Option<u32>, calls: Option<u32>) -> Self {
        let missing = match (before, calls) {
            // Where there are none, none has an end that is still to come.
            (_, Some(0)) => 0,
            (Some(before), Some(calls)) => {
                let expected = before.saturating_add(self.added_before_probe).saturating_sub(self.ended);
                self.missing.saturating_add(expected.saturating_sub(calls))
            }
            (None, _) | (_, None) => self.missing,
        };
        let added = self.added.saturating_sub(self.added_before_probe);
        Self { under_way: self.under_way, added, added_before_probe: 0, ended: 0, missing }
    }
}

/// What the source says of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It may take new calls.
    #[default]
    Ready,
    /// It is not ready.
    #[cfg_attr(
        not(any(test, feature = "kubernetes")),
        expect(dead_code, reason = "only a source that tells says so")
    )]
    NotReady,
    /// It was told to end, and does when its calls have ended.
    #[cfg_attr(
        not(any(test, feature = "kubernetes")),
        expect(dead_code, reason = "only a source that tells says so")
    )]
    Terminating,
    /// It is not listed any more.
    Left,
    /// It is not in the fleet any more.
    Gone,
}

/// Something that was learned of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A probe is about to be sent.
    ProbeBegan,
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
    /// The source was read.
    Offered(Offer),
    /// A new call was accepted, or may have been.
    Accepted,
    /// A new call was not accepted.
    NotAccepted,
    /// A call that it had accepted has ended.
    Ended,
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
    pub(crate) fn new(probed: bool, offer: Offer, now: Instant) -> Self {
        let (own, own_reason) =
            if probed { (InstanceState::Starting, NOT_PROBED) } else { (InstanceState::Ready, NO_PROBE) };
        Self {
            probed,
            own,
            own_reason,
            drained: false,
            offer,
            was_offered: offer == Offer::Ready,
            left_at: None,
            cold: probed || offer != Offer::Ready,
            misses: 0,
            hits: 0,
            hits_needed: HITS_AFTER_MISSES,
            rests_until: None,
            calls: None,
            capacity: None,
            counted: Counted::default(),
            since: now,
            last_report: None,
        }
    }

    /// The next state. Returns what changed, as seen from outside.
    pub(crate) fn step(&mut self, event: Event, now: Instant) -> Option<Change> {
        let from = self.state();
        match event {
            Event::ProbeBegan => self.counted.added_before_probe = self.counted.added,
            Event::Reported(report) if self.probed => self.reported(report, now),
            Event::Missed if self.probed => self.missed(),
            // An answer to a probe that the settings have just switched off.
            Event::Reported(_) | Event::Missed => {}
            Event::TryBegan => {
                self.counted.under_way = self.counted.under_way.saturating_add(1);
                if !self.probed && self.own == InstanceState::Unreachable {
                    // Only this call finds out whether the instance is back; others wait for it at the end of the ranking.
                    self.rests_until = Some(now + REST);
                }
            }
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
            Event::Offered(offer) => {
                self.offer = offer;
                self.was_offered |= offer == Offer::Ready;
                self.left_at = match offer {
                    Offer::Left => self.left_at.or(Some(now)),
                    Offer::Ready | Offer::NotReady | Offer::Terminating | Offer::Gone => None,
                };
            }
            Event::Accepted => {
                self.counted.under_way = self.counted.under_way.saturating_sub(1);
                self.counted.added = self.counted.added.saturating_add(1);
            }
            Event::NotAccepted => self.counted.under_way = self.counted.under_way.saturating_sub(1),
            Event::Ended => match self.counted.missing.checked_sub(1) {
                Some(missing) => self.counted.missing = missing,
                None => self.counted.ended = self.counted.ended.saturating_add(1),
            },
        }
        let to = self.state();
        // What it was by itself counts, too: an instance that is upgraded is drained, restarted and resumed.
        let is_away = |state| matches!(state, InstanceState::Starting | InstanceState::Unreachable);
        self.cold = to != InstanceState::Ready && (self.cold || is_away(to) || is_away(self.own));
        if from == to {
            return None;
        }
        self.since = now;
        Some(Change { from, to, reason: self.reason() })
    }

    /// Whether it was away since it was last ready: then it is another process, for all that is known.
    pub(crate) fn is_cold(&self) -> bool {
        self.cold
    }

    /// The state as seen from outside.
    pub(crate) fn state(&self) -> InstanceState {
        self.state_and_reason().0
    }

    /// Why it is in this state, in a few words.
    pub(crate) fn reason(&self) -> &'static str {
        self.state_and_reason().1
    }

    fn state_and_reason(&self) -> (InstanceState, &'static str) {
        match self.offer {
            Offer::Gone => (InstanceState::Gone, "left the fleet"),
            _ if self.drained => (InstanceState::Draining, "drained by the operator"),
            Offer::Left => (InstanceState::Draining, "is no longer listed"),
            Offer::Terminating => (InstanceState::Draining, "its pod is about to end"),
            Offer::NotReady if self.was_offered => (InstanceState::Unreachable, "its pod is not ready"),
            Offer::NotReady => (InstanceState::Starting, "its pod is not ready yet"),
            Offer::Ready if self.own == InstanceState::Ready && self.is_at_capacity() => {
                (InstanceState::Full, "calls reached its capacity")
            }
            Offer::Ready => (self.own, self.own_reason),
        }
    }

    fn is_at_capacity(&self) -> bool {
        matches!((self.expected_calls(), self.capacity), (Some(calls), Some(capacity)) if calls >= capacity)
    }

    /// The reported calls with what was placed and what ended since; `None` if it reports none.
    ///
    /// A call that was accepted while the probe was under way may be in the report or not: it counts, until the next one.
    pub(crate) fn expected_calls(&self) -> Option<u32> {
        let Counted { under_way, added, ended, added_before_probe: _, missing: _ } = self.counted;
        self.calls.map(|calls| calls.saturating_add(added).saturating_sub(ended).saturating_add(under_way))
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

    /// Whether its source speaks against new calls, whatever it says itself.
    pub(crate) fn is_withheld(&self) -> bool {
        self.offer != Offer::Ready
    }

    /// Since when its source lists it no more; `None` while it does.
    pub(crate) fn left_at(&self) -> Option<Instant> {
        self.left_at
    }

    pub(crate) fn probed(&self) -> bool {
        self.probed
    }

    /// Until when it is last in the ranking.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// The load as expected now, if both parts of it are reported and mean something.
    pub(crate) fn load(&self) -> Option<Load> {
        match (self.expected_calls(), self.capacity) {
            (Some(calls), Some(capacity)) if capacity > 0 => Some(Load { calls, capacity }),
            _ => None,
        }
    }

    fn reported(&mut self, report: Report, now: Instant) {
        self.last_report = Some(now);
        self.counted = self.counted.after_report(self.calls, report.calls);
        self.calls = report.calls;
        self.capacity = report.capacity;
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
