//! One instance of the fleet: its identity, its address, and the parts of its requests that never change.

mod counters;
mod departed;
mod ejection_share;
mod event;
mod health;
mod incarnation;
mod load_estimate;
mod pending_call;
mod placed_calls;
mod placement_view;
mod state;
mod status;
mod tracker;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::uri::PathAndQuery;
use switchboard_routing::{CallbackUris, Name, Owner, OwnerRef, hash_name};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use self::{
    counters::InFlight,
    departed::Departed,
    ejection_share::Shared,
    event::{Event, Report, ReportedState},
    health::EJECTION_MIN,
    incarnation::{ProbedIncarnation, Standing},
    pending_call::PendingCall,
    placement_view::{Clock, Eligibility, PlacementView, Rankable},
    tracker::Tracker,
};
pub use self::{counters::InstanceCounts, state::InstanceState, status::InstanceStatus};
use crate::{
    cause::{Blame, Cause},
    headers::InstanceFields,
    member::{Member, SourceState, is_known},
    origins::{Endpoint, OriginsBuilder},
};

/// One instance of a fleet.
///
/// A reload or a change of the source builds it anew. The `tracker`, which holds everything learned about the
/// instance, is handed on.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Its identity, as its callback URIs name it. The incarnation is that of its source. If the source knows
    /// none, it is the one that its probe reports.
    pub(crate) owner: Owner,
    pub(crate) apps: Option<Vec<Uuid>>,
    pub(crate) new_calls: Endpoint,
    pub(crate) callbacks: Endpoint,
    /// The incarnation according to its source.
    source_incarnation: Name,
    pub(crate) probed_incarnation: Arc<ProbedIncarnation>,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) source_state: SourceState,
    name_hash: u64,
    weight: u32,
    uris: Arc<CallbackUris>,
    /// Sorted by app. Apps come from verified tokens of configured apps, so the list is as short as their
    /// list.
    by_app: ArcSwap<Vec<(Uuid, Arc<AppParts>)>>,
}

/// The parts of a request to one instance that depend on the app only.
#[derive(Debug)]
pub(crate) struct AppParts {
    pub(crate) fields: InstanceFields,
    pub(crate) new_call_path: PathAndQuery,
    pub(crate) callback_path: PathAndQuery,
}

/// The parts of an instance that belong to one process.
#[derive(Debug)]
pub(crate) struct Process {
    /// See [`Instance::owner`].
    pub(crate) incarnation: Name,
    pub(crate) probed_incarnation: Arc<ProbedIncarnation>,
    pub(crate) tracker: Arc<Tracker>,
}

impl Instance {
    /// The instance that `member` describes, in `region`, with its endpoints added to `origins`.
    pub(crate) fn new(
        member: Member,
        region: &Name,
        uris: &Arc<CallbackUris>,
        origins: &mut OriginsBuilder,
        process: Process,
    ) -> Self {
        let Member { name, incarnation, new_calls, callbacks, apps, weight, source_state } = member;
        let Process { incarnation: known, probed_incarnation, tracker } = process;
        Self {
            name_hash: hash_name(&name),
            source_incarnation: incarnation,
            probed_incarnation,
            apps,
            new_calls: origins.endpoint(new_calls, &known),
            callbacks: origins.endpoint(callbacks, &known),
            owner: Owner { region: region.clone(), instance: name, incarnation: known },
            tracker,
            source_state,
            weight: weight.max(1),
            uris: Arc::clone(uris),
            by_app: ArcSwap::default(),
        }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.owner.instance
    }

    /// The instance as its source described it.
    pub(crate) fn member(&self) -> Member {
        Member {
            name: self.owner.instance.clone(),
            incarnation: self.source_incarnation.clone(),
            new_calls: self.new_calls.url.clone(),
            callbacks: self.callbacks.url.clone(),
            apps: self.apps.clone(),
            weight: self.weight,
            source_state: self.source_state,
        }
    }

    /// Returns true if `member` describes this instance: the same name, incarnation and URLs. With another
    /// incarnation or at another address it is another process.
    pub(crate) fn is_described_by(&self, member: &Member) -> bool {
        self.owner.instance == member.name
            && self.source_incarnation == member.incarnation
            && self.new_calls.url.has_same_place(&member.new_calls)
            && self.callbacks.url.has_same_place(&member.callbacks)
    }

    /// Returns true if an instance with this incarnation at the same address is the same process. An
    /// incarnation that becomes known, or that is no longer used, is no other process.
    pub(crate) fn is_same_process(&self, incarnation: &Name) -> bool {
        self.owner.incarnation == *incarnation || !is_known(&self.owner.incarnation) || !is_known(incarnation)
    }

    /// Returns true if its source knows no incarnation, so that the one that its probe reports is used.
    pub(crate) fn uses_probed_incarnation(&self) -> bool {
        !is_known(&self.source_incarnation)
    }

    /// Returns true if an instance that refuses connections is another incarnation once it accepts them: its
    /// probe reports one.
    pub(crate) fn ends_when_it_refuses(&self) -> bool {
        self.uses_probed_incarnation() && is_known(&self.owner.incarnation)
    }

    /// The relation of a callback's owner, of the same name, to this instance.
    pub(crate) fn standing(&self, owner: OwnerRef<'_>) -> Standing {
        let incarnation = owner.incarnation.as_str();
        match (self.owner == owner, self.uses_probed_incarnation()) {
            (true, true) => self.probed_incarnation.standing_in_fleet(incarnation),
            (true, false) => Standing::Alive,
            (false, true) if self.owner.region.as_name_ref() == owner.region => {
                self.probed_incarnation.standing(incarnation)
            }
            (false, _) => Standing::Gone,
        }
    }

    /// Learns from a failed attempt whether the process may be another one. It refuses connections if it has
    /// ended. It responds with 503 to a new call that was meant for the incarnation before.
    pub(crate) fn attempt_failed(&self, cause: Cause) {
        if !self.ends_when_it_refuses() {
            return;
        }
        if cause == Cause::Refused {
            self.probed_incarnation.refused();
        } else if cause == Cause::Unavailable {
            self.probed_incarnation.probe_soon();
        }
    }

    /// Returns true if the instance comes from the store, and its source has not been read since.
    pub(crate) fn is_restored(&self) -> bool {
        self.source_state == SourceState::Restored
    }

    /// Returns true if the instance keeps its callbacks although its source no longer lists it.
    pub(crate) fn is_retained(&self, keep_leaving: Duration, now: Instant) -> bool {
        let unlisted_for =
            self.tracker.unlisted_at().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let is_unlisted = self.source_state == SourceState::Unlisted;
        unlisted_for < keep_leaving && !(is_unlisted && self.tracker.is_done(now))
    }

    /// Notes that a callback failed that was sent at `sent`.
    pub(crate) fn callback_failed(&self, cause: Cause, sent: Instant, now: Instant) {
        if cause.blame() == Blame::Unreachable && self.callbacks.slot == self.new_calls.slot {
            // The probe, which goes to the same port, finds out when the instance accepts connections again.
            self.tracker.learn(Event::CallFailed(cause), now);
        } else {
            self.tracker.callback_failed(cause, sent, now);
        }
    }

    /// The data that ranking needs, for the instance at index `at` of its fleet.
    pub(crate) fn rankable(&self, at: usize, slow_start: Duration) -> Rankable {
        Rankable::new(self.tracker.view(), self.name_hash, self.weight, slow_start, at)
    }

    /// The incarnation that its callback URIs would name if the fleet were built now.
    pub(crate) fn incarnation_now(&self) -> Name {
        let source = self.source_incarnation.clone();
        incarnation_in_use(self.name(), source, &self.probed_incarnation, &self.owner.region, &self.uris)
    }

    /// The parts of a request that depend on the app only. Minting the callback URI costs an HMAC, so they
    /// are made once.
    pub(crate) fn app_parts(&self, app: Uuid) -> Arc<AppParts> {
        let known = self.by_app.load();
        if let Ok(at) = known.binary_search_by_key(&app, |(id, _)| *id)
            && let Some((_, parts)) = known.get(at)
        {
            return Arc::clone(parts);
        }
        let parts = Arc::new(AppParts {
            fields: InstanceFields::new(&self.owner, app, &self.uris.mint(&self.owner, app)),
            new_call_path: self.new_calls.url.path(app),
            callback_path: self.callbacks.url.path(app),
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
}

/// The incarnation that the callback URIs of an instance name: that of its source, else that of its probe if
/// the URIs then have room for it.
pub(crate) fn incarnation_in_use(
    instance: &Name,
    source: Name,
    probed: &ProbedIncarnation,
    region: &Name,
    uris: &CallbackUris,
) -> Name {
    if is_known(&source) {
        return source;
    }
    let Some(incarnation) = probed.current() else { return source };
    let owner = Owner { region: region.clone(), instance: instance.clone(), incarnation };
    if uris.check(owner.as_ref()).is_ok() { owner.incarnation } else { source }
}

/// More apps than any gateway serves. Beyond it the callback URI is minted for each request.
const APPS_MAX: usize = 1024;
