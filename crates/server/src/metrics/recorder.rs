//! The numbers of the process, and the methods that record them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use switchboard_delivery::Histogram;
use switchboard_graph::{GraphResponse, TransportError};
use switchboard_notification::ItemKind;

use crate::{
    metrics::{
        new_calls::NewCallMetrics,
        rules::RuleCounters,
        series::{IndexedCounters, LabelledCounters, OutcomeCounters, index_of},
        spans::SpanCounts,
    },
    request::{body::BodyMemory, outcome::Outcome},
    telemetry::{EventLimiter, LogCounts},
};

/// The numbers of this process. All threads share them, and they outlive a reload.
#[derive(Debug)]
pub struct Metrics {
    pub(super) requests: OutcomeCounters,
    pub(super) callbacks: OutcomeCounters,
    pub(super) connections_failed: OutcomeCounters,
    pub(super) webhook_seconds: Histogram,
    pub(super) callback_seconds: Histogram,
    pub(crate) new_calls: NewCallMetrics,
    /// By `GRAPH_RESULTS`.
    pub(super) graph_seconds: [Histogram; GRAPH_RESULTS.len()],
    pub(super) in_flight: AtomicUsize,
    pub(super) body_memory: Arc<BodyMemory>,
    pub(super) notifications: IndexedCounters<{ ITEM_KINDS.len() }>,
    pub(super) redirects: LabelledCounters<1>,
    pub(crate) rules: RuleCounters,
    pub(super) outcomes_unknown: AtomicU64,
    /// By the way they got their response.
    pub(super) retries: LabelledCounters<1>,
    pub(super) responses_forgotten: AtomicU64,
    /// By action and result.
    pub(super) actions: LabelledCounters<2>,
    pub(super) actions_in_flight: AtomicUsize,
    /// By trust.
    pub(super) authenticated: LabelledCounters<1>,
    /// By trust and reason.
    pub(super) rejected: LabelledCounters<2>,
    pub(super) workers: AtomicUsize,
    pub(super) connections: AtomicUsize,
    /// By reason.
    pub(super) connections_refused: LabelledCounters<1>,
    pub(super) connections_evicted: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) peers: Mutex<BTreeMap<Box<str>, bool>>,
    pub(super) reloads_ok: AtomicU64,
    pub(super) reloads_failed: AtomicU64,
    pub(super) last_reload_failed: AtomicBool,
    /// The time since which the configuration applies, in Unix seconds; `UNKNOWN` before the first.
    pub(super) configured_at: AtomicI64,
    /// Unix seconds; `UNKNOWN` without a certificate.
    pub(super) certificate_not_after: AtomicI64,
    pub(super) log: LogCounts,
    pub(crate) spans: SpanCounts,
    /// The events of refused requests that the log does not show.
    pub(crate) refusal_events: EventLimiter,
}

/// The kind of a request, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A notification on the webhook.
    Webhook,
    /// A notification on a callback URI.
    Callback,
    /// A peer gateway asks whether this region can take a new call.
    Health,
    /// A balancer asks whether this gateway is ready.
    Ready,
    /// Anything else.
    Other,
}

impl RequestKind {
    /// The value of the field `http.route` in the log and of the label `kind` in the metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Callback => "callback",
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Other => "other",
        }
    }
}

impl Metrics {
    /// All numbers at 0. `log` counts dropped lines and panics.
    pub fn new(log: LogCounts) -> Self {
        Self {
            requests: IndexedCounters::default(),
            callbacks: IndexedCounters::default(),
            connections_failed: IndexedCounters::default(),
            webhook_seconds: Histogram::default(),
            callback_seconds: Histogram::default(),
            new_calls: NewCallMetrics::default(),
            graph_seconds: Default::default(),
            in_flight: AtomicUsize::new(0),
            body_memory: Arc::default(),
            notifications: IndexedCounters::default(),
            redirects: LabelledCounters::default(),
            rules: RuleCounters::default(),
            outcomes_unknown: AtomicU64::new(0),
            retries: LabelledCounters::default(),
            responses_forgotten: AtomicU64::new(0),
            actions: LabelledCounters::default(),
            actions_in_flight: AtomicUsize::new(0),
            authenticated: LabelledCounters::default(),
            rejected: LabelledCounters::default(),
            workers: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            connections_refused: LabelledCounters::default(),
            connections_evicted: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            peers: Mutex::default(),
            reloads_ok: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            last_reload_failed: AtomicBool::new(false),
            configured_at: AtomicI64::new(UNKNOWN),
            certificate_not_after: AtomicI64::new(UNKNOWN),
            log,
            spans: SpanCounts::default(),
            refusal_events: EventLimiter::default(),
        }
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn start_request(self: &Arc<Self>) -> InFlight {
        let count = self.in_flight.fetch_add(1, Relaxed) + 1;
        InFlight { metrics: Arc::clone(self), count }
    }

    /// Returns the memory of the bodies of requests.
    pub(crate) fn body_memory(&self) -> &Arc<BodyMemory> {
        &self.body_memory
    }

    /// Records a request that ended `duration` after its arrival.
    pub fn request(&self, outcome: Outcome, kind: RequestKind, duration: Duration) {
        self.requests.increment(index_of(outcome));
        match kind {
            RequestKind::Webhook => self.webhook_seconds.observe(duration),
            RequestKind::Callback => {
                self.callbacks.increment(index_of(outcome));
                self.callback_seconds.observe(duration);
            }
            RequestKind::Health | RequestKind::Ready | RequestKind::Other => {}
        }
    }

    /// Records a request to Graph or to a token endpoint.
    pub fn graph_request(&self, result: &Result<GraphResponse, TransportError>, duration: Duration) {
        let label = match result {
            Ok(response) => match response.status {
                ..300 => "2xx",
                300..400 => "3xx",
                400..500 => "4xx",
                500.. => "5xx",
            },
            Err(error) => error.kind.label(),
        };
        let mut results = GRAPH_RESULTS.iter().zip(&self.graph_seconds);
        if let Some((_, histogram)) = results.find(|(one, _)| **one == label) {
            histogram.observe(duration);
        }
    }

    /// Records a checked token. `reason` is `ok` or the label of the error. `trust` is empty if the token
    /// names none.
    pub fn authentication(&self, trust: &str, reason: &'static str) {
        if reason == AUTHENTICATED {
            self.authenticated.increment([trust]);
        } else {
            self.rejected.increment([trust, reason]);
        }
    }

    /// Records an item of a notification.
    pub fn notification(&self, kind: ItemKind) {
        self.notifications.increment(index_of_item(kind));
    }

    /// Records a new call that was redirected to another region.
    pub fn redirect(&self, region: &str) {
        self.redirects.increment([region]);
    }

    /// Records attempts of a new call that were abandoned after the request had been written.
    pub fn outcome_unknown(&self, attempts: u64) {
        self.outcomes_unknown.fetch_add(attempts, Relaxed);
    }

    /// Records a retry that got the response of the first request of its message. `result` is `shared` while
    /// that one was in flight, `repeated` after it.
    pub fn retry(&self, result: &'static str) {
        self.retries.increment([result]);
    }

    /// Records responses that were forgotten before they were old, because their memory was full.
    pub fn responses_forgotten(&self, count: u64) {
        self.responses_forgotten.fetch_add(count, Relaxed);
    }

    /// Records an action through Graph. `result` is `ok` or the label of the error.
    pub fn action(&self, action: &'static str, result: &'static str) {
        self.actions.increment([action, result]);
    }

    /// Sets the number of actions in flight, including notices of failed actions.
    pub fn actions_in_flight(&self, count: usize) {
        self.actions_in_flight.store(count, Relaxed);
    }

    /// Counts a worker thread as alive until the guard is dropped.
    pub fn worker(self: &Arc<Self>) -> WorkerGuard {
        self.workers.fetch_add(1, Relaxed);
        WorkerGuard { metrics: Arc::clone(self) }
    }

    /// The worker threads that are alive. Without any, the gateway cannot serve a request.
    pub fn workers(&self) -> usize {
        self.workers.load(Relaxed)
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connection(self: &Arc<Self>) -> ConnectionGuard {
        self.connections.fetch_add(1, Relaxed);
        ConnectionGuard { metrics: Arc::clone(self) }
    }

    /// Records a connection that was closed at once.
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.increment([reason]);
    }

    /// Records a connection that ends to make room for another one.
    pub fn connection_evicted(&self) {
        self.connections_evicted.fetch_add(1, Relaxed);
    }

    /// The open connections.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Records a connection that failed outside of any request.
    pub fn connection_ended(&self, outcome: Outcome) {
        self.connections_failed.increment(index_of(outcome));
    }

    /// Records a TLS handshake that failed or timed out.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Relaxed);
    }

    /// Sets the health of a peer region.
    pub fn peer_healthy(&self, peer: &str, healthy: bool) {
        self.peers().insert(peer.into(), healthy);
    }

    /// Removes the peers that a reload removed.
    pub fn retain_peers(&self, is_peer: impl Fn(&str) -> bool) {
        self.peers().retain(|peer, _| is_peer(peer));
    }

    /// Records a reload that applied or was refused.
    pub fn reload(&self, ok: bool, now: SystemTime) {
        let counter = if ok { &self.reloads_ok } else { &self.reloads_failed };
        counter.fetch_add(1, Relaxed);
        self.last_reload_failed.store(!ok, Relaxed);
        if ok {
            self.configured(now);
        }
    }

    /// Records that a configuration applies from now on.
    pub fn configured(&self, now: SystemTime) {
        self.configured_at.store(unix_seconds(now), Relaxed);
    }

    /// Sets the end of the served certificate's validity; `None` without TLS.
    pub fn certificate_not_after(&self, time: Option<SystemTime>) {
        self.certificate_not_after.store(time.map_or(UNKNOWN, unix_seconds), Relaxed);
    }

    pub(super) fn peers(&self) -> MutexGuard<'_, BTreeMap<Box<str>, bool>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight {
    metrics: Arc<Metrics>,
    count: usize,
}

impl InFlight {
    /// The number of requests in flight when this one started, including itself.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A worker thread that is alive.
#[derive(Debug)]
pub struct WorkerGuard {
    metrics: Arc<Metrics>,
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        self.metrics.workers.fetch_sub(1, Relaxed);
        // A worker returns when the gateway has drained. Nothing but a bug ends it before.
        if std::thread::panicking() {
            tracing::error!(
                workers = self.metrics.workers(),
                "worker thread stopped by a panic: restart the gateway"
            );
        }
    }
}

/// An open connection.
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
    reason = "the discriminant of a fieldless enum is its index in `ITEM_KINDS`"
)]
pub(super) fn index_of_item(kind: ItemKind) -> usize {
    kind as usize
}

/// Returns a time in Unix seconds.
fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// The results of requests to Graph: the class of the status, or the kind of failure.
pub(super) const GRAPH_RESULTS: [&str; 8] =
    ["2xx", "3xx", "4xx", "5xx", "unreachable", "tls", "lost", "timeout"];

/// The outcomes of connections that fail outside of a request.
pub(super) const CONNECTION_FAILURES: [Outcome; 3] =
    [Outcome::BadRequest, Outcome::HeadTooLarge, Outcome::TooSlow];

/// All kinds of items, in the order of their discriminants.
pub(super) const ITEM_KINDS: [ItemKind; 9] = [
    ItemKind::IncomingCall,
    ItemKind::CallState,
    ItemKind::Roster,
    ItemKind::Operation,
    ItemKind::ContentSharing,
    ItemKind::ParticipantJoining,
    ItemKind::ParticipantLeft,
    ItemKind::Other,
    ItemKind::NoCall,
];

/// The reason label of an authentication that succeeded.
pub(super) const AUTHENTICATED: &str = "ok";

pub(super) const UNKNOWN: i64 = i64::MIN;
