//! The record of a run: its events, and the rules that were broken.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use switchboard_routing::Owner;

/// The record of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The bots that accepted each call.
    accepted: HashMap<String, Vec<Owner>>,
    /// The number of times that each call was delivered.
    deliveries: HashMap<String, u32>,
    /// The broken rules, in the order in which they broke.
    pub(super) violations: Vec<String>,
    pub(super) counts: Counts,
    /// All events so far: two runs of one seed are equal if their hashes are.
    events: DefaultHasher,
}

/// Numbers of a run, for its report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) placed: u64,
    /// Calls that took three seconds or more to be placed or refused.
    pub(super) slow: u64,
    pub(super) refused: u64,
    pub(super) callbacks: u64,
    pub(super) callbacks_failed: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.placed += other.placed;
        self.slow += other.slow;
        self.refused += other.refused;
        self.callbacks += other.callbacks;
        self.callbacks_failed += other.callbacks_failed;
    }
}

impl Ledger {
    pub(super) fn event(&mut self, what: impl Hash) {
        what.hash(&mut self.events);
    }

    pub(super) fn delivered(&mut self, call: &str, to: &Owner) {
        *self.deliveries.entry(call.into()).or_default() += 1;
        self.event(("delivered", call, to.instance.as_str()));
    }

    pub(super) fn accepted(&mut self, call: &str, by: &Owner) {
        self.accepted.entry(call.into()).or_default().push(by.clone());
        self.event(("accepted", call, by.instance.as_str()));
    }

    pub(super) fn has_accepted(&self, call: &str, by: &Owner) -> bool {
        self.accepted.get(call).is_some_and(|owners| owners.contains(by))
    }

    pub(super) fn deliveries(&self, call: &str) -> u32 {
        self.deliveries.get(call).copied().unwrap_or_default()
    }

    pub(super) fn violated(&mut self, rule: String) {
        self.violations.push(rule);
    }

    pub(super) fn hash(&self) -> u64 {
        self.events.finish()
    }
}
