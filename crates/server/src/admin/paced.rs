//! A stream that gives its peer so long to send a head, and so long to sit idle.

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

/// Fails with `TimedOut` when its peer takes too long.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    head: Duration,
    idle: Duration,
    /// Set by the service: a whole head has arrived.
    begun: Arc<AtomicBool>,
    /// No byte of the next head has arrived.
    is_idle: bool,
    timer: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    /// `head`: from the first byte of a head (of the first one: from now) to its end. `idle`: from one head to the next, the
    /// answer included.
    pub(super) fn new(stream: S, head: Duration, idle: Duration, begun: Arc<AtomicBool>) -> Self {
        Self { stream, head, idle, begun, is_idle: false, timer: Box::pin(sleep(head)) }
    }

    fn heard(&mut self) {
        if std::mem::take(&mut self.is_idle) {
            self.timer.as_mut().reset(Instant::now() + self.head);
        }
    }

    /// The stream has nothing to say: an error if that has lasted too long.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.begun.swap(false, Relaxed) {
            self.is_idle = true;
            self.timer.as_mut().reset(Instant::now() + self.idle);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                self.heard();
                Poll::Ready(result)
            }
            Poll::Pending => self.wait(context),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
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
