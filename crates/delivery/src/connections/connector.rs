//! Opening the byte streams to upstreams: TCP and TLS.

#[cfg(test)]
use std::sync::Arc;
use std::{fmt, io, net::SocketAddr};

use tokio::net::TcpStream;

use super::tls_client::TlsClient;
#[cfg(test)]
use crate::simulation::Wires;
use crate::{cause::Cause, upstream_url::Origin};

/// Opens the byte streams to upstreams. `tls` has the trust anchors by which they are verified.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(super) tls: TlsClient,
    /// The network of a simulation, which replaces TCP.
    #[cfg(test)]
    wires: Option<Arc<Wires>>,
}

/// A byte stream to an upstream, before TLS.
pub(super) enum ByteStream {
    Tcp(TcpStream),
    #[cfg(test)]
    Simulated(tokio::io::DuplexStream),
}

impl Connector {
    pub(crate) fn new(tls: TlsClient) -> Self {
        Self {
            tls,
            #[cfg(test)]
            wires: None,
        }
    }

    /// The number of the trust anchors by which TLS connections are verified.
    pub(crate) fn trust(&self) -> u64 {
        self.tls.trust()
    }

    /// Explains the failed connection to `origin`, for a diagnosis: the cause, or the fault of the
    /// certificate behind it.
    pub(crate) fn explain(&self, cause: Cause, origin: &Origin) -> String {
        match self.tls.last_failure(origin) {
            Some(failure) if Cause::of_tls(&failure) == cause => format!("attempt failed: {failure}"),
            Some(_) | None => cause.reason().to_owned(),
        }
    }

    /// A connector whose streams lead to the hosts of a simulation.
    #[cfg(test)]
    pub(crate) fn simulated(self, wires: Arc<Wires>) -> Self {
        Self { wires: Some(wires), ..self }
    }

    pub(super) async fn open(&self, address: SocketAddr) -> io::Result<ByteStream> {
        #[cfg(test)]
        if let Some(wires) = &self.wires {
            return wires.connect(address).await.map(ByteStream::Simulated);
        }
        let stream = TcpStream::connect(address).await?;
        // Requests are written whole; waiting for more to send would only add latency.
        let _ = stream.set_nodelay(true);
        Ok(ByteStream::Tcp(stream))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
