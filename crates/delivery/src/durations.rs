//! `Histogram`: durations, counted in buckets, and those of attempts and probes.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Durations, counted in buckets. All threads share it: an observation is two atomic additions.
#[derive(Debug)]
pub struct Histogram {
    /// One counter per bound: the durations up to it and above the one before. The last counts all above the
    /// last bound.
    counts: [AtomicU64; BOUNDS_NS.len() + 1],
    /// Enough for 584 years.
    sum_ns: AtomicU64,
}

/// The values of a histogram at one moment.
#[derive(Clone, Debug)]
pub struct HistogramReading {
    /// The sum of all durations.
    pub sum: Duration,
    /// The upper bound of each bucket in seconds, and the number of durations up to it. The last bound is
    /// infinite, so its number is that of all durations.
    pub buckets: Vec<(f64, u64)>,
}

/// The durations of the attempts at instances and of their probes. They outlive a reload.
#[derive(Debug, Default)]
pub struct DeliveryDurations {
    /// Attempts to which an instance responded.
    pub attempts_ok: Histogram,
    /// Attempts that failed, also by a response that counts as a failure.
    pub attempts_failed: Histogram,
    /// Probes with a valid report.
    pub probes_ok: Histogram,
    /// Probes without one.
    pub probes_missed: Histogram,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: array::from_fn(|_| AtomicU64::new(0)), sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < ns);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// Returns the current values.
    pub fn read(&self) -> HistogramReading {
        let bounds = BOUNDS_NS.iter().map(|ns| Duration::from_nanos(*ns).as_secs_f64());
        let mut total = 0_u64;
        let cumulative = self.counts.iter().map(|count| {
            total = total.saturating_add(count.load(Relaxed));
            total
        });
        HistogramReading {
            buckets: bounds.chain([f64::INFINITY]).zip(cumulative).collect(),
            sum: Duration::from_nanos(self.sum_ns.load(Relaxed)),
        }
    }
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;

/// The bounds of the buckets. They start at the time of a callback on an idle machine and end at the 15 s
/// within which the platform expects an answer. The default budgets of 3.5 s and 12 s each have a bound on
/// both sides.
const BOUNDS_NS: [u64; 16] = [
    500 * MICROSECOND,
    MILLISECOND,
    2_500 * MICROSECOND,
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    50 * MILLISECOND,
    100 * MILLISECOND,
    250 * MILLISECOND,
    500 * MILLISECOND,
    SECOND,
    2_500 * MILLISECOND,
    5 * SECOND,
    8 * SECOND,
    12 * SECOND,
    15 * SECOND,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_histogram_counts_each_duration_in_its_buckets(
            micros in proptest::collection::vec(0_u64..20_000_000, 0..50),
        ) {
            let histogram = Histogram::default();
            let durations: Vec<_> = micros.into_iter().map(Duration::from_micros).collect();
            for duration in &durations {
                histogram.observe(*duration);
            }
            let HistogramReading { sum, buckets } = histogram.read();
            prop_assert_eq!(buckets.len(), 17);
            for (bound, count) in buckets {
                let expected = durations.iter().filter(|duration| duration.as_secs_f64() <= bound).count();
                prop_assert_eq!(count, u64::try_from(expected).unwrap());
            }
            prop_assert_eq!(sum, durations.iter().sum::<Duration>());
        }
    }

    #[test]
    fn a_duration_that_is_a_bound_is_in_its_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::MAX);
        let buckets = histogram.read().buckets;
        assert_eq!((buckets[0], buckets[1]), ((0.0005, 0), (0.001, 1)));
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 2)));
    }
}
