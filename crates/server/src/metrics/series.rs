//! Counters by label and histograms, as plain atomics.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

/// A counter for each value of a closed set, found by its place in that set.
#[derive(Debug)]
pub(super) struct Counters<const N: usize> {
    counts: [AtomicU64; N],
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self { counts: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const N: usize> Counters<N> {
    pub(super) fn increment(&self, index: usize) {
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The counts, in the order of the set.
    pub(super) fn read(&self) -> [u64; N] {
        array::from_fn(|index| self.counts.get(index).map_or(0, |count| count.load(Relaxed)))
    }
}

/// A counter for each combination of label values that occurred. The values come from configuration and from our own
/// code, so there are few: a search over all of them is cheaper than a hash, and the list changes so rarely that
/// nobody waits for it.
#[derive(Debug)]
pub(super) struct Labelled<const N: usize> {
    entries: ArcSwap<Vec<Arc<Entry<N>>>>,
}

#[derive(Debug)]
struct Entry<const N: usize> {
    labels: [Box<str>; N],
    count: AtomicU64,
}

impl<const N: usize> Default for Labelled<N> {
    fn default() -> Self {
        Self { entries: ArcSwap::default() }
    }
}

impl<const N: usize> Labelled<N> {
    pub(super) fn increment(&self, labels: [&str; N]) {
        if let Some(entry) = find(&self.entries.load(), labels) {
            entry.count.fetch_add(1, Relaxed);
            return;
        }
        // Should labels ever come from outside, they would share one entry instead of filling the memory.
        let full = self.entries.load().len() >= ENTRIES_MAX;
        let labels = if full { [OTHERS; N] } else { labels };
        self.entries.rcu(|entries| {
            let mut entries = Vec::clone(entries);
            if find(&entries, labels).is_none() {
                entries.push(Arc::new(Entry { labels: labels.map(Box::from), count: AtomicU64::new(0) }));
            }
            entries
        });
        if let Some(entry) = find(&self.entries.load(), labels) {
            entry.count.fetch_add(1, Relaxed);
        }
    }

    /// The labels and counts, in the order of the labels.
    pub(super) fn read(&self) -> Vec<([Box<str>; N], u64)> {
        let entries = self.entries.load();
        let mut counts: Vec<_> =
            entries.iter().map(|entry| (entry.labels.clone(), entry.count.load(Relaxed))).collect();
        counts.sort_unstable();
        counts
    }
}

fn find<'e, const N: usize>(entries: &'e [Arc<Entry<N>>], labels: [&str; N]) -> Option<&'e Entry<N>> {
    entries
        .iter()
        .map(|entry| &**entry)
        .find(|entry| entry.labels.iter().zip(labels).all(|(known, label)| **known == *label))
}

/// Durations, counted by size.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Of the durations up to each of `BOUNDS` and above the one before; the last holds what is above all of them.
    counts: Counters<{ BOUNDS.len() + 1 }>,
    /// Enough for 584 years.
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        self.counts.increment(BOUNDS.partition_point(|bound| *bound < duration));
        self.sum_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The sum in seconds, the number of durations, and how many there are in each bucket by its upper bound in seconds.
    pub(super) fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let counts = self.counts.read();
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let sum = Duration::from_nanos(self.sum_ns.load(Relaxed)).as_secs_f64();
        (sum, counts.iter().sum(), bounds.zip(counts).collect())
    }
}

/// From what a callback costs on an idle machine to the 15 s that the platform waits for an answer, with the 3.5 s and
/// 12 s of the default budgets between two bounds each.
const BOUNDS: [Duration; 16] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(8),
    Duration::from_secs(12),
    Duration::from_secs(15),
];

const ENTRIES_MAX: usize = 1024;
const OTHERS: &str = "others";
