//! The metric names and help texts of `/metrics`. The names are documented in `docs/metrics.md` and do not
//! change.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use switchboard_auth::{Forbidden, Rejection, TrustStatus};
use switchboard_delivery::{
    Connections, DeliveryDurations, InstanceCounts, InstanceStatus, PlacementCounters,
};
use switchboard_routing::Policy;
use uuid::Uuid;

use crate::{
    config::Limits,
    fleet_totals::FleetTotals,
    metrics::{
        calls,
        families::Families,
        fleet,
        format::Format,
        instances::InstanceSeries,
        placement, process,
        recorder::{AUTHENTICATED, CONNECTION_FAILURES, ITEM_KINDS, Metrics, RequestKind, UNKNOWN},
        series::index_of,
    },
    process::connection::NoSlot,
    request::outcome::Outcome,
};

/// The parts of the configuration that the metrics show.
#[derive(Clone, Copy, Debug)]
pub struct ConfigNumbers<'c> {
    /// The rules of the regions.
    pub policy: &'c Policy,
    /// The ids of the configured apps.
    pub apps: &'c [Uuid],
    /// The limits.
    pub limits: &'c Limits,
}

/// The numbers of the delivery to the fleet as a whole.
#[derive(Clone, Debug, Default)]
pub struct DeliveryNumbers {
    /// The counters of placement.
    pub placement: PlacementCounters,
    /// The totals of the fleet.
    pub fleet: FleetTotals,
    /// The time since the last good answer of the fleet's source; `None` for a static list.
    pub source_age: Option<Duration>,
    /// The idle connections to instances and peer gateways.
    pub idle_connections: usize,
    /// The totals of the counters of the instances. `None` if each instance has series of its own.
    pub instance_totals: Option<InstanceCounts>,
}

/// The values of one scrape.
#[derive(Debug)]
pub struct Scrape<'s> {
    /// The numbers of the process.
    pub metrics: &'s Metrics,
    /// The state of the keys.
    pub trusts: Vec<TrustStatus>,
    /// The state of the instances.
    pub instances: Vec<InstanceStatus>,
    /// The numbers of the delivery.
    pub delivery: DeliveryNumbers,
    /// The durations of attempts and probes.
    pub durations: &'s DeliveryDurations,
    /// The configuration.
    pub config: ConfigNumbers<'s>,
    /// The time of the scrape.
    pub now: SystemTime,
}

impl Scrape<'_> {
    /// Returns all metrics as text.
    pub fn text(&self, format: Format) -> String {
        let mut out = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.encode(&mut out, format);
        if format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }

    fn encode(&self, out: &mut String, format: Format) -> fmt::Result {
        let mut families = Families::new(out, format, "switchboard_");
        self.requests(&mut families)?;
        calls::encode(self.metrics, self.config.apps, self.durations, &mut families)?;
        self.connections(&mut families)?;
        self.authentication(&mut families)?;
        self.instances(&mut families)?;
        fleet::encode(&self.delivery.fleet, &mut families)?;
        placement::encode(&self.delivery.placement, &mut families)?;
        self.metrics.rules.encode(self.config.policy, &mut families)?;
        self.process(&mut families)?;
        process::encode(out, format)
    }
    fn requests(&self, families: &mut Families<'_>) -> fmt::Result {
        let metrics = self.metrics;
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
        families.gauge("requests_in_flight", "Requests in flight", &metrics.in_flight.load(Relaxed))?;
        families.gauge(
            "requests_in_flight_limit",
            "The setting limits.in_flight",
            &self.config.limits.in_flight,
        )?;
        families.gauge(
            "request_body_bytes",
            "Bytes of request bodies in memory",
            &metrics.body_memory.bytes(),
        )?;
        families.gauge(
            "request_body_limit_bytes",
            "The setting limits.body_memory",
            &self.config.limits.body_memory,
        )?;
        families.counters(
            "callbacks",
            "Requests to a callback URI, by outcome",
            outcomes().zip(metrics.callbacks.read()).map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        families.counters(
            "notifications",
            "Items of Graph notifications by kind",
            ITEM_KINDS
                .iter()
                .zip(metrics.notifications.read())
                .map(|(kind, count)| ([("kind", kind.label())], count)),
        )
    }

    fn connections(&self, families: &mut Families<'_>) -> fmt::Result {
        let metrics = self.metrics;
        families.gauge(
            "connections",
            "Open connections of the public listener",
            &metrics.connections.load(Relaxed),
        )?;
        families.gauge(
            "connections_limit",
            "The setting limits.connections",
            &self.config.limits.connections,
        )?;
        let refused = metrics.connections_refused.read(NoSlot::ALL.map(|reason| [reason.label()]));
        families.counters(
            "connections_refused",
            "Connections closed at once, by reason",
            refused.iter().map(|([reason], count)| ([("reason", &**reason)], *count)),
        )?;
        families.counter(
            "connections_evicted",
            "Connections without an authenticated sender that were closed to make room for new ones",
            metrics.connections_evicted.load(Relaxed),
        )?;
        let failed = metrics.connections_failed.read();
        families.counters(
            "connections_failed",
            "Connections that failed before or between requests, by reason",
            CONNECTION_FAILURES.iter().map(|outcome| {
                let count = failed.get(index_of(*outcome)).copied().unwrap_or_default();
                ([("reason", outcome.label())], count)
            }),
        )?;
        families.counter(
            "handshakes_failed",
            "TLS handshakes that failed or timed out",
            metrics.handshakes_failed.load(Relaxed),
        )?;
        families.gauge(
            "idle_connections",
            "Idle connections to instances and peer gateways",
            &self.delivery.idle_connections,
        )?;
        families.counter(
            "exhaustions",
            "Connections not made or accepted because the gateway had no descriptors, ports or memory left",
            Connections::exhaustions(),
        )
    }

    fn authentication(&self, families: &mut Families<'_>) -> fmt::Result {
        let names = || self.trusts.iter().map(|trust| &*trust.name);
        let authenticated = self.metrics.authenticated.read(names().map(|trust| [trust]));
        let of_trust = || [NOT_CHECKED, Forbidden::LABELS, Rejection::LABELS].into_iter().flatten();
        let of_none = Rejection::LABELS.iter().map(|reason| ["", *reason]);
        let refused = names().flat_map(|trust| of_trust().map(move |reason| [trust, *reason]));
        let refused = self.metrics.rejected.read(refused.chain(of_none));
        let authenticated = authenticated.iter().map(|([trust], count)| (&**trust, AUTHENTICATED, *count));
        let refused = refused.iter().map(|([trust, reason], count)| (&**trust, &**reason, *count));
        families.counters(
            "authentications",
            "Checked tokens by trust (empty if the token names none) and result",
            authenticated
                .chain(refused)
                .map(|(trust, result, count)| ([("trust", trust), ("result", result)], count)),
        )?;

        let trusts = || self.trusts.iter().map(|trust| ([("trust", &*trust.name)], trust));
        families.gauges(
            "keys",
            "Usable verification keys of a trust",
            trusts().map(|(labels, trust)| (labels, trust.keys)),
        )?;
        families.gauges(
            "key_generation",
            "Number of the key set of a trust; each new set increments it",
            trusts().map(|(labels, trust)| (labels, trust.generation)),
        )?;
        families.gauges(
            "key_last_fetch_success_timestamp_seconds",
            "Time at which the keys of a trust were last fetched, in Unix seconds; absent without keys",
            trusts().filter_map(|(labels, trust)| Some((labels, self.timestamp(trust.age?)))),
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
        families.gauges(
            "fleet_source_last_success_timestamp_seconds",
            "Time of the last good answer of the fleet's source, or of the first question without one, in \
             Unix seconds; absent for listed instances",
            self.delivery.source_age.map(|age| ([], self.timestamp(age))),
        )?;
        let instances =
            InstanceSeries { instances: &self.instances, totals: self.delivery.instance_totals.as_ref() };
        instances.encode(families)
    }

    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        let metrics = self.metrics;
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
        families.gauge(
            "config_last_reload_successful",
            "1 if the last reload applied, or if there was none; 0 if it failed",
            &u64::from(!metrics.last_reload_failed.load(Relaxed)),
        )?;
        let known = |time: &AtomicI64| Some(time.load(Relaxed)).filter(|seconds| *seconds != UNKNOWN);
        families.gauges(
            "config_last_reload_success_timestamp_seconds",
            "Time since which the configuration applies, in Unix seconds",
            known(&metrics.configured_at).map(|time| ([], time)),
        )?;
        families.gauges(
            "certificate_not_after_timestamp_seconds",
            "End of the validity of the served certificate in Unix seconds; absent without TLS",
            known(&metrics.certificate_not_after).map(|time| ([], time)),
        )?;
        families.gauge(
            "workers",
            "Worker threads that serve requests; one less than at the start is a bug, 0 serves nothing",
            &metrics.workers(),
        )?;
        families.counter(
            "log_lines_dropped",
            "Log lines that could not be written",
            metrics.log.dropped(),
        )?;
        families.counter("panics", "Panics in any thread; each is a bug", metrics.log.panics())?;
        metrics.spans.encode(families)?;
        families.info(
            "build",
            "The version and the revision of the gateway",
            [("version", env!("CARGO_PKG_VERSION")), ("revision", env!("SWITCHBOARD_REVISION"))],
        )
    }

    /// The time of an event in Unix seconds, by its age. Whole, so that it is the same in each scrape: the
    /// age and the time of the scrape are read at different moments.
    fn timestamp(&self, age: Duration) -> u64 {
        let time = self.now.checked_sub(age).unwrap_or(UNIX_EPOCH);
        let time = time.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_millis(500);
        time.as_secs()
    }
}

/// The results of tokens that could not be checked.
const NOT_CHECKED: &[&str] = &["keys_unavailable", "key_not_fetched"];
