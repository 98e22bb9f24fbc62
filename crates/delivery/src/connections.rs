//! The keep-alive connections to upstreams, shared by all worker threads.
//!
//! The runtime that made a connection tells when it can be read; any thread can send a request over it.

mod chunks;
mod connect;
mod connection;
mod connector;
mod exchange;
mod exhaustion;
mod pool;
mod response_body;
mod response_head;
mod slots;
mod tls_client;
mod tls_log;

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

pub use self::tls_client::TlsClient;
use self::{
    connect::{FAR, NEAR},
    slots::IdleCount,
};
pub(crate) use self::{
    connection::{SendError, UpstreamConnection},
    connector::Connector,
    exchange::exchange,
    pool::Pool,
    response_body::ResponseBody,
};
use crate::{cause::Cause, upstream_url::Origin};

/// The idle connections of this process to its upstreams. All threads share them.
///
/// A request takes an idle connection of its own thread if there is one, else that of another thread. A
/// connection ends with the runtime that made it. So a runtime must not stop before all requests have ended.
///
/// It belongs to no `Delivery`. After a reload it keeps the connections to origins that are still in use and
/// drops the others.
///
/// ```
/// use std::sync::Arc;
///
/// use switchboard_delivery::Connections;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // One per process, lent to each request.
/// let connections = Arc::new(Connections::new(1_000));
/// tokio::spawn(Arc::clone(&connections).run());
/// assert_eq!(connections.idle(), 0);
/// # }
/// ```
pub struct Connections {
    /// To the instances of this region.
    pub(crate) instances: Pool,
    /// To the gateways of other regions.
    pub(crate) peers: Pool,
    count: Arc<IdleCount>,
}

impl Connections {
    /// No connections yet, and at most `idle_max` idle ones at any time.
    pub fn new(idle_max: usize) -> Self {
        let count = Arc::new(IdleCount::new(idle_max));
        let pool = |limits| Pool::new(limits, Arc::clone(&count));
        Self { instances: pool(&NEAR), peers: pool(&FAR), count }
    }

    /// Closes idle connections when their time is over, until the future is dropped. Spawn it once.
    pub async fn run(self: Arc<Self>) {
        loop {
            sleep(SWEEP_INTERVAL).await;
            let now = Instant::now();
            self.instances.sweep(now);
            self.peers.sweep(now);
        }
    }

    /// Notes an error of `operation`, such as `accept`. Returns false unless it says that there is no
    /// descriptor, port or memory left for a socket. Then it is counted and logged, and the oldest idle
    /// connections are closed to make room.
    pub fn note_exhaustion(&self, operation: &'static str, error: &io::Error) -> bool {
        let is_exhaustion = exhaustion::is_exhaustion(error);
        if is_exhaustion {
            exhaustion::note(operation, error);
            let _ = self.instances.make_room() || self.peers.make_room();
        }
        is_exhaustion
    }

    /// The idle connections now, for `/metrics`.
    pub fn idle(&self) -> usize {
        self.count.get()
    }

    /// The times that this process had no descriptor, port or memory left for a socket, for `/metrics`.
    pub fn exhaustions() -> u64 {
        exhaustion::count()
    }
}

impl Default for Connections {
    /// At most 4,096 idle connections.
    fn default() -> Self {
        Self::new(4096)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("idle", &self.idle()).finish_non_exhaustive()
    }
}

/// A new connection to an instance that belongs to no pool.
pub(crate) async fn connect_near(
    origin: &Origin,
    connector: &Connector,
) -> Result<UpstreamConnection, Cause> {
    connect::connect(origin, connector, &NEAR).await
}

/// Connects to a gateway of another region, for one exchange.
pub(crate) async fn connect_far(origin: &Origin, connector: &Connector) -> Result<UpstreamConnection, Cause> {
    connect::connect(origin, connector, &FAR).await
}

/// The interval at which idle connections are checked. One is kept this much longer at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
