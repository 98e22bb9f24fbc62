//! The counters of one instance, for `/fleet` and `/metrics`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::state::InstanceState;
use crate::cause::{Blame, Cause};

/// The values of the counters of one instance since it was first seen, or the sums over several.
#[derive(Clone, Debug, Default)]
pub struct InstanceCounts {
    /// New calls that it accepted from this gateway.
    pub placed: u64,
    /// Callbacks to which it responded.
    pub callbacks: u64,
    /// Attempts made.
    pub attempts: u64,
    /// Attempts that failed, by label, without zeros.
    pub failures: Vec<(&'static str, u64)>,
    /// Probes without a response, or without a valid report in it.
    pub missed_probes: u64,
    /// The number of changes into each state, without zeros.
    pub entered: Vec<(InstanceState, u64)>,
}

/// The counters of one instance since it was first seen.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// New calls that it accepted.
    pub(super) placed: Counter,
    /// Callbacks to which it responded.
    pub(super) callbacks: Counter,
    /// Requests in flight.
    pub(super) in_flight: Counter,
    /// Attempts, of new calls and callbacks.
    pub(super) attempts: Counter,
    pub(super) missed_probes: Counter,
    failures: FailureCounters,
    entered: [Counter; InstanceState::ALL.len()],
}

/// One counter for each cause.
#[derive(Debug)]
struct FailureCounters([Counter; Cause::ALL.len()]);

impl Default for FailureCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// One counter.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn subtract_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn add(&self, other: &Self) {
        self.0.fetch_add(other.get(), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request to an instance that is in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Counters>);

impl InFlight {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.in_flight.add_one();
        Self(Arc::clone(counters))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.subtract_one();
    }
}

impl Counters {
    pub(super) fn attempt_failed(&self, cause: Cause) {
        if let Some((_, counter)) = Cause::ALL.iter().zip(&self.failures.0).find(|(one, _)| **one == cause) {
            counter.add_one();
        }
    }

    pub(super) fn state_entered(&self, state: InstanceState) {
        let mut entered = InstanceState::ALL.iter().zip(&self.entered);
        if let Some((_, counter)) = entered.find(|(one, _)| **one == state) {
            counter.add_one();
        }
    }

    /// Adds everything that `other` has counted. Its requests in flight are no count.
    pub(super) fn add(&self, other: &Self) {
        // Without `..`: a new counter must be added.
        let Self { placed, callbacks, in_flight: _, attempts, missed_probes, failures, entered } = other;
        for (sum, counter) in [
            (&self.placed, placed),
            (&self.callbacks, callbacks),
            (&self.attempts, attempts),
            (&self.missed_probes, missed_probes),
        ] {
            sum.add(counter);
        }
        self.failures.0.iter().zip(&failures.0).for_each(|(sum, counter)| sum.add(counter));
        self.entered.iter().zip(entered).for_each(|(sum, counter)| sum.add(counter));
    }

    /// The current values.
    pub(super) fn read(&self) -> InstanceCounts {
        InstanceCounts {
            placed: self.placed.get(),
            callbacks: self.callbacks.get(),
            attempts: self.attempts.get(),
            failures: self.failures(),
            missed_probes: self.missed_probes.get(),
            entered: self.entered(),
        }
    }

    /// The number of failed attempts by label, without zeros.
    fn failures(&self) -> Vec<(&'static str, u64)> {
        let failures = Cause::ALL.iter().zip(&self.failures.0);
        failures
            .map(|(cause, counter)| (cause.label(), counter.get()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// The number of failed attempts that say something about the instance.
    pub(super) fn blamed_failures(&self) -> u64 {
        let failures = Cause::ALL.iter().zip(&self.failures.0);
        failures.filter(|(cause, _)| cause.blame() != Blame::None).map(|(_, counter)| counter.get()).sum()
    }

    /// The number of changes into each state, without zeros.
    fn entered(&self) -> Vec<(InstanceState, u64)> {
        let entered = InstanceState::ALL.iter().zip(&self.entered);
        entered.map(|(state, counter)| (*state, counter.get())).filter(|(_, count)| *count > 0).collect()
    }
}
