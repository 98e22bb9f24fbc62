//! The availability of the instances that serve an app, for a new call that none of them took.

use tokio::time::Instant;
use uuid::Uuid;

use super::Fleet;
use crate::{
    instance::{Eligibility, InstanceState},
    member::SourceState,
};

/// The instances that serve an app, by what they can do for a new call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Availability {
    /// The number of instances that serve it.
    pub(crate) serving: usize,
    /// Instances that take new calls.
    pub(crate) eligible: usize,
    /// Instances that failed an attempt, and are asked when no other is left.
    pub(crate) last_resort: usize,
    /// Instances that are full or draining, as their probe, a 429, their source or the operator says.
    pub(crate) busy: usize,
    /// Instances that were not probed yet. The others are unreachable.
    pub(crate) starting: usize,
}

impl Fleet {
    /// Returns true if an instance that serves `app` is eligible.
    pub(crate) fn has_eligible(&self, app: Uuid, now: Instant) -> bool {
        let clock = self.clock(now);
        self.rankable(app).into_iter().flatten().any(|one| one.eligibility(clock) == Eligibility::Eligible)
    }

    /// Counts the instances that serve `app`. It takes a lock for each one that is starting or
    /// unreachable.
    pub(crate) fn availability(&self, app: Uuid, now: Instant) -> Availability {
        let clock = self.clock(now);
        let mut availability = Availability::default();
        for one in self.rankable(app).into_iter().flatten() {
            availability.serving += 1;
            match one.eligibility(clock) {
                Eligibility::Eligible => availability.eligible += 1,
                Eligibility::LastResort => availability.last_resort += 1,
                Eligibility::Excluded => {
                    let Some(instance) = self.at(one.at) else { continue };
                    if instance.tracker.is_busy(now) {
                        availability.busy += 1;
                    } else if instance.tracker.state(now) == InstanceState::Starting
                        // A pod that its source does not call ready is not waited for: no probe makes it
                        // eligible.
                        && instance.source_state == SourceState::Ready
                    {
                        availability.starting += 1;
                    }
                }
            }
        }
        availability
    }

    /// Asks for a probe of each instance that is not ready, at once.
    pub(crate) fn probe_unready(&self, now: Instant) {
        for instance in self.instances() {
            if instance.tracker.eligibility(now) != Eligibility::Eligible {
                instance.tracker.probe_now();
            }
        }
    }
}
