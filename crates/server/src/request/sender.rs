//! `Sender`: the connection on which a request arrived.

use std::net::IpAddr;

/// The other end of the connection on which a request arrived. Nothing in it authenticates a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    /// Its address. `None` if the socket no longer has one: the sender has closed it.
    pub(crate) address: Option<IpAddr>,
    /// True for a proxy that the operator trusts: what it wrote about the sender before it counts.
    pub(crate) is_trusted_proxy: bool,
    /// True if the connection has TLS.
    pub(crate) is_secure: bool,
}

impl Sender {
    /// The sender at the other end of a socket.
    pub(crate) fn of_socket(stream: &tokio::net::TcpStream, is_secure: bool) -> Self {
        let address = stream.peer_addr().ok().map(|address| address.ip().to_canonical());
        Self { address, is_trusted_proxy: false, is_secure }
    }
}
