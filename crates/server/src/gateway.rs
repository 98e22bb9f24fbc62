//! The composition root: the parts of a running gateway, built from a configuration.
//!
//! A gateway is immutable. A reload builds the next one from the last.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use switchboard_auth::{Authenticator, Caller};
use switchboard_delivery::{Connections, Delivery, PeerGateways};
use switchboard_routing::{CallbackUris, Name, Policy};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::{
    admin::{AdminState, AdminToken},
    clients::{
        authorities::Authorities,
        graph_calls::GraphCalls,
        peer_health::PeerHealth,
        tls_clients::{TlsClients, TlsClientsError},
    },
    config::{Config, EffectiveConfig, Limits, Placement, Proxies, RedirectStatus, Trust},
    metrics::Metrics,
    observed::Observed,
    process::{connection::Timeouts, descriptors, tasks::Tasks},
    readiness::Readiness,
    request::{
        act::CallOrder, body::BodyLimits, received::Received, record::Record, refusal::Refusal,
        retries::Retries, route::Paths,
    },
    traces::{Tracer, traced_fetch},
    wall_clock::{unix_ms, wall_clock},
};

/// The parts that a request needs.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) region: Name,
    pub(crate) paths: Paths,
    pub(crate) proxies: Option<Proxies>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) callbacks: Arc<CallbackUris>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) peers: Arc<PeerHealth>,
    pub(crate) placement: Placement,
    pub(crate) redirect_status: RedirectStatus,
    /// True if instances receive `X-Forwarded-For`, `-Host` and `-Proto`.
    pub(crate) x_forwarded: bool,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) peer_gateways: Arc<PeerGateways>,
    /// The idle connections to the fleet and to the peer gateways.
    pub(crate) connections: Arc<Connections>,
    pub(crate) retries: Arc<Retries>,
    pub(crate) tasks: Arc<Tasks>,
    /// The order of the actions in each established call.
    pub(crate) call_order: Arc<CallOrder>,
    /// The longest time that a request may take to be placed, acted on or forwarded.
    pub(crate) request_time_max: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) graph_calls: GraphCalls,
    /// Makes the spans of requests; `None` if there are none.
    pub(crate) tracer: Option<Arc<Tracer>>,
    /// The certificate authorities of the system, for the next gateway.
    pub(crate) authorities: Arc<Authorities>,
    /// The observations of the process, for the operators' live view.
    pub(crate) observed: Arc<Observed>,
    apps: Vec<Uuid>,
    effective: Arc<EffectiveConfig>,
    /// The time at which the gateway was built.
    built: SystemTime,
    admin_token: Option<AdminToken>,
    instance_metrics: bool,
    head_room: f64,
    draining: Arc<AtomicBool>,
}

/// An error in a valid configuration that shows only when the gateway is built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The certificate authorities cannot be used.
    #[error("cannot build the TLS clients")]
    Tls(#[from] TlsClientsError),
    /// The authenticator refuses its settings.
    #[error("cannot build the authenticator")]
    Authenticator(#[source] switchboard_auth::InvalidAuthSettings),
}

impl Gateway {
    /// Builds a gateway. `last` is the one that it replaces; the new one keeps its keys, its fleet, the
    /// health of its peers and its tracer. The first gateway must be built on the runtime that runs its
    /// tasks.
    pub(crate) fn build(
        config: Config,
        tls: &TlsClients,
        timeouts: Option<Timeouts>,
        metrics: Arc<Metrics>,
        draining: Arc<AtomicBool>,
        tracer: Option<Arc<Tracer>>,
        last: Option<&Self>,
    ) -> Result<Self, BuildError> {
        // Without `..`: an unused setting does not compile.
        let Config {
            region,
            listen,
            admin,
            apps,
            graph,
            trusts,
            keys,
            callback: callbacks,
            peers,
            policy,
            redirect_status,
            placement,
            delivery,
            fleet_file: _,   // the delivery has it
            instances_ca: _, // the client of the instances has it
            head_room,
            x_forwarded,
            limits,
            log: _, // telemetry has it before the gateway is built
            effective,
        } = config;
        let app_ids = apps.iter().map(|app| app.id).collect();
        let tracer = tracer.or_else(|| last.and_then(|last| last.tracer.clone()));
        let fetching = trusts.into_iter().map(|Trust { settings, .. }| {
            let fetch = traced_fetch(tls.of_trust(&settings.name), &settings.name, tracer.as_ref());
            (settings, fetch)
        });
        let fetching = fetching.collect();
        let authenticator = match last {
            Some(last) => last.authenticator.successor(fetching, apps, keys),
            None => Authenticator::new(fetching, apps, keys),
        }
        .map_err(BuildError::Authenticator)?;
        let patience = delivery.patience;
        let name_servers = delivery.name_servers.clone();
        let graph_calls = GraphCalls::new(graph, &tls.upstreams(), &metrics, tracer.as_ref());
        let request_time_max = placement.budget.max(patience).max(graph_calls.longest());
        let delivery = match last {
            Some(last) => last.delivery.successor(delivery, Arc::clone(&callbacks), tls.instances()),
            None => Delivery::new(delivery, Arc::clone(&callbacks), tls.instances()),
        };
        let gateways =
            peers.iter().filter_map(|peer| Some((peer.name.clone(), peer.callback.clone()?))).collect();
        let peer_gateways = Arc::new(PeerGateways::new(
            &region,
            gateways,
            patience,
            tls.upstreams(),
            name_servers,
            last.map(|last| &*last.peer_gateways),
        ));
        let peers = PeerHealth::new(peers, tls.documents(), last.map(|last| &*last.peers));
        Ok(Self {
            region,
            paths: Paths {
                webhook: listen.webhook_path,
                callback: listen.callback_path,
                health: listen.health_path,
                ready: listen.ready_path,
            },
            proxies: listen.proxies,
            timeouts: timeouts.unwrap_or_else(|| Timeouts::new(limits.idle, request_time_max + BODY_TIME)),
            limits,
            authenticator: Arc::new(authenticator),
            callbacks,
            policy,
            peers: Arc::new(peers),
            placement,
            redirect_status,
            x_forwarded,
            delivery: Arc::new(delivery),
            peer_gateways,
            connections: last.map_or_else(
                || Arc::new(Connections::new(descriptors::idle_connections_max())),
                |last| Arc::clone(&last.connections),
            ),
            // A reload does not change which requests are retries of a message.
            retries: last.map_or_else(
                || Arc::new(Retries::new(Arc::clone(&metrics))),
                |last| Arc::clone(&last.retries),
            ),
            tasks: last.map_or_else(
                || Arc::new(Tasks::new(Handle::current(), Arc::clone(&metrics))),
                |last| Arc::clone(&last.tasks),
            ),
            call_order: last.map_or_else(Arc::default, |last| Arc::clone(&last.call_order)),
            request_time_max,
            metrics,
            graph_calls,
            tracer,
            authorities: Arc::clone(&tls.authorities),
            // Operators see the same history after a reload.
            observed: last
                .map_or_else(|| Arc::new(Observed::new(wall_clock())), |last| Arc::clone(&last.observed)),
            apps: app_ids,
            effective: Arc::new(effective),
            built: wall_clock(),
            instance_metrics: admin.instance_metrics,
            head_room,
            admin_token: admin.token.as_ref().map(|token| AdminToken::new(token.expose())),
            draining,
        })
    }

    /// Returns the parts that the admin listener shows and controls.
    pub(crate) fn admin_state(&self) -> AdminState {
        AdminState {
            region: self.region.clone(),
            authenticator: Arc::clone(&self.authenticator),
            delivery: Arc::clone(&self.delivery),
            connections: Arc::clone(&self.connections),
            callbacks: Arc::clone(&self.callbacks),
            policy: Arc::clone(&self.policy),
            peers: Arc::clone(&self.peers),
            observed: Arc::clone(&self.observed),
            apps: self.apps.clone(),
            config: Arc::clone(&self.effective),
            config_loaded_ms: unix_ms(self.built),
            limits: self.limits.clone(),
            instance_metrics: self.instance_metrics,
            head_room: self.head_room,
            admin_token: self.admin_token.clone(),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(crate) fn serves(&self, app: Uuid) -> bool {
        self.apps.contains(&app)
    }

    /// Returns the bounds of a body.
    pub(crate) fn body_limits(&self) -> BodyLimits<'_> {
        BodyLimits {
            bytes_max: self.limits.body,
            time: self.timeouts.body,
            memory: self.metrics.body_memory(),
            memory_bytes_max: self.limits.body_memory,
        }
    }

    /// Returns true if a new call that another region redirects here would be authenticated and find an
    /// instance; for `health_path`.
    pub(crate) fn can_take_call(&self) -> bool {
        !self.is_draining()
            && self.metrics.workers() > 0
            && self.authenticator.trusts().iter().any(|trust| trust.keys > 0)
            && self.delivery.is_known()
            && self.delivery.can_take_call()
    }

    /// Returns true if this gateway is ready; for `ready_path`.
    pub(crate) fn is_ready(&self) -> bool {
        self.readiness().is_ready()
    }

    /// Returns the conditions of readiness.
    pub(crate) fn readiness(&self) -> Readiness {
        let workers = self.metrics.workers();
        Readiness::of(&self.authenticator, &self.delivery, workers, self.is_draining())
    }

    /// Authenticates the sender of a request, before its body is read.
    pub(crate) async fn authenticate(
        &self,
        received: &Received<'_>,
        record: &mut Record,
    ) -> Result<Arc<Caller>, Refusal> {
        let authorization = received.authorization()?;
        match self.authenticator.authenticate(authorization, received.now).await {
            Ok(caller) => {
                self.metrics.authentication(&caller.trust, "ok");
                record.caller(&caller);
                Ok(caller)
            }
            Err(refused) => {
                let error = &refused.error;
                self.metrics.authentication(error.trust().unwrap_or_default(), error.label());
                let refusal = Refusal::from(error);
                record.refused_sender(refused);
                Err(refusal)
            }
        }
    }
}

/// The longest time that a handler waits for a body, in addition to placing, acting or forwarding.
const BODY_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::tests::{MINIMAL, parse, with_graph},
        telemetry::LogCounts,
    };

    /// The longest time is the budget of a new call, or the time of an action through Graph.
    #[tokio::test]
    async fn the_longest_request_time_includes_actions() {
        let graph = with_graph("federated_token = \"/var/run/secrets/token\"", "");
        for (text, longest_ms) in [(MINIMAL, 12_000), (&graph, 14_500)] {
            let metrics = Arc::new(Metrics::new(LogCounts::default()));
            let config = parse(text).unwrap();
            let tls = TlsClients::load(&config, None).unwrap();
            let gateway = Gateway::build(config, &tls, None, metrics, Arc::default(), None, None).unwrap();
            let longest = Duration::from_millis(longest_ms);
            assert_eq!(gateway.request_time_max, longest);
            assert!(gateway.timeouts.stuck > longest + BODY_TIME);
        }
    }
}
