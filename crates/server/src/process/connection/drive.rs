//! The task of a hyper connection. Its stream reports to an [`Activity`], whose shutdown the task applies.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::process::connection::{activity::Activity, linger::Linger, shutdown::Shutdown};

/// The end of a connection.
#[derive(Debug)]
pub(crate) enum ConnectionEnd {
    /// The client closed it, or it was closed gracefully.
    Closed,
    /// A time limit or the drain's deadline closed it.
    CutOff,
    /// It made room for another connection.
    Evicted,
    /// It is idle, and may give its buffers back. It goes on.
    Idle,
    /// hyper failed.
    Failed(hyper::Error),
}

/// Runs a hyper connection until it ends or `activity` requires its shutdown.
pub(crate) async fn drive<C>(mut connection: Pin<&mut C>, activity: &Activity) -> ConnectionEnd
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut is_closing = false;
    poll_fn(|context| {
        activity.register(context.waker());
        loop {
            if activity.is_cut_off() {
                return Poll::Ready(ConnectionEnd::CutOff);
            }
            if let Poll::Ready(result) = connection.as_mut().poll(context) {
                return Poll::Ready(match result {
                    // The activity has made the stream fail.
                    Err(_) if activity.is_cut_off() => ConnectionEnd::CutOff,
                    Err(error) => ConnectionEnd::Failed(error),
                    Ok(()) => ConnectionEnd::Closed,
                });
            }
            // After the poll: a request that has arrived on an idle connection is served.
            if activity.is_evicted() {
                return Poll::Ready(ConnectionEnd::Evicted);
            }
            if activity.releases_buffers() {
                return Poll::Ready(ConnectionEnd::Idle);
            }
            let is_due = activity.shutdown() == Shutdown::Graceful && !activity.awaits_request();
            if is_closing || !is_due {
                return Poll::Pending;
            }
            is_closing = true;
            connection.as_mut().graceful_shutdown();
        }
    })
    .await
}

/// A stream that reports the bytes it reads to an [`Activity`], and lingers when it is shut down.
#[derive(Debug)]
pub(crate) struct ObservedStream<S> {
    stream: S,
    activity: Arc<Activity>,
    linger: Linger,
    /// Bytes that were read and are to be read again.
    unread: Bytes,
}

impl<S> ObservedStream<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, linger: Linger::Writing, unread: Bytes::new() }
    }

    /// Returns true if bytes were put back and are not read yet.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Puts bytes back, to be read before all others. All that were put back before must have been read.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        // A copy: a slice of hyper's buffer would keep the whole buffer.
        self.unread = Bytes::copy_from_slice(bytes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ObservedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let length = self.unread.len().min(buffer.remaining());
            let bytes = self.unread.split_to(length);
            buffer.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 && !self.activity.received(bytes) {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        poll
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ObservedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.activity.wrote();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(poll, Poll::Ready(Ok(()))) {
            self.activity.flushed();
        }
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, activity, linger, .. } = &mut *self;
        linger.poll_shutdown(stream, activity, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.wrote();
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}
