//! The body of a request, which outlives its handler: what the handler has not read decides how the
//! connection goes on.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Version, header::EXPECT, request::Parts};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The body of a request, and whether it was read to its end.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    is_complete: bool,
    /// The client waits for `100 Continue` before it sends the body, and has not received it.
    is_withheld: bool,
    is_http2: bool,
}

impl RequestBody {
    /// The body of the request with this head.
    pub(crate) fn new(incoming: Incoming, head: &Parts) -> Self {
        Self {
            is_complete: incoming.is_end_stream(),
            incoming,
            is_withheld: head.headers.contains_key(EXPECT),
            is_http2: head.version == Version::HTTP_2,
        }
    }

    /// Reads and discards what the handler has left, if it has already arrived. Returns true if the
    /// connection can serve another request: the body is complete, or HTTP/2 resets its stream.
    ///
    /// A small body comes with its head. Closing the connection for it would make a sender connect again for
    /// each 503.
    pub(crate) async fn discard_arrived(&mut self) -> bool {
        let mut bytes = 0;
        let mut waits = 0;
        poll_fn(|context| {
            loop {
                if self.is_complete || self.is_http2 {
                    return Poll::Ready(true);
                }
                // Reading would ask the client for the body.
                if self.is_withheld || bytes > DISCARDED_BYTES_MAX {
                    return Poll::Ready(false);
                }
                match Pin::new(&mut *self).poll_frame(context) {
                    Poll::Ready(Some(Ok(frame))) => bytes += frame.data_ref().map_or(0, Bytes::len),
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Ready(None) => {}
                    Poll::Pending if waits == WAITS_MAX => return Poll::Ready(false),
                    Poll::Pending => {
                        waits += 1;
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_withheld = false;
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        self.is_complete = frame.is_none() || self.incoming.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_complete
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// As much as hyper reads at once.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;
/// hyper reads a part of the body after it was asked, and before it polls the handler again.
const WAITS_MAX: usize = 2;
