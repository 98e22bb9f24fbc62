//! The platform's end of a connection: it writes the given bytes unchanged and reads whole responses.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::Instant,
};

use super::{
    http::{Kind, Message},
    soon,
};

pub(crate) type Response = Message;

#[derive(Debug)]
pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
    opened: Instant,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("connect", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Resets the connection, which is how a client hangs up. Closing it only sends a FIN, after which a
    /// client may still read.
    pub(crate) fn reset(self) {
        self.into_inner().set_zero_linger().unwrap();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream), opened: Instant::now() }
    }

    /// Ignores errors: a server that refuses a request may close the connection before it has read all of it.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        let _ = soon("send", sent).await;
    }

    /// Closes the sending side: a FIN, after `close_notify` with TLS.
    pub(crate) async fn half_close(&mut self) {
        soon("half-close", self.stream.shutdown()).await.unwrap();
    }

    #[track_caller]
    pub(crate) fn response(&mut self) -> impl Future<Output = Response> {
        let caller = std::panic::Location::caller();
        async move {
            let response = self.response_or_end().await;
            response.unwrap_or_else(|| panic!("closed without response ({caller})"))
        }
    }

    /// Returns the next response, or `None` if the connection was closed without one. Skips `100 Continue`.
    pub(crate) async fn response_or_end(&mut self) -> Option<Response> {
        loop {
            let response =
                soon("a response", Message::read(&mut self.stream, Kind::Response)).await.ok().flatten()?;
            if response.status() != 100 {
                return Some(response);
            }
        }
    }

    /// Returns the next response, which may be `100 Continue`.
    pub(crate) async fn any_response(&mut self) -> Response {
        soon("a response", Message::read(&mut self.stream, Kind::Response)).await.unwrap().unwrap()
    }

    pub(crate) async fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        self.send(bytes).await;
        self.response().await
    }

    /// Reads until the gateway closes the connection. Returns the time since the connection was opened, and
    /// the bytes that were received meanwhile.
    pub(crate) async fn closed(&mut self) -> (Duration, Vec<u8>) {
        let mut rest = Vec::new();
        // A reset ends the connection, too.
        let _ = soon("the end of the connection", self.stream.read_to_end(&mut rest)).await;
        (self.opened.elapsed(), rest)
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream.into_inner()
    }
}
