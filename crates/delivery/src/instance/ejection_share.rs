//! The part of a fleet that may be ejected at once.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use crate::durations::DeliveryDurations;

/// The ejections of a fleet for slow or failed responses, and the number of them that may last at once.
///
/// If most of a fleet fails, the cause is often outside of it. With most of it ejected, the rest would fail,
/// too. All snapshots of a fleet share this, and only the start of an ejection and its early end take the
/// lock.
#[derive(Debug, Default)]
pub(crate) struct EjectionShare {
    state: Mutex<ShareState>,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
struct ShareState {
    /// The number of instances in the fleet.
    instances: u32,
    /// The part of them that may be ejected at once, 0 to 1.
    share: f64,
    /// The ejections by their ends. Ejections that are over are removed when a new one starts.
    ejections: BTreeSet<(Instant, MemberId)>,
}

/// The parts that the trackers of a fleet share, from one snapshot of it to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    pub(crate) ejections: Arc<EjectionShare>,
    /// Notified when an instance may take new calls again.
    pub(crate) eligible: Arc<Notify>,
    pub(crate) durations: Arc<DeliveryDurations>,
}

/// The identity of one instance in the share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberId(u64);

impl EjectionShare {
    /// The identity of one more instance.
    pub(super) fn next_id(&self) -> MemberId {
        MemberId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Applies the size of the fleet: `share` of it may be ejected, and at least one instance.
    pub(crate) fn resize(&self, instances: usize, share: f64) {
        let mut state = self.state();
        state.instances = u32::try_from(instances).unwrap_or(u32::MAX);
        state.share = share;
    }

    /// Counts an ejection that starts now. Returns false if too many last already.
    pub(super) fn start(&self, id: MemberId, until: Instant, now: Instant) -> bool {
        let mut state = self.state();
        while state.ejections.first().is_some_and(|(end, _)| *end <= now) {
            state.ejections.pop_first();
        }
        let is_granted = state.has_room();
        if is_granted {
            state.ejections.insert((until, id));
        }
        is_granted
    }

    /// Gives the place of an ejection back before its end.
    pub(super) fn end(&self, id: MemberId, until: Instant) {
        self.state().ejections.remove(&(until, id));
    }

    fn state(&self) -> MutexGuard<'_, ShareState> {
        // A panic while it was held leaves a count that is wrong for a minute at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShareState {
    fn has_room(&self) -> bool {
        let ejected = u32::try_from(self.ejections.len()).unwrap_or(u32::MAX);
        // The margin exceeds the rounding error of a product such as 0.7 × 10.
        let max = self.share * f64::from(self.instances) + 1e-9;
        ejected == 0 || f64::from(ejected) + 1.0 <= max
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_is_at_least_one_instance() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        for (instances, share, max) in [
            (0, 0.5, 1),
            (1, 0.5, 1),
            (2, 0.5, 1),
            (3, 0.5, 1),
            (4, 0.5, 2),
            (4, 0.0, 1),
            (4, 1.0, 4),
            (10, 0.3, 3),
            (10, 0.7, 7),
            (100, 0.29, 29),
        ] {
            let ejections = EjectionShare::default();
            ejections.resize(instances, share);
            let granted = (0..200).filter(|_| ejections.start(ejections.next_id(), until, now)).count();
            assert_eq!(granted, max, "{instances} {share}");
            // All of them are over.
            assert!(ejections.start(ejections.next_id(), until + Duration::from_secs(1), until));
        }
    }
}
