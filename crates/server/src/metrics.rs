//! What is counted and measured, and what `/metrics` says of it.
//!
//! Requests touch plain atomics that were there before the first request: no look-up by label, no lock, no allocation.
//! The state of keys and instances is not mirrored here; it is asked for when somebody looks.
//!
//! Reading order: the methods of [`Metrics`] (what is recorded), `exposition` (what it is called outside), `series`.

mod exposition;
mod series;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use switchboard_auth::TrustStatus;
use switchboard_delivery::InstanceStatus;
use switchboard_notification::ItemKind;

use self::series::{Counters, Histogram, Labelled};
use crate::{request::outcome::Outcome, telemetry::Counts};

/// The numbers of this process, shared by all threads. They outlive a reload.
#[derive(Debug)]
pub struct Metrics {
    requests: Counters<{ Outcome::ALL.len() }>,
    callbacks: Counters<{ Outcome::ALL.len() }>,
    connections_failed: Counters<{ Outcome::ALL.len() }>,
    webhook_seconds: Histogram,
    callback_seconds: Histogram,
    in_flight: AtomicUsize,
    notifications: Counters<{ ITEM_KINDS.len() }>,
    redirects: Labelled<1>,
    outcomes_unknown: AtomicU64,
    /// By how they came by their answer.
    retries: Labelled<1>,
    /// By action and result.
    actions: Labelled<2>,
    actions_in_flight: AtomicUsize,
    /// By trust.
    authenticated: Labelled<1>,
    /// By trust and reason.
    rejected: Labelled<2>,
    connections: AtomicUsize,
    connections_refused: AtomicU64,
    handshakes_failed: AtomicU64,
    peers: Mutex<BTreeMap<Box<str>, bool>>,
    reloads_ok: AtomicU64,
    reloads_failed: AtomicU64,
    /// Unix seconds; `UNKNOWN` without a certificate.
    certificate_not_after: AtomicI64,
    log: Counts,
}

/// What a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A notification on the webhook.
    Webhook,
    /// A notification on a callback URI.
    Callback,
    /// The health question.
    Health,
    /// Anything else.
    Other,
}

impl Metrics {
    /// All numbers at 0; `log` counts the dropped lines and the panics.
    pub fn new(log: Counts) -> Self {
        Self {
            requests: Counters::default(),
            callbacks: Counters::default(),
            connections_failed: Counters::default(),
            webhook_seconds: Histogram::default(),
            callback_seconds: Histogram::default(),
            in_flight: AtomicUsize::new(0),
            notifications: Counters::default(),
            redirects: Labelled::default(),
            outcomes_unknown: AtomicU64::new(0),
            retries: Labelled::default(),
            actions: Labelled::default(),
            actions_in_flight: AtomicUsize::new(0),
            authenticated: Labelled::default(),
            rejected: Labelled::default(),
            connections: AtomicUsize::new(0),
            connections_refused: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            peers: Mutex::default(),
            reloads_ok: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            certificate_not_after: AtomicI64::new(UNKNOWN),
            log,
        }
    }

    /// A request begins; it ends when the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        let count = self.in_flight.fetch_add(1, Relaxed) + 1;
        InFlight { metrics: Arc::clone(self), count }
    }

    /// A request was answered, or given up, `duration` after its arrival.
    pub fn request(&self, outcome: Outcome, kind: RequestKind, duration: Duration) {
        self.requests.increment(index_of(outcome));
        match kind {
            RequestKind::Webhook => self.webhook_seconds.observe(duration),
            RequestKind::Callback => {
                self.callbacks.increment(index_of(outcome));
                self.callback_seconds.observe(duration);
            }
            RequestKind::Health | RequestKind::Other => {}
        }
    }

    /// A token was checked: `reason` is `ok`, or the label of what is wrong with it. `trust` is empty where the token did
    /// not tell.
    pub fn authentication(&self, trust: &str, reason: &'static str) {
        if reason == AUTHENTICATED {
            self.authenticated.increment([trust]);
        } else {
            self.rejected.increment([trust, reason]);
        }
    }

    /// An item of a notification came in.
    pub fn notification(&self, kind: ItemKind) {
        self.notifications.increment(index_of_item(kind));
    }

    /// A new call was sent to another region.
    pub fn redirect(&self, region: &str) {
        self.redirects.increment([region]);
    }

    /// Tries of a new call that were given up after the request had been written.
    pub fn outcome_unknown(&self, tries: u64) {
        self.outcomes_unknown.fetch_add(tries, Relaxed);
    }

    /// A retry was answered like the first request of its message: `shared` while that was under way, `repeated` after it.
    pub fn retry(&self, result: &'static str) {
        self.retries.increment([result]);
    }

    /// An action was carried out through Graph, or not: `result` is `ok`, or the label of what is wrong.
    pub fn action(&self, action: &'static str, result: &'static str) {
        self.actions.increment([action, result]);
    }

    /// So many actions are being carried out, or their failures told.
    pub fn actions_in_flight(&self, count: usize) {
        self.actions_in_flight.store(count, Relaxed);
    }

    /// A connection was accepted; it ends when the guard is dropped. `None`, counted as refused, if there are `limit` already.
    pub fn connection(self: &Arc<Self>, limit: usize) -> Option<ConnectionGuard> {
        let guard = ConnectionGuard { metrics: Arc::clone(self) };
        if self.connections.fetch_add(1, Relaxed) < limit {
            return Some(guard);
        }
        self.connections_refused.fetch_add(1, Relaxed);
        None
    }

    /// A connection ended by a fault outside of any request that we saw.
    pub fn connection_ended(&self, outcome: Outcome) {
        self.connections_failed.increment(index_of(outcome));
    }

    /// A TLS handshake failed or took too long.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Relaxed);
    }

    /// What is known of another region.
    pub fn peer_healthy(&self, peer: &str, healthy: bool) {
        self.peers().insert(peer.into(), healthy);
    }

    /// Forgets the peers that a reload took away.
    pub fn retain_peers(&self, is_peer: impl Fn(&str) -> bool) {
        self.peers().retain(|peer, _| is_peer(peer));
    }

    /// A configuration was put to work, or refused.
    pub fn reload(&self, ok: bool) {
        let counter = if ok { &self.reloads_ok } else { &self.reloads_failed };
        counter.fetch_add(1, Relaxed);
    }

    /// The end of the validity of the certificate that is served.
    pub fn certificate_not_after(&self, time: SystemTime) {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.certificate_not_after.store(i64::try_from(seconds).unwrap_or(i64::MAX), Relaxed);
    }

    /// Everything, as OpenMetrics text (the format of [`Metrics::CONTENT_TYPE`]), which Prometheus reads.
    pub fn exposition(self: &Arc<Self>, trusts: Vec<TrustStatus>, instances: Vec<InstanceStatus>) -> String {
        exposition::text(Arc::clone(self), trusts, instances)
    }

    /// The media type of `exposition`.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    fn peers(&self) -> MutexGuard<'_, BTreeMap<Box<str>, bool>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way.
#[derive(Debug)]
pub struct InFlight {
    metrics: Arc<Metrics>,
    count: usize,
}

impl InFlight {
    /// The requests that were under way when this one began, itself included.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct ConnectionGuard {
    metrics: Arc<Metrics>,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.metrics.connections.fetch_sub(1, Relaxed);
    }
}

#[expect(
    clippy::as_conversions,
    reason = "the discriminant of a fieldless enum is its place in `Outcome::ALL`"
)]
fn index_of(outcome: Outcome) -> usize {
    outcome as usize
}

#[expect(
    clippy::as_conversions,
    reason = "the discriminant of a fieldless enum is its place in `ITEM_KINDS`"
)]
fn index_of_item(kind: ItemKind) -> usize {
    kind as usize
}

const ITEM_KINDS: [ItemKind; 9] = [
    ItemKind::IncomingCall,
    ItemKind::CallState,
    ItemKind::Roster,
    ItemKind::Operation,
    ItemKind::ContentSharing,
    ItemKind::ParticipantJoining,
    ItemKind::ParticipantLeft,
    ItemKind::Other,
    ItemKind::NotACall,
];

/// The reason of an authentication that succeeded.
const AUTHENTICATED: &str = "ok";

const UNKNOWN: i64 = i64::MIN;

#[cfg(test)]
pub(crate) mod tests;
