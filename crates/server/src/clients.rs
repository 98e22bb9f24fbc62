//! The gateway as an HTTP client: of key issuers, of Graph, and of the peer gateways.
//!
//! Requests to instances do not use these clients. `switchboard-delivery` has its own connections, and
//! knows if a byte of a request was written.

pub(crate) mod fetch;
pub(crate) mod graph;
pub(crate) mod graph_calls;
pub(crate) mod peer_health;

use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslConnectorBuilder, SslMethod},
};

use crate::config::Authorities;

/// A TLS client that trusts the authorities of the system, and those in `ca`.
pub(crate) fn tls_client(ca: Option<&Authorities>) -> Result<SslConnectorBuilder, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    for certificate in ca.into_iter().flat_map(|ca| &ca.certificates) {
        builder.cert_store_mut().add_cert(certificate.clone())?;
    }
    Ok(builder)
}
