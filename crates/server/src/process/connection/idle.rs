//! HTTP/1.1 without buffers while a connection waits for its client.
//!
//! hyper keeps two buffers of 8 KiB for as long as a connection is open. Most connections of the platform are
//! idle most of the time, so an idle one gives its hyper connection back and keeps its stream only. The first
//! byte of the next request makes a new one.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::process::connection::{
    activity::Activity,
    drive::{ConnectionEnd, ObservedStream, drive},
    shutdown::Shutdown,
};

/// Serves a connection until its end.
pub(crate) async fn drive_http1<S, H, B>(
    builder: &http1::Builder,
    mut stream: ObservedStream<S>,
    activity: &Activity,
    service: H,
) -> ConnectionEnd
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        if let Some(end) = poll_fn(|context| poll_first_byte(&mut stream, activity, context)).await {
            return end;
        }
        // Boxed: the task of an idle connection keeps no room for it.
        let mut connection = Box::new(builder.serve_connection(TokioIo::new(stream), &service));
        match drive(Pin::new(&mut *connection), activity).await {
            ConnectionEnd::Idle => {
                let parts = connection.into_parts();
                stream = parts.io.into_inner();
                stream.unread(&parts.read_buf);
            }
            end @ (ConnectionEnd::Closed
            | ConnectionEnd::CutOff
            | ConnectionEnd::Evicted
            | ConnectionEnd::Failed(_)) => return end,
        }
    }
}

/// Waits for the first byte of a request, which stays to be read. Returns the end of the connection if that
/// comes first.
fn poll_first_byte<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut ObservedStream<S>,
    activity: &Activity,
    context: &mut Context<'_>,
) -> Poll<Option<ConnectionEnd>> {
    activity.register(context.waker());
    if activity.is_cut_off() {
        return Poll::Ready(Some(ConnectionEnd::CutOff));
    }
    if let Poll::Ready(arrived) = poll_byte(stream, context) {
        return Poll::Ready(if arrived.is_ok_and(|arrived| arrived) {
            None
        } else {
            Some(ConnectionEnd::Closed)
        });
    }
    if activity.is_evicted() {
        return Poll::Ready(Some(ConnectionEnd::Evicted));
    }
    if activity.shutdown() == Shutdown::Graceful && !activity.awaits_request() {
        // TLS has to say that the stream ends here.
        let _ = ready!(Pin::new(stream).poll_shutdown(context));
        return Poll::Ready(Some(ConnectionEnd::Closed));
    }
    Poll::Pending
}

/// Reads one byte and puts it back, unless bytes were put back before. Returns false at the end of the
/// stream.
fn poll_byte<S: AsyncRead + Unpin>(
    stream: &mut ObservedStream<S>,
    context: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    if stream.has_unread() {
        return Poll::Ready(Ok(true));
    }
    let mut space = [0];
    let mut buffer = ReadBuf::new(&mut space);
    ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
    let byte = buffer.filled().first().copied();
    if let Some(byte) = byte {
        stream.unread(&[byte]);
    }
    Poll::Ready(Ok(byte.is_some()))
}
