//! The other regions' health: whether a new call may be sent there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use openssl::ssl::SslConnector;
use switchboard_routing::Name;
use tokio::task::JoinSet;
use url::Url;

use crate::{clients::fetch, config::PeerSettings, metrics::Metrics};

/// What is known of the other regions. A peer without a health URL, or not asked yet, is taken for healthy: a redirect to a
/// sick region costs one call, a refusal to redirect costs every call its region.
#[derive(Debug)]
pub(crate) struct PeerHealth {
    peers: Vec<Peer>,
    tls: SslConnector,
}

#[derive(Debug)]
struct Peer {
    name: Name,
    health: Option<Url>,
    healthy: AtomicBool,
}

impl PeerHealth {
    pub(crate) fn new(settings: Vec<PeerSettings>, tls: SslConnector, last: Option<&Self>) -> Self {
        let peer = |settings: PeerSettings| {
            let healthy =
                settings.health.is_none() || last.is_none_or(|last| last.is_healthy(&settings.name));
            Peer { name: settings.name, health: settings.health, healthy: AtomicBool::new(healthy) }
        };
        Self { peers: settings.into_iter().map(peer).collect(), tls }
    }

    pub(crate) fn is_healthy(&self, region: &Name) -> bool {
        self.peers.iter().find(|peer| peer.name == *region).is_none_or(|peer| peer.healthy.load(Relaxed))
    }

    pub(crate) fn has(&self, region: &str) -> bool {
        self.peers.iter().any(|peer| peer.name.as_str() == region)
    }

    /// Asks every peer now and then, until it is dropped.
    pub(crate) async fn run(self: Arc<Self>, metrics: Arc<Metrics>) {
        let mut probes = JoinSet::new();
        for index in 0..self.peers.len() {
            let peers = Arc::clone(&self);
            let metrics = Arc::clone(&metrics);
            probes.spawn(async move { peers.probe(index, &metrics).await });
        }
        while probes.join_next().await.is_some() {}
    }

    async fn probe(&self, index: usize, metrics: &Metrics) {
        let Some(peer) = self.peers.get(index) else { return };
        metrics.peer_healthy(peer.name.as_str(), peer.healthy.load(Relaxed));
        let Some(url) = &peer.health else { return };
        let mut misses = 0_u32;
        loop {
            let result = fetch::is_ok(&self.tls, url, ANSWER).await;
            misses = if result.is_ok() { 0 } else { misses.saturating_add(1) };
            let healthy = misses < MISSES_MAX && (misses == 0 || peer.healthy.load(Relaxed));
            if peer.healthy.swap(healthy, Relaxed) != healthy {
                metrics.peer_healthy(peer.name.as_str(), healthy);
                match result {
                    Ok(()) => tracing::info!(region = peer.name.as_str(), "peer region became healthy"),
                    Err(error) => tracing::warn!(
                        region = peer.name.as_str(),
                        error = %error,
                        "peer region became unhealthy: it receives no redirected calls"
                    ),
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(2);
/// One lost packet is no outage.
const MISSES_MAX: u32 = 2;
