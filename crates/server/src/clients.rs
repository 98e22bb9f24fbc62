//! The gateway as an HTTP client: of key issuers, of Graph, and of the peer gateways.
//!
//! Requests to instances do not use these clients. `switchboard-delivery` has its own connections, and
//! knows if a byte of a request was written.

pub(crate) mod authorities;
pub(crate) mod fetch;
pub(crate) mod graph;
pub(crate) mod graph_calls;
pub(crate) mod peer_health;
pub(crate) mod tls_clients;

use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslConnectorBuilder, SslMethod},
};

use crate::config::CaCertificates;

/// A TLS client that trusts the authorities of the system, and those in `ca`. It parses the authorities for
/// itself: for commands, which end soon, and for instances with a `ca`. All others share them:
/// [`authorities`].
pub(crate) fn tls_client(ca: Option<&CaCertificates>) -> Result<SslConnectorBuilder, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    for certificate in ca.into_iter().flat_map(|ca| &ca.certificates) {
        builder.cert_store_mut().add_cert(certificate.clone())?;
    }
    Ok(builder)
}
