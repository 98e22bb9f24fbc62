//! Building a snapshot of the fleet from the members that a source lists and the snapshot before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use switchboard_routing::{CallbackUris, Name};
use tokio::{sync::Notify, time::Instant};

use super::Fleet;
use crate::{
    instance::{Event, Instance, PlacementView, Tracker},
    member::{Member, SourceState},
    origins::{Origins, OriginsBuilder},
};

/// The settings that all instances of a fleet share.
#[derive(Debug)]
pub(crate) struct FleetSettings {
    pub(crate) region: Name,
    pub(crate) probed: bool,
    pub(crate) uris: Arc<CallbackUris>,
    /// The longest time for which an unlisted instance is kept.
    pub(crate) keep_leaving: Duration,
    /// The time over which the weight of an instance rises that has just become ready.
    pub(crate) slow_start: Duration,
    /// See [`Origins::trust`].
    pub(crate) trust: u64,
    /// Notified when an instance may take new calls again.
    pub(crate) eligible: Arc<Notify>,
}

impl Fleet {
    /// A snapshot of `members`.
    ///
    /// The tracker of an instance is taken over from `before` if the member still describes that instance. An
    /// instance of `before` that is no longer a member, and that may still run, stays without new calls until
    /// its calls have ended or `keep_leaving` has passed. If two members have one name, the first is kept.
    pub(crate) fn new(
        members: Vec<Member>,
        known: bool,
        settings: &FleetSettings,
        before: Option<&Self>,
        now: Instant,
    ) -> Self {
        let mut builder = Builder::new(members.len(), known, settings, before, now);
        builder.add_members(members, before);
        let mut gone = Vec::new();
        for old in before.iter().flat_map(|before| &before.instances) {
            gone.extend(builder.keep_or_remove(old));
        }
        builder.finish(before, gone)
    }
}

/// A snapshot that is being built.
struct Builder<'a> {
    fleet: Fleet,
    origins: OriginsBuilder,
    settings: &'a FleetSettings,
    now: Instant,
}

impl<'a> Builder<'a> {
    fn new(
        count: usize,
        known: bool,
        settings: &'a FleetSettings,
        before: Option<&Fleet>,
        now: Instant,
    ) -> Self {
        let origins = OriginsBuilder::new(settings.trust, count);
        let fleet = Fleet {
            instances: Vec::with_capacity(count),
            for_all: Vec::with_capacity(count),
            for_app: HashMap::new(),
            by_name: HashMap::with_capacity(count),
            gone: Vec::new(),
            known,
            slow_start: settings.slow_start,
            epoch: before.map_or(now, |before| before.epoch),
            origins: Origins::default(),
        };
        Self { fleet, origins, settings, now }
    }

    fn add_members(&mut self, members: Vec<Member>, before: Option<&Fleet>) {
        let trackers: Vec<Option<&Arc<Tracker>>> = members
            .iter()
            .map(|member| {
                let old = before?.instance(member.name.as_str())?;
                old.is_described_by(member).then_some(&old.tracker)
            })
            .collect();
        // The views are allocated in a row, before anything else, so that they lie close together. Read from
        // all over the heap for each new call, ten thousand of them took twice as long.
        let mut views: Vec<Arc<PlacementView>> =
            trackers.iter().filter(|tracker| tracker.is_none()).map(|_| Arc::default()).collect();
        views.reverse();
        for (member, tracker) in members.into_iter().zip(trackers) {
            if self.fleet.by_name.contains_key(&member.name) {
                continue;
            }
            let state = member.source_state;
            let tracker = match tracker {
                Some(tracker) => {
                    tracker.learn(Event::ProbeConfigured(self.settings.probed), self.now);
                    tracker.learn(Event::SourceChanged(state), self.now);
                    Arc::clone(tracker)
                }
                None => {
                    let (name, view) = (member.name.clone(), views.pop().unwrap_or_default());
                    let (probed, epoch) = (self.settings.probed, self.fleet.epoch);
                    let eligible = Arc::clone(&self.settings.eligible);
                    Arc::new(Tracker::new(name, view, probed, state, eligible, epoch, self.now))
                }
            };
            self.add(member, tracker);
        }
    }

    /// Keeps an instance of the snapshot before that is no longer a member, if it may still run. Otherwise it
    /// is gone, and returned.
    fn keep_or_remove(&mut self, old: &Arc<Instance>) -> Option<Arc<Instance>> {
        let same =
            self.fleet.instance(old.name().as_str()).map(|new| Arc::ptr_eq(&new.tracker, &old.tracker));
        match same {
            Some(true) => None,
            None if old.is_retained(self.settings.keep_leaving, self.now) => {
                old.tracker.learn(Event::ProbeConfigured(self.settings.probed), self.now);
                old.tracker.learn(Event::SourceChanged(SourceState::Unlisted), self.now);
                let member = Member { source_state: SourceState::Unlisted, ..old.member() };
                self.add(member, Arc::clone(&old.tracker));
                None
            }
            Some(false) | None => {
                old.tracker.learn(Event::SourceChanged(SourceState::Removed), self.now);
                Some(Arc::clone(old))
            }
        }
    }

    fn add(&mut self, member: Member, tracker: Arc<Tracker>) {
        let FleetSettings { region, uris, .. } = self.settings;
        let instance = Instance::new(member, region, uris, &mut self.origins, tracker);
        self.fleet.by_name.insert(instance.name().clone(), self.fleet.instances.len());
        self.make_rankable(&instance);
        self.fleet.instances.push(Arc::new(instance));
    }

    /// Adds the next instance to the lists that placement ranks.
    fn make_rankable(&mut self, instance: &Instance) {
        if instance.source_state == SourceState::Unlisted {
            return;
        }
        let rankable = instance.rankable(self.fleet.instances.len());
        match &instance.apps {
            None => self.fleet.for_all.push(rankable),
            Some(apps) => {
                for app in apps.iter().collect::<HashSet<_>>() {
                    self.fleet.for_app.entry(*app).or_default().push(rankable.clone());
                }
            }
        }
    }

    /// The snapshot, with the last [`GONE_MAX`] removed instances whose name is free, the newest last.
    fn finish(self, before: Option<&Fleet>, removed: Vec<Arc<Instance>>) -> Fleet {
        let Self { mut fleet, origins, .. } = self;
        fleet.origins = origins.finish();
        let earlier = before.iter().flat_map(|before| &before.gone).cloned();
        let mut gone: Vec<_> = earlier.chain(removed).collect();
        gone.retain(|gone| !fleet.by_name.contains_key(gone.name()));
        let mut names = HashSet::new();
        gone.reverse();
        gone.retain(|gone| names.insert(gone.name().clone()));
        gone.truncate(GONE_MAX);
        gone.reverse();
        fleet.gone = gone;
        fleet
    }
}

/// The most removed instances that are shown: the last rollout of a usual fleet, and short enough to read.
const GONE_MAX: usize = 100;
