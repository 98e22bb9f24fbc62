//! The network of a simulation: in-memory streams between the gateways and the bots.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

/// The listeners of a simulation, by address, as one gateway sees them.
#[derive(Clone, Default)]
pub(crate) struct Wires {
    /// The number of the gateway that connects.
    gateway: usize,
    hosts: Arc<Mutex<HashMap<SocketAddr, Host>>>,
    panics: Arc<Mutex<HashSet<SocketAddr>>>,
    /// The connections that still fail because the gateway has no descriptor.
    without_descriptor: Arc<AtomicUsize>,
}

/// A stream that was accepted, with the number of the gateway at its other end.
pub(crate) type Accepted = (usize, DuplexStream);

enum Host {
    /// It accepts connections.
    Listening(mpsc::UnboundedSender<Accepted>),
    /// It answers no packet: a connection is neither accepted nor refused.
    Silent,
}

impl Wires {
    /// The same network, for the gateway with this number.
    pub(super) fn of_gateway(&self, gateway: usize) -> Self {
        Self { gateway, ..self.clone() }
    }

    /// Listens at an address, until the receiver is dropped.
    pub(crate) fn listen(&self, address: SocketAddr) -> mpsc::UnboundedReceiver<Accepted> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.hosts().insert(address, Host::Listening(sender));
        receiver
    }

    /// Drops all packets to an address, until something listens there again.
    pub(super) fn silence(&self, address: SocketAddr) {
        self.hosts().insert(address, Host::Silent);
    }

    /// Makes the next connection to an address panic, as a bug of the gateway would.
    pub(crate) fn panic_once(&self, address: SocketAddr) {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner).insert(address);
    }

    /// Lets the gateway have no descriptor for its next `connections`.
    pub(crate) fn exhaust(&self, connections: usize) {
        self.without_descriptor.store(connections, Ordering::Relaxed);
    }

    /// Connects to an address.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        assert!(!panics, "a panic of this simulation");
        let left = self.without_descriptor.load(Ordering::Relaxed);
        if left > 0 {
            self.without_descriptor.store(left - 1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        let (near, far) = duplex(STREAM_BYTES);
        let is_accepted = match self.hosts().get(&address) {
            Some(Host::Listening(host)) => Some(host.send((self.gateway, far)).is_ok()),
            Some(Host::Silent) => None,
            None => Some(false),
        };
        match is_accepted {
            Some(true) => Ok(near),
            Some(false) => Err(io::ErrorKind::ConnectionRefused.into()),
            None => std::future::pending().await,
        }
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<SocketAddr, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wires")
    }
}

const STREAM_BYTES: usize = 64 * 1024;
/// Too many open files.
const EMFILE: i32 = 24;
