//! The TCP stream of a public connection, which is watched for a reset while its request waits.
//!
//! A client may close its sending side after its request (RFC 9112 section 9.6) and wait for the response, so
//! the end of its bytes is no hang-up. A reset is one. hyper does not read while a request of HTTP/1.1 waits
//! for its response, so it would notice a reset only when it writes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use rustix::net::Shutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::process::connection::proxy_header::{PROXY_START_BYTES, looks_like_proxy_header};

/// The stream of a public connection.
#[derive(Debug)]
pub(crate) struct PublicStream {
    socket: Arc<Socket>,
    /// The first bytes, until they show whether the stream begins with a header of the PROXY protocol.
    start: StreamStart,
}

/// Watches a [`PublicStream`] that hyper or OpenSSL owns.
#[derive(Debug)]
pub(crate) struct StreamWatch {
    socket: Arc<Socket>,
}

#[derive(Debug)]
struct Socket {
    tcp: TcpStream,
    has_proxy_header: AtomicBool,
}

impl PublicStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let socket = Socket { tcp: stream, has_proxy_header: AtomicBool::new(false) };
        Self { socket: Arc::new(socket), start: StreamStart::default() }
    }

    pub(crate) fn watch(&self) -> StreamWatch {
        StreamWatch { socket: Arc::clone(&self.socket) }
    }
}

/// The first bytes of a stream. The first read may be of one byte only.
#[derive(Debug, Default)]
struct StreamStart {
    bytes: [u8; PROXY_START_BYTES],
    length: usize,
}

impl StreamStart {
    /// Adds bytes that were read. Returns true if these are the ones that complete the start.
    fn completes(&mut self, read: &[u8]) -> bool {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        if room.is_empty() {
            return false;
        }
        let added = room.iter_mut().zip(read).map(|(place, byte)| *place = *byte).count();
        self.length += added;
        self.length == PROXY_START_BYTES
    }
}

impl StreamWatch {
    /// Waits until the client resets the connection or can no longer be reached, even after a FIN.
    pub(crate) async fn reset(&self) {
        // An error of the runtime ends the connection, too.
        let _ = self.socket.tcp.ready(Interest::ERROR).await;
    }

    /// Returns true if the stream began with a header of the PROXY protocol, which is neither TLS nor HTTP.
    pub(crate) fn has_proxy_header(&self) -> bool {
        self.socket.has_proxy_header.load(Relaxed)
    }
}

impl AsyncRead for PublicStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, start } = &mut *self;
        loop {
            ready!(socket.tcp.poll_read_ready(context))?;
            let (room, filled) = (buffer.remaining(), buffer.filled().len());
            match socket.tcp.try_read_buf(buffer) {
                Ok(bytes) => {
                    // A short read has emptied the socket: spare the next read a system call.
                    if (1..room).contains(&bytes) {
                        let _ = socket.tcp.try_io(Interest::READABLE, would_block::<()>);
                    }
                    if start.completes(buffer.filled().get(filled..).unwrap_or_default())
                        && looks_like_proxy_header(&start.bytes)
                    {
                        socket.has_proxy_header.store(true, Relaxed);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for PublicStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_by(context, |tcp| tcp.try_write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&self.socket.tcp, Shutdown::Write).map_err(io::Error::from))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_by(context, |tcp| tcp.try_write_vectored(buffers))
    }
}

impl PublicStream {
    fn poll_write_by(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.tcp.poll_write_ready(context))?;
            match write(&self.socket.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

fn would_block<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::{Duration, timeout},
    };

    use super::*;

    async fn pair() -> (TcpStream, PublicStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, PublicStream::new(listener.accept().await.unwrap().0))
    }

    /// A megabyte in both directions at once, in writes that the sockets cannot take whole.
    #[tokio::test]
    async fn all_bytes_arrive_in_order() {
        let (client, stream) = pair().await;
        let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let exchange = |stream: (Box<dyn AsyncRead + Unpin>, Box<dyn AsyncWrite + Unpin>)| {
            let (mut reader, mut writer) = stream;
            let (sent, expected) = (sent.clone(), expected.clone());
            async move {
                let write = async {
                    writer.write_all(&sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                let mut received = Vec::new();
                let (read, ()) = tokio::join!(reader.read_to_end(&mut received), write);
                read.unwrap();
                assert!(received == expected);
            }
        };
        let (client_reader, client_writer) = client.into_split();
        let (reader, writer) = tokio::io::split(stream);
        tokio::join!(
            exchange((Box::new(client_reader), Box::new(client_writer))),
            exchange((Box::new(reader), Box::new(writer)))
        );
    }

    #[tokio::test]
    async fn a_fin_is_no_reset() {
        let (mut client, mut stream) = pair().await;
        let watch = stream.watch();
        client.write_all(b"request").await.unwrap();
        client.shutdown().await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"request");
        let reset = watch.reset();
        tokio::pin!(reset);
        assert!(timeout(Duration::from_millis(50), &mut reset).await.is_err());
        stream.write_all(b"response").await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        timeout(Duration::from_secs(20), reset).await.expect("the reset after the FIN is noticed");
    }

    #[tokio::test]
    async fn a_reset_is_noticed_without_reading() {
        let (mut client, stream) = pair().await;
        let watch = stream.watch();
        client.write_all(b"request").await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        timeout(Duration::from_secs(20), watch.reset()).await.expect("the reset is noticed");
    }
}
