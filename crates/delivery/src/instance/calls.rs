//! The calls that this gateway placed at one instance and has not seen end.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
    time::Duration,
};

use tokio::time::Instant;

/// The calls that this gateway placed at one instance: hashes of their ids, whatever the case, and when they began.
#[derive(Debug, Default)]
pub(crate) struct Calls(HashMap<u64, Instant>);

impl Calls {
    pub(crate) fn begin(&mut self, call_id: &str, now: Instant) {
        if self.0.len() >= CALLS_MAX {
            // Those whose end another gateway saw, or nobody.
            self.0.retain(|_, since| now.saturating_duration_since(*since) < AGE_MAX);
        }
        if self.0.len() < CALLS_MAX {
            self.0.insert(key(call_id), now);
        }
    }

    /// Whether it was there.
    pub(crate) fn end(&mut self, call_id: &str) -> bool {
        !self.0.is_empty() && self.0.remove(&key(call_id)).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets the calls that began before `before`: the instance says that it has none.
    pub(crate) fn forget(&mut self, before: Instant) {
        self.0.retain(|_, since| *since >= before);
    }
}

fn key(call_id: &str) -> u64 {
    SEED.hash_one(call_id.to_ascii_lowercase())
}

/// Of this process alone, so that nobody can make up ids that meet.
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
        let mut calls = Calls::default();
        calls.begin("A1", Instant::now());
        assert_eq!(calls.len(), 1);
        assert!(!calls.end("b2"));
        assert!(calls.end("a1"));
        assert!(!calls.end("a1"));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_nobody_saw_end_give_way_after_a_day() {
        let mut calls = Calls::default();
        for call in 0..CALLS_MAX + 10 {
            calls.begin(&call.to_string(), Instant::now());
        }
        assert_eq!(calls.len(), CALLS_MAX);
        tokio::time::advance(AGE_MAX).await;
        calls.begin("new", Instant::now());
        assert_eq!(calls.len(), 1);
    }
}
