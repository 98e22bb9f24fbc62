//! TLS with upstreams: verification of the host, and sessions that are resumed.

use std::{
    fmt,
    future::{Ready, ready},
    io,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_openssl::client::legacy::{HttpsConnector, HttpsLayer, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use openssl::{error::ErrorStack, ssl::SslConnectorBuilder};
use tokio::net::TcpStream;
use tower_layer::Layer;
use tower_service::Service;
use url::Host;

use super::tls_log::TlsLog;
use crate::{
    origins::Origins,
    tls_failure::{TlsFailure, TlsVerification},
    upstream_url::{Hostname, Origin},
};

/// A TLS client of upstreams, with the trust anchors that verify them and the sessions that it can resume.
///
/// A resumed session is not verified again. So a session belongs to the client that verified it, to the
/// authorities of the instance if it has its own, to the name that the certificate has, and to the address:
/// each client starts with none.
///
/// ```
/// use openssl::ssl::{SslConnector, SslMethod};
/// use switchboard_delivery::TlsClient;
///
/// # fn main() -> Result<(), openssl::error::ErrorStack> {
/// let tls = TlsClient::new(SslConnector::builder(SslMethod::tls_client())?)?;
/// # let _ = tls;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsClient {
    layer: Arc<HttpsLayer>,
    trust: u64,
    log: Arc<TlsLog>,
}

/// A stream after its handshake.
pub(super) type TlsStream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl TlsClient {
    /// A client without sessions that verifies upstreams as `builder` says.
    ///
    /// # Errors
    ///
    /// OpenSSL refuses a setting.
    pub fn new(mut builder: SslConnectorBuilder) -> Result<Self, ErrorStack> {
        builder.set_alpn_protos(b"\x08http/1.1")?;
        builder.set_session_cache_size(SESSIONS_MAX);
        let layer = Arc::new(HttpsLayer::with_connector(builder)?);
        Ok(Self { layer, trust: Origins::next_trust(), log: Arc::default() })
    }

    /// A client with the same trust anchors, which are not read and parsed again. It starts without sessions.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self { layer: Arc::clone(&self.layer), trust: Origins::next_trust(), log: Arc::clone(&self.log) }
    }

    /// A connector over `tcp` with the same trust anchors, for a client with a pool of its own. Its sessions
    /// belong to host names and are not shared with any `TlsClient`.
    pub fn connector<S>(&self, tcp: S) -> HttpsConnector<S> {
        self.layer.layer(tcp)
    }

    /// The failure of the last handshake with `origin`, if it failed.
    pub(super) fn last_failure(&self, origin: &Origin) -> Option<TlsFailure> {
        self.log.last_failure(&origin.authority())
    }

    /// A number that no other client has.
    pub(super) fn trust(&self) -> u64 {
        self.trust
    }

    /// The TLS handshake with `origin` over a connection to one of its addresses. A failure that is news is
    /// logged.
    pub(super) async fn connect(&self, stream: TcpStream, origin: &Origin) -> Result<TlsStream, TlsFailure> {
        let Ok(address) = stream.peer_addr() else { return Err(TlsFailure::Closed) };
        let unusable = TlsFailure::Handshake { reason: "the host cannot be verified" };
        let Ok(session) = session_key(self.trust, address.ip(), origin) else { return Err(unusable) };
        let mut connector = self.layer.layer(Opened(Some(TokioIo::new(stream))));
        let (expected, verification) = (origin.clone(), TlsVerification::default());
        let watched = verification.clone();
        connector.set_callback(move |ssl, _| {
            if let Some(anchors) = &expected.anchors {
                // It replaces the store of the context for this handshake.
                ssl.set_verify_cert_store(anchors.store()?)?;
            }
            // In place of the host in the session's URI.
            ssl.set_verify_hostname(false);
            ssl.set_use_server_name_indication(false);
            watched.verify(ssl, &certificate_host(&expected))
        });
        let connected = connector.call(session).await;
        let connected = connected.map_err(|error| verification.failure(&*error).unwrap_or(unusable));
        self.log.note(address, origin, connected.as_ref().err());
        connected
    }
}

/// The connector keeps sessions by the host and the port of a URI. It has one for each client, because
/// siblings share the connector, and for each set of authorities, because a resumed session is not verified
/// again. It also has one for each address of a name: instances that share a name, as pods do, know only
/// their own sessions.
fn session_key(trust: u64, address: IpAddr, origin: &Origin) -> Result<Uri, http::Error> {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let address = address.to_bits();
    let anchors = origin.anchors.as_ref().map_or_else(String::new, |anchors| format!("{}.", anchors.id()));
    let authority = match certificate_host(origin) {
        Host::Domain(name) => format!("{trust:016x}.{anchors}{address:032x}.{name}:{}", origin.port),
        Host::Ipv4(_) | Host::Ipv6(_) => format!("{trust:016x}.{anchors}{address:032x}:{}", origin.port),
    };
    Uri::builder().scheme("https").authority(authority).path_and_query("/").build()
}

/// The name or the address that the certificate of an upstream must have.
fn certificate_host(origin: &Origin) -> Host<String> {
    match (&origin.tls_name, &origin.host) {
        (Some(name), _) => Host::Domain(name.to_string()),
        (None, Hostname::Address(IpAddr::V4(address))) => Host::Ipv4(*address),
        (None, Hostname::Address(IpAddr::V6(address))) => Host::Ipv6(*address),
        (None, name @ (Hostname::Name(_) | Hostname::Found(..))) => Host::Domain(name.to_string()),
    }
}

/// A connection that is already open, as the service that the TLS connector expects.
struct Opened(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Opened {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsClient")
    }
}

/// Sessions of one client and its siblings; the oldest makes room. Each has the certificates of its instance,
/// a few KiB. A TLS 1.3 server sends two for a full handshake, and as many as it likes later.
const SESSIONS_MAX: i32 = 4096;
