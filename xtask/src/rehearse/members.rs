//! The gateways and bots of a testbed, with their addresses.

use std::net::SocketAddr;

/// A gateway.
pub(super) struct Gateway {
    pub(super) name: &'static str,
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// A bot instance.
pub(super) struct Bot {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) app: &'static str,
    pub(super) answer: &'static str,
}
