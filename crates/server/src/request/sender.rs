//! `Sender`: the connection on which a request arrived.

use std::net::IpAddr;

use crate::config::{Proxies, ProxyProtocol};

/// The other end of the connection on which a request arrived. Nothing in it authenticates a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    /// Its address: of the socket, or of the header of the PROXY protocol.
    pub(crate) address: IpAddr,
    /// True for a proxy that the operator trusts: what it wrote about the sender before it counts.
    pub(crate) is_trusted_proxy: bool,
    /// True if the connection has TLS.
    pub(crate) is_secure: bool,
}

impl Sender {
    pub(crate) fn new(address: IpAddr, is_secure: bool) -> Self {
        Self { address: address.to_canonical(), is_trusted_proxy: false, is_secure }
    }

    /// The same sender, which may be one of `proxies`. With the PROXY protocol, the sender is the one before
    /// the proxy, and its fields count for nothing.
    pub(crate) fn seen_by(self, proxies: Option<&Proxies>) -> Self {
        let writes_fields = |proxies: &Proxies| {
            proxies.protocol == ProxyProtocol::XForwardedFor && proxies.contains(self.address)
        };
        Self { is_trusted_proxy: proxies.is_some_and(writes_fields), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_that_writes_fields_is_trusted_for_them() {
        let proxies = |protocol| Proxies { networks: vec!["10.0.0.0/8".parse().unwrap()], protocol };
        for (proxies, address, expected) in [
            (None, "10.0.0.1", false),
            (Some(proxies(ProxyProtocol::Header)), "10.0.0.1", false),
            (Some(proxies(ProxyProtocol::XForwardedFor)), "10.0.0.1", true),
            (Some(proxies(ProxyProtocol::XForwardedFor)), "::ffff:10.0.0.1", true),
            (Some(proxies(ProxyProtocol::XForwardedFor)), "192.0.2.1", false),
        ] {
            let sender = Sender::new(address.parse().unwrap(), true).seen_by(proxies.as_ref());
            assert_eq!(sender.is_trusted_proxy, expected, "{proxies:?} {address}");
        }
    }
}
