//! Opens connections, with or without TLS.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use clap::ValueEnum;
use http::Uri;
use hyper_openssl::client::legacy::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_openssl::SslStream;
use tower_service::Service as _;

/// The handshakes of connections with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tls {
    /// Each connection resumes a session, except for the first ones.
    Resumed,
    /// Each connection negotiates a session.
    Full,
}

/// Opens connections to one server.
pub(crate) struct Connector {
    to: SocketAddr,
    security: Security,
}

enum Security {
    None,
    /// Remembers sessions.
    Resumed(HttpsConnector<HttpConnector>),
    /// Remembers none.
    Full(SslConnector),
}

/// An open connection.
pub(crate) enum Connection {
    Plain(TcpStream),
    Resumed(Box<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>),
    Full(Box<SslStream<TcpStream>>),
}

impl Connector {
    pub(crate) fn new(to: SocketAddr, tls: Option<Tls>) -> Result<Self, String> {
        let security = match tls {
            None => Ok(Security::None),
            Some(Tls::Resumed) => resuming().map(Security::Resumed),
            Some(Tls::Full) => builder().map(|builder| Security::Full(builder.build())),
        };
        Ok(Self { to, security: security.map_err(|error| error.to_string())? })
    }

    pub(crate) async fn connect(&self) -> Result<Connection, String> {
        match &self.security {
            Security::None => self.tcp().await.map(Connection::Plain),
            Security::Resumed(connector) => {
                let uri: Uri = format!("https://{}", self.to).parse().map_err(|_| "not a URI".to_owned())?;
                let stream = connector.clone().call(uri).await;
                let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
                Ok(Connection::Resumed(Box::new(TokioIo::new(stream))))
            }
            Security::Full(connector) => {
                let stream = self.tcp().await?;
                let ssl = connector.configure().and_then(|configuration| configuration.into_ssl("localhost"));
                let stream = ssl.and_then(|ssl| SslStream::new(ssl, stream));
                let mut stream = Box::new(stream.map_err(|error| error.to_string())?);
                let connected = Pin::new(&mut *stream).connect().await;
                connected.map_err(|error| format!("no TLS: {error}"))?;
                Ok(Connection::Full(stream))
            }
        }
    }

    async fn tcp(&self) -> Result<TcpStream, String> {
        let stream = TcpStream::connect(self.to).await.map_err(|error| format!("cannot connect: {error}"))?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

fn builder() -> Result<SslConnectorBuilder, ErrorStack> {
    let mut tls = SslConnector::builder(SslMethod::tls_client())?;
    tls.set_verify(SslVerifyMode::NONE);
    Ok(tls)
}

fn resuming() -> Result<HttpsConnector<HttpConnector>, ErrorStack> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    HttpsConnector::with_connector(tcp, builder()?)
}

impl Connection {
    /// True if the TLS session is one of an earlier connection.
    pub(crate) fn is_resumed(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Full(stream) => stream.ssl().session_reused(),
            Self::Resumed(stream) => match stream.inner() {
                MaybeHttpsStream::Https(stream) => stream.ssl().session_reused(),
                MaybeHttpsStream::Http(_) => false,
            },
        }
    }

    /// Closes the connection, whatever the peer does.
    pub(crate) async fn close(mut self) {
        let _ = self.shutdown().await;
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Resumed(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Full(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Resumed(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Full(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Resumed(stream) => Pin::new(stream).poll_flush(context),
            Self::Full(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Resumed(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Full(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
