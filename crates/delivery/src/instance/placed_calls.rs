//! The calls that this gateway placed at one instance and has not seen end.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

/// The key of a call: a hash of its id, ignoring case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallKey(u64);

impl CallKey {
    pub(crate) fn of(call_id: &str) -> Self {
        Self(SEED.hash_one(call_id.to_ascii_lowercase()))
    }

    #[cfg(test)]
    pub(super) const fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// The calls that this gateway placed at one instance and has not seen end, in the order of placement.
///
/// A call whose outcome is unknown has no key: its end is not recognised, and it stays until it is forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct PlacedCalls {
    by_key: HashMap<CallKey, Placement>,
    /// The placements, oldest first. The placement of a call that ended stays until it is the oldest, or
    /// until more than half are such.
    order: VecDeque<(Placement, Option<CallKey>)>,
    /// The number of placements without a key in `order`.
    without_key: usize,
    next: Placement,
}

/// The number of a placement at its instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Placement(u64);

impl PlacedCalls {
    /// Adds a call. Returns its earlier placement if it is there already: the platform may repeat a call.
    pub(super) fn add(&mut self, key: Option<CallKey>) -> Option<Placement> {
        let placement = self.next;
        self.next = Placement(placement.0.wrapping_add(1));
        let earlier = key.and_then(|key| self.by_key.insert(key, placement));
        if key.is_none() {
            self.without_key = self.without_key.saturating_add(1);
        }
        self.order.push_back((placement, key));
        self.tidy();
        earlier
    }

    /// Removes a call. Returns its placement if it was there.
    pub(super) fn remove(&mut self, key: CallKey) -> Option<Placement> {
        let placement = self.by_key.remove(&key);
        self.tidy();
        placement
    }

    /// The number of calls, those without a key included.
    pub(super) fn len(&self) -> usize {
        self.by_key.len().saturating_add(self.without_key)
    }

    /// The next placement: all current ones come before it.
    pub(super) fn next(&self) -> Placement {
        self.next
    }

    /// Forgets the `count` oldest calls.
    pub(super) fn forget_oldest(&mut self, count: usize) {
        let kept = self.len().saturating_sub(count);
        while self.len() > kept {
            match self.order.pop_front() {
                Some((_, None)) => self.without_key = self.without_key.saturating_sub(1),
                Some((placement, Some(key))) if self.by_key.get(&key) == Some(&placement) => {
                    self.by_key.remove(&key);
                }
                Some(_) => {}
                None => break,
            }
        }
        self.tidy();
    }

    /// Drops the placements of ended calls when they are more than half of `order`: constant time for each
    /// call.
    fn tidy(&mut self) {
        if self.order.len() > self.len().saturating_mul(2).saturating_add(ENDED_MIN) {
            let by_key = &self.by_key;
            self.order.retain(|(placement, key)| key.is_none_or(|key| by_key.get(&key) == Some(placement)));
            self.order.shrink_to(self.order.len().saturating_mul(2));
            self.by_key.shrink_to(self.by_key.len().saturating_mul(2));
        }
    }
}

/// A seed of this process, so that a sender cannot construct ids whose hashes collide.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Placements of ended calls that are not worth a pass.
const ENDED_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_once_whatever_the_case_of_its_id() {
        let mut calls = PlacedCalls::default();
        calls.add(Some(CallKey::of("A1")));
        assert_eq!(calls.len(), 1);
        assert_eq!(calls.remove(CallKey::of("b2")), None);
        assert!(calls.remove(CallKey::of("a1")).is_some());
        assert_eq!(calls.remove(CallKey::of("a1")), None);
    }

    #[test]
    fn the_oldest_calls_are_forgotten_first() {
        let mut calls = PlacedCalls::default();
        for id in ["a", "b", "c", "d"] {
            calls.add(Some(CallKey::of(id)));
        }
        calls.add(None);
        // Placed again, so it is the newest now.
        calls.add(Some(CallKey::of("a")));
        calls.remove(CallKey::of("b"));
        assert_eq!(calls.len(), 4);
        calls.forget_oldest(2);
        assert_eq!(calls.len(), 2);
        assert!(calls.remove(CallKey::of("c")).is_none() && calls.remove(CallKey::of("d")).is_none());
        calls.forget_oldest(1);
        assert_eq!(calls.len(), 1);
        assert!(calls.remove(CallKey::of("a")).is_some());
        calls.forget_oldest(1);
        assert_eq!(calls.len(), 0);
    }

    #[test]
    fn ended_calls_take_no_memory() {
        let mut calls = PlacedCalls::default();
        calls.add(Some(CallKey::of("stays")));
        for id in 0..100_000 {
            let key = CallKey::of(&id.to_string());
            calls.add(Some(key));
            calls.remove(key);
            assert!(calls.order.len() <= 2 + ENDED_MIN + 2);
        }
        assert!(calls.order.capacity() + calls.by_key.capacity() < 200);
    }
}
