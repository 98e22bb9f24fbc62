//! The dispatch of accepted connections to the workers.

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::watch};

use crate::process::{
    connection::Shutdown,
    state::ProcessState,
    worker::{self, WorkerHandle},
};

/// The workers of the process, one per processor.
#[derive(Debug)]
pub(super) struct Workers {
    state: Arc<ProcessState>,
    handles: Vec<WorkerHandle>,
}

impl Workers {
    /// Starts all workers. They stop as `shutdown` asks.
    pub(super) fn start(state: &Arc<ProcessState>, shutdown: &watch::Receiver<Shutdown>) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let start = |number| worker::start(number, Arc::clone(state), shutdown.clone());
        let handles = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { state: Arc::clone(state), handles })
    }

    /// Gives an accepted connection to the worker with the fewest open connections.
    pub(super) async fn dispatch(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A client that closed before the accept is not an error of the gateway.
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                    return;
                }
                let connections = Arc::clone(&self.state.gateway.load().connections);
                if !connections.note_exhaustion("accept", &error).await {
                    tracing::error!(error = %error, "cannot accept connections");
                }
                // The cause may last, and without a pause the loop would spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        let limit = self.state.gateway.load().limits.connections;
        let Some(guard) = self.state.metrics.connection(limit) else {
            // Closed before the TLS handshake: the connection cost only its descriptor.
            return;
        };
        let _ = stream.set_nodelay(true); // a hint; without it, responses wait for acknowledgements
        let Ok(stream) = stream.into_std() else { return };
        let running = self.handles.iter().filter_map(|worker| Some((worker, worker.open_connections()?)));
        if let Some((worker, _)) = running.min_by_key(|(_, open)| *open) {
            worker.give(stream, guard);
        }
    }

    /// Waits until all workers have stopped. Returns the number of requests that they cut off.
    pub(super) fn join(self) -> usize {
        self.handles.into_iter().map(WorkerHandle::join).sum()
    }
}

/// Long enough for a connection to close, short enough to go unnoticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
