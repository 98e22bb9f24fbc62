//! The connections of the admin listener.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    admin::{
        api::AdminApi,
        response::{AdminBody, AdminResponse},
    },
    process::connection::{
        Activity, ConnectionEnd, ObservedStream, OpenRequest, RequestBody, Shutdown, Slot, Slots, Timeouts,
        closes_after, drive, source_of,
    },
    telemetry::Chain,
};

/// Serves `api` on `listener`. Dropping the future closes all connections.
pub async fn serve(api: AdminApi, listener: TcpListener) {
    // An unknown address counts as a public one: it requires the token.
    let bound = listener.local_addr().map(|address| address.ip().to_canonical()).ok();
    let loopback = bound.filter(IpAddr::is_loopback);
    let api = Arc::new(api);
    let mut frames = pin!(api.feed.run(&api.state, &api.metrics, &api.draining));
    let slots = Arc::new(Slots::admin());
    let mut connections = JoinSet::new();
    let mut activities: Vec<Weak<Activity>> = Vec::new();
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = sweep.tick() => {
                apply_time_limits(&mut activities);
                api.state.load().observed.lines().stop_if_unused(Instant::now());
                continue;
            }
            () = &mut frames => continue, // never: it runs until it is dropped
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                limit_unread(&stream, USER_TIMEOUT_MS);
                // The streams do not count, and idle connections give up their slots: a probe finds one.
                let is_full = connections.len() >= CONNECTIONS_MAX + api.feed.open_streams();
                let Ok((slot, _)) = slots.admit(source_of(peer), None, is_full) else { continue };
                let activity = Arc::new(activity(slot));
                activities.push(Arc::downgrade(&activity));
                connections.spawn(serve_connection(stream, activity, Arc::clone(&api), loopback));
            }
            Err(error) => {
                let idle = Arc::clone(&api.state.load().connections);
                if !idle.note_exhaustion("accept of the admin listener", &error) {
                    tracing::warn!(error = %error, "cannot accept admin connections");
                }
                slots.make_room();
                // A lack of file descriptors lasts a while; without a pause the loop would spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Limits what the kernel keeps for a client that reads nothing, and for how long.
fn limit_unread(stream: &TcpStream, user_timeout_ms: u32) {
    let _ = set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES); // without it, 4 MiB
    // A client that has vanished acknowledges nothing, not even a comment. Other systems have no such option.
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, user_timeout_ms);
    #[cfg(not(target_os = "linux"))]
    let _ = user_timeout_ms;
}

async fn serve_connection(
    stream: TcpStream,
    activity: Arc<Activity>,
    api: Arc<AdminApi>,
    loopback: Option<IpAddr>,
) {
    let io = TokioIo::new(ObservedStream::new(stream, Arc::clone(&activity)));
    let service = service_fn(|request| {
        let open = activity.start_request(Instant::now());
        let api = &api;
        async move { Ok::<_, Infallible>(respond(api, request, open, loopback).await) }
    });
    let connection = pin!(
        http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEAD_FIELDS_MAX)
            .header_read_timeout(None) // `Activity` limits the time of a head, and all other times
            .serve_connection(io, service)
    );
    if let ConnectionEnd::Failed(error) = drive(connection, &activity).await {
        tracing::debug!(error = %Chain(&error), "admin connection failed");
    }
}

/// Responds to one request. Its body is never read.
async fn respond(
    api: &AdminApi,
    request: Request<Incoming>,
    open: OpenRequest,
    loopback: Option<IpAddr>,
) -> AdminResponse {
    let (parts, incoming) = request.into_parts();
    let mut body = RequestBody::new(incoming, &parts);
    let request = Request::from_parts(parts, ());
    if api.has_token(request.headers()) {
        open.authenticate();
    }
    let mut response = api.respond(&request, loopback).await;
    if closes_after(response.status(), &mut body, &open).await {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let AdminBody::Events(events) = response.body_mut() {
        events.hold(open);
    }
    response
}

fn activity(slot: Slot) -> Activity {
    Activity::new(slot, false, 0, TIMEOUTS.age, 0, Instant::now())
}

fn apply_time_limits(activities: &mut Vec<Weak<Activity>>) {
    let now = Instant::now();
    activities.retain(|activity| {
        let Some(activity) = activity.upgrade() else { return false };
        match activity.required_shutdown(&TIMEOUTS, now) {
            Shutdown::None => {}
            shutdown @ (Shutdown::Graceful | Shutdown::Immediate) => activity.shut_down(shutdown),
        }
        true
    });
}

/// A scraper, a few probes and a few people. More is a mistake or an attack.
pub(super) const CONNECTIONS_MAX: usize = 64;

// The same limits as on the public listener.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_FIELDS_MAX: usize = 64;

const TIMEOUTS: Timeouts = Timeouts {
    first_byte: Duration::from_secs(5),
    handshake: Duration::ZERO, // the listener has no TLS
    head: Duration::from_secs(5),
    body: Duration::ZERO, // no body is read
    // Longer than the minute that scrapers usually leave between two scrapes. They send no token.
    idle: Duration::from_secs(75),
    idle_unauthenticated: Duration::from_secs(75),
    stuck: Duration::from_secs(75), // of a stream: while its reader reads nothing
    age: Duration::from_secs(86_400), // one process: there is no load to spread
};
/// A stream whose reader has stopped holds little memory of the kernel, and is noticed soon.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Without it, the kernel repeats what was sent for a quarter of an hour, and the stream keeps its place.
const USER_TIMEOUT_MS: u32 = 60_000;
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::ErrorKind;

    use rustix::net::sockopt::tcp_user_timeout;
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn connect() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// The client's kernel still acknowledges that its window is full. A client that acknowledges nothing at
    /// all needs a network that drops packets.
    #[tokio::test]
    async fn the_kernel_ends_a_connection_whose_client_has_stopped_to_read() {
        let (_client, mut stream) = connect().await;
        limit_unread(&stream, 300);
        let ended = loop {
            if let Err(error) = stream.write_all(&[0; 4096]).await {
                break error;
            }
        };
        assert_eq!(ended.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_may_be_away_for_less_than_the_listener_waits_for_it() {
        let (_client, stream) = connect().await;
        limit_unread(&stream, USER_TIMEOUT_MS);
        let timeout = tcp_user_timeout(&stream).unwrap();
        assert_eq!(timeout, 60_000);
        assert!(Duration::from_millis(timeout.into()) < TIMEOUTS.stuck);
    }
}
