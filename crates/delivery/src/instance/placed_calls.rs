//! The calls that this gateway placed at one instance and has not seen end.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
    time::Duration,
};

use tokio::time::Instant;

/// The calls that this gateway placed at one instance: hashes of their ids, ignoring case, and the time of
/// placement.
#[derive(Debug, Default)]
pub(super) struct PlacedCalls(HashMap<u64, Instant>);

impl PlacedCalls {
    pub(super) fn add(&mut self, call_id: &str, now: Instant) {
        if self.0.len() >= CALLS_MAX {
            // Another gateway saw these calls end, or no gateway did.
            self.0.retain(|_, since| now.saturating_duration_since(*since) < AGE_MAX);
        }
        if self.0.len() < CALLS_MAX {
            self.0.insert(key(call_id), now);
        }
    }

    /// Removes a call. Returns true if it was there.
    pub(super) fn remove(&mut self, call_id: &str) -> bool {
        !self.0.is_empty() && self.0.remove(&key(call_id)).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets the calls placed before `before`: the instance reports that it has none.
    pub(super) fn forget(&mut self, before: Instant) {
        self.0.retain(|_, since| *since >= before);
    }
}

fn key(call_id: &str) -> u64 {
    SEED.hash_one(call_id.to_ascii_lowercase())
}

/// A seed of this process, so that a sender cannot construct ids whose hashes collide.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// More than an instance holds at a time. Beyond it calls are not counted.
const CALLS_MAX: usize = 10_000;
/// Calls of Teams end after a day.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_once_whatever_the_case_of_its_id() {
        let mut calls = PlacedCalls::default();
        calls.add("A1", Instant::now());
        assert_eq!(calls.len(), 1);
        assert!(!calls.remove("b2"));
        assert!(calls.remove("a1"));
        assert!(!calls.remove("a1"));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_without_an_observed_end_are_evicted_after_a_day() {
        let mut calls = PlacedCalls::default();
        for call in 0..CALLS_MAX + 10 {
            calls.add(&call.to_string(), Instant::now());
        }
        assert_eq!(calls.len(), CALLS_MAX);
        tokio::time::advance(AGE_MAX).await;
        calls.add("new", Instant::now());
        assert_eq!(calls.len(), 1);
    }
}
