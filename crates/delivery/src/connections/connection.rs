//! One connection to an upstream, and the requests on it (RFC 9112).
//!
//! It is used in place of hyper's client, which is made for streams in both directions: that needs a task for
//! each connection, a channel to it, and maps of the fields of each message. Here the request is known as
//! bytes, and the task that waits for the response reads it.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker, ready},
    thread::{self, ThreadId},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    task::coop::unconstrained,
    time::timeout,
};

use super::{
    connector::ByteStream,
    response_head::{HEAD_BYTES_MAX, ResponseHead},
};
use crate::{cause::Cause, headers::UpstreamRequest};

/// A connection to an upstream. It sends one request at a time, from any thread. Dropping it closes it.
pub(crate) struct UpstreamConnection {
    stream: ByteStream,
    /// The rest of the request.
    unsent: Unsent,
    /// The bytes that have arrived and are not read yet.
    received: BytesMut,
    /// The thread that made the connection. Its runtime tells when there is something to read.
    thread: ThreadId,
}

/// The part of a request that is not written yet.
#[derive(Default)]
struct Unsent {
    head: Bytes,
    body: Bytes,
    /// True while the stream may hold back written bytes.
    is_buffered: bool,
}

/// A request failed before the head of a response arrived.
pub(crate) enum SendError {
    /// Not a byte of it was written.
    Unsent,
    /// The upstream may have received it.
    Sent(Cause),
}

impl UpstreamConnection {
    /// A connection that this thread has just made.
    pub(super) fn new(stream: ByteStream) -> Self {
        Self { stream, unsent: Unsent::default(), received: BytesMut::new(), thread: thread::current().id() }
    }

    /// Sends a request, and waits for the head of the response. Interim responses are skipped.
    ///
    /// `written` is set when the first byte is written.
    pub(super) async fn send(
        &mut self,
        request: UpstreamRequest,
        written: &AtomicBool,
    ) -> Result<ResponseHead, SendError> {
        self.unsent = Unsent::new(request, self.stream.is_write_vectored());
        poll_fn(|context| self.poll_head(context, written)).await
    }

    /// Writes the request, and reads the head of the response, which may arrive before all is written.
    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        written: &AtomicBool,
    ) -> Poll<Result<ResponseHead, SendError>> {
        loop {
            if let Poll::Ready(Err(_)) = self.poll_send(context, written)
                && !written.load(Ordering::Relaxed)
            {
                return Poll::Ready(Err(SendError::Unsent));
            }
            let arrived = ready!(self.poll_receive(context));
            if !written.load(Ordering::Relaxed) {
                // What arrived is no response to this request. The upstream may not have read the last one.
                return Poll::Ready(Err(SendError::Unsent));
            }
            // A server that refuses a request may respond before it closes the connection. So the response
            // decides, also after a write has failed.
            let arrived = match arrived {
                Ok(0) | Err(_) => return Poll::Ready(Err(SendError::Sent(Cause::Closed))),
                Ok(arrived) => arrived,
            };
            if let Some(head) = self.take_head(arrived).transpose() {
                return Poll::Ready(head.map_err(SendError::Sent));
            }
        }
    }

    /// Takes the head of the final response from the received bytes, once it is complete. The last `arrived`
    /// bytes are new.
    fn take_head(&mut self, arrived: usize) -> Result<Option<ResponseHead>, Cause> {
        // Each line is parsed again with those after it, but not with each byte.
        let news = self.received.len().saturating_sub(arrived);
        if !self.received.get(news..).is_some_and(|news| news.contains(&b'\n')) {
            return if self.received.len() < HEAD_BYTES_MAX { Ok(None) } else { Err(Cause::BadHead) };
        }
        while let Some((head, bytes)) = ResponseHead::parse(&self.received)? {
            self.received.advance(bytes);
            if !head.is_interim() {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// Returns true if it can take another request, after a response that was read whole: the last one was
    /// written whole, and no further bytes have arrived, which would be taken for the next response.
    pub(super) fn is_idle(&self) -> bool {
        self.unsent.is_empty() && self.received.is_empty()
    }

    /// Writes the rest of a request to which the upstream has already responded: it may still read it.
    pub(super) fn finish(mut self) {
        if self.unsent.is_empty() {
            return;
        }
        tokio::spawn(timeout(FINISH_TIME, async move {
            let _ = poll_fn(|context| self.poll_send(context, &AtomicBool::new(true))).await;
        }));
    }

    /// Writes what is left of the request, as far as the upstream takes it.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        written: &AtomicBool,
    ) -> Poll<io::Result<()>> {
        while self.unsent.has_bytes() {
            let Unsent { head, body, .. } = &self.unsent;
            let mut stream = Pin::new(&mut self.stream);
            let sent = if head.is_empty() {
                ready!(stream.as_mut().poll_write(context, body))?
            } else {
                let parts = [io::IoSlice::new(head), io::IoSlice::new(body)];
                ready!(stream.as_mut().poll_write_vectored(context, &parts))?
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            written.store(true, Ordering::Relaxed);
            self.unsent.advance(sent);
        }
        if self.unsent.is_buffered {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            // An empty `Bytes` still holds its memory, and an idle connection would keep token and body.
            self.unsent = Unsent::default();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what has arrived. Zero bytes are the end of the stream.
    pub(super) fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.received.reserve(READ_BYTES);
        pin!(self.stream.read_buf(&mut self.received)).poll(context)
    }

    /// The bytes that have arrived and are not read yet.
    pub(super) fn received(&mut self) -> &mut BytesMut {
        &mut self.received
    }

    /// Returns true if `thread` made it.
    pub(super) fn is_of(&self, thread: ThreadId) -> bool {
        self.thread == thread
    }

    /// Returns true if an idle connection can take a request: the upstream has not closed it or sent
    /// something without a request, and the runtime that made it still runs.
    pub(super) fn is_open(&mut self) -> bool {
        let (stream, mut byte) = (&mut self.stream, [0]);
        // After many reads in a turn of a task, tokio says `Pending` of any stream, also of a closed one.
        let read = unconstrained(poll_fn(|context| {
            Pin::new(&mut *stream).poll_read(context, &mut ReadBuf::new(&mut byte))
        }));
        pin!(read).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        // Says goodbye, as far as that needs no wait: without it OpenSSL forgets a TLS 1.2 session.
        if let ByteStream::Tls(stream) = &mut self.stream {
            let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl Unsent {
    /// A stream without vectored writes, such as TLS, gets head and body as one piece.
    fn new(request: UpstreamRequest, is_vectored: bool) -> Self {
        let UpstreamRequest { head, body, .. } = request;
        if is_vectored || body.is_empty() {
            return Self { head, body, is_buffered: true };
        }
        let mut both = BytesMut::with_capacity(head.len().saturating_add(body.len()));
        both.extend_from_slice(&head);
        both.extend_from_slice(&body);
        Self { head: both.freeze(), body: Bytes::new(), is_buffered: true }
    }

    fn has_bytes(&self) -> bool {
        !self.head.is_empty() || !self.body.is_empty()
    }

    fn is_empty(&self) -> bool {
        !self.has_bytes() && !self.is_buffered
    }

    fn advance(&mut self, bytes: usize) {
        let of_head = bytes.min(self.head.len());
        self.head.advance(of_head);
        self.body.advance(bytes.saturating_sub(of_head).min(self.body.len()));
    }
}

/// Room for what arrives in one read: most responses are smaller.
const READ_BYTES: usize = 2048;
/// The time in which an upstream that has responded must have read the rest of its request.
const FINISH_TIME: Duration = Duration::from_secs(5);
