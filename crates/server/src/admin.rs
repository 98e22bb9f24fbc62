//! The admin listener: health, readiness, metrics and the fleet, for operators and their tools; never public.
//!
//! Reading order: [`Admin::serve`], `answer` (the routes), `access` (who may ask), `paced` (for how long).

mod access;
mod answer;
mod paced;

use std::{
    convert::Infallible,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use openssl::{memcmp, sha::sha256};
use switchboard_auth::Authenticator;
use switchboard_delivery::Delivery;
use switchboard_routing::CallbackUris;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use uuid::Uuid;

use self::{answer::Response, paced::Paced};
use crate::{metrics::Metrics, telemetry::Chain};

/// What the admin listener shows and steers.
#[derive(Debug)]
pub struct Admin {
    /// What a reload replaces.
    pub parts: Arc<ArcSwap<Parts>>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Whether this process is about to end.
    pub draining: Arc<AtomicBool>,
}

/// The parts of an app, as one configuration made them.
#[derive(Debug)]
pub struct Parts {
    /// For the state of the keys.
    pub authenticator: Arc<Authenticator>,
    /// For the fleet.
    pub delivery: Arc<Delivery>,
    /// For the callback URI of an instance.
    pub callbacks: Arc<CallbackUris>,
    /// The ids of the configured apps.
    pub apps: Vec<Uuid>,
    /// What changes and callback URIs need. Without one they are had on a loopback listener only.
    pub admin_token: Option<AdminToken>,
}

/// The token of the admin listener. Keeps its digest only.
#[derive(Clone)]
pub struct AdminToken {
    digest: [u8; 32],
}

impl AdminToken {
    /// Of the configured secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { digest: sha256(secret) }
    }

    /// Whether `presented` is the token. Digests are compared, in constant time: neither the time nor the length tells.
    fn is(&self, presented: &[u8]) -> bool {
        memcmp::eq(&self.digest, &sha256(presented))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

impl Admin {
    /// Answers requests until it is dropped, and all of its connections with it.
    pub async fn serve(self, listener: TcpListener) {
        // An address that cannot be told counts as a public one: the token is asked for.
        let bound = listener.local_addr().map(|address| address.ip().to_canonical()).ok();
        let desk = Arc::new(Desk { admin: self, loopback: bound.filter(IpAddr::is_loopback) });
        let mut connections = JoinSet::new();
        let mut crowded = false;
        loop {
            let accepted = listener.accept().await;
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(converse(stream, Arc::clone(&desk)));
                    crowded = false;
                }
                Ok(_) => {
                    // Said once, or whoever fills the places could fill the log as well.
                    if !std::mem::replace(&mut crowded, true) {
                        tracing::warn!(
                            limit = CONNECTIONS_MAX,
                            "admin connections are refused: too many are open"
                        );
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept admin connections");
                    // Out of descriptors lasts a while; without a pause the loop would spin.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// What every connection shares.
#[derive(Debug)]
struct Desk {
    admin: Admin,
    /// The bound address, if only this machine reaches it.
    loopback: Option<IpAddr>,
}

async fn converse(stream: TcpStream, desk: Arc<Desk>) {
    let begun = Arc::new(AtomicBool::new(false));
    let stream = TokioIo::new(Paced::new(stream, HEAD_TIME_MAX, IDLE_TIME_MAX, Arc::clone(&begun)));
    let service = service_fn(|request: Request<Incoming>| {
        begun.store(true, Relaxed);
        // The body is never read: hyper discards a small one and closes the connection on a large one.
        let response: Response = desk.answer(&request);
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .header_read_timeout(None) // it would end idle connections too; `Paced` tells the two apart
        .serve_connection(stream, service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %Chain(&error), "admin connection failed");
    }
}

/// A scraper, a few probes and a few people; more is a mistake or an attack.
const CONNECTIONS_MAX: usize = 64;

/// As on the public listener.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_FIELDS_MAX: usize = 64;
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);

/// Longer than the minute that scrapers usually take at most between two scrapes.
const IDLE_TIME_MAX: Duration = Duration::from_secs(75);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
