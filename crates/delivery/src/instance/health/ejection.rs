//! The ejection of an instance that failed calls, as a pure function of outcomes and time.

use std::time::Duration;

use tokio::time::Instant;

use crate::cause::{Blame, Cause};

/// The ejections of one instance.
///
/// A failure ejects the instance. It takes no calls for [`EJECTION_MIN`], doubled with each episode up to
/// [`EJECTION_MAX`]. Then it is half-open: it takes one call at a time, until it responds to one (then it is
/// ready) or fails one (then the next episode starts). Example: an instance that hangs gets a trial after
/// 1 s, 2 s, 4 s, …
///
/// While it is ejected, calls go to it as a last resort only. A response to such a call ends the ejection,
/// too.
#[derive(Clone, Debug, Default)]
pub(in crate::instance) struct Ejection {
    current: Option<Episode>,
    /// The start of the last episode, whether or not it is over.
    started_at: Option<Instant>,
    /// The number of the last episode.
    number: u32,
    /// Episodes since the last run of [`SUCCESSES`]. Each doubles the time of the next.
    doublings: u32,
    /// Responses to new calls since the last failure.
    successes: u32,
    /// Lost races since the last response to a new call or failure.
    lost_races: u32,
}

/// One ejection, and the half-open time after it.
#[derive(Clone, Copy, Debug)]
struct Episode {
    cause: Cause,
    /// The end of the ejection. After it the instance is half-open.
    until: Instant,
    /// Calls sent to it in this episode without an outcome so far.
    trials: u32,
    /// True if a call was sent to it in this episode. The outcomes of calls sent before say nothing new.
    was_tried: bool,
}

impl Ejection {
    /// The cause of the current episode; `None` if the instance is neither ejected nor half-open.
    pub(in crate::instance) fn cause(&self) -> Option<Cause> {
        self.current.map(|episode| episode.cause)
    }

    /// The time from which it takes one call as a trial. `None` while a trial is under way, or without an
    /// episode.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        self.current.filter(|episode| episode.trials == 0).map(|episode| episode.until)
    }

    /// Returns true if the ejection is over and calls find out whether the instance has recovered.
    pub(super) fn is_half_open(&self, now: Instant) -> bool {
        self.current.is_some_and(|episode| episode.until <= now)
    }

    /// The end of an ejection for slow or failed responses that lasts. Such ejections count towards the share
    /// of the fleet.
    pub(in crate::instance) fn counted_until(&self, now: Instant) -> Option<Instant> {
        let counted = |episode: &Episode| episode.until > now && episode.cause.blame() != Blame::Unreachable;
        self.current.filter(counted).map(|episode| episode.until)
    }

    /// The start of the last episode, whether or not it is over.
    pub(in crate::instance) fn started_at(&self) -> Option<Instant> {
        self.started_at
    }

    /// Notes that a new call is about to be sent.
    pub(super) fn attempt_started(&mut self) {
        if let Some(episode) = &mut self.current {
            episode.trials = episode.trials.saturating_add(1);
            episode.was_tried = true;
        }
    }

    /// The number of the current episode, by which a trial of it is recognised when it ends.
    pub(in crate::instance) fn number(&self) -> Option<u32> {
        self.current.map(|_| self.number)
    }

    /// Notes that a trial of the episode with this number has ended, whatever its outcome.
    pub(super) fn trial_ended(&mut self, number: u32) {
        if number == self.number
            && let Some(episode) = &mut self.current
        {
            episode.trials = episode.trials.saturating_sub(1);
        }
    }

    /// A new call failed. `grant` says whether the instance may be ejected until a time.
    pub(super) fn call_failed(&mut self, cause: Cause, now: Instant, grant: impl FnOnce(Instant) -> bool) {
        let is_news = self.current.is_none_or(|episode| episode.was_tried)
            // A refused connection is no old call: it failed at once.
            || cause.blame() == Blame::Unreachable;
        if is_news {
            self.callback_failed(cause, now, grant);
        }
    }

    /// Another instance accepted a new call first. One lost race says little, several in a row are a failure.
    pub(super) fn race_lost(&mut self, now: Instant, grant: impl FnOnce(Instant) -> bool) {
        self.lost_races = self.lost_races.saturating_add(1);
        if self.lost_races >= LOST_RACES {
            self.lost_races = 0;
            self.call_failed(Cause::RacesLost, now, grant);
        }
    }

    /// The instance responded to a new call. Returns true if that ended its ejection.
    pub(super) fn call_responded(&mut self) -> bool {
        self.lost_races = 0;
        self.successes = self.successes.saturating_add(1);
        if self.successes >= SUCCESSES {
            self.doublings = 0;
        }
        self.current.take_if(|episode| episode.was_tried).is_some()
    }

    /// Ends the episode without a response: the instance takes no new calls for another reason, or its probe
    /// decides.
    pub(super) fn end(&mut self) {
        self.current = None;
    }

    /// A callback failed that was sent after the last episode started.
    pub(super) fn callback_failed(
        &mut self,
        cause: Cause,
        now: Instant,
        grant: impl FnOnce(Instant) -> bool,
    ) {
        if cause.blame() == Blame::None {
            return;
        }
        self.successes = 0;
        self.lost_races = 0;
        if self.current.is_some_and(|episode| now < episode.until) {
            return;
        }
        let until = now + self.duration(cause);
        let is_ejected = cause.blame() == Blame::Unreachable || grant(until);
        if is_ejected {
            self.double(cause);
        }
        // Half-open at once if too much of the fleet is ejected.
        let until = if is_ejected { until } else { now };
        self.number = self.number.wrapping_add(1);
        self.started_at = Some(now);
        self.current = Some(Episode { cause, until, trials: 0, was_tried: false });
    }

    fn duration(&self, cause: Cause) -> Duration {
        let max = if cause.blame() == Blame::Busy { EJECTION_BUSY_MAX } else { EJECTION_MAX };
        EJECTION_MIN.saturating_mul(1 << self.doublings.min(DOUBLINGS_MAX)).min(max)
    }

    /// Doubles the time of the next episode. A busy instance does not earn the long times of a broken one.
    fn double(&mut self, cause: Cause) {
        let max = if cause.blame() == Blame::Busy { DOUBLINGS_BUSY_MAX } else { DOUBLINGS_MAX };
        self.doublings = self.doublings.max(self.doublings.saturating_add(1).min(max));
    }
}

/// The first ejection: a garbage collection or a lost packet costs no more.
pub(crate) const EJECTION_MIN: Duration = Duration::from_secs(1);
/// The longest ejection: a broken instance costs one call a minute, and a repaired one is back in a minute.
const EJECTION_MAX: Duration = Duration::from_secs(60);
/// The longest ejection after a 503: a busy instance has room again when a call ends.
const EJECTION_BUSY_MAX: Duration = Duration::from_secs(5);
/// 64 s, which is over [`EJECTION_MAX`].
const DOUBLINGS_MAX: u32 = 6;
/// 8 s, which is over [`EJECTION_BUSY_MAX`].
const DOUBLINGS_BUSY_MAX: u32 = 3;
/// Responses to new calls in a row after which earlier episodes are forgotten. An instance that fails every
/// other call rarely reaches it, and an instance that recovered reaches it soon.
const SUCCESSES: u32 = 10;
/// Lost races in a row that count as a failure. An instance that is slower than the others for a moment loses
/// one.
const LOST_RACES: u32 = 3;

#[cfg(test)]
mod tests;
