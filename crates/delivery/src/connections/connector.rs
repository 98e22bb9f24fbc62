//! Opening the byte streams to upstreams: TCP and TLS.

#[cfg(test)]
use std::sync::Arc;
use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::tls_client::{TlsClient, TlsStream};
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

/// A byte stream to an upstream.
pub(super) enum ByteStream {
    Tcp(TcpStream),
    Tls(TokioIo<TlsStream>),
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

impl ByteStream {
    fn reader(self: Pin<&mut Self>) -> Pin<&mut (dyn AsyncRead + Send + Unpin)> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream),
            #[cfg(test)]
            Self::Simulated(stream) => Pin::new(stream),
        }
    }

    fn writer(self: Pin<&mut Self>) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream),
            #[cfg(test)]
            Self::Simulated(stream) => Pin::new(stream),
        }
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reader().poll_read(context, buffer)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writer().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            #[cfg(test)]
            Self::Simulated(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_shutdown(context)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
