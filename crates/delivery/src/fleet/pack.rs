//! `Pack`: the order in which new calls fill the instances one after the other.

use std::iter;

use switchboard_routing::{Candidate, fill_order};

use crate::instance::{Clock, Eligibility, Rankable};

/// The order in which new calls fill the instances of a fleet.
#[derive(Debug)]
pub(super) struct Pack {
    /// The part of its capacity up to which an instance is filled.
    share: f64,
    /// The place of each instance of the fleet.
    places: Vec<usize>,
}

impl Pack {
    /// The order of all instances of a fleet, which `candidates` are.
    pub(super) fn new(share: f64, candidates: &[Candidate]) -> Self {
        let mut places = vec![usize::MAX; candidates.len()];
        for (place, at) in fill_order(candidates).enumerate() {
            if let Some(slot) = places.get_mut(at) {
                *slot = place;
            }
        }
        Self { share, places }
    }

    /// Sorts instances in the order in which they are filled.
    pub(super) fn sort(&self, list: &mut [Rankable]) {
        list.sort_unstable_by_key(|one| self.place(one));
    }

    /// The instances that are to be filled: eligible and below the share. The lists are sorted.
    ///
    /// It reads the instances that are filled already, and allocates nothing.
    pub(super) fn to_fill<'f>(
        &'f self,
        lists: [impl Iterator<Item = &'f Rankable>; 2],
        clock: Clock,
    ) -> impl Iterator<Item = usize> {
        let is_to_fill = move |one: &&Rankable| {
            one.eligibility(clock) == Eligibility::Eligible && one.is_below(self.share, clock)
        };
        self.merge(lists).filter(is_to_fill).map(|one| one.at)
    }

    /// Merges two sorted lists.
    fn merge<'f>(
        &'f self,
        lists: [impl Iterator<Item = &'f Rankable>; 2],
    ) -> impl Iterator<Item = &'f Rankable> {
        let [mut one, mut other] = lists.map(Iterator::peekable);
        iter::from_fn(move || {
            let is_first = match (one.peek(), other.peek()) {
                (Some(first), Some(second)) => self.place(first) < self.place(second),
                (first, _) => first.is_some(),
            };
            if is_first { one.next() } else { other.next() }
        })
    }

    fn place(&self, one: &Rankable) -> usize {
        self.places.get(one.at).copied().unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests;
