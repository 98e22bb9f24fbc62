//! Building a snapshot of the fleet from the members that a source lists and the snapshot before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use switchboard_routing::{CallbackUris, Name};
use tokio::time::Instant;

use super::Fleet;
use crate::{
    instance::{
        Departed, Event, Instance, PlacementView, ProbedIncarnation, Process, Shared, Tracker,
        incarnation_in_use,
    },
    member::{INSTANCES_MAX, Member, SourceState},
    origins::{Origins, OriginsBuilder},
    settings::Fill,
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
    pub(crate) fill: Fill,
    /// The part of the fleet that may be ejected at once, 0 to 1.
    pub(crate) eject_share: f64,
    /// See [`Origins::trust`].
    pub(crate) trust: u64,
    pub(crate) shared: Shared,
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
        settings.shared.ejections.resize(members.len(), settings.eject_share);
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
    /// The instances that outlive their listing.
    unlisted: usize,
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
            departed: Departed::default(),
            known,
            slow_start: settings.slow_start,
            pack: None,
            epoch: before.map_or(now, |before| before.epoch),
            origins: Origins::default(),
        };
        Self { fleet, origins, unlisted: 0, settings, now }
    }

    fn add_members(&mut self, members: Vec<Member>, before: Option<&Fleet>) {
        let processes: Vec<KnownProcess> =
            members.iter().map(|member| self.known_process(member, before)).collect();
        // The views are allocated in a row, before anything else, so that they lie close together. Read from
        // all over the heap for each new call, ten thousand of them took twice as long.
        let mut views: Vec<Arc<PlacementView>> =
            processes.iter().filter(|known| known.tracker.is_none()).map(|_| Arc::default()).collect();
        views.reverse();
        for (member, known) in members.into_iter().zip(processes) {
            if self.fleet.by_name.contains_key(&member.name) {
                continue;
            }
            let state = member.source_state;
            let tracker = match known.tracker {
                Some(tracker) => {
                    tracker.learn(Event::ProbeConfigured(self.settings.probed), self.now);
                    tracker.learn(Event::SourceChanged(state), self.now);
                    tracker
                }
                None => {
                    let (name, view) = (member.name.clone(), views.pop().unwrap_or_default());
                    let (probed, epoch) = (self.settings.probed, self.fleet.epoch);
                    let shared = self.settings.shared.clone();
                    let tracker = Tracker::new(name, view, shared, probed, state, epoch, self.now);
                    let tracker = Arc::new(tracker);
                    if known.is_drained {
                        tracker.learn(Event::Drained, self.now);
                    }
                    tracker
                }
            };
            let KnownProcess { incarnation, probed_incarnation, .. } = known;
            self.add(member, Process { incarnation, probed_incarnation, tracker });
        }
    }

    /// The process that `member` describes, as far as the snapshot before knows it.
    fn known_process(&self, member: &Member, before: Option<&Fleet>) -> KnownProcess {
        let old = before
            .and_then(|before| before.instance(member.name.as_str()))
            .filter(|old| old.is_described_by(member));
        let probed_incarnation = self.probed_incarnation(old);
        let incarnation = self.incarnation(member, &probed_incarnation);
        let same = old.filter(|old| old.is_same_process(&incarnation));
        KnownProcess {
            incarnation,
            probed_incarnation,
            tracker: same.map(|old| Arc::clone(&old.tracker)),
            // The operator drains a name: an upgrade drains an instance, restarts it and resumes it.
            is_drained: old.is_some_and(|old| old.tracker.is_drained()),
        }
    }

    /// The incarnations that were reported at this address, unless the probe was just switched on or off.
    fn probed_incarnation(&self, old: Option<&Arc<Instance>>) -> Arc<ProbedIncarnation> {
        let known = old.map(|old| &old.probed_incarnation);
        match known.filter(|known| known.is_probed() == self.settings.probed) {
            Some(known) => Arc::clone(known),
            None => Arc::new(ProbedIncarnation::new(self.settings.probed)),
        }
    }

    fn incarnation(&self, member: &Member, probed: &ProbedIncarnation) -> Name {
        let FleetSettings { region, uris, .. } = self.settings;
        incarnation_in_use(&member.name, member.incarnation.clone(), probed, region, uris)
    }

    /// Keeps an instance of the snapshot before that is no longer a member, if it may still run. Otherwise it
    /// is gone, and returned.
    fn keep_or_remove(&mut self, old: &Arc<Instance>) -> Option<Arc<Instance>> {
        let same =
            self.fleet.instance(old.name().as_str()).map(|new| Arc::ptr_eq(&new.tracker, &old.tracker));
        if same == Some(true) {
            return None;
        }
        let member = Member { source_state: SourceState::Unlisted, ..old.member() };
        let probed_incarnation = self.probed_incarnation(Some(old));
        let incarnation = self.incarnation(&member, &probed_incarnation);
        // A source that lists others each time must not fill the memory with instances that left.
        let has_room = self.unlisted < INSTANCES_MAX || old.tracker.holds_calls();
        let is_alive = has_room
            && old.is_retained(self.settings.keep_leaving, self.now)
            // Another process at its address has none of its calls.
            && old.is_same_process(&incarnation);
        if same.is_none() && is_alive {
            old.tracker.learn(Event::ProbeConfigured(self.settings.probed), self.now);
            old.tracker.learn(Event::SourceChanged(SourceState::Unlisted), self.now);
            self.add(member, Process { incarnation, probed_incarnation, tracker: Arc::clone(&old.tracker) });
            self.unlisted = self.unlisted.saturating_add(1);
            return None;
        }
        old.tracker.learn(Event::SourceChanged(SourceState::Removed), self.now);
        Some(Arc::clone(old))
    }

    fn add(&mut self, member: Member, process: Process) {
        let FleetSettings { region, uris, .. } = self.settings;
        let instance = Instance::new(member, region, uris, &mut self.origins, process);
        self.fleet.by_name.insert(instance.name().clone(), self.fleet.instances.len());
        self.make_rankable(&instance);
        self.fleet.instances.push(Arc::new(instance));
    }

    /// Adds the next instance to the lists that placement ranks.
    fn make_rankable(&mut self, instance: &Instance) {
        if matches!(instance.source_state, SourceState::Restored | SourceState::Unlisted) {
            return;
        }
        let rankable = instance.rankable(self.fleet.instances.len(), self.fleet.slow_start);
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
        let Self { mut fleet, origins, settings, .. } = self;
        fleet.origins = origins.finish();
        fleet.departed = Departed::next(before.map(|before| &before.departed), &removed);
        match settings.fill {
            Fill::Spread => fleet.sort_by_weight(),
            Fill::Pack { share } => fleet.sort_for_packing(share),
        }
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

/// The process of a member, as far as it is known before the snapshot is built.
struct KnownProcess {
    incarnation: Name,
    probed_incarnation: Arc<ProbedIncarnation>,
    /// `None` for a process that is new.
    tracker: Option<Arc<Tracker>>,
    /// True if the operator drains the name.
    is_drained: bool,
}

/// The most removed instances that are shown: the last rollout of a usual fleet, and short enough to read.
const GONE_MAX: usize = 100;
