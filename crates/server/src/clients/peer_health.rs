//! The health of the peer regions: a new call is redirected only to a healthy one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use switchboard_routing::Name;
use tokio::task::JoinSet;
use url::Url;

use crate::{clients::fetch::Fetcher, config::PeerSettings, metrics::Metrics};

/// The health of all peers.
///
/// A peer without a health URL, or without a check so far, is treated as healthy: a redirect to an unhealthy
/// region costs one call, but a missing redirect takes every call out of its region.
#[derive(Debug)]
pub(crate) struct PeerHealth {
    peers: Vec<Peer>,
    fetcher: Fetcher,
}

#[derive(Debug)]
struct Peer {
    name: Name,
    health: Option<Url>,
    healthy: AtomicBool,
}

impl PeerHealth {
    pub(crate) fn new(settings: Vec<PeerSettings>, fetcher: Fetcher, last: Option<&Self>) -> Self {
        let peer = |settings: PeerSettings| {
            let healthy =
                settings.health.is_none() || last.is_none_or(|last| last.is_healthy(&settings.name));
            Peer { name: settings.name, health: settings.health, healthy: AtomicBool::new(healthy) }
        };
        Self { peers: settings.into_iter().map(peer).collect(), fetcher }
    }

    pub(crate) fn is_healthy(&self, region: &Name) -> bool {
        self.peers.iter().find(|peer| peer.name == *region).is_none_or(|peer| peer.healthy.load(Relaxed))
    }

    pub(crate) fn has(&self, region: &str) -> bool {
        self.peers.iter().any(|peer| peer.name.as_str() == region)
    }

    /// Returns the name of each peer, and whether it is healthy.
    pub(crate) fn healths(&self) -> impl Iterator<Item = (&Name, bool)> {
        self.peers.iter().map(|peer| (&peer.name, peer.healthy.load(Relaxed)))
    }

    /// Checks every peer at intervals, until the future is dropped.
    pub(crate) async fn run(self: Arc<Self>, metrics: Arc<Metrics>) {
        let mut checks = JoinSet::new();
        for index in 0..self.peers.len() {
            let peers = Arc::clone(&self);
            let metrics = Arc::clone(&metrics);
            checks.spawn(async move { peers.check(index, &metrics).await });
        }
        while checks.join_next().await.is_some() {}
    }

    async fn check(&self, index: usize, metrics: &Metrics) {
        let Some(peer) = self.peers.get(index) else { return };
        metrics.peer_healthy(peer.name.as_str(), peer.healthy.load(Relaxed));
        let Some(url) = &peer.health else { return };
        let mut misses = 0_u32;
        let mut logged = None;
        loop {
            let result = self.fetcher.document(url, HEALTH_BYTES_MAX, RESPONSE_TIME_MAX).await;
            misses = if result.is_ok() { 0 } else { misses.saturating_add(1) };
            if result.is_ok() {
                logged = None;
            }
            if let Err(error) = &result
                && logged.as_ref() != Some(&error.detail)
            {
                tracing::info!(region = peer.name.as_str(), %error, "peer region failed a health check");
                logged = Some(error.detail.clone());
            }
            let healthy = misses < MISSES_MAX && (misses == 0 || peer.healthy.load(Relaxed));
            if peer.healthy.swap(healthy, Relaxed) != healthy {
                metrics.peer_healthy(peer.name.as_str(), healthy);
                match result {
                    Ok(_) => {
                        tracing::info!(region = peer.name.as_str(), "peer region became healthy");
                    }
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
pub(crate) const RESPONSE_TIME_MAX: Duration = Duration::from_secs(2);
pub(crate) const HEALTH_BYTES_MAX: usize = 4096;
/// One lost packet is not an outage.
const MISSES_MAX: u32 = 2;
