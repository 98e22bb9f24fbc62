//! The connections of the admin listener.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    admin::{api::AdminApi, timed_stream::TimedStream},
    telemetry::Chain,
};

/// Serves `api` on `listener`. Dropping the future closes all connections.
pub async fn serve(api: AdminApi, listener: TcpListener) {
    // An unknown address counts as a public one: it requires the token.
    let bound = listener.local_addr().map(|address| address.ip().to_canonical()).ok();
    let loopback = bound.filter(IpAddr::is_loopback);
    let api = Arc::new(api);
    let mut connections = JoinSet::new();
    let mut is_crowded = false;
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(serve_connection(stream, Arc::clone(&api), loopback));
                is_crowded = false;
            }
            Ok(_) => {
                // Logged once: a sender that opens too many connections must not fill the log as well.
                if !std::mem::replace(&mut is_crowded, true) {
                    tracing::warn!(limit = CONNECTIONS_MAX, "refusing admin connections: too many are open");
                }
            }
            Err(error) => {
                let idle = Arc::clone(&api.state.load().connections);
                if !idle.note_exhaustion("accept of the admin listener", &error).await {
                    tracing::warn!(error = %error, "cannot accept admin connections");
                }
                // A lack of file descriptors lasts a while; without a pause the loop would spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, api: Arc<AdminApi>, loopback: Option<IpAddr>) {
    let head_received = Arc::new(AtomicBool::new(false));
    let stream = TimedStream::new(stream, HEAD_TIME_MAX, IDLE_TIME_MAX, Arc::clone(&head_received));
    let service = service_fn(|request: Request<Incoming>| {
        head_received.store(true, Relaxed);
        // The body is never read: hyper discards a small one and closes the connection on a large one.
        let response = api.respond(&request, loopback);
        async { Ok::<_, Infallible>(response.await) }
    });
    let served = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .header_read_timeout(None) // it would end idle connections too; `TimedStream` tells the two apart
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %Chain(&error), "admin connection failed");
    }
}

/// A scraper, a few probes and a few people. More is a mistake or an attack.
pub(super) const CONNECTIONS_MAX: usize = 64;

// The same limits as on the public listener.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_FIELDS_MAX: usize = 64;
pub(super) const HEAD_TIME_MAX: Duration = Duration::from_secs(5);

/// Longer than the minute that scrapers usually leave between two scrapes.
pub(super) const IDLE_TIME_MAX: Duration = Duration::from_secs(75);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
