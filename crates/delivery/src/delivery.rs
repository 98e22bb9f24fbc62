//! The fleet and the settings by which requests are delivered to it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::HeaderMap;
use switchboard_routing::{CallbackUris, Name, Owner, OwnerRef};
use tokio::{sync::Notify, time::Instant};

use crate::{
    connections::{Connector, TlsClient},
    durations::DeliveryDurations,
    fleet::{Fleet, FleetSettings},
    headers,
    instance::{Eligibility, Event, Instance, InstanceCounts, InstanceStatus, Shared, Standing},
    member::Member,
    names::Lookups,
    place::PlacementState,
    placements::Placements,
    settings::DeliverySettings,
    startup::{Awaited, SourceTimes, Startup},
};

/// The fleet, and the delivery of requests to it. All threads share it.
///
/// The [documentation of the crate](crate) has an example.
///
/// Its futures are `Send` and run on any runtime. All share the [`Connections`](crate::Connections).
pub struct Delivery {
    /// Replaced when its members or their incarnations change. Everything else changes inside the instances.
    pub(crate) fleet: ArcSwap<Fleet>,
    /// Notified when the fleet was replaced.
    pub(crate) fleet_replaced: Notify,
    /// Notified at the same time, for the look-ups of names.
    names_replaced: Notify,
    /// Held while the next fleet is built from the last.
    building: Mutex<()>,
    /// Held while reported incarnations are collected and applied.
    pub(crate) applying_incarnations: tokio::sync::Mutex<()>,
    pub(crate) fleet_settings: FleetSettings,
    pub(crate) startup: Arc<Startup>,
    pub(crate) source_times: SourceTimes,
    pub(crate) placements: Placements,
    pub(crate) placement: Arc<PlacementState>,
    pub(crate) connector: Connector,
    /// The settings without the instances, which are in `fleet`.
    pub(crate) settings: DeliverySettings,
}

impl Delivery {
    /// A delivery that knows nothing about the health of its fleet yet. `tls` connects to https instances.
    /// [`Delivery::run`] looks up the names of its instances.
    pub fn new(settings: DeliverySettings, uris: Arc<CallbackUris>, tls: TlsClient) -> Self {
        let placement = Arc::new(PlacementState::new(Instant::now()));
        Self::build(settings, uris, Connector::new(tls), (Placements::new(), placement), None)
    }

    /// A delivery with new settings that keeps what was learned about the instances that stay (same name and
    /// URLs): their health, load, drain and counters, the memory of placements and the retry budget.
    pub fn successor(&self, settings: DeliverySettings, uris: Arc<CallbackUris>, tls: TlsClient) -> Self {
        let handed_on = (self.placements.clone(), Arc::clone(&self.placement));
        Self::build(settings, uris, Connector::new(tls), handed_on, Some(self))
    }

    fn build(
        mut settings: DeliverySettings,
        uris: Arc<CallbackUris>,
        connector: Connector,
        (placements, placement): (Placements, Arc<PlacementState>),
        before: Option<&Self>,
    ) -> Self {
        // The names that stay keep their addresses.
        let mut names = before.map(|before| before.fleet.load().origins().names()).unwrap_or_default();
        let listed = Member::from_list(std::mem::take(&mut settings.instances), &mut names);
        let fleet_settings = FleetSettings {
            region: settings.region.clone(),
            probed: settings.probe.is_some(),
            uris,
            keep_leaving: settings.keep_leaving,
            slow_start: settings.slow_start,
            fill: settings.fill,
            eject_share: settings.eject_share,
            trust: connector.trust(),
            shared: Shared {
                ejections: before
                    .map_or_else(Arc::default, |one| Arc::clone(&one.fleet_settings.shared.ejections)),
                eligible: Arc::clone(&placement.eligible),
                durations: before
                    .map_or_else(Arc::default, |one| Arc::clone(&one.fleet_settings.shared.durations)),
            },
        };
        let last = before.map(|before| (before.fleet.load_full(), before.settings.discovery.as_ref()));
        let (members, known, source_times) = match (&settings.discovery, &last, before) {
            (None, _, _) => (listed, true, SourceTimes::new()),
            // The members found or restored so far stay until the source is read again, whichever of its
            // settings changed.
            (Some(new), Some((fleet, Some(old))), Some(before)) if new.finds_same_instances(old) => {
                (fleet.members(), fleet.is_known(), before.source_times.copy())
            }
            (Some(_), _, _) => (Vec::new(), false, SourceTimes::new()),
        };
        let last = last.as_ref().map(|(fleet, _)| &**fleet);
        let fleet = Fleet::new(members, known, &fleet_settings, last, Instant::now());
        Self {
            fleet: ArcSwap::from_pointee(fleet),
            fleet_replaced: Notify::new(),
            names_replaced: Notify::new(),
            building: Mutex::default(),
            applying_incarnations: tokio::sync::Mutex::default(),
            fleet_settings,
            startup: before.map_or_else(Startup::new, |before| Arc::clone(&before.startup)),
            source_times,
            placements,
            placement,
            connector,
            settings,
        }
    }

    /// Applies the members in a good answer of the source.
    pub(crate) fn apply_members(&self, members: Vec<Member>) {
        self.source_times.source_answered();
        self.change_members(members);
    }

    /// Changes the members between two answers of the source.
    pub(crate) fn change_members(&self, members: Vec<Member>) {
        let members = self.with_valid_uris(members);
        self.replace_fleet(|fleet| {
            (!fleet.is_known() || fleet.members() != members).then(|| {
                tracing::info!(instances = members.len(), "fleet updated");
                (members, true)
            })
        });
    }

    /// The members by name, without those whose callback URI would not be valid.
    pub(crate) fn with_valid_uris(&self, mut members: Vec<Member>) -> Vec<Member> {
        let region = &self.fleet_settings.region;
        members.retain(|member| {
            let (instance, incarnation) = (member.name.clone(), member.incarnation.clone());
            let owner = Owner { region: region.clone(), instance, incarnation };
            let checked = self.fleet_settings.uris.check(owner.as_ref());
            if let Err(error) = &checked {
                tracing::error!(
                    instance = %member.name,
                    %error,
                    "instance left out: its callback URI is not valid"
                );
            }
            checked.is_ok()
        });
        members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        members
    }

    /// Keeps the names of instances that are listed, in the settings or in a file, looked up until it is
    /// dropped.
    pub(crate) async fn follow_names(&self) {
        let mut lookups = Lookups::new(&self.settings.name_servers);
        loop {
            lookups.replace(self.fleet.load().origins().names());
            tokio::select! {
                () = self.names_replaced.notified() => {}
                () = lookups.run() => {}
            }
        }
    }

    /// Replaces the fleet, if `next` returns the members of the next one.
    pub(crate) fn replace_fleet(&self, next: impl FnOnce(&Fleet) -> Option<(Vec<Member>, bool)>) {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.fleet.load_full();
        let Some((members, known)) = next(&last) else { return };
        let fleet = Fleet::new(members, known, &self.fleet_settings, Some(&last), Instant::now());
        self.fleet.store(Arc::new(fleet));
        self.fleet_replaced.notify_one();
        self.names_replaced.notify_one();
        self.placement.eligible.notify_waiters();
    }

    /// Returns true if an instance could take a new call now; for `health_path`.
    ///
    /// An instance that is ejected would be asked as a last resort. It does not count here: the region that
    /// asks has another choice.
    pub fn can_take_call(&self) -> bool {
        let now = Instant::now();
        let fleet = self.fleet.load();
        fleet.instances().iter().any(|one| one.tracker.eligibility(now) == Eligibility::Eligible)
    }

    /// Returns true if a gateway sent the request to one of its instances, or if the sender claims so. A
    /// gateway that receives it must refuse it, and set [`LOOP`](crate::LOOP) in the response.
    pub fn is_sent_to_instance(headers: &HeaderMap) -> bool {
        headers.contains_key(&headers::INSTANCE)
    }

    /// Returns true if the fleet's source was read once. A restored fleet is not known: it serves callbacks
    /// only.
    pub fn is_known(&self) -> bool {
        self.fleet.load().is_known()
    }

    /// The answer that the gateway waits for before it is ready; for `/readyz`.
    ///
    /// It waits for the first answer of the fleet's source or for a stored fleet, then for the first probe of
    /// each instance that is known, together at most 5 s. After that it is `None` for good, whatever happens
    /// to the fleet: current calls need a gateway.
    pub fn awaited(&self) -> Option<Awaited> {
        let fleet = self.fleet.load();
        let has_fleet = fleet.is_known() || self.source_times.restored_age(Instant::now()).is_some();
        let is_probed = || {
            self.settings.probe.is_none()
                || fleet.instances().iter().all(|instance| instance.tracker.was_probed())
        };
        self.startup.awaited(has_fleet, is_probed)
    }

    /// The time since the last good answer of the fleet's source, or since it was first asked if there was
    /// none. `None` for a static list.
    pub fn source_age(&self) -> Option<Duration> {
        self.settings.discovery.as_ref().map(|_| self.source_times.source_age())
    }

    /// The status of each instance, in the order of the settings, or by name if they were discovered.
    /// Instances that left within ten minutes follow, if their name is free. For `/fleet` and `/metrics`.
    pub fn instances(&self) -> Vec<InstanceStatus> {
        let now = Instant::now();
        let fleet = self.fleet.load();
        let gone =
            fleet.gone().iter().map(|instance| instance.status(now)).filter(|gone| gone.since < GONE_SHOWN);
        let status = |instance: &Arc<Instance>| InstanceStatus {
            restored_age: self.source_times.restored_age(now).filter(|_| instance.is_restored()),
            ..instance.status(now)
        };
        fleet.instances().iter().map(status).chain(gone).collect()
    }

    /// The sums of the counters of all instances since the start, with those of the instances that left. They
    /// never fall; for `/metrics`.
    pub fn instance_totals(&self) -> InstanceCounts {
        self.fleet.load().instance_totals()
    }

    /// Returns the durations of attempts and probes since the start; for `/metrics`.
    pub fn durations(&self) -> &DeliveryDurations {
        &self.fleet_settings.shared.durations
    }

    /// Notes that these calls have ended, which frees their places at their instance. Calls that this gateway
    /// did not place there do not count, and a call that ends twice counts once.
    pub fn calls_ended<I: AsRef<str>>(&self, instance: &str, call_ids: impl IntoIterator<Item = I>) {
        let mut call_ids = call_ids.into_iter().peekable();
        // Most callbacks end no call.
        if call_ids.peek().is_none() {
            return;
        }
        if let Some(instance) = self.fleet.load().instance(instance) {
            call_ids.for_each(|call_id| instance.tracker.call_ended(call_id.as_ref(), Instant::now()));
        }
    }

    /// Returns true if an instance received the call within ten minutes and accepted it, or may have accepted
    /// it, and may still hold it.
    ///
    /// Check it after `place` has failed. If it is true, no other instance or region may receive the call.
    pub fn may_be_answered(&self, call_id: &str) -> bool {
        self.placements
            .find(call_id, Instant::now())
            .is_some_and(|owner| self.may_still_hold_calls(&owner.instance, &owner.incarnation))
    }

    /// Returns false if the calls of this incarnation of an instance are lost: it has left the fleet, another
    /// incarnation has its name, or it refuses connections. An instance that is only slow or ejected may
    /// hold its calls.
    pub fn may_still_hold_calls(&self, instance: &Name, incarnation: &Name) -> bool {
        let fleet = self.fleet.load();
        let owner = OwnerRef {
            region: self.fleet_settings.region.as_name_ref(),
            instance: instance.as_name_ref(),
            incarnation: incarnation.as_name_ref(),
        };
        match fleet.instance(instance.as_str()) {
            Some(found) if found.standing(owner) != Standing::Gone => !found.tracker.refuses_connections(),
            // A fleet that is not known yet may have it.
            Some(_) | None => !fleet.is_known(),
        }
    }

    /// Stops new calls to an instance until `resume`, whatever its probe says. Returns false if there is no
    /// such instance.
    pub fn drain(&self, instance: &str) -> bool {
        self.learn(instance, Event::Drained)
    }

    /// Ends `drain`. An instance that reports draining itself stays draining. Returns false if there is no
    /// such instance.
    pub fn resume(&self, instance: &str) -> bool {
        self.learn(instance, Event::Resumed)
    }

    /// The owner that callback URIs of `instance` name, if it is in the fleet.
    pub fn owner(&self, instance: &str) -> Option<Owner> {
        self.fleet.load().instance(instance).map(|instance| instance.owner.clone())
    }

    fn learn(&self, instance: &str, event: Event) -> bool {
        match self.fleet.load().instance(instance) {
            Some(instance) => {
                instance.tracker.learn(event, Instant::now());
                true
            }
            None => false,
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("settings", &self.settings)
            .field("instances", &self.instances())
            .finish_non_exhaustive()
    }
}

/// The time for which an instance that left is still shown, so that an operator who follows a rollout sees
/// it.
const GONE_SHOWN: Duration = Duration::from_secs(600);
