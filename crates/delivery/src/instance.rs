//! One instance of the fleet: its identity, its address, and the parts of its requests that never change.

mod counters;
mod event;
mod health;
mod load_estimate;
mod placed_calls;
mod placement_view;
mod state;
mod status;
mod tracker;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderValue, uri::PathAndQuery};
use switchboard_routing::{CallbackUris, Name, Owner, hash_name};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use self::{
    event::{Event, Report, ReportedState},
    health::BACKOFF,
    placement_view::{Clock, Eligibility, PlacementView, Rankable},
    tracker::{InFlight, PendingCall, Tracker},
};
pub use self::{state::InstanceState, status::InstanceStatus};
use crate::{
    headers,
    member::{Member, SourceState},
    origins::{Endpoint, OriginsBuilder},
};

/// One instance of a fleet.
///
/// A reload or a change of the source builds it anew. The `tracker`, which holds everything learned about the
/// instance, is handed on.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) owner: Owner,
    pub(crate) apps: Option<Vec<Uuid>>,
    pub(crate) new_calls: Endpoint,
    pub(crate) callbacks: Endpoint,
    /// Its name, as the value of `Switchboard-Instance`.
    pub(crate) name_value: HeaderValue,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) source_state: SourceState,
    outlives_listing: bool,
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
    pub(crate) app_id: HeaderValue,
    /// `None` only if a callback URI were not a header value, which its alphabet rules out.
    pub(crate) callback_uri: Option<HeaderValue>,
    pub(crate) new_call_path: PathAndQuery,
    pub(crate) callback_path: PathAndQuery,
}

impl Instance {
    /// The instance that `member` describes, in `region`, with its endpoints added to `origins`.
    pub(crate) fn new(
        member: Member,
        region: &Name,
        uris: &Arc<CallbackUris>,
        origins: &mut OriginsBuilder,
        tracker: Arc<Tracker>,
    ) -> Self {
        let Member { name, incarnation, new_calls, callbacks, apps, weight, source_state, outlives_listing } =
            member;
        Self {
            name_hash: hash_name(&name),
            name_value: headers::name_value(&name),
            owner: Owner { region: region.clone(), instance: name, incarnation },
            apps,
            new_calls: origins.endpoint(new_calls),
            callbacks: origins.endpoint(callbacks),
            tracker,
            source_state,
            outlives_listing,
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
            incarnation: self.owner.incarnation.clone(),
            new_calls: self.new_calls.url.clone(),
            callbacks: self.callbacks.url.clone(),
            apps: self.apps.clone(),
            weight: self.weight,
            source_state: self.source_state,
            outlives_listing: self.outlives_listing,
        }
    }

    /// Returns true if `member` describes this instance: the same name, incarnation and URLs. With another
    /// incarnation or at another address it is another process.
    pub(crate) fn is_described_by(&self, member: &Member) -> bool {
        self.owner.instance == member.name
            && self.owner.incarnation == member.incarnation
            && self.new_calls.url.has_same_place(&member.new_calls)
            && self.callbacks.url.has_same_place(&member.callbacks)
    }

    /// Returns true if the instance keeps its callbacks although its source no longer lists it.
    pub(crate) fn is_retained(&self, keep_leaving: Duration, now: Instant) -> bool {
        let unlisted_for =
            self.tracker.unlisted_at().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let is_unlisted = self.source_state == SourceState::Unlisted;
        self.outlives_listing && unlisted_for < keep_leaving && !(is_unlisted && self.tracker.is_done(now))
    }

    /// The data that ranking needs, for the instance at index `at` of its fleet.
    pub(crate) fn rankable(&self, at: usize) -> Rankable {
        Rankable::new(self.tracker.view(), self.name_hash, self.weight, at)
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
            app_id: headers::guid_value(app),
            callback_uri: HeaderValue::from_str(&self.uris.mint(&self.owner, app)).ok(),
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

/// More apps than any gateway serves. Beyond it the callback URI is minted for each request.
const APPS_MAX: usize = 1024;
