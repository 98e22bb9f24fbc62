//! The protocols of the public listener: TLS, HTTP/1.1 and HTTP/2, with their limits.

use std::{pin::Pin, time::Duration};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use openssl::ssl::{Ssl, SslAcceptor};
use tokio_openssl::SslStream;

use crate::process::connection::stream::PublicStream;

/// Performs the TLS handshake of a connection.
pub(crate) async fn accept_tls(
    acceptor: &SslAcceptor,
    stream: PublicStream,
) -> Result<SslStream<PublicStream>, openssl::ssl::Error> {
    let mut stream = SslStream::new(Ssl::new(acceptor.context())?, stream)?;
    Pin::new(&mut stream).accept().await?;
    Ok(stream)
}

/// The HTTP/1.1 side of hyper.
pub(crate) fn http1_builder(head_bytes_max: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .half_close(true) // a FIN after the request is no hang-up; `StreamWatch` notices one
        .header_read_timeout(None) // `Activity` limits the time of a head, and all other times
        // Without `max_headers`: hyper's default of 100 fields is parsed on the stack, and `Received` refuses
        // more than 64 with an event.
        .max_header_size(head_bytes_max)
        .max_buf_size(head_bytes_max.max(HTTP1_BUFFER_BYTES));
    builder
}

/// The HTTP/2 side of hyper.
pub(crate) fn http2_builder(head_bytes_max: usize) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        // An unauthenticated sender may fill this much of the gateway's memory, over all streams. hyper's
        // default is 1 MiB.
        .initial_connection_window_size(256 * 1024)
        .initial_stream_window_size(64 * 1024)
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX))
        // CVE-2023-44487, rapid reset
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        // A client that does not read makes the gateway hold this much per stream.
        .max_send_buf_size(64 * 1024);
    builder
}

/// Two frames of a body that arrives in many. The head has its own limit.
const HTTP1_BUFFER_BYTES: usize = 32 * 1024;
