//! The instances of this region as one immutable snapshot, and the look-ups in it.

mod availability;
mod builder;
mod candidates;
mod pack;

use std::{collections::HashMap, slice, sync::Arc, time::Duration};

use switchboard_routing::Name;
use tokio::time::Instant;
use uuid::Uuid;

use self::pack::Pack;
pub(crate) use self::{availability::Availability, builder::FleetSettings, candidates::Candidates};
use crate::{
    instance::{Clock, Departed, Instance, InstanceCounts, Rankable},
    member::{Member, SourceState},
    origins::Origins,
};

/// The instances of this region. A snapshot never changes, so reading it takes no lock.
#[derive(Debug)]
pub(crate) struct Fleet {
    instances: Vec<Arc<Instance>>,
    /// The instances that serve all apps and are still listed.
    for_all: Vec<Rankable>,
    /// The instances that serve some apps only, by app.
    for_app: HashMap<Uuid, Vec<Rankable>>,
    by_name: HashMap<Name, usize>,
    /// The instances removed lately. No request is sent to them.
    gone: Vec<Arc<Instance>>,
    departed: Departed,
    /// True once the source was read.
    known: bool,
    slow_start: Duration,
    /// The order in which new calls fill the instances, if they are not spread.
    pack: Option<Pack>,
    /// The zero of times that are read without a lock: the same in all snapshots that follow each other.
    epoch: Instant,
    origins: Origins,
}

impl Fleet {
    /// The members that the source listed when it was last read.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.instances
            .iter()
            .filter(|instance| instance.source_state != SourceState::Unlisted)
            .map(|instance| instance.member())
            .collect()
    }

    /// Returns true if an unlisted instance can be removed now.
    pub(crate) fn has_removable(&self, keep_leaving: Duration, now: Instant) -> bool {
        self.instances.iter().any(|instance| {
            instance.source_state == SourceState::Unlisted && !instance.is_retained(keep_leaving, now)
        })
    }

    /// The instances removed lately, for `/fleet`.
    pub(crate) fn gone(&self) -> &[Arc<Instance>] {
        &self.gone
    }

    /// The sums of the counters of all instances, also of instances that left.
    pub(crate) fn instance_totals(&self) -> InstanceCounts {
        self.departed.sums_with(&self.instances)
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    pub(crate) fn origins(&self) -> &Origins {
        &self.origins
    }

    pub(crate) fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }

    pub(crate) fn instance(&self, name: &str) -> Option<&Arc<Instance>> {
        self.by_name.get(name).and_then(|at| self.instances.get(*at))
    }

    /// A time, for the ranking of this fleet.
    fn clock(&self, now: Instant) -> Clock {
        Clock::new(now, self.epoch, self.slow_start)
    }

    fn at(&self, at: usize) -> Option<&Instance> {
        self.instances.get(at).map(|instance| &**instance)
    }

    /// Brings instances of one weight together. A processor foresees the comparison of two weights if it
    /// usually has the same result, which makes the ranking of ten thousand instances three times as fast.
    fn sort_by_weight(&mut self) {
        for list in self.for_app.values_mut().chain([&mut self.for_all]) {
            list.sort_by_key(Rankable::weight);
        }
    }

    /// Sorts the instances that placement ranks in the order in which they are filled.
    ///
    /// In a fleet of different weights that order is bad for the ranking of thousands, which a call needs if
    /// all instances are filled: see [`Fleet::sort_by_weight`]. Two lists would cost memory and reads.
    fn sort_for_packing(&mut self, share: f64) {
        let unloaded = |instance: &Arc<Instance>| instance.rankable(0, self.slow_start).unloaded();
        let pack = Pack::new(share, &self.instances.iter().map(unloaded).collect::<Vec<_>>());
        for list in self.for_app.values_mut().chain([&mut self.for_all]) {
            pack.sort(list);
        }
        self.pack = Some(pack);
    }

    /// The listed instances that serve `app`.
    fn rankable(&self, app: Uuid) -> [slice::Iter<'_, Rankable>; 2] {
        [self.for_all.iter(), self.for_app.get(&app).map(|list| list.iter()).unwrap_or_default()]
    }
}

#[cfg(test)]
mod grey_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod totals_tests;
