//! The counters of instances that left the fleet, so that sums over all instances never fall.

use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use super::{
    Instance,
    counters::{Counters, InstanceCounts},
};

/// The counters of the instances that left.
///
/// A request to an instance may outlive the place of the instance in the fleet, and is then still counted
/// there. So its counters are read until nothing else holds them.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    /// The sums of the counters that no longer change.
    settled: Counters,
    /// The counters that may still change.
    open: Vec<Arc<Counters>>,
}

impl Departed {
    /// The counters after `removed` have left, too.
    pub(crate) fn next(before: Option<&Self>, removed: &[Arc<Instance>]) -> Self {
        let mut next = Self::default();
        if let Some(before) = before {
            next.settled.add(&before.settled);
        }
        for counters in before.iter().flat_map(|before| &before.open) {
            // Held by `before` alone.
            if Arc::strong_count(counters) == 1 {
                // Makes the additions of the last other holder visible, as `Arc` does before it drops.
                fence(Ordering::Acquire);
                next.settled.add(counters);
            } else {
                next.open.push(Arc::clone(counters));
            }
        }
        next.open.extend(removed.iter().map(|instance| Arc::clone(instance.tracker.counters())));
        next
    }

    /// The number of instances whose counters are kept apart.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// The sums over these counters and those of `instances`, which have not left.
    pub(crate) fn sums_with(&self, instances: &[Arc<Instance>]) -> InstanceCounts {
        let sums = Counters::default();
        sums.add(&self.settled);
        self.open.iter().for_each(|counters| sums.add(counters));
        instances.iter().for_each(|instance| sums.add(instance.tracker.counters()));
        sums.read()
    }
}
