//! The HTTP/1.1 client of hyper-util over OpenSSL, with limits.

use std::{error::Error, net::Ipv6Addr, path::Path, time::Duration};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use openssl::{
    error::ErrorStack,
    ssl::{ConnectConfiguration, SslConnector, SslConnectorBuilder, SslMethod},
};

/// A client whose request bodies are whole.
pub(super) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The limits of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct HttpClientLimits {
    /// The largest response head.
    pub(super) head_bytes_max: usize,
    /// The idle connections that are kept per host; 0 closes each connection after its request.
    pub(super) idle_max: usize,
    /// The time after which an idle connection is closed.
    pub(super) idle: Duration,
}

/// Builds a client. It follows no redirects.
pub(super) fn http_client(
    tls: SslConnectorBuilder,
    limits: HttpClientLimits,
) -> Result<HttpClient, ErrorStack> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false); // the TLS layer checks the scheme
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIME_MAX));
    let mut connector = HttpsConnector::with_connector(tcp, tls)?;
    connector.set_callback(verify_ipv6_address);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(limits.idle_max)
        .pool_idle_timeout(limits.idle)
        .http1_max_buf_size(limits.head_bytes_max)
        .build(connector))
}

/// A TLS client that trusts the authorities of the system, and those in `ca`.
pub(crate) fn tls_client(ca: Option<&Path>) -> Result<SslConnectorBuilder, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    if let Some(ca) = ca {
        builder.set_ca_file(ca)?;
    }
    Ok(builder)
}

/// The step at which a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailedStep {
    /// Before TLS: no byte was written.
    Connect,
    /// In the TLS handshake: no byte of the request was written.
    Tls,
    /// After the connection was made: a part of the request may have been written.
    Exchange,
}

/// Returns the step at which a request failed. The client's connector fails before a byte of the request is
/// written.
pub(super) fn failed_step(error: &legacy::Error) -> FailedStep {
    if !error.is_connect() {
        return FailedStep::Exchange;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<openssl::ssl::Error>() || cause.is::<ErrorStack>() {
            return FailedStep::Tls;
        }
        source = cause.source();
    }
    FailedStep::Connect
}

/// Verifies the certificate of an IPv6 literal by address. hyper-openssl would look for a host name in
/// brackets.
fn verify_ipv6_address(configuration: &mut ConnectConfiguration, uri: &Uri) -> Result<(), ErrorStack> {
    let host = uri.host().unwrap_or_default();
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = literal.and_then(|literal| literal.parse::<Ipv6Addr>().ok()) {
        configuration.set_use_server_name_indication(false);
        configuration.set_verify_hostname(false);
        configuration.param_mut().set_ip(address.into())?;
    }
    Ok(())
}

/// The time for a TCP connection. A host that does not accept within it is treated as down.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
