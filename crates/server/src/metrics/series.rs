//! Counters by label, as plain atomics.

use std::{
    array,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;

use crate::request::outcome::Outcome;

/// One counter for each value of a closed set, found by its index in the set.
#[derive(Debug)]
pub(super) struct IndexedCounters<const N: usize> {
    counts: [AtomicU64; N],
}

impl<const N: usize> Default for IndexedCounters<N> {
    fn default() -> Self {
        Self { counts: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const N: usize> IndexedCounters<N> {
    pub(super) fn increment(&self, index: usize) {
        self.add(index, 1);
    }

    pub(super) fn add(&self, index: usize, count: u64) {
        if let Some(counter) = self.counts.get(index) {
            counter.fetch_add(count, Relaxed);
        }
    }

    /// Returns the counts, in the order of the set.
    pub(super) fn read(&self) -> [u64; N] {
        array::from_fn(|index| self.counts.get(index).map_or(0, |count| count.load(Relaxed)))
    }
}

/// One counter for each outcome.
pub(super) type OutcomeCounters = IndexedCounters<{ Outcome::ALL.len() }>;

#[expect(
    clippy::as_conversions,
    reason = "the discriminant of a fieldless enum is its index in `Outcome::ALL`"
)]
pub(super) fn index_of(outcome: Outcome) -> usize {
    outcome as usize
}

/// One counter for each combination of label values that occurred.
///
/// The values come from the configuration and from this crate, so there are few. A search over all of them is
/// cheaper than a hash, and the list rarely changes.
#[derive(Debug)]
pub(super) struct LabelledCounters<const N: usize> {
    counters: ArcSwap<Vec<Arc<LabelledCounter<N>>>>,
}

#[derive(Debug)]
struct LabelledCounter<const N: usize> {
    labels: [Box<str>; N],
    count: AtomicU64,
}

impl<const N: usize> Default for LabelledCounters<N> {
    fn default() -> Self {
        Self { counters: ArcSwap::default() }
    }
}

impl<const N: usize> LabelledCounters<N> {
    pub(super) fn increment(&self, labels: [&str; N]) {
        if let Some(counter) = find(&self.counters.load(), labels) {
            counter.count.fetch_add(1, Relaxed);
            return;
        }
        // If labels ever come from outside, they share one counter instead of filling the memory.
        let full = self.counters.load().len() >= COUNTERS_MAX;
        let labels = if full { [OTHERS; N] } else { labels };
        self.counters.rcu(|counters| {
            let mut counters = Vec::clone(counters);
            if find(&counters, labels).is_none() {
                counters.push(Arc::new(LabelledCounter {
                    labels: labels.map(Box::from),
                    count: AtomicU64::new(0),
                }));
            }
            counters
        });
        if let Some(counter) = find(&self.counters.load(), labels) {
            counter.count.fetch_add(1, Relaxed);
        }
    }

    /// Returns the labels and counts, in the order of the labels. The counters of `known` are there in any
    /// case: a rate needs a first value to start from.
    pub(super) fn read<'l>(
        &self,
        known: impl IntoIterator<Item = [&'l str; N]>,
    ) -> BTreeMap<[Box<str>; N], u64> {
        let known = known.into_iter().map(|labels| (labels.map(Box::from), 0));
        let counters = self.counters.load();
        let counted = counters.iter().map(|counter| (counter.labels.clone(), counter.count.load(Relaxed)));
        known.chain(counted).collect()
    }
}

fn find<'e, const N: usize>(
    counters: &'e [Arc<LabelledCounter<N>>],
    labels: [&str; N],
) -> Option<&'e LabelledCounter<N>> {
    counters
        .iter()
        .map(|counter| &**counter)
        .find(|counter| counter.labels.iter().zip(labels).all(|(known, label)| **known == *label))
}

const COUNTERS_MAX: usize = 1024;
const OTHERS: &str = "others";
