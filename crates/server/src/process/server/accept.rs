//! The dispatch of accepted connections to the workers.

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::watch};

use crate::process::{
    connection::{Shutdown, Slot, source_of},
    descriptors,
    state::ProcessState,
    systemd::Notifier,
    worker::{self, AcceptedConnection, WorkerHandle},
};

/// The workers of the process, one per processor.
#[derive(Debug)]
pub(super) struct Workers {
    state: Arc<ProcessState>,
    handles: Vec<WorkerHandle>,
}

impl Workers {
    /// Starts all workers. They stop as `shutdown` asks, and the watchdog of `notifier` supervises them.
    pub(super) fn start(
        state: &Arc<ProcessState>,
        shutdown: &watch::Receiver<Shutdown>,
        notifier: &Notifier,
    ) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let start = |number| {
            let heartbeat = notifier.heartbeat(worker::name(number));
            worker::start(number, Arc::clone(state), shutdown.clone(), heartbeat)
        };
        let handles = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { state: Arc::clone(state), handles })
    }

    /// Gives an accepted connection to the worker with the fewest open connections.
    pub(super) async fn dispatch(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // A client that closed before the accept is not an error of the gateway.
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                    return;
                }
                let connections = Arc::clone(&self.state.gateway.load().connections);
                if !connections.note_exhaustion("accept", &error) {
                    tracing::error!(error = %error, "cannot accept connections");
                } else if self.state.slots.make_room() {
                    self.state.metrics.connection_evicted();
                }
                // The cause may last, and without a pause the loop would spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        // Closed before the TLS handshake, a refused connection cost only its descriptor.
        let Some(slot) = self.admit(peer) else { return };
        let guard = self.state.metrics.connection();
        let _ = stream.set_nodelay(true); // a hint; without it, responses wait for acknowledgements
        let Ok(stream) = stream.into_std() else { return };
        let running = self.handles.iter().filter_map(|worker| Some((worker, worker.open_connections()?)));
        if let Some((worker, _)) = running.min_by_key(|(_, open)| *open) {
            let address = peer.ip().to_canonical();
            worker.give(AcceptedConnection { stream, address, slot, guard });
        }
    }

    /// The slot of a new connection from `peer`, for which another connection may be evicted. `None` refuses
    /// it.
    fn admit(&self, peer: SocketAddr) -> Option<Slot> {
        let ProcessState { gateway, metrics, slots, .. } = &*self.state;
        let (limit, per_source_max) = {
            let gateway = gateway.load();
            let limits = &gateway.limits;
            // The connections of a proxy come from many sources.
            let is_proxy = gateway.proxies.as_ref().is_some_and(|proxies| proxies.contains(peer.ip()));
            (limits.connections, limits.connections_per_source.filter(|_| !is_proxy))
        };
        let open = metrics.open_connections();
        // An evicted connection is open until its worker has run.
        let admitted = if open >= limit.saturating_add(descriptors::evictions_max(limit)) {
            Err(slots.refuse())
        } else {
            slots.admit(source_of(peer), per_source_max, open >= limit)
        };
        match admitted {
            Ok((slot, evicts)) => {
                if evicts {
                    metrics.connection_evicted();
                }
                Some(slot)
            }
            Err(no_slot) => {
                metrics.connection_refused(no_slot.label());
                None
            }
        }
    }

    /// Waits until all workers have stopped. Returns the number of requests that they cut off.
    pub(super) fn join(self) -> usize {
        self.handles.into_iter().map(WorkerHandle::join).sum()
    }
}

/// Long enough for a connection to close, short enough to go unnoticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
