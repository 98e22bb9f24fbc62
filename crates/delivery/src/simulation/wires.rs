//! The network of a simulation: in-memory streams between the gateways and the hosts.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

/// The hosts of a simulation, by address.
#[derive(Default)]
pub(crate) struct Wires {
    hosts: Mutex<HashMap<SocketAddr, mpsc::UnboundedSender<DuplexStream>>>,
}

impl Wires {
    /// Listens at an address. The listener is gone when the receiver is dropped.
    pub(crate) fn listen(&self, address: SocketAddr) -> mpsc::UnboundedReceiver<DuplexStream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(address, sender);
        receiver
    }

    /// Connects to an address.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let (near, far) = duplex(STREAM_BYTES);
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = hosts.get(&address).is_some_and(|host| host.send(far).is_ok());
        if accepted { Ok(near) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wires")
    }
}

const STREAM_BYTES: usize = 64 * 1024;
