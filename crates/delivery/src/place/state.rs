//! The state of placement that all threads share and that a reload hands on.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::retry_budget::{CountedIn, RetryBudget};

/// The state that all new calls share: the retry budget, the calls that wait, and the counters.
#[derive(Debug)]
pub(crate) struct PlacementState {
    retry_budget: RetryBudget,
    /// Notified when an instance may take new calls again, or when the fleet was replaced.
    pub(crate) eligible: Arc<Notify>,
    waiting: AtomicUsize,
    /// The last time at which waiting calls had all unready instances probed.
    probed: Mutex<Instant>,
    counters: Counters,
}

/// The counters of placement since the start, for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlacementCounters {
    /// Attempts that were written beside an open one, which had used its share of the time.
    pub hedges: u64,
    /// Other attempts that were written after the first written one of their call.
    pub further_attempts: u64,
    /// Hedges and further attempts that the retry budget did not allow.
    pub retries_refused: u64,
    /// Attempts that were given up because another instance accepted the call.
    pub races_lost: u64,
    /// Calls that reached the bound of attempts.
    pub attempts_exhausted: u64,
    /// Waits for an instance, because none could be asked.
    pub waits: u64,
    /// Waits in which an instance became eligible.
    pub waits_successful: u64,
    /// Calls that did not wait, because too many calls were waiting.
    pub waits_refused: u64,
    /// Calls that wait now.
    pub waiting: u64,
}

#[derive(Debug, Default)]
struct Counters {
    hedges: AtomicU64,
    further_attempts: AtomicU64,
    retries_refused: AtomicU64,
    races_lost: AtomicU64,
    attempts_exhausted: AtomicU64,
    waits: AtomicU64,
    waits_successful: AtomicU64,
    waits_refused: AtomicU64,
}

impl PlacementState {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            retry_budget: RetryBudget::new(now),
            eligible: Arc::default(),
            waiting: AtomicUsize::new(0),
            probed: Mutex::new(now),
            counters: Counters::default(),
        }
    }

    pub(crate) fn counters(&self) -> PlacementCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PlacementCounters {
            hedges: get(&self.counters.hedges),
            further_attempts: get(&self.counters.further_attempts),
            retries_refused: get(&self.counters.retries_refused),
            races_lost: get(&self.counters.races_lost),
            attempts_exhausted: get(&self.counters.attempts_exhausted),
            waits: get(&self.counters.waits),
            waits_successful: get(&self.counters.waits_successful),
            waits_refused: get(&self.counters.waits_refused),
            waiting: u64::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn count_call(&self, now: Instant) {
        self.retry_budget.count_call(now);
    }

    pub(super) fn count_attempts_exhausted(&self) {
        add_one(&self.counters.attempts_exhausted);
    }

    pub(super) fn count_lost_race(&self) {
        add_one(&self.counters.races_lost);
    }

    /// Takes a retry from the budget: an attempt that may be written after another one of its call was.
    /// `written` is true once it was.
    pub(super) fn take_retry<'a>(
        &'a self,
        is_hedge: bool,
        written: &'a AtomicBool,
        now: Instant,
    ) -> Option<Retry<'a>> {
        let counted = self.retry_budget.take(now);
        if counted.is_none() {
            add_one(&self.counters.retries_refused);
        }
        Some(Retry { state: self, counted: counted?, is_hedge, written })
    }

    /// Returns true if waiting calls may have all unready instances probed now. One of them does it for all.
    pub(super) fn may_probe(&self, now: Instant) -> bool {
        let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        let may_probe = *probed + PROBE_INTERVAL <= now;
        if may_probe {
            *probed = now;
        }
        may_probe
    }

    /// Counts a call as waiting until the guard is dropped. `None` if `waiting_max` calls wait already.
    pub(super) fn start_waiting(&self, waiting_max: usize) -> Option<WaitingCall<'_>> {
        let admitted = self.waiting.fetch_add(1, Ordering::Relaxed) < waiting_max;
        // Dropped at once if it was not admitted.
        let waiting = WaitingCall(self);
        add_one(if admitted { &self.counters.waits } else { &self.counters.waits_refused });
        admitted.then_some(waiting)
    }
}

/// A retry that was taken from the budget. It is given back if it was not written: failed connects do not
/// count.
#[derive(Debug)]
pub(super) struct Retry<'a> {
    state: &'a PlacementState,
    counted: CountedIn,
    is_hedge: bool,
    written: &'a AtomicBool,
}

impl Drop for Retry<'_> {
    fn drop(&mut self) {
        let counters = &self.state.counters;
        if !self.written.load(Ordering::Relaxed) {
            self.state.retry_budget.give_back(self.counted, Instant::now());
        } else if self.is_hedge {
            add_one(&counters.hedges);
        } else {
            add_one(&counters.further_attempts);
        }
    }
}

/// A call that waits for an instance.
#[derive(Debug)]
pub(super) struct WaitingCall<'a>(&'a PlacementState);

impl WaitingCall<'_> {
    pub(super) fn succeeded(self) {
        add_one(&self.0.counters.waits_successful);
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The shortest time between two rounds of probes for waiting calls.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
