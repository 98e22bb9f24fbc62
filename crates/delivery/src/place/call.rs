//! A new call that is being placed, and its attempts so far.

use std::sync::atomic::AtomicBool;

use switchboard_routing::AffinityKey;
use tokio::time::Instant;

use super::limits::ATTEMPTS_MAX;
use crate::{cause::Cause, connections::Connections, delivery::Delivery, outbound::Outbound};

/// A new call, and the limits of its attempts.
pub(super) struct Call<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) connections: &'a Connections,
    /// The notification, with cleaned headers.
    pub(super) notification: &'a Outbound,
    pub(super) key: AffinityKey,
    /// The end of the budget.
    pub(super) end: Instant,
    pub(super) outcome_unknown_max: u32,
    /// For each attempt: true once its request may have been written.
    pub(super) written: &'a [AtomicBool; ATTEMPTS_MAX],
}

/// The attempts of one new call so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceProgress {
    pub(super) attempts: u32,
    /// Ended attempts after which the instance may have acted on the call.
    pub(super) outcome_unknown: u32,
    pub(super) last: Cause,
    /// Attempts that ended with 401, 403 or 429.
    pub(super) declined: u32,
    /// True if a request may have reached an instance.
    pub(super) any_written: bool,
}

impl Default for PlaceProgress {
    fn default() -> Self {
        Self { attempts: 0, outcome_unknown: 0, last: Cause::NoTime, declined: 0, any_written: false }
    }
}

impl PlaceProgress {
    /// Returns true if every attempt ended with 401, 403 or 429.
    pub(super) fn is_declined(&self) -> bool {
        self.last.is_declined() && self.declined == self.attempts
    }

    /// Returns true if the call may have no further attempt.
    pub(super) fn is_exhausted(&self) -> bool {
        usize::try_from(self.attempts).is_ok_and(|attempts| attempts >= ATTEMPTS_MAX)
    }
}
