//! A stream with time limits for the heads of requests and for idling.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A stream that fails with `TimedOut` when its client takes too long.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    stream: S,
    head: Duration,
    idle: Duration,
    /// Set by the service when a whole head has arrived.
    head_received: Arc<AtomicBool>,
    /// True until the first byte of the next head.
    is_idle: bool,
    timer: Pin<Box<Sleep>>,
}

impl<S> TimedStream<S> {
    /// Wraps `stream`. `head` limits the time from the first byte of a head to its end; for the first head,
    /// the time from now. `idle` limits the time from one head to the next, including the response.
    pub(super) fn new(stream: S, head: Duration, idle: Duration, head_received: Arc<AtomicBool>) -> Self {
        Self { stream, head, idle, head_received, is_idle: false, timer: Box::pin(sleep(head)) }
    }

    fn received(&mut self) {
        if std::mem::take(&mut self.is_idle) {
            self.timer.as_mut().reset(Instant::now() + self.head);
        }
    }

    /// Waits for a stream that is not ready; an error once that has lasted too long.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.head_received.swap(false, Relaxed) {
            self.is_idle = true;
            self.timer.as_mut().reset(Instant::now() + self.idle);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                self.received();
                Poll::Ready(result)
            }
            Poll::Pending => self.wait(context),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.wait(context),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.wait(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.wait(context),
        }
    }
}
