//! `FetchHistory`: the fetches of one trust so far, and what they say about a key that is not in the current
//! set.
//!
//! A token is rejected only for a fetch that began after its request arrived. An unauthenticated sender can
//! cause a fetch with any key id, so an earlier fetch proves nothing about a key that the issuer has
//! published since, or that had not reached all edges of the issuer.

use std::time::Duration;

use tokio::time::Instant;

/// The number of started fetches, and the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FetchHistory {
    started: u64,
    last: Option<FetchAttempt>,
}

/// One fetch of both documents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchAttempt {
    /// The cool-down starts here, whatever the outcome: otherwise, fifty requests that wait for a dead
    /// endpoint would cause fifty fetches in a row.
    pub(crate) started: Instant,
    pub(crate) outcome: FetchOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchOutcome {
    Unfinished,
    Succeeded,
    Failed,
}

/// The next step of a request whose key is not in the current set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Reject the token: a set that was fetched for this request does not contain the key.
    Missing,
    /// Give up: the last fetch began before the request arrived, and the next one is not allowed yet.
    NotFetched,
    /// Give up: the last fetch failed, and the next one is not allowed yet.
    Unavailable,
    /// Wait: a fetch is in flight.
    Wait,
    /// Ask for a fetch, then wait: the cool-down is over.
    AskForFetch,
}

impl FetchHistory {
    /// Records the start of a fetch.
    pub(crate) fn start(&mut self, now: Instant) {
        self.started += 1;
        self.last = Some(FetchAttempt { started: now, outcome: FetchOutcome::Unfinished });
    }

    /// Records the outcome of the fetch that was started last.
    pub(crate) fn finish(&mut self, succeeded: bool) {
        if let Some(last) = &mut self.last {
            last.outcome = if succeeded { FetchOutcome::Succeeded } else { FetchOutcome::Failed };
        }
    }

    /// Returns the history for a successor. A fetch in flight counts as failed: the task that runs it is
    /// about to stop.
    pub(crate) fn inherited(mut self) -> Self {
        if let Some(last) = &mut self.last
            && last.outcome == FetchOutcome::Unfinished
        {
            last.outcome = FetchOutcome::Failed;
        }
        self
    }

    /// Returns the number of started fetches. A request notes it when it arrives.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    pub(crate) fn last(&self) -> Option<FetchAttempt> {
        self.last
    }

    /// Judges a key that is not in the current set, for a request before which `started_before` fetches had
    /// started.
    pub(crate) fn judge(&self, started_before: u64, cooldown: Duration, now: Instant) -> Judgement {
        let Some(last) = self.last else { return Judgement::Wait };
        let is_for_request = self.started > started_before;
        let cools_down = now.saturating_duration_since(last.started) < cooldown;
        match last.outcome {
            FetchOutcome::Unfinished => Judgement::Wait,
            FetchOutcome::Succeeded if is_for_request => Judgement::Missing,
            FetchOutcome::Succeeded if cools_down => Judgement::NotFetched,
            FetchOutcome::Failed if is_for_request || cools_down => Judgement::Unavailable,
            FetchOutcome::Succeeded | FetchOutcome::Failed => Judgement::AskForFetch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last fetch began `age_s` ago, before or after the request.
    #[track_caller]
    fn check(outcome: Option<FetchOutcome>, age_s: u64, is_for_request: bool, expected: Judgement) {
        let started = Instant::now();
        let last = outcome.map(|outcome| FetchAttempt { started, outcome });
        let now = started + Duration::from_secs(age_s);
        let started_before = if is_for_request { 2 } else { 3 };
        let judgement = FetchHistory { started: 3, last }.judge(started_before, Duration::from_secs(30), now);
        assert_eq!(judgement, expected, "{outcome:?} {age_s} {is_for_request}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_before_the_request_proves_nothing() {
        check(None, 0, false, Judgement::Wait);
        check(Some(FetchOutcome::Unfinished), 0, false, Judgement::Wait);
        check(Some(FetchOutcome::Unfinished), 31, false, Judgement::Wait);
        check(Some(FetchOutcome::Succeeded), 0, false, Judgement::NotFetched);
        check(Some(FetchOutcome::Succeeded), 29, false, Judgement::NotFetched);
        check(Some(FetchOutcome::Succeeded), 30, false, Judgement::AskForFetch);
        check(Some(FetchOutcome::Failed), 29, false, Judgement::Unavailable);
        check(Some(FetchOutcome::Failed), 30, false, Judgement::AskForFetch);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_since_the_request_decides() {
        for age_s in [0, 1, 31] {
            check(Some(FetchOutcome::Succeeded), age_s, true, Judgement::Missing);
            check(Some(FetchOutcome::Failed), age_s, true, Judgement::Unavailable);
            check(Some(FetchOutcome::Unfinished), age_s, true, Judgement::Wait);
        }
    }
}
