//! One instance: who it is, where it is, what is known of it, and what we count.

mod calls;
mod health;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderValue, uri::PathAndQuery};
use switchboard_routing::{CallbackUris, Candidate, Load, Name, Owner, hash_name};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

pub use self::health::InstanceState;
pub(crate) use self::health::{Event, Offer, REST, Report, ReportedState, Standing};
use self::{calls::Calls, health::Health};
use crate::{attempt::Cause, fleet::Member, upstream_url::UpstreamUrl};

/// One instance of a fleet.
///
/// What is fixed by the settings lives here and is rebuilt by a reload; what was learned of the instance lives in
/// `Live` and is handed on.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) owner: Owner,
    pub(crate) apps: Option<Vec<Uuid>>,
    pub(crate) new_calls: Endpoint,
    pub(crate) callbacks: Endpoint,
    /// Its name, as the value of `Switchboard-Instance`.
    pub(crate) name_value: HeaderValue,
    pub(crate) live: Arc<Live>,
    pub(crate) offer: Offer,
    pub(crate) lingers: bool,
    name_hash: u64,
    weight: u32,
    uris: Arc<CallbackUris>,
    /// Sorted by app. Apps come from verified tokens of configured apps, so that the list is as short as theirs.
    by_app: ArcSwap<Vec<(Uuid, Arc<ForApp>)>>,
}

/// Where requests of one kind go.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) target: UpstreamUrl,
    /// The place of its origin in the fleet's list of origins, and in each pool.
    pub(crate) slot: usize,
    /// The value of `Host`.
    pub(crate) host: HeaderValue,
}

/// What is sent to one instance with every request of one app, made once.
#[derive(Debug)]
pub(crate) struct ForApp {
    pub(crate) app_id: HeaderValue,
    /// `None` only if a callback URI were no header value, which its alphabet rules out.
    pub(crate) callback_uri: Option<HeaderValue>,
    pub(crate) new_call_path: PathAndQuery,
    pub(crate) callback_path: PathAndQuery,
}

impl Instance {
    pub(crate) fn new(
        owner: Owner,
        new_calls: Endpoint,
        callbacks: Endpoint,
        apps: Option<Vec<Uuid>>,
        weight: u32,
        uris: Arc<CallbackUris>,
        live: Arc<Live>,
    ) -> Self {
        Self {
            name_hash: hash_name(&owner.instance),
            name_value: name_value(&owner.instance),
            owner,
            apps,
            new_calls,
            callbacks,
            live,
            offer: Offer::Ready,
            lingers: false,
            weight: weight.max(1),
            uris,
            by_app: ArcSwap::default(),
        }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.owner.instance
    }

    /// As its source described it.
    pub(crate) fn member(&self) -> Member {
        Member {
            name: self.owner.instance.clone(),
            incarnation: self.owner.incarnation.clone(),
            new_calls: self.new_calls.target.clone(),
            callbacks: self.callbacks.target.clone(),
            apps: self.apps.clone(),
            weight: self.weight,
            offer: self.offer,
            lingers: self.lingers,
        }
    }

    /// Whether it keeps its callbacks although its source lists it no more.
    pub(crate) fn may_stay(&self, keep_leaving: Duration, now: Instant) -> bool {
        let left_for = self.live.left_at().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let has_left = self.offer == Offer::Left;
        self.lingers && left_for < keep_leaving && !(has_left && self.live.is_done(now))
    }

    /// What the ranking needs to know of it, as the instance at a place of its fleet.
    pub(crate) fn rankable(&self, at: usize) -> Rankable {
        Rankable { shown: Arc::clone(&self.live.shown), name_hash: self.name_hash, weight: self.weight, at }
    }

    /// The parts of a request that depend on the app only. The callback URI costs an HMAC, so it is minted once.
    pub(crate) fn for_app(&self, app: Uuid) -> Arc<ForApp> {
        let known = self.by_app.load();
        if let Ok(at) = known.binary_search_by_key(&app, |(id, _)| *id)
            && let Some((_, parts)) = known.get(at)
        {
            return Arc::clone(parts);
        }
        let mut buffer = Uuid::encode_buffer();
        let parts = Arc::new(ForApp {
            app_id: HeaderValue::from_str(app.hyphenated().encode_lower(&mut buffer))
                .expect("a GUID is hex digits and dashes"),
            callback_uri: HeaderValue::from_str(&self.uris.mint(&self.owner, app)).ok(),
            new_call_path: self.new_calls.target.path(app),
            callback_path: self.callbacks.target.path(app),
        });
        if known.len() < APPS_MAX {
            self.by_app.rcu(|known| {
                let mut known = Vec::clone(known);
                if let Err(at) = known.binary_search_by_key(&app, |(id, _)| *id) {
                    known.insert(at, (app, Arc::clone(&parts)));
                }
                known
            });
        }
        parts
    }

    /// What is known of it, for `/fleet` and `/metrics`.
    pub(crate) fn status(&self, now: Instant) -> InstanceStatus {
        let health = self.live.health();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        InstanceStatus {
            name: self.owner.instance.clone(),
            incarnation: self.owner.incarnation.clone(),
            state: health.state(),
            since: now.saturating_duration_since(health.since()),
            reason: health.reason(),
            calls: health.calls(),
            calls_expected: health.expected_calls(),
            calls_counted: self.live.calls().len(),
            capacity: health.capacity(),
            last_probe: health.last_report().map(|at| now.saturating_duration_since(at)),
            placed: count(&self.live.placed),
            callbacks: count(&self.live.callbacks),
            in_flight: count(&self.live.in_flight),
            attempts: count(&self.live.attempts),
            missed_probes: count(&self.live.missed_probes),
            failures: Cause::ALL
                .iter()
                .zip(&self.live.failures)
                .map(|(cause, counter)| (cause.label(), count(counter)))
                .filter(|(_, failures)| *failures > 0)
                .collect(),
            entered: InstanceState::ALL
                .iter()
                .zip(&self.live.entered)
                .map(|(state, counter)| (*state, count(counter)))
                .filter(|(_, times)| *times > 0)
                .collect(),
        }
    }
}

/// What is known of one instance.
#[derive(Clone, Debug)]
pub struct InstanceStatus {
    /// Its name.
    pub name: Name,
    /// Its incarnation.
    pub incarnation: Name,
    /// Its state.
    pub state: InstanceState,
    /// How long it has been in this state.
    pub since: Duration,
    /// Why, in a few words.
    pub reason: &'static str,
    /// Reported calls.
    pub calls: Option<u32>,
    /// Reported calls with what this gateway placed since, less what ended: what placement goes by. `None` without a
    /// report.
    pub calls_expected: Option<u32>,
    /// Calls that this gateway placed there and has not seen end. Of several gateways another one may see the end.
    pub calls_counted: usize,
    /// Reported capacity.
    pub capacity: Option<u32>,
    /// New calls that it accepted from this gateway since the start.
    pub placed: u64,
    /// Callbacks that it answered.
    pub callbacks: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Tries made.
    pub attempts: u64,
    /// Tries that failed, by label.
    pub failures: Vec<(&'static str, u64)>,
    /// Probes that were not answered, or not in words that we understand.
    pub missed_probes: u64,
    /// How long ago the last probe answered.
    pub last_probe: Option<Duration>,
    /// How often it changed into each state.
    pub entered: Vec<(InstanceState, u64)>,
}

/// What the ranking needs to know of an instance, in one place: that of all instances is read for each new call.
#[derive(Clone, Debug)]
pub(crate) struct Rankable {
    shown: Arc<Shown>,
    name_hash: u64,
    weight: u32,
    /// Its place among the instances of the fleet.
    pub(crate) at: usize,
}

impl Rankable {
    /// Whether it may take a new call.
    pub(crate) fn standing(&self, clock: Clock) -> Standing {
        self.shown.standing(clock.now_ms)
    }

    /// With its load. Where instances warm up, weights are in parts of a hundred, and fewer of them for one that still does.
    pub(crate) fn candidate(&self, clock: Clock) -> Candidate {
        let weight = if clock.slow_start_ms == 0 {
            self.weight
        } else {
            self.weight.saturating_mul(self.shown.warmth_percent(clock))
        };
        Candidate { name_hash: self.name_hash, weight, load: self.shown.load() }
    }

    /// Without what changes from moment to moment.
    pub(crate) fn unloaded(&self) -> Candidate {
        Candidate { name_hash: self.name_hash, weight: self.weight, load: None }
    }
}

/// The time of one look at a fleet, reckoned once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    now_ms: u64,
    slow_start_ms: u64,
}

impl Clock {
    pub(crate) fn new(now: Instant, epoch: Instant, slow_start: Duration) -> Self {
        Self { now_ms: millis(now.saturating_duration_since(epoch)), slow_start_ms: millis(slow_start) }
    }
}

/// What placement reads of an instance, so that it takes no lock. Times are in milliseconds after the epoch of its fleet.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The state, whether there is a probe, and the end of its rest.
    state: AtomicU64,
    /// Calls in the upper half, capacity in the lower; 0 where the load is not known.
    load: AtomicU64,
    /// When it last became ready after it was away.
    warming_since: AtomicU64,
}

impl Shown {
    /// Whether it may take a new call.
    fn standing(&self, now_ms: u64) -> Standing {
        let shown = self.state.load(Ordering::Relaxed);
        if shown & SHOWN_READY != 0 {
            Standing::Candidate
        } else if shown & SHOWN_ASLEEP == 0 {
            Standing::Never
        } else if shown >> SHOWN_BITS > now_ms {
            Standing::Last
        } else {
            Standing::Candidate
        }
    }

    /// The reported load, where it is known.
    fn load(&self) -> Option<Load> {
        let load = self.load.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        (load != 0).then(|| Load { calls: half(load >> 32), capacity: half(load) })
    }

    /// 1 to 100: how much of its weight it has, rising over the slow start from when it became ready.
    fn warmth_percent(&self, clock: Clock) -> u32 {
        let warmed_ms = clock.now_ms.saturating_sub(self.warming_since.load(Ordering::Relaxed));
        if warmed_ms >= clock.slow_start_ms {
            return 100;
        }
        let percent = warmed_ms.saturating_mul(100).checked_div(clock.slow_start_ms).unwrap_or(100);
        u32::try_from(percent).unwrap_or(100).clamp(1, 100)
    }
}

/// What was learned of an instance, shared by all threads and handed on over reloads.
#[derive(Debug)]
pub(crate) struct Live {
    name: Name,
    /// That of the fleets that it is in.
    epoch: Instant,
    health: Mutex<Health>,
    /// What placement reads.
    shown: Arc<Shown>,
    /// The calls that this gateway placed there.
    calls: Mutex<Calls>,
    /// A try failed: the probe need not wait for its turn.
    demoted: Notify,
    entered: [AtomicU64; InstanceState::ALL.len()],
    /// The last request to it, in milliseconds after `epoch`.
    used: AtomicU64,
    placed: AtomicU64,
    callbacks: AtomicU64,
    in_flight: AtomicU64,
    attempts: AtomicU64,
    missed_probes: AtomicU64,
    failures: [AtomicU64; Cause::ALL.len()],
}

impl Live {
    pub(crate) fn new(
        name: Name,
        shown: Arc<Shown>,
        probed: bool,
        offer: Offer,
        epoch: Instant,
        now: Instant,
    ) -> Self {
        let health = Health::new(probed, offer, now);
        let born_ms = millis(now.saturating_duration_since(epoch));
        let live = Self {
            name,
            epoch,
            shown,
            calls: Mutex::default(),
            demoted: Notify::new(),
            entered: Default::default(),
            used: AtomicU64::new(born_ms),
            placed: AtomicU64::new(0),
            callbacks: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            missed_probes: AtomicU64::new(0),
            failures: Default::default(),
            health: Mutex::new(health),
        };
        live.show(&live.health());
        live.shown.warming_since.store(born_ms, Ordering::Relaxed);
        live
    }

    /// Learns something.
    pub(crate) fn learn(&self, event: Event, now: Instant) {
        self.learn_with(self.health(), event, now);
        if let Event::TryFailed(_) = event {
            self.demoted.notify_one();
        }
    }

    /// Counts and logs a change of state.
    fn learn_with(&self, mut health: MutexGuard<'_, Health>, event: Event, now: Instant) {
        let was_cold = health.is_cold();
        let change = health.step(event, now);
        self.show(&health);
        drop(health);
        let Some(change) = change else { return };
        if change.to == InstanceState::Ready && was_cold {
            self.shown.warming_since.store(self.millis(now), Ordering::Relaxed);
        }
        let mut entered = InstanceState::ALL.iter().zip(&self.entered);
        if let Some((_, counter)) = entered.find(|(state, _)| **state == change.to) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let (instance, from, to, reason) = (&self.name, change.from, change.to, change.reason);
        if to == InstanceState::Unreachable {
            tracing::warn!(%instance, %from, %to, reason, "instance changed its state");
        } else {
            tracing::info!(%instance, %from, %to, reason, "instance changed its state");
        }
    }

    /// It answered a probe that was sent at `sent`.
    pub(crate) fn reported(&self, report: Report, sent: Instant, now: Instant) {
        if report.calls == Some(0) {
            self.calls().forget(sent);
        }
        self.learn(Event::Reported(report), now);
    }

    /// Whether it may take a new call.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        self.shown.standing(self.millis(now))
    }

    /// Returns when a try has failed since it was last asked.
    pub(crate) async fn demoted(&self) {
        self.demoted.notified().await;
    }

    /// Whether an instance that left its source can be let go: it holds no call that anybody knows of.
    ///
    /// Its own report is believed. Without one the calls that this gateway placed must have ended, and nothing may have come
    /// for it in a while: other gateways place calls there, too.
    pub(crate) fn is_done(&self, now: Instant) -> bool {
        let health = self.health();
        let reported_since_it_left = health.last_report() > health.left_at();
        let expected = health.expected_calls().filter(|_| reported_since_it_left);
        drop(health);
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return false;
        }
        match expected {
            Some(calls) => calls == 0,
            None => {
                let used = self.used.load(Ordering::Relaxed);
                self.calls().len() == 0 && self.millis(now).saturating_sub(used) >= millis(QUIET)
            }
        }
    }

    /// Since when its source lists it no more.
    pub(crate) fn left_at(&self) -> Option<Instant> {
        self.health().left_at()
    }

    /// A request is on its way until the guard is dropped.
    pub(crate) fn request_begins(self: &Arc<Self>, now: Instant) -> InFlight {
        self.used.store(self.millis(now), Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// A new call is about to be given to it, and counts as one of its calls from now on. `None` if it has become full,
    /// drained or unreachable meanwhile.
    pub(crate) fn try_begins(self: &Arc<Self>, now: Instant) -> Option<Offered> {
        let health = self.health();
        let may_take = match health.state() {
            InstanceState::Ready => true,
            // Without a probe the next call finds out.
            InstanceState::Unreachable => !health.probed() && !health.is_withheld(),
            InstanceState::Starting | InstanceState::Full | InstanceState::Draining | InstanceState::Gone => {
                false
            }
        };
        may_take.then_some(())?;
        self.learn_with(health, Event::TryBegan, now);
        Some(Offered { live: Arc::clone(self), settled: false })
    }

    /// It answered. Costs a load while all is well.
    pub(crate) fn answered(&self, now: Instant) {
        if !self.is_shown_ready() {
            self.learn(Event::Answered, now);
        }
    }

    pub(crate) fn failed(&self, cause: Cause) {
        if let Some((_, counter)) = Cause::ALL.iter().zip(&self.failures).find(|(one, _)| **one == cause) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn missed_probe(&self) {
        self.missed_probes.fetch_add(1, Ordering::Relaxed);
    }

    /// One more try, of a new call or a callback.
    pub(crate) fn tried(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// A call ended. Only those count that were placed here, and each once: what others placed is not in what we added to the
    /// report, and a notification may come twice.
    pub(crate) fn call_ended(&self, call_id: &str, now: Instant) {
        if self.calls().end(call_id) {
            self.learn(Event::Ended, now);
        }
    }

    pub(crate) fn answered_callback(&self) {
        self.callbacks.fetch_add(1, Ordering::Relaxed);
    }

    fn is_shown_ready(&self) -> bool {
        self.shown.state.load(Ordering::Relaxed) & SHOWN_READY != 0
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.epoch))
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // A panic while it was held leaves a state that is stale at worst.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, health: &Health) {
        let rests_until = health.rests_until().map_or(0, |at| self.millis(at));
        let flags = match (health.state(), health.probed()) {
            (InstanceState::Ready, _) => SHOWN_READY,
            (InstanceState::Unreachable, false) if !health.is_withheld() => SHOWN_ASLEEP,
            _ => 0,
        };
        self.shown.state.store(rests_until << SHOWN_BITS | flags, Ordering::Relaxed);
        let load = health.load().map_or(0, |load| u64::from(load.calls) << 32 | u64::from(load.capacity));
        self.shown.load.store(load, Ordering::Relaxed);
    }
}

/// Takes new calls.
const SHOWN_READY: u64 = 1;
/// Failed a try, without a probe that could tell whether it is back.
const SHOWN_ASLEEP: u64 = 2;
/// The bits below the end of its rest.
const SHOWN_BITS: u32 = 2;

/// A request to an instance that is under way.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Live>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A new call that was offered to an instance. Dropped before the instance answered, it counts as accepted until the next
/// report: the instance may have taken it.
#[derive(Debug)]
pub(crate) struct Offered {
    live: Arc<Live>,
    settled: bool,
}

impl Offered {
    pub(crate) fn accepted(mut self, call_id: Option<&str>, now: Instant) {
        self.settled = true;
        self.live.placed.fetch_add(1, Ordering::Relaxed);
        if let Some(call_id) = call_id {
            self.live.calls().begin(call_id, now);
        }
        self.live.learn(Event::Accepted, now);
    }

    pub(crate) fn refused(mut self, now: Instant) {
        self.settled = true;
        self.live.learn(Event::NotAccepted, now);
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        if !self.settled {
            self.live.learn(Event::Accepted, Instant::now());
        }
    }
}

/// A name as a header value: its alphabet allows nothing else.
pub(crate) fn name_value(name: &Name) -> HeaderValue {
    HeaderValue::from_str(name.as_str()).expect("a name is of A-Z a-z 0-9 . _ -")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> SHOWN_BITS)
}

/// An instance that left, and that says nothing of its calls, is kept until nothing came for it for as long as this: other
/// gateways place calls there too, and a call may be silent for long.
const QUIET: Duration = Duration::from_secs(3600);
/// More apps than any gateway serves; beyond it the callback URI is minted for each request.
const APPS_MAX: usize = 1024;

#[cfg(test)]
mod tests;
