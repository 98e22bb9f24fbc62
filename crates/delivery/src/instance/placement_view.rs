//! The lock-free view of an instance that placement ranks by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use switchboard_routing::{Candidate, Load};
use tokio::time::Instant;

use super::health::Admission;

/// The part of the state of an instance that placement reads without a lock. Times are milliseconds after the
/// epoch of its fleet.
#[derive(Debug, Default)]
pub(crate) struct PlacementView {
    /// The admission in the lower bits, the time of the next trial above them.
    admission: AtomicU64,
    /// Calls in the upper half, capacity in the lower; 0 if the load is not known.
    load: AtomicU64,
    /// The time at which it last became ready after it was cold.
    warming_since: AtomicU64,
    /// The time before which it takes no new call: it responded with 429 and `Retry-After`.
    full_until: AtomicU64,
}

/// The eligibility of an instance for a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eligibility {
    /// It is asked by its rank.
    Eligible,
    /// It is asked after all eligible ones: it is ejected, or refused a connection, or is half-open while its
    /// trial is under way.
    LastResort,
    /// It is not asked.
    Excluded,
}

impl Eligibility {
    /// Returns true if an instance with this eligibility is asked before one with `other`.
    pub(crate) fn is_better_than(self, other: Self) -> bool {
        match (self, other) {
            (Self::Eligible, Self::LastResort | Self::Excluded) | (Self::LastResort, Self::Excluded) => true,
            (Self::Eligible | Self::LastResort | Self::Excluded, _) => false,
        }
    }
}

impl PlacementView {
    /// `to_ms` converts a time, rounded up.
    pub(super) fn set_admission(&self, admission: Admission, to_ms: impl FnOnce(Instant) -> u64) {
        let bits = match admission {
            Admission::All => ALL,
            Admission::TrialFrom(at) => to_ms(at).min(NEVER_MS) << FLAG_BITS | TRIAL,
            Admission::LastResort => NEVER_MS << FLAG_BITS | TRIAL,
            Admission::None => 0,
        };
        self.admission.store(bits, Ordering::Relaxed);
    }

    pub(super) fn set_load(&self, load: Option<Load>) {
        let load = load.map_or(0, |load| u64::from(load.calls) << 32 | u64::from(load.capacity));
        self.load.store(load, Ordering::Relaxed);
    }

    pub(super) fn set_warming_since(&self, ms: u64) {
        self.warming_since.store(ms, Ordering::Relaxed);
    }

    pub(super) fn set_full_until(&self, ms: u64) {
        self.full_until.store(ms, Ordering::Relaxed);
    }

    /// Returns true if it takes no new call because of a 429.
    pub(super) fn is_rate_limited(&self, now_ms: u64) -> bool {
        now_ms < self.full_until.load(Ordering::Relaxed)
    }

    pub(super) fn eligibility(&self, now_ms: u64) -> Eligibility {
        let admission = self.admission.load(Ordering::Relaxed);
        if self.is_rate_limited(now_ms) {
            Eligibility::Excluded
        } else if admission & ALL != 0 {
            Eligibility::Eligible
        } else if admission & TRIAL == 0 {
            Eligibility::Excluded
        } else if admission >> FLAG_BITS > now_ms {
            Eligibility::LastResort
        } else {
            Eligibility::Eligible
        }
    }

    /// The expected load, if it is known.
    fn load(&self) -> Option<Load> {
        let load = self.load.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        (load != 0).then(|| Load { calls: half(load >> 32), capacity: half(load) })
    }

    /// The part of its weight that the instance has, 1 to 100: it rises over the slow start after it became
    /// ready.
    fn warmth_percent(&self, clock: Clock) -> u32 {
        let warmed_ms = clock.now_ms.saturating_sub(self.warming_since.load(Ordering::Relaxed));
        if warmed_ms >= clock.slow_start_ms {
            return WARM;
        }
        let percent = warmed_ms.saturating_mul(WARM.into()).checked_div(clock.slow_start_ms);
        percent.and_then(|percent| u32::try_from(percent).ok()).unwrap_or(WARM).clamp(1, WARM)
    }
}

/// The data of one instance that ranking needs, kept together: each new call reads it for all instances.
#[derive(Clone, Debug)]
pub(crate) struct Rankable {
    view: Arc<PlacementView>,
    name_hash: u64,
    weight: u32,
    /// Its weight once it is warm. With a slow start, weights count hundredths, and a warming instance has
    /// fewer.
    warm_weight: u32,
    /// Its index among the instances of the fleet.
    pub(crate) at: usize,
}

impl Rankable {
    pub(super) fn new(
        view: &Arc<PlacementView>,
        name_hash: u64,
        weight: u32,
        slow_start: Duration,
        at: usize,
    ) -> Self {
        let warm_weight = if slow_start.is_zero() { weight } else { weight.saturating_mul(WARM) };
        Self { view: Arc::clone(view), name_hash, weight, warm_weight, at }
    }

    pub(crate) fn eligibility(&self, clock: Clock) -> Eligibility {
        self.view.eligibility(clock.now_ms)
    }

    /// The candidate with its load and its present weight.
    pub(crate) fn candidate(&self, clock: Clock) -> Candidate {
        let weight = match self.view.warmth_percent(clock) {
            WARM => self.warm_weight,
            percent => self.weight.saturating_mul(percent),
        };
        Candidate { name_hash: self.name_hash, weight, load: self.view.load() }
    }

    /// Returns true if its expected load is known and below `share` of its capacity. While it is warming, it
    /// has the part of that share that it has of its weight. Without calls it is always below.
    pub(crate) fn is_below(&self, share: f64, clock: Clock) -> bool {
        let warmth = f64::from(self.view.warmth_percent(clock)) / f64::from(WARM);
        self.view.load().is_some_and(|load| load.is_below(share * warmth))
    }

    /// The candidate without load and with the greatest weight that it may have.
    pub(crate) fn at_most(&self) -> Candidate {
        Candidate { name_hash: self.name_hash, weight: self.warm_weight, load: None }
    }

    /// The candidate without load and warmth, which change from moment to moment.
    pub(crate) fn unloaded(&self) -> Candidate {
        Candidate { name_hash: self.name_hash, weight: self.weight, load: None }
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }
}

/// The time at which a fleet is ranked, converted once for all instances.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    now_ms: u64,
    slow_start_ms: u64,
}

impl Clock {
    pub(crate) fn new(now: Instant, epoch: Instant, slow_start: Duration) -> Self {
        Self { now_ms: millis(now.saturating_duration_since(epoch)), slow_start_ms: millis(slow_start) }
    }
}

/// Milliseconds that leave room for the flags.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> FLAG_BITS)
}

/// The warmth of a warm instance, in percent.
const WARM: u32 = 100;
/// See [`Admission::All`].
const ALL: u64 = 1;
/// See [`Admission::TrialFrom`].
const TRIAL: u64 = 2;
/// The bits below the time of the next trial.
const FLAG_BITS: u32 = 2;
/// The time of a trial that waits for another event.
const NEVER_MS: u64 = u64::MAX >> FLAG_BITS;
