//! A worker: a thread with its own runtime and its public connections.
//!
//! A request uses an upstream connection of its own thread if there is one, so that no step of it wakes
//! another thread.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

use crate::{
    config::{Proxies, ProxyProtocol},
    metrics::ConnectionGuard,
    process::{
        connection::{
            Activity, ConnectionEnd, ObservedStream, ProxyHeaderError, PublicStream, Shutdown, Slot, drive,
            drive_http1,
            protocol::{accept_tls, http1_builder, http2_builder},
            read_proxy_header,
        },
        exchange,
        state::ProcessState,
        systemd::Heartbeat,
    },
    request::{outcome::Outcome, sender::Sender},
    telemetry::Chain,
};

/// A running worker, seen from the accept loop.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    streams: mpsc::UnboundedSender<AcceptedConnection>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<usize>,
}

/// A connection that was accepted and has a slot.
#[derive(Debug)]
pub(crate) struct AcceptedConnection {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) address: IpAddr,
    pub(crate) slot: Slot,
    pub(crate) guard: ConnectionGuard,
}

impl WorkerHandle {
    /// The number of its open connections; `None` if its thread has stopped, which only a panic of the
    /// gateway can cause.
    pub(crate) fn open_connections(&self) -> Option<usize> {
        if self.streams.is_closed() { None } else { Some(self.open.load(Relaxed)) }
    }

    /// Gives it a connection. The queue is unbounded; the limit on connections, whose guard travels along,
    /// bounds it.
    pub(crate) fn give(&self, connection: AcceptedConnection) {
        self.open.fetch_add(1, Relaxed);
        if self.streams.send(connection).is_err() {
            // Only a panic of the gateway can stop the thread. Dropping the stream closes it.
            self.open.fetch_sub(1, Relaxed);
            tracing::error!("worker thread stopped: closing its connection");
        }
    }

    /// Waits until the worker has stopped. Returns the number of requests that it cut off.
    pub(crate) fn join(self) -> usize {
        let Self { streams, thread, .. } = self;
        drop(streams);
        thread.join().unwrap_or(1)
    }
}

/// The name of the thread of a worker.
pub(crate) fn name(number: usize) -> String {
    format!("worker-{number}")
}

/// Starts a worker. It stops as `shutdown` asks.
pub(crate) fn start(
    number: usize,
    state: Arc<ProcessState>,
    shutdown: watch::Receiver<Shutdown>,
    mut heartbeat: Heartbeat,
) -> io::Result<WorkerHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (streams, received) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let alive = state.metrics.worker();
    let worker = Arc::new(Worker { state, activities: Mutex::default(), open: Arc::clone(&open) });
    let thread = std::thread::Builder::new().name(name(number)).spawn(move || {
        let _alive = alive;
        let cut_off = runtime.block_on(worker.run(received, shutdown, &mut heartbeat));
        heartbeat.end();
        // A name lookup of a request that was cut off must not keep the process alive.
        runtime.shutdown_background();
        cut_off
    })?;
    Ok(WorkerHandle { streams, open, thread })
}

/// A worker, seen from its own thread.
#[derive(Debug)]
struct Worker {
    state: Arc<ProcessState>,
    activities: Mutex<HashMap<u64, Arc<Activity>>>,
    open: Arc<AtomicUsize>,
}

impl Worker {
    /// Serves until the accept loop has ended and the process has no connection open. Returns the number of
    /// requests cut off.
    ///
    /// The connections to the fleet that this thread made end with it, and requests of other threads use
    /// them. So it waits for those, too.
    async fn run(
        self: Arc<Self>,
        mut streams: mpsc::UnboundedReceiver<AcceptedConnection>,
        mut shutdown: watch::Receiver<Shutdown>,
        heartbeat: &mut Heartbeat,
    ) -> usize {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_id = 0_u64;
        let mut accepting = true;
        loop {
            match *shutdown.borrow_and_update() {
                Shutdown::None => {}
                Shutdown::Graceful => self.close_all(),
                // Count now, before any of them can end: the runtime stops with this future, and cuts all of
                // them off.
                Shutdown::Immediate => return self.in_flight(),
            }
            if !accepting && self.state.is_finished() {
                return 0;
            }
            tokio::select! {
                stream = streams.recv(), if accepting => match stream {
                    Some(connection) => {
                        next_id += 1;
                        let worker = Arc::clone(&self);
                        tokio::spawn(worker.serve(next_id, connection));
                    }
                    None => accepting = false,
                },
                _ = sweep.tick() => self.sweep(),
                () = heartbeat.respond() => {}
                changed = shutdown.changed() => if changed.is_err() {
                    return self.in_flight();
                },
            }
        }
    }

    /// Applies the time limits to every connection.
    fn sweep(&self) {
        let gateway = self.state.gateway.load();
        let now = Instant::now();
        for activity in self.lock().values() {
            match activity.required_shutdown(&gateway.timeouts, now) {
                Shutdown::None => {}
                shutdown @ (Shutdown::Graceful | Shutdown::Immediate) => activity.shut_down(shutdown),
            }
            activity.ask_to_release(now);
        }
    }

    fn close_all(&self) {
        for activity in self.lock().values() {
            activity.shut_down(Shutdown::Graceful);
        }
    }

    /// The number of requests whose responses are not yet written whole.
    fn in_flight(&self) -> usize {
        self.lock().values().map(|activity| activity.in_flight()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Activity>>> {
        self.activities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection, from its TLS handshake to its end.
    async fn serve(self: Arc<Self>, id: u64, connection: AcceptedConnection) {
        let AcceptedConnection { stream, address, mut slot, guard } = connection;
        let _open = OpenConnection { worker: &self, id, _guard: guard };
        let Ok(mut stream) = TcpStream::from_std(stream) else { return };
        let Some(address) = self.sender_address(&mut stream, address, &mut slot).await else { return };
        let stream = PublicStream::new(stream);
        let watch = stream.watch();
        tokio::select! {
            biased; // what arrived before a reset is read first, so that each request has its event
            () = self.serve_stream(id, stream, address, slot) => {}
            () = watch.reset() => tracing::debug!("connection reset by its client"),
        }
        if watch.has_proxy_header() {
            self.state.proxy_log.unexpected(address);
        }
    }

    /// Returns the address of the sender. A connection from a proxy begins with a header that has it. `None`:
    /// the header is missing or wrong, or the sender has too many connections, and the connection is refused.
    async fn sender_address(
        &self,
        stream: &mut TcpStream,
        address: IpAddr,
        slot: &mut Slot,
    ) -> Option<IpAddr> {
        let (first_byte, per_source_max) = {
            let gateway = self.state.gateway.load();
            let expects_header =
                |proxies: &Proxies| proxies.protocol == ProxyProtocol::Header && proxies.contains(address);
            if !gateway.proxies.as_ref().is_some_and(expects_header) {
                return Some(address);
            }
            (gateway.timeouts.first_byte, gateway.limits.connections_per_source)
        };
        let read = tokio::select! {
            read = timeout(first_byte, read_proxy_header(stream)) => read,
            () = slot.shutdown().evicted() => return None,
        };
        let outcome = match read {
            Ok(Ok(None)) => return Some(address),
            Ok(Ok(Some(sender))) => match slot.move_to(sender, per_source_max) {
                Ok(()) => return Some(sender),
                Err(no_slot) => {
                    self.state.metrics.connection_refused(no_slot.label());
                    return None;
                }
            },
            // Balancers check the health of the gateway by connecting only.
            Ok(Err(ProxyHeaderError::Ended(_))) => return None,
            Ok(Err(error)) => {
                self.state.proxy_log.refused(address, &error);
                Outcome::BadRequest
            }
            Err(_) => Outcome::TooSlow,
        };
        self.state.metrics.connection_ended(outcome);
        None
    }

    async fn serve_stream(self: &Arc<Self>, id: u64, stream: PublicStream, address: IpAddr, slot: Slot) {
        let Some(acceptor) = self.state.tls_acceptor() else {
            let sender = Sender::new(address, false);
            return self.serve_http(id, stream, slot, sender, false).await;
        };
        let sender = Sender::new(address, true);
        let handshake = self.state.gateway.load().timeouts.handshake;
        let accepted = tokio::select! {
            accepted = timeout(handshake, accept_tls(&acceptor, stream)) => accepted,
            () = slot.shutdown().evicted() => return,
        };
        match accepted {
            Ok(Ok(stream)) => {
                let is_http2 = stream.ssl().selected_alpn_protocol() == Some(b"h2");
                self.serve_http(id, stream, slot, sender, is_http2).await;
            }
            Ok(Err(error)) => {
                self.state.metrics.handshake_failed();
                tracing::debug!(error = %error, "TLS handshake failed");
            }
            Err(_) => {
                self.state.metrics.handshake_failed();
                tracing::debug!("TLS handshake timed out");
            }
        }
    }

    async fn serve_http<S>(self: &Arc<Self>, id: u64, stream: S, slot: Slot, sender: Sender, is_http2: bool)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (age, head_bytes_max, body_bytes_max) = {
            let gateway = self.state.gateway.load();
            (gateway.timeouts.age, gateway.limits.head, gateway.limits.body)
        };
        let spread = id.wrapping_mul(97).to_le_bytes()[0];
        let activity = Activity::new(slot, is_http2, body_bytes_max, age, spread, Instant::now());
        let activity = Arc::new(activity);
        self.lock().insert(id, Arc::clone(&activity));
        let stream = ObservedStream::new(stream, Arc::clone(&activity));
        let service = service_fn(|request: Request<Incoming>| {
            let open = activity.start_request(Instant::now());
            exchange::respond(Arc::clone(&self.state), request, open, sender)
        });
        let end = if is_http2 {
            let builder = http2_builder(head_bytes_max);
            let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
            drive(connection.as_mut(), &activity).await
        } else {
            drive_http1(&http1_builder(head_bytes_max), stream, &activity, service).await
        };
        self.count_failure(&end);
    }

    /// Counts a connection that failed outside of any request.
    fn count_failure(&self, end: &ConnectionEnd) {
        let outcome = match end {
            ConnectionEnd::Closed | ConnectionEnd::Evicted | ConnectionEnd::Idle => return,
            ConnectionEnd::CutOff => Outcome::TooSlow,
            ConnectionEnd::Failed(error) if error.is_parse_too_large() => Outcome::HeadTooLarge,
            ConnectionEnd::Failed(error) if error.is_parse() => Outcome::BadRequest,
            ConnectionEnd::Failed(error) => {
                tracing::debug!(error = %Chain(error), "connection failed");
                return;
            }
        };
        self.state.metrics.connection_ended(outcome);
    }
}

/// An open connection of a worker. Removes its activity when it is dropped.
struct OpenConnection<'w> {
    worker: &'w Worker,
    id: u64,
    _guard: ConnectionGuard,
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.worker.lock().remove(&self.id);
        self.worker.open.fetch_sub(1, Relaxed);
    }
}

/// The time between two sweeps, and so the error of every time limit.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod floods;
#[cfg(test)]
mod lifetimes;
#[cfg(test)]
mod watchdog;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clients::tls_clients::TlsClients,
        config::tests::{MINIMAL, parse},
        gateway::Gateway,
        metrics::Metrics,
        process::systemd::Heartbeats,
        telemetry::LogCounts,
    };

    pub(super) fn worker() -> Arc<Worker> {
        let metrics = Arc::new(Metrics::new(LogCounts::default()));
        let config = parse(MINIMAL).unwrap();
        let tls = TlsClients::load(&config, None).unwrap();
        let gateway =
            Gateway::build(config, &tls, None, Arc::clone(&metrics), Arc::default(), None, None).unwrap();
        Arc::new(Worker {
            state: Arc::new(ProcessState::new(gateway, metrics)),
            activities: Mutex::default(),
            open: Arc::default(),
        })
    }

    pub(super) fn sender() -> Sender {
        Sender::new([192, 0, 2, 1].into(), false)
    }

    pub(super) fn slot(worker: &Worker) -> Slot {
        worker.state.slots.admit([192, 0, 2, 1].into(), None, false).unwrap().0
    }

    /// The workers are joined one after the other; the later ones still accept connections when the deadline
    /// passes.
    #[tokio::test(start_paused = true)]
    async fn every_request_cut_off_is_counted() {
        let worker = worker();
        let (_streams, received) = mpsc::unbounded_channel();
        let (shutdown, requested) = watch::channel(Shutdown::None);
        let (slot, _) = worker.state.slots.admit([192, 0, 2, 1].into(), None, false).unwrap();
        let activity = Arc::new(Activity::new(slot, true, 0, Duration::from_secs(600), 0, Instant::now()));
        worker.lock().insert(1, Arc::clone(&activity));
        let _requests = [activity.start_request(Instant::now()), activity.start_request(Instant::now())];
        let served = Arc::clone(&worker);
        let mut heartbeat = Arc::<Heartbeats>::default().register("worker-0");
        let run = tokio::spawn(async move { served.run(received, requested, &mut heartbeat).await });

        shutdown.send_replace(Shutdown::Graceful);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!run.is_finished());
        shutdown.send_replace(Shutdown::Immediate);
        let cut_off = timeout(Duration::from_secs(5), run).await.expect("the worker stops at once");
        assert_eq!(cut_off.unwrap(), 2);
    }
}
