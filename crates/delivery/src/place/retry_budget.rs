//! The retry budget of the fleet: hedges and further attempts in proportion to the calls of the last seconds.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The budget of attempts beyond the first written one of each call. All threads share it.
///
/// Without it, a fleet that is slow as a whole would get two or three times the requests of the calm, which
/// keeps it slow.
#[derive(Debug)]
pub(super) struct RetryBudget {
    window: Mutex<Window>,
    epoch: Instant,
}

/// The second in which a retry was counted, to give it back.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountedIn(u64);

/// The last seconds.
#[derive(Debug, Default)]
struct Window {
    /// The current second, counted from the epoch.
    now: u64,
    seconds: [Second; SECONDS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    calls: u64,
    retries: u64,
}

impl RetryBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { window: Mutex::default(), epoch: now }
    }

    /// Counts a new call.
    pub(super) fn count_call(&self, now: Instant) {
        let (mut window, second) = self.at(now);
        if let Some(second) = window.second(second) {
            second.calls = second.calls.saturating_add(1);
        }
    }

    /// Counts a retry, if there is budget left for it.
    pub(super) fn take(&self, now: Instant) -> Option<CountedIn> {
        let (mut window, second) = self.at(now);
        let calls: u64 = window.seconds.iter().map(|second| second.calls).sum();
        let retries: u64 = window.seconds.iter().map(|second| second.retries).sum();
        if retries >= RETRIES_MIN.max(calls / CALLS_PER_RETRY) {
            return None;
        }
        let counted = window.second(second)?;
        counted.retries = counted.retries.saturating_add(1);
        Some(CountedIn(second))
    }

    /// Takes back the count of a retry that did not happen.
    pub(super) fn give_back(&self, counted: CountedIn, now: Instant) {
        let (mut window, _) = self.at(now);
        if window.now.saturating_sub(counted.0) < SECONDS_COUNT
            && let Some(second) = window.second(counted.0)
        {
            second.retries = second.retries.saturating_sub(1);
        }
    }

    /// The window at a time, and the second of that time.
    fn at(&self, now: Instant) -> (MutexGuard<'_, Window>, u64) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.advance(now.saturating_duration_since(self.epoch).as_secs());
        let second = window.now;
        (window, second)
    }
}

impl Window {
    /// Forgets the seconds that have left the window.
    fn advance(&mut self, now: u64) {
        // Another thread may have read a later time.
        let passed = now.saturating_sub(self.now);
        for second in (1..=passed.min(SECONDS_COUNT)).map(|back| now.saturating_sub(back - 1)) {
            if let Some(second) = self.second(second) {
                *second = Second::default();
            }
        }
        self.now = self.now.max(now);
    }

    fn second(&mut self, second: u64) -> Option<&mut Second> {
        self.seconds.get_mut(usize::try_from(second % SECONDS_COUNT).ok()?)
    }
}

/// The length of the window: long enough to smooth bursts, short enough to follow a change of load.
const WINDOW: Duration = Duration::from_secs(10);
const SECONDS: usize = 10;
const SECONDS_COUNT: u64 = WINDOW.as_secs();
/// One retry in five calls, 20 %: what a fleet with a fifth of its instances failing needs.
const CALLS_PER_RETRY: u64 = 5;
/// The retries that a window has at least, three a second: a fleet with few calls must fail over, too.
const RETRIES_MIN: u64 = 3 * SECONDS_COUNT;

#[cfg(test)]
mod tests {
    use super::*;

    /// The retries that the budget allows now.
    fn left(budget: &RetryBudget, now: Instant) -> u64 {
        let mut taken = Vec::new();
        while let Some(counted) = budget.take(now) {
            taken.push(counted);
        }
        let left = u64::try_from(taken.len()).unwrap();
        taken.into_iter().for_each(|counted| budget.give_back(counted, now));
        left
    }

    #[test]
    fn the_budget_is_a_floor_and_a_fifth_of_the_calls_of_ten_seconds() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(left(&budget, at(0)), RETRIES_MIN);
        (0..100).for_each(|_| budget.count_call(at(0)));
        assert_eq!(left(&budget, at(0)), RETRIES_MIN);
        (0..900).for_each(|_| budget.count_call(at(0)));
        (0..500).for_each(|_| budget.count_call(at(5)));
        assert_eq!(left(&budget, at(5)), 300);
        (0..290).for_each(|_| assert!(budget.take(at(9)).is_some()));
        assert_eq!(left(&budget, at(9)), 10);
        // The calls of the first second leave the window.
        assert_eq!(left(&budget, at(10)), 0);
        assert_eq!(left(&budget, at(18)), 0);
        assert_eq!(left(&budget, at(19)), RETRIES_MIN);
        assert_eq!(left(&budget, at(100_000)), RETRIES_MIN);
    }

    #[test]
    fn a_retry_is_given_back_only_while_it_counts() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let old = budget.take(start).unwrap();
        let later = start + WINDOW;
        (0..RETRIES_MIN).for_each(|_| assert!(budget.take(later).is_some()));
        budget.give_back(old, later);
        assert_eq!(left(&budget, later), 0);
        // A thread that read the time before another one counts in the current second.
        assert!(budget.take(start).is_none());
    }
}
