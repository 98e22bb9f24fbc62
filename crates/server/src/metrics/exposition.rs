//! The metric names and help texts of `/metrics`. The names are documented in `docs/metrics.md` and do not
//! change.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    registry::Registry,
};
use switchboard_auth::TrustStatus;
use switchboard_delivery::{Connections, InstanceStatus, PlacementCounters};

use crate::{
    metrics::{
        families::Families,
        instances::InstanceSeries,
        placement,
        recorder::{AUTHENTICATED, ITEM_KINDS, Metrics, RequestKind, UNKNOWN},
    },
    request::outcome::Outcome,
};

/// The media type of [`exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The numbers of the delivery to the fleet as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryNumbers {
    /// The counters of placement.
    pub placement: PlacementCounters,
    /// The time since the last good answer of the fleet's source; `None` for a static list.
    pub source_age: Option<Duration>,
    /// The idle connections to instances and peer gateways.
    pub idle_connections: usize,
    /// True if each instance has series of its own.
    pub is_per_instance: bool,
}

/// Returns all metrics as OpenMetrics text, which Prometheus reads.
pub fn exposition(
    metrics: &Arc<Metrics>,
    trusts: Vec<TrustStatus>,
    instances: Vec<InstanceStatus>,
    delivery: DeliveryNumbers,
) -> String {
    let metrics = Arc::clone(metrics);
    let mut registry = Registry::with_prefix("switchboard");
    registry.register_collector(Box::new(Scrape { metrics, trusts, instances, delivery }));
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

/// The values of one scrape.
#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    trusts: Vec<TrustStatus>,
    instances: Vec<InstanceStatus>,
    delivery: DeliveryNumbers,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        self.requests(&mut families)?;
        self.authentication(&mut families)?;
        self.instances(&mut families)?;
        placement::encode(&self.delivery.placement, &mut families)?;
        self.process(&mut families)
    }
}

impl Scrape {
    fn requests(&self, families: &mut Families<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        let outcomes = || Outcome::ALL.map(Outcome::label).into_iter();

        families.counters(
            "requests",
            "Requests by outcome",
            outcomes().zip(metrics.requests.read()).map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        families.histograms(
            "request_duration_seconds",
            "Seconds from the arrival of a request to its response, by kind of request",
            [
                (RequestKind::Webhook, &metrics.webhook_seconds),
                (RequestKind::Callback, &metrics.callback_seconds),
            ]
            .map(|(kind, histogram)| ([("kind", kind.label())], histogram.read())),
        )?;
        families.gauge(
            "requests_in_flight",
            "Requests in flight",
            &number(metrics.in_flight.load(Relaxed)),
        )?;
        families.gauge(
            "request_body_bytes",
            "Bytes of request bodies in memory",
            &number(metrics.body_memory.bytes()),
        )?;
        families.counters(
            "callbacks",
            "Requests to a callback URI, by outcome",
            outcomes()
                .zip(metrics.callbacks.read())
                .filter(|(outcome, count)| *count > 0 || *outcome == Outcome::Forwarded.label())
                .map(|(result, count)| ([("result", result)], count)),
        )?;
        families.counters(
            "notifications",
            "Items of Graph notifications by kind",
            ITEM_KINDS
                .iter()
                .zip(metrics.notifications.read())
                .map(|(kind, count)| ([("kind", kind.label())], count)),
        )?;
        let redirects = metrics.redirects.read();
        families.counters(
            "redirects",
            "New calls redirected to another region",
            redirects.iter().map(|([region], count)| ([("region", &**region)], *count)),
        )?;
        families.counter(
            "outcomes_unknown",
            "Attempts of new calls abandoned after the request was written: two instances may have acted",
            metrics.outcomes_unknown.load(Relaxed),
        )?;
        let retries = metrics.retries.read();
        families.counters(
            "retries",
            "Retries that got the response to the first request of their message: shared while that one was \
             in flight, repeated after it",
            retries.iter().map(|([result], count)| ([("result", &**result)], *count)),
        )?;
        families.counter(
            "responses_forgotten_early",
            "Responses forgotten before three minutes had passed, because their memory was full: a retry of \
             their message would be delivered again",
            metrics.responses_forgotten.load(Relaxed),
        )?;
        let actions = metrics.actions.read();
        families.counters(
            "actions",
            "Actions that instances requested, by result at Graph",
            actions
                .iter()
                .map(|([action, result], count)| ([("action", &**action), ("result", &**result)], *count)),
        )?;
        families.gauge(
            "actions_in_flight",
            "Actions in flight at Graph, lists of actions in progress or waiting, and notices of failed \
             actions in flight to instances",
            &number(metrics.actions_in_flight.load(Relaxed)),
        )?;
        families.gauge(
            "connections",
            "Open connections of the public listener",
            &number(metrics.connections.load(Relaxed)),
        )?;
        families.counters(
            "connections_refused",
            "Connections closed at once, by reason",
            metrics
                .connections_refused
                .read()
                .iter()
                .map(|([reason], count)| ([("reason", &**reason)], *count)),
        )?;
        families.counter(
            "connections_evicted",
            "Connections without an authenticated sender that were closed to make room for new ones",
            metrics.connections_evicted.load(Relaxed),
        )?;
        families.counters(
            "connections_failed",
            "Connections that failed before or between requests, by reason",
            outcomes()
                .zip(metrics.connections_failed.read())
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| ([("reason", reason)], count)),
        )?;
        families.counter(
            "handshakes_failed",
            "TLS handshakes that failed or timed out",
            metrics.handshakes_failed.load(Relaxed),
        )?;
        families.gauge(
            "idle_connections",
            "Idle connections to instances and peer gateways",
            &number(self.delivery.idle_connections),
        )?;
        families.counter(
            "exhaustions",
            "Connections not made or accepted because the gateway had no descriptors, ports or memory left",
            Connections::exhaustions(),
        )
    }

    fn authentication(&self, families: &mut Families<'_>) -> fmt::Result {
        let (authenticated, rejected) = (self.metrics.authenticated.read(), self.metrics.rejected.read());
        let authenticated = authenticated.iter().map(|([trust], count)| (&**trust, AUTHENTICATED, *count));
        let rejected = rejected.iter().map(|([trust, reason], count)| (&**trust, &**reason, *count));
        families.counters(
            "authentications",
            "Checked tokens by trust (empty if the token names none) and result",
            authenticated
                .chain(rejected)
                .map(|(trust, reason, count)| ([("trust", trust), ("reason", reason)], count)),
        )?;

        let trusts = || self.trusts.iter().map(|trust| ([("trust", &*trust.name)], trust));
        families.gauges(
            "keys",
            "Usable verification keys of a trust",
            trusts().map(|(labels, trust)| (labels, number(trust.keys))),
        )?;
        families.gauges(
            "key_generation",
            "Number of the key set of a trust; each new set increments it",
            trusts().map(|(labels, trust)| (labels, trust.generation)),
        )?;
        families.gauges(
            "key_age_seconds",
            "Seconds since the keys of a trust were last fetched; absent without keys",
            trusts().filter_map(|(labels, trust)| Some((labels, trust.age?.as_secs_f64()))),
        )?;
        families.counters(
            "key_fetches",
            "Fetches of the keys of a trust by result; held_back: the new set had no usable key",
            self.trusts.iter().flat_map(|trust| {
                let failed = trust.fetches_failed.saturating_sub(trust.fetches_held_back);
                [("ok", trust.fetches_ok), ("failed", failed), ("held_back", trust.fetches_held_back)]
                    .map(|(result, count)| ([("trust", &*trust.name), ("result", result)], count))
            }),
        )
    }

    fn instances(&self, families: &mut Families<'_>) -> fmt::Result {
        if let Some(age) = self.delivery.source_age {
            families.gauge(
                "fleet_source_age_seconds",
                "Seconds since the last good answer of the fleet's source; absent for listed instances",
                &age.as_secs_f64(),
            )?;
        }
        let instances =
            InstanceSeries { instances: &self.instances, is_per_instance: self.delivery.is_per_instance };
        instances.encode(families)
    }

    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        let peers = metrics.peers().clone();
        families.gauges(
            "peer_healthy",
            "1 if a peer region can take new calls, as far as this gateway knows",
            peers.iter().map(|(peer, healthy)| ([("peer", &**peer)], u64::from(*healthy))),
        )?;
        families.counters(
            "config_reloads",
            "Reloads of the configuration by result; a failed one keeps the old configuration",
            [("ok", &metrics.reloads_ok), ("failed", &metrics.reloads_failed)]
                .map(|(result, count)| ([("result", result)], count.load(Relaxed))),
        )?;
        let not_after =
            Some(metrics.certificate_not_after.load(Relaxed)).filter(|seconds| *seconds != UNKNOWN);
        if let Some(not_after) = not_after {
            families.gauge(
                "certificate_not_after_seconds",
                "End of the validity of the served certificate in Unix seconds; absent without TLS",
                &not_after,
            )?;
        }
        families.gauge(
            "workers",
            "Worker threads that serve requests; one less than at the start is a bug, 0 serves nothing",
            &number(metrics.workers()),
        )?;
        families.counter("log_dropped", "Log lines that could not be written", metrics.log.dropped())?;
        families.counter("panics", "Panics in any thread; each is a bug", metrics.log.panics())?;
        families.gauges(
            "build_info",
            "Always 1; the label is the version",
            [([("version", env!("CARGO_PKG_VERSION"))], 1_u64)],
        )
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
