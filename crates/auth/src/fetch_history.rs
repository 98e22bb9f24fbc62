//! `FetchHistory`: the fetches of one trust so far, and what they say about a key that is not in the current
//! set.

use std::time::Duration;

use tokio::time::Instant;

/// The number of finished fetches, and the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FetchHistory {
    finished: u64,
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
    /// Reject the token: a set that was fetched within the cool-down does not contain the key.
    Missing,
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
        self.last = Some(FetchAttempt { started: now, outcome: FetchOutcome::Unfinished });
    }

    /// Records the outcome of the fetch that was started last.
    pub(crate) fn finish(&mut self, succeeded: bool) {
        self.finished += 1;
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

    pub(crate) fn finished(&self) -> u64 {
        self.finished
    }

    pub(crate) fn last(&self) -> Option<FetchAttempt> {
        self.last
    }

    /// Judges a key that is not in the current set. `finished_before` is the number of fetches that had
    /// finished when the request arrived: a fetch that finished since then counts, however short the
    /// cool-down.
    pub(crate) fn judge(&self, finished_before: u64, cooldown: Duration, now: Instant) -> Judgement {
        let Some(last) = self.last else { return Judgement::Wait };
        let counts =
            self.finished > finished_before || now.saturating_duration_since(last.started) < cooldown;
        match last.outcome {
            FetchOutcome::Unfinished => Judgement::Wait,
            FetchOutcome::Succeeded if counts => Judgement::Missing,
            FetchOutcome::Failed if counts => Judgement::Unavailable,
            FetchOutcome::Succeeded | FetchOutcome::Failed => Judgement::AskForFetch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(outcome: Option<FetchOutcome>, finished: u64, age_s: u64, expected: Judgement) {
        let started = Instant::now();
        let last = outcome.map(|outcome| FetchAttempt { started, outcome });
        let now = started + Duration::from_secs(age_s);
        let judgement = FetchHistory { finished, last }.judge(3, Duration::from_secs(30), now);
        assert_eq!(judgement, expected, "{outcome:?} {finished} {age_s}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_missing_only_after_a_recent_fetch_that_succeeded() {
        check(None, 3, 0, Judgement::Wait);
        check(Some(FetchOutcome::Unfinished), 3, 0, Judgement::Wait);
        check(Some(FetchOutcome::Unfinished), 3, 31, Judgement::Wait);
        check(Some(FetchOutcome::Succeeded), 3, 29, Judgement::Missing);
        check(Some(FetchOutcome::Succeeded), 3, 30, Judgement::AskForFetch);
        check(Some(FetchOutcome::Failed), 3, 29, Judgement::Unavailable);
        check(Some(FetchOutcome::Failed), 3, 30, Judgement::AskForFetch);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_finished_since_the_request_arrived_counts() {
        check(Some(FetchOutcome::Succeeded), 4, 31, Judgement::Missing);
        check(Some(FetchOutcome::Failed), 4, 31, Judgement::Unavailable);
        check(Some(FetchOutcome::Unfinished), 4, 31, Judgement::Wait);
    }
}
