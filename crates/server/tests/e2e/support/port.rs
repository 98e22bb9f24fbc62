//! A reserved port of loopback, on which a server can stop and start again without losing the port.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    /// Bound but never listening: connections are refused, and no other process gets the port.
    _reserved: TcpSocket,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let reserved = socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self { address: reserved.local_addr().unwrap(), _reserved: reserved }
    }

    pub(crate) fn listen(&self) -> TcpListener {
        socket(self.address).listen(1024).unwrap()
    }
}

fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}
