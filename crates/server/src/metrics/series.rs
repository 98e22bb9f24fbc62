//! Counters by label, and histograms, as plain atomics.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

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
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Returns the counts, in the order of the set.
    pub(super) fn read(&self) -> [u64; N] {
        array::from_fn(|index| self.counts.get(index).map_or(0, |count| count.load(Relaxed)))
    }
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

    /// Returns the labels and counts, in the order of the labels.
    pub(super) fn read(&self) -> Vec<([Box<str>; N], u64)> {
        let counters = self.counters.load();
        let mut counts: Vec<_> =
            counters.iter().map(|counter| (counter.labels.clone(), counter.count.load(Relaxed))).collect();
        counts.sort_unstable();
        counts
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

/// Durations, counted in buckets.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// One counter per bound: the durations up to it and above the one before. The last counts all above the
    /// last bound.
    counts: IndexedCounters<{ BOUNDS.len() + 1 }>,
    /// Enough for 584 years.
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        self.counts.increment(BOUNDS.partition_point(|bound| *bound < duration));
        self.sum_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn read(&self) -> HistogramReading {
        let counts = self.counts.read();
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        HistogramReading {
            sum_seconds: Duration::from_nanos(self.sum_ns.load(Relaxed)).as_secs_f64(),
            count: counts.iter().sum(),
            buckets: bounds.zip(counts).collect(),
        }
    }
}

/// The values of a histogram at one moment.
#[derive(Debug)]
pub(super) struct HistogramReading {
    pub(super) sum_seconds: f64,
    pub(super) count: u64,
    /// The upper bound of each bucket in seconds, and the number of durations in it.
    pub(super) buckets: Vec<(f64, u64)>,
}

/// The bounds of the buckets. They start at the time of a callback on an idle machine and end at the 15 s
/// within which the platform expects an answer. The default budgets of 3.5 s and 12 s each have a bound on
/// both sides.
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

const COUNTERS_MAX: usize = 1024;
const OTHERS: &str = "others";
